/* data-plane/collection/collection.h: a tenant's named set of points: its operations in order, its
 * searches. */
#ifndef DP_COLLECTION_H
#define DP_COLLECTION_H
#include <stdatomic.h>

#include "base/id.h"
#include "base/thread.h"
#include "collection/op.h"
#include "collection/query.h"
#include "collection/quota.h"
#include "collection/schema.h"
#include "filter/payload_index.h"

/* Opaque. From dp_collection_open() to dp_collection_close().
 * Threads: any number in every call but close. Lock order: order of writes, then shard, then
 * quota. */
typedef struct dp_collection dp_collection;

/* What a collection borrows from the node; all of it outlives the collection. */
typedef struct {
    ort_pool *workers; /* graphs and checkpoints in the background; NULL: nothing is built */
    uint64_t checkpoint_bytes; /* of log after which a checkpoint is started; 0 = the default */
    uint32_t build_threads;    /* for large graphs, all together; 0 = 1 */

    /* Whether requests wait for a processor: builds then work a quarter of the time. Any thread;
     * may be NULL. */
    bool (*busy)(void *arg);
    void *arg;
} dp_collection_env;

typedef struct {
    ort_tenant_id tenant;
    ort_collection_id id;
    const char *name;    /* for messages; copied */
    dp_schema *schema;   /* a reference is taken */
    dp_quota *quota;     /* borrowed; the tenant's. The collection makes its own beneath it */
    uint64_t points_max; /* of this collection; 0 = no limit */

    /* Called before the first write since open reaches the log: whoever keeps the collection's size
     * notes that it is going to change. A failure refuses the write; the next one asks again. No
     * lock of the collection is held that another call could wait for. May be NULL. */
    ort_err (*before_writes)(void *arg, ort_diag *diag);

    /* While it is true every write asks before_writes() again. NULL: never. */
    const atomic_bool *ask_again;

    /* With index_dir -1: a descriptor of the directory for graphs, made when the first one is
     * saved, the collection's to close; -1: there is none now. Most collections never have a graph,
     * and a directory each is an inode each. May be NULL. */
    int (*make_index_dir)(void *arg);
    void *arg; /* of both; outlives the collection */
} dp_collection_config;

/* Opens or creates the collection whose files stand beneath these directories; both descriptors are
 * duplicated. Replays the log behind the last checkpoint.
 *
 * data_dir   what cannot be rebuilt (log, segments)
 * index_dir  what can (graphs); may be -1: then graphs are kept in memory only, until
 *            config->make_index_dir gives one
 *
 * ORT_ECORRUPT  damage; diag names the shard and the file. Nothing was changed
 * ORT_EVERSION  written by a newer program
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM  as for the others, *out is NULL */
ORT_NODISCARD ort_err dp_collection_open(dp_collection **out, int data_dir, int index_dir,
                                         const dp_collection_config *config,
                                         const dp_collection_env *env, ort_diag *diag);

/* Waits for its background work, saves the graphs, closes; what was answered OK is on disk already.
 * NULL is fine. No other call may be under way. */
void dp_collection_close(dp_collection *c);

/* The same for one whose files are about to be removed: nothing is folded or saved. */
void dp_collection_discard(dp_collection *c);

/* A reference to the schema of now. */
dp_schema *dp_collection_schema(dp_collection *c);

/* Makes `schema` (from dp_schema_patch() of the current one) the schema. */
void dp_collection_set_schema(dp_collection *c, dp_schema *schema);

/* The limit on points of this collection; 0 = none. */
void dp_collection_set_points_max(dp_collection *c, uint64_t points_max);

typedef struct {
    uint64_t operation_id; /* LSN */
    uint32_t points;       /* changed */
} dp_op_result;

/* Makes the operation durable, applies it, answers. Consumes nothing: op stays the caller's and may
 * be applied once only.
 *
 * until_mono_ns  how long to wait for a place in the queue (0 = for ever); a write whose record has
 *                reached the log is never abandoned
 *
 * ORT_OK         durable and visible to every later read
 * ORT_ENOTFOUND  "No point with id N found": the operation needs points that are not there; it was
 *                logged, what was there was changed (as Qdrant does), operation_id is set
 * ORT_EQUOTA     does not fit; nothing was written
 * ORT_ETIMEOUT   did not get its turn; nothing was written
 * ORT_EIO, ORT_ENOSPC  may or may not be there after a restart; the shard takes no more writes
 * until then, reads go on ORT_EBUSY      the shard takes no writes (after such a failure)
 * ORT_ECORRUPT   the operation was made for another schema */
ORT_NODISCARD ort_err dp_collection_apply(dp_collection *c, const dp_op *op, uint64_t until_mono_ns,
                                          dp_op_result *out, ort_diag *diag);

