/* tests/bench/run open [--points N] [--dim N] [--dir PATH] [--on-disk] [--links-on-disk]
 *                      [--memory-mb N] [--threads N]
 *
 * How soon a collection answers after a restart, and what it costs when it is larger than memory.
 * Points are generated: clusters of low inner dimension, without payload. The first run with a
 * --dir makes the collection there and leaves it; later ones go on with it, or only open it.
 *
 *   open            files dropped from the page cache as far as it goes ("cold") or read before
 *                   ("warm"): open_ms, first_search_ms (from the beginning of the open to the first
 *                   answer), first_search_cpu_ms (processor time until then, of all threads),
 *                   graph_ms (until all is searched through the graph), answers a second afterwards
 *   --memory-mb     the same, and the curve of recall and time by ef, within a memory cgroup of
 * that size (version 1 or 2, needs root): what is measured is the disk */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "collection/collection.h"

enum {
    K = 10,
    EFS = 5,
    EACH = 100,
    QUERIES = EFS * EACH,
    INNER = 16,
    CLUSTERS = 500,
    BATCH = 1000
};

static struct {
    uint32_t points, dim, memory_mb, threads;
    bool on_disk, links_on_disk;
    const char *dir;
} opt = {.points = 1000000, .dim = 128};

static struct {
    float *centres; /* CLUSTERS * dim */
    float *basis;   /* INNER * dim */
    float *queries; /* QUERIES * dim */
    float kth[QUERIES];
} set;

static void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_open: %s\n", what);
        exit(1);
    }
}

static void
must_ok(ort_err err, const ort_diag *diag)
{
    must(err == ORT_OK, diag->text[0] != '\0' ? diag->text : ort_err_code(err));
}

/* --- data ---------------------------------------------------------------------------------------
 */

static uint64_t
next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static float
about_normal(uint64_t *state)
{
    uint64_t x = next_random(state);
    float sum = 0;

    for (int i = 0; i < 4; i++) {
        sum += (float)((x >> (16 * i)) & 0xFFFF) / 65536.0F - 0.5F;
    }
    return sum * 1.732F;
}

static void
make_vector(uint64_t number, float *out)
{
    uint64_t seed = number * UINT64_C(0xD6E8FEB86659FD93) + 1;
    const float *centre = set.centres + next_random(&seed) % CLUSTERS * opt.dim;

    memcpy(out, centre, opt.dim * sizeof *out);
    for (uint32_t i = 0; i < INNER; i++) {
        const float z = about_normal(&seed);
        const float *axis = set.basis + (size_t)i * opt.dim;

        for (uint32_t c = 0; c < opt.dim; c++) {
            out[c] += z * axis[c];
        }
    }
    for (uint32_t c = 0; c < opt.dim; c++) { /* as the text of a request has it */
        out[c] = roundf((out[c] + 0.2F * about_normal(&seed)) * 1000.0F) / 1000.0F;
    }
}

static void
make_set(void)
{
    uint64_t seed = 7;

    set.centres = malloc((size_t)CLUSTERS * opt.dim * sizeof(float));
    set.basis = malloc((size_t)INNER * opt.dim * sizeof(float));
    set.queries = malloc((size_t)QUERIES * opt.dim * sizeof(float));
    must(set.centres != NULL && set.basis != NULL && set.queries != NULL, "no memory");
    for (size_t i = 0; i < (size_t)CLUSTERS * opt.dim; i++) {
        set.centres[i] = about_normal(&seed);
    }
    for (size_t i = 0; i < (size_t)INNER * opt.dim; i++) {
        set.basis[i] = about_normal(&seed);
    }
    for (uint32_t q = 0; q < QUERIES; q++) {
        make_vector(UINT64_C(1) << 40 | q, set.queries + (size_t)q * opt.dim);
    }
}

/* --- the collection -----------------------------------------------------------------------------
 */

typedef struct {
    int dir;
    ort_pool *workers;
    dp_quota *quota;
    dp_schema *schema;
    dp_collection *c;
} place;

