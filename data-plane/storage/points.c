/* Points: opening, writing, memory. */
#include "storage/points.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mapped.h"
#include "storage/io.h"
#include "storage/log_format.h"
#include "storage/points_internal.h"

/* --- memory that readers hold ------------------------------------------------------------------
 *
 * A reader counts itself under the parity of the epoch it came in. The epoch moves from e to e + 1
 * only when nobody of e - 1 is left, so whoever came in at r keeps it at or below r + 1: what was
 * retired at r is unknown to everybody at r + 2. */

void
dp_points__reclaim(dp_points *p)
{
    if (atomic_load(&p->retired_count) == 0 || pthread_mutex_trylock(&p->retire_mutex) != 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        const uint64_t e = atomic_load(&p->epoch);
        if (atomic_load(&p->readers[(e + 1) % 2]) != 0) {
            break;
        }
        atomic_store(&p->epoch, e + 1);
    }
    const uint64_t now = atomic_load(&p->epoch);
    size_t kept = 0;
    const size_t count = atomic_load(&p->retired_count);
    for (size_t i = 0; i < count; i++) {
        const dp_retired r = p->retired[i];
        if (now >= r.epoch + 2) {
            r.free(r.what);
        } else {
            p->retired[kept++] = r;
        }
    }
    atomic_store(&p->retired_count, kept);
    pthread_mutex_unlock(&p->retire_mutex);
}

/* The mutex is held. */
static bool
retired_grow(dp_points *p, size_t want)
{
    if (want > p->retired_cap) {
        const size_t cap = want < 16 ? 16 : 2 * want;
        dp_retired *more = realloc(p->retired, cap * sizeof *more);
        if (more == NULL) {
            return false;
        }
        p->retired = more;
        p->retired_cap = cap;
    }
    return true;
}

ort_err
dp_points__retire_reserve(dp_points *p, size_t n, ort_diag *diag)
{
    pthread_mutex_lock(&p->retire_mutex);
    const bool room = retired_grow(p, atomic_load(&p->retired_count) + n);
    pthread_mutex_unlock(&p->retire_mutex);
    return room ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "a list of old chunks");
}

void
dp_points__retire(dp_points *p, void (*free_fn)(void *), void *what)
{
    if (what == NULL) {
        return;
    }
    pthread_mutex_lock(&p->retire_mutex);
    const size_t count = atomic_load(&p->retired_count);
    const bool room = retired_grow(p, count + 1);
    (void)room;
    if (count < p->retired_cap) {
        p->retired[count] = (dp_retired){free_fn, what, atomic_load(&p->epoch)};
        atomic_store(&p->retired_count, count + 1);
    } /* else: no memory to remember it by; leaked rather than freed under a reader */
    pthread_mutex_unlock(&p->retire_mutex);
}

void
dp_reader_init(dp_reader *reader, dp_points *points)
{
    memset(reader, 0, sizeof *reader);
    reader->points = points;
    for (;;) {
        reader->epoch = atomic_load(&points->epoch);
        atomic_fetch_add(&points->readers[reader->epoch % 2], 1);
        if (atomic_load(&points->epoch) == reader->epoch) {
            return;
        }
        atomic_fetch_sub(&points->readers[reader->epoch % 2], 1);
    }
}

void
dp_reader_fini(dp_reader *reader)
{
    for (uint32_t i = 0; i < DP_READER_BLOCKS; i++) {
        free(reader->blocks[i].bytes);
    }
    atomic_fetch_sub(&reader->points->readers[reader->epoch % 2], 1);
    dp_points__reclaim(reader->points);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void *
reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at != MAP_FAILED ? at : NULL;
}

static void
unreserve(void *at, size_t bytes)
{
    if (at != NULL) {
        munmap(at, bytes);
    }
}

#define LIVE_BYTES (DP_SLOTS_MAX / 8)
#define CHUNKS_BYTES (DP_CHUNKS_MAX * sizeof(void *))

static void
chunk_free(void *chunk)
{
    dp_chunk_free(chunk);
}

