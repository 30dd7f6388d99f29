/* Exact search. One query: every row that passes, in blocks, by the kernels. Many queries: blocks
 * of rows against all queries as one matrix product, whose best are measured again. */
#include "index/flat.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "index/distance_internal.h"
#include "index/flat_internal.h"

#define BLOCK 256u /* rows measured at a time */

/* Rows of a matrix product: with 64 queries of 768 floats, 1,024 rows are 3 MB and their products
 * 256 KB, which stays in the second cache. */
#define PRODUCT_ROWS 1024u
#define OFFER_PART 256u

void
dp_top_offer(dp_top *top, dp_hit hit)
{
    dp_hit *h = top->hits;
    size_t at;

    if (isnan(hit.distance)) {
        hit.distance = INFINITY; /* overflowed products; ordered last, but found */
    }
    if (top->count < top->k) {
        at = top->count++;
        while (at > 0 && dp_hit_nearer(h[(at - 1) / 2], hit)) {
            h[at] = h[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        h[at] = hit;
        return;
    }
    if (!dp_hit_nearer(hit, h[0])) {
        return;
    }
    at = 0;
    for (;;) {
        size_t child = at * 2 + 1;

        if (child >= top->count) {
            break;
        }
        if (child + 1 < top->count && dp_hit_nearer(h[child], h[child + 1])) {
            child++;
        }
        if (!dp_hit_nearer(hit, h[child])) {
            break;
        }
        h[at] = h[child];
        at = child;
    }
    h[at] = hit;
}

void
dp_top_sort(dp_top *top)
{
    qsort(top->hits, top->count, sizeof *top->hits, dp_hit_compare);
}

/* The next slots from *slot on that pass, at most `max`, into slots[]. */
static size_t
next_block(const dp_slot_filter *filter, uint32_t *slot, uint32_t slot_end, uint32_t *slots,
           size_t max)
{
    size_t n = 0;
    uint32_t at = *slot;

    while (at < slot_end && n < max) {
        /* Words without a bit are stepped over whole: `allowed` is often almost empty. */
        if (filter != NULL && filter->allowed.words != NULL && at % 64 == 0 &&
            at + 64 <= filter->allowed.slot_end &&
            atomic_load_explicit((_Atomic(uint64_t) *)&filter->allowed.words[at / 64],
                                 memory_order_relaxed) == 0) {
            at = slot_end - at < 64 ? slot_end : at + 64;
            continue;
        }
        if (dp_slot_filter_passes(filter, at)) {
            slots[n++] = at;
        }
        at++;
    }
    *slot = at;
    return n;
}

void
dp_flat_measure(const dp_rows *rows, dp_metric metric, const float *query, const uint32_t *slots,
                size_t n, float *out)
{
    const dp_distance *distance = dp_distance_of(metric, rows->elem);
    const void *at[BLOCK];

    for (size_t i = 0; i < n; i += BLOCK) {
        size_t part = n - i < BLOCK ? n - i : BLOCK;

        for (size_t j = 0; j < part; j++) {
            at[j] = dp_rows_peek(rows, slots[i + j]);
        }
        distance->many(query, at, part, rows->dim, out + i);
    }
}

ort_err
dp_flat_search(const dp_rows *rows, dp_metric metric, const float *query, uint32_t k,
               uint32_t slot_begin, uint32_t slot_end, const dp_slot_filter *filter, dp_hit *hits,
               size_t *n_out)
{
    dp_top top = {.hits = hits, .count = 0, .k = k};
    uint32_t slots[BLOCK];
    float distances[BLOCK];
    uint32_t at = slot_begin;

    if (k == 0 || k > ORT_TOP_K_MAX) {
        return ORT_EINVAL;
    }
    while (at < slot_end) {
        size_t n = next_block(filter, &at, slot_end, slots, BLOCK);

        dp_flat_measure(rows, metric, query, slots, n, distances);
        for (size_t i = 0; i < n; i++) {
            if (!(distances[i] > dp_top_bound(&top))) {
                dp_top_offer(&top, (dp_hit){.slot = slots[i], .distance = distances[i]});
            }
        }
    }
    dp_top_sort(&top);
    *n_out = top.count;
    return ORT_OK;
}

/* What a batched search works with. */
typedef struct {
    const dp_rows *rows;
    dp_metric metric;
    const float *queries;
    size_t query_count;
    size_t wide; /* kept by products: k and some more, for what rounding may have swapped */
    dp_flat_nearer_fn nearer;
    dp_top *tops;
    dp_hit *hits;    /* wide a query */
    float *block;    /* PRODUCT_ROWS rows as floats */
    float *norms;    /* PRODUCT_ROWS */
    float *products; /* query_count * PRODUCT_ROWS */
    uint32_t *slots; /* PRODUCT_ROWS */
} batch;

static void
batch_free(batch *b)
{
    free(b->tops);
    free(b->hits);
    free(b->block);
    free(b->norms);
    free(b->products);
    free(b->slots);
}

static ort_err
batch_init(batch *b, uint32_t k)
{
    size_t dim = b->rows->dim;

    b->wide = (size_t)k + k / 4 + 16;
    b->nearer = dp_flat_nearer_best();
    b->tops = calloc(b->query_count, sizeof *b->tops);
    b->hits = calloc(b->query_count, b->wide * sizeof *b->hits);
    b->block = malloc(PRODUCT_ROWS * dim * sizeof *b->block);
    b->norms = malloc(PRODUCT_ROWS * sizeof *b->norms);
    b->products = calloc(b->query_count, PRODUCT_ROWS * sizeof *b->products);
    b->slots = malloc(PRODUCT_ROWS * sizeof *b->slots);
    if (b->tops == NULL || b->hits == NULL || b->block == NULL || b->norms == NULL ||
        b->products == NULL || b->slots == NULL) {
        batch_free(b);
        return ORT_ENOMEM;
    }
    for (size_t q = 0; q < b->query_count; q++) {
        b->tops[q] = (dp_top){.hits = b->hits + q * b->wide, .count = 0, .k = b->wide};
    }
    return ORT_OK;
}

static void
floats_from_u8(float *out, const unsigned char *in, size_t n)
{
#if defined(__x86_64__)
    if (dp_isa_best() == DP_ISA_AVX512 || dp_isa_best() == DP_ISA_AVX2) {
        dp_floats_from_u8__avx2(out, in, n);
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)in[i];
    }
}

static void
row_to_floats(const dp_rows *rows, dp_metric metric, uint32_t slot, float *out)
{
    const unsigned char *row = dp_rows_peek(rows, slot);
    size_t dim = rows->dim;

    switch (rows->elem) {
    case DP_ELEM_F32:
        memcpy(out, row, dim * sizeof *out);
        return;
    case DP_ELEM_F16:
        for (size_t i = 0; i < dim; i++) {
            uint16_t half;

            memcpy(&half, row + i * 2, sizeof half);
            out[i] = dp_f16_to_f32(half);
        }
        return;
    case DP_ELEM_U8:
        break;
    }
    floats_from_u8(out, row, dim);
    if (metric == DP_METRIC_COSINE) {
        float norm2 = dp_norm2(out, dim);
        float inverse = norm2 > 0.0F ? 1.0F / sqrtf(norm2) : 0.0F;

        for (size_t i = 0; i < dim; i++) {
            out[i] *= inverse;
        }
    }
}

/* Rows that lie one behind the other need no copy. Returns where they are and their stride. */
static const float *
block_rows(const batch *b, size_t n, size_t *stride)
{
    const dp_rows *rows = b->rows;
    const unsigned char *first = dp_rows_peek(rows, b->slots[0]);

    if (rows->elem == DP_ELEM_F32 && rows->stride_bytes % sizeof(float) == 0 &&
        (uintptr_t)first % sizeof(float) == 0 && b->slots[n - 1] - b->slots[0] == n - 1 &&
        b->slots[0] >> rows->chunk_bits == b->slots[n - 1] >> rows->chunk_bits) {
        *stride = rows->stride_bytes / sizeof(float);
        return (const float *)(const void *)first;
    }
    for (size_t i = 0; i < n; i++) {
        row_to_floats(rows, b->metric, b->slots[i], b->block + i * rows->dim);
    }
    *stride = rows->dim;
    return b->block;
}

size_t
dp_flat_nearer__scalar(const float *norms, const float *products, float factor, float bound,
                       size_t n, uint16_t *at)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        at[count] = (uint16_t)i;
        count += !(norms[i] + factor * products[i] > bound);
    }
    return count;
}

