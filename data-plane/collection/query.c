/* Searches. A query is planned by what is cheapest and still right:
 *
 *   the filter names ids, or lets few points through   measure those points
 *   another filter                                     as below, with its verdicts as bits
 *   no graph, or `exact`                               scan all rows; several such together by BLAS
 *   a graph                                            walk it, scan the tail behind it, merge
 *
 * Everything happens under the shard's view lock, so that an answer shows whole operations. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "collection/allowed_internal.h"
#include "collection/links_internal.h"
#include "collection/measure_internal.h"
#include "collection/order_internal.h"
#include "collection/payload_index_internal.h"
#include "collection/query_internal.h"
#include "collection/vector_internal.h"
#include "collection/view_internal.h"

/* Where a filter lets no more through, all of those are measured by their rows: exact, and as quick
 * as a walk that has to look past the others. With a graph, which has codes to compare, fewer. */
#define FEW_MATCHES 4096u
#define FEW_BESIDE_GRAPH 256u

#define BATCH_HITS_MAX (1u << 20) /* of one matrix product's answers */

typedef dp_search search;

static ort_err
no_memory(ort_diag *diag)
{
    (void)ort_fail(diag, ORT_ENOMEM, "out of memory");
    return ORT_ENOMEM;
}

/* --- what is asked ------------------------------------------------------------------------------
 */

static ort_err
find_column(search *q)
{
    const char *name = q->ask->using_name != NULL ? q->ask->using_name : "";
    const int column = dp_schema_find_vector(q->s->schema, name, strlen(name));
    if (column < 0) {
        (void)ort_fail(q->diag, ORT_EINVAL, "Not existing vector name error: %.200s", name);
        return ORT_EINVAL;
    }
    q->column = (uint32_t)column;
    q->schema = dp_schema_peek_vector(q->s->schema, q->column);
    return ORT_OK;
}

ort_err
dp_search__take_vector(search *q, const dp_vector *v)
{
    return dp_measure__prepare(q->schema, v, &q->vector, &q->own, q->diag);
}

