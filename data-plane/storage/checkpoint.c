/* Checkpoints: the tail becomes a segment, small and half-empty segments are merged into it, a new
 * manifest names what there is, and readers are moved over.
 *
 *   freeze ──► plan ──► segment written, synced ──► manifest replaced ──► published ──► old files
 * gone
 *
 * A crash before the manifest's rename leaves the old state and a file that the next open removes;
 * a crash behind it leaves the new state and old files, which the next open removes as well. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/point.h"
#include "storage/io.h"
#include "storage/points_internal.h"

/* Segments below this are always merged: what a small shard has stays in one file. */
#define MERGE_BYTES (UINT64_C(4) << 20)

/* A checkpoint takes no more than this of older segments along, what one segment keeps excepted: a
 * merge that a crash or a failure ends is begun again, and what is lost by it has a bound. What is
 * left over is the next checkpoint's: compaction goes on from one to the next. */
#define MERGE_BYTES_MAX (UINT64_C(1) << 30)

/* A dead chunk on its way out. Readers that came before its points died may know its slots, and
 * find it through the directory: it leaves that when they are gone. */
typedef struct {
    dp_points *points;
    uint32_t index;
} leaving;

struct dp_checkpoint {
    dp_points *points;
    dp_log_mark mark;
    uint32_t slot_end;
    uint64_t live_count, logical_bytes;
    uint64_t *live; /* the bits as of the freeze */
    bool done;

    /* The plan. */
    uint32_t *chunks; /* to be written, ascending */
    uint32_t chunk_count;
    uint32_t *dropped; /* dead, and needed by nobody */
    uint32_t dropped_count;
    leaving **leaving; /* [dropped_count]: handed over at the end */
    bool *merged;      /* [segments of now]: goes into the new one, or away */
    dp_segment *fresh;
    dp_segment_list *list; /* of afterwards */
    dp_chunk **ready;      /* [chunk_count]: mapped, to be published */
};