/* Several, in order. results[i] and errs[i] tell of ops[i]; returns the first error, behind which
 * nothing was tried (errs there are ORT_EBUSY). */
ORT_NODISCARD ort_err dp_collection_apply_all(dp_collection *c, dp_op *const *ops, size_t count,
                                              uint64_t until_mono_ns, dp_op_result *results,
                                              ort_err *errs, ort_diag *diag);

/* Answers `count` searches (1 .. ORT_BATCH_QUERIES_MAX); fn gets the points of query 0 in order,
 * then of query 1, ... `want_payload` makes views carry it. Exact dense searches of one batch over
 * one vector are computed together.
 *
 * ORT_EINVAL     "Wrong input": dimension, unknown vector name, kind of vector
 * ORT_EBADREQ    threshold without query
 * ORT_EVALIDATE  a bound: limit 0, hnsw_ef 0
 * ORT_ENOTFOUND  DP_QUERY_ID of a point that is not there: "No point with id N found", or has not
 *                the vector
 * ORT_EIO, ORT_ENOMEM; fn may have been called by then */
ORT_NODISCARD ort_err dp_collection_query(dp_collection *c, const dp_query *queries, size_t count,
                                          bool want_payload, dp_point_fn fn, void *ctx,
                                          ort_diag *diag);

/* The points with these ids, in the order asked; missing ones are left out, repeats answered once.
 */
ORT_NODISCARD ort_err dp_collection_retrieve(dp_collection *c, const ort_point_id *ids,
                                             size_t count, bool want_payload, dp_point_fn fn,
                                             void *ctx, ort_diag *diag);

/* Up to limit points in id order, from *from (NULL: the first) on, that match. *has_next and *next:
 * where the following page starts. limit is cut to ORT_SCROLL_MAX. */
ORT_NODISCARD ort_err dp_collection_scroll(dp_collection *c, const dp_filter *filter,
                                           const ort_point_id *from, uint64_t limit,
                                           bool want_payload, dp_point_fn fn, void *ctx,
                                           bool *has_next, ort_point_id *next, ort_diag *diag);

ORT_NODISCARD ort_err dp_collection_count(dp_collection *c, const dp_filter *filter, uint64_t *out,
                                          ort_diag *diag);

/* Counts, for each value of a declared field, the matching points that have it, out of the field's
 * index: values in order, each once. fn runs while the collection is locked for reading, as
 * dp_point_fn does.
 *
 * ORT_ENOTFOUND  the index is not there, or not whole yet (it is asked for): look at the payloads
 */
typedef ort_err (*dp_facet_fn)(void *ctx, const dp_payload_value *value, uint64_t count);
ORT_NODISCARD ort_err dp_collection_facet(dp_collection *c, const char *field, size_t len,
                                          const dp_filter *filter, dp_facet_fn fn, void *ctx,
                                          ort_diag *diag);

/* How many points have a value in that field; false where dp_collection_facet() would not know. */
bool dp_collection_field_points(dp_collection *c, const char *field, size_t len, uint64_t *out);

typedef struct {
    bool green;               /* no background work is due */
    bool damaged;             /* who read it met a vector or a payload that rotted */
    const char *error;        /* why it takes no writes, or NULL; lives as long as the collection */
    uint64_t points;          /* live */
    uint64_t vectors;         /* dense, sparse and multi, of live points */
    uint64_t indexed_vectors; /* of those, in a graph or an inverted list */
    uint64_t bytes;           /* logical */
    uint64_t vector_bytes;    /* of those, dense vectors' */
    uint64_t disk_bytes;      /* files */
    uint64_t code_bytes;      /* what searches compare before they look at vectors */
    uint32_t segments;
    uint64_t update_queue; /* writes waiting */
    uint64_t applied_lsn;
} dp_collection_info;

void dp_collection_get_info(dp_collection *c, dp_collection_info *out);

/* Takes tokens of strict mode's rates, which are the collection's own and full when it is opened.
 * ORT_ERATE: *retry_s says when to come again. */
ORT_NODISCARD ort_err dp_collection_spend(dp_collection *c, bool write, uint64_t per_minute,
                                          uint64_t cost, uint64_t *retry_s, ort_diag *diag);

/* Rough resident bytes: rows, graphs, maps. For the tenant's memory budget. */
uint64_t dp_collection_memory(dp_collection *c);

/* Folds the log into segments now, and saves the graphs; what the background does by itself. */
ORT_NODISCARD ort_err dp_collection_checkpoint(dp_collection *c, ort_diag *diag);

/* Waits until every vector that is due for a graph is in one. For tests and imports.
 * ORT_ETIMEOUT: not until then. */
ORT_NODISCARD ort_err dp_collection_wait_indexed(dp_collection *c, uint64_t until_mono_ns);
#endif /* DP_COLLECTION_H */