static ort_err
copy_stored(search *q, uint32_t slot)
{
    const void *data;
    size_t len = q->schema->size;
    ort_err err = ORT_OK;
    if (q->schema->sparse || q->schema->multi) {
        err = dp_points_bytes(q->reader, q->column, slot, &data, &len, q->diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    if (!q->schema->sparse && !q->schema->multi) {
        err = dp_points_check_row(q->reader, q->column, slot, q->diag);
        if (err != ORT_OK) {
            return err;
        }
    }
    float *room = malloc(len * sizeof *room + 1); /* enough for bytes expanded to floats */
    if (room == NULL) {
        return no_memory(q->diag);
    }
    if (q->schema->sparse || q->schema->multi) {
        dp_vector__open(q->schema, data, len, room, &q->vector);
        q->own = room;
        return ORT_OK;
    }
    dp_vector__expand(q->schema->elem, dp_points_row(q->reader, q->column, slot), len, room);
    const dp_vector row = {
        .kind = DP_VECTOR_DENSE, .values = room, .count = q->schema->size, .rows = 1};
    err = dp_search__take_vector(q, &row);
    free(room);
    return err;
}

static ort_err
take_stored(search *q)
{
    char text[ORT_POINT_ID_TEXT_BYTES];
    uint32_t slot;
    const ort_err err = dp_points_find(q->reader, q->ask->id, &slot, q->diag);
    ort_point_id_format(q->ask->id, text);
    if (err == ORT_ENOTFOUND) {
        return ort_fail(q->diag, ORT_ENOTFOUND, "No point with id %s found", text);
    }
    if (err != ORT_OK) {
        return err;
    }
    if (!dp_points_has(q->reader, q->column, slot)) {
        return ort_fail(q->diag, ORT_ENOTFOUND, "Vector with name \"%s\" for point %s not found",
                        q->schema->name, text);
    }
    q->skip = slot;
    return copy_stored(q, slot);
}

/* As many hits as limit and offset ask for, and no more than there can be: a limit is a bound,
 * never an allocation. */
static uint32_t
wanted(const dp_shard *s, const dp_query *ask)
{
    const uint64_t live = dp_points_live_count(s->points);
    const uint64_t most = live < ORT_TOP_K_MAX ? live : ORT_TOP_K_MAX;
    if (ask->limit >= most || ask->offset >= most) {
        return (uint32_t)most;
    }
    const uint64_t k = ask->limit + ask->offset;
    return (uint32_t)(k < most ? k : most);
}

/* Whether the query compares vectors. */
static bool
compares(const dp_query *ask)
{
    return ask->kind == DP_QUERY_NEAREST || ask->kind == DP_QUERY_ID ||
           ask->kind == DP_QUERY_EXAMPLES;
}

static ort_err
check_threshold(const search *q)
{
    if (!q->ask->has_threshold || q->ask->kind == DP_QUERY_SAMPLE) {
        return ORT_OK;
    }
    return ort_fail(q->diag, ORT_EBADREQ,
                    q->ask->kind == DP_QUERY_ORDER
                        ? "Can't use score_threshold with an order_by query."
                        : "A query is needed to use the score_threshold. Can't have "
                          "score_threshold without defining a query.");
}

static ort_err
prepare(search *q)
{
    if (q->ask->limit == 0) {
        (void)ort_fail(q->diag, ORT_EVALIDATE, "limit: value 0 invalid, must be 1 or larger");
        return ORT_EVALIDATE;
    }
    q->skip = DP_SLOT_NONE;
    q->k = wanted(q->s, q->ask);
    ort_err err =
        dp_filter_bind(q->ask->filter, dp_schema_fields(q->s->schema), &q->texts, q->diag);
    if (err != ORT_OK) {
        return err;
    }
    if (!compares(q->ask)) {
        return check_threshold(q);
    }
    err = find_column(q);
    if (err == ORT_OK && q->ask->kind != DP_QUERY_EXAMPLES) {
        err = q->ask->kind == DP_QUERY_ID ? take_stored(q)
                                          : dp_search__take_vector(q, &q->ask->vector);
    }
    const uint64_t k = (uint64_t)q->k + q->ask->excluded_count + (q->skip != DP_SLOT_NONE);
    q->k = k < ORT_TOP_K_MAX ? (uint32_t)k : ORT_TOP_K_MAX;
    return err;
}

/* --- finding ------------------------------------------------------------------------------------
 */

static bool
passes(void *arg, uint32_t slot)
{
    return dp_matcher__matches(arg, slot);
}

bool
dp_search__all_have(const search *q)
{
    return q->s->derived[q->column].live_count == dp_points_live_count(q->s->points);
}

dp_matcher
dp_search__matcher(const search *q)
{
    return (dp_matcher){.s = q->s,
                        .reader = q->reader,
                        .schema = q->s->schema,
                        .filter = q->ask->filter,
                        .texts = q->texts,
                        .bound = true,
                        .column = dp_search__all_have(q) ? -1 : (int)q->column,
                        .diag = q->diag};
}

/* Whatever vectors they have. */
static dp_matcher
matcher_of_points(const search *q)
{
    return (dp_matcher){.s = q->s,
                        .reader = q->reader,
                        .schema = q->s->schema,
                        .filter = q->ask->filter,
                        .texts = q->texts,
                        .bound = true,
                        .column = -1,
                        .diag = q->diag};
}

static dp_slot_filter
slot_filter_of(const search *q, dp_matcher *m)
{
    dp_slot_filter filter = {.live = {.words = dp_points_live_words(q->s->points),
                                      .slot_end = dp_points_slot_end(q->s->points)}};
    if (m->column >= 0 || !dp_filter_is_empty(m->filter)) {
        filter.match = passes;
        filter.arg = m;
    }
    return filter;
}

/* Keeps the k nearest of slots whose distances are known. */
static ort_err
keep_nearest(search *q, const uint32_t *slots, const float *distances, size_t count)
{
    dp_hit *all = malloc((count + 1) * sizeof *all);
    if (all == NULL) {
        return no_memory(q->diag);
    }
    for (size_t i = 0; i < count; i++) {
        all[i] = (dp_hit){.slot = slots[i], .distance = distances[i]};
    }
    qsort(all, count, sizeof *all, dp_hit_compare);
    q->count = count < q->k ? count : q->k;
    memcpy(q->hits, all, q->count * sizeof *all);
    free(all);
    return ORT_OK;
}

/* --- rows that rotted ---
 *
 * A row is held against its checksum before it is measured: a wrong distance would be a wrong
 * answer, and a point that it hides nothing to be seen. Looked at once since the collection was
 * opened, a MiB at a time, or all before a scan of all. Where rows stay on disk (on_disk) and a
 * graph answers, those of the answer alone are looked at: all of them may be more than memory. */

static ort_err
trust_row(const search *q, uint32_t slot)
{
    return q->schema->sparse || q->schema->multi
               ? ORT_OK
               : dp_points_check_row(q->reader, q->column, slot, q->diag);
}

static ort_err
trust_rows(const search *q)
{
    return dp_points_check_rows(q->reader, q->column, q->diag);
}

static ort_err
measure_block(search *q, const uint32_t *slots, size_t count, float *distances)
{
    if (q->ask->kind != DP_QUERY_EXAMPLES) {
        return dp_measure__slots(q->s, q->reader, q->column, &q->vector, slots, count, distances,
                                 q->diag);
    }
    const ort_err err = dp_examples__score(q->s, q->reader, q->column, q->ask->examples, slots,
                                           count, distances, q->diag);
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        distances[i] = -distances[i];
    }
    return err;
}

/* Slots that take some milliseconds together; stored multivectors are taken to have 32 rows. */
static size_t
block_of(const search *q)
{
    const dp_examples *ex = q->ask->examples;
    const uint64_t vectors = q->ask->kind == DP_QUERY_EXAMPLES
                                 ? (uint64_t)ex->positive_count + ex->negative_count + 1
                                 : 1;
    const uint64_t pairs = q->schema->multi ? (uint64_t)32 * (q->vector.rows + 1) : 1;
    const uint64_t each = (q->schema->sparse ? 64 : q->schema->size) * vectors * pairs;
    const uint64_t block = (UINT64_C(1) << 25) / each;
    return block > 256 ? (size_t)block : block > 0 ? (size_t)(block + 15) / 16 * 16 : 16;
}

/* The k nearest of these slots, which all have the vector. */
ort_err
dp_search__measure(search *q, const uint32_t *slots, size_t count)
{
    float *distances = malloc((count + 1) * sizeof *distances);
    if (distances == NULL) {
        return no_memory(q->diag);
    }
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        err = trust_row(q, slots[i]);
    }
    if (err != ORT_OK) {
        free(distances);
        return err;
    }
    /* Rows may be many and long: between blocks is where a request can end. */
    const size_t block = block_of(q);
    for (size_t at = 0; err == ORT_OK && at < count; at += block) {
        const size_t n = count - at < block ? count - at : block;
        err = q->ask->until_ns > 0 && ort_mono_ns() >= q->ask->until_ns
                  ? ort_fail(q->diag, ORT_ETIMEOUT,
                             "comparing the points one by one took too long: prefetch some of them "
                             "by another vector, or filter")
                  : measure_block(q, slots + at, n, distances + at);
    }
    if (err == ORT_OK) {
        err = keep_nearest(q, slots, distances, count);
    }
    free(distances);
    return err;
}

