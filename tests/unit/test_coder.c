/* Coders: the wide loops against the plain ones, codes against the vectors they stand for, and
 * models that come from anywhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/coder.h"
#include "index/coder_kernels.h"

static uint64_t seed = 7;

static uint64_t
next(void)
{
    uint64_t x = seed += UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static float
uniform(void)
{
    return (float)((double)(next() >> 11) * 0x1p-52 - 1.0);
}

/* Near enough to a Gaussian. */
static float
bell(void)
{
    return (uniform() + uniform() + uniform() + uniform()) * 0.866F;
}

static void *
aligned(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

    assert_non_null(p);
    return p;
}

static const dp_isa isas[] = {DP_ISA_AVX2, DP_ISA_AVX512, DP_ISA_NEON};
static const size_t dims[] = {1,   2,   3,   7,   16,  31,  63,  64,   65,  96,
                              100, 127, 128, 129, 200, 384, 784, 1000, 1536};
#define DIMS (sizeof dims / sizeof dims[0])

/* Packed codes are cut, shifted and masked another way in every set; sums of integers must agree to
 * the last one. */
static void
measures_of_bits_agree(void **state)
{
    const dp_coder_kernels *plain = dp_coder_kernels_of_isa(DP_ISA_SCALAR);

    (void)state;
    for (size_t d = 0; d < DIMS; d++) {
        size_t padded = dp_bits_padded(dims[d]);

        for (uint32_t bits = 1; bits <= 8; bits++) {
            size_t row_bytes = dp_bits_row_bytes(dims[d], bits);
            const unsigned char *rows[7];
            unsigned char *memory = malloc(7 * row_bytes);
            dp_code_query query = {.codes = aligned(padded), .bytes = padded, .w_dot = 1};
            float want[7];
            float got[7];

            assert_non_null(memory);
            for (size_t i = 0; i < 7 * row_bytes; i++) {
                memory[i] = (unsigned char)next();
            }
            for (size_t i = 0; i < padded; i++) {
                query.codes[i] = (int8_t)((int)(next() % 255) - 127);
            }
            for (size_t r = 0; r < 7; r++) { /* rows lie as they come: no alignment */
                static const dp_bits_tail tail = {.factor = 1};

                rows[r] = memory + r * row_bytes;
                memcpy(memory + (r + 1) * row_bytes - sizeof tail, &tail, sizeof tail);
            }
            for (size_t n = 1; n <= 7; n++) {
                plain->measure_bits[bits](&query, rows, n, want);
                for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
                    const dp_coder_kernels *wide = dp_coder_kernels_of_isa(isas[i]);

                    if (wide != NULL) {
                        wide->measure_bits[bits](&query, rows, n, got);
                        assert_memory_equal(want, got, n * sizeof *got);
                    }
                }
            }
            free(memory);
            free(query.codes);
        }
    }
}

static void
loops_over_floats_agree(void **state)
{
    const dp_coder_kernels *plain = dp_coder_kernels_of_isa(DP_ISA_SCALAR);

    (void)state;
    for (size_t d = 0; d < DIMS; d++) {
        size_t n = dp_bits_padded(dims[d]);
        float *x = aligned(n * 4);
        float *want = aligned(n * 4);
        float *got = aligned(n * 4);
        float *factors = aligned(n * 4 * DP_ROTATE_ROUNDS);
        uint8_t *u = malloc(n);
        uint8_t *v = malloc(n);

        assert_true(u != NULL && v != NULL);
        for (size_t i = 0; i < n * DP_ROTATE_ROUNDS; i++) {
            factors[i] = (next() & 1) != 0 ? 1.0F : -1.0F;
        }
        for (size_t i = 0; i < n; i++) {
            x[i] = bell();
        }
        memcpy(want, x, n * 4);
        plain->rotate(want, n, factors);
        assert_true(fabsf(dp_norm2(want, n) - dp_norm2(x, n)) < 1e-3F * dp_norm2(x, n));
        for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
            const dp_coder_kernels *wide = dp_coder_kernels_of_isa(isas[i]);

            if (wide == NULL) {
                continue;
            }
            memcpy(got, x, n * 4);
            wide->rotate(got, n, factors);
            for (size_t j = 0; j < n; j++) {
                assert_true(fabsf(want[j] - got[j]) < 1e-4F);
            }
            for (uint32_t bits = 1; bits <= 8; bits++) {
                dp_bits_fit a = plain->fit(x, n, bits, 4.0F / (float)(1U << bits), u);
                dp_bits_fit b = wide->fit(x, n, bits, 4.0F / (float)(1U << bits), v);

                assert_true(fabsf(a.dot - b.dot) <= 1e-3F * fabsf(a.dot) + 1);
                assert_true(fabsf(a.vv - b.vv) <= 1e-3F * a.vv + 1);
                for (size_t j = 0; j < n; j++) {
                    assert_true(abs((int)u[j] - (int)v[j]) <= 1); /* on a border: either */
                }
            }
            assert_int_equal(plain->quantize(x, n, 30, 127, (int8_t *)u),
                             wide->quantize(x, n, 30, 127, (int8_t *)v));
            assert_memory_equal(u, v, n);
        }
        free(x);
        free(want);
        free(got);
        free(factors);
        free(u);
        free(v);
    }
}

