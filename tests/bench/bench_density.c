/* tests/bench/bench_density.c: what a tenant costs that nobody uses, and what its first search
 * costs.
 *
 *   tests/bench/run density [--tenants 10000] [--points 1000] [--dim 384] [--dir DIR] [--rate 500]
 *                           [--rounds 3]     0: the start alone
 *                           [--indexes 1]    two payload fields are indexed, and searches filter
 *                           [--cold-rounds 1] the system's caches are dropped before each round
 *
 * The real orthant-node is started on a directory of so many tenants (density_node.h) with no
 * control plane in reach, as after a restart in its absence. Measured, in this order:
 *   ready      from exec to the first 200 of /readyz
 *   cold       first searches, each of a tenant untouched so far, after the caches of the system
 *              were dropped (root), or the files' pages were (anybody else: inodes stay warm)
 *   warm       first searches of other tenants, their files having been read before, by one client
 *   churn      every tenant once a round at a fixed rate, whatever the answers take: most searches
 *              open a collection, and one as old is closed. After each round all is let close:
 *              memory, descriptors and threads then are what closed tenants cost
 * Each figure of memory is the process's resident set less that of a node without any tenant. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "density_node.h"
#include "http_client.h"

#define COLD_MAX 500u
#define WARM_MAX 2000u
#define THREADS 4u
#define REST_MS 120000u

static struct {
    size_t tenant_count;
    unsigned points, dim, rate, rounds, indexes, cold_rounds;
    char dir[256];
    char program[512];
    density_tenant *tenants;
    ort_buf query;
    int port;
    pid_t pid;
} b = {.tenant_count = 10000, .points = 1000, .dim = 384, .rate = 500, .rounds = 3};

static void
die(const char *what)
{
    perror(what);
    if (b.pid > 0) {
        kill(b.pid, SIGKILL);
    }
    exit(1);
}

static void
nap_ms(long ms)
{
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* --- the node --------------------------------------------------------------------------------- */

static int
free_port(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
        die("socket");
    }
    close(fd);
    return ntohs(at.sin_port);
}

static void
client(bench_http *http, const char *key)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d", b.port);
    bench_http_init(http, url, key);
}

/* Starts it and returns the seconds until it was ready. */
static double
node_start(const char *dir)
{
    char data[320], listen[64], log[320];
    bench_http http;
    b.port = free_port();
    snprintf(data, sizeof data, "--data_dir=%s", dir);
    snprintf(listen, sizeof listen, "--http.listen=127.0.0.1:%d", b.port);
    snprintf(log, sizeof log, "%s.log", dir);
    const uint64_t begin = ort_mono_ns();
    b.pid = fork();
    if (b.pid == 0) {
        const int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(out, 1);
        dup2(out, 2);
        execl(b.program, b.program, data, listen, "--region=eu-central", "--http.threads=64",
              "--hub.urls=tcp://127.0.0.1:9", "--hub.publish=tcp://127.0.0.1:9",
              "--forward.listen=", "--limits.tenant_idle_s=1", (char *)NULL);
        _exit(127);
    }
    client(&http, "");
    while (bench_http_call(&http, "GET", "/readyz", NULL, 0) != 200) {
        if (waitpid(b.pid, NULL, WNOHANG) != 0 || ort_mono_ns() - begin > UINT64_C(300000000000)) {
            fprintf(stderr, "the node did not start: see %s\n", log);
            exit(1);
        }
        nap_ms(1);
    }
    const double took = (double)(ort_mono_ns() - begin) / 1e9;
    bench_http_fini(&http);
    return took;
}

static void
node_stop(void)
{
    kill(b.pid, SIGTERM);
    waitpid(b.pid, NULL, 0);
    b.pid = 0;
}

typedef struct {
    uint64_t rss_bytes;
    unsigned threads, fds;
} held;

static held
node_held(void)
{
    char path[64], line[256];
    held out = {0};
    snprintf(path, sizeof path, "/proc/%d/status", b.pid);
    FILE *in = fopen(path, "r");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        uint64_t v;
        if (sscanf(line, "VmRSS: %" SCNu64, &v) == 1) {
            out.rss_bytes = v * 1024;
        } else if (sscanf(line, "Threads: %" SCNu64, &v) == 1) {
            out.threads = (unsigned)v;
        }
    }
    if (in == NULL) {
        die(path);
    }
    fclose(in);
    snprintf(path, sizeof path, "/proc/%d/fd", b.pid);
    DIR *dir = opendir(path);
    while (dir != NULL && readdir(dir) != NULL) {
        out.fds++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return out;
}

