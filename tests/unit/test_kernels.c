/* Every kernel of every instruction set against the plain loop. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "index/bytes.h"
#include "index/code.h"
#include "index/distance.h"
#include "index/distance_internal.h"

static uint64_t seed = 42;

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

static const dp_isa isas[] = {DP_ISA_SSE, DP_ISA_AVX2, DP_ISA_AVX512, DP_ISA_NEON};
static const size_t dims[] = {1,   2,   3,   7,   8,   9,    15,   16,   17,  31,
                              32,  33,  47,  63,  64,  65,   79,   80,   96,  127,
                              128, 129, 200, 384, 784, 1000, 1536, 1537, 4099};

static void
fill_row(unsigned char *row, dp_elem elem, size_t dim)
{
    for (size_t i = 0; i < dim; i++) {
        float x = uniform();
        uint16_t half = dp_f32_to_f16(x);

        switch (elem) {
        case DP_ELEM_F32:
            memcpy(row + i * 4, &x, 4);
            break;
        case DP_ELEM_F16:
            memcpy(row + i * 2, &half, 2);
            break;
        case DP_ELEM_U8:
            row[i] = (unsigned char)next();
            break;
        }
    }
}

/* Rows end at the last byte of an allocation: a kernel that reads on is caught. */
static void
check_pair(const dp_distance *fast, dp_metric metric, dp_elem elem, size_t dim, size_t shift)
{
    size_t bytes = dim * dp_elem_bytes(elem);
    unsigned char *raw = malloc(shift + bytes);
    float *query = malloc(dim * sizeof *query);
    float want;
    float got;
    float many;
    const void *rows[1];
    double scale;

    assert_non_null(raw);
    assert_non_null(query);
    fill_row(raw + shift, elem, dim);
    for (size_t i = 0; i < dim; i++) {
        query[i] = uniform() * (elem == DP_ELEM_U8 ? 255.0F : 1.0F);
    }
    rows[0] = raw + shift;
    want = dp_distance_of_isa(metric, elem, DP_ISA_SCALAR)->one(query, raw + shift, dim);
    got = fast->one(query, raw + shift, dim);
    fast->many(query, rows, 1, dim, &many);
    /* What cancels in a sum is as large as its terms. */
    scale = (double)dim * (elem == DP_ELEM_U8 ? 65025.0 : 1.0);
    if (fabs((double)want - (double)got) > 1e-5 * scale + 1e-6 || many != got) {
        fail_msg("%s metric %d elem %d dim %zu shift %zu: %g, not %g", fast->name, (int)metric,
                 (int)elem, dim, shift, (double)got, (double)want);
    }
    free(raw);
    free(query);
}

/* Tails and unaligned rows are where wide kernels go wrong. */
static void
every_kernel_agrees_with_the_plain_loop(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        for (int m = 0; m < DP_METRIC_COUNT; m++) {
            for (int e = 0; e < DP_ELEM_COUNT; e++) {
                const dp_distance *fast = dp_distance_of_isa((dp_metric)m, (dp_elem)e, isas[i]);

                for (size_t d = 0; fast != NULL && d < sizeof dims / sizeof dims[0]; d++) {
                    for (size_t shift = 0; shift < 4; shift++) {
                        check_pair(fast, (dp_metric)m, (dp_elem)e, dims[d], shift);
                    }
                }
            }
        }
    }
}

static void
check_hostile(const dp_distance *fast, dp_metric metric, dp_elem elem, float bad)
{
    enum { DIM = 67 };
    unsigned char row[DIM * 4];
    float query[DIM];
    float want;
    float got;

    for (size_t i = 0; i < DIM; i++) {
        float x = i == 66 ? bad : 0.5F;
        uint16_t half = dp_f32_to_f16(x);

        query[i] = 1.0F;
        if (elem == DP_ELEM_F32) {
            memcpy(row + i * 4, &x, 4);
        } else {
            memcpy(row + i * 2, &half, 2);
        }
    }
    want = dp_distance_of_isa(metric, elem, DP_ISA_SCALAR)->one(query, row, DIM);
    got = fast->one(query, row, DIM);
    if (isnan(want)) {
        assert_true(isnan(got));
    } else if (isinf(want)) {
        assert_true(isinf(got) && (got > 0) == (want > 0));
    } else {
        assert_true(fabsf(want - got) <= 1e-4F * fabsf(want));
    }
}