/* What is not a number, or too large, must become some code and no undefined conversion. */
/* Parts of one to many components, tables of every length. */
static void
product_loops_agree(void **state)
{
    const dp_coder_kernels *plain = dp_coder_kernels_of_isa(DP_ISA_SCALAR);
    static const size_t subs[] = {1, 2, 3, 4, 8, 16};
    static float centroids[16 * 256];
    static float halves[256];

    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        const dp_coder_kernels *wide = dp_coder_kernels_of_isa(isas[i]);

        for (size_t s = 0; wide != NULL && s < sizeof subs / sizeof subs[0]; s++) {
            for (size_t j = 0; j < subs[s] * 256; j++) {
                centroids[j] = (float)(int)(next() % 64) / 8; /* sums are exact, ties happen */
            }
            for (size_t c = 0; c < 256; c++) {
                halves[c] = 0;
                for (size_t j = 0; j < subs[s]; j++) {
                    halves[c] += centroids[j * 256 + c] * centroids[j * 256 + c] / 2;
                }
            }
            for (int round = 0; round < 50; round++) {
                float x[16];
                float want[256];
                float got[256];

                for (size_t j = 0; j < subs[s]; j++) {
                    x[j] = (float)(int)(next() % 64) / 8;
                }
                assert_int_equal(plain->nearest(x, subs[s], centroids, halves),
                                 wide->nearest(x, subs[s], centroids, halves));
                for (int euclid = 0; euclid < 2; euclid++) {
                    plain->table(x, subs[s], centroids, euclid != 0, want);
                    wide->table(x, subs[s], centroids, euclid != 0, got);
                    assert_memory_equal(want, got, sizeof want);
                }
            }
        }
        for (size_t parts = 1; wide != NULL && parts < 70; parts++) {
            float *tables = aligned(parts * 256 * 4);
            unsigned char *row = malloc(parts);
            const unsigned char *rows[3] = {row, row, row};
            dp_code_query query = {.codes = (int8_t *)tables, .bytes = parts, .base = 3};
            float want[3];
            float got[3];

            assert_non_null(row);
            for (size_t j = 0; j < parts * 256; j++) {
                tables[j] = (float)(int)(next() % 1024);
            }
            for (size_t j = 0; j < parts; j++) {
                row[j] = (unsigned char)next();
            }
            plain->measure_product(&query, rows, 3, want);
            wide->measure_product(&query, rows, 3, got);
            assert_memory_equal(want, got, sizeof want);
            free(row);
            free(tables);
        }
    }
}

static void
hostile_floats_become_some_code(void **state)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN, 3e38F, -3e38F, 1e-45F, -0.0F};
    static const dp_isa all[] = {DP_ISA_SCALAR, DP_ISA_AVX2, DP_ISA_AVX512};

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const dp_coder_kernels *k = dp_coder_kernels_of_isa(all[i]);
        float *x = aligned(64 * 4);
        uint8_t u[64];

        for (size_t b = 0; k != NULL && b < sizeof bad / sizeof bad[0]; b++) {
            for (size_t j = 0; j < 64; j++) {
                x[j] = j % 3 == 0 ? bad[b] : 1;
            }
            (void)k->fit(x, 64, 4, 0.1F, u);
            for (size_t j = 0; j < 64; j++) {
                assert_true(u[j] <= 15);
            }
            (void)k->quantize(x, 64, 10, 127, (int8_t *)u);
        }
        free(x);
    }
}

/* ---- coders ---- */

typedef struct {
    float *rows;
    uint32_t dim;
} rows_of;

