/* bench_rest: the data API under load, from outside.
 *
 *   import --url U --key K --collection C --set NAME --data DIR [--conns N] [--batch N] [--rows N]
 *       creates C, upserts the set with wait=true, waits until all vectors are indexed
 *   query  --url U --key K --collection C --set NAME --data DIR [--conns N] [--seconds S] [--ef N]
 *       top-10 searches in a closed loop: requests per second, p50, p99, recall@10
 *   paced  --url U --key K --collection C --set NAME --data DIR [--rate R] [--seconds S] [--limit
 * N] one connection, R searches a second by the clock: p50, p99 of the time from the moment a
 *       search was due
 *   flood  --url U --key K --collection C --set NAME --data DIR [--conns N] [--seconds S]
 *       searches as fast as they are answered, refusals counted
 *
 * Each prints one line of key=value pairs. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/json_write.h"
#include "http_client.h"
#include "load.h"
#include "vectors.h"

#define K 10

typedef struct {
    const char *url, *key, *collection, *set, *data;
    uint32_t conns, batch, rows, seconds, ef, rate, limit;
} options;

typedef struct {
    const options *o;
    bench_set set;
    _Atomic uint64_t next;    /* import: next row; query: next query */
    _Atomic uint64_t refused; /* answers other than 200 */
    _Atomic uint64_t hits, asked;
    _Atomic int last_bad;
    uint64_t until_ns;
} load;

static void
put_query(ort_buf *out, const load *l, uint32_t q)
{
    ort_jw w = {.buf = out};
    ort_buf_clear(out);
    ort_jw_object(&w);
    ort_jw_key(&w, "query");
    ort_jw_floats(&w, l->set.query + (size_t)q * l->set.dim, l->set.dim);
    ort_jw_key(&w, "limit");
    ort_jw_u64(&w, l->o->limit);
    if (l->o->ef > 0) {
        ort_jw_key(&w, "params");
        ort_jw_object(&w);
        ort_jw_key(&w, "hnsw_ef");
        ort_jw_u64(&w, l->o->ef);
        ort_jw_object_end(&w);
    }
    ort_jw_object_end(&w);
}

static uint32_t
count_hits(load *l, const bench_http *http, uint32_t q)
{
    ort_json_doc *doc;
    uint64_t ids[K];
    uint32_t n = 0;
    if (ort_json_parse(&doc, http->in.data + http->body_at, http->body_len, (ort_json_limits){0},
                       NULL) != ORT_OK) {
        return 0;
    }
    ort_json points = ort_json_get(ort_json_get(ort_json_root(doc), "result"), "points");
    for (ort_json_iter it = ort_json_each(points); n < K && ort_json_step(&it);) {
        n += ort_json_u64(ort_json_get(it.value, "id"), &ids[n]) == ORT_OK;
    }
    ort_json_free(doc);
    return bench_set_hits(&l->set, q, ids, n, K);
}

/* Searches until time is up; recall is counted on the first pass over the queries alone. */
static void
query_main(void *ctx, bench_times *times)
{
    load *l = ctx;
    char path[512];
    bench_http http;
    ort_buf body = {0};
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s/points/query", l->o->collection);
    while (ort_mono_ns() < l->until_ns) {
        const uint64_t n = atomic_fetch_add(&l->next, 1);
        const uint32_t q = (uint32_t)(n % l->set.query_count);
        put_query(&body, l, q);
        const uint64_t start = ort_mono_ns();
        const int status = bench_http_call(&http, "POST", path, body.data, body.len);
        const uint64_t us = (ort_mono_ns() - start) / 1000;
        if (status != 200) {
            atomic_fetch_add(&l->refused, 1);
            atomic_store(&l->last_bad, status);
            continue;
        }
        bench_times_add(times, us);
        if (n < l->set.query_count && l->set.truth != NULL && l->o->limit == K) {
            atomic_fetch_add(&l->hits, count_hits(l, &http, q));
            atomic_fetch_add(&l->asked, K);
        }
    }
    bench_http_fini(&http);
    ort_buf_fini(&body);
}

