/* tests/bench/run index: graphs alone, on fvecs or bvecs: recall@10 against queries a second.
 *
 *   --data DIR --dataset NAME   NAME.base and NAME.query, .fvecs or .bvecs, plain or .zst; also
 *                               NAME.query.gt.ivecs, else true neighbours are searched exactly
 *                               (default ../shared/data, notes-384)
 *   --metric l2|cos             default: l2 for bvecs, cos for fvecs
 *   --variant LIST              of codes (chosen by the graph), rows (none), int8, int8-Q (quantile
 *                               0.Q), product-R (R components a byte), binary-B, rotated-B (B
 *                               bits); or all: codes,rows,int8,product-4,binary-1,rotated-4
 *                               (default)
 *   --elem f32|f16|u8           how rows are stored (default: as the file has them)
 *   --m 16 --ef-construct 200   as the peers' runs have it
 *   --efs 10,20,...             the ladder of ef
 *   --threads N                 search with N threads, after a curve with one (default: all cores)
 *   --build-threads N           build with N threads (default 1)
 *   --passes 3                  timed passes an ef; the best counts
 *   --peer                      also hnswlib, when libhnswlib-dev was there at building: built and
 *                               measured in turn with ours, and a RATIO line for each of ours
 *   --keep DIR                  keep graphs there, and take them from there the next time
 *   --save                      also writes the graph, reads it back and times both
 *   --living                    also searches while inserting, and replaces all points twice
 *   --exact                     also exact search, single and in batches of 64
 *   --rows N                    only the first N rows
 *   --csv FILE                  appends rows there too
 *
 * Rows: impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes. To stderr go WORK lines
 * (lists read and distances measured a query, which no neighbour on the machine disturbs) and a
 * SUMMARY line a curve: queries a second at recall 0.90, 0.95, 0.99, log-interpolated on the Pareto
 * front, as the peers' bench does. `bytes` is the index with the rows it keeps. */
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "index/flat.h"
#include "index/hnsw.h"
#include "index_bench.h"

_Noreturn void
bench_die(const char *what)
{
    fprintf(stderr, "bench index: %s\n", what);
    exit(2);
}

double
bench_now_s(void)
{
    return (double)ort_mono_ns() / 1e9;
}

/* ---- options ---- */

static void
parse_efs(options *o, const char *text)
{
    o->ef_count = 0;
    while (*text != '\0' && o->ef_count < EFS_MAX) {
        char *end;

        o->efs[o->ef_count++] = (uint32_t)strtoul(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
        if (end == text && *end != '\0') {
            bench_die("--efs is a list of numbers");
        }
    }
}

/* Processors this process may run on: one, when it is pinned. */
static uint32_t
cores(void)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

static bool
parse_flag(options *o, const char *name)
{
    const struct {
        const char *name;
        bool *value;
    } flags[] = {{"--save", &o->save},
                 {"--living", &o->living},
                 {"--exact", &o->exact},
                 {"--peer", &o->peer}};

    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(name, flags[i].name) == 0) {
            *flags[i].value = true;
            return true;
        }
    }
    return false;
}

static bool
parse_value(options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **value;
    } texts[] = {{"--data", &o->data}, {"--dataset", &o->dataset}, {"--csv", &o->csv},
                 {"--keep", &o->keep}, {"--metric", &o->metric},   {"--variant", &o->variant},
                 {"--elem", &o->elem}};
    const struct {
        const char *name;
        uint32_t *value;
    } numbers[] = {{"--m", &o->m},
                   {"--ef-construct", &o->ef_construct},
                   {"--threads", &o->threads},
                   {"--build-threads", &o->build_threads},
                   {"--passes", &o->passes},
                   {"--rows", &o->rows_max}};

    if (strcmp(name, "--efs") == 0) {
        parse_efs(o, value);
        return true;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) == 0) {
            *texts[i].value = value;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) == 0) {
            *numbers[i].value = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    }
    return false;
}

static uint32_t
thread_count(uint32_t n)
{
    return n < 1 ? 1 : n > BENCH_THREADS_MAX ? BENCH_THREADS_MAX : n;
}