static const float *
row_at(void *arg, uint32_t i, float *room)
{
    const rows_of *r = arg;

    (void)room;
    return r->rows + (size_t)i * r->dim;
}

/* Rows around a centre that is not the origin, components of unlike size. */
static rows_of
make_rows(uint32_t n, uint32_t dim)
{
    rows_of r = {.rows = malloc((size_t)n * dim * sizeof(float)), .dim = dim};

    assert_non_null(r.rows);
    for (size_t i = 0; i < (size_t)n * dim; i++) {
        r.rows[i] = 0.5F + bell() * (i % dim % 7 == 0 ? 2.0F : 0.5F);
    }
    return r;
}

static float
distance_of(dp_metric metric, const float *a, const float *b, uint32_t dim)
{
    double d = 0;

    for (uint32_t i = 0; i < dim; i++) {
        double x = (double)a[i];
        double y = (double)b[i];

        d += metric == DP_METRIC_EUCLID ? (x - y) * (x - y) : -x * y;
    }
    return (float)d;
}

typedef struct {
    dp_code kind;
    dp_code_options options;
    double error_max; /* root mean square, of the spread of distances, at 100 or more components */
} variant;

static const variant variants[] = {
    {DP_CODE_INT8, {.bits = 0}, 0.015},       {DP_CODE_INT8, {.quantile = 0.99F, .bits = 0}, 0.3},
    {DP_CODE_BINARY, {.bits = 0}, 0.8},       {DP_CODE_BINARY, {.bits = 2}, 0.5},
    {DP_CODE_BINARY, {.query_bits = 1}, 1.8}, {DP_CODE_ROTATED, {.bits = 1}, 0.45},
    {DP_CODE_ROTATED, {.bits = 2}, 0.22},     {DP_CODE_ROTATED, {.bits = 3}, 0.12},
    {DP_CODE_ROTATED, {.bits = 4}, 0.065},    {DP_CODE_ROTATED, {.bits = 5}, 0.035},
    {DP_CODE_ROTATED, {.bits = 6}, 0.02},     {DP_CODE_ROTATED, {.bits = 7}, 0.012},
    {DP_CODE_ROTATED, {.bits = 8}, 0.01},     {DP_CODE_ROTATED, {.bits = 4, .query_bits = 4}, 0.12},
    {DP_CODE_PRODUCT, {.ratio = 1}, 0.1},     {DP_CODE_PRODUCT, {.ratio = 4}, 0.5},
    {DP_CODE_PRODUCT, {.ratio = 16}, 1},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

typedef struct {
    double error;
    double spread; /* of the true distances */
    double mean;   /* of the errors */
    double beyond; /* share of rows nearer than the bound says */
} outcome;

static outcome
look(const dp_coder *coder, dp_metric metric, const rows_of *r, uint32_t n, bool from_rows)
{
    unsigned char *codes = malloc(n * dp_coder_row_bytes(coder));
    float *room = aligned(dp_coder_room_floats(coder) * sizeof *room);
    dp_code_query query = {.codes = aligned(dp_coder_query_bytes(coder))};
    outcome o = {0};
    double sum = 0;
    double sum2 = 0;
    size_t count = 0;

    assert_non_null(codes);
    for (uint32_t i = 0; i < n; i++) {
        (void)dp_coder_encode(coder, codes + i * dp_coder_row_bytes(coder),
                              r->rows + (size_t)i * r->dim, room);
    }
    for (uint32_t q = 0; q < n; q += n / 8) {
        const float *x = r->rows + (size_t)q * r->dim;

        if (from_rows) {
            dp_coder_query_from_row(coder, &query, codes + q * dp_coder_row_bytes(coder));
        } else {
            dp_coder_query_set(coder, &query, x, room);
        }
        for (uint32_t i = 0; i < n; i++) {
            const unsigned char *row = codes + i * dp_coder_row_bytes(coder);
            float want = distance_of(metric, x, r->rows + (size_t)i * r->dim, r->dim);
            float got;

            if (i == q) {
                continue;
            }
            query.measure(&query, &row, 1, &got);
            o.error += (double)(want - got) * (double)(want - got);
            o.mean += (double)(got - want);
            o.beyond += got - dp_coder_slack(coder, &query, row) > want;
            sum += (double)want;
            sum2 += (double)want * (double)want;
            count++;
        }
    }
    o.error = sqrt(o.error / (double)count);
    o.mean /= (double)count;
    o.beyond /= (double)count;
    sum /= (double)count;
    o.spread = sqrt(sum2 / (double)count - sum * sum);
    free(codes);
    free(room);
    free(query.codes);
    return o;
}

/* Codes of each kind tell distances as well as their bits allow, whatever the metric; ROTATED ones
 * are right in the mean and within their bound. */
static void
codes_tell_distances(void **state)
{
    static const uint32_t sizes[] = {100, 128, 384, 784};
    static const dp_metric metrics[] = {DP_METRIC_EUCLID, DP_METRIC_DOT};

    (void)state;
    for (size_t d = 0; d < sizeof sizes / sizeof sizes[0]; d++) {
        rows_of r = make_rows(200, sizes[d]);
        dp_coder_sample sample = {.vector = row_at, .arg = &r, .count = 200};

        for (size_t v = 0; v < VARIANTS * 2; v++) {
            const variant *x = &variants[v / 2];
            dp_metric metric = metrics[v % 2];
            dp_coder *coder = NULL;
            outcome o;

            assert_int_equal(
                dp_coder_train(&coder, x->kind, x->options, metric, sizes[d], &sample, NULL),
                ORT_OK);
            o = look(coder, metric, &r, 200, false);
            if (o.error > x->error_max * o.spread) {
                fail_msg("kind %d bits %u metric %d dim %u: error %g of %g", (int)x->kind,
                         x->options.bits, (int)metric, sizes[d], o.error, o.spread);
            }
            if (x->kind == DP_CODE_ROTATED) {
                assert_true(fabs(o.mean) < 0.2 * o.error + 0.02 * o.spread);
                assert_true(o.beyond < 0.02);
            }
            if (dp_coder_is_fine(coder)) {
                o = look(coder, metric, &r, 200, true);
                assert_true(o.error < 2 * x->error_max * o.spread);
            }
            dp_coder_free(coder);
        }
        free(r.rows);
    }
}

/* Any number of components, among them more than a block, a power of two and the largest. */
static void
any_dimension_is_coded(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 63, 64, 65, 127, 128, 129, 1000, 4099, 65536};

    (void)state;
    for (size_t d = 0; d < sizeof sizes / sizeof sizes[0]; d++) {
        rows_of r = make_rows(8, sizes[d]);
        dp_coder_sample sample = {.vector = row_at, .arg = &r, .count = 8};

        for (size_t v = 0; v < VARIANTS; v++) {
            dp_coder *coder = NULL;
            outcome o;

            if (variants[v].kind == DP_CODE_PRODUCT && sizes[d] > 4099) {
                continue; /* seconds of training */
            }
            assert_int_equal(dp_coder_train(&coder, variants[v].kind, variants[v].options,
                                            DP_METRIC_EUCLID, sizes[d], &sample, NULL),
                             ORT_OK);
            o = look(coder, DP_METRIC_EUCLID, &r, 8, false);
            assert_true(isfinite(o.error));
            dp_coder_free(coder);
        }
        free(r.rows);
    }
}