/* Asks by the clock: a late answer makes the next ones late too, and that is counted. */
static void
paced_main(void *ctx, bench_times *times)
{
    load *l = ctx;
    char path[512];
    bench_http http;
    ort_buf body = {0};
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s/points/query", l->o->collection);
    uint64_t due = ort_mono_ns();
    for (uint32_t q = 0; due < l->until_ns; q = (q + 1) % l->set.query_count) {
        put_query(&body, l, q);
        const struct timespec until = {.tv_sec = (time_t)(due / 1000000000u),
                                       .tv_nsec = (long)(due % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        const int status = bench_http_call(&http, "POST", path, body.data, body.len);
        if (status == 200) {
            bench_times_add(times, (ort_mono_ns() - due) / 1000);
        } else {
            atomic_fetch_add(&l->refused, 1);
            atomic_store(&l->last_bad, status);
        }
        due += 1000000000u / l->o->rate;
    }
    bench_http_fini(&http);
    ort_buf_fini(&body);
}

static void
import_main(void *ctx, bench_times *times)
{
    load *l = ctx;
    char path[512];
    bench_http http;
    ort_buf body = {0};
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s/points?wait=true", l->o->collection);
    for (;;) {
        const uint64_t first = atomic_fetch_add(&l->next, l->o->batch);
        if (first >= l->set.base_count) {
            break;
        }
        ort_jw jw = {.buf = &body};
        ort_buf_clear(&body);
        ort_jw_object(&jw);
        ort_jw_key(&jw, "points");
        ort_jw_array(&jw);
        for (uint64_t i = first; i < first + l->o->batch && i < l->set.base_count; i++) {
            ort_jw_object(&jw);
            ort_jw_key(&jw, "id");
            ort_jw_u64(&jw, i);
            ort_jw_key(&jw, "vector");
            ort_jw_floats(&jw, l->set.base + i * l->set.dim, l->set.dim);
            ort_jw_object_end(&jw);
        }
        ort_jw_array_end(&jw);
        ort_jw_object_end(&jw);
        const uint64_t start = ort_mono_ns();
        const int status = bench_http_call(&http, "PUT", path, body.data, body.len);
        if (status != 200) {
            fprintf(stderr, "upsert: %d %.*s\n", status, (int)http.body_len,
                    http.in.data != NULL ? http.in.data + http.body_at : "");
            exit(1);
        }
        bench_times_add(times, (ort_mono_ns() - start) / 1000);
    }
    bench_http_fini(&http);
    ort_buf_fini(&body);
}

/* Runs fn on so many connections for the time of the options. */
static double
run(load *l, bench_load_fn fn, bench_times *times)
{
    l->until_ns = ort_mono_ns() + l->o->seconds * 1000000000ull;
    return bench_load_run(l->o->conns, fn, l, times);
}

/* What the node's searches spent in each stage so far, in seconds; false: it does not tell us. */
#define STAGES 6
static const char *const stage_names[STAGES] = {"gate", "wait", "json", "plan", "search", "answer"};

static bool
read_stages(const load *l, double out[STAGES])
{
    bench_http http;
    bool fine;

    bench_http_init(&http, l->o->url, l->o->key);
    fine = bench_http_call(&http, "GET", "/metrics", NULL, 0) == 200;
    if (fine) {
        ort_buf_putc(&http.in, '\0');
        fine = !http.in.failed;
    }
    for (int i = 0; fine && i < STAGES; i++) {
        char name[96];
        snprintf(name, sizeof name, "orthant_search_stage_seconds_total{stage=\"%s\"} ",
                 stage_names[i]);
        const char *at = strstr(http.in.data + http.body_at, name);
        fine = at != NULL;
        out[i] = fine ? strtod(at + strlen(name), NULL) : 0;
    }
    bench_http_fini(&http);
    return fine;
}

/* A mean search, split: what the stages do not account for is the network, the kernel, the server's
 * reading of the head, and this client. Only right when nobody else searches. */
static void
report_stages(const double before[STAGES], const double after[STAGES], const bench_times *times)
{
    const double total = bench_times_mean(times);
    double known = 0;

    printf("split total_us=%.1f", total);
    for (int i = 0; i < STAGES; i++) {
        const double us = (after[i] - before[i]) * 1e6 / (double)times->count;
        known += us;
        printf(" %s_us=%.1f", stage_names[i], us);
    }
    printf(" network_us=%.1f\n", total - known);
}

static void
report(const char *what, const load *l, const bench_times *times, double seconds)
{
    printf("%s set=%s conns=%u requests=%zu per_s=%.0f p50_us=%llu p99_us=%llu max_us=%llu "
           "refused=%llu",
           what, l->o->set, l->o->conns, times->count, (double)times->count / seconds,
           (unsigned long long)bench_times_at(times, 0.5),
           (unsigned long long)bench_times_at(times, 0.99),
           (unsigned long long)bench_times_at(times, 1),
           (unsigned long long)atomic_load(&l->refused));
    if (atomic_load(&l->asked) > 0) {
        printf(" recall@10=%.4f", (double)atomic_load(&l->hits) / (double)atomic_load(&l->asked));
    }
    if (atomic_load(&l->refused) > 0) {
        printf(" last_refusal=%d", atomic_load(&l->last_bad));
    }
    putchar('\n');
}

static void
create_collection(const load *l)
{
    char path[512], body[256];
    bench_http http;
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s", l->o->collection);
    bench_http_call(&http, "DELETE", path, NULL, 0);
    const int n = snprintf(body, sizeof body, "{\"vectors\":{\"size\":%u,\"distance\":\"%s\"}}",
                           l->set.dim, l->set.bytes ? "Euclid" : "Cosine");
    const int status = bench_http_call(&http, "PUT", path, body, (size_t)n);
    if (status != 200) {
        fprintf(stderr, "create: %d %.*s\n", status, (int)http.body_len,
                http.in.data != NULL ? http.in.data + http.body_at : "");
        exit(1);
    }
    bench_http_fini(&http);
}

/* Asks once a tenth of a second until the collection is green and all is indexed. */
static double
wait_indexed(const load *l)
{
    char path[512];
    bench_http http;
    const uint64_t start = ort_mono_ns();
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s", l->o->collection);
    for (bool done = false; !done;) {
        ort_json_doc *doc;
        const struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
        if (bench_http_call(&http, "GET", path, NULL, 0) != 200 ||
            ort_json_parse(&doc, http.in.data + http.body_at, http.body_len, (ort_json_limits){0},
                           NULL) != ORT_OK) {
            fprintf(stderr, "the collection cannot be read\n");
            exit(1);
        }
        ort_json result = ort_json_get(ort_json_root(doc), "result");
        done = ort_json_str_is(ort_json_get(result, "status"), "green");
        ort_json_free(doc);
    }
    bench_http_fini(&http);
    return (double)(ort_mono_ns() - start) / 1e9;
}

static void
import(load *l)
{
    bench_times times;
    create_collection(l);
    const double seconds = run(l, import_main, &times);
    const double indexed = wait_indexed(l);
    printf("import set=%s rows=%u dim=%u conns=%u batch=%u points_per_s=%.0f seconds=%.1f "
           "batch_p50_us=%llu batch_p99_us=%llu indexed_after_s=%.1f\n",
           l->o->set, l->set.base_count, l->set.dim, l->o->conns, l->o->batch,
           (double)l->set.base_count / seconds, seconds,
           (unsigned long long)bench_times_at(&times, 0.5),
           (unsigned long long)bench_times_at(&times, 0.99), indexed);
    bench_times_fini(&times);
}

static uint32_t
number(const char *text)
{
    return (uint32_t)strtoul(text, NULL, 10);
}

static bool
set_option(options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        uint32_t *number;
    } all[] = {
        {"--url", &o->url, NULL},
        {"--key", &o->key, NULL},
        {"--collection", &o->collection, NULL},
        {"--set", &o->set, NULL},
        {"--data", &o->data, NULL},
        {"--conns", NULL, &o->conns},
        {"--batch", NULL, &o->batch},
        {"--rows", NULL, &o->rows},
        {"--seconds", NULL, &o->seconds},
        {"--ef", NULL, &o->ef},
        {"--rate", NULL, &o->rate},
        {"--limit", NULL, &o->limit},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(name, all[i].name) == 0) {
            if (all[i].text != NULL) {
                *all[i].text = value;
            } else {
                *all[i].number = number(value);
            }
            return true;
        }
    }
    return false;
}