static void
place_init(place *p)
{
    char text[512];
    ort_diag diag = {{0}};
    ort_json_doc *doc;

    p->dir = open(opt.dir != NULL ? opt.dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    must(p->dir >= 0, "the directory does not open");
    must_ok(ort_dir_make(p->dir, "data", &diag), &diag);
    must_ok(ort_dir_make(p->dir, "index", &diag), &diag);
    must_ok(ort_pool_new(&p->workers, "build", opt.threads, 64, &diag), &diag);
    must_ok(dp_quota_new(&p->quota, NULL, "tenant"), &diag);
    (void)snprintf(text, sizeof text,
                   "{\"vectors\":{\"size\":%u,\"distance\":\"Euclid\",\"on_disk\":%s},"
                   "\"hnsw_config\":{\"on_disk\":%s}}",
                   opt.dim, opt.on_disk ? "true" : "false", opt.links_on_disk ? "true" : "false");
    must_ok(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, &diag), &diag);
    must_ok(dp_schema_parse(&p->schema, ort_json_root(doc), &diag), &diag);
    ort_json_free(doc);
}

/* Without an answer to the question a build leaves most of the time to others. */
static bool
nobody_waits(void *arg)
{
    (void)arg;
    return false;
}

static void
place_open(place *p)
{
    const dp_collection_config config = {
        .tenant = {1}, .id = {2}, .name = "bench", .schema = p->schema, .quota = p->quota};
    const dp_collection_env env = {
        .workers = p->workers, .build_threads = opt.threads, .busy = nobody_waits};
    const int data = openat(p->dir, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int index = openat(p->dir, "index", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ort_diag diag = {{0}};

    must_ok(dp_collection_open(&p->c, data, index, &config, &env, &diag), &diag);
    close(data);
    close(index);
}

static void
place_close(place *p)
{
    dp_collection_close(p->c);
    p->c = NULL;
}

static void
upsert_batch(place *p, uint32_t begin, uint32_t end, char *text, float *row)
{
    ort_diag diag = {{0}};
    ort_json_doc *doc;
    dp_op *op;
    dp_op_result result;
    char *at = text + sprintf(text, "{\"points\":[");

    for (uint32_t i = begin; i < end; i++) {
        make_vector(i, row);
        at += sprintf(at, "%s{\"id\":%u,\"vector\":[", i > begin ? "," : "", i);
        for (uint32_t c = 0; c < opt.dim; c++) {
            at += sprintf(at, "%s%.3f", c > 0 ? "," : "", (double)row[c]);
        }
        at += sprintf(at, "]}");
    }
    at += sprintf(at, "]}");
    must_ok(
        ort_json_parse(&doc, text, (size_t)(at - text), (ort_json_limits){.floats = true}, &diag),
        &diag);
    must_ok(dp_op_parse(&op, DP_OP_UPSERT, p->schema, ort_json_root(doc), &diag), &diag);
    must_ok(dp_collection_apply(p->c, op, 0, &result, &diag), &diag);
    dp_op_free(op);
    ort_json_free(doc);
}

static double
ms_since(uint64_t begin_ns)
{
    return (double)(ort_mono_ns() - begin_ns) / 1e6;
}

/* Puts what is missing, and waits until all of it is in the graph. */
static void
fill(place *p, uint32_t begin)
{
    char *text = malloc((size_t)BATCH * (opt.dim * 10 + 64));
    float *row = malloc(opt.dim * sizeof *row);
    const uint64_t began = ort_mono_ns();
    uint64_t filled;
    ort_diag diag = {{0}};

    must(text != NULL && row != NULL, "no memory");
    for (uint32_t i = begin; i < opt.points; i += BATCH) {
        upsert_batch(p, i, opt.points - i < BATCH ? opt.points : i + BATCH, text, row);
    }
    filled = ort_mono_ns();
    must_ok(dp_collection_wait_indexed(p->c, UINT64_MAX), &diag);
    printf("made points=%u dim=%u threads=%u upsert_s=%.1f index_rest_s=%.1f", opt.points, opt.dim,
           opt.threads, (double)(filled - began) / 1e9, ms_since(filled) / 1e3);
    filled = ort_mono_ns();
    place_close(p);
    printf(" close_s=%.1f\n", ms_since(filled) / 1e3);
    free(text);
    free(row);
}

/* --- searching ----------------------------------------------------------------------------------
 */

typedef struct {
    float score[K];
    uint32_t count;
} answer;

static ort_err
collect(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    answer *a = ctx;

    (void)query;
    (void)schema;
    if (a->count < K) {
        a->score[a->count++] = view->score;
    }
    return ORT_OK;
}

static void
search(place *p, uint32_t q, uint32_t ef, bool exact, answer *out)
{
    const dp_query query = {.kind = DP_QUERY_NEAREST,
                            .vector = {.kind = DP_VECTOR_DENSE,
                                       .values = set.queries + (size_t)q * opt.dim,
                                       .count = opt.dim,
                                       .rows = 1},
                            .using_name = "",
                            .limit = K,
                            .hnsw_ef = ef,
                            .exact = exact};
    ort_diag diag = {{0}};

    out->count = 0;
    must_ok(dp_collection_query(p->c, &query, 1, false, collect, out, &diag), &diag);
}

/* By exact scans, each of everything. */
static void
find_truth(place *p)
{
    for (uint32_t q = 0; q < QUERIES; q++) {
        answer a;

        search(p, q, 0, true, &a);
        must(a.count == K, "too few points");
        set.kth[q] = a.score[K - 1];
    }
}

static int
order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static uint64_t
major_faults(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_majflt;
}

/* Each ef has queries of its own: what one brought into memory is of little use to the next. */
static void
curve(place *p)
{
    static const uint32_t efs[EFS] = {16, 32, 64, 128, 256};

    for (uint32_t i = 0; i < EFS; i++) {
        double ms[EACH];
        uint32_t right = 0;
        const uint64_t faults = major_faults();
        const uint64_t began = ort_mono_ns();

        for (uint32_t j = 0; j < EACH; j++) {
            const uint32_t q = i * EACH + j;
            const uint64_t at = ort_mono_ns();
            answer a;

            search(p, q, efs[i], false, &a);
            ms[j] = ms_since(at);
            for (uint32_t h = 0; h < a.count; h++) {
                right += a.score[h] <= set.kth[q] * 1.00001F;
            }
        }
        const double all = ms_since(began);
        qsort(ms, EACH, sizeof *ms, order);
        printf("ef=%u recall=%.4f qps=%.0f p50_ms=%.3f p99_ms=%.3f faults_per_query=%.1f\n", efs[i],
               (double)right / (EACH * K), EACH * 1e3 / all, ms[EACH / 2], ms[EACH * 99 / 100],
               (double)(major_faults() - faults) / EACH);
    }
}

/* --- opening ------------------------------------------------------------------------------------
 */

/* Drops a directory's files from the page cache, as far as nobody maps them. */
static void
evict(int dir_fd, const char *name)
{
    const int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    must(dir != NULL, "a directory does not open");
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        const int file = openat(fd, e->d_name, O_RDONLY | O_CLOEXEC);

        if (file >= 0 && fdatasync(file) == 0) {
            (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        }
        ort_fd_close(file);
    }
    closedir(dir);
}

static double
memory_mb(const char *field)
{
    char line[256];
    double kb = 0;
    FILE *f = fopen("/proc/self/status", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            kb = strtod(line + strlen(field) + 1, NULL);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return kb / 1024;
}

/* Of all threads: what the same would take at least on a machine that does nothing else. */
static double
cpu_ms(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
}

static void
measure_open(place *p, const char *how)
{
    const uint64_t began = ort_mono_ns();
    const double cpu = cpu_ms();
    answer a;
    double opened, first, first_cpu;
    ort_diag diag = {{0}};

    place_open(p);
    opened = ms_since(began);
    search(p, 0, 0, false, &a);
    first = ms_since(began);
    first_cpu = cpu_ms() - cpu;
    must(a.count == K, "the first search found too little");
    must_ok(dp_collection_wait_indexed(p->c, UINT64_MAX), &diag);
    printf("%s open_ms=%.1f first_search_ms=%.1f first_search_cpu_ms=%.1f graph_ms=%.1f "
           "anonymous_mb=%.0f mapped_mb=%.0f\n",
           how, opened, first, first_cpu, ms_since(began), memory_mb("RssAnon"),
           memory_mb("RssFile"));
    fflush(stdout);
}

/* --- a limit ------------------------------------------------------------------------------------
 */

static bool
write_text(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    const bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    ort_fd_close(fd);
    return ok;
}

static void
limit_memory(void)
{
    static const char *const roots[] = {"/sys/fs/cgroup/memory", "/sys/fs/cgroup"};
    static const char *const limits[] = {"memory.limit_in_bytes", "memory.max"};
    char path[256];
    char text[32];

    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/orthant-bench", roots[i]);
        if (mkdir(path, 0755) != 0 && errno != EEXIST) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/orthant-bench/%s", roots[i], limits[i]);
        (void)snprintf(text, sizeof text, "%" PRIu64, (uint64_t)opt.memory_mb << 20);
        if (!write_text(path, text)) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/orthant-bench/cgroup.procs", roots[i]);
        (void)snprintf(text, sizeof text, "%d", (int)getpid());
        if (write_text(path, text)) {
            return;
        }
    }
    must(false, "no memory cgroup: run as root where one may be made");
}

int
main(int argc, char **argv)
{
    char made[] = "/var/tmp/orthant-bench-open-XXXXXX";
    dp_collection_info info;
    place p = {0};

    setvbuf(stdout, NULL, _IOLBF, 0);
    opt.threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--on-disk") == 0) {
            opt.on_disk = true;
        } else if (strcmp(argv[i], "--links-on-disk") == 0) {
            opt.links_on_disk = true;
        } else {
            must(i + 1 < argc, "an option without a value; see the head of bench_open.c");
            uint32_t *number = strcmp(argv[i], "--points") == 0      ? &opt.points
                               : strcmp(argv[i], "--dim") == 0       ? &opt.dim
                               : strcmp(argv[i], "--memory-mb") == 0 ? &opt.memory_mb
                               : strcmp(argv[i], "--threads") == 0   ? &opt.threads
                                                                     : NULL;
            must(number != NULL || strcmp(argv[i], "--dir") == 0,
                 "an unknown option; see the head of bench_open.c");
            if (number != NULL) {
                *number = (uint32_t)strtoul(value, NULL, 10);
            } else {
                opt.dir = value;
            }
            i++;
        }
    }
    const bool temporary = opt.dir == NULL;
    opt.dir = temporary ? mkdtemp(made) : opt.dir;
    must(opt.dir != NULL, "no directory");
    make_set();
    place_init(&p);
    place_open(&p);
    dp_collection_get_info(p.c, &info);
    if (info.points < opt.points) {
        fill(&p, (uint32_t)info.points);
    } else {
        place_close(&p);
    }
    printf("raw_mb=%.0f on_disk=%d links_on_disk=%d\n",
           (double)opt.points * opt.dim * 4 / (1 << 20), opt.on_disk, opt.links_on_disk);
    if (opt.memory_mb != 0) { /* the truth is found with all memory, by a process of its own kind */
        place_open(&p);
        find_truth(&p);
        place_close(&p);
        limit_memory();
    }
    evict(p.dir, "data");
    evict(p.dir, "index");
    measure_open(&p, "cold");
    if (opt.memory_mb != 0) {
        curve(&p);
        printf("anonymous_mb=%.0f\n", memory_mb("RssAnon"));
    } else {
        place_close(&p);
        measure_open(&p, "warm");
        find_truth(&p);
        curve(&p);
    }
    place_close(&p);
    ort_pool_free(p.workers);
    dp_quota_free(p.quota);
    dp_schema_unref(p.schema);
    close(p.dir);
    if (temporary) {
        const int parent = open("/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        must(ort_tree_remove(parent, opt.dir + strlen("/var/tmp/"), NULL) == ORT_OK,
             "the directory cannot be removed");
        close(parent);
    }
    return 0;
}