/* Rows may hold anything that fits the type; infinities and NaN must come out as what they are. */
static void
hostile_values_pass_through(void **state)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN,   3e38F,    -3e38F,  1e-45F,
                                -0.0F,    65504.0F,  6e-8F, -3.1e-5F, 0x1p-14F};

    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        for (int m = 0; m < DP_METRIC_COUNT; m++) {
            for (size_t b = 0; b < sizeof bad / sizeof bad[0]; b++) {
                for (int e = DP_ELEM_F32; e <= DP_ELEM_F16; e++) {
                    const dp_distance *fast = dp_distance_of_isa((dp_metric)m, (dp_elem)e, isas[i]);

                    if (fast != NULL) {
                        check_hostile(fast, (dp_metric)m, (dp_elem)e, bad[b]);
                    }
                }
            }
        }
    }
}

/* Each instruction set has its own way from half to single: all 65,536, through a product by 1. */
static void
every_kernel_reads_every_half(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
        const dp_distance *fast = dp_distance_of_isa(DP_METRIC_DOT, DP_ELEM_F16, isas[i]);

        for (uint32_t h = 0; fast != NULL && h < 65536; h++) {
            uint16_t half = (uint16_t)h;
            float one = 1.0F;
            float want = dp_f16_to_f32(half);
            float got = -fast->one(&one, &half, 1);

            assert_true(isnan(want) ? isnan(got) : got == want);
        }
    }
}

/* All 65,536 halves go to single and back unchanged. */
static void
every_half_survives_the_way_to_single_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = dp_f16_to_f32((uint16_t)h);

        if (isnan(x)) {
            assert_true(isnan(dp_f16_to_f32(dp_f32_to_f16(x))));
        } else {
            assert_int_equal(dp_f32_to_f16(x), h);
        }
    }
}

/* Between two halves the nearer is taken, and the even one of two equally near. */
static void
singles_round_to_the_nearest_half(void **state)
{
    (void)state;
    assert_int_equal(dp_f32_to_f16(1.0F + 0x1p-11F), 0x3C00);            /* tie: even below */
    assert_int_equal(dp_f32_to_f16(1.0F + 0x1p-10F + 0x1p-11F), 0x3C02); /* tie: even above */
    assert_int_equal(dp_f32_to_f16(1.0F + 0x1p-11F + 0x1p-20F), 0x3C01); /* above the tie */
    assert_int_equal(dp_f32_to_f16(65504.0F), 0x7BFF);                   /* the largest */
    assert_int_equal(dp_f32_to_f16(65519.0F), 0x7BFF);
    assert_int_equal(dp_f32_to_f16(65520.0F), 0x7C00); /* rounds to infinity */
    assert_int_equal(dp_f32_to_f16(0x1p-24F), 0x0001); /* the smallest */
    assert_int_equal(dp_f32_to_f16(0x1p-25F), 0x0000); /* tie with zero: even */
    assert_int_equal(dp_f32_to_f16(-0.0F), 0x8000);
}

static void
scores_are_qdrants(void **state)
{
    (void)state;
    assert_true(dp_metric_score(DP_METRIC_DOT, -3.5F) == 3.5F);
    assert_true(dp_metric_score(DP_METRIC_COSINE, -0.25F) == 0.25F);
    assert_true(dp_metric_score(DP_METRIC_EUCLID, 25.0F) == 5.0F);
    assert_true(dp_metric_score(DP_METRIC_MANHATTAN, 7.0F) == 7.0F);
    assert_false(signbit(dp_metric_score(DP_METRIC_DOT, 0.0F)));
    for (int m = 0; m < DP_METRIC_COUNT; m++) {
        assert_true(dp_metric_distance((dp_metric)m, dp_metric_score((dp_metric)m, 4.0F)) == 4.0F);
    }
}