static void
parse(options *o, int argc, char **argv)
{
    *o = (options){.data = "../shared/data",
                   .dataset = "notes-384",
                   .variant = "all",
                   .m = 16,
                   .ef_construct = 200,
                   .threads = cores(),
                   .build_threads = 1,
                   .passes = 3};
    parse_efs(o, "10,12,16,20,25,32,40,50,64,80,100,128,160,200,256,320,400,512");
    for (int i = 1; i < argc; i++) {
        if (parse_flag(o, argv[i])) {
            continue;
        }
        if (i + 1 >= argc || !parse_value(o, argv[i], argv[i + 1])) {
            fprintf(stderr, "%s: ", argv[i]);
            bench_die("no such option, or no value; see the head of tests/bench/bench_index.c");
        }
        i++;
    }
    o->threads = thread_count(o->threads);
    o->build_threads = thread_count(o->build_threads);
}

/* ---- rows ---- */

static void
put_row(bench *b, uint32_t slot, const float *v)
{
    unsigned char *row = b->memory + (size_t)slot * b->rows.stride_bytes;

    switch (b->rows.elem) {
    case DP_ELEM_F32:
        memcpy(row, v, b->rows.dim * sizeof *v);
        break;
    case DP_ELEM_F16:
        dp_f16_from_f32((uint16_t *)(void *)row, v, b->rows.dim);
        break;
    case DP_ELEM_U8:
        for (uint32_t i = 0; i < b->rows.dim; i++) {
            row[i] = (unsigned char)v[i];
        }
        break;
    }
}

#define HUGE_PAGE ((size_t)2 << 20)

