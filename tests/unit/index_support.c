/* Rows, sets of vectors and recall for the tests of data-plane/index. */
#include "unit/index_support.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#define CHUNK_BITS 8

void
test_rows_init(test_rows *rows, dp_elem elem, uint32_t dim, uint32_t slots_max)
{
    memset(rows, 0, sizeof *rows);
    rows->chunk_count_max = (slots_max >> CHUNK_BITS) + 1;
    rows->directory = calloc(rows->chunk_count_max, sizeof *rows->directory);
    assert(rows->directory != NULL);
    atomic_store(&rows->view.chunks, rows->directory);
    rows->view.chunk_bits = CHUNK_BITS;
    rows->view.dim = dim;
    rows->view.elem = elem;
    rows->view.stride_bytes = (uint32_t)(dim * dp_elem_bytes(elem));
}

void
test_rows_fini(test_rows *rows)
{
    for (uint32_t i = 0; i < rows->chunk_count; i++) {
        free((void *)(uintptr_t)atomic_load(&rows->directory[i]));
    }
    free(rows->directory);
}

void
test_rows_put(test_rows *rows, uint32_t slot, const float *vector)
{
    unsigned char *row;
    uint32_t chunk = slot >> CHUNK_BITS;

    assert(chunk < rows->chunk_count_max);
    while (rows->chunk_count <= chunk) {
        void *fresh = calloc((size_t)1 << CHUNK_BITS, rows->view.stride_bytes);

        assert(fresh != NULL);
        dp_rows_publish(&rows->view, rows->chunk_count++, fresh);
    }
    row = (unsigned char *)(uintptr_t)dp_rows_peek(&rows->view, slot);
    switch (rows->view.elem) {
    case DP_ELEM_F32:
        memcpy(row, vector, rows->view.dim * sizeof *vector);
        break;
    case DP_ELEM_F16:
        dp_f16_from_f32((uint16_t *)(void *)row, vector, rows->view.dim);
        break;
    case DP_ELEM_U8:
        for (uint32_t i = 0; i < rows->view.dim; i++) {
            row[i] = (unsigned char)vector[i];
        }
        break;
    }
}

uint64_t
test_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

float
test_uniform(uint64_t *state)
{
    return (float)((double)(test_random(state) >> 11) * 0x1p-52 - 1.0);
}

float *
test_clusters(uint64_t seed, size_t n, uint32_t dim, uint32_t centers, float spread)
{
    float *center = malloc((size_t)centers * dim * sizeof *center);
    float *out = malloc(n * dim * sizeof *out);

    assert(center != NULL && out != NULL);
    for (size_t i = 0; i < (size_t)centers * dim; i++) {
        center[i] = test_uniform(&seed);
    }
    for (size_t i = 0; i < n; i++) {
        const float *c = center + (test_random(&seed) % centers) * dim;

        for (uint32_t j = 0; j < dim; j++) {
            out[i * dim + j] = c[j] + spread * test_uniform(&seed);
        }
    }
    free(center);
    return out;
}

void
test_normalize(float *vectors, size_t n, uint32_t dim)
{
    for (size_t i = 0; i < n; i++) {
        float *v = vectors + i * dim;
        float norm = sqrtf(dp_norm2(v, dim));

        for (uint32_t j = 0; j < dim && norm > 0; j++) {
            v[j] /= norm;
        }
    }
}

/* Decompresses until `want` bytes are there or the file ends; returns how many. */
static size_t
read_zst(FILE *file, unsigned char *out, size_t want)
{
    ZSTD_DStream *stream = ZSTD_createDStream();
    size_t in_max = ZSTD_DStreamInSize();
    unsigned char *in = malloc(in_max);
    ZSTD_outBuffer to = {out, want, 0};

    assert(stream != NULL && in != NULL);
    while (to.pos < want) {
        ZSTD_inBuffer from = {in, fread(in, 1, in_max, file), 0};

        if (from.size == 0) {
            break;
        }
        while (from.pos < from.size && to.pos < want) {
            size_t left = ZSTD_decompressStream(stream, &to, &from);

            assert(!ZSTD_isError(left));
            (void)left;
        }
    }
    free(in);
    ZSTD_freeDStream(stream);
    return to.pos;
}

/* Records of dimension + values; `bytes` a value. */
static float *
decode_records(const unsigned char *raw, size_t raw_bytes, size_t bytes, size_t max_n,
               size_t *n_out, uint32_t *dim_out)
{
    int32_t dim;
    size_t record;
    size_t n;
    float *out;

    memcpy(&dim, raw, sizeof dim);
    assert(dim > 0 && dim <= 65536);
    record = 4 + (size_t)dim * bytes;
    n = raw_bytes / record < max_n ? raw_bytes / record : max_n;
    assert(n > 0);
    out = malloc(n * (size_t)dim * sizeof *out);
    assert(out != NULL);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *at = raw + i * record + 4;

        for (size_t j = 0; j < (size_t)dim; j++) {
            if (bytes == 1) {
                out[i * (size_t)dim + j] = (float)at[j];
            } else {
                memcpy(&out[i * (size_t)dim + j], at + j * 4, 4);
            }
        }
    }
    *n_out = n;
    *dim_out = (uint32_t)dim;
    return out;
}

float *
test_dataset(const char *name, size_t max_n, size_t *n_out, uint32_t *dim_out)
{
    static const char *const kinds[] = {"fvecs", "bvecs"};
    const char *dir = getenv("ORT_DATA_DIR");
    float *out = NULL;

    for (size_t i = 0; i < 2 && dir != NULL && out == NULL; i++) {
        char path[512];
        size_t raw_max = max_n * (4 + (size_t)2048 * 4);
        size_t raw_bytes;
        unsigned char *raw;
        FILE *file;

        (void)snprintf(path, sizeof path, "%s/%s.%s.zst", dir, name, kinds[i]);
        file = fopen(path, "rb");
        if (file == NULL) {
            continue;
        }
        raw = malloc(raw_max);
        assert(raw != NULL);
        raw_bytes = read_zst(file, raw, raw_max);
        out = decode_records(raw, raw_bytes, i == 0 ? 4 : 1, max_n, n_out, dim_out);
        free(raw);
        (void)fclose(file);
    }
    return out;
}

double
test_recall(const dp_rows *rows, dp_metric metric, const float *query, const dp_slot_filter *filter,
            uint32_t slot_end, const dp_hit *hits, size_t n, uint32_t k)
{
    dp_hit *truth = malloc(k * sizeof *truth);
    size_t count = 0;
    size_t right = 0;
    float limit;
    ort_err err;

    assert(truth != NULL);
    err = dp_flat_search(rows, metric, query, k, 0, slot_end, filter, truth, &count);
    assert(err == ORT_OK);
    (void)err;
    if (count == 0) {
        free(truth);
        return n == 0 ? 1.0 : 0.0;
    }
    limit = truth[count - 1].distance;
    limit += 1e-6F + fabsf(limit) * 1e-6F;
    for (size_t i = 0; i < n && i < count; i++) {
        right += hits[i].distance <= limit;
    }
    free(truth);
    return (double)right / (double)count;
}
