/* Making a graph of a file: every byte of it is looked at once before the first walk.
 *
 * Nodes and the links above the lowest level are read: a walk's safety hangs on them, they are a
 * twentieth of the file, and what the disk does to them later is of no concern. Links of the lowest
 * level and codes are mapped. A page of those that leaves memory and comes back changed can lead a
 * walk astray but not out of bounds: no walk follows a link beyond the slots that it began with,
 * and codes are only reckoned with. Answers are measured by the rows in any case. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "index/hnsw_file.h"

/* Read ahead of what is looked at: a mapping's own read-ahead is a few hundred KB, and a disk is
 * quick only with more than that under way. */
#define AHEAD_BYTES (UINT64_C(16) << 20)

#define CANCEL_SLOTS 65536u /* looked at between two looks at the caller's wish to stop */

typedef dp_graph_verify verify;

static ort_err
damaged(const char *what, ort_diag *diag)
{
    return ort_fail(diag, ORT_ECORRUPT, "the %s of the graph's file are damaged", what);
}

static bool
is_cancelled(const dp_hnsw_progress *progress)
{
    return progress != NULL &&
           atomic_load_explicit((_Atomic(bool) *)&progress->cancel, memory_order_relaxed);
}

static ort_err
read_sums(verify *v, ort_diag *diag)
{
    const dp_graph_place *at = &v->file->head.at[DP_GRAPH_SUMS];
    size_t bytes = (size_t)dp_graph_padded(at->bytes); /* the file has them: its length fits */
    ort_err err;

    v->sums = malloc(bytes + 1);
    if (v->sums == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    err = ort_pread_full(v->file->fd, v->sums, bytes, at->offset, diag);
    if (err == ORT_OK && ort_crc32c(0, v->sums, bytes) != v->file->head.sums_crc) {
        err = damaged("checksums", diag);
    }
    return err;
}

/* A running checksum over the groups of one section. */
typedef struct {
    const uint32_t *want;
    uint32_t crc;
    uint32_t fill;
    bool wrong;
} summing;

static void
sum_bytes(summing *s, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        size_t part = DP_GRAPH_GROUP - s->fill < n ? DP_GRAPH_GROUP - s->fill : n;

        s->crc = ort_crc32c(s->crc, bytes, part);
        s->fill += (uint32_t)part;
        if (s->fill == DP_GRAPH_GROUP) {
            s->wrong = s->wrong || s->crc != *s->want++;
            s->crc = 0;
            s->fill = 0;
        }
        bytes += part;
        n -= part;
    }
}

static bool
sum_end(const summing *s)
{
    return !s->wrong && (s->fill == 0 || s->crc == *s->want);
}

static bool
is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Bytes of a section's chunk, with the zeros up to a page behind the last element. */
static size_t
part_bytes(const dp_slab *slab, uint32_t count, unsigned chunk)
{
    uint32_t begin = dp_slab_chunk_begin(chunk);
    uint32_t n =
        count - begin < dp_slab_chunk_count(chunk) ? count - begin : dp_slab_chunk_count(chunk);

    return (size_t)dp_graph_padded((uint64_t)n * slab->stride_bytes);
}

static ort_err
read_slab(const verify *v, dp_slab *slab, const dp_graph_place *at, uint32_t count, ort_diag *diag)
{
    uint64_t from = at->offset;

    if (count > 0 && dp_slab_reserve(slab, count - 1) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        size_t bytes = part_bytes(slab, count, c);
        ort_err err = ort_pread_full(v->file->fd, dp_slab_at(slab, dp_slab_chunk_begin(c)), bytes,
                                     from, diag);

        if (err != ORT_OK) {
            return err;
        }
        from += bytes;
    }
    return ORT_OK;
}

static ort_err
map_slab(const verify *v, dp_slab *slab, const dp_graph_place *at, uint32_t count, ort_diag *diag)
{
    ort_err err = dp_slab_map(slab, v->file->fd, at->offset, count, diag);

    if (err == ORT_ENOTIMPL) {
        return read_slab(v, slab, at, count, diag);
    }
    if (err == ORT_OK) {
        dp_slab_advise(slab, MADV_SEQUENTIAL);
    }
    return err;
}

