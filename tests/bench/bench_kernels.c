/* tests/bench/run kernels: bytes a second of every distance kernel this processor runs.
 *
 *   --dims 128,768,1536   components of the rows
 *   --ms 60               time for each figure, of which the fastest third counts
 *   --mb 256              memory that rows are gathered from
 *
 * CSV on stdout: kernel,isa,dim,row_bytes,cached_gbs,cached_ns,gathered_gbs,gathered_ns,of_memory.
 * `cached`: 256 KiB of rows, one after the other, which the second cache holds: what the kernel can
 * do. `gathered`: rows all over `--mb` in the order of chance, 32 at a time as a walk has them, in
 * huge pages: what memory lets it do. of_memory is the latter over what memory gives when the same
 * rows are only read: 1.00 leaves nothing for a faster kernel to gain. Lines that begin with # are
 * the memory's own figures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "index/bytes.h"
#include "index/distance_internal.h"

#define BATCH 32u
#define CACHED_BYTES ((size_t)256 << 10)
#define DIMS_MAX 8
#define HUGE_PAGE ((size_t)2 << 20)

typedef struct {
    size_t dims[DIMS_MAX];
    size_t dim_count;
    double ms;
    size_t bytes;
    unsigned char *memory;
    const void **order; /* rows to read, as many as there are */
    float *query;
    dp_code_query code;
    float out[BATCH];
} bench;

typedef struct {
    const char *name;
    const char *isa;
    size_t row_bytes;
    size_t dim;
    const dp_distance *distance; /* one of these two */
    dp_code_measure_fn measure;
} kernel;

static _Noreturn void
die(const char *what)
{
    fprintf(stderr, "bench kernels: %s\n", what);
    exit(2);
}

static void
parse(bench *b, int argc, char **argv)
{
    const char *dims = "128,768,1536";

    *b = (bench){.ms = 60, .bytes = (size_t)256 << 20};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 >= argc) {
            die("an option without its value");
        }
        if (strcmp(argv[i], "--dims") == 0) {
            dims = argv[i + 1];
        } else if (strcmp(argv[i], "--ms") == 0) {
            b->ms = strtod(argv[i + 1], NULL);
        } else if (strcmp(argv[i], "--mb") == 0) {
            b->bytes = strtoul(argv[i + 1], NULL, 10) << 20;
        } else {
            die("unknown option; see the head of tests/bench/bench_kernels.c");
        }
    }
    while (*dims != '\0' && b->dim_count < DIMS_MAX) {
        char *end;
        size_t dim = strtoul(dims, &end, 10);

        if (end == dims || dim == 0 || dim > 16384) {
            die("--dims is a list of numbers up to 16384");
        }
        b->dims[b->dim_count++] = dim;
        dims = *end == ',' ? end + 1 : end;
    }
    if (b->bytes < HUGE_PAGE) {
        die("--mb is 2 at least");
    }
}

/* Half-way sensible as floats, halves and bytes alike: no infinities, no subnormals. */
static void
fill(bench *b)
{
    uint64_t x = 1;

    b->memory = aligned_alloc(HUGE_PAGE, b->bytes);
    b->order = malloc(b->bytes / 64 * sizeof *b->order);
    b->query = malloc(16384 * sizeof *b->query);
    b->code.codes = aligned_alloc(64, 16384);
    if (b->memory == NULL || b->order == NULL || b->query == NULL || b->code.codes == NULL) {
        die("out of memory");
    }
    (void)madvise(b->memory, b->bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < b->bytes; i += 4) {
        uint32_t bits;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bits = UINT32_C(0x3C003C00) | ((uint32_t)(x >> 40) & UINT32_C(0x03FF03FF));
        memcpy(b->memory + i, &bits, 4);
    }
    for (size_t i = 0; i < 16384; i++) {
        b->query[i] = (float)(i % 251);
    }
}