/* The codes of a random vector decode to within half a step of it. */
static void
codes_are_within_half_a_step(void **state)
{
    (void)state;
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        size_t dim = dims[d];
        unsigned char *row = malloc(dp_code_row_bytes(dim));
        float *x = malloc(dim * sizeof *x);
        dp_code_tail tail;

        for (size_t i = 0; i < dim; i++) {
            x[i] = uniform() * 3.0F + 1.0F;
        }
        assert_false(dp_code_encode(row, x, dim));
        memcpy(&tail, row + dp_code_bytes(dim), sizeof tail);
        for (size_t i = 0; i < dim; i++) {
            double decoded = (double)tail.offset + (double)tail.scale * row[i];

            assert_true(fabs(decoded - (double)x[i]) <= 0.501 * (double)tail.scale + 1e-6);
        }
        free(row);
        free(x);
    }
}

/* Sets of bytes (images, SIFT) lose nothing. */
static void
vectors_of_bytes_are_coded_exactly(void **state)
{
    float x[300];
    unsigned char row[512];

    (void)state;
    for (size_t i = 0; i < 300; i++) {
        x[i] = (float)(next() % 256);
    }
    x[7] = 12.0F;
    assert_true(dp_code_encode(row, x, 300));
    for (size_t i = 0; i < 300; i++) {
        assert_int_equal(row[i], (int)x[i]);
    }
    x[7] = 12.5F;
    assert_false(dp_code_encode(row, x, 300));
    x[7] = 256.0F;
    assert_false(dp_code_encode(row, x, 300));
    x[7] = NAN;
    assert_false(dp_code_encode(row, x, 300));
}

/* The fast coder must not differ from the plain one by more than a rounding. */
static void
both_coders_agree(void **state)
{
    (void)state;
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        size_t dim = dims[d];
        float *x = malloc(dim * sizeof *x);
        uint8_t *a = malloc(dim);
        uint8_t *b = malloc(dim);
        dp_code_stats sa;
        dp_code_stats sb;

        for (size_t i = 0; i < dim; i++) {
            x[i] = uniform();
        }
        assert_int_equal(dp_code_quantize__scalar(a, x, dim, &sa),
                         dp_code_quantize_best()(b, x, dim, &sb));
        assert_true(sa.scale == sb.scale && sa.offset == sb.offset);
        for (size_t i = 0; i < dim; i++) {
            assert_true(abs((int)a[i] - (int)b[i]) <= 1);
        }
        assert_true(llabs(sa.sum - sb.sum) <= (long long)dim);
        free(x);
        free(a);
        free(b);
    }
}

/* Distances of codes: the fast kernels against plain arithmetic on decoded components, for any
 * number of rows (they go by four) and all metrics. */
static void
code_distances_agree_with_decoded_vectors(void **state)
{
    static const dp_metric metrics[] = {DP_METRIC_DOT, DP_METRIC_COSINE, DP_METRIC_EUCLID};
    enum { ROWS = 9 };

    (void)state;
    for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
        size_t dim = dims[d];
        size_t row_bytes = dp_code_row_bytes(dim);
        unsigned char *codes = malloc(ROWS * row_bytes);
        const unsigned char *rows[ROWS];
        float *x = malloc(dim * sizeof *x);
        float *q = malloc(dim * sizeof *q);
        dp_code_query query;
        float fast[ROWS];
        float plain[ROWS];

        query.codes = aligned_alloc(64, (dim + 127) / 64 * 64);
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t i = 0; i < dim; i++) {
                x[i] = uniform() * 10.0F;
            }
            (void)dp_code_encode(codes + r * row_bytes, x, dim);
            rows[r] = codes + r * row_bytes;
        }
        for (size_t i = 0; i < dim; i++) {
            q[i] = uniform() * 10.0F;
        }
        for (size_t m = 0; m < 3; m++) {
            dp_code_query_set(&query, metrics[m], q, dim);
            dp_code_measure__scalar(&query, rows, ROWS, plain);
            for (size_t n = 1; n <= ROWS; n++) {
                dp_code_measure_best()(&query, rows, n, fast);
                for (size_t r = 0; r < n; r++) {
                    assert_true(fabs((double)fast[r] - (double)plain[r]) <= 1e-3 * (double)dim);
                }
            }
            /* A step is 20/255 and the query rounds by half of one; errors add up like sqrt(dim).
             */
            for (size_t r = 0; r < ROWS; r++) {
                double sum = 0;
                dp_code_tail tail;

                memcpy(&tail, rows[r] + dp_code_bytes(dim), sizeof tail);
                for (size_t i = 0; i < dim; i++) {
                    double y = (double)tail.offset + (double)tail.scale * rows[r][i];

                    sum += metrics[m] == DP_METRIC_EUCLID ? ((double)q[i] - y) * ((double)q[i] - y)
                                                          : -(double)q[i] * y;
                }
                assert_true(fabs(sum - (double)plain[r]) <= 2.0 + 4.0 * sqrt((double)dim));
            }
        }
        free(query.codes);
        free(codes);
        free(x);
        free(q);
    }
}

