/* data-plane/storage/points_internal.h: what the files of the points share. */
#ifndef DP_POINTS_INTERNAL_H
#define DP_POINTS_INTERNAL_H
#include <pthread.h>

#include "storage/chunk.h"
#include "storage/id_tree.h"
#include "storage/manifest.h"

#define DP_CHUNKS_MAX (DP_SLOTS_MAX / DP_CHUNK_SLOTS)

/* Immutable once published; replaced as a whole. */
typedef struct {
    uint32_t count;
    dp_segment *items[];
} dp_segment_list;

/* Where a chunk stands for the manifest; segment NULL: nowhere. */
typedef struct {
    dp_segment *segment;
    uint32_t place;
} dp_owner;

/* Something that readers may still hold; freed two epochs later. */
typedef struct {
    void (*free)(void *);
    void *what;
    uint64_t epoch;
} dp_retired;

struct dp_points {
    int dir_fd;
    ort_tenant_id tenant;
    ort_collection_id shard;
    dp_packing packing;
    dp_chunk_layout layout;

    /* Directories over all slots that there can ever be, mapped without memory behind them: a page
     * comes when it is first written, and no address ever changes. */
    _Atomic(uint64_t) *live;
    _Atomic(dp_chunk *) *chunks;
    _Atomic(const unsigned char *) **rows; /* [dense columns] */

    _Atomic(uint32_t) slot_end;
    _Atomic(uint64_t) live_count, logical_bytes;

    /* Guards ids, frozen, the choice of segments, and what of the directories a checkpoint swaps.
     * The writer holds it while it changes ids and live bits, readers while they look up. */
    pthread_rwlock_t lock;
    dp_id_tree *ids;    /* of slots since the last freeze */
    dp_id_tree *frozen; /* of slots that a checkpoint is writing, or could not write; or NULL */
    _Atomic(dp_segment_list *) segments;
    _Atomic(uint64_t)
        changes; /* of ids: a reader that found nothing sees whether it must look again */

    _Atomic(uint64_t) bad_pages_seen; /* of the process, when no segment was bad */
    _Atomic(uint64_t) unreadable_id;  /* of a segment, or 0 */

    /* Memory of readers. Lock order: retire_mutex last. */
    _Atomic(uint64_t) epoch;
    _Atomic(uint64_t) readers[2]; /* [epoch % 2] */
    pthread_mutex_t retire_mutex;
    dp_retired *retired;
    size_t retired_cap;
    _Atomic(size_t) retired_count;

    /* Of checkpoints: one at a time. */
    _Atomic(bool) checkpointing;
    dp_owner *owner; /* [chunks] */
    uint32_t owner_cap;
    uint32_t tail_sealed; /* slots below this are in segments */
    uint64_t next_segment_id;
    bool leftovers; /* files of a checkpoint that failed may be there */

    pthread_mutex_t mark_mutex; /* guards what follows */
    dp_log_mark mark;
    uint64_t generation;
    uint32_t sealed_end;
    uint64_t manifest_bytes, segment_bytes, written_bytes;
    uint32_t segment_count;

    uint32_t relocate_chunk; /* of the writer: where the search for dead chunks goes on */
};

/* Room for n things that are to be handed over, so that handing over cannot fail. */
ORT_NODISCARD ort_err dp_points__retire_reserve(dp_points *points, size_t n, ort_diag *diag);

/* Hands something over that readers may hold. */
void dp_points__retire(dp_points *points, void (*free_fn)(void *), void *what);

/* Frees what nobody can hold any more. */
void dp_points__reclaim(dp_points *points);

/* Makes a chunk the one of `index`. The lock is held for writing, or nobody else is there yet. What
 * was there is retired. */
void dp_points__publish(dp_points *points, uint32_t index, dp_chunk *chunk);

/* The chunk of `index`, or NULL. */
static inline dp_chunk *
dp_points__chunk(const dp_points *points, uint32_t index)
{
    return atomic_load_explicit(&points->chunks[index], memory_order_acquire);
}

/* Whether renumbering would free most of the numbers that are behind us, and those are many. */
bool dp_points__is_sparse(const dp_points *points);
uint32_t dp_points__slots_max(void);

/* Of a slot that a map of ids names. */
static inline bool
dp_points__lives(const dp_points *points, uint32_t slot)
{
    return slot != DP_SLOT_NONE && dp_points_is_live(points, slot);
}

/* The slot an id has, live: the lock is held. */
uint32_t dp_points__lookup(const dp_points *points, ort_point_id id);

/* Removes files that no manifest names. */
ORT_NODISCARD ort_err dp_points__sweep(dp_points *points, ort_diag *diag);

/* dp_points_open() without touching a file. The manifest is borrowed. */
ORT_NODISCARD ort_err dp_points__open(dp_points **out, int dir_fd, const dp_points_config *config,
                                      const dp_manifest *manifest, uint64_t manifest_bytes,
                                      ort_diag *diag);

/* Room in owner for chunk `index`. */
ORT_NODISCARD ort_err dp_points__owner_reserve(dp_points *points, uint32_t index, ort_diag *diag);
#endif /* DP_POINTS_INTERNAL_H */
