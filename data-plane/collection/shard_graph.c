/* The graphs of a shard: found again, built, saved. Only maintenance calls what is here, and who
 * opens or closes the shard.
 *
 *   file --open--> opened --adopt--> graph --settle--> graph in memory
 *                     |                ^
 *                     +--(damaged)--> none --(wanted)--> made, built slice by slice
 *
 * Until a graph is adopted, all rows are scanned: a file is not asked before every byte of it was
 * looked at. What dies meanwhile is noted as for a graph in use. Where there are so many rows that
 * looking through the file takes less than scanning them, a search waits for it, or does it. */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "collection/links_internal.h"

#define SLICE_SLOTS 1024u
#define BUILD_SLICES 8u /* at once, when several threads work: long enough to keep them busy */

/* Rows that are scanned in a few hundredths of a second, from a cold disk too: no search waits. */
#if ORT_CHECK /* or no test would wait */
#define SCAN_SOONER_BYTES (UINT64_C(256) << 10)
#else
#define SCAN_SOONER_BYTES (UINT64_C(16) << 20)
#endif

static const ort_log log_ = {.module = "collection"};

static dp_hnsw_config
graph_config(const dp_shard *s, uint32_t column)
{
    const dp_vector_schema *v = dp_schema_peek_vector(s->kept, column);
    /* Bytes are their own codes, but on disk a walk must not go looking for them. The seed is the
     * collection's, so that a rebuild gives the graph it gave before. */
    const bool copied = v->code == DP_CODE_AUTO && v->on_disk && v->elem == DP_ELEM_U8 &&
                        v->metric == DP_METRIC_EUCLID;
    return (dp_hnsw_config){.metric = v->metric,
                            .m = v->hnsw.m,
                            .unlinked = v->hnsw.m == 0,
                            .ef_construct = v->hnsw.ef_construct,
                            .code = copied ? DP_CODE_INT8 : v->code,
                            .coding = v->coding,
                            .seed = s->collection.v ^ column,
                            .links_on_disk = v->hnsw.on_disk};
}

static void
set_graph(dp_shard *s, uint32_t column, dp_hnsw *graph, uint32_t indexed_end)
{
    dp_derived *d = &s->derived[column];
    pthread_rwlock_wrlock(&s->view);
    atomic_store_explicit(&d->indexed_end, indexed_end, memory_order_release);
    d->graph = graph;
    pthread_rwlock_unlock(&s->view);
}

static void
make_graph(dp_shard *s, uint32_t column)
{
    dp_hnsw *graph;
    ort_diag diag;
    const dp_hnsw_config config = graph_config(s, column);
    if (dp_hnsw_new(&graph, &s->derived[column].rows, &config, &diag) != ORT_OK) {
        ORT_LOG_WARN(&log_, "graph.failed", "collection=%016" PRIx64 " column=%u err=%s",
                     s->collection.v, column, diag.text);
        atomic_store(&s->graph_retry_ns, ort_mono_ns() + DP_RETRY_NS);
        return;
    }
    set_graph(s, column, graph, 0);
}

/* Inserts up to SLICE_SLOTS slots of the tail. */
static void
insert_slice(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    const uint32_t end = atomic_load_explicit(&s->slot_end, memory_order_acquire);
    uint32_t slot = atomic_load_explicit(&d->indexed_end, memory_order_relaxed);
    const uint32_t stop = end - slot > SLICE_SLOTS ? slot + SLICE_SLOTS : end;
    dp_reader reader;
    dp_reader_init(&reader, s->points);
    for (; slot < stop && !atomic_load_explicit(&s->stop, memory_order_relaxed); slot++) {
        if (dp_points_is_live(s->points, slot) && dp_points_has(&reader, column, slot)) {
            const ort_err err = dp_hnsw_insert(d->graph, slot);
            if (err != ORT_OK && err != ORT_EEXISTS) {
                /* No memory now: the slot stays in the tail, which is scanned. */
                atomic_store(&s->graph_retry_ns, ort_mono_ns() + DP_RETRY_NS);
                break;
            }
            d->graph_dirty = true;
        }
        atomic_store_explicit(&d->indexed_end, slot + 1, memory_order_release);
    }
    dp_reader_fini(&reader);
}