/* The integer products, at the largest dimension and the largest values: 32 bits must hold. */
static void
code_products_do_not_overflow(void **state)
{
    size_t dim = 65536;
    int8_t *q = aligned_alloc(64, dim);
    uint8_t *c = malloc(dim);

    (void)state;
    memset(q, -128, dim);
    memset(c, 255, dim);
    assert_int_equal(dp_code_dot__scalar(q, c, dim), -128 * 255 * 65536);
    assert_int_equal(dp_code_dot_best()(q, c, dim), -128 * 255 * 65536);
    for (size_t i = 0; i < dim; i++) {
        q[i] = (int8_t)next();
        c[i] = (uint8_t)next();
    }
    for (size_t n = 1; n < 300; n++) {
        assert_int_equal(dp_code_dot_best()(q, c, n), dp_code_dot__scalar(q, c, n));
#if defined(__x86_64__)
        assert_int_equal(dp_code_dot__sse(q, c, n), dp_code_dot__scalar(q, c, n));
        if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) {
            assert_int_equal(dp_code_dot__evexvnni(q, c, n), dp_code_dot__scalar(q, c, n));
        }
#endif
    }
#if defined(__x86_64__)
    if (dp_isa_best() == DP_ISA_AVX512) {
        assert_int_equal(dp_code_dot__avx512(q, c, dim), dp_code_dot__scalar(q, c, dim));
        assert_int_equal(dp_code_dot__avx2(q, c, dim), dp_code_dot__scalar(q, c, dim));
    }
#endif
    free(q);
    free(c);
}

/* What each processor has of the kernels for rows of bytes. */
static size_t
bytes_kernels(dp_code_measure_fn *out)
{
    size_t n = 0;

#if defined(__x86_64__)
    if (dp_distance_of_isa(DP_METRIC_DOT, DP_ELEM_F32, DP_ISA_SSE) != NULL) {
        out[n++] = dp_bytes_euclid__sse;
    }
    if (dp_distance_of_isa(DP_METRIC_DOT, DP_ELEM_F32, DP_ISA_AVX2) != NULL) {
        out[n++] = dp_bytes_euclid__avx2;
    }
    if (dp_isa_has_avxvnni()) {
        out[n++] = dp_bytes_euclid__avxvnni;
    }
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) {
        out[n++] = dp_bytes_euclid__evexvnni;
    }
#endif
    out[n++] = dp_bytes_euclid_best();
    return n;
}

/* Rows end at the last byte of an allocation, and the distance is exact: the sum of squares itself,
 * not near it. */
static void
check_bytes(dp_code_measure_fn fast, size_t dim, int fill)
{
    enum { ROWS = 9 };
    unsigned char *raw = malloc(ROWS * dim);
    const unsigned char *rows[ROWS];
    float *q = malloc(dim * sizeof *q);
    dp_code_query query = {.codes = aligned_alloc(64, (dim + 63) / 64 * 64)};
    float got[ROWS];

    assert_true(raw != NULL && q != NULL && query.codes != NULL);
    for (size_t i = 0; i < ROWS * dim; i++) {
        raw[i] = fill >= 0 ? (unsigned char)(255 - fill) : (unsigned char)next();
    }
    for (size_t r = 0; r < ROWS; r++) {
        rows[r] = raw + r * dim;
    }
    for (size_t i = 0; i < dim; i++) {
        q[i] = fill >= 0 ? (float)fill : (float)(next() % 256);
    }
    assert_true(dp_bytes_query_set(&query, q, dim));
    for (size_t n = 1; n <= ROWS; n++) {
        fast(&query, rows + (ROWS - n), n, got);
        for (size_t r = 0; r < n; r++) {
            int64_t want = 0;

            for (size_t i = 0; i < dim; i++) {
                int64_t d = (int64_t)rows[ROWS - n + r][i] - (int64_t)q[i];

                want += d * d;
            }
            assert_true(got[r] == (float)want);
        }
    }
    /* A row as a query says the same, and is at no distance from itself. */
    dp_bytes_query_from_row(&query, rows[0], dim);
    fast(&query, rows, 1, got);
    assert_true(got[0] == 0.0F);
    free(raw);
    free(q);
    free(query.codes);
}

