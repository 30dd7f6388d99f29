/* Points: reading. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mapped.h"
#include "storage/points_internal.h"

/* Entries a scroll looks at before it lets the writer in. */
#define SCROLL_STEPS 4096u

static const dp_chunk *
chunk_of(const dp_reader *r, uint32_t slot)
{
    return dp_points__chunk(r->points, slot / DP_CHUNK_SLOTS);
}

static bool
was_given_out(const dp_reader *r, uint32_t slot)
{
    return slot < atomic_load_explicit(&r->points->slot_end, memory_order_acquire) &&
           chunk_of(r, slot) != NULL;
}

ort_err
dp_points_find(dp_reader *r, ort_point_id id, uint32_t *slot_out, ort_diag *diag)
{
    dp_points *p = r->points;
    /* Ids of the tail are looked up under the lock, those of segments without it: that may wait for
     * the disk. If ids changed meanwhile, an update may have moved the point past this reader. */
    for (int tries = 0;; tries++) {
        const uint64_t changes = atomic_load(&p->changes);
        pthread_rwlock_rdlock(&p->lock);
        uint32_t slot = dp_id_tree_get(p->ids, id);
        bool live = dp_points__lives(p, slot);
        if (!live && p->frozen != NULL) {
            slot = dp_id_tree_get(p->frozen, id);
            live = dp_points__lives(p, slot);
        }
        if (!live && tries >= 8) {
            slot = dp_points__lookup(p, id);
            live = slot != DP_SLOT_NONE;
        }
        const dp_segment_list *list = atomic_load_explicit(&p->segments, memory_order_acquire);
        pthread_rwlock_unlock(&p->lock);
        for (uint32_t i = list->count; !live && i-- > 0;) {
            const uint32_t rank = dp_segment_seek(list->items[i], id);
            if (rank < dp_segment_order_count(list->items[i])) {
                const dp_id_slot at = dp_segment_order(list->items[i], rank);
                slot = at.slot;
                live = ort_point_id_eq(at.id, id) && dp_points__lives(p, slot);
            }
        }
        if (live) {
            *slot_out = slot;
            return ORT_OK;
        }
        if (tries > 8 || changes == atomic_load(&p->changes)) {
            return ort_fail(diag, ORT_ENOTFOUND, "no such point");
        }
    }
}

ort_point_id
dp_points_id(dp_reader *r, uint32_t slot)
{
    ort_point_id id = {0};
    if (was_given_out(r, slot)) {
        const ort_err err = ort_point_id_decode(
            chunk_of(r, slot)->ids + (size_t)(slot % DP_CHUNK_SLOTS) * ORT_POINT_ID_BYTES, &id);
        (void)err; /* written by us, or checked when the segment was opened */
    }
    return id;
}

uint64_t
dp_points_version(dp_reader *r, uint32_t slot)
{
    return was_given_out(r, slot)
               ? ort_get_u64(chunk_of(r, slot)->versions + (size_t)(slot % DP_CHUNK_SLOTS) * 8)
               : 0;
}

/* Whether a bytes column holds a value, without unpacking it. */
static bool
has_value(const dp_reader *r, uint32_t column, uint32_t slot)
{
    const dp_chunk_layout *layout = &r->points->layout;
    const dp_chunk *chunk = chunk_of(r, slot);
    const uint32_t offset = slot % DP_CHUNK_SLOTS;
    if (chunk->segment == NULL) {
        return chunk->values[(1 + layout->place[column]) * DP_CHUNK_SLOTS + offset].data != NULL;
    }
    dp_segment_place place;
    return dp_segment_locate(chunk->segment, layout->columns[column].id, chunk->base + offset,
                             &place, NULL) == ORT_OK &&
           place.len > 0;
}

bool
dp_points_has(dp_reader *r, uint32_t column, uint32_t slot)
{
    const dp_chunk_layout *layout = &r->points->layout;
    if (!was_given_out(r, slot)) {
        return false;
    }
    return layout->columns[column].type == DP_COLUMN_BYTES
               ? has_value(r, column, slot)
               : dp_chunk_has(chunk_of(r, slot), layout->place[column], slot % DP_CHUNK_SLOTS);
}