/* Rows one after the other within the cache, or all over the memory. Returns how many. */
static size_t
lay_out(bench *b, size_t row_bytes, bool gathered)
{
    size_t stride = (row_bytes + 63) / 64 * 64;
    size_t rows = (gathered ? b->bytes : CACHED_BYTES) / stride / BATCH * BATCH;
    uint64_t x = 1;

    for (size_t i = 0; i < rows; i++) {
        b->order[i] = b->memory + i * stride;
    }
    for (size_t i = rows; gathered && i-- > 1;) {
        const void *swap = b->order[i];
        size_t j;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        j = (size_t)(x >> 33) % (i + 1);
        b->order[i] = b->order[j];
        b->order[j] = swap;
    }
    return rows;
}

static volatile uint64_t sink;

/* Only reads, a word of each line; lines are asked for ahead as a walk does. */
static void
read_rows(const void *const *rows, size_t row_bytes)
{
    uint64_t sum = 0;

    for (size_t r = 0; r < BATCH; r++) {
        for (size_t i = 0; i < row_bytes; i += 64) {
            uint64_t word;

            memcpy(&word, (const unsigned char *)rows[r] + i, sizeof word);
            sum += word;
        }
    }
    sink = sum;
}

static void
fetch(const void *const *rows, size_t row_bytes)
{
    for (size_t r = 0; r < BATCH; r++) {
        for (size_t i = 0; i < row_bytes && i < 2048; i += 64) {
            __builtin_prefetch((const unsigned char *)rows[r] + i);
        }
    }
}

static int
by_number(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y ? 1 : 0;
}

/* Seconds a row: the mean of the fastest third of the parts. k NULL: only reads. */
static double
time_rows(bench *b, const kernel *k, size_t row_bytes, bool gathered)
{
    enum { PARTS = 4096, BATCHES = 64 };
    static double parts[PARTS];
    size_t rows = lay_out(b, row_bytes, gathered);
    uint64_t end = ort_mono_ns() + (uint64_t)(b->ms * 1e6);
    size_t at = 0;
    size_t n = 0;
    double sum = 0;

    do {
        uint64_t begin = ort_mono_ns();

        for (int i = 0; i < BATCHES; i++) {
            const void *const *batch = b->order + at;

            if (gathered) {
                fetch(batch, row_bytes);
            }
            if (k == NULL) {
                read_rows(batch, row_bytes);
            } else if (k->measure != NULL) {
                k->measure(&b->code, (const unsigned char *const *)batch, BATCH, b->out);
            } else {
                k->distance->many(b->query, batch, BATCH, k->dim, b->out);
            }
            at = at + 2 * BATCH <= rows ? at + BATCH : 0;
        }
        parts[n++] = (double)(ort_mono_ns() - begin) / 1e9 / BATCHES / BATCH;
    } while (n < PARTS && ort_mono_ns() < end);
    qsort(parts, n, sizeof *parts, by_number);
    n = n / 3 > 0 ? n / 3 : 1;
    for (size_t i = 0; i < n; i++) {
        sum += parts[i];
    }
    return sum / (double)n;
}

static void
measure_kernel(bench *b, const kernel *k)
{
    double cached = time_rows(b, k, k->row_bytes, false);
    double gathered = time_rows(b, k, k->row_bytes, true);
    double memory = time_rows(b, NULL, k->row_bytes, true);

    printf("%s,%s,%zu,%zu,%.1f,%.1f,%.1f,%.1f,%.2f\n", k->name, k->isa, k->dim, k->row_bytes,
           (double)k->row_bytes / cached / 1e9, cached * 1e9, (double)k->row_bytes / gathered / 1e9,
           gathered * 1e9, memory / gathered);
    (void)fflush(stdout);
}

static void
measure_floats(bench *b, size_t dim)
{
    static const char *const metrics[] = {"dot", "cosine", "euclid", "manhattan"};
    static const char *const elems[] = {"f32", "f16", "u8"};
    static const dp_isa isas[] = {DP_ISA_SCALAR, DP_ISA_SSE, DP_ISA_AVX2, DP_ISA_AVX512,
                                  DP_ISA_NEON};

    for (int m = 0; m < DP_METRIC_COUNT; m++) {
        for (int e = 0; e < DP_ELEM_COUNT; e++) {
            if (m == DP_METRIC_COSINE && e != DP_ELEM_U8) {
                continue; /* that of dot */
            }
            for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++) {
                char name[32];
                kernel k = {.name = name,
                            .isa = dp_isa_name(isas[i]),
                            .dim = dim,
                            .row_bytes = dim * dp_elem_bytes((dp_elem)e),
                            .distance = dp_distance_of_isa((dp_metric)m, (dp_elem)e, isas[i])};

                if (k.distance != NULL) {
                    (void)snprintf(name, sizeof name, "%s-%s", metrics[m], elems[e]);
                    measure_kernel(b, &k);
                }
            }
        }
    }
}