/* The live slots that match, in memory for the caller to free(). A filter's verdicts are taken from
 * what is remembered of it, unless it names ids. */
ort_err
dp_search__candidates(dp_shard *s, dp_matcher *m, uint32_t **slots, size_t *count)
{
    const ort_point_id *ids;
    size_t id_count;
    dp_allowed *allowed;
    *slots = NULL;
    *count = 0;
    if (dp_filter_is_empty(m->filter) || dp_filter_peek_ids(m->filter, &ids, &id_count) ||
        s->payload->count > 0) {
        return dp_matcher__collect(m, slots, count);
    }
    const ort_err err = dp_allowed__get(&allowed, s->allowed, m, NULL);
    if (err != ORT_OK) {
        return err;
    }
    const size_t most = (size_t)dp_allowed__count(allowed, s->points);
    *slots = malloc((most + 1) * sizeof **slots);
    const size_t n = *slots != NULL ? dp_allowed__list(allowed, s->points, *slots, most) : 0;
    dp_allowed__unref(allowed);
    for (size_t i = 0; i < n; i++) {
        if (m->column < 0 || dp_points_has(m->reader, (uint32_t)m->column, (*slots)[i])) {
            (*slots)[(*count)++] = (*slots)[i];
        }
    }
    return *slots != NULL ? ORT_OK : no_memory(m->diag);
}

static ort_err
measure_matches(search *q, dp_matcher *m)
{
    uint32_t *slots;
    size_t count;
    m->column = (int)q->column;
    ort_err err = dp_search__candidates(q->s, m, &slots, &count);
    if (err == ORT_OK) {
        err = dp_search__measure(q, slots, count);
    }
    free(slots);
    return err;
}

static ort_err
scan(search *q, const dp_slot_filter *filter, uint32_t from, uint32_t to, dp_hit *hits,
     size_t *count)
{
    *count = 0;
    if (from >= to) {
        return ORT_OK;
    }
    const bool some = from > 0 && q->schema->on_disk; /* the tail behind a graph */
    ort_err err = some ? ORT_OK : trust_rows(q);
    if (err == ORT_OK) {
        err = dp_flat_search(&q->s->derived[q->column].rows, q->schema->metric, q->vector.values,
                             q->k, from, to, filter, hits, count);
    }
    for (size_t i = 0; err == ORT_OK && some && i < *count; i++) {
        err = trust_row(q, hits[i].slot);
    }
    return err;
}