/* Rows of zeros, rows equal to the centre, and what is no number at all. */
static void
hostile_rows_are_coded(void **state)
{
    static const float bad[] = {0, INFINITY, -INFINITY, NAN, 3e38F, -3e38F, 1e-45F};

    (void)state;
    for (size_t v = 0; v < VARIANTS; v++) {
        rows_of r = make_rows(16, 70);
        dp_coder_sample sample = {.vector = row_at, .arg = &r, .count = 16};
        dp_coder *coder = NULL;

        for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
            for (size_t i = 0; i < 70; i++) {
                r.rows[b * 70 + i] = i % 2 == 0 || b % 2 == 0 ? bad[b] : 1;
            }
        }
        assert_int_equal(dp_coder_train(&coder, variants[v].kind, variants[v].options,
                                        DP_METRIC_DOT, 70, &sample, NULL),
                         ORT_OK);
        (void)look(coder, DP_METRIC_DOT, &r, 16, false);
        dp_coder_free(coder);
        free(r.rows);
    }
}

/* A model read back codes as the one it came from. */
static void
models_survive_the_way_through_bytes(void **state)
{
    rows_of r = make_rows(300, 96);
    dp_coder_sample sample = {.vector = row_at, .arg = &r, .count = 300};

    (void)state;
    for (size_t v = 0; v < VARIANTS; v++) {
        dp_coder *coder = NULL;
        dp_coder *again = NULL;
        const void *model;
        size_t bytes;
        unsigned char a[512];
        unsigned char b[512];
        float *room;

        assert_int_equal(dp_coder_train(&coder, variants[v].kind, variants[v].options,
                                        DP_METRIC_EUCLID, 96, &sample, NULL),
                         ORT_OK);
        model = dp_coder_model(coder, &bytes);
        assert_int_equal(dp_coder_open(&again, model, bytes, DP_METRIC_EUCLID, 96, NULL), ORT_OK);
        assert_true(dp_coder_error(again) == dp_coder_error(coder));
        assert_true(dp_coder_row_bytes(again) == dp_coder_row_bytes(coder));
        room = aligned(dp_coder_room_floats(coder) * sizeof *room);
        for (uint32_t i = 0; i < 300; i += 37) {
            float e = dp_coder_encode(coder, a, r.rows + (size_t)i * 96, room);

            assert_true(e == dp_coder_encode(again, b, r.rows + (size_t)i * 96, room));
            assert_memory_equal(a, b, dp_coder_row_bytes(coder));
        }
        free(room);
        dp_coder_free(coder);
        dp_coder_free(again);
    }
    free(r.rows);
}