void
dp_points__publish(dp_points *p, uint32_t index, dp_chunk *chunk)
{
    dp_chunk *old = dp_points__chunk(p, index);
    for (uint32_t i = 0; i < p->layout.dense_count; i++) {
        atomic_store_explicit(&p->rows[i][index], chunk->columns[i].rows, memory_order_release);
    }
    atomic_store_explicit(&p->chunks[index], chunk, memory_order_release);
    dp_points__retire(p, chunk_free, old);
}

ort_err
dp_points__owner_reserve(dp_points *p, uint32_t index, ort_diag *diag)
{
    if (index < p->owner_cap) {
        return ORT_OK;
    }
    uint32_t cap = p->owner_cap < 8 ? 8 : p->owner_cap;
    while (cap <= index) {
        cap *= 2;
    }
    dp_owner *more = realloc(p->owner, cap * sizeof *more);
    if (more == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of chunks");
    }
    memset(more + p->owner_cap, 0, (cap - p->owner_cap) * sizeof *more);
    p->owner = more;
    p->owner_cap = cap;
    return ORT_OK;
}

/* Where a segment has a chunk; UINT32_MAX: it has not. */
static uint32_t
index_in_segment(const dp_segment *s, uint32_t chunk)
{
    uint32_t low = 0, high = dp_segment_chunk_count(s);
    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        if (dp_segment_chunk(s, mid) < chunk) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < dp_segment_chunk_count(s) && dp_segment_chunk(s, low) == chunk ? low : UINT32_MAX;
}

static ort_err
adopt_chunk(dp_points *p, const dp_manifest_chunk *c, dp_segment *segment, uint64_t *live_count,
            ort_diag *diag)
{
    const uint32_t index =
        c->place == DP_MANIFEST_PLACE_BY_NUMBER ? index_in_segment(segment, c->chunk) : c->place;
    const uint32_t first = c->chunk * DP_CHUNK_SLOTS;
    const uint32_t slot_end = atomic_load(&p->slot_end);
    const uint32_t want = slot_end - first < DP_CHUNK_SLOTS ? slot_end - first : DP_CHUNK_SLOTS;
    if (index >= dp_segment_chunk_count(segment) || dp_segment_chunk_used(segment, index) != want ||
        dp_segment_chunk_now(segment, index) != UINT32_MAX) {
        return ort_fail(diag, ORT_ECORRUPT, "manifest: chunk %" PRIu32 " is not in its segment",
                        c->chunk);
    }
    dp_chunk *chunk;
    ort_err err = dp_chunk_of_segment(&chunk, &p->layout, segment, index, diag);
    if (err == ORT_OK) {
        err = dp_points__owner_reserve(p, c->chunk, diag);
        if (err != ORT_OK) {
            dp_chunk_free(chunk);
        }
    }
    if (err != ORT_OK) {
        return err;
    }
    dp_segment_set_chunk(segment, index, c->chunk);
    dp_points__publish(p, c->chunk, chunk);
    p->owner[c->chunk] = (dp_owner){.segment = segment, .place = index};
    for (uint32_t i = 0; i < DP_CHUNK_WORDS; i++) {
        uint64_t word = c->live[i];
        if (i * 64 >= want) {
            word = 0;
        } else if (want - i * 64 < 64) {
            word &= (UINT64_C(1) << (want - i * 64)) - 1;
        }
        atomic_store_explicit(&p->live[first / 64 + i], word, memory_order_relaxed);
        *live_count += (uint64_t)__builtin_popcountll(word);
    }
    return ORT_OK;
}