/* Merges the tail's hits into those of the graph. A slot may be in both: it was inserted while this
 * search ran. */
static void
merge_hits(search *q, const dp_hit *tail, size_t tail_count, dp_hit *room)
{
    size_t a = 0, b = 0, n = 0;
    while (n < q->k && (a < q->count || b < tail_count)) {
        const bool from_tail =
            a >= q->count || (b < tail_count && dp_hit_nearer(tail[b], q->hits[a]));
        const dp_hit hit = from_tail ? tail[b++] : q->hits[a++];
        if (n == 0 || room[n - 1].slot != hit.slot) {
            room[n++] = hit;
        }
    }
    memcpy(q->hits, room, n * sizeof *room);
    q->count = n;
}

ort_err
dp_search__walk(search *q, const dp_slot_filter *filter, const dp_slot_filter *tail_filter,
                const dp_hnsw_among *among, uint32_t indexed)
{
    dp_derived *d = &q->s->derived[q->column];
    const uint32_t end = dp_points_slot_end(q->s->points);
    const dp_hnsw_query ask = {.k = q->k,
                               .ef = q->ask->hnsw_ef,
                               .oversampling = q->ask->oversampling,
                               .by_rows = q->ask->quantization_ignore,
                               .unrescored = q->ask->has_rescore && !q->ask->rescore,
                               .among = among};
    ort_err err = q->schema->on_disk ? ORT_OK : trust_rows(q);
    if (err == ORT_OK) {
        err = dp_hnsw_search(d->graph, q->vector.values, ask, filter, q->hits, &q->count);
    }
    for (size_t i = 0; err == ORT_OK && q->schema->on_disk && i < q->count; i++) {
        err = trust_row(q, q->hits[i].slot);
    }
    if (err != ORT_OK || q->ask->indexed_only || indexed >= end) {
        return err;
    }
    dp_hit *tail = malloc(2 * (size_t)q->k * sizeof *tail);
    size_t tail_count;
    if (tail == NULL) {
        return no_memory(q->diag);
    }
    err = scan(q, tail_filter, indexed, end, tail, &tail_count);
    if (err == ORT_OK && tail_count > 0) {
        merge_hits(q, tail, tail_count, tail + q->k);
    }
    free(tail);
    return err;
}

/* A search without a filter has a graph to walk. */
static bool
is_linked(const search *q)
{
    const dp_hnsw *graph = q->s->derived[q->column].graph;
    return graph != NULL && !dp_hnsw_is_unlinked(graph);
}

uint32_t
dp_search__indexed_end(const search *q)
{
    return atomic_load_explicit(&q->s->derived[q->column].indexed_end, memory_order_acquire);
}

/* Measures all that the filter lets through; the vector may be missing in some. */
static ort_err
measure_allowed(search *q, const dp_allowed *allowed, size_t count)
{
    uint32_t *slots = malloc((count + 1) * sizeof *slots);
    if (slots == NULL) {
        return no_memory(q->diag);
    }
    const size_t n = dp_allowed__list(allowed, q->s->points, slots, count);
    size_t with = 0;
    for (size_t i = 0; i < n; i++) {
        if (dp_points_has(q->reader, q->column, slots[i])) {
            slots[with++] = slots[i];
        }
    }
    const ort_err err = dp_search__measure(q, slots, with);
    free(slots);
    return err;
}

/* full_scan_threshold is the user's word on what to scan, where it is not the default. */
static uint64_t
few_matches(const search *q)
{
    const dp_hnsw_settings *set = &q->schema->hnsw;
    if (q->s->derived[q->column].graph == NULL || q->ask->exact) {
        return FEW_MATCHES;
    }
    if (set->full_scan_threshold_kb == DP_FULL_SCAN_THRESHOLD_KB) {
        return FEW_BESIDE_GRAPH;
    }
    const uint64_t row = (uint64_t)q->schema->size * dp_elem_bytes(q->schema->elem);
    const uint64_t most = (uint64_t)set->full_scan_threshold_kb * 1024 / row;
    return most < UINT32_MAX ? most : UINT32_MAX;
}

