/* A few bits a component: ROTATED after a random rotation (RaBitQ, arXiv:2405.12497 and
 * 2409.09913), BINARY as the components come.
 *
 * With c the centre of the sample and R the rotation, r = R (x - c) is rounded to v_i = u_i -
 * (2^bits - 1) / 2 at that step, of a few around the best for a Gaussian, whose v points most
 * nearly where r does. For p = R (q - c)
 *
 *   p . r  ~  factor * (v . p),  factor = |r|^2 / (v . r)
 *
 * which over random rotations is right in the mean and errs by about
 *
 *   |p| * error,  error = |r| sqrt((1 - t^2) / t^2 / (D - 1)),  t = (v . r) / (|v| |r|)
 *
 * (and a little for the rounding of the query),
 *
 * and from it the distances follow:
 *
 *   EUCLID       |q - x|^2 = |p|^2 + |r|^2 - 2 p . r             add = |r|^2
 *   DOT, COSINE  -(q . x)  = -(q . c) - (c . (x - c)) - p . r    add = -(c . (x - c))
 *
 * p itself is rounded to signed bytes s_i (or fewer bits, when asked for), so that v . p is one sum
 * of products of bytes and two constants of the query.
 *
 *   row: blocks of codes as in coder_kernels.h, then dp_bits_tail: add, factor, error */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/coder_internal.h"
#include "index/coder_kernels.h"

/* Standard errors of the estimate that a search counts on. RaBitQ takes 1.9. */
#define SURE 2.5F

/* Rounding the query to 1/127 of its largest component, some 3.5 deviations, moves it by 0.8 % of
 * its length. */
#define QUERY_ERROR2 6.4e-5

#define SEED UINT64_C(0x6F7274686D746E74)

/* Steps that err least for a Gaussian of deviation 1 (Max 1960, uniform quantizers). */
static const float gaussian_step[9] = {0,      1.596F, 0.996F,  0.586F, 0.335F,
                                       0.188F, 0.104F, 0.0569F, 0.0308F};
static const float step_tries[] = {0.75F, 0.87F, 1.0F, 1.15F, 1.35F, 1.7F};

/* What is derived from the model; the arrays follow, aligned to 64. */
typedef struct {
    const dp_coder_kernels *kernels;
    size_t padded;
    double centre2;            /* |c|^2 */
    float *centre;             /* [padded], rotated */
    float *factors;            /* [DP_ROTATE_ROUNDS * padded], +1 and -1; ROTATED only */
    const float *centre_plain; /* [dim], the model's floats */
} bits_model;

static const bits_model *
model_of(const dp_coder *coder)
{
    return coder->derived;
}

static ort_err
bits_train(dp_coder *coder, const dp_coder_sample *sample, ort_diag *diag)
{
    uint32_t n = sample->count < DP_CODER_SAMPLE_MAX ? sample->count : DP_CODER_SAMPLE_MAX;
    double *sums = calloc(coder->dim, sizeof *sums);
    float *room = malloc(coder->dim * sizeof *room);
    ort_err err = ORT_OK;

    if (sums == NULL || room == NULL) {
        err = ort_fail(diag, ORT_ENOMEM, "no memory to train a coder");
        n = 0;
    }
    for (uint32_t i = 0; i < n; i++) {
        const float *x =
            sample->vector(sample->arg, (uint32_t)((uint64_t)i * sample->count / n), room);

        for (uint32_t j = 0; j < coder->dim; j++) {
            sums[j] += (double)x[j];
        }
    }
    for (uint32_t j = 0; j < coder->dim && n > 0; j++) {
        float mean = (float)(sums[j] / n);

        coder->floats[j] = isfinite(mean) ? mean : 0;
    }
    coder->seed = coder->kind == DP_CODE_ROTATED ? SEED : 0;
    free(sums);
    free(room);
    return err;
}