dp_flat_nearer_fn
dp_flat_nearer_best(void)
{
#if defined(__x86_64__)
    switch (dp_isa_best()) {
    case DP_ISA_AVX512:
        return dp_flat_nearer__avx512;
    case DP_ISA_AVX2:
        return dp_flat_nearer__avx2;
    default:
        break;
    }
#endif
    return dp_flat_nearer__scalar;
}

/* Offers a block's products to one query: part by part, so that the bound falls soon; once the heap
 * is full almost no row gets in. */
static void
offer_block(batch *b, size_t q, size_t n)
{
    const float *p = b->products + q * n;
    dp_top *top = &b->tops[q];
    float factor = b->metric == DP_METRIC_EUCLID ? -2.0F : -1.0F;
    uint16_t at[OFFER_PART];

    for (size_t i = 0; i < n; i += OFFER_PART) {
        size_t part = n - i < OFFER_PART ? n - i : OFFER_PART;
        size_t count = b->nearer(b->norms + i, p + i, factor, dp_top_bound(top), part, at);

        for (size_t j = 0; j < count; j++) {
            size_t row = i + at[j];

            dp_top_offer(
                top, (dp_hit){.slot = b->slots[row], .distance = b->norms[row] + factor * p[row]});
        }
    }
}

static void
batch_block(batch *b, size_t n)
{
    size_t dim = b->rows->dim;
    size_t stride;
    const float *rows = block_rows(b, n, &stride);

    for (size_t i = 0; i < n; i++) {
        b->norms[i] = b->metric == DP_METRIC_EUCLID ? dp_norm2(rows + i * stride, dim) : 0.0F;
    }
    dp_flat__products(b->queries, b->query_count, rows, n, dim, stride, b->products);
    for (size_t q = 0; q < b->query_count; q++) {
        offer_block(b, q, n);
    }
}