/* What the filter's verdicts come to: the slots themselves where there are few, else bits. */
static ort_err
settle(search *q, dp_matcher *m, dp_allowed **allowed, uint32_t **slots, size_t *count)
{
    dp_verdict told;
    bool useful;
    *slots = NULL;
    *allowed = dp_allowed__peek(q->s->allowed, m);
    if (*allowed != NULL) {
        return ORT_OK;
    }
    const int column = m->column;
    m->column = -1;
    ort_err err = dp_payload__evaluate(m, &told, &useful);
    if (err == ORT_OK && useful && told.max <= few_matches(q)) {
        m->column = (int)q->column;
        err = dp_matcher__collect_told(m, &told, slots, count);
    } else if (err == ORT_OK) {
        err = dp_allowed__get(allowed, q->s->allowed, m, useful ? &told : NULL);
    }
    m->column = column;
    dp_verdict_fini(&told);
    return err;
}

/* With a filter that is not a list of ids. */
static ort_err
find_evaluated(search *q, dp_matcher *m, const dp_links_plan *plan)
{
    const dp_derived *d = &q->s->derived[q->column];
    const uint32_t end = dp_points_slot_end(q->s->points);
    const uint64_t live = dp_points_live_count(q->s->points);
    dp_allowed *allowed;
    uint32_t *slots;
    size_t listed = 0;
    ort_err err = settle(q, m, &allowed, &slots, &listed);
    if (err != ORT_OK || allowed == NULL) {
        err = err == ORT_OK ? dp_search__measure(q, slots, listed) : err;
        free(slots);
        return err;
    }
    const uint64_t count = dp_allowed__count(allowed, q->s->points);
    if (count <= few_matches(q)) {
        err = measure_allowed(q, allowed, (size_t)count);
        dp_allowed__unref(allowed);
        return err;
    }
    m->filter = NULL; /* from here on the bits answer for it */
    dp_slot_filter filter = slot_filter_of(q, m);
    filter.allowed = allowed->set;
    filter.selectivity = count < live ? (float)count / (float)live : 1;
    const bool walks = d->graph != NULL && !q->ask->exact;
    if (walks) {
        err = dp_search__walk_value(q, &filter, plan, count);
        err = err == ORT_ENOTFOUND
                  ? dp_search__walk(q, &filter, &filter, NULL, dp_search__indexed_end(q))
                  : err;
    }
    if (!walks || (err == ORT_OK && q->count < q->k && !q->ask->indexed_only)) {
        err = scan(q, &filter, 0, end, q->hits, &q->count);
    }
    dp_allowed__unref(allowed);
    return err != ORT_OK ? err : m->err;
}

static ort_err
find_filtered(search *q, dp_matcher *m)
{
    dp_links_plan plan = {0};
    bool done = false;
    ort_err err = ORT_OK;
    const bool planned = q->s->derived[q->column].graph != NULL && !q->ask->exact &&
                         dp_links__plan(q->s, q->column, q->ask->filter, &plan);
    if (planned && plan.alone && plan.count > few_matches(q)) {
        err = dp_search__find_by_value(q, m, &plan, &done);
    }
    if (err == ORT_OK && !done) {
        err = find_evaluated(q, m, planned ? &plan : NULL);
    }
    dp_links__plan_fini(&plan);
    return err;
}

ort_err
dp_search__find_dense(search *q)
{
    dp_matcher m = dp_search__matcher(q);
    const uint32_t end = dp_points_slot_end(q->s->points);
    const ort_point_id *ids;
    size_t id_count;
    if (dp_filter_peek_ids(q->ask->filter, &ids, &id_count)) {
        return measure_matches(q, &m);
    }
    if (!dp_filter_is_empty(q->ask->filter)) {
        return find_filtered(q, &m);
    }
    dp_slot_filter filter = slot_filter_of(q, &m);
    ort_err err;
    if (!is_linked(q) || q->ask->exact) {
        err = scan(q, &filter, 0, end, q->hits, &q->count);
        return err != ORT_OK ? err : m.err;
    }
    err = dp_search__walk(q, &filter, &filter, NULL, dp_search__indexed_end(q));
    return err != ORT_OK ? err : m.err;
}

/* Among which points a word of the query counts as rare. *corpus is the caller's. */
static ort_err
weigh_by(search *q, dp_sparse_idf *idf, dp_allowed **corpus, dp_slot_set *among)
{
    *idf = (dp_sparse_idf){.points = dp_points_live_count(q->s->points)};
    if (dp_filter_is_empty(q->ask->idf_corpus)) {
        return ORT_OK;
    }
    /* Another filter than the query's, with words of its own. */
    dp_matcher m = matcher_of_points(q);
    m.filter = q->ask->idf_corpus;
    m.texts = NULL;
    m.bound = false;
    ort_err err = dp_matcher__bind(&m);
    if (err == ORT_OK) {
        err = dp_allowed__get(corpus, q->s->allowed, &m, NULL);
    }
    dp_matcher__fini(&m);
    if (err == ORT_OK) {
        *among = (*corpus)->set;
        *idf = (dp_sparse_idf){dp_allowed__count(*corpus, q->s->points), among};
    }
    return err;
}