static void
distances_of_bytes_are_exact(void **state)
{
    dp_code_measure_fn fast[6] = {dp_bytes_euclid__scalar};
    size_t count = 1 + bytes_kernels(fast + 1);

    (void)state;
    for (size_t k = 0; k < count; k++) {
        for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++) {
            check_bytes(fast[k], dims[d], -1);
            check_bytes(fast[k], dims[d], 0);
            check_bytes(fast[k], dims[d], 255);
        }
        check_bytes(fast[k], DP_BYTES_DIM_MAX, 0);
        check_bytes(fast[k], DP_BYTES_DIM_MAX, 255);
    }
}

/* What is no integer 0..255 is no query of bytes. */
static void
other_queries_are_not_of_bytes(void **state)
{
    static const float bad[] = {-1.0F, 256.0F, 0.5F, INFINITY, NAN};
    float x[40] = {0};
    _Alignas(64) int8_t codes[64];
    dp_code_query query = {.codes = codes};

    (void)state;
    assert_true(dp_bytes_query_set(&query, x, 40));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        x[39] = bad[i];
        assert_false(dp_bytes_query_set(&query, x, 40));
    }
}

/* The scan of products: every kernel offers the same rows, those at the bound and those that are no
 * numbers too. */
static void
products_near_enough_are_all_offered(void **state)
{
    enum { N = 301 };
    static const float bounds[] = {-2.0F, -0.25F, 0.0F, 0.5F, INFINITY};
    float norms[N];
    float products[N];
    uint16_t want[N];
    uint16_t got[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        norms[i] = (float)(next() % 9) / 4.0F; /* so that sums are exact, and many are at a bound */
        products[i] = (float)(next() % 9) / 4.0F;
    }
    products[7] = NAN;
    products[N - 1] = INFINITY;
    for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        for (size_t n = 1; n <= N; n += 10) {
            size_t count = dp_flat_nearer__scalar(norms, products, -2.0F, bounds[b], n, want);

            assert_int_equal(dp_flat_nearer_best()(norms, products, -2.0F, bounds[b], n, got),
                             count);
            assert_memory_equal(got, want, count * sizeof *got);
#if defined(__x86_64__)
            if (dp_distance_of_isa(DP_METRIC_DOT, DP_ELEM_F32, DP_ISA_AVX2) != NULL) {
                assert_int_equal(dp_flat_nearer__avx2(norms, products, -2.0F, bounds[b], n, got),
                                 count);
                assert_memory_equal(got, want, count * sizeof *got);
            }
#endif
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kernel_agrees_with_the_plain_loop),
        cmocka_unit_test(hostile_values_pass_through),
        cmocka_unit_test(every_kernel_reads_every_half),
        cmocka_unit_test(every_half_survives_the_way_to_single_and_back),
        cmocka_unit_test(singles_round_to_the_nearest_half),
        cmocka_unit_test(scores_are_qdrants),
        cmocka_unit_test(codes_are_within_half_a_step),
        cmocka_unit_test(vectors_of_bytes_are_coded_exactly),
        cmocka_unit_test(both_coders_agree),
        cmocka_unit_test(code_distances_agree_with_decoded_vectors),
        cmocka_unit_test(code_products_do_not_overflow),
        cmocka_unit_test(distances_of_bytes_are_exact),
        cmocka_unit_test(other_queries_are_not_of_bytes),
        cmocka_unit_test(products_near_enough_are_all_offered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