/* Every prefix and every changed byte of a model is refused or gives a coder that is safe to use.
 */
static void
hostile_models_are_refused_or_harmless(void **state)
{
    rows_of r = make_rows(300, 20);
    dp_coder_sample sample = {.vector = row_at, .arg = &r, .count = 300};

    (void)state;
    for (size_t v = 0; v < VARIANTS; v++) {
        dp_coder *coder = NULL;
        const void *model;
        size_t bytes;
        unsigned char *bad;

        assert_int_equal(dp_coder_train(&coder, variants[v].kind, variants[v].options,
                                        DP_METRIC_EUCLID, 20, &sample, NULL),
                         ORT_OK);
        model = dp_coder_model(coder, &bytes);
        bad = malloc(bytes);
        assert_non_null(bad);
        for (size_t cut = 0; cut < bytes; cut += cut < 64 ? 1 : 61) {
            dp_coder *out = NULL;

            memcpy(bad, model, cut);
            assert_int_equal(dp_coder_open(&out, bad, cut, DP_METRIC_EUCLID, 20, NULL),
                             ORT_ECORRUPT);
            assert_null(out);
        }
        for (size_t i = 0; i < 600; i++) {
            dp_coder *out = NULL;
            size_t at = i < 48 * 4 ? i / 4 : (size_t)(next() % bytes);

            memcpy(bad, model, bytes);
            bad[at] = (unsigned char)next();
            if (dp_coder_open(&out, bad, bytes, DP_METRIC_EUCLID, 20, NULL) == ORT_OK) {
                (void)look(out, DP_METRIC_EUCLID, &r, 8, false);
                dp_coder_free(out);
            }
        }
        free(bad);
        dp_coder_free(coder);
    }
    free(r.rows);
}

static void
options_out_of_range_are_refused(void **state)
{
    static const variant bad[] = {
        {DP_CODE_INT8, {.quantile = 0.4F, .bits = 0}, 0},
        {DP_CODE_INT8, {.quantile = 1.1F, .bits = 0}, 0},
        {DP_CODE_INT8, {.quantile = 0.9F, .bits = 0}, 0}, /* and no sample */
        {DP_CODE_PRODUCT, {.ratio = 3}, 0},
        {DP_CODE_PRODUCT, {.ratio = 4}, 0}, /* no sample */
        {DP_CODE_BINARY, {.bits = 3}, 0},
        {DP_CODE_ROTATED, {.bits = 9}, 0},
        {DP_CODE_ROTATED, {.query_bits = 2}, 0},
        {DP_CODE_NONE, {.bits = 0}, 0},
        {DP_CODE_AUTO, {.bits = 0}, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dp_coder *coder = NULL;

        assert_int_equal(
            dp_coder_train(&coder, bad[i].kind, bad[i].options, DP_METRIC_DOT, 8, NULL, NULL),
            ORT_EINVAL);
        assert_null(coder);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_of_bits_agree),
        cmocka_unit_test(loops_over_floats_agree),
        cmocka_unit_test(product_loops_agree),
        cmocka_unit_test(hostile_floats_become_some_code),
        cmocka_unit_test(codes_tell_distances),
        cmocka_unit_test(any_dimension_is_coded),
        cmocka_unit_test(hostile_rows_are_coded),
        cmocka_unit_test(models_survive_the_way_through_bytes),
        cmocka_unit_test(hostile_models_are_refused_or_harmless),
        cmocka_unit_test(options_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
