/* Vectors of bytes: queries, the plain loop, and the choice of a kernel. */
#include "index/bytes.h"

#include <string.h>

#include "index/distance_internal.h"

dp_code_measure_fn
dp_bytes_euclid_best(void)
{
#if defined(__x86_64__)
    switch (dp_isa_best()) {
    case DP_ISA_AVX512:
        return __builtin_cpu_supports("avx512vnni") ? dp_bytes_euclid__vnni : dp_bytes_euclid__avx2;
    case DP_ISA_AVX2:
        return dp_isa_has_avxvnni() ? dp_bytes_euclid__avxvnni : dp_bytes_euclid__avx2;
    case DP_ISA_SSE:
        return dp_bytes_euclid__sse;
    default:
        break;
    }
#elif defined(__aarch64__)
    return dp_bytes_euclid__neon;
#endif
    return dp_bytes_euclid__scalar;
}

void
dp_bytes_query_ready(dp_code_query *query, size_t dim)
{
    int32_t norm2 = 0;

    for (size_t i = 0; i < dim; i++) {
        int32_t q = query->codes[i] + 128;

        norm2 += q * q;
    }
    /* Rows end in zeros: so does the query, then, and every kernel sees no difference there. */
    memset(query->codes + dim, 0x80, query->bytes - dim);
    query->norm2 = norm2;
    query->exact = true;
    query->measure = dp_bytes_euclid_best();
}

bool
dp_bytes_query_set(dp_code_query *query, const float *x, size_t dim)
{
    dp_code_stats stats;

    if (!dp_code_quantize_best()((uint8_t *)query->codes, x, dim, &stats)) {
        return false;
    }
    query->bytes = dim;
    for (size_t i = 0; i < dim; i++) {
        query->codes[i] = (int8_t)((uint8_t)query->codes[i] ^ 0x80);
    }
    dp_bytes_query_ready(query, dim);
    return true;
}

/* In one pass: while linking, a row becomes a query for every candidate. */
int32_t
dp_bytes_move__scalar(int8_t *codes, const unsigned char *row, size_t n)
{
    int32_t norm2 = 0;

    for (size_t i = 0; i < n; i++) {
        norm2 += (int32_t)row[i] * row[i];
        codes[i] = (int8_t)(row[i] ^ 0x80);
    }
    return norm2;
}

void
dp_bytes_query_from_row(dp_code_query *query, const unsigned char *row, size_t padded)
{
    query->bytes = padded;
    query->exact = true;
    query->measure = dp_bytes_euclid_best();
#if defined(__x86_64__)
    if (query->measure == dp_bytes_euclid__vnni) {
        query->norm2 = dp_bytes_move__vnni(query->codes, row, padded);
        return;
    }
#endif
    query->norm2 = dp_bytes_move__scalar(query->codes, row, padded);
}

DP_BYTES_KERNEL(scalar)
{
    for (size_t r = 0; r < n; r++) {
        int32_t sum = query->norm2;

        for (size_t i = 0; i < query->bytes; i++) {
            int32_t b = rows[r][i];

            sum += b * (b - 256 - 2 * query->codes[i]); /* b^2 - 2 b q */
        }
        out[r] = (float)sum;
    }
}