static ort_err
adopt_manifest(dp_points *p, const dp_manifest *m, uint64_t manifest_bytes, ort_diag *diag)
{
    uint64_t live_count = 0;
    ort_err err = ORT_OK;
    dp_segment_list *list =
        calloc(1, sizeof *list + (size_t)m->segment_count * sizeof list->items[0]);
    if (list == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of segments");
    }
    atomic_store(&p->segments, list);
    if (m->generation > 0 && (m->tenant.v != p->tenant.v || m->shard.v != p->shard.v)) {
        return ort_fail(diag, ORT_ECORRUPT,
                        "manifest: it belongs to tenant %016" PRIx64 ", shard %016" PRIx64,
                        m->tenant.v, m->shard.v);
    }
    atomic_store(&p->slot_end, m->slot_end);
    for (uint32_t i = 0; err == ORT_OK && i < m->segment_count; i++) {
        err =
            dp_segment_open(&list->items[i], p->dir_fd, &m->segments[i], p->tenant, p->shard, diag);
        if (err == ORT_OK) {
            dp_segment_forget_chunks(list->items[i]);
            list->count++;
            p->segment_bytes += m->segments[i].file_bytes;
        }
    }
    for (uint32_t i = 0; err == ORT_OK && i < m->chunk_count; i++) {
        err = adopt_chunk(p, &m->chunks[i], list->items[m->chunks[i].segment], &live_count, diag);
    }
    if (err == ORT_OK && live_count != m->live_count) {
        err = ort_fail(diag, ORT_ECORRUPT, "manifest: %" PRIu64 " live slots, and it says %" PRIu64,
                       live_count, m->live_count);
    }
    atomic_store(&p->live_count, live_count);
    atomic_store(&p->logical_bytes, m->logical_bytes);
    p->mark = m->mark;
    p->generation = m->generation;
    p->sealed_end = p->tail_sealed = m->slot_end;
    p->next_segment_id = m->next_segment_id > 0 ? m->next_segment_id : 1;
    p->segment_count = list->count;
    p->manifest_bytes = manifest_bytes;
    return err;
}

