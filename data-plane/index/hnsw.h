/* data-plane/index/hnsw.h: approximate nearest-neighbour graph over slots. */
#ifndef DP_HNSW_H
#define DP_HNSW_H
#include "index/coder.h"
#include "index/rows.h"

/* One graph over one view of rows. It keeps links (and codes, see dp_code), never rows.
 *
 * Threads: any number in every function below except new, load and free. Searches take no lock.
 * Inserts lock single nodes; save and repair wait for running inserts and hold new ones back. */
typedef struct dp_hnsw dp_hnsw;

#define DP_HNSW_M_DEFAULT 16u
#define DP_HNSW_M_MAX 128u
#define DP_HNSW_EF_CONSTRUCT_DEFAULT 100u
#define DP_HNSW_EF_MAX 4096u /* larger ones are cut to it, unless k itself is larger */

typedef struct {
    dp_metric metric;
    uint32_t m;            /* links a node on the upper levels, twice that on the lowest; 0 = 16 */
    uint32_t ef_construct; /* candidates kept while inserting; 0 = 100 */
    dp_code code;
    dp_code_options coding; /* of an explicit code */
    uint64_t seed;          /* of the level drawing; the same seed and order give the same graph */
    bool links_on_disk;     /* links of the lowest level stay in the file where there is one, as far
                             * as walks over codes allow; else they are read into memory */
    bool unlinked;          /* no links but those among points of one value (hnsw_values.h): other
                             * searches compare codes one by one. m does not matter then */
} dp_hnsw_config;

/* An empty graph. rows is borrowed until dp_hnsw_free().
 *
 * ORT_EINVAL  a bound: m over DP_HNSW_M_MAX or 1, dim, stride. ORT_ENOMEM */
ORT_NODISCARD ort_err dp_hnsw_new(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config,
                                  ort_diag *diag);

/* No call may be running. NULL is fine. */
void dp_hnsw_free(dp_hnsw *graph);

/* Adds the row of this slot; searches find it from the return on, at the latest.
 *
 * ORT_EEXISTS  the slot is in the graph; nothing changed
 * ORT_ENOMEM   nothing changed
 *
 * A slot that was deleted may be inserted again, with another row: see dp_hnsw_delete().
 * Malkov & Yashunin 2018, algorithm 1 (arXiv:1603.09320). */
ORT_NODISCARD ort_err dp_hnsw_insert(dp_hnsw *graph, uint32_t slot);

/* Takes the slot out of every answer, from the return on. Its node goes on carrying walks until
 * dp_hnsw_repair() has linked its neighbours past it; so the row must stay readable until the
 * repair, or until dp_hnsw_insert() of the same slot, which repairs first, has been CALLED: whoever
 * wants to overwrite the row of a deleted slot calls dp_hnsw_repair() before.
 *
 * ORT_ENOTFOUND  the slot is not in the graph (or already deleted) */
ORT_NODISCARD ort_err dp_hnsw_delete(dp_hnsw *graph, uint32_t slot);

/* Relinks around all slots deleted so far, gives their nodes back, elects a new entry when that was
 * among them, and waits until no running search can see them. Afterwards their rows may change.
 * Reads every link a few times and works on each list that named a deleted slot: call it from a
 * worker when dp_hnsw_wants_repair().
 *
 * ORT_ENOMEM  part of it is done; the graph is right, call again */
ORT_NODISCARD ort_err dp_hnsw_repair(dp_hnsw *graph);

/* True once a tenth of the nodes are deleted. */
bool dp_hnsw_wants_repair(const dp_hnsw *graph);

/* Progress of a build, shared with whoever shows or stops it. */
typedef struct {
    _Atomic(uint32_t) done;     /* slots handled */
    _Atomic(uint32_t) total;    /* slots to handle */
    _Atomic(bool) cancel;       /* set by anyone: the build returns soon with ORT_EBUSY */
    _Atomic(uint32_t) throttle; /* 0 .. 100: share of the time to sleep, while searches wait */

    /* Whether they do now, asked every few inserts by any of the build's threads; NULL: always. */
    bool (*busy)(void *arg);
    void *arg;
} dp_hnsw_progress;

/* Asks for other codes. Nothing changes but that dp_hnsw_wants_tune(); walks go over what there is
 * until dp_hnsw_tune().
 *
 * ORT_EINVAL  options out of their range, or codes of a metric that has none */