const void *
dp_points_row(dp_reader *r, uint32_t column, uint32_t slot)
{
    const dp_chunk_layout *layout = &r->points->layout;
    if (layout->columns[column].type == DP_COLUMN_BYTES || !dp_points_has(r, column, slot)) {
        return NULL;
    }
    return chunk_of(r, slot)->columns[layout->place[column]].rows +
           (size_t)(slot % DP_CHUNK_SLOTS) * layout->stride[column];
}

/* A block, unpacked, kept by the reader. */
static ort_err
get_block(dp_reader *r, const dp_segment *segment, uint32_t column_id, uint32_t block,
          const char **bytes, ort_diag *diag)
{
    const uint64_t key = (uint64_t)column_id << 32 | block;
    for (uint32_t i = 0; i < DP_READER_BLOCKS; i++) {
        if (r->blocks[i].segment == segment && r->blocks[i].key == key) {
            *bytes = r->blocks[i].bytes;
            return ORT_OK;
        }
    }
    const uint32_t at = r->next_block++ % DP_READER_BLOCKS;
    ort_buf buf = {.data = r->blocks[at].bytes, .cap = r->blocks[at].cap};
    r->blocks[at].segment = NULL;
    const ort_err err = dp_segment_unpack(segment, column_id, block, &buf, diag);
    r->blocks[at].bytes = buf.data;
    r->blocks[at].cap = buf.cap;
    if (err == ORT_OK) {
        r->blocks[at].segment = segment;
        r->blocks[at].key = key;
        *bytes = buf.data;
    }
    return err;
}

