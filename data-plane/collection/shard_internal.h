/* data-plane/collection/shard_internal.h: one shard: a log, the points it folds into, and what is
 * derived from them.
 *
 *              append (order)          wait              apply in LSN order (view, write)
 *   writer ───────────────► log ───────────────► durable ───────────────► points, sparse lists
 *                                                                            │ dead slots, tail
 *   reader ── view (read) ──► points, graphs, tail scanned exactly           ▼
 *                                                            maintenance: graphs, checkpoints
 *
 * Locks, in this order:
 *   maintaining  graphs and checkpoints
 *   order    who may append: sequence of the log, quota reservation before it
 *   queue    writes between append and answer
 *   view     readers see whole operations: apply holds it to write, queries to read
 *   upkeep   whether maintenance is scheduled; dead slots that graphs have not heard of
 * Only maintenance changes graphs, one job a shard at a time; it needs no lock for that, as graphs
 * lock themselves and rows are pinned by its reader. */
#ifndef DP_SHARD_INTERNAL_H
#define DP_SHARD_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/id.h"
#include "base/mapped.h"
#include "collection/collection.h"
#include "collection/layout.h"
#include "collection/op_internal.h"
#include "collection/sparse_internal.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "storage/log.h"
#include "storage/points.h"

#define DP_RECORD_OPERATION 1u /* type of a log record */
#define DP_CHECKPOINT_BYTES_DEFAULT (64u << 20)

/* What is derived from one vector of the schema. */
typedef struct {
    dp_rows rows;            /* dense columns, multivectors excepted */
    bool has_rows;           /* rows is set */
    dp_sparse *sparse;       /* sparse columns */
    uint64_t live_count;     /* live points that have it; view */
    dp_hnsw *graph;          /* set under view (write), by maintenance; NULL: none yet */
    atomic_uint indexed_end; /* live slots below are in the graph */
    bool graph_dirty;        /* maintaining: changed since it was saved */
    dp_hnsw *opened;         /* of a file, not yet looked through; as graph */
    bool awaited;            /* and searches wait for that, rather than scan */
    uint32_t opened_end;     /* slots below stand where they stood when it was written */
    bool settled;            /* maintaining: is in memory as far as it shall be */
} dp_derived;

typedef enum { DP_WRITE_WAITING, DP_WRITE_DURABLE, DP_WRITE_DONE, DP_WRITE_FAILED } dp_write_state;

/* A write between append and answer; on the stack of its thread. */
typedef struct dp_write {
    struct dp_write *next;
    const dp_op_record *record;
    dp_log_ticket ticket;
    dp_amount held;
    dp_write_state state;
    uint32_t points; /* changed */
    ort_err err;
    ort_diag diag;
} dp_write;

typedef struct dp_allowed_cache dp_allowed_cache;
typedef struct dp_payload_set dp_payload_set;

typedef struct {
    dp_schema *schema; /* view */
    dp_schema *kept;   /* maintaining: what graphs are made by: `schema`, a round ago at most */
    atomic_bool schema_changed; /* since `kept` was taken */
    ort_tenant_id tenant;
    ort_collection_id collection;
    char name[ORT_COLLECTION_NAME_BYTES_MAX + 1];
    int data_dir, index_dir;                /* index_dir: maintaining; -1: none (yet) */
    int (*make_index_dir)(void *index_arg); /* NULL: there never is one */
    void *index_arg;
    dp_quota *quota; /* the collection's */
    ort_pool *workers;
    uint64_t checkpoint_bytes;
    dp_log *log;
    dp_points *points;
    dp_derived *derived; /* one for each vector of the schema; the array never moves */
    uint32_t derived_count;
    dp_allowed_cache *allowed; /* locks itself, within view */
    dp_payload_set *payload;   /* payload indexes: payload_index_internal.h */

    pthread_mutex_t order;

    pthread_mutex_t queue;
    pthread_cond_t queue_changed;
    dp_write *queue_head, *queue_tail;
    bool applying; /* somebody drains the head of the queue */

    pthread_rwlock_t view;
    uint64_t applied_lsn;
    atomic_uint slot_end;
    atomic_bool broken;  /* an applied record could not be applied: no more writes; queue */
    ort_diag broken_why; /* set once, before broken */

    pthread_mutex_t maintaining;    /* one at a time changes graphs and writes checkpoints */
    uint64_t paced_bytes, paced_ns; /* maintaining: the log as the last checkpoint began */
    pthread_mutex_t upkeep;
    pthread_cond_t upkeep_changed;
    bool scheduled, again; /* a job is queued or runs; it shall look once more */
    uint32_t *dead;        /* slots killed since maintenance looked */
    size_t dead_count, dead_cap;
    bool dead_lost; /* no memory to note one: graphs are checked against the live bits */
    _Atomic(uint64_t) checkpoint_retry_ns; /* one failed: not again before this */
    _Atomic(uint64_t) graph_retry_ns;      /* likewise an insert */
    atomic_uint unread; /* large graphs that were found and not yet looked through */
    atomic_bool stop;   /* closing */
    uint32_t build_threads;
    _Atomic(uint64_t) bad_pages; /* of the process, when maintenance last looked at the graphs */
    dp_hnsw_progress building;   /* of graphs: cancelled when closing; `busy` is the node's word */
} dp_shard;

/* --- shard.c */
ort_err dp_shard__open(dp_shard **out, int data_dir, int index_dir,
                       const dp_collection_config *config, dp_quota *quota,
                       const dp_collection_env *env, ort_diag *diag);