static double
metric(const char *name)
{
    bench_http http;
    double value = -1;
    char pattern[128];
    client(&http, "");
    if (bench_http_call(&http, "GET", "/metrics", NULL, 0) == 200) {
        snprintf(pattern, sizeof pattern, "\n%s ", name);
        char *body = strndup(http.in.data + http.body_at, http.body_len);
        const char *at = body != NULL ? strstr(body, pattern) : NULL;
        value = at != NULL ? atof(at + strlen(pattern)) : -1;
        free(body);
    }
    bench_http_fini(&http);
    return value;
}

/* Waits until nothing is open. */
static void
rest(void)
{
    const uint64_t until = ort_mono_ms() + REST_MS;
    while (metric("orthant_collections_open") != 0) {
        if (ort_mono_ms() > until) {
            fprintf(stderr, "collections stay open\n");
            break;
        }
        nap_ms(200);
    }
}

/* --- searches --------------------------------------------------------------------------------- */

/* One search; its nanoseconds. Ends the program when it is not answered with points. */
static uint64_t
search(bench_http *http, size_t tenant)
{
    snprintf(http->key, sizeof http->key, "%s", b.tenants[tenant].token);
    const uint64_t begin = ort_mono_ns();
    const int status =
        bench_http_call(http, "POST", "/collections/" DENSITY_COLLECTION "/points/query",
                        b.query.data, b.query.len);
    const uint64_t took = ort_mono_ns() - begin;
    if (status != 200 ||
        memmem(http->in.data + http->body_at, http->body_len, "\"score\"", 7) == NULL) {
        fprintf(stderr, "a search was answered %d: %.*s\n", status, (int)http->body_len,
                http->in.data + http->body_at);
        kill(b.pid, SIGKILL);
        exit(1);
    }
    return took;
}

static int
by_size(const void *x, const void *y)
{
    const uint64_t a = *(const uint64_t *)x, c = *(const uint64_t *)y;
    return (a > c) - (a < c);
}

static double
quantile_ms(uint64_t *ns, size_t n, double q)
{
    qsort(ns, n, sizeof *ns, by_size);
    return n > 0 ? (double)ns[(size_t)(q * (double)(n - 1))] / 1e6 : -1;
}

static uint64_t *
search_each(size_t first, size_t count)
{
    bench_http http;
    uint64_t *ns = calloc(count + 1, sizeof *ns);
    client(&http, "");
    for (size_t i = 0; ns != NULL && i < count; i++) {
        ns[i] = search(&http, first + i);
    }
    bench_http_fini(&http);
    return ns;
}

typedef struct {
    pthread_t thread;
    size_t number;
    uint64_t begin_ns;
    uint64_t *ns; /* of all threads: [tenant] */
} churner;

static void *
churn_main(void *arg)
{
    const churner *w = arg;
    bench_http http;
    client(&http, "");
    for (size_t i = w->number; i < b.tenant_count; i += THREADS) {
        const uint64_t due = w->begin_ns + i * UINT64_C(1000000000) / b.rate;
        const uint64_t now = ort_mono_ns();
        if (now < due) {
            const struct timespec t = {.tv_sec = (time_t)((due - now) / 1000000000u),
                                       .tv_nsec = (long)((due - now) % 1000000000u)};
            nanosleep(&t, NULL);
        }
        (void)search(&http, i);
        w->ns[i] = ort_mono_ns() - due; /* waiting for its turn included */
    }
    bench_http_fini(&http);
    return NULL;
}

/* Every tenant once at the rate; prints what is left when all has closed. */
static held
churn_round(unsigned round, uint64_t base_rss)
{
    churner w[THREADS];
    uint64_t *ns = calloc(b.tenant_count, sizeof *ns);
    ort_diag diag;
    const uint64_t begin = ort_mono_ns();
    held peak = {0};
    if (ns == NULL) {
        die("memory");
    }
    for (size_t i = 0; i < THREADS; i++) {
        w[i] = (churner){.number = i, .begin_ns = begin, .ns = ns};
        if (ort_thread_start(&w[i].thread, "churn", churn_main, &w[i], &diag) != ORT_OK) {
            die("thread");
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(w[i].thread, NULL);
    }
    const double seconds = (double)(ort_mono_ns() - begin) / 1e9;
    peak = node_held();
    rest();
    const held now = node_held();
    printf("churn round=%u rate=%.0f/s p50_ms=%.2f p99_ms=%.2f while: rss_mb=%.1f fds=%u threads=%u"
           "; closed: rss_mb=%.1f rss_bytes_per_tenant=%.0f fds=%u threads=%u\n",
           round, (double)b.tenant_count / seconds, quantile_ms(ns, b.tenant_count, 0.5),
           quantile_ms(ns, b.tenant_count, 0.99), (double)peak.rss_bytes / 1e6, peak.fds,
           peak.threads, (double)now.rss_bytes / 1e6,
           ((double)now.rss_bytes - (double)base_rss) / (double)b.tenant_count, now.fds,
           now.threads);
    fflush(stdout);
    free(ns);
    return now;
}

/* --- files ------------------------------------------------------------------------------------ */

static size_t file_count, dir_count;
static uint64_t file_bytes;

static int
count_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)path;
    if (kind == FTW_F) {
        file_count++;
        file_bytes += (uint64_t)st->st_blocks * 512;
    } else if (at->level > 0) {
        dir_count++;
    }
    return 0;
}