static ort_err
find_sparse(search *q)
{
    dp_matcher m = dp_search__matcher(q);
    m.column = -1; /* only points with the vector are in its lists */
    dp_allowed *allowed = NULL;
    if (!dp_filter_is_empty(m.filter) && q->s->payload->count > 0) {
        const ort_err bad = dp_allowed__get(&allowed, q->s->allowed, &m, NULL);
        if (bad != ORT_OK) {
            return bad;
        }
        m.filter = NULL; /* the bits answer for it */
    }
    dp_slot_filter filter = slot_filter_of(q, &m);
    if (allowed != NULL) {
        filter.allowed = allowed->set;
    }
    dp_allowed *corpus = NULL;
    dp_slot_set among;
    dp_sparse_idf idf;
    ort_err err = q->schema->idf ? weigh_by(q, &idf, &corpus, &among) : ORT_OK;
    if (err == ORT_OK) {
        err = dp_sparse__search(q->s->derived[q->column].sparse, &q->vector,
                                q->schema->idf ? &idf : NULL, dp_points_slot_end(q->s->points),
                                &filter, q->k, q->hits, &q->count, NULL);
    }
    dp_allowed__unref(allowed);
    dp_allowed__unref(corpus);
    return err != ORT_OK ? err : m.err;
}

static ort_err
find(search *q)
{
    q->hits = malloc(((size_t)q->k + 1) * sizeof *q->hits);
    q->count = 0;
    if (q->hits == NULL) {
        return no_memory(q->diag);
    }
    if (q->k == 0) {
        return ORT_OK;
    }
    if (q->ask->kind == DP_QUERY_EXAMPLES) {
        return dp_search__find_by_examples(q);
    }
    if (q->schema->multi) { /* max_sim, by a scan */
        dp_matcher m = dp_search__matcher(q);
        return measure_matches(q, &m);
    }
    return q->schema->sparse ? find_sparse(q) : dp_search__find_dense(q);
}

/* --- several exact searches at once -------------------------------------------------------------
 */

static bool
joins_product(const search *q)
{
    const dp_query *ask = q->ask;
    return ask->kind == DP_QUERY_NEAREST && !q->schema->sparse && !q->schema->multi &&
           dp_filter_is_empty(ask->filter) && q->k > 0 && dp_search__all_have(q) &&
           (ask->exact || !is_linked(q));
}

/* How many of list[0..count) one matrix product answers; below DP_FLAT_BLAS_MIN: none. */
static size_t
product_run(const search *list, size_t count, uint32_t *k_out)
{
    size_t n = 0;
    uint32_t k = 0;
    while (n < count && joins_product(&list[n]) && list[n].column == list[0].column) {
        const uint32_t most = list[n].k > k ? list[n].k : k;
        if ((uint64_t)most * (n + 1) > BATCH_HITS_MAX) {
            break;
        }
        k = most;
        n++;
    }
    *k_out = k;
    return n >= DP_FLAT_BLAS_MIN ? n : 0;
}

static ort_err
find_by_product(search *list, size_t n, uint32_t k)
{
    const search *q = &list[0];
    const size_t dim = q->schema->size;
    float *queries = malloc(n * dim * sizeof *queries);
    dp_hit *hits = malloc(n * k * sizeof *hits);
    size_t *counts = calloc(n, sizeof *counts);
    ort_err err = queries != NULL && hits != NULL && counts != NULL ? ORT_OK : no_memory(q->diag);
    if (err == ORT_OK) {
        err = trust_rows(q);
    }
    if (err == ORT_OK) {
        dp_matcher m = dp_search__matcher(q);
        const dp_slot_filter filter = slot_filter_of(q, &m);
        for (size_t i = 0; i < n; i++) {
            memcpy(queries + i * dim, list[i].vector.values, dim * sizeof *queries);
        }
        err = dp_flat_search_batch(&q->s->derived[q->column].rows, q->schema->metric, queries, n, k,
                                   0, dp_points_slot_end(q->s->points), &filter, hits, counts);
    }
    for (size_t i = 0; err == ORT_OK && i < n; i++) {
        list[i].count = counts[i] < list[i].k ? counts[i] : list[i].k;
        list[i].hits = malloc(((size_t)list[i].k + 1) * sizeof *list[i].hits);
        if (list[i].hits == NULL) {
            err = no_memory(q->diag);
            break;
        }
        memcpy(list[i].hits, hits + i * k, list[i].count * sizeof *hits);
    }
    free(queries);
    free(hits);
    free(counts);
    return err;
}