void dp_shard__close(dp_shard *s, bool keep); /* keep false: its files are about to be removed */

/* A shard that nobody has open, as its files say: its points mapped, its log (which is short, or it
 * would have been folded) read into memory. Nothing is written, built or charged, and its log is
 * not there: only what reads points may be asked of it.
 *
 * mark_out  up to where the log was read */
ort_err dp_shard__open_still(dp_shard **out, int data_dir, const dp_collection_config *config,
                             dp_log_mark *mark_out, ort_diag *diag);

/* The shard of a collection (collection.c); lives as long as it. */
dp_shard *dp_collection__shard(dp_collection *c);

/* --- shard_write.c: a write from its check to its answer. */
ort_err dp_shard__write(dp_shard *s, const dp_op *op, uint64_t until_mono_ns, dp_op_result *out,
                        ort_diag *diag);
uint64_t dp_shard__queue_length(dp_shard *s);
void dp_shard__wait_until_applied(dp_shard *s); /* all that was appended; order is held */

/* Whether writes are taken; the words why not. */
ort_err dp_shard__check_writable(dp_shard *s, ort_diag *diag);

/* Takes no more writes: what is in memory is not what the log says. */
void dp_shard__break(dp_shard *s, uint64_t lsn, const ort_diag *why);

/* shard_renumber.c: numbers slots anew and makes again what knew them; maintaining is held. */
void dp_shard__renumber(dp_shard *s);

/* --- shard_apply.c: what an operation does. The caller holds view for writing (or is alone).
 * ORT_ENOTFOUND: points it needs are not there; the others were changed. Anything else but ORT_OK
 * breaks the shard. */
ort_err dp_shard__apply(dp_shard *s, const dp_op_record *record, uint64_t lsn, uint32_t *points_out,
                        ort_diag *diag);

/* Counts and lists every live point: once, after open. */
ort_err dp_shard__list_all(dp_shard *s, ort_diag *diag);

/* Moves live points out of chunks that are mostly dead, a few at a time, until *moved is 0. The
 * caller holds view for writing; nobody may hold order meanwhile waiting for it. */
ort_err dp_shard__relocate(dp_shard *s, uint32_t max, uint32_t *moved, ort_diag *diag);

/* What the operation would add at most, from the record alone; and what it would really add, from
 * the points of now (upserts: exact; others: still a bound). */
void dp_shard__worst(const dp_shard *s, const dp_op_record *record, dp_amount *out, bool *bounded);
ort_err dp_shard__plan(dp_shard *s, const dp_op_record *record, dp_amount *out, ort_diag *diag);

/* --- shard_upkeep.c: graphs and checkpoints. */
void dp_shard__note_dead(dp_shard *s, uint32_t slot);
void dp_shard__schedule(dp_shard *s); /* if there is anything to do */
bool dp_shard__is_idle(dp_shard *s);
ort_err dp_shard__checkpoint(dp_shard *s, ort_diag *diag);
void dp_shard__upkeep_stop(dp_shard *s); /* waits for the job that runs */
uint64_t dp_shard__due(dp_shard *s);     /* rows that wait for a graph */

/* --- shard_graph.c */

/* Finds the graphs that fit the segments, without reading them: before the replay, so that it notes
 * what died since. */
void dp_shard__open_graphs(dp_shard *s);

/* Looks through what was opened: from then on it is searched. A file that cannot be used is
 * forgotten, its graph made anew. progress->cancel (may be NULL) leaves the rest out. */
void dp_shard__adopt_graphs(dp_shard *s, dp_hnsw_progress *progress);

/* Before a search that would use a graph, with nothing held: looks through what was found where
 * that is done sooner than all rows are scanned, or waits for who is at it. */
void dp_shard__await_graphs(dp_shard *s);
void dp_shard__note_read(dp_shard *s, dp_derived *d); /* its opened graph is not there any more */
void dp_shard__settle_graph(dp_shard *s, uint32_t column); /* into memory, if that is its place */
void dp_shard__tend_graph(dp_shard *s, uint32_t column); /* makes, builds a slice, codes, repairs */
void dp_shard__ask_codes(dp_shard *s, uint32_t column);  /* the schema's; maintaining is held */
bool dp_shard__wants_codes(dp_shard *s); /* a graph's codes are to be trained or chosen anew */
void dp_shard__save_graphs(dp_shard *s);

/* --- shard_upkeep.c */

/* Takes over a schema that was set since: codes, packing, payload indexes. maintaining is held. */
void dp_shard__follow_schema(dp_shard *s);

/* Whether pages of any mapped file became unreadable since: perhaps of a graph of this shard. */
static inline bool
dp_shard__pages_went_bad(dp_shard *s)
{
    return ort_watch_bad_pages() != atomic_load_explicit(&s->bad_pages, memory_order_relaxed);
}

#define DP_BUILD_THROTTLE 75u /* of a hundred: what a build leaves to requests that wait */
#define DP_RETRY_NS (UINT64_C(10) * 1000000000u) /* after a failure */

/* Whether a vector shall have a graph, by its size now. */
bool dp_shard__wants_graph(const dp_shard *s, uint32_t column);

/* Whether it may have one, whatever its size. maintaining or view is held. */
bool dp_shard__is_graphed(const dp_schema *schema, uint32_t column);
#endif /* DP_SHARD_INTERNAL_H */