/* +1 and -1 as splitmix64 of the seed draws them. */
static void
draw_factors(float *factors, size_t n, uint64_t seed)
{
    uint64_t word = 0;

    for (size_t i = 0; i < n; i++) {
        if (i % 64 == 0) {
            seed += UINT64_C(0x9E3779B97F4A7C15);
            word = (seed ^ (seed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
            word = (word ^ (word >> 27)) * UINT64_C(0x94D049BB133111EB);
            word ^= word >> 31;
        }
        factors[i] = ((word >> (i % 64)) & 1) != 0 ? 1.0F : -1.0F;
    }
}

/* float[dim] -> rotated, not centred, in room[padded]. */
static void
turn(const dp_coder *coder, const float *x, float *room)
{
    const bits_model *m = model_of(coder);

    memcpy(room, x, coder->dim * sizeof *room);
    memset(room + coder->dim, 0, (m->padded - coder->dim) * sizeof *room);
    if (coder->kind == DP_CODE_ROTATED) {
        m->kernels->rotate(room, m->padded, m->factors);
    }
}

static ort_err
bits_prepare(dp_coder *coder, ort_diag *diag)
{
    size_t padded = dp_bits_padded(coder->dim);
    size_t head = (sizeof(bits_model) + 63) / 64 * 64;
    size_t count = padded * (coder->kind == DP_CODE_ROTATED ? DP_ROTATE_ROUNDS + 1 : 1);
    unsigned char *block = aligned_alloc(64, head + count * sizeof(float));
    bits_model *m = (void *)block;
    double centre2 = 0;

    if (block == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a coder");
    }
    for (uint32_t i = 0; i < coder->dim; i++) {
        centre2 += (double)coder->floats[i] * (double)coder->floats[i];
    }
    *m = (bits_model){.kernels = dp_coder_kernels_best(),
                      .padded = padded,
                      .centre2 = centre2,
                      .centre = (float *)(void *)(block + head),
                      .factors = (float *)(void *)(block + head) + padded,
                      .centre_plain = coder->floats};
    coder->derived = block;
    if (coder->kind == DP_CODE_ROTATED) {
        draw_factors(m->factors, padded * DP_ROTATE_ROUNDS, coder->seed);
    }
    turn(coder, coder->floats, m->centre);
    coder->row_bytes = dp_bits_row_bytes(coder->dim, coder->options.bits);
    coder->query_bytes = padded;
    coder->room_floats = padded * 2; /* a vector, and codes twice */
    /* Eight bits do not fit a signed query without a remainder. */
    coder->fine = coder->kind == DP_CODE_ROTATED && coder->options.bits >= 4 &&
                  coder->options.bits < 8 && coder->options.query_bits == 8;
    coder->measure = m->kernels->measure_bits[coder->options.bits];
    return ORT_OK;
}

/* Codes of the low `part` bits of u >> below, in the block's order. */
static void
pack_part(unsigned char *out, const uint8_t *u, uint32_t part, uint32_t below)
{
    uint32_t each = DP_BITS_BLOCK * part / 8;
    uint32_t mask = (1U << part) - 1;

    memset(out, 0, each);
    for (uint32_t i = 0; i < DP_BITS_BLOCK; i++) {
        uint32_t byte = part == 1 ? i / 8 : i % each;
        uint32_t shift = part == 1 ? i % 8 : i / each * part;

        out[byte] |= (unsigned char)(((uint32_t)(u[i] >> below) & mask) << shift);
    }
}

static void
pack(unsigned char *row, const uint8_t *u, size_t padded, uint32_t bits)
{
    for (size_t b = 0; b < padded; b += DP_BITS_BLOCK) {
        uint32_t below = bits;

        for (uint32_t part = 8; part > 0; part /= 2) {
            if ((bits & part) != 0) {
                below -= part;
                pack_part(row, u + b, part, below);
                row += DP_BITS_BLOCK * part / 8;
            }
        }
    }
}

/* The inverse of pack(): the codes as bytes. */
static void
unpack(const unsigned char *row, uint8_t *u, size_t padded, uint32_t bits)
{
    for (size_t b = 0; b < padded; b += DP_BITS_BLOCK) {
        memset(u + b, 0, DP_BITS_BLOCK);
        for (uint32_t part = 8; part > 0; part /= 2) {
            uint32_t each = DP_BITS_BLOCK * part / 8;
            uint32_t mask = (1U << part) - 1;

            if ((bits & part) == 0) {
                continue;
            }
            for (uint32_t i = 0; i < DP_BITS_BLOCK; i++) {
                uint32_t byte = part == 1 ? i / 8 : i % each;
                uint32_t shift = part == 1 ? i % 8 : i / each * part;

                u[b + i] = (uint8_t)((uint32_t)(u[b + i] << part) |
                                     (((uint32_t)row[byte] >> shift) & mask));
            }
            row += each;
        }
    }
}

/* Rounds r at the best of a few steps; the codes end up in u. */
static dp_bits_fit
round_best(const dp_coder *coder, const float *r, double norm2, uint8_t *u, uint8_t *trial)
{
    const bits_model *m = model_of(coder);
    const uint32_t bits = coder->options.bits;
    /* A rotation spreads a vector over its padding too. */
    const size_t parts = coder->kind == DP_CODE_ROTATED ? m->padded : coder->dim;
    const float deviation = (float)sqrt(norm2 / (double)parts);
    const size_t tries = bits == 1 ? 1 : sizeof step_tries / sizeof step_tries[0];
    dp_bits_fit best = {0};

    for (size_t i = 0; i < tries; i++) {
        float step = gaussian_step[bits] * deviation * (bits == 1 ? 1 : step_tries[i]);
        dp_bits_fit fit = m->kernels->fit(r, m->padded, bits, step > 0 ? step : 1, trial);

        if (i == 0 || (double)fit.dot * (double)fit.dot * (double)best.vv >
                          (double)best.dot * (double)best.dot * (double)fit.vv) {
            best = fit;
            memcpy(u, trial, m->padded);
        }
    }
    return best;
}

static float
bits_encode(const dp_coder *coder, unsigned char *row, const float *x, float *room)
{
    const bits_model *m = model_of(coder);
    uint8_t *u = (uint8_t *)(room + m->padded);
    dp_bits_tail tail = {0};
    double norm2 = 0;
    double to_centre = 0;
    double lost = 0;
    dp_bits_fit fit;

    turn(coder, x, room);
    for (size_t i = 0; i < m->padded; i++) {
        room[i] -= m->centre[i];
        norm2 += (double)room[i] * (double)room[i];
        to_centre += (double)room[i] * (double)m->centre[i];
    }
    fit = round_best(coder, room, norm2, u, u + m->padded);
    pack(row, u, m->padded, coder->options.bits);
    tail.add = (float)(coder->metric == DP_METRIC_EUCLID ? norm2 : -to_centre);
    if (fit.dot > 0.0F) {
        double t2 = (double)fit.dot * (double)fit.dot / ((double)fit.vv * norm2);

        t2 = t2 < 1 ? t2 : 1;
        lost = norm2 * (1 - t2);
        tail.factor = (float)(norm2 / (double)fit.dot);
        tail.error = (float)sqrt(lost / t2 / (double)(m->padded - 1) +
                                 norm2 * QUERY_ERROR2 / (double)m->padded);
    }
    memcpy(row + m->padded / 8 * coder->options.bits, &tail, sizeof tail);
    return (float)lost;
}

/* What turns the sum of u_i s_i into a distance: p ~ scale * s. */
static void
weigh(const dp_coder *coder, dp_code_query *query, double base, double scale, double sum,
      double norm2)
{
    double sign = coder->metric == DP_METRIC_EUCLID ? -2 : -1;
    double middle = ((double)(1U << coder->options.bits) - 1) / 2;

    query->bytes = model_of(coder)->padded;
    query->exact = false;
    query->base = (float)base;
    query->w_dot = (float)(sign * scale);
    query->w_sum = (float)(-sign * scale * middle * sum);
    query->reach = (float)(-sign * sqrt(norm2)) * SURE;
}

/* One bit each: the sign, at the mean size. */
static int32_t
quantize_signs(const float *p, size_t n, int8_t *s, double *scale)
{
    double size = 0;
    int32_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        s[i] = p[i] < 0.0F ? -1 : 1;
        size += fabs((double)p[i]);
        sum += s[i];
    }
    *scale = size / (double)n;
    return sum;
}

static void
bits_query_set(const dp_coder *coder, dp_code_query *query, const float *x, float *room)
{
    const bits_model *m = model_of(coder);
    float limit = coder->options.query_bits == 4 ? 7.0F : 127.0F;
    float largest = 0;
    float norm2 = 0;
    double scale;
    double base;
    int32_t sum;

    turn(coder, x, room);
    for (size_t i = 0; i < m->padded; i++) {
        float size;

        room[i] -= m->centre[i];
        size = fabsf(room[i]);
        largest = size > largest ? size : largest;
    }
    norm2 = dp_norm2(room, m->padded);
    if (coder->options.query_bits == 1) {
        sum = quantize_signs(room, m->padded, query->codes, &scale);
    } else {
        scale = largest > 0 && isfinite(largest) ? (double)largest / (double)limit : 1;
        sum = m->kernels->quantize(room, m->padded, (float)(1 / scale), limit, query->codes);
    }
    if (coder->metric == DP_METRIC_EUCLID) {
        base = (double)norm2;
    } else {
        const dp_distance *dot = dp_distance_of(DP_METRIC_DOT, DP_ELEM_F32);

        base = (double)dot->one(x, m->centre_plain, coder->dim);
    }
    weigh(coder, query, base, scale, sum, (double)norm2);
}

static void
bits_query_from_row(const dp_coder *coder, dp_code_query *query, const unsigned char *row)
{
    const bits_model *m = model_of(coder);
    uint32_t bits = coder->options.bits;
    uint8_t *u = (uint8_t *)query->codes;
    dp_bits_tail tail;
    int32_t sum = 0;
    double base;

    memcpy(&tail, row + m->padded / 8 * bits, sizeof tail);
    unpack(row, u, m->padded, bits);
    for (size_t i = 0; i < m->padded; i++) {
        /* Twice v, a whole number. */
        int v2 = 2 * (int)u[i] - (int)((1U << bits) - 1);

        query->codes[i] = (int8_t)v2;
        sum += v2;
    }
    base = (double)tail.add - (coder->metric == DP_METRIC_EUCLID ? 0 : m->centre2);
    weigh(coder, query, base, (double)tail.factor / 2, sum, 0);
}

static float
bits_slack(const dp_coder *coder, const dp_code_query *query, const unsigned char *row)
{
    dp_bits_tail tail;

    /* Only a random rotation makes the errors random; the bound counts the query's rounding to
     * bytes, nothing coarser. */
    if (coder->kind != DP_CODE_ROTATED || coder->options.query_bits != 8) {
        return INFINITY;
    }
    memcpy(&tail, row + query->bytes / 8 * coder->options.bits, sizeof tail);
    return query->reach * tail.error;
}

const dp_coder_ops dp_coder__bits = {.train = bits_train,
                                     .prepare = bits_prepare,
                                     .encode = bits_encode,
                                     .query_set = bits_query_set,
                                     .query_from_row = bits_query_from_row,
                                     .slack = bits_slack};