/* A large tail at once, by several threads, with searches going first; only where every live point
 * has the vector. What a cancelled build inserted stays, and is passed over the next time. */
static bool
build_at_once(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    const uint32_t begin = atomic_load_explicit(&d->indexed_end, memory_order_relaxed);
    const uint32_t end = atomic_load_explicit(&s->slot_end, memory_order_acquire);
    if (end - begin < 4 * SLICE_SLOTS) {
        return false;
    }
    pthread_rwlock_rdlock(&s->view);
    const bool all = d->live_count == dp_points_live_count(s->points);
    pthread_rwlock_unlock(&s->view);
    if (!all) {
        return false;
    }
    const uint32_t most = (s->build_threads > 1 ? BUILD_SLICES : 1) * SLICE_SLOTS;
    const uint32_t stop = end - begin > most ? begin + most : end;
    const dp_slot_set live = {.words = dp_points_live_words(s->points), .slot_end = stop};
    dp_reader reader;
    dp_reader_init(&reader, s->points);
    const ort_err err =
        dp_hnsw_build(d->graph, begin, stop, &live, s->build_threads, &s->building, NULL);
    dp_reader_fini(&reader);
    if (err == ORT_OK) {
        d->graph_dirty = true;
        atomic_store_explicit(&d->indexed_end, stop, memory_order_release);
    }
    return err == ORT_OK;
}

/* Its file is left where it is: the next save replaces it. */
static void
drop_graph(dp_shard *s, uint32_t column)
{
    dp_hnsw *graph = s->derived[column].graph;
    set_graph(s, column, NULL, 0); /* waits for searches */
    dp_hnsw_free(graph);
}

void
dp_shard__ask_codes(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    const dp_vector_schema *v = dp_schema_peek_vector(s->kept, column);
    ort_diag diag;
    /* The schema checked it: an error would be one of ours. */
    if (d->graph != NULL && dp_hnsw_ask_codes(d->graph, v->code, v->coding, &diag) != ORT_OK) {
        ORT_LOG_WARN(&log_, "graph.codes", "collection=%016" PRIx64 " column=%u err=%s",
                     s->collection.v, column, diag.text);
    }
}

/* Once the tail is short: has the codes trained that the schema asks for by now, or chosen anew. */
static void
tend_codes(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    ort_diag diag;
    dp_shard__ask_codes(s, column);
    if (!dp_hnsw_wants_tune(d->graph) || ort_mono_ns() < atomic_load(&s->graph_retry_ns)) {
        return;
    }
    dp_reader reader;
    dp_reader_init(&reader, s->points);
    const ort_err err = dp_hnsw_tune(d->graph, &s->building, &diag);
    dp_reader_fini(&reader);
    if (err == ORT_OK) {
        d->graph_dirty = true;
        return;
    }
    atomic_store(&s->graph_retry_ns, ort_mono_ns() + DP_RETRY_NS);
    if (err != ORT_EBUSY) {
        ORT_LOG_WARN(&log_, "graph.codes", "collection=%016" PRIx64 " column=%u err=%s",
                     s->collection.v, column, diag.text);
    }
}

bool
dp_shard__wants_codes(dp_shard *s)
{
    bool wants = false;
    pthread_rwlock_rdlock(&s->view);
    for (uint32_t c = 0; c < s->derived_count; c++) {
        wants = wants || (s->derived[c].graph != NULL && dp_hnsw_wants_tune(s->derived[c].graph));
    }
    pthread_rwlock_unlock(&s->view);
    return wants;
}

/* The schema has come to want links among all points, or none, since it was begun. */
static bool
is_of_other_links(dp_shard *s, uint32_t column)
{
    return !dp_shard__is_graphed(s->kept, column) ||
           dp_hnsw_is_unlinked(s->derived[column].graph) !=
               (dp_schema_peek_vector(s->kept, column)->hnsw.m == 0);
}