/* A value as stored; `kind` is its place among a chunk's values. */
static ort_err
get_value(dp_reader *r, uint32_t slot, uint32_t kind, uint32_t column_id, const char **data,
          size_t *len, ort_diag *diag)
{
    *data = NULL;
    *len = 0;
    if (!was_given_out(r, slot)) {
        return ort_fail(diag, ORT_EINVAL, "slot %" PRIu32 " was not given out", slot);
    }
    const dp_chunk *chunk = chunk_of(r, slot);
    const uint32_t offset = slot % DP_CHUNK_SLOTS;
    if (chunk->segment == NULL) {
        const dp_chunk_value *v = &chunk->values[kind * DP_CHUNK_SLOTS + offset];
        *data = v->data;
        *len = v->len;
        return ORT_OK;
    }
    dp_segment_place place;
    const char *block;
    ort_err err = dp_segment_locate(chunk->segment, column_id, chunk->base + offset, &place, diag);
    if (err != ORT_OK || place.len == 0) {
        return err;
    }
    err = get_block(r, chunk->segment, column_id, place.block, &block, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (column_id == DP_STREAM_PAYLOAD) {
        *data = block + place.at;
        *len = place.len;
        return ORT_OK;
    }
    if (block[place.at] != 1) {
        return ort_fail(diag, ORT_ECORRUPT, "a value of column %" PRIu32 " has no head", column_id);
    }
    *data = block + place.at + 1;
    *len = place.len - 1;
    return ORT_OK;
}

ort_err
dp_points_payload(dp_reader *r, uint32_t slot, const char **data, size_t *len, ort_diag *diag)
{
    const ort_err err = get_value(r, slot, 0, DP_STREAM_PAYLOAD, data, len, diag);
    if (err == ORT_OK && *data == NULL) {
        *data = "";
    }
    return err;
}

ort_err
dp_points_bytes(dp_reader *r, uint32_t column, uint32_t slot, const void **data, size_t *len,
                ort_diag *diag)
{
    const dp_chunk_layout *layout = &r->points->layout;
    const char *bytes;
    const ort_err err = get_value(r, slot, 1 + layout->place[column], layout->columns[column].id,
                                  &bytes, len, diag);
    *data = bytes;
    return err;
}

/* The length of a value, without unpacking it. */
static ort_err
value_len(const dp_chunk *chunk, uint32_t offset, uint32_t kind, uint32_t column_id, uint64_t *out,
          ort_diag *diag)
{
    if (chunk->segment == NULL) {
        *out = chunk->values[kind * DP_CHUNK_SLOTS + offset].len;
        return ORT_OK;
    }
    dp_segment_place place;
    const ort_err err =
        dp_segment_locate(chunk->segment, column_id, chunk->base + offset, &place, diag);
    *out = column_id != DP_STREAM_PAYLOAD && place.len > 0 ? place.len - 1 : place.len;
    return err;
}

ort_err
dp_points_slot_bytes(dp_reader *r, uint32_t slot, uint64_t *out, ort_diag *diag)
{
    const dp_chunk_layout *layout = &r->points->layout;
    if (!was_given_out(r, slot)) {
        return ort_fail(diag, ORT_EINVAL, "slot %" PRIu32 " was not given out", slot);
    }
    const dp_chunk *chunk = chunk_of(r, slot);
    const uint32_t offset = slot % DP_CHUNK_SLOTS;
    uint64_t len = 0, total = ORT_POINT_ID_BYTES;
    ort_err err = value_len(chunk, offset, 0, DP_STREAM_PAYLOAD, &len, diag);
    total += len;
    for (uint32_t i = 0; err == ORT_OK && i < layout->count; i++) {
        const dp_column *c = &layout->columns[i];
        if (c->type == DP_COLUMN_BYTES) {
            err = value_len(chunk, offset, 1 + layout->place[i], c->id, &len, diag);
            total += len;
        } else if (dp_chunk_has(chunk, layout->place[i], offset)) {
            total += dp_column_row_bytes(c);
        }
    }
    *out = total;
    return err;
}

/* --- ids in order ----------------------------------------------------------------------------- */

/* One of the sorted lists that a scroll merges. */
typedef struct {
    dp_id_tree_place place;    /* of a tree, or */
    const dp_segment *segment; /* of a segment, */
    uint32_t rank;             /* here */
    bool has;
    dp_id_slot at;
} scroll_source;

static void
source_load(scroll_source *s)
{
    if (s->segment == NULL) {
        s->has = dp_id_tree_peek(s->place, &s->at);
    } else {
        s->has = s->rank < dp_segment_order_count(s->segment);
        if (s->has) {
            s->at = dp_segment_order(s->segment, s->rank);
        }
    }
}

static void
source_step(scroll_source *s)
{
    if (s->segment == NULL) {
        dp_id_tree_step(&s->place);
    } else {
        s->rank++;
    }
    source_load(s);
}

static bool
behind(const scroll_source *s, const ort_point_id *from, bool after)
{
    if (!s->has || from == NULL) {
        return true;
    }
    const int order = ort_point_id_cmp(s->at.id, *from);
    return after ? order > 0 : order >= 0;
}

/* Up to `steps` entries in order; *last is the id of the last one looked at. */
static size_t
scroll_some(dp_points *p, scroll_source *sources, const ort_point_id *from, bool after,
            dp_id_slot *out, size_t cap, ort_point_id *last, bool *more)
{
    uint32_t count = 0;
    size_t n = 0;
    sources[count++] = (scroll_source){.place = dp_id_tree_seek(p->ids, from)};
    if (p->frozen != NULL) {
        sources[count++] = (scroll_source){.place = dp_id_tree_seek(p->frozen, from)};
    }
    const dp_segment_list *list = atomic_load_explicit(&p->segments, memory_order_acquire);
    for (uint32_t i = 0; i < list->count; i++) {
        sources[count++] =
            (scroll_source){.segment = list->items[i],
                            .rank = from == NULL ? 0 : dp_segment_seek(list->items[i], *from)};
    }
    for (uint32_t i = 0; i < count; i++) {
        source_load(&sources[i]);
        while (!behind(&sources[i], from, after)) {
            source_step(&sources[i]);
        }
    }
    *more = true;
    for (uint32_t step = 0; n < cap && step < SCROLL_STEPS; step++) {
        scroll_source *least = NULL;
        for (uint32_t i = 0; i < count; i++) {
            if (sources[i].has &&
                (least == NULL || ort_point_id_cmp(sources[i].at.id, least->at.id) < 0)) {
                least = &sources[i];
            }
        }
        if (least == NULL) {
            *more = false;
            break;
        }
        /* A chunk that was written again stands in two segments with the same slot. */
        const dp_id_slot at = least->at;
        if (dp_points__lives(p, at.slot) && (n == 0 || !ort_point_id_eq(out[n - 1].id, at.id))) {
            out[n++] = at;
        }
        *last = at.id;
        source_step(least);
    }
    return n;
}

ort_err
dp_points_scroll(dp_reader *r, const ort_point_id *from, bool after, dp_id_slot *out, size_t cap,
                 size_t *n_out, ort_diag *diag)
{
    dp_points *p = r->points;
    ort_point_id last = {0};
    bool more = true;
    uint32_t room = 0;
    scroll_source *sources = NULL;
    ort_err err = ORT_OK;

    *n_out = 0;
    while (*n_out < cap && more) {
        pthread_rwlock_rdlock(&p->lock);
        const dp_segment_list *list = atomic_load_explicit(&p->segments, memory_order_acquire);
        if (list->count + 2 > room) {
            free(sources);
            room = list->count + 8;
            sources = malloc(room * sizeof *sources);
        }
        if (sources != NULL) {
            ort_point_id start = last;
            *n_out += scroll_some(p, sources, from != NULL ? from : NULL, after, out + *n_out,
                                  cap - *n_out, &start, &more);
            last = start;
        }
        pthread_rwlock_unlock(&p->lock);
        if (sources == NULL) {
            err = ort_fail(diag, ORT_ENOMEM, "scroll");
            break;
        }
        from = &last;
        after = true;
    }
    free(sources);
    return err;
}

/* --- the rest --------------------------------------------------------------------------------- */

uint32_t
dp_points_slot_end(const dp_points *p)
{
    return atomic_load_explicit(&p->slot_end, memory_order_acquire);
}

const _Atomic(uint64_t) *
dp_points_live_words(const dp_points *p)
{
    return p->live;
}

uint32_t
dp_points_next_live(const dp_points *p, uint32_t slot)
{
    const uint32_t end = dp_points_slot_end(p);
    if (slot >= end) {
        return DP_SLOT_NONE;
    }
    uint64_t word =
        atomic_load_explicit(&p->live[slot / 64], memory_order_acquire) & UINT64_MAX << (slot % 64);
    for (uint32_t i = slot / 64;;) {
        if (word != 0) {
            const uint32_t found = i * 64 + (uint32_t)__builtin_ctzll(word);
            return found < end ? found : DP_SLOT_NONE;
        }
        if (++i > (end - 1) / 64) {
            return DP_SLOT_NONE;
        }
        word = atomic_load_explicit(&p->live[i], memory_order_acquire);
    }
}

uint64_t
dp_points_live_count(const dp_points *p)
{
    return atomic_load(&p->live_count);
}

ort_err
dp_points_rows(const dp_points *p, uint32_t column, dp_column_rows *out)
{
    if (column >= p->layout.count || p->layout.columns[column].type == DP_COLUMN_BYTES) {
        return ORT_EINVAL;
    }
    *out = (dp_column_rows){.chunks = p->rows[p->layout.place[column]],
                            .stride_bytes = p->layout.stride[column],
                            .dim = p->layout.columns[column].dim,
                            .type = p->layout.columns[column].type};
    return ORT_OK;
}

ort_err
dp_points_check_rows(dp_reader *r, uint32_t column, ort_diag *diag)
{
    ort_err err = ORT_OK;
    const dp_segment_list *list = atomic_load_explicit(&r->points->segments, memory_order_acquire);
    for (uint32_t i = 0; err == ORT_OK && i < list->count; i++) {
        err = dp_segment_check_rows(list->items[i], r->points->layout.columns[column].id, diag);
    }
    return err;
}

ort_err
dp_points_check_row(dp_reader *r, uint32_t column, uint32_t slot, ort_diag *diag)
{
    const dp_points *p = r->points;
    const void *row = dp_points_row(r, column, slot);
    const dp_segment *segment = row != NULL ? chunk_of(r, slot)->segment : NULL;
    return segment != NULL ? dp_segment_check_at(segment, row, p->layout.stride[column], diag)
                           : ORT_OK;
}

ort_err
dp_points_check_readable(dp_points *p, ort_diag *diag)
{
    const uint64_t pages = ort_watch_bad_pages();
    uint64_t bad = atomic_load(&p->unreadable_id);
    if (bad == 0 && pages != atomic_load(&p->bad_pages_seen)) {
        dp_reader reader;
        dp_reader_init(&reader, p);
        const dp_segment_list *list = atomic_load_explicit(&p->segments, memory_order_acquire);
        for (uint32_t i = 0; i < list->count; i++) {
            if (!dp_segment_is_readable(list->items[i])) {
                bad = dp_segment_get_ref(list->items[i]).id;
                atomic_store(&p->unreadable_id, bad);
            }
        }
        dp_reader_fini(&reader);
        atomic_store(&p->bad_pages_seen, pages);
    }
    return bad == 0 ? ORT_OK
                    : ort_fail(diag, ORT_EIO, "the disk cannot read all of seg.%016" PRIx64, bad);
}

dp_log_mark
dp_points_mark(const dp_points *p)
{
    dp_points *q = (dp_points *)(uintptr_t)p;
    pthread_mutex_lock(&q->mark_mutex);
    const dp_log_mark mark = p->mark;
    pthread_mutex_unlock(&q->mark_mutex);
    return mark;
}

uint32_t
dp_points_sealed_end(const dp_points *p)
{
    dp_points *q = (dp_points *)(uintptr_t)p;
    pthread_mutex_lock(&q->mark_mutex);
    const uint32_t end = p->sealed_end;
    pthread_mutex_unlock(&q->mark_mutex);
    return end;
}

uint64_t
dp_points_generation(const dp_points *p)
{
    dp_points *q = (dp_points *)(uintptr_t)p;
    pthread_mutex_lock(&q->mark_mutex);
    const uint64_t generation = p->generation;
    pthread_mutex_unlock(&q->mark_mutex);
    return generation;
}

uint64_t
dp_points_logical_bytes(const dp_points *p)
{
    return atomic_load(&p->logical_bytes);
}

void
dp_points_get_stats(const dp_points *p, dp_points_stats *out)
{
    dp_points *q = (dp_points *)(uintptr_t)p;
    dp_reader reader;
    *out = (dp_points_stats){.live = dp_points_live_count(p),
                             .logical_bytes = dp_points_logical_bytes(p)};
    pthread_mutex_lock(&q->mark_mutex);
    out->disk_bytes = p->segment_bytes + p->manifest_bytes;
    out->mapped_bytes = p->segment_bytes;
    out->segments = p->segment_count;
    out->written_bytes = p->written_bytes;
    const uint32_t sealed = p->sealed_end;
    pthread_mutex_unlock(&q->mark_mutex);

    dp_reader_init(&reader, q);
    uint64_t slot_bytes = ORT_POINT_ID_BYTES + 8;
    for (uint32_t i = 0; i < p->layout.count; i++) {
        slot_bytes += p->layout.stride[i];
    }
    slot_bytes += (1u + p->layout.bytes_count) * sizeof(dp_chunk_value);
    const uint32_t end = dp_points_slot_end(p);
    for (uint32_t first = 0; first < end; first += DP_CHUNK_SLOTS) {
        const dp_chunk *chunk = dp_points__chunk(p, first / DP_CHUNK_SLOTS);
        const uint32_t used = end - first < DP_CHUNK_SLOTS ? end - first : DP_CHUNK_SLOTS;
        if (chunk == NULL) {
            continue;
        }
        out->slots += used;
        if (chunk->segment == NULL) {
            out->memory_bytes +=
                used * slot_bytes + __atomic_load_n(&chunk->block_bytes, __ATOMIC_RELAXED);
        }
    }
    dp_reader_fini(&reader);
    out->tail_slots = end > sealed ? end - sealed : 0;
    pthread_rwlock_rdlock(&q->lock);
    out->memory_bytes += dp_id_tree_bytes(p->ids);
    out->memory_bytes += p->frozen != NULL ? dp_id_tree_bytes(p->frozen) : 0;
    pthread_rwlock_unlock(&q->lock);
    out->memory_bytes += (end + 7) / 8;
}