/* One chunk for all: the engine does not care. */
static void
make_rows(bench *b)
{
    const char *e = b->opt->elem;
    dp_elem elem = strcmp(e, "f16") == 0  ? DP_ELEM_F16
                   : strcmp(e, "u8") == 0 ? DP_ELEM_U8
                                          : DP_ELEM_F32;
    size_t bytes;

    b->rows.elem = elem;
    b->rows.dim = b->set.dim;
    b->rows.stride_bytes = (uint32_t)(b->set.dim * dp_elem_bytes(elem));
    b->rows.chunk_bits = 31;
    bytes = (size_t)b->rows.stride_bytes * b->set.base_count;
    bytes = (bytes + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE;
    b->memory = aligned_alloc(HUGE_PAGE, bytes);
    if (b->memory == NULL) {
        bench_die("out of memory");
    }
    (void)madvise(b->memory, bytes, MADV_HUGEPAGE);
    atomic_store(&b->rows.chunks, b->chunk);
    dp_rows_publish(&b->rows, 0, b->memory);
    for (uint32_t i = 0; i < b->set.base_count; i++) {
        put_row(b, i, b->set.base + (size_t)i * b->set.dim);
    }
}

/* Where no file says, or it is that of more rows. */
static void
find_truth(bench *b)
{
    dp_hit hits[K];
    size_t n = 0;

    b->set.truth_k = K;
    b->set.truth = calloc((size_t)b->set.query_count * K, sizeof *b->set.truth);
    for (uint32_t q = 0; q < b->set.query_count && b->set.truth != NULL; q++) {
        if (dp_flat_search(&b->rows, b->metric, b->set.query + (size_t)q * b->set.dim, K, 0,
                           b->set.base_count, NULL, hits, &n) != ORT_OK ||
            n != K) {
            bench_die("a scan failed");
        }
        for (size_t i = 0; i < K; i++) {
            b->set.truth[(size_t)q * K + i] = (int32_t)hits[i].slot;
        }
    }
    if (b->set.truth == NULL) {
        bench_die("out of memory");
    }
}

/* ---- contenders ---- */

/* DIR/NAME... of a contender kept from run to run; false: nothing is kept. */
static bool
kept_path(const bench *b, const contender *c, const char *ending, char path[512])
{
    const options *o = b->opt;

    (void)snprintf(path, 512, "%s/%s-%s-%u-m%u-efc%u-%s%s", o->keep != NULL ? o->keep : "",
                   o->dataset, c->impl, b->set.base_count, o->m, o->ef_construct, o->elem, ending);
    return o->keep != NULL;
}

/* The seconds that building took, beside the graph; 0: there is none. */
static double
kept_seconds(const bench *b, const contender *c, const double *write)
{
    char path[512];
    double seconds = 0;
    FILE *file;

    if (!kept_path(b, c, ".seconds", path)) {
        return 0;
    }
    file = fopen(path, write != NULL ? "we" : "re");
    if (file == NULL) {
        return 0;
    }
    if (write != NULL) {
        fprintf(file, "%.3f\n", *write);
    } else if (fscanf(file, "%lf", &seconds) != 1) {
        seconds = 0;
    }
    (void)fclose(file);
    return seconds;
}

/* Lets the graph choose its codes, or train those that were asked for. */
static void
tune(const bench *b, contender *c)
{
    static const char *const names[DP_CODE_COUNT] = {"auto",    "rows",   "int8",
                                                     "product", "binary", "rotated"};
    dp_hnsw_codes_report codes;
    ort_diag diag = {{0}};
    double at = bench_now_s();

    if (dp_hnsw_wants_tune(c->graph) && dp_hnsw_tune(c->graph, NULL, &diag) != ORT_OK) {
        bench_die(diag.text);
    }
    dp_hnsw_codes(c->graph, &codes);
    fprintf(stderr,
            "CODES %s %s: %s, %u bits, %u a byte, %zu bytes a row, widened %.2f, %u looked at "
            "again; %.2f s\n",
            b->opt->dataset, c->impl, names[codes.kind], codes.options.bits, codes.options.ratio,
            codes.row_bytes, (double)codes.widen, codes.depth, bench_now_s() - at);
}

static void
build_graph(bench *b, contender *c, const dp_hnsw_config *config)
{
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .lsn = 3};
    ort_diag diag = {{0}};
    char path[512];
    bool keep = kept_path(b, c, ".graph", path);
    const char *name = keep ? strrchr(path, '/') + 1 : path;
    int dir = keep ? open(b->opt->keep, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    double at = bench_now_s();

    c->build_s = kept_seconds(b, c, NULL);
    if (c->build_s > 0 &&
        dp_hnsw_load(&c->graph, &b->rows, config, dir, name, &stamp, &diag) == ORT_OK) {
        close(dir);
        return;
    }
    if (dp_hnsw_new(&c->graph, &b->rows, config, &diag) != ORT_OK ||
        dp_hnsw_build(c->graph, 0, b->set.base_count, NULL, b->opt->build_threads, NULL, &diag) !=
            ORT_OK) {
        bench_die(diag.text);
    }
    tune(b, c);
    c->build_s = bench_now_s() - at;
    if (keep) {
        if (dp_hnsw_save(c->graph, dir, name, &stamp, &diag) != ORT_OK) {
            bench_die(diag.text);
        }
        (void)kept_seconds(b, c, &c->build_s);
        close(dir);
    }
}

/* One name of --variant. */
static void
read_variant(const char *variant, dp_hnsw_config *config)
{
    static const struct {
        const char *name;
        dp_code code;
    } kinds[] = {{"codes", DP_CODE_AUTO},    {"rows", DP_CODE_NONE},
                 {"int8", DP_CODE_INT8},     {"product", DP_CODE_PRODUCT},
                 {"binary", DP_CODE_BINARY}, {"rotated", DP_CODE_ROTATED}};
    const char *dash = strchr(variant, '-');
    size_t length = dash != NULL ? (size_t)(dash - variant) : strlen(variant);
    uint32_t number = dash != NULL ? (uint32_t)strtoul(dash + 1, NULL, 10) : 0;
    size_t i = 0;

    while (i < sizeof kinds / sizeof kinds[0] &&
           (strlen(kinds[i].name) != length || strncmp(kinds[i].name, variant, length) != 0)) {
        i++;
    }
    if (i == sizeof kinds / sizeof kinds[0]) {
        bench_die("unknown --variant; see the head of tests/bench/bench_index.c");
    }
    config->code = kinds[i].code;
    config->coding = (dp_code_options){.bits = number, .ratio = number};
    if (number != 0 && config->code == DP_CODE_INT8) {
        config->coding.quantile = (float)number / 100.0F;
    }
}

static void
make_graph(bench *b, contender *c, const char *variant)
{
    dp_hnsw_config config = {
        .metric = b->metric, .m = b->opt->m, .ef_construct = b->opt->ef_construct};
    const char *impl = c->impl;
    dp_hnsw_report report;

    *c = (contender){.graph = NULL};
    read_variant(variant, &config);
    (void)snprintf(c->impl, sizeof c->impl, config.code == DP_CODE_AUTO ? "orthant" : "orthant-%s",
                   variant);
    build_graph(b, c, &config);
    c->bytes =
        (double)dp_hnsw_bytes(c->graph) + (double)b->rows.stride_bytes * (double)b->set.base_count;
    if (dp_hnsw_check(c->graph, &report) != ORT_OK) {
        bench_die("check");
    }
    fprintf(stderr, "GRAPH %s %s: build %.2f s, %.1f MB, degree %.1f, unreachable %u\n",
            b->opt->dataset, impl, c->build_s, c->bytes / 1e6, report.degree_mean,
            report.unreachable);
    if (b->opt->save) {
        bench_save_and_load(b, c, &config);
    }
    if (b->opt->living) {
        bench_live_on(b, c, &config);
    }
}

/* false: it is not built in. */
static bool
make_peer(bench *b, contender *c)
{
    char path[512];
    double at = bench_now_s();

    *c = (contender){.graph = NULL};
    (void)snprintf(c->impl, sizeof c->impl, "hnswlib-deb");
    c->peer = bench_peer_new(b->set.dim, b->set.base_count, b->opt->m, b->opt->ef_construct,
                             b->metric == DP_METRIC_COSINE);
    if (c->peer == NULL) {
        fprintf(stderr, "bench index: built without hnswlib (Debian: libhnswlib-dev)\n");
        return false;
    }
    c->build_s = kept_seconds(b, c, NULL);
    if (!(kept_path(b, c, ".hnswlib", path) && c->build_s > 0 && bench_peer_load(c->peer, path))) {
        for (uint32_t i = 0; i < b->set.base_count; i++) {
            bench_peer_add(c->peer, b->set.base + (size_t)i * b->set.dim, i);
        }
        c->build_s = bench_now_s() - at;
        if (b->opt->keep != NULL) {
            bench_peer_save(c->peer, path);
            (void)kept_seconds(b, c, &c->build_s);
        }
    }
    c->bytes = (double)bench_peer_bytes(c->peer);
    return true;
}

#define EVERY_VARIANT "codes,rows,int8,product-4,binary-1,rotated-4"

static void
run(bench *b)
{
    contender all[BENCH_CONTENDERS_MAX];
    size_t count = 0;
    const char *left = strcmp(b->opt->variant, "all") == 0 ? EVERY_VARIANT : b->opt->variant;

    while (*left != '\0' && count + 1 < BENCH_CONTENDERS_MAX) {
        char variant[32];
        size_t length = strcspn(left, ",");

        (void)snprintf(variant, sizeof variant, "%.*s", (int)(length < 31 ? length : 31), left);
        make_graph(b, &all[count++], variant);
        left += length + (left[length] == ',');
    }
    if (b->opt->peer) {
        count += make_peer(b, &all[count]);
    }
    bench_curves(b, all, count, 1);
    if (b->opt->threads > 1) {
        bench_curves(b, all, count, b->opt->threads);
    }
    for (size_t i = 0; i < count; i++) {
        dp_hnsw_free(all[i].graph);
        bench_peer_free(all[i].peer);
    }
}

int
main(int argc, char **argv)
{
    options opt;
    bench b = {.opt = &opt};

    dp_flat_blas_prepare(argv);
    parse(&opt, argc, argv);
    bench_set_load(&b.set, opt.data, opt.dataset, opt.rows_max, opt.metric);
    if (opt.elem == NULL) {
        opt.elem = b.set.file_bytes ? "u8" : "f32";
    }
    b.metric = b.set.bytes ? DP_METRIC_EUCLID : DP_METRIC_COSINE;
    make_rows(&b);
    if (b.set.truth == NULL) {
        find_truth(&b);
    }
    if (opt.csv != NULL) {
        b.csv = fopen(opt.csv, "ae");
        if (b.csv == NULL) {
            bench_die("cannot write the CSV file");
        }
    }
    (void)puts("impl,dataset,params,ef,recall@10,qps,p50_us,p99_us,build_s,bytes");
    if (opt.exact) {
        bench_exact(&b);
    }
    run(&b);
    if (b.csv != NULL) {
        (void)fclose(b.csv);
    }
    free(b.memory);
    bench_set_free(&b.set);
    return 0;
}