ort_err
dp_points__open(dp_points **out, int dir_fd, const dp_points_config *config,
                const dp_manifest *manifest, uint64_t manifest_bytes, ort_diag *diag)
{
    ort_err err = ORT_OK;
    pthread_rwlockattr_t attr;
    dp_points *p = calloc(1, sizeof *p);

    *out = NULL;
    if (p == NULL) {
        ort_fail(diag, ORT_ENOMEM, "points");
        return ORT_ENOMEM;
    }
    pthread_rwlockattr_init(&attr);
    /* A stream of readers must not keep the writer out. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&p->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    pthread_mutex_init(&p->retire_mutex, NULL);
    pthread_mutex_init(&p->mark_mutex, NULL);
    p->tenant = config->tenant;
    p->shard = config->shard;
    p->packing = config->packing;
    err = dp_io_dup(dir_fd, &p->dir_fd, diag);
    if (err == ORT_OK) {
        err = dp_chunk_layout_init(&p->layout, &config->layout, diag);
    }
    if (err != ORT_OK) {
        goto done;
    }
    p->live = reserve(LIVE_BYTES);
    p->chunks = reserve(CHUNKS_BYTES);
    p->rows = calloc(p->layout.dense_count + 1u, sizeof *p->rows);
    if (p->live == NULL || p->chunks == NULL || p->rows == NULL ||
        dp_id_tree_new(&p->ids) != ORT_OK) {
        err = ort_fail(diag, ORT_ENOMEM, "points");
        goto done;
    }
    for (uint32_t i = 0; i < p->layout.dense_count; i++) {
        p->rows[i] = reserve(CHUNKS_BYTES);
        if (p->rows[i] == NULL) {
            err = ort_fail(diag, ORT_ENOMEM, "points");
            goto done;
        }
    }
    atomic_store(&p->bad_pages_seen, ort_watch_bad_pages());
    err = adopt_manifest(p, manifest, manifest_bytes, diag);
done:
    if (err != ORT_OK) {
        dp_points_close(p);
        return err;
    }
    *out = p;
    return ORT_OK;
}

bool
dp_storage_has_name(const char *name)
{
    return strcmp(name, DP_MANIFEST_NAME) == 0 || strcmp(name, DP_MANIFEST_NAME ".new") == 0 ||
           strncmp(name, "seg.", 4) == 0 || strncmp(name, "log.", 4) == 0 ||
           strcmp(name, DP_LOG_PACK_NAME) == 0;
}

/* A file of ours that the manifest does not name? */
static bool
is_leftover(const dp_points *p, const char *name)
{
    uint64_t id;
    if (strcmp(name, DP_MANIFEST_NAME ".new") == 0) {
        return true;
    }
    if (strncmp(name, "seg.", 4) != 0 || ort_id_parse(name + 4, strlen(name + 4), &id) != ORT_OK) {
        return false;
    }
    const dp_segment_list *list = atomic_load(&p->segments);
    for (uint32_t i = 0; i < list->count; i++) {
        if (dp_segment_get_ref(list->items[i]).id == id) {
            return false;
        }
    }
    return true;
}

typedef struct {
    dp_points *points;
    ort_diag *diag;
    ort_err err;
} sweeping;

static int
sweep_one(void *ctx, const char *name)
{
    sweeping *s = ctx;
    if (is_leftover(s->points, name)) {
        s->err = dp_io_unlink(s->points->dir_fd, name, s->diag);
    }
    return s->err != ORT_OK;
}

ort_err
dp_points__sweep(dp_points *p, ort_diag *diag)
{
    sweeping s = {.points = p, .diag = diag};
    int stopped;
    const ort_err err = dp_io_list(p->dir_fd, sweep_one, &s, &stopped, diag);
    return err != ORT_OK ? err : s.err;
}

ort_err
dp_points_open(dp_points **out, int dir_fd, const dp_points_config *config, ort_diag *diag)
{
    dp_manifest manifest;
    uint64_t bytes;
    *out = NULL;
    ort_err err = dp_manifest_read(dir_fd, &manifest, &bytes, diag);
    if (err == ORT_OK || err == ORT_ENOTFOUND) {
        err = dp_points__open(out, dir_fd, config, &manifest, bytes, diag);
    }
    dp_manifest_fini(&manifest);
    if (err == ORT_OK && !config->read_only) {
        err = dp_points__sweep(*out, diag);
        if (err == ORT_OK && dp_points__is_sparse(*out)) {
            err = dp_points_renumber(*out, diag); /* while nobody knows a number */
        }
        if (err != ORT_OK) {
            dp_points_close(*out);
            *out = NULL;
        }
    }
    return err;
}

void
dp_points_set_packing(dp_points *p, dp_packing packing)
{
    p->packing = packing;
}

void
dp_points_close(dp_points *p)
{
    if (p == NULL) {
        return;
    }
    for (size_t i = 0; i < p->retired_count; i++) {
        p->retired[i].free(p->retired[i].what);
    }
    free(p->retired);
    if (p->chunks != NULL) {
        const uint32_t end = (p->slot_end + DP_CHUNK_SLOTS - 1) / DP_CHUNK_SLOTS;
        for (uint32_t i = 0; i < end; i++) {
            dp_chunk_free(dp_points__chunk(p, i));
        }
        /* A put that failed may have left the chunk behind the last. */
        if (end < DP_CHUNKS_MAX) {
            dp_chunk_free(dp_points__chunk(p, end));
        }
    }
    dp_segment_list *list = atomic_load(&p->segments);
    for (uint32_t i = 0; list != NULL && i < list->count; i++) {
        dp_segment_close(list->items[i]);
    }
    free(list);
    dp_id_tree_free(p->ids);
    dp_id_tree_free(p->frozen);
    for (uint32_t i = 0; p->rows != NULL && i < p->layout.dense_count; i++) {
        unreserve((void *)p->rows[i], CHUNKS_BYTES);
    }
    free((void *)p->rows);
    unreserve((void *)p->live, LIVE_BYTES);
    unreserve((void *)p->chunks, CHUNKS_BYTES);
    free(p->owner);
    dp_chunk_layout_fini(&p->layout);
    dp_io_close(p->dir_fd);
    pthread_rwlock_destroy(&p->lock);
    pthread_mutex_destroy(&p->retire_mutex);
    pthread_mutex_destroy(&p->mark_mutex);
    free(p);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Copies what a segment has of the chunk that is to go on growing, also of slots that died since: a
 * checkpoint or an export that began before may still want them. */
static ort_err
thaw(dp_points *p, uint32_t index, uint32_t used, dp_chunk *chunk, ort_diag *diag)
{
    ort_err err = ORT_OK;
    dp_reader reader;
    dp_reader_init(&reader, p);
    for (uint32_t s = 0; err == ORT_OK && s < used; s++) {
        const uint32_t slot = index * DP_CHUNK_SLOTS + s;
        dp_chunk_set(chunk, s, dp_points_id(&reader, slot), dp_points_version(&reader, slot));
        for (uint32_t c = 0; err == ORT_OK && c < p->layout.count; c++) {
            const uint32_t place = p->layout.place[c];
            if (p->layout.columns[c].type != DP_COLUMN_BYTES) {
                const void *row = dp_points_row(&reader, c, slot);
                err = dp_points_check_row(&reader, c, slot, diag);
                if (err == ORT_OK && row != NULL) {
                    memcpy(dp_chunk_row(chunk, place, p->layout.stride[c], s), row,
                           p->layout.stride[c]);
                    dp_chunk_set_present(chunk, place, s, true);
                }
                continue;
            }
            const void *data;
            size_t len;
            err = dp_points_bytes(&reader, c, slot, &data, &len, diag);
            if (err == ORT_OK && data != NULL) {
                dp_chunk_value *v = &chunk->values[(1 + place) * DP_CHUNK_SLOTS + s];
                *v = (dp_chunk_value){.data = dp_chunk_keep(chunk, data, len), .len = len};
                err = v->data == NULL ? ort_fail(diag, ORT_ENOMEM, "a value") : ORT_OK;
            }
        }
        const char *text;
        size_t len;
        if (err == ORT_OK) {
            err = dp_points_payload(&reader, slot, &text, &len, diag);
        }
        if (err == ORT_OK) {
            chunk->values[s] =
                (dp_chunk_value){.data = dp_chunk_keep(chunk, text, len), .len = len};
            err = chunk->values[s].data == NULL ? ort_fail(diag, ORT_ENOMEM, "a value") : ORT_OK;
        }
    }
    dp_reader_fini(&reader);
    return err;
}

/* The chunk in memory that takes the next slot. */
static ort_err
tail_chunk(dp_points *p, dp_chunk **out, ort_diag *diag)
{
    const uint32_t slot = atomic_load_explicit(&p->slot_end, memory_order_relaxed);
    if (slot >= dp_points__slots_max()) {
        ort_fail(diag, ORT_ETOOBIG, "the shard has given out its %u slots", dp_points__slots_max());
        return ORT_ETOOBIG;
    }
    const uint32_t index = slot / DP_CHUNK_SLOTS;
    dp_chunk *chunk = dp_points__chunk(p, index);
    if (chunk != NULL && chunk->segment == NULL) {
        *out = chunk;
        return ORT_OK;
    }
    dp_chunk *fresh = NULL;
    ort_err err = dp_points__retire_reserve(p, 1, diag);
    if (err == ORT_OK) {
        err = dp_chunk_new(&fresh, &p->layout, diag);
    }
    if (err == ORT_OK && chunk != NULL) {
        err = thaw(p, index, slot % DP_CHUNK_SLOTS, fresh, diag);
        if (err == ORT_OK) {
            err = dp_points_check_readable(p, diag);
        }
        if (err != ORT_OK) {
            dp_chunk_free(fresh);
        }
    }
    if (err != ORT_OK) {
        return err;
    }
    pthread_rwlock_wrlock(&p->lock);
    dp_points__publish(p, index, fresh);
    pthread_rwlock_unlock(&p->lock);
    *out = fresh;
    return ORT_OK;
}

static ort_err
check_in(const dp_points *p, const dp_point_in *in, ort_diag *diag)
{
    if (in->payload.len > DP_VALUE_BYTES_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "a payload of %zu bytes, at most %u", in->payload.len,
                        DP_VALUE_BYTES_MAX);
    }
    for (uint32_t i = 0; i < p->layout.count; i++) {
        const dp_value *v = &in->values[i];
        const dp_column *c = &p->layout.columns[i];
        if (v->data == NULL) {
            continue;
        }
        if (c->type == DP_COLUMN_BYTES && v->len > DP_VALUE_BYTES_MAX) {
            return ort_fail(diag, ORT_ETOOBIG, "a value of %zu bytes, at most %u", v->len,
                            DP_VALUE_BYTES_MAX);
        }
        if (c->type != DP_COLUMN_BYTES && v->len != dp_column_row_bytes(c)) {
            return ort_fail(diag, ORT_EINVAL, "a row of %zu bytes in column %" PRIu32 " of %u",
                            v->len, c->id, dp_column_row_bytes(c));
        }
    }
    return ORT_OK;
}

uint64_t
dp_points_in_bytes(const dp_points *p, const dp_point_in *in)
{
    uint64_t bytes = ORT_POINT_ID_BYTES + in->payload.len;
    for (uint32_t i = 0; i < p->layout.count; i++) {
        bytes += in->values[i].data != NULL ? in->values[i].len : 0;
    }
    return bytes;
}

/* Puts the values where slot `offset` of the chunk has them; nobody knows the slot yet. */
static ort_err
fill(dp_points *p, dp_chunk *chunk, uint32_t offset, const dp_point_in *in, ort_diag *diag)
{
    dp_chunk_set(chunk, offset, in->id, in->version);
    for (uint32_t i = 0; i < p->layout.count; i++) {
        const dp_value *v = &in->values[i];
        const uint32_t place = p->layout.place[i];
        if (p->layout.columns[i].type == DP_COLUMN_BYTES) {
            dp_chunk_value *to = &chunk->values[(1 + place) * DP_CHUNK_SLOTS + offset];
            *to = (dp_chunk_value){0};
            if (v->data != NULL) {
                *to =
                    (dp_chunk_value){.data = dp_chunk_keep(chunk, v->data, v->len), .len = v->len};
                if (to->data == NULL) {
                    return ort_fail(diag, ORT_ENOMEM, "a value of %zu bytes", v->len);
                }
            }
            continue;
        }
        /* A put that failed half-way may have been here before. */
        unsigned char *row = dp_chunk_row(chunk, place, p->layout.stride[i], offset);
        if (v->data != NULL) {
            memcpy(row, v->data, v->len);
        } else if (dp_chunk_has(chunk, place, offset)) {
            memset(row, 0, p->layout.stride[i]);
        }
        dp_chunk_set_present(chunk, place, offset, v->data != NULL);
    }
    chunk->values[offset] = (dp_chunk_value){
        .data = dp_chunk_keep(chunk, in->payload.data, in->payload.len), .len = in->payload.len};
    return chunk->values[offset].data != NULL
               ? ORT_OK
               : ort_fail(diag, ORT_ENOMEM, "a payload of %zu bytes", in->payload.len);
}

uint32_t
dp_points__lookup(const dp_points *p, ort_point_id id)
{
    uint32_t slot = dp_id_tree_get(p->ids, id);
    if (dp_points__lives(p, slot)) {
        return slot;
    }
    if (p->frozen != NULL) {
        slot = dp_id_tree_get(p->frozen, id);
        if (dp_points__lives(p, slot)) {
            return slot;
        }
    }
    const dp_segment_list *list = atomic_load_explicit(&p->segments, memory_order_acquire);
    for (uint32_t i = list->count; i-- > 0;) {
        const uint32_t rank = dp_segment_seek(list->items[i], id);
        if (rank < dp_segment_order_count(list->items[i])) {
            const dp_id_slot at = dp_segment_order(list->items[i], rank);
            if (ort_point_id_eq(at.id, id) && dp_points__lives(p, at.slot)) {
                return at.slot;
            }
        }
    }
    return DP_SLOT_NONE;
}

static uint32_t
writer_lookup(dp_points *p, ort_point_id id)
{
    pthread_rwlock_rdlock(&p->lock);
    const uint32_t slot = dp_points__lookup(p, id);
    pthread_rwlock_unlock(&p->lock);
    return slot;
}

static void
set_live(dp_points *p, uint32_t slot)
{
    atomic_fetch_or_explicit(&p->live[slot / 64], UINT64_C(1) << (slot % 64), memory_order_release);
}

static void
clear_live(dp_points *p, uint32_t slot)
{
    atomic_fetch_and_explicit(&p->live[slot / 64], ~(UINT64_C(1) << (slot % 64)),
                              memory_order_release);
}

/* What the slot counts, before it is killed. */
static ort_err
slot_bytes(dp_points *p, uint32_t slot, uint64_t *out, ort_diag *diag)
{
    dp_reader reader;
    dp_reader_init(&reader, p);
    const ort_err err = dp_points_slot_bytes(&reader, slot, out, diag);
    dp_reader_fini(&reader);
    return err;
}

ort_err
dp_points_put(dp_points *p, const dp_point_in *in, uint32_t *slot_out, uint32_t *old_out,
              ort_diag *diag)
{
    dp_chunk *chunk = NULL;
    uint64_t old_bytes = 0;
    ort_err err = check_in(p, in, diag);
    if (err == ORT_OK) {
        err = tail_chunk(p, &chunk, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    const uint32_t slot = atomic_load_explicit(&p->slot_end, memory_order_relaxed);
    err = fill(p, chunk, slot % DP_CHUNK_SLOTS, in, diag);
    if (err != ORT_OK) {
        return err;
    }
    const uint32_t old = writer_lookup(p, in->id);
    if (old != DP_SLOT_NONE) {
        err = slot_bytes(p, old, &old_bytes, diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    err = dp_points_check_readable(p, diag); /* or the id may have a slot that was not seen */
    if (err != ORT_OK) {
        return err;
    }
    pthread_rwlock_wrlock(&p->lock);
    err = dp_id_tree_set(p->ids, in->id, slot);
    if (err == ORT_OK) {
        atomic_store_explicit(&p->slot_end, slot + 1, memory_order_release);
        set_live(p, slot);
        atomic_fetch_add(&p->logical_bytes, dp_points_in_bytes(p, in) - old_bytes);
        if (old != DP_SLOT_NONE) {
            clear_live(p, old);
        } else {
            atomic_fetch_add(&p->live_count, 1);
        }
        atomic_fetch_add(&p->changes, 1);
    }
    pthread_rwlock_unlock(&p->lock);
    if (err != ORT_OK) {
        return ort_fail(diag, err, "the map of ids");
    }
    *slot_out = slot;
    *old_out = old;
    return ORT_OK;
}

ort_err
dp_points_kill(dp_points *p, ort_point_id id, uint32_t *old_out, ort_diag *diag)
{
    const uint32_t old = writer_lookup(p, id);
    uint64_t bytes = 0;
    ort_err err = old != DP_SLOT_NONE ? slot_bytes(p, old, &bytes, diag) : ORT_OK;
    *old_out = DP_SLOT_NONE;
    if (err == ORT_OK) {
        err = dp_points_check_readable(p, diag);
    }
    if (err != ORT_OK || old == DP_SLOT_NONE) {
        return err;
    }
    pthread_rwlock_wrlock(&p->lock);
    clear_live(p, old);
    atomic_fetch_sub(&p->live_count, 1);
    atomic_fetch_sub(&p->logical_bytes, bytes);
    atomic_fetch_add(&p->changes, 1);
    pthread_rwlock_unlock(&p->lock);
    *old_out = old;
    return ORT_OK;
}

/* --- compaction ------------------------------------------------------------------------------- */

static uint32_t
chunk_live(const dp_points *p, uint32_t index)
{
    uint32_t live = 0;
    for (uint32_t i = 0; i < DP_CHUNK_WORDS; i++) {
        live += (uint32_t)__builtin_popcountll(
            atomic_load_explicit(&p->live[index * DP_CHUNK_WORDS + i], memory_order_relaxed));
    }
    return live;
}

/* Puts a point once more, as it is. */
static ort_err
move_point(dp_points *p, uint32_t slot, uint32_t *new_out, ort_diag *diag)
{
    dp_reader reader;
    ort_buf copy = {0};
    size_t payload_len = 0;
    const char *text = NULL;
    dp_value *values = calloc(p->layout.count + 1u, sizeof *values);
    if (values == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "move a point");
    }
    dp_reader_init(&reader, p);
    ort_err err = dp_points_payload(&reader, slot, &text, &payload_len, diag);
    if (err == ORT_OK) {
        ort_buf_put(&copy, text, payload_len);
    }
    /* Bytes are gathered first, since a reader keeps few blocks; pointers are set when the buffer
     * grows no more. */
    for (uint32_t i = 0; err == ORT_OK && i < p->layout.count; i++) {
        if (p->layout.columns[i].type == DP_COLUMN_BYTES) {
            err = dp_points_bytes(&reader, i, slot, &values[i].data, &values[i].len, diag);
            ort_buf_put(&copy, values[i].data, err == ORT_OK ? values[i].len : 0);
        } else {
            err = dp_points_check_row(&reader, i, slot, diag);
            values[i].data = dp_points_row(&reader, i, slot);
            values[i].len = dp_column_row_bytes(&p->layout.columns[i]);
        }
    }
    if (err == ORT_OK && copy.failed) {
        err = ort_fail(diag, ORT_ENOMEM, "move a point");
    }
    if (err == ORT_OK) {
        size_t at = payload_len;
        for (uint32_t i = 0; i < p->layout.count; i++) {
            if (p->layout.columns[i].type == DP_COLUMN_BYTES && values[i].data != NULL) {
                values[i].data = values[i].len > 0 ? (const void *)(copy.data + at) : "";
                at += values[i].len;
            }
        }
        const dp_point_in in = {.id = dp_points_id(&reader, slot),
                                .version = dp_points_version(&reader, slot),
                                .payload = {.data = copy.data, .len = payload_len},
                                .values = values};
        uint32_t old = DP_SLOT_NONE;
        err = dp_points_put(p, &in, new_out, &old, diag);
        assert(err != ORT_OK || old == slot);
    }
    dp_reader_fini(&reader);
    ort_buf_fini(&copy);
    free(values);
    return err;
}

ort_err
dp_points_relocate(dp_points *p, uint32_t max, dp_moved_fn moved, void *ctx, uint32_t *moved_out,
                   ort_diag *diag)
{
    ort_err err = ORT_OK;
    *moved_out = 0;
    const uint32_t full = atomic_load(&p->slot_end) / DP_CHUNK_SLOTS;
    for (uint32_t seen = 0; err == ORT_OK && seen < full && *moved_out < max; seen++) {
        if (p->relocate_chunk >= full) {
            p->relocate_chunk = 0;
        }
        const uint32_t index = p->relocate_chunk;
        const uint32_t live = chunk_live(p, index);
        if (live == 0 || live > DP_CHUNK_SLOTS / 2) {
            p->relocate_chunk++;
            continue;
        }
        uint32_t slot = index * DP_CHUNK_SLOTS;
        while (err == ORT_OK && *moved_out < max) {
            uint32_t fresh = DP_SLOT_NONE;
            slot = dp_points_next_live(p, slot);
            if (slot == DP_SLOT_NONE || slot / DP_CHUNK_SLOTS != index) {
                p->relocate_chunk++;
                break;
            }
            err = move_point(p, slot, &fresh, diag);
            if (err == ORT_OK) {
                (*moved_out)++;
                if (moved != NULL) {
                    moved(ctx, slot, fresh);
                }
            }
        }
    }
    return err;
}
