/* data-plane/index/coder_kernels.h: the loops of the trained coders, one table a instruction set.
 */
#ifndef DP_CODER_KERNELS_H
#define DP_CODER_KERNELS_H
#include "index/code.h"

/* Codes of 1 to 8 bits, 64 components a block. The bits of a component are cut, highest first, into
 * parts of 8, 4, 2 and 1 (7 bits are 4 + 2 + 1), and a block holds its parts one after the other:
 *
 *   part 8  byte j        component j
 *   part 4  byte j < 32   components j (low half) and 32 + j
 *   part 2  byte j < 16   components j (lowest two bits), 16 + j, 32 + j, 48 + j
 *   part 1  byte j < 8    components 8 j (lowest bit) .. 8 j + 7
 *
 * so that a block of b bits has 8 b bytes and each part is widened to bytes by one shift and one
 * mask. After the blocks comes the tail. */
#define DP_BITS_BLOCK 64u

typedef struct {
    float add;
    float factor;
    float error; /* see coder_bits.c */
} dp_bits_tail;

static inline size_t
dp_bits_padded(size_t dim)
{
    return (dim + DP_BITS_BLOCK - 1) / DP_BITS_BLOCK * DP_BITS_BLOCK;
}

static inline size_t
dp_bits_row_bytes(size_t dim, uint32_t bits)
{
    return dp_bits_padded(dim) / 8 * bits + sizeof(dp_bits_tail);
}

/* What the rounding of a vector to codes came to. */
typedef struct {
    float dot; /* sum of v_i x_i, where v_i = u_i - (2^bits - 1) / 2 */
    float vv;  /* sum of v_i^2 */
} dp_bits_fit;

#define DP_ROTATE_ROUNDS 4

typedef struct {
    /* x[n] in place by an orthonormal map: each round flips signs (factors[n] of +1, -1 a round),
     * adds and subtracts the halves where n is no power of two, and transforms the first (in odd
     * rounds the last) 2^k components by Hadamard's matrix, 2^k the largest power up to n. n is a
     * multiple of 64; x and factors are aligned to 64. */
    void (*rotate)(float *x, size_t n, const float *factors);

    /* u_i = x_i / step + 2^(bits - 1), rounded down and kept in 0 .. 2^bits - 1; n is a multiple of
     * 64. Any x is allowed. */
    dp_bits_fit (*fit)(const float *x, size_t n, uint32_t bits, float step, uint8_t *u);

    /* s_i = x_i * inverse, rounded and kept in -limit .. limit; returns the sum. n as above. */
    int32_t (*quantize)(const float *x, size_t n, float inverse, float limit, int8_t *s);

    /* Kernels of dp_code_query by bits; [0] is not used. query->bytes is the padded dim. */
    dp_code_measure_fn measure_bits[9];

    /* The number of the centroid nearest to x[sub], of 256: centroids[sub][256], component by
     * component; halves[256] are half their squared lengths. */
    uint32_t (*nearest)(const float *x, size_t sub, const float *centroids, const float *halves);

    /* table[256]: |x - c|^2 of each of them (euclid), or -(x . c). */
    void (*table)(const float *x, size_t sub, const float *centroids, bool euclid, float *table);

    /* Sums of table[m][row[m]] over query->bytes bytes m of each row; the tables are query->codes.
     */
    dp_code_measure_fn measure_product;
} dp_coder_kernels;

/* Scalar is the oracle; NULL where the processor or the compiler does not have the set. */
const dp_coder_kernels *dp_coder_kernels_of_isa(dp_isa isa);
const dp_coder_kernels *dp_coder_kernels_best(void);

extern const dp_coder_kernels dp_coder_kernels__scalar;
extern const dp_coder_kernels dp_coder_kernels__avx2;
extern const dp_coder_kernels dp_coder_kernels__avx512; /* needs VNNI */

/* The last step of measure_bits, the same for all sets. */
static inline float
dp_bits_finish(const dp_code_query *query, const unsigned char *tail_at, int32_t dot)
{
    dp_bits_tail tail;

    __builtin_memcpy(&tail, tail_at, sizeof tail);
    return query->base + tail.add + tail.factor * (query->w_dot * (float)dot + query->w_sum);
}
#endif /* DP_CODER_KERNELS_H */