/* Drops a file's pages, or reads them. */
static bool warm_pages;

static int
touch_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)at;
    static char scrap[1u << 20];
    const int fd = kind == FTW_F ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && warm_pages) {
        while (read(fd, scrap, sizeof scrap) > 0) {
        }
    } else if (fd >= 0) {
        fdatasync(fd); /* dirty pages do not go */
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    if (fd >= 0) {
        close(fd);
    }
    return 0;
}

static void
touch(size_t first, size_t count, bool warm)
{
    warm_pages = warm;
    for (size_t i = first; i < first + count; i++) {
        char path[320];
        snprintf(path, sizeof path, "%s/tenants/%016" PRIx64, b.dir, b.tenants[i].id.v);
        nftw(path, touch_one, 16, FTW_PHYS);
    }
}

static const char *
drop_caches(size_t first, size_t count)
{
    sync();
    FILE *out = fopen("/proc/sys/vm/drop_caches", "w");
    const bool all = out != NULL && fputs("3", out) > 0 && fflush(out) == 0;
    if (out != NULL) {
        fclose(out);
    }
    if (!all) {
        touch(first, count, false);
    }
    return all ? "pages and inodes dropped" : "pages dropped, inodes warm";
}

/* --- the run ---------------------------------------------------------------------------------- */

static uint64_t
rss_without_tenants(void)
{
    char dir[300];
    snprintf(dir, sizeof dir, "%s.empty", b.dir);
    density_node_make(dir, NULL, 0);
    (void)node_start(dir);
    const uint64_t bytes = node_held().rss_bytes;
    node_stop();
    return bytes;
}

static void
head(void)
{
    struct utsname u;
    char cpu[256] = "?";
    FILE *in = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        if (sscanf(line, "model name : %255[^\n]", cpu) == 1) {
            break;
        }
    }
    if (in != NULL) {
        fclose(in);
    }
    uname(&u);
    printf("# %zu tenants x %u points x %u%s; %ld CPUs, %s, Linux %s\n", b.tenant_count, b.points,
           b.dim, b.indexes > 0 ? ", two fields indexed and filtered by" : "",
           sysconf(_SC_NPROCESSORS_ONLN), cpu, u.release);
}

static void
options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--tenants") == 0) {
            b.tenant_count = strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--points") == 0) {
            b.points = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--dim") == 0) {
            b.dim = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--rate") == 0) {
            b.rate = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--rounds") == 0) {
            b.rounds = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--indexes") == 0) {
            b.indexes = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--cold-rounds") == 0) {
            b.cold_rounds = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--dir") == 0) {
            snprintf(b.dir, sizeof b.dir, "%s", argv[i + 1]);
        } else {
            fprintf(stderr, "bench_density: %s?\n", argv[i]);
            exit(2);
        }
    }
    if (b.tenant_count < 10 || b.points == 0 || b.dim == 0 || b.rate == 0) {
        fprintf(stderr, "bench_density: at least 10 tenants, and 1 of the rest\n");
        exit(2);
    }
}

static void
clean_up(const char *scratch)
{
    if (strncmp(b.dir, scratch, strlen(scratch)) != 0) {
        return; /* --dir: the caller's */
    }
    const pid_t rm = fork();
    if (rm == 0) {
        execlp("rm", "rm", "-rf", scratch, (char *)NULL);
        _exit(127);
    }
    waitpid(rm, NULL, 0);
}