/* --- answering ----------------------------------------------------------------------------------
 */

static float
score_of(const search *q, dp_hit hit)
{
    return q->ask->kind == DP_QUERY_EXAMPLES ? -hit.distance
                                             : dp_vector_score(q->schema, hit.distance);
}

static bool
is_good_enough(const search *q, float score)
{
    if (!q->ask->has_threshold) {
        return true;
    }
    const bool larger = q->ask->kind == DP_QUERY_EXAMPLES || q->schema->sparse ||
                        dp_metric_larger_is_better(q->schema->metric);
    return larger ? score >= q->ask->score_threshold : score <= q->ask->score_threshold;
}

static int
compare_ids(const void *a, const void *b)
{
    return ort_point_id_cmp(*(const ort_point_id *)a, *(const ort_point_id *)b);
}

/* Points that are no answers. They are looked for and left out, rather than filtered: a filter of a
 * few ids would be asked about every point, and hide what is remembered of the request's own. */
static bool
is_skipped(const search *q, uint32_t slot)
{
    if (slot == q->skip) {
        return true;
    }
    if (q->ask->excluded_count == 0) {
        return false;
    }
    const ort_point_id id = dp_points_id(q->reader, slot);
    return bsearch(&id, q->ask->excluded, q->ask->excluded_count, sizeof id, compare_ids) != NULL;
}

static ort_err
show_hits(const search *q, dp_viewer *viewer, size_t index)
{
    uint64_t skipped = 0, shown = 0;
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < q->count && shown < q->ask->limit; i++) {
        const float score = score_of(q, q->hits[i]);
        if (is_skipped(q, q->hits[i].slot)) {
            continue;
        }
        if (!is_good_enough(q, score)) {
            break; /* the rest is farther */
        }
        if (skipped++ < q->ask->offset) {
            continue;
        }
        err = dp_viewer__show(viewer, index, q->hits[i].slot, score);
        shown++;
    }
    return err;
}

/* No query: matching points in id order. */
typedef struct {
    dp_viewer *viewer;
    size_t index;
    uint64_t skip;
} listing;

static ort_err
show_listed(void *ctx, dp_id_slot at)
{
    listing *l = ctx;
    if (l->skip > 0) {
        l->skip--;
        return ORT_OK;
    }
    return dp_viewer__show(l->viewer, l->index, at.slot, 1); /* what Qdrant says there */
}

static ort_err
show_list(const search *q, dp_viewer *viewer, size_t index)
{
    listing l = {.viewer = viewer, .index = index, .skip = q->ask->offset};
    const uint64_t k = wanted(q->s, q->ask);
    bool more;
    ort_point_id next;
    return dp_query__list(q->s, q->reader, q->ask->filter, NULL, k, show_listed, &l, &more, &next,
                          q->diag);
}

/* The whole index of the field that is ordered by, or NULL. */
static const dp_payload_index *
index_of(dp_shard *s, const dp_path *path)
{
    const dp_declared_field *field = dp_fields_find(s->payload->fields, path);
    return field != NULL ? dp_payload__find(s, field->name, field->name_len) : NULL;
}

/* The first k values, out of those of the slots that pass: a few payloads are read, more are looked
 * up in the index. */
static ort_err
find_ordered(const search *q, dp_matcher *m, size_t k, dp_ordered **list, size_t *n)
{
    const dp_order *order = q->ask->order;
    const dp_payload_index *index = index_of(q->s, order->path);
    uint32_t *slots;
    size_t count;
    *list = NULL;
    *n = 0;
    if (index != NULL && dp_filter_is_empty(m->filter)) {
        return dp_order__walk(q->reader, index, order, NULL, k, list, n, q->diag);
    }
    ort_err err = dp_search__candidates(q->s, m, &slots, &count);
    if (err == ORT_OK && (index == NULL || count <= FEW_MATCHES)) {
        err = dp_order__find(q->reader, order, slots, count, k, list, n, q->diag);
    } else if (err == ORT_OK) {
        uint64_t *bits = calloc((size_t)dp_points_slot_end(q->s->points) / 64 + 1, sizeof *bits);
        for (size_t i = 0; bits != NULL && i < count; i++) {
            bits[slots[i] / 64] |= UINT64_C(1) << (slots[i] % 64);
        }
        err = bits == NULL ? no_memory(q->diag)
                           : dp_order__walk(q->reader, index, order, bits, k, list, n, q->diag);
        free(bits);
    }
    free(slots);
    return err;
}