/* A wish: a file in memory costs a look at the page cache. */
static void
read_ahead(const verify *v, uint64_t from, uint64_t bytes)
{
    (void)posix_fadvise(v->file->fd, (off_t)from, (off_t)bytes, POSIX_FADV_WILLNEED);
}

static ort_err
check_sums(const verify *v, const dp_slab *slab, const dp_graph_place *at, uint32_t count,
           const char *what, ort_diag *diag)
{
    summing s = {.want = v->sums + at->first};
    uint64_t from = at->offset;

    for (unsigned c = 0; c < DP_SLAB_CHUNKS && dp_slab_chunk_begin(c) < count; c++) {
        const unsigned char *bytes = dp_slab_at(slab, dp_slab_chunk_begin(c));
        size_t n = part_bytes(slab, count, c);
        uint32_t left = count - dp_slab_chunk_begin(c);
        size_t used = (size_t)left * slab->stride_bytes;

        for (size_t done = 0; done < n; done += DP_GRAPH_GROUP) {
            read_ahead(v, from + done + AHEAD_BYTES, DP_GRAPH_GROUP); /* or of the next section */
            sum_bytes(&s, bytes + done, n - done < DP_GRAPH_GROUP ? n - done : DP_GRAPH_GROUP);
            if (is_cancelled(v->progress)) {
                return ort_fail(diag, ORT_EBUSY, "the check of a graph was cancelled");
            }
        }
        if (used < n && !is_zero(bytes + used, n - used)) {
            return damaged(what, diag);
        }
        from += n;
    }
    return sum_end(&s) ? ORT_OK : damaged(what, diag);
}

bool
dp_hnsw__node_is_sound(const dp_hnsw *graph, uint32_t slot, const dp_node *node,
                       uint32_t upper_count)
{
    uint8_t state = atomic_load_explicit((_Atomic(uint8_t) *)&node->state, memory_order_relaxed);
    uint32_t level;

    if ((state != DP_NODE_EMPTY && state != DP_NODE_LIVE) || node->placed > 1 ||
        atomic_load_explicit((_Atomic(uint8_t) *)&node->lock, memory_order_relaxed) != 0) {
        return false;
    }
    if (state == DP_NODE_EMPTY && node->placed == 0) {
        return true; /* what else it says is written before it is read */
    }
    level = dp_hnsw__level(graph, slot);
    return node->level == level && (node->placed == 0 ? level == 0
                                                      : level > 0 && upper_count >= level &&
                                                            node->upper <= upper_count - level);
}

static ort_err
check_nodes(const verify *v, ort_diag *diag)
{
    const dp_graph_head *h = &v->file->head;
    uint32_t live = 0;

    for (uint32_t slot = 0; slot < h->slots; slot++) {
        if (!dp_hnsw__node_is_sound(v->graph, slot, dp_hnsw__node(v->graph, slot),
                                    h->upper_count)) {
            return damaged("nodes", diag);
        }
        live += dp_hnsw__state(v->graph, slot) == DP_NODE_LIVE;
    }
    return live == h->live ? ORT_OK : damaged("nodes", diag);
}

/* Which slots may be linked to, a bit each: a million are 125 KB, which the walk over all links
 * below finds in its caches. */
static uint64_t *
live_bits(const dp_hnsw *graph, uint32_t slots)
{
    uint64_t *bits = calloc((size_t)slots / 64 + 1, sizeof *bits);

    for (uint32_t slot = 0; bits != NULL && slot < slots; slot++) {
        bits[slot / 64] |= (uint64_t)(dp_hnsw__state(graph, slot) == DP_NODE_LIVE) << (slot % 64);
    }
    return bits;
}

/* Links lead to live nodes of their level, and behind the end there are only ends. */
static bool
list_is_sound(const dp_hnsw *graph, const uint64_t *live, uint32_t slots, uint32_t slot,
              uint32_t level)
{
    const dp_link *list = dp_hnsw__links(graph, slot, level);
    uint32_t capacity = dp_hnsw__capacity(graph, level);
    uint32_t ended = 0;

    for (uint32_t i = 0; i < capacity; i++) {
        uint32_t link = atomic_load_explicit((dp_link *)&list[i], memory_order_relaxed);

        ended |= link == 0;
        if (link == 0) {
            continue;
        }
        link--;
        if (ended != 0 || link >= slots || ((live[link / 64] >> (link % 64)) & 1) == 0 ||
            (level > 0 && dp_hnsw__node(graph, link)->level < level)) {
            return false;
        }
    }
    return true;
}