int
main(int argc, char **argv)
{
    options o = {
        .collection = "bench", .conns = 1, .batch = 200, .seconds = 5, .rate = 50, .limit = K};
    bool fine = argc >= 2;
    for (int i = 2; fine && i < argc; i += 2) {
        fine = i + 1 < argc && set_option(&o, argv[i], argv[i + 1]);
    }
    if (!fine || o.url == NULL || o.key == NULL || o.set == NULL || o.data == NULL ||
        o.conns == 0 || o.conns > BENCH_THREADS_MAX || o.rate == 0 || o.batch == 0) {
        fputs("usage: bench_rest import|query|paced|flood --url U --key K --set NAME --data DIR "
              "[--collection C] [--conns N] [--batch N] [--rows N] [--seconds S] [--ef N] "
              "[--rate R] [--limit N]\n",
              stderr);
        return 2;
    }
    static load l;
    l.o = &o;
    bench_set_load(&l.set, o.data, o.set, o.rows, NULL);
    if (strcmp(argv[1], "import") == 0) {
        import(&l);
    } else {
        const bool paced = strcmp(argv[1], "paced") == 0;
        double before[STAGES], after[STAGES];
        o.conns = paced ? 1 : o.conns;
        const bool told = read_stages(&l, before);
        bench_times times;
        const double seconds = run(&l, paced ? paced_main : query_main, &times);
        report(argv[1], &l, &times, seconds);
        if (told && times.count > 0 && read_stages(&l, after)) {
            report_stages(before, after, &times);
        }
        bench_times_fini(&times);
    }
    bench_set_free(&l.set);
    return 0;
}