int
main(int argc, char **argv)
{
    options(argc, argv);
    char scratch[] = "/tmp/orthant-density-XXXXXX";
    if (b.dir[0] == '\0') {
        if (mkdtemp(scratch) == NULL) {
            die("mkdtemp");
        }
        snprintf(b.dir, sizeof b.dir, "%s/node", scratch);
    }
    const char *slash = strrchr(argv[0], '/');
    snprintf(b.program, sizeof b.program, "%.*s/../bin/orthant-node",
             slash != NULL ? (int)(slash - argv[0]) : 1, slash != NULL ? argv[0] : ".");
    signal(SIGPIPE, SIG_IGN);
    head();
    ort_buf_puts(&b.query, "{\"limit\":10,\"with_payload\":true,");
    if (b.indexes > 0) {
        ort_buf_puts(&b.query,
                     "\"filter\":{\"must\":[{\"key\":\"kind\",\"match\":{\"value\":\"k3\"}},"
                     "{\"key\":\"n\",\"range\":{\"gte\":10}}]},");
    }
    ort_buf_puts(&b.query, "\"query\":");
    density_vector(&b.query, 12345, b.dim);
    ort_buf_puts(&b.query, "}");
    b.tenants = calloc(b.tenant_count, sizeof *b.tenants);
    if (b.tenants == NULL) {
        die("memory");
    }

    uint64_t begin = ort_mono_ns();
    density_node_make(b.dir, b.tenants, b.tenant_count);
    density_node_fill(b.dir, b.tenants, b.tenant_count, b.points, b.dim, b.indexes > 0);
    nftw(b.dir, count_one, 64, FTW_PHYS);
    printf("filled_s=%.1f disk_gb=%.2f\n", (double)(ort_mono_ns() - begin) / 1e9,
           (double)file_bytes / 1e9);
    fflush(stdout);
    sync();

    const uint64_t base = rss_without_tenants();
    double ready_s = node_start(b.dir);
    held now = node_held();
    printf("ready_s=%.3f rss_mb=%.1f, without tenants %.1f: %.0f bytes a tenant; fds=%u\n", ready_s,
           (double)now.rss_bytes / 1e6, (double)base / 1e6,
           ((double)now.rss_bytes - (double)base) / (double)b.tenant_count, now.fds);
    fflush(stdout);

    if (b.rounds == 0) { /* the start was all that was asked for */
        node_stop();
        clean_up(scratch);
        return 0;
    }
    free(search_each(0, 1)); /* the program's own first time */
    const size_t cold = b.tenant_count / 4 < COLD_MAX ? b.tenant_count / 4 : COLD_MAX;
    const size_t warm = b.tenant_count / 2 < WARM_MAX ? b.tenant_count / 2 : WARM_MAX;
    const char *how = drop_caches(1, cold);
    uint64_t *ns = search_each(1, cold);
    const double cold_p50 = quantile_ms(ns, cold, 0.5), cold_p99 = quantile_ms(ns, cold, 0.99);
    free(ns);
    printf("cold n=%zu p50_ms=%.2f p99_ms=%.2f (%s)\n", cold, cold_p50, cold_p99, how);
    fflush(stdout);
    touch(1 + cold, warm, true);
    ns = search_each(1 + cold, warm);
    const double warm_p50 = quantile_ms(ns, warm, 0.5), warm_p99 = quantile_ms(ns, warm, 0.99);
    free(ns);
    printf("warm n=%zu p50_ms=%.2f p99_ms=%.2f\n", warm, warm_p50, warm_p99);
    fflush(stdout);

    for (unsigned round = 1; round <= b.rounds; round++) {
        if (b.cold_rounds > 0) {
            (void)drop_caches(0, b.tenant_count);
        }
        now = churn_round(round, base);
    }
    node_stop();

    char tenants[320];
    snprintf(tenants, sizeof tenants, "%s/tenants", b.dir);
    file_count = dir_count = file_bytes = 0;
    nftw(tenants, count_one, 64, FTW_PHYS);
    printf("files=%zu directories=%zu a tenant: %.2f and %.2f\n", file_count, dir_count,
           (double)file_count / (double)b.tenant_count, (double)dir_count / (double)b.tenant_count);
    printf("rss_bytes_per_closed_tenant=%.0f files_per_closed_tenant=%.2f warm_p50_ms=%.2f "
           "warm_p99_ms=%.2f cold_p99_ms=%.2f ready_s=%.3f\n",
           ((double)now.rss_bytes - (double)base) / (double)b.tenant_count,
           (double)file_count / (double)b.tenant_count, warm_p50, warm_p99, cold_p99, ready_s);
    fflush(stdout);
    ort_buf_fini(&b.query);
    free(b.tenants);
    clean_up(scratch);
    return 0;
}