void
dp_shard__tend_graph(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    if (d->graph != NULL && dp_hnsw_is_bad(d->graph)) {
        ORT_LOG_WARN(&log_, "graph.unreadable",
                     "tenant=%016" PRIx64 " collection=%016" PRIx64 " column=%u", s->tenant.v,
                     s->collection.v, column);
        drop_graph(s, column);
    } else if (d->graph != NULL && is_of_other_links(s, column)) {
        drop_graph(s, column);
    }
    if (d->graph == NULL) {
        pthread_rwlock_rdlock(&s->view);
        const bool wanted = dp_shard__wants_graph(s, column);
        pthread_rwlock_unlock(&s->view);
        if (!wanted) {
            return;
        }
        make_graph(s, column);
    }
    uint32_t untold = 0;
    if (d->graph != NULL) {
        if (!build_at_once(s, column)) {
            insert_slice(s, column);
        }
        dp_links__declare(s, column);
        untold = dp_links__tend(s, column);
    }
    if (d->graph != NULL && untold < SLICE_SLOTS &&
        atomic_load_explicit(&s->slot_end, memory_order_acquire) - atomic_load(&d->indexed_end) <
            SLICE_SLOTS) {
        tend_codes(s, column);
    }
    if (d->graph != NULL && dp_hnsw_wants_repair(d->graph)) {
        dp_reader reader;
        dp_reader_init(&reader, s->points);
        const ort_err err = dp_hnsw_repair(d->graph);
        dp_reader_fini(&reader);
        if (err == ORT_OK) {
            d->graph_dirty = true;
        }
    }
}

static void
graph_file(uint32_t column, char out[32])
{
    snprintf(out, 32, "vector-%u.hnsw", column);
}

/* What a saved graph belongs to. Slots are numbered by the checkpoint: a graph of another one is of
 * no use. */
static dp_hnsw_stamp
stamp_of(const dp_shard *s)
{
    return (dp_hnsw_stamp){.owner = {s->tenant.v, s->collection.v},
                           .lsn = dp_points_generation(s->points)};
}

void
dp_shard__save_graphs(dp_shard *s)
{
    for (uint32_t c = 0; c < s->derived_count; c++) {
        dp_derived *d = &s->derived[c];
        ort_diag diag;
        char name[32];
        graph_file(c, name);
        if (d->graph == NULL) {
            continue;
        }
        if (s->index_dir < 0 && s->make_index_dir != NULL) {
            s->index_dir = s->make_index_dir(s->index_arg);
        }
        if (s->index_dir < 0) {
            return;
        }
        const dp_hnsw_stamp stamp = stamp_of(s);
        dp_reader reader; /* saving repairs, and that reads rows */
        dp_reader_init(&reader, s->points);
        const ort_err err = dp_hnsw_save(d->graph, s->index_dir, name, &stamp, &diag);
        dp_reader_fini(&reader);
        if (err != ORT_OK) {
            ORT_LOG_WARN(&log_, "graph.save", "collection=%016" PRIx64 " column=%u err=%s",
                         s->collection.v, c, diag.text);
        } else {
            d->graph_dirty = false;
        }
    }
}

/* The first live slot that the graph lacks. */
static uint32_t
first_missing(dp_shard *s, uint32_t column, const dp_hnsw *graph, uint32_t end)
{
    dp_reader reader;
    dp_reader_init(&reader, s->points);
    uint32_t slot = dp_points_next_live(s->points, 0);
    while (slot < end && (dp_hnsw_has(graph, slot) || !dp_points_has(&reader, column, slot))) {
        slot = dp_points_next_live(s->points, slot + 1);
    }
    dp_reader_fini(&reader);
    return slot < end ? slot : end;
}