ort_err
dp_points_freeze(dp_points *p, dp_log_mark mark, dp_checkpoint **out, ort_diag *diag)
{
    *out = NULL;
    if (atomic_exchange(&p->checkpointing, true)) {
        return ort_fail(diag, ORT_EBUSY, "a checkpoint is under way");
    }
    const uint32_t slot_end = atomic_load(&p->slot_end);
    const uint32_t words = (slot_end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS * DP_CHUNK_WORDS;
    dp_checkpoint *c = calloc(1, sizeof *c);
    dp_id_tree *fresh = NULL;
    if (c == NULL || (c->live = malloc((words + 1u) * sizeof *c->live)) == NULL ||
        dp_id_tree_new(&fresh) != ORT_OK) {
        free(c != NULL ? c->live : NULL);
        free(c);
        atomic_store(&p->checkpointing, false);
        return ort_fail(diag, ORT_ENOMEM, "a checkpoint");
    }
    c->points = p;
    c->mark = mark;
    c->slot_end = slot_end;
    c->live_count = atomic_load(&p->live_count);
    c->logical_bytes = atomic_load(&p->logical_bytes);
    for (uint32_t i = 0; i < words; i++) {
        c->live[i] = atomic_load_explicit(&p->live[i], memory_order_relaxed);
    }

    ort_err err = ORT_OK;
    pthread_rwlock_wrlock(&p->lock);
    if (p->frozen == NULL) {
        p->frozen = p->ids;
        p->ids = fresh;
        fresh = NULL;
    } else {
        /* The checkpoint before this one failed, and its ids are still needed: the newer ones join
         * them. An entry that stands in both is no harm. */
        dp_id_slot at;
        for (dp_id_tree_place place = dp_id_tree_seek(p->ids, NULL);
             err == ORT_OK && dp_id_tree_peek(place, &at); dp_id_tree_step(&place)) {
            err = dp_id_tree_set(p->frozen, at.id, at.slot);
        }
        if (err == ORT_OK) {
            dp_id_tree *old = p->ids;
            p->ids = fresh;
            fresh = old;
        }
    }
    pthread_rwlock_unlock(&p->lock);
    dp_id_tree_free(fresh);
    if (err != ORT_OK) {
        dp_checkpoint_free(c);
        return ort_fail(diag, err, "a checkpoint");
    }
    *out = c;
    return ORT_OK;
}

static bool
is_live(void *ctx, uint32_t slot)
{
    const dp_checkpoint *c = ctx;
    return (c->live[slot / 64] >> (slot % 64) & 1) != 0;
}

static bool
chunk_is_dead(const dp_checkpoint *c, uint32_t index)
{
    for (uint32_t i = 0; i < DP_CHUNK_WORDS; i++) {
        if (c->live[index * DP_CHUNK_WORDS + i] != 0) {
            return false;
        }
    }
    return true;
}

static bool
is_full(const dp_checkpoint *c, uint32_t index)
{
    return c->slot_end / DP_CHUNK_SLOTS > index;
}

/* What becomes of each chunk. */
enum { KEEP, WRITE, DROP };

static uint32_t
used_of(const dp_checkpoint *c, uint32_t index)
{
    return is_full(c, index) ? DP_CHUNK_SLOTS : c->slot_end % DP_CHUNK_SLOTS;
}

static uint32_t
place_of(const dp_segment_list *list, const dp_segment *segment)
{
    uint32_t i = 0;
    while (i < list->count && list->items[i] != segment) {
        i++;
    }
    return i;
}

/* What a segment holds that is still needed, in slots, and in bytes as they are on disk. */
typedef struct {
    uint64_t slots, bytes;
    bool half; /* of its chunks are dead */
} kept;

/* Whether the last chunk of a segment was not full, and has gone on growing elsewhere: that one is
 * always written again, and its segment is not worth a merge for it. */
static bool
tail_moved(const dp_checkpoint *c, const dp_segment *segment, const unsigned char *fate,
           uint32_t chunk_end)
{
    const uint32_t last = dp_segment_chunk_count(segment) - 1;
    const uint32_t number = dp_segment_chunk_now(segment, last);
    return dp_segment_chunk_used(segment, last) < DP_CHUNK_SLOTS &&
           (number >= chunk_end || c->points->owner[number].segment != segment ||
            fate[number] != KEEP);
}

static kept
kept_of(const dp_checkpoint *c, const dp_segment *segment, uint64_t slots, uint32_t chunks,
        const unsigned char *fate, uint32_t chunk_end)
{
    const uint64_t all = dp_segment_slots(segment);
    const double share = all > 0 ? (double)slots / (double)all : 0;
    const uint32_t gone = dp_segment_chunk_count(segment) - chunks;
    const uint32_t dead = gone > 0 && tail_moved(c, segment, fate, chunk_end) ? gone - 1 : gone;
    return (kept){.slots = slots,
                  .bytes = (uint64_t)(share * (double)dp_segment_bytes(segment)),
                  .half = dead > 0 && dead >= chunks};
}

/* Chooses segments to merge: as long as the next older one is no larger than what is written
 * anyway, it is taken along (so that sizes stay apart by a factor, and each slot is written again a
 * logarithmic number of times); and whichever has lost half of its chunks since it was written, be
 * it one at a time. Without the memory to choose, none: the checkpoint is worth more. */
static void
choose_merges(dp_checkpoint *c, const dp_segment_list *list, const unsigned char *fate,
              uint32_t chunk_end, bool all)
{
    const dp_points *p = c->points;
    uint64_t *slots = calloc(list->count + 1u, sizeof *slots);   /* kept, of each segment */
    uint32_t *chunks = calloc(list->count + 1u, sizeof *chunks); /* likewise */
    uint64_t writing = 0, taken_bytes = 0;
    for (uint32_t i = 0; slots != NULL && chunks != NULL && i < chunk_end; i++) {
        if (fate[i] == WRITE) {
            writing += used_of(c, i);
        } else if (fate[i] == KEEP && p->owner[i].segment != NULL) {
            const uint32_t at = place_of(list, p->owner[i].segment);
            slots[at] += used_of(c, i);
            chunks[at]++;
        }
    }
    bool grow = writing > 0;
    for (uint32_t i = list->count; slots != NULL && chunks != NULL && i-- > 0;) {
        const kept k = kept_of(c, list->items[i], slots[i], chunks[i], fate, chunk_end);
        const bool empty = k.slots == 0;
        const bool fits = taken_bytes == 0 || taken_bytes + k.bytes <= MERGE_BYTES_MAX;
        const uint64_t bytes = dp_segment_bytes(list->items[i]);
        if (grow && !empty &&
            (bytes > MERGE_BYTES_MAX || !fits || (k.slots > writing && bytes > MERGE_BYTES))) {
            grow = false;
        }
        c->merged[i] =
            empty || (k.half && fits) || grow || (all && list->count + (writing > 0) > 1);
        writing += c->merged[i] ? k.slots : 0;
        taken_bytes += c->merged[i] ? k.bytes : 0;
    }
    free(slots);
    free(chunks);
}

/* Fills chunks, dropped and merged. */
static ort_err
plan(dp_checkpoint *c, const dp_checkpoint_options *options, const dp_segment_list *list,
     ort_diag *diag)
{
    dp_points *p = c->points;
    const uint32_t chunk_end = (c->slot_end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS;
    unsigned char *fate = malloc(chunk_end + 1u);
    ort_err err = ORT_OK;

    c->chunks = calloc(chunk_end + 1u, sizeof *c->chunks);
    c->dropped = calloc(chunk_end + 1u, sizeof *c->dropped);
    c->merged = calloc(list->count + 1u, sizeof *c->merged);
    if (fate == NULL || c->chunks == NULL || c->dropped == NULL || c->merged == NULL) {
        free(fate);
        return ort_fail(diag, ORT_ENOMEM, "a checkpoint's plan");
    }
    if (chunk_end > 0) {
        err = dp_points__owner_reserve(p, chunk_end - 1, diag);
    }
    dp_reader reader; /* so that no chunk is freed while it is looked at */
    dp_reader_init(&reader, p);
    for (uint32_t i = 0; err == ORT_OK && i < chunk_end; i++) {
        const dp_chunk *chunk = dp_points__chunk(p, i);
        fate[i] = KEEP;
        if (chunk == NULL || chunk->dropped) {
            continue;
        }
        if (is_full(c, i) && chunk_is_dead(c, i) &&
            (options->held == NULL ||
             !options->held(options->arg, i * DP_CHUNK_SLOTS, DP_CHUNK_SLOTS))) {
            fate[i] = DROP;
        } else if (p->owner[i].segment == NULL ||
                   (i == p->tail_sealed / DP_CHUNK_SLOTS && c->slot_end > p->tail_sealed)) {
            fate[i] = WRITE; /* not in a segment, or not with all its slots */
        }
    }
    dp_reader_fini(&reader);
    if (err == ORT_OK) {
        choose_merges(c, list, fate, chunk_end, options->merge_all);
    }
    for (uint32_t i = 0; err == ORT_OK && i < chunk_end; i++) {
        if (fate[i] == DROP) {
            c->dropped[c->dropped_count++] = i;
        } else if (fate[i] == WRITE || (p->owner[i].segment != NULL &&
                                        c->merged[place_of(list, p->owner[i].segment)])) {
            c->chunks[c->chunk_count++] = i;
        }
    }
    free(fate);
    c->leaving = calloc(c->dropped_count + 1u, sizeof(leaving *));
    for (uint32_t i = 0; err == ORT_OK && i < c->dropped_count; i++) {
        leaving *out = c->leaving != NULL ? malloc(sizeof *out) : NULL;
        if (out == NULL) {
            err = ort_fail(diag, ORT_ENOMEM, "a checkpoint's plan");
            break;
        }
        *out = (leaving){.points = p, .index = c->dropped[i]};
        c->leaving[i] = out;
    }
    if (err == ORT_OK) {
        /* And a little for the writer beside. */
        err = dp_points__retire_reserve(p, c->chunk_count + c->dropped_count + list->count + 16u,
                                        diag);
    }
    return err;
}

/* What is copied gets new checksums: they must not bless rot. Payloads are checked when they are
 * unpacked, all but vectors when a segment is opened, and vectors here. */
static ort_err
check_sources(const dp_checkpoint *c, dp_segment_list *old, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < old->count; i++) {
        for (uint32_t k = 0; c->merged[i] && err == ORT_OK && k < c->points->layout.count; k++) {
            err = dp_segment_check_rows(old->items[i], c->points->layout.columns[k].id, diag);
        }
    }
    return err;
}

static ort_err
write_segment(dp_checkpoint *c, const dp_checkpoint_options *options, dp_segment_list *old,
              ort_diag *diag)
{
    dp_points *p = c->points;
    dp_reader reader;
    dp_segment_ref ref;
    if (c->chunk_count == 0) {
        return ORT_OK;
    }
    dp_reader_init(&reader, p);
    const dp_segment_source source = {
        .tenant = p->tenant,
        .shard = p->shard,
        .segment_id = p->next_segment_id,
        .packing = p->packing,
        .columns = p->layout.columns,
        .column_count = p->layout.count,
        .chunks = c->chunks,
        .chunk_count = c->chunk_count,
        .last_used = used_of(c, c->chunks[c->chunk_count - 1]),
        .live = is_live,
        .reader = &reader,
        .bytes_per_s = options->bytes_per_s,
        .hurry = options->hurry,
        .ctx = c,
    };
    ort_err err = check_sources(c, old, diag);
    if (err == ORT_OK) {
        err = dp_segment_write(p->dir_fd, &source, &ref, diag);
    }
    dp_reader_fini(&reader);
    if (err == ORT_OK) {
        err = dp_points_check_readable(p, diag); /* or zeros were copied */
    }
    ort_point("checkpoint.segment");
    if (err == ORT_OK) {
        /* Before the manifest can name it: nothing says that a disk keeps names in order. */
        err = dp_io_sync(p->dir_fd, "the shard's directory", diag);
    }
    if (err == ORT_OK) {
        /* Opening checks it: what is wrong now is found before the log is cut. */
        err = dp_segment_open(&c->fresh, p->dir_fd, &ref, p->tenant, p->shard, diag);
    }
    for (uint32_t k = 0; err == ORT_OK && k < p->layout.count; k++) {
        /* So is what is wrong with rows; and no search has to look for it. */
        err = dp_segment_check_rows(c->fresh, p->layout.columns[k].id, diag);
    }
    c->ready = calloc(c->chunk_count, sizeof *c->ready);
    if (err == ORT_OK && c->ready == NULL) {
        err = ort_fail(diag, ORT_ENOMEM, "a checkpoint");
    }
    for (uint32_t i = 0; err == ORT_OK && i < c->chunk_count; i++) {
        err = dp_chunk_of_segment(&c->ready[i], &p->layout, c->fresh, i, diag);
    }
    return err;
}

static ort_err
make_list(dp_checkpoint *c, const dp_segment_list *old, ort_diag *diag)
{
    c->list = calloc(1, sizeof *c->list + (old->count + 1u) * sizeof c->list->items[0]);
    if (c->list == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of segments");
    }
    for (uint32_t i = 0; i < old->count; i++) {
        if (!c->merged[i]) {
            c->list->items[c->list->count++] = old->items[i];
        }
    }
    if (c->fresh != NULL) {
        c->list->items[c->list->count++] = c->fresh;
    }
    return ORT_OK;
}

/* Where a chunk will be. */
static dp_owner
owner_afterwards(const dp_checkpoint *c, uint32_t index, uint32_t *written, uint32_t *dropped)
{
    if (*written < c->chunk_count && c->chunks[*written] == index) {
        return (dp_owner){.segment = c->fresh, .place = (*written)++};
    }
    if (*dropped < c->dropped_count && c->dropped[*dropped] == index) {
        (*dropped)++;
        return (dp_owner){0};
    }
    return c->points->owner[index];
}

static ort_err
write_manifest(dp_checkpoint *c, uint64_t *bytes_out, bool *switched, ort_diag *diag)
{
    dp_points *p = c->points;
    const uint32_t chunk_end = (c->slot_end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS;
    dp_manifest m = {.tenant = p->tenant,
                     .shard = p->shard,
                     .generation = p->generation + 1,
                     .mark = c->mark,
                     .next_segment_id = p->next_segment_id + 1,
                     .live_count = c->live_count,
                     .logical_bytes = c->logical_bytes,
                     .slot_end = c->slot_end,
                     .segment_count = c->list->count};
    ort_err err = ORT_OK;
    uint32_t written = 0, dropped = 0;

    *switched = false;
    m.segments = calloc(c->list->count + 1u, sizeof *m.segments);
    m.chunks = calloc(chunk_end + 1u, sizeof *m.chunks);
    if (m.segments == NULL || m.chunks == NULL) {
        dp_manifest_fini(&m);
        return ort_fail(diag, ORT_ENOMEM, "a manifest");
    }
    for (uint32_t i = 0; i < c->list->count; i++) {
        m.segments[i] = dp_segment_get_ref(c->list->items[i]);
    }
    for (uint32_t i = 0; i < chunk_end; i++) {
        const dp_owner owner = owner_afterwards(c, i, &written, &dropped);
        if (owner.segment != NULL) {
            dp_manifest_chunk *to = &m.chunks[m.chunk_count++];
            to->chunk = i;
            to->segment = place_of(c->list, owner.segment);
            to->place = owner.place;
            to->used = used_of(c, i);
            memcpy(to->live, c->live + (size_t)i * DP_CHUNK_WORDS, sizeof to->live);
        }
    }
    err = dp_manifest_replace(p->dir_fd, &m, bytes_out, switched, diag);
    dp_manifest_fini(&m);
    return err;
}

static void
list_free(void *list)
{
    free(list);
}

static void
leave(void *what)
{
    leaving *l = what;
    dp_points *p = l->points;
    dp_chunk *chunk = dp_points__chunk(p, l->index);
    for (uint32_t i = 0; i < p->layout.dense_count; i++) {
        atomic_store_explicit(&p->rows[i][l->index], NULL, memory_order_release);
    }
    atomic_store_explicit(&p->chunks[l->index], NULL, memory_order_release);
    dp_chunk_free(chunk);
    free(l);
}

static void
segment_free(void *segment)
{
    dp_segment_close(segment);
}

/* The new manifest stands: moves readers over. */
static void
publish(dp_checkpoint *c, dp_segment_list *old, uint64_t manifest_bytes)
{
    dp_points *p = c->points;
    const uint32_t chunk_end = (c->slot_end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS;
    uint32_t written = 0, dropped = 0;

    for (uint32_t i = 0; i < chunk_end; i++) {
        p->owner[i] = owner_afterwards(c, i, &written, &dropped);
    }
    pthread_rwlock_wrlock(&p->lock);
    for (uint32_t i = 0; i < c->chunk_count; i++) {
        const uint32_t index = c->chunks[i];
        if (!is_full(c, index) && dp_points__chunk(p, index)->segment == NULL) {
            continue; /* the writer's */
        }
        dp_points__publish(p, index, c->ready[i]);
        c->ready[i] = NULL;
    }
    for (uint32_t i = 0; i < c->dropped_count; i++) {
        dp_points__chunk(p, c->dropped[i])->dropped = true;
        dp_points__retire(p, leave, c->leaving[i]);
        c->leaving[i] = NULL;
    }
    atomic_store_explicit(&p->segments, c->list, memory_order_release);
    dp_id_tree *frozen = p->frozen;
    p->frozen = NULL;
    atomic_fetch_add(&p->changes, 1);
    pthread_rwlock_unlock(&p->lock);
    dp_id_tree_free(frozen);

    pthread_mutex_lock(&p->mark_mutex);
    p->mark = c->mark;
    p->generation++;
    p->sealed_end = c->slot_end;
    p->manifest_bytes = manifest_bytes;
    p->written_bytes += manifest_bytes;
    if (c->fresh != NULL) {
        p->segment_bytes += dp_segment_bytes(c->fresh);
        p->written_bytes += dp_segment_bytes(c->fresh);
    }
    for (uint32_t i = 0; i < old->count; i++) {
        if (c->merged[i]) {
            p->segment_bytes -= dp_segment_bytes(old->items[i]);
        }
    }
    p->segment_count = c->list->count;
    pthread_mutex_unlock(&p->mark_mutex);
    p->tail_sealed = c->slot_end;
    p->next_segment_id++;
    c->list = NULL;
    c->fresh = NULL;
    c->done = true;
}

/* Files that the manifest no longer names; a file that cannot be removed now is removed later. */
static void
remove_old(dp_checkpoint *c, dp_segment_list *old)
{
    dp_points *p = c->points;
    for (uint32_t i = 0; i < old->count; i++) {
        if (c->merged[i]) {
            char name[DP_SEGMENT_NAME_BYTES];
            dp_segment_name(dp_segment_get_ref(old->items[i]).id, name);
            if (dp_io_unlink(p->dir_fd, name, NULL) != ORT_OK) {
                p->leftovers = true;
            }
            ort_point("checkpoint.removed");
            dp_points__retire(p, segment_free, old->items[i]);
        }
    }
    dp_points__retire(p, list_free, old);
    if (p->leftovers && dp_points__sweep(p, NULL) == ORT_OK) {
        p->leftovers = false;
    }
    dp_points__reclaim(p);
}

ort_err
dp_checkpoint_write(dp_checkpoint *c, const dp_checkpoint_options *options, ort_diag *diag)
{
    dp_points *p = c->points;
    dp_segment_list *old = atomic_load(&p->segments);
    const dp_checkpoint_options none = {0};
    options = options != NULL ? options : &none;
    uint64_t manifest_bytes = 0;
    bool switched = false;

    ort_err err = plan(c, options, old, diag);
    if (err == ORT_OK) {
        err = write_segment(c, options, old, diag);
    }
    if (err == ORT_OK) {
        err = make_list(c, old, diag);
    }
    if (err == ORT_OK) {
        err = write_manifest(c, &manifest_bytes, &switched, diag);
    }
    if (err == ORT_OK) {
        publish(c, old, manifest_bytes);
        ort_point("checkpoint.published");
        remove_old(c, old);
        return ORT_OK;
    }
    p->leftovers = true;
    if (!switched && c->chunk_count > 0) {
        char name[DP_SEGMENT_NAME_BYTES];
        dp_segment_name(p->next_segment_id, name);
        const ort_err gone = dp_io_unlink(p->dir_fd, name, NULL); /* room for others */
        (void)gone;
    }
    if (switched) {
        /* The new manifest may stand. Its segment keeps its name to itself. */
        p->next_segment_id++;
        pthread_mutex_lock(&p->mark_mutex);
        p->generation++;
        pthread_mutex_unlock(&p->mark_mutex);
    }
    return err;
}

void
dp_checkpoint_free(dp_checkpoint *c)
{
    if (c == NULL) {
        return;
    }
    for (uint32_t i = 0; c->ready != NULL && i < c->chunk_count; i++) {
        dp_chunk_free(c->ready[i]);
    }
    for (uint32_t i = 0; c->leaving != NULL && i < c->dropped_count; i++) {
        free(c->leaving[i]);
    }
    dp_segment_close(c->fresh);
    free((void *)c->leaving);
    free(c->ready);
    free(c->list);
    free(c->live);
    free(c->chunks);
    free(c->dropped);
    free(c->merged);
    atomic_store(&c->points->checkpointing, false);
    free(c);
}