static bool
entry_is_sound(const dp_hnsw *graph, uint32_t slots, uint64_t entry)
{
    uint32_t slot = (uint32_t)entry - 1;

    if (entry == 0) {
        return true;
    }
    return (uint32_t)entry != 0 && slot < slots && dp_hnsw__state(graph, slot) == DP_NODE_LIVE &&
           dp_hnsw__node(graph, slot)->level == entry >> 32;
}

ort_err
dp_hnsw__check_links(const dp_hnsw *graph, uint32_t slots, uint64_t entry,
                     dp_hnsw_progress *progress, ort_diag *diag)
{
    uint64_t *live = live_bits(graph, slots);
    bool sound = entry_is_sound(graph, slots, entry);
    bool cancelled = false;

    if (live == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    for (uint32_t slot = 0; slot < slots && sound && !cancelled; slot++) {
        const dp_node *node = dp_hnsw__node(graph, slot);
        uint32_t top = node->placed ? node->level : 0;

        for (uint32_t level = 0; level <= top && sound; level++) {
            sound = list_is_sound(graph, live, slots, slot, level);
        }
        cancelled = slot % CANCEL_SLOTS == 0 && is_cancelled(progress);
    }
    free(live);
    if (cancelled) {
        return ort_fail(diag, ORT_EBUSY, "the check of a graph was cancelled");
    }
    return sound ? ORT_OK : damaged("links", diag);
}

ort_err
dp_graph_read_slab(const verify *v, dp_slab *slab, const dp_graph_place *at, uint32_t count,
                   const char *what, ort_diag *diag)
{
    ort_err err = read_slab(v, slab, at, count, diag);

    return err == ORT_OK ? check_sums(v, slab, at, count, what, diag) : err;
}

ort_err
dp_graph_read_bytes(const verify *v, unsigned char **out, const dp_graph_place *at,
                    const char *what, ort_diag *diag)
{
    size_t bytes = (size_t)dp_graph_padded(at->bytes); /* the file has them: its length fits */
    summing s = {.want = v->sums + at->first};
    unsigned char *read = malloc(bytes + 1);
    ort_err err;

    *out = NULL;
    if (read == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    err = ort_pread_full(v->file->fd, read, bytes, at->offset, diag);
    if (err == ORT_OK) {
        sum_bytes(&s, read, bytes);
        if (!sum_end(&s) || !is_zero(read + at->bytes, bytes - (size_t)at->bytes)) {
            err = damaged(what, diag);
        }
    }
    if (err != ORT_OK) {
        free(read);
        return err;
    }
    *out = read;
    return ORT_OK;
}

/* In the place of the set that the graph began with; takes it. */
static ort_err
take_set(dp_hnsw *graph, dp_code_set *set, uint32_t row_bytes, ort_diag *diag)
{
    const dp_code kind = dp_coder_kind(set->coder);

    if (set->rows.stride_bytes != row_bytes) {
        dp_code_set_free(set);
        return damaged("model's bytes", diag);
    }
    dp_code_set_free(dp_hnsw__set(graph));
    dp_hnsw__publish_set(graph, set);
    /* Codes that were asked for are still to be trained, unless these are they; the links serve
     * any. */
    if (graph->code == DP_CODE_AUTO ||
        (kind == graph->code &&
         dp_code_options_equal(kind, dp_coder_options(set->coder), graph->coding))) {
        atomic_store_explicit(&graph->tuned_at, set->tuned_at, memory_order_relaxed);
    }
    return ORT_OK;
}

/* The model's own bytes, then the set that it describes. */
static ort_err
take_model(const verify *v, ort_diag *diag)
{
    const dp_graph_head *h = &v->file->head;
    const dp_graph_place *at = &h->at[DP_GRAPH_MODEL];
    unsigned char *model;
    dp_code_set *set = NULL;
    ort_err err = dp_graph_read_bytes(v, &model, at, "model's bytes", diag);

    if (err == ORT_OK) {
        err = dp_code_set_open(&set, model, (size_t)at->bytes, v->graph->metric,
                               v->graph->rows->dim, diag);
    }
    free(model);
    if (err != ORT_OK) {
        return err;
    }
    return take_set(v->graph, set, h->row_bytes, diag);
}

static ort_err
take_codes(const verify *v, ort_diag *diag)
{
    const dp_graph_head *h = &v->file->head;
    const dp_graph_place *at = &h->at[DP_GRAPH_CODES];
    dp_code_set *set;
    ort_err err = take_model(v, diag);

    if (err != ORT_OK) {
        return err;
    }
    set = dp_hnsw__set(v->graph);
    atomic_store_explicit(&set->inexact, h->inexact, memory_order_relaxed);
    err = map_slab(v, &set->rows, at, h->slots, diag);
    return err == ORT_OK ? check_sums(v, &set->rows, at, h->slots, "codes", diag) : err;
}

static ort_err
take_nodes(const verify *v, ort_diag *diag)
{
    dp_hnsw *graph = v->graph;
    const dp_graph_head *h = &v->file->head;
    const dp_graph_place *nodes = &h->at[DP_GRAPH_NODES];
    const dp_graph_place *upper = &h->at[DP_GRAPH_UPPER];
    ort_err err = read_slab(v, &graph->nodes, nodes, h->slots, diag);

    if (err == ORT_OK) {
        err = check_sums(v, &graph->nodes, nodes, h->slots, "nodes", diag);
    }
    if (err == ORT_OK) {
        err = check_nodes(v, diag);
    }
    if (err == ORT_OK) {
        err = read_slab(v, &graph->upper, upper, h->upper_count, diag);
    }
    return err == ORT_OK ? check_sums(v, &graph->upper, upper, h->upper_count, "upper links", diag)
                         : err;
}

static ort_err
take_links(const verify *v, ort_diag *diag)
{
    dp_hnsw *graph = v->graph;
    const dp_graph_head *h = &v->file->head;
    const dp_graph_place *at = &h->at[DP_GRAPH_LINKS];
    ort_err err;

    if (graph->unlinked) { /* an entry would be one to nowhere */
        return h->entry == 0 ? ORT_OK : damaged("links", diag);
    }
    err = map_slab(v, &graph->links, at, h->slots, diag);
    if (err == ORT_OK) {
        err = check_sums(v, &graph->links, at, h->slots, "links", diag);
    }
    if (err == ORT_OK && h->entry == 0 && h->live != 0) {
        err = damaged("links", diag);
    }
    return err == ORT_OK ? dp_hnsw__check_links(graph, h->slots, h->entry, v->progress, diag) : err;
}

void
dp_hnsw__adopt(dp_hnsw *graph, uint64_t entry, uint32_t live, uint32_t upper_count,
               const float *stop)
{
    atomic_store_explicit(&graph->upper_count, upper_count, memory_order_relaxed);
    atomic_store_explicit(&graph->live, live, memory_order_relaxed);
    for (int i = 0; i < DP_STOP_STEPS; i++) {
        atomic_store_explicit(&graph->stop[i], stop[i], memory_order_relaxed);
    }
    /* The widest reach is 0 only where nothing was learnt. */
    atomic_store_explicit(&graph->stop_learnt_at, stop[DP_STOP_STEPS - 1] > 0.0F ? live : 0,
                          memory_order_release);
    atomic_store_explicit(&graph->entry, entry, memory_order_release);
}

/* How the pages are used from now on. */
static void
advise(const dp_hnsw *graph)
{
    const dp_code_set *set = dp_hnsw__set(graph);

    dp_slab_advise(&graph->links, graph->links_on_disk ? MADV_RANDOM : MADV_NORMAL);
    if (set != NULL) {
        dp_slab_advise(&set->rows, MADV_NORMAL);
    }
}

ort_err
dp_hnsw_verify(dp_hnsw *graph, dp_hnsw_progress *progress, ort_diag *diag)
{
    verify v = {.graph = graph, .file = graph->file, .progress = progress};
    const dp_graph_head *h;
    ort_err err;

    if (graph->file == NULL) {
        return ORT_OK;
    }
    h = &graph->file->head;
    read_ahead(&v, h->at[DP_GRAPH_NODES].offset,
               h->at[DP_GRAPH_NODES].bytes + h->at[DP_GRAPH_UPPER].bytes + AHEAD_BYTES);
    err = read_sums(&v, diag);
    if (err == ORT_OK) {
        err = take_nodes(&v, diag);
    }
    if (err == ORT_OK) {
        err = take_links(&v, diag);
    }
    if (err == ORT_OK && h->row_bytes != 0) {
        err = take_codes(&v, diag);
    }
    if (err == ORT_OK) {
        err = dp_hnsw__take_values(&v, diag);
    }
    free(v.sums);
    if (err == ORT_OK && h->slots > 0) {
        err = dp_hnsw__reserve(graph, h->slots - 1);
    }
    if (err != ORT_OK) {
        return err;
    }
    dp_hnsw__adopt(graph, h->entry, h->live, h->upper_count, h->stop);
    advise(graph);
    dp_graph_file_close(graph->file);
    graph->file = NULL;
    return ORT_OK;
}

uint64_t
dp_hnsw_file_bytes(const dp_hnsw *graph)
{
    return graph->file != NULL ? graph->file->head.end : 0;
}

/* --- into memory --------------------------------------------------------------------------------
 */

bool
dp_hnsw__is_bad(const dp_hnsw *graph, const dp_code_set *set)
{
    return ort_watch_bad_pages() != 0 &&
           (dp_slab_is_bad(&graph->links) || (set != NULL && dp_slab_is_bad(&set->rows)));
}

bool
dp_hnsw_is_bad(const dp_hnsw *graph)
{
    return dp_hnsw__is_bad(graph, dp_hnsw__set(graph));
}

/* Searches go on, in the mapping or in the copy; who writes waits for one chunk at most. */
static ort_err
settle(dp_hnsw *graph, dp_slab *slab, unsigned chunk)
{
    uint32_t used;
    dp_slab fresh;
    ort_err err;

    dp_slab_init(&fresh, slab->stride_bytes);
    pthread_rwlock_wrlock(&graph->gate);
    used = atomic_load_explicit(&graph->slot_used, memory_order_relaxed);
    err = dp_slab_copy(slab, &fresh, chunk, used);
    if (err == ORT_OK && dp_hnsw_is_bad(graph)) {
        err = ORT_EIO; /* zeros in the place of a page must not pass for what was there */
    }
    if (err == ORT_OK) {
        dp_slab_exchange(slab, &fresh, chunk);
    }
    pthread_rwlock_unlock(&graph->gate);
    dp_scratch_drain(graph);
    dp_slab_fini(&fresh);
    return err;
}

static ort_err
settle_all(dp_hnsw *graph, dp_hnsw_progress *progress)
{
    dp_code_set *set = dp_hnsw__set(graph);
    dp_slab *slabs[2] = {set != NULL ? &set->rows : NULL,
                         dp_hnsw__keeps_links_mapped(graph) ? NULL : &graph->links};

    for (int i = 0; i < 2; i++) {
        for (unsigned c = 0; slabs[i] != NULL && c < DP_SLAB_CHUNKS; c++) {
            ort_err err = dp_slab_is_mapped(slabs[i], c) ? settle(graph, slabs[i], c) : ORT_OK;

            if (err != ORT_OK) {
                return err;
            }
            if (is_cancelled(progress)) {
                return ORT_EBUSY;
            }
        }
    }
    return ORT_OK;
}

ort_err
dp_hnsw_settle(dp_hnsw *graph, dp_hnsw_progress *progress)
{
    bool idle = false;
    ort_err err;

    /* Else the codes could be replaced meanwhile. */
    if (!atomic_compare_exchange_strong(&graph->tuning, &idle, true)) {
        return ORT_EBUSY;
    }
    err = settle_all(graph, progress);
    atomic_store(&graph->tuning, false);
    return err;
}