typedef struct {
    const char *isa;
    dp_isa needs;
    bool vnni;
    dp_code_measure_fn codes;
    dp_code_measure_fn bytes;
} byte_kernels;

static bool
has(const byte_kernels *k)
{
    bool vnni = true;

#if defined(__x86_64__)
    vnni = __builtin_cpu_supports("avx512vnni");
#endif
    return dp_distance_of_isa(DP_METRIC_DOT, DP_ELEM_F32, k->needs) != NULL && (!k->vnni || vnni);
}

static void
measure_bytes(bench *b, size_t dim)
{
    static const byte_kernels all[] = {
        {"scalar", DP_ISA_SCALAR, false, dp_code_measure__scalar, dp_bytes_euclid__scalar},
#if defined(__x86_64__)
        {"sse", DP_ISA_SSE, false, dp_code_measure__sse, dp_bytes_euclid__sse},
        {"avx2", DP_ISA_AVX2, false, dp_code_measure__avx2, dp_bytes_euclid__avx2},
        {"avx512", DP_ISA_AVX512, false, dp_code_measure__avx512, NULL},
        {"avx512vnni", DP_ISA_AVX512, true, dp_code_measure__vnni, dp_bytes_euclid__vnni},
#elif defined(__aarch64__)
        {"neon", DP_ISA_NEON, false, dp_code_measure__neon, dp_bytes_euclid__neon},
#endif
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        kernel k = {.isa = all[i].isa, .dim = dim};

        if (!has(&all[i])) {
            continue;
        }
        dp_code_query_set(&b->code, DP_METRIC_EUCLID, b->query, dim);
        k.name = "euclid-int8";
        k.row_bytes = dp_code_row_bytes(dim);
        k.measure = all[i].codes;
        measure_kernel(b, &k);
        if (all[i].bytes != NULL && dp_bytes_query_set(&b->code, b->query, dim)) {
            k.name = "euclid-bytes";
            k.row_bytes = dim;
            k.measure = all[i].bytes;
            measure_kernel(b, &k);
        }
    }
}

/* GB/s of one pass after the other over all of the memory; the best of a few. */
static double
sequential_rate(const bench *b)
{
    uint64_t least = UINT64_MAX;

    for (int pass = 0; pass < 5; pass++) {
        uint64_t begin = ort_mono_ns();
        uint64_t took;
        uint64_t sum = 0;

        for (size_t i = 0; i < b->bytes; i += 64) {
            uint64_t word;

            memcpy(&word, b->memory + i, sizeof word);
            sum += word;
        }
        sink = sum;
        took = ort_mono_ns() - begin;
        least = took < least ? took : least;
    }
    return (double)b->bytes / (double)least;
}

int
main(int argc, char **argv)
{
    bench b;

    parse(&b, argc, argv);
    fill(&b);
    printf("# memory, read one after the other: %.1f GB/s\n", sequential_rate(&b));
    for (size_t bytes = 64; bytes <= 2048; bytes *= 2) {
        double s = time_rows(&b, NULL, bytes, true);

        printf("# memory, rows of %zu bytes gathered: %.1f GB/s, %.1f ns a row\n", bytes,
               (double)bytes / s / 1e9, s * 1e9);
    }
    (void)puts("kernel,isa,dim,row_bytes,cached_gbs,cached_ns,gathered_gbs,gathered_ns,of_memory");
    for (size_t i = 0; i < b.dim_count; i++) {
        measure_floats(&b, b.dims[i]);
        measure_bytes(&b, b.dims[i]);
    }
    free(b.memory);
    free((void *)b.order);
    free(b.query);
    free(b.code.codes);
    return 0;
}