ORT_NODISCARD ort_err dp_hnsw_ask_codes(dp_hnsw *graph, dp_code code, dp_code_options options,
                                        ort_diag *diag);

/* True when dp_hnsw_tune() has something to do: 1,000 nodes are there and it was not done yet, the
 * graph has doubled since, rows come that the codes do not fit, or other codes are asked for.
 * Cheap.
 */
bool dp_hnsw_wants_tune(const dp_hnsw *graph);

/* Trains the codes that the configuration asks for, or with DP_CODE_AUTO tries which are best, on
 * the graph's own rows; then walks go over them. Learns how much deeper they must look than walks
 * over rows do. Searches and inserts go on; it takes seconds, and memory for one more set of codes:
 * call it from a worker. Does nothing while another thread does it. Of `progress`, which may be
 * NULL, only `cancel` is looked at.
 *
 * ORT_EBUSY (cancelled), ORT_ENOMEM: walks go on as before */
ORT_NODISCARD ort_err dp_hnsw_tune(dp_hnsw *graph, dp_hnsw_progress *progress, ort_diag *diag);

/* What walks go over now. */
typedef struct {
    dp_code kind;
    dp_code_options options;
    size_t row_bytes; /* of codes a slot */
    bool tuned;       /* the following were measured, at ef 100 and k 10 */
    float widen;      /* walks are longer by this */
    uint32_t depth;   /* candidates measured again by their rows */
} dp_hnsw_codes_report;
void dp_hnsw_codes(dp_hnsw *graph, dp_hnsw_codes_report *out);
size_t dp_hnsw_code_row_bytes(const dp_hnsw *graph); /* the same; takes no lock */

typedef struct dp_hnsw_among dp_hnsw_among; /* hnsw_values.h */

/* Two numbers of one type, so they are named at the call: {.k = 10, .ef = 64}. */
typedef struct {
    uint32_t k;  /* results wanted, 1 .. ORT_TOP_K_MAX */
    uint32_t ef; /* candidates kept while walking; 0 = max(ef_construct, k); less than k means k */
    float oversampling; /* so many times k candidates are measured again by rows; 0: as learnt */
    bool by_rows;       /* walk over the rows, whatever codes there are */
    bool unrescored;    /* leave distances, and the order, as the codes tell them */
    const dp_hnsw_among *among; /* NULL, or where to look: borrowed for the call */
} dp_hnsw_query;

/* Finds the slots whose vectors are nearest to `query`, nearest first, equal distances by slot;
 * approximate. With a filter only slots that pass; when few pass, they are scanned exactly.
 *
 * query   float[dim], borrowed for the call; for COSINE of unit length
 * filter  may be NULL
 * hits    dp_hit[ask.k], the caller's
 *
 * ORT_OK      *n_out entries written: ask.k, or fewer when fewer match
 * ORT_EINVAL  k out of range; outputs untouched, as for ORT_ENOMEM
 * ORT_EBUSY   more than 1,024 searches and inserts run in this process
 * ORT_ENOTFOUND  ask.among names a value whose points are not linked: search without it
 *
 * Malkov & Yashunin 2018, algorithm 5. */
ORT_NODISCARD ort_err dp_hnsw_search(dp_hnsw *graph, const float *query, dp_hnsw_query ask,
                                     const dp_slot_filter *filter, dp_hit *hits, size_t *n_out);

/* Inserts every slot of [slot_begin, slot_end) that is in `live` and not yet in the graph, with
 * this many threads (1 = the calling one; all builds of the process together have no more helpers
 * than one may have, and those give way to other threads). Slots that appear later are the caller's
 * to insert.
 *
 * ORT_EBUSY  cancelled; what was inserted stays. ORT_ENOMEM likewise. */
ORT_NODISCARD ort_err dp_hnsw_build(dp_hnsw *graph, uint32_t slot_begin, uint32_t slot_end,
                                    const dp_slot_set *live, uint32_t threads,
                                    dp_hnsw_progress *progress, ort_diag *diag);

bool dp_hnsw_is_unlinked(const dp_hnsw *graph); /* as configured */
uint32_t dp_hnsw_count(const dp_hnsw *graph);   /* slots that can be found */
uint32_t dp_hnsw_deleted(const dp_hnsw *graph); /* deleted, not yet repaired */
bool dp_hnsw_has(const dp_hnsw *graph, uint32_t slot);
size_t dp_hnsw_bytes(const dp_hnsw *graph); /* memory held: links, codes, bookkeeping */