/* By a payload field. A point may be there for each of its values, so the number of points is no
 * bound. */
static ort_err
show_ordered(const search *q, dp_viewer *viewer, size_t index)
{
    dp_matcher m = matcher_of_points(q);
    dp_ordered *list;
    size_t n;
    const uint64_t most = ORT_TOP_K_MAX;
    const uint64_t k =
        q->ask->limit >= most || q->ask->offset >= most ? most : q->ask->limit + q->ask->offset;
    ort_err err = find_ordered(q, &m, (size_t)(k < most ? k : most), &list, &n);
    for (uint64_t i = q->ask->offset; err == ORT_OK && i < n && i - q->ask->offset < q->ask->limit;
         i++) {
        viewer->order = &list[i].value;
        err = dp_viewer__show(viewer, index, list[i].slot, 1);
    }
    viewer->order = NULL;
    free(list);
    return err;
}

/* At random; an offset means nothing there. */
static ort_err
show_sample(const search *q, dp_viewer *viewer, size_t index)
{
    dp_matcher m = matcher_of_points(q);
    uint32_t *slots;
    size_t count;
    ort_err err = dp_search__candidates(q->s, &m, &slots, &count);
    const uint64_t limit = q->ask->limit < ORT_TOP_K_MAX ? q->ask->limit : ORT_TOP_K_MAX;
    const size_t n = err != ORT_OK ? 0 : limit < count ? (size_t)limit : count;
    dp_order__shuffle(slots, count, n);
    for (size_t i = 0; err == ORT_OK && i < n; i++) {
        err = dp_viewer__show(viewer, index, slots[i], 1);
    }
    free(slots);
    return err;
}

/* Answers that need no vectors. */
static ort_err
show_uncompared(const search *q, dp_viewer *viewer, size_t index)
{
    switch (q->ask->kind) {
    case DP_QUERY_ORDER:
        return show_ordered(q, viewer, index);
    case DP_QUERY_SAMPLE:
        return show_sample(q, viewer, index);
    default:
        return show_list(q, viewer, index);
    }
}

static ort_err
answer_all(search *list, size_t count, dp_viewer *viewer)
{
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < count; i++) {
        err = prepare(&list[i]);
    }
    for (size_t i = 0; err == ORT_OK && i < count;) {
        uint32_t k;
        if (!compares(list[i].ask)) {
            err = show_uncompared(&list[i], viewer, i);
            i++;
            continue;
        }
        size_t n = product_run(&list[i], count - i, &k);
        if (n > 0) {
            err = find_by_product(&list[i], n, k);
        } else {
            n = 1;
            err = find(&list[i]);
        }
        for (size_t end = i + n; err == ORT_OK && i < end; i++) {
            err = show_hits(&list[i], viewer, i);
        }
    }
    return err;
}

/* Whether any of them would walk a graph. */
static bool
want_graphs(const dp_query *queries, size_t count)
{
    bool want = false;
    for (size_t i = 0; i < count; i++) {
        want = want || (compares(&queries[i]) && !queries[i].exact);
    }
    return want;
}

ort_err
dp_query__answer(dp_shard *s, const dp_query *queries, size_t count, bool want_payload,
                 dp_point_fn fn, void *ctx, ort_diag *diag)
{
    dp_reader reader;
    search *list = calloc(count + 1, sizeof *list);
    dp_viewer *viewer = calloc(1, sizeof *viewer);
    if (list == NULL || viewer == NULL) {
        free(list);
        free(viewer);
        return no_memory(diag);
    }
    if (want_graphs(queries, count)) {
        dp_shard__await_graphs(s);
    }
    pthread_rwlock_rdlock(&s->view);
    dp_reader_init(&reader, s->points);
    *viewer = (dp_viewer){.s = s,
                          .reader = &reader,
                          .want_payload = want_payload,
                          .fn = fn,
                          .ctx = ctx,
                          .diag = diag};
    for (size_t i = 0; i < count; i++) {
        list[i] = (search){.s = s, .reader = &reader, .ask = &queries[i], .diag = diag};
    }
    ort_err err = answer_all(list, count, viewer);
    if (err == ORT_OK) {
        err = dp_points_check_readable(s->points, diag); /* or it was zeros that were compared */
    }
    dp_viewer__fini(viewer);
    dp_reader_fini(&reader);
    pthread_rwlock_unlock(&s->view);
    for (size_t i = 0; i < count; i++) {
        free(list[i].own);
        free(list[i].hits);
        dp_filter_texts_free(list[i].texts);
    }
    free(list);
    free(viewer);
    dp_payload__schedule(s);
    return err;
}