void
dp_shard__open_graphs(dp_shard *s)
{
    for (uint32_t c = 0; s->index_dir >= 0 && c < s->derived_count; c++) {
        dp_hnsw_stamp stamp = stamp_of(s);
        const uint64_t generation = stamp.lsn;
        const dp_hnsw_config config = graph_config(s, c);
        dp_hnsw *graph;
        ort_diag diag;
        char name[32];
        if (!s->derived[c].has_rows || !dp_shard__is_graphed(s->kept, c)) {
            continue;
        }
        graph_file(c, name);
        const ort_err err =
            dp_hnsw_open(&graph, &s->derived[c].rows, &config, s->index_dir, name, &stamp, &diag);
        if (err == ORT_OK && stamp.lsn == generation) {
            dp_derived *d = &s->derived[c];
            const uint64_t row_bytes = d->live_count * d->rows.stride_bytes;
            d->opened = graph;
            d->opened_end = dp_points_sealed_end(s->points);
            d->awaited = row_bytes > SCAN_SOONER_BYTES && dp_hnsw_file_bytes(graph) < row_bytes;
            atomic_fetch_add(&s->unread, d->awaited);
            continue;
        }
        if (err == ORT_OK) {
            dp_hnsw_free(graph);
        } else if (err != ORT_ENOTFOUND) {
            ORT_LOG_WARN(&log_, "graph.rebuild", "collection=%016" PRIx64 " column=%u err=%s",
                         s->collection.v, c, diag.text);
        }
    }
    if (s->workers == NULL) {
        dp_shard__adopt_graphs(s, NULL);
    }
}

void
dp_shard__note_read(dp_shard *s, dp_derived *d)
{
    if (d->awaited) {
        d->awaited = false;
        pthread_mutex_lock(&s->upkeep);
        atomic_fetch_sub(&s->unread, 1);
        pthread_cond_broadcast(&s->upkeep_changed);
        pthread_mutex_unlock(&s->upkeep);
    }
}

void
dp_shard__await_graphs(dp_shard *s)
{
    if (atomic_load_explicit(&s->unread, memory_order_relaxed) == 0) {
        return;
    }
    if (pthread_mutex_trylock(&s->maintaining) == 0) { /* nobody has come to it yet */
        dp_shard__adopt_graphs(s, &s->building);
        pthread_mutex_unlock(&s->maintaining);
        return;
    }
    /* Whoever holds it looked, or looks, through them before anything else. */
    pthread_mutex_lock(&s->upkeep);
    while (atomic_load(&s->unread) > 0 && !atomic_load(&s->stop)) {
        pthread_cond_wait(&s->upkeep_changed, &s->upkeep);
    }
    pthread_mutex_unlock(&s->upkeep);
}

/* Looks through one file; true unless it was called off. */
static bool
adopt_graph(dp_shard *s, uint32_t column, dp_hnsw_progress *progress)
{
    dp_derived *d = &s->derived[column];
    dp_hnsw *graph = d->opened;
    ort_diag diag;
    const ort_err err = dp_hnsw_verify(graph, progress, &diag);
    const uint32_t indexed_end = err == ORT_OK ? first_missing(s, column, graph, d->opened_end) : 0;
    if (err == ORT_OK) {
        dp_links__forget_from(graph, indexed_end);
    }
    if (err != ORT_OK && err != ORT_EBUSY) {
        ORT_LOG_WARN(&log_, "graph.rebuild", "collection=%016" PRIx64 " column=%u err=%s",
                     s->collection.v, column, diag.text);
    }
    pthread_rwlock_wrlock(&s->view);
    d->opened = NULL;
    d->graph = err == ORT_OK ? graph : NULL;
    d->settled = false;
    atomic_store_explicit(&d->indexed_end, indexed_end, memory_order_release);
    pthread_rwlock_unlock(&s->view);
    dp_shard__note_read(s, d);
    if (err != ORT_OK) {
        dp_hnsw_free(graph);
    }
    return err != ORT_EBUSY;
}

void
dp_shard__adopt_graphs(dp_shard *s, dp_hnsw_progress *progress)
{
    bool more = true;
    for (uint32_t c = 0; more && c < s->derived_count; c++) {
        more = s->derived[c].opened == NULL || adopt_graph(s, c, progress);
    }
}

void
dp_shard__settle_graph(dp_shard *s, uint32_t column)
{
    dp_derived *d = &s->derived[column];
    if (d->graph != NULL && !d->settled) {
        const ort_err err = dp_hnsw_settle(d->graph, &s->building);
        if (err != ORT_OK) { /* it stays mapped, and works */
            ORT_LOG_INFO(&log_, "graph.settle", "collection=%016" PRIx64 " column=%u err=%s",
                         s->collection.v, column, ort_err_code(err));
        }
        d->settled = true;
    }
}