/* What a file of `indexes/` belongs to: compared on load, never interpreted. */
typedef struct {
    uint64_t owner[2]; /* tenant and collection, or shard: the caller's choice */
    uint64_t lsn;      /* the last log record folded in; given back by load */
    uint32_t slot_end; /* load: a file that names a slot from here on is refused; 0 = any slot */
} dp_hnsw_stamp;

/* Repairs, then writes the graph beneath dir_fd so that a crash leaves the old file or the new
 * (name.new, fsync, rename, fsync of the directory). Searches go on; inserts, deletes and repairs
 * wait.
 *
 * ORT_EIO, ORT_ENOSPC, ORT_ENOMEM: the old file stands. */
ORT_NODISCARD ort_err dp_hnsw_save(dp_hnsw *graph, int dir_fd, const char *name,
                                   const dp_hnsw_stamp *stamp, ort_diag *diag);

/* Opens a graph's file: reads its head, nothing else. Until dp_hnsw_verify() has returned ORT_OK it
 * may be verified or freed, nothing else.
 *
 * config  as for new: a file of another metric, m, code or dim is refused (ef_construct may differ)
 * stamp   owner is compared; slot_end is a bound; lsn is written
 *
 * ORT_ENOTFOUND  no file. ORT_ECORRUPT damaged. ORT_EVERSION of a newer program.
 * ORT_ESTALE     of another owner or configuration. ORT_ENOMEM, ORT_EIO */
ORT_NODISCARD ort_err dp_hnsw_open(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config,
                                   int dir_fd, const char *name, dp_hnsw_stamp *stamp,
                                   ort_diag *diag);

/* Maps the file's links and codes, reads the rest of it, and checks every byte: any damage is found
 * before the graph is used, and no byte of the file can make the process read or write out of
 * bounds: the caller deletes the file and builds anew. Costs as long as it takes to read the file,
 * so it is work for a worker, while exact scans answer. A graph that was not opened from a file is
 * ORT_OK.
 *
 * progress  NULL, or its `cancel` is looked at
 *
 * ORT_EBUSY cancelled. ORT_ECORRUPT, ORT_ESTALE, ORT_ENOMEM, ORT_EIO. After any of them the graph
 * can only be freed. */
uint64_t dp_hnsw_file_bytes(const dp_hnsw *graph); /* what that reads; 0: nothing (more) */
ORT_NODISCARD ort_err dp_hnsw_verify(dp_hnsw *graph, dp_hnsw_progress *progress, ort_diag *diag);

/* Copies into memory what is mapped and is not meant to stay on disk, beside searches, inserts and
 * deletes. Walks are faster afterwards (huge pages), and nothing a disk does can touch them.
 * ORT_EBUSY, cancelled, and ORT_ENOMEM: part of it stays mapped; call again or do not. ORT_EIO: see
 * dp_hnsw_is_bad(). */
ORT_NODISCARD ort_err dp_hnsw_settle(dp_hnsw *graph, dp_hnsw_progress *progress);

/* Whether a page of a mapped file could not be read since: searches scan exactly from then on,
 * saves fail. The graph is to be made anew. From the thread that changes the graph. */
bool dp_hnsw_is_bad(const dp_hnsw *graph);

/* Open and verify. */
ORT_NODISCARD ort_err dp_hnsw_load(dp_hnsw **out, const dp_rows *rows, const dp_hnsw_config *config,
                                   int dir_fd, const char *name, dp_hnsw_stamp *stamp,
                                   ort_diag *diag);

/* What the invariants look like right now; for tests and for `doctor`. Waits for inserts. */
typedef struct {
    uint32_t nodes;       /* live */
    uint32_t dead;        /* deleted and not yet repaired */
    uint32_t unreachable; /* live nodes that no walk on the lowest level from the entry can meet */
    uint32_t dead_links;  /* links to a slot that is not in the graph: always 0 */
    uint32_t bad_links;   /* to itself, twice to one, or to a node not on that level: always 0 */
    uint32_t level_max;
    double degree_mean; /* links a live node on the lowest level */
} dp_hnsw_report;

ORT_NODISCARD ort_err dp_hnsw_check(dp_hnsw *graph, dp_hnsw_report *out);
#endif /* DP_HNSW_H */