/* Measures what the products found, and keeps the k nearest. */
static void
batch_finish(const batch *b, size_t q, uint32_t k, dp_hit *hits, size_t *n_out)
{
    const dp_distance *distance = dp_distance_of(b->metric, b->rows->elem);
    dp_top *top = &b->tops[q];
    const float *query = b->queries + q * b->rows->dim;

    for (size_t i = 0; i < top->count; i++) {
        top->hits[i].distance =
            distance->one(query, dp_rows_peek(b->rows, top->hits[i].slot), b->rows->dim);
    }
    dp_top_sort(top);
    *n_out = top->count < k ? top->count : k;
    memcpy(hits, top->hits, *n_out * sizeof *hits);
}

ort_err
dp_flat_search_batch(const dp_rows *rows, dp_metric metric, const float *queries,
                     size_t query_count, uint32_t k, uint32_t slot_begin, uint32_t slot_end,
                     const dp_slot_filter *filter, dp_hit *hits, size_t *n_out)
{
    batch b = {.rows = rows, .metric = metric, .queries = queries, .query_count = query_count};
    uint32_t at = slot_begin;
    ort_err err = ORT_OK;

    if (k == 0 || k > ORT_TOP_K_MAX) {
        return ORT_EINVAL;
    }
    if (metric == DP_METRIC_MANHATTAN || query_count < DP_FLAT_BLAS_MIN) {
        for (size_t q = 0; q < query_count && err == ORT_OK; q++) {
            err = dp_flat_search(rows, metric, queries + q * rows->dim, k, slot_begin, slot_end,
                                 filter, hits + q * k, &n_out[q]);
        }
        return err;
    }
    err = batch_init(&b, k);
    if (err != ORT_OK) {
        return err;
    }
    while (at < slot_end) {
        size_t n = next_block(filter, &at, slot_end, b.slots, PRODUCT_ROWS);

        if (n > 0) {
            batch_block(&b, n);
        }
    }
    for (size_t q = 0; q < query_count; q++) {
        batch_finish(&b, q, k, hits + q * k, &n_out[q]);
    }
    batch_free(&b);
    return ORT_OK;
}
