/* bench_hybrid: a dense and a text search fused in one request, beside each of them alone, over
 * REST.
 *
 *   bench_hybrid --url U --key K --set NAME --data DIR [--rows N] [--seconds S] [--limit N]
 *       [--collection C]
 *
 * The vectors are a data set's. It has no texts, so each row gets one of 20 to 120 words: half of
 * them by Zipf's law (exponent 1.07, 50,000 made-up words), half by the same law from the order of
 * words of its topic, which is the nearest of 64 rows; so that words and vectors say something of
 * each other, as in real texts. A query has its vector's topic and 2 to 6 words. The server makes
 * sparse vectors of documents and queries (qdrant/bm25, modifier idf).
 *
 * First the import, then with 1 and with 8 connections, three times in turn: `dense`, `text`,
 * `hybrid` (both as prefetches of `limit`, fused by reciprocal rank). Each prints one line of
 * key=value pairs; `sum` compares the fused request with what the two alone take together, of each
 * the best turn. The fused answers of the first queries are compared with what a client would fuse
 * of the two lists. */
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

#define WORDS 50000u
#define TOPICS 64u
#define ANSWERS 10u
#define CHECKED 200u
#define TURNS 3u
#define LIST_MAX 64u

typedef enum { DENSE, TEXT, HYBRID, MODES } mode;
static const char *const mode_names[MODES] = {"dense", "text", "hybrid"};

typedef struct {
    const char *url, *key, *collection, *set, *data;
    uint32_t rows, seconds, limit;
} options;

typedef struct {
    const options *o;
    bench_set set;
    mode mode;
    _Atomic uint64_t next, refused;
    uint64_t until_ns;
} load;

/* --- words ---------------------------------------------------------------------------------- */

static double cumulated[WORDS];

static void
make_words(void)
{
    double sum = 0;
    for (uint32_t i = 0; i < WORDS; i++) {
        sum += 1 / pow(i + 1.0, 1.07);
        cumulated[i] = sum;
    }
}

/* splitmix64 (Steele, Lea, Flood 2014): texts depend on the row's number alone. */
static uint64_t
draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint32_t
draw_rank(uint64_t *state)
{
    const double u = (double)(draw(state) >> 11) / 9007199254740992.0 * cumulated[WORDS - 1];
    uint32_t low = 0, high = WORDS - 1;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (cumulated[middle] < u) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Syllables of the word's number, the low ones first; an ending that no stemmer takes away. */
static void
put_word(ort_buf *out, uint32_t word)
{
    static const char first[] = "bdfgklmnprstvz", second[] = "aiou";
    uint32_t n = word;
    do {
        ort_buf_putc(out, first[n % 14]);
        ort_buf_putc(out, second[n / 14 % 4]);
        n /= 56;
    } while (n > 0);
    ort_buf_putc(out, 'x');
}

static uint32_t
topic_of(const bench_set *set, const float *vector)
{
    uint32_t best = 0;
    float least = INFINITY;
    for (uint32_t i = 0; i < TOPICS; i++) {
        const float *row = set->base + (size_t)i * (set->base_count / TOPICS) * set->dim;
        const float d = bench_set_distance(set, vector, row);
        best = d < least ? i : best;
        least = d < least ? d : least;
    }
    return best;
}

static void
put_text(ort_buf *out, uint32_t topic, uint64_t seed, uint32_t least, uint32_t most)
{
    const uint32_t count = least + (uint32_t)(draw(&seed) % (most - least + 1));
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t rank = draw_rank(&seed), turn = (uint32_t)(draw(&seed) % 2) * (topic + 1);
        ort_buf_puts(out, i > 0 ? " " : "");
        put_word(out, (rank + turn * 700) % WORDS);
    }
}

/* --- import --------------------------------------------------------------------------------- */

static void
must(const bench_http *http, int status, const char *what)
{
    if (status != 200) {
        fprintf(stderr, "%s: %d %.*s\n", what, status, (int)http->body_len,
                http->in.data != NULL ? http->in.data + http->body_at : "");
        exit(1);
    }
}

static void
put_point(ort_jw *w, const bench_set *set, uint32_t row, ort_buf *text)
{
    const float *vector = set->base + (size_t)row * set->dim;
    ort_buf_clear(text);
    put_text(text, topic_of(set, vector), row, 20, 120);
    ort_jw_object(w);
    ort_jw_key(w, "id");
    ort_jw_u64(w, row);
    ort_jw_key(w, "vector");
    ort_jw_object(w);
    ort_jw_key(w, "dense");
    ort_jw_floats(w, vector, set->dim);
    ort_jw_key(w, "text");
    ort_jw_object(w);
    ort_jw_key(w, "text");
    ort_jw_str_n(w, text->data, text->len);
    ort_jw_key(w, "model");
    ort_jw_str(w, "qdrant/bm25");
    ort_jw_object_end(w);
    ort_jw_object_end(w);
    ort_jw_object_end(w);
}

#define BATCH 200u

static void
import_some(void *ctx, bench_times *times)
{
    load *l = ctx;
    char path[512];
    bench_http http;
    ort_buf body = {0}, text = {0};
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s/points?wait=true", l->o->collection);
    for (;;) {
        const uint64_t first = atomic_fetch_add(&l->next, BATCH);
        if (first >= l->set.base_count) {
            break;
        }
        ort_jw w = {.buf = &body};
        ort_buf_clear(&body);
        ort_jw_object(&w);
        ort_jw_key(&w, "points");
        ort_jw_array(&w);
        for (uint64_t i = first; i < first + BATCH && i < l->set.base_count; i++) {
            put_point(&w, &l->set, (uint32_t)i, &text);
        }
        ort_jw_array_end(&w);
        ort_jw_object_end(&w);
        const uint64_t start = ort_mono_ns();
        must(&http, bench_http_call(&http, "PUT", path, body.data, body.len), "upsert");
        bench_times_add(times, (ort_mono_ns() - start) / 1000);
    }
    bench_http_fini(&http);
    ort_buf_fini(&body);
    ort_buf_fini(&text);
}

/* Asks once a tenth of a second until the collection is green. */
static void
wait_green(const load *l, bench_http *http)
{
    char path[512];
    snprintf(path, sizeof path, "/collections/%s", l->o->collection);
    for (bool green = false; !green;) {
        ort_json_doc *doc;
        const struct timespec pause = {.tv_nsec = 100000000};
        nanosleep(&pause, NULL);
        must(http, bench_http_call(http, "GET", path, NULL, 0), "info");
        if (ort_json_parse(&doc, http->in.data + http->body_at, http->body_len,
                           (ort_json_limits){0}, NULL) != ORT_OK) {
            exit(1);
        }
        green = ort_json_str_is(ort_json_get(ort_json_get(ort_json_root(doc), "result"), "status"),
                                "green");
        ort_json_free(doc);
    }
}

static void
import(load *l)
{
    char path[512], body[256];
    bench_http http;
    bench_times times;
    bench_http_init(&http, l->o->url, l->o->key);
    snprintf(path, sizeof path, "/collections/%s", l->o->collection);
    bench_http_call(&http, "DELETE", path, NULL, 0);
    const int n = snprintf(body, sizeof body,
                           "{\"vectors\":{\"dense\":{\"size\":%u,\"distance\":\"%s\"}},"
                           "\"sparse_vectors\":{\"text\":{\"modifier\":\"idf\"}}}",
                           l->set.dim, l->set.bytes ? "Euclid" : "Cosine");
    must(&http, bench_http_call(&http, "PUT", path, body, (size_t)n), "create");
    const uint64_t start = ort_mono_ns();
    const double seconds = bench_load_run(4, import_some, l, &times);
    wait_green(l, &http);
    printf("import set=%s rows=%u dim=%u conns=4 batch=%u points_per_s=%.0f all_indexed_s=%.1f\n",
           l->o->set, l->set.base_count, l->set.dim, BATCH, l->set.base_count / seconds,
           (double)(ort_mono_ns() - start) / 1e9);
    bench_times_fini(&times);
    bench_http_fini(&http);
}

/* --- queries -------------------------------------------------------------------------------- */

/* The members of a step that searches by the vector, or by the words, of query q. */
static void
put_part(ort_jw *w, const load *l, uint32_t q, mode part)
{
    const float *vector = l->set.query + (size_t)q * l->set.dim;
    ort_jw_key(w, "query");
    if (part == DENSE) {
        ort_jw_floats(w, vector, l->set.dim);
    } else {
        ort_buf text = {0};
        put_text(&text, topic_of(&l->set, vector), UINT64_C(1) << 40 | q, 2, 6);
        ort_jw_object(w);
        ort_jw_key(w, "text");
        ort_jw_str_n(w, text.data, text.len);
        ort_jw_key(w, "model");
        ort_jw_str(w, "qdrant/bm25");
        ort_jw_object_end(w);
        ort_buf_fini(&text);
    }
    ort_jw_key(w, "using");
    ort_jw_str(w, mode_names[part]);
    ort_jw_key(w, "limit");
    ort_jw_u64(w, l->o->limit);
}

static void
put_query(ort_buf *out, const load *l, uint32_t q, mode what)
{
    ort_jw w = {.buf = out};
    ort_buf_clear(out);
    ort_jw_object(&w);
    if (what == HYBRID) {
        ort_jw_key(&w, "prefetch");
        ort_jw_array(&w);
        for (mode part = DENSE; part <= TEXT; part++) {
            ort_jw_object(&w);
            put_part(&w, l, q, part);
            ort_jw_object_end(&w);
        }
        ort_jw_array_end(&w);
        ort_jw_key(&w, "query");
        ort_jw_object(&w);
        ort_jw_key(&w, "fusion");
        ort_jw_str(&w, "rrf");
        ort_jw_object_end(&w);
        ort_jw_key(&w, "limit");
        ort_jw_u64(&w, ANSWERS);
    } else {
        put_part(&w, l, q, what);
    }
    ort_jw_object_end(&w);
}

/* The bodies are made before the clock runs: the words of a query cost this program more than its
 * vector does. */
static ort_buf *
make_bodies(const load *l)
{
    ort_buf *bodies = calloc(l->set.query_count, sizeof *bodies);
    if (bodies == NULL) {
        abort();
    }
    for (uint32_t q = 0; q < l->set.query_count; q++) {
        put_query(&bodies[q], l, q, l->mode);
    }
    return bodies;
}

typedef struct {
    load *l;
    const ort_buf *bodies;
    char path[512];
} asking;

static void
ask(void *ctx, bench_times *times)
{
    asking *a = ctx;
    load *l = a->l;
    bench_http http;
    bench_http_init(&http, l->o->url, l->o->key);
    while (ort_mono_ns() < l->until_ns) {
        const ort_buf *body = &a->bodies[atomic_fetch_add(&l->next, 1) % l->set.query_count];
        const uint64_t start = ort_mono_ns();
        const int status = bench_http_call(&http, "POST", a->path, body->data, body->len);
        if (status == 200) {
            bench_times_add(times, (ort_mono_ns() - start) / 1000);
        } else {
            atomic_fetch_add(&l->refused, 1);
        }
    }
    bench_http_fini(&http);
}

/* Processor seconds that the node has used so far; 0 where it does not tell us. Neighbours on the
 * machine lengthen a request's time far more than they lengthen this. */
static double
node_cpu_s(const load *l)
{
    static const char name[] = "\nprocess_cpu_seconds_total ";
    bench_http http;
    double seconds = 0;
    bench_http_init(&http, l->o->url, l->o->key);
    if (bench_http_call(&http, "GET", "/metrics", NULL, 0) == 200) {
        ort_buf_putc(&http.in, '\0');
        const char *at = http.in.failed ? NULL : strstr(http.in.data + http.body_at, name);
        seconds = at != NULL ? strtod(at + strlen(name), NULL) : 0;
    }
    bench_http_fini(&http);
    return seconds;
}

typedef struct {
    double per_s, p50, p99, cpu;
} figures;

static figures
measure(load *l, mode what, uint32_t conns)
{
    bench_times times;
    l->mode = what;
    ort_buf *bodies = make_bodies(l);
    asking a = {.l = l, .bodies = bodies};
    snprintf(a.path, sizeof a.path, "/collections/%s/points/query", l->o->collection);
    atomic_store(&l->next, 0);
    l->until_ns = ort_mono_ns() + l->o->seconds * UINT64_C(1000000000);
    const double cpu = node_cpu_s(l);
    const double seconds = bench_load_run(conns, ask, &a, &times);
    const figures f = {.cpu = (node_cpu_s(l) - cpu) * 1e6 / (double)times.count,
                       .per_s = (double)times.count / seconds,
                       .p50 = (double)bench_times_at(&times, 0.5),
                       .p99 = (double)bench_times_at(&times, 0.99)};
    printf("%s set=%s rows=%u limit=%u conns=%u requests=%zu per_s=%.0f p50_us=%.0f p99_us=%.0f "
           "node_cpu_us=%.0f refused=%llu\n",
           mode_names[what], l->o->set, l->set.base_count, l->o->limit, conns, times.count, f.per_s,
           f.p50, f.p99, f.cpu, (unsigned long long)atomic_load(&l->refused));
    fflush(stdout);
    for (uint32_t q = 0; q < l->set.query_count; q++) {
        ort_buf_fini(&bodies[q]);
    }
    free(bodies);
    bench_times_fini(&times);
    return f;
}

/* --- the fused answers are what a client would fuse ------------------------------------------ */

typedef struct {
    uint64_t id[2 * LIST_MAX];
    double score[2 * LIST_MAX];
    uint32_t count;
} list;

static void
fetch(const load *l, bench_http *http, uint32_t q, mode what, list *out)
{
    char path[512];
    ort_buf body = {0};
    ort_json_doc *doc;
    put_query(&body, l, q, what);
    snprintf(path, sizeof path, "/collections/%s/points/query", l->o->collection);
    must(http, bench_http_call(http, "POST", path, body.data, body.len), "query");
    if (ort_json_parse(&doc, http->in.data + http->body_at, http->body_len, (ort_json_limits){0},
                       NULL) != ORT_OK) {
        exit(1);
    }
    out->count = 0;
    ort_json points = ort_json_get(ort_json_get(ort_json_root(doc), "result"), "points");
    for (ort_json_iter it = ort_json_each(points); out->count < LIST_MAX && ort_json_step(&it);) {
        if (ort_json_u64(ort_json_get(it.value, "id"), &out->id[out->count]) != ORT_OK ||
            ort_json_f64(ort_json_get(it.value, "score"), &out->score[out->count]) != ORT_OK) {
            exit(1);
        }
        out->count++;
    }
    ort_json_free(doc);
    ort_buf_fini(&body);
}

static void
add_ranks(list *sum, const list *from)
{
    for (uint32_t i = 0; i < from->count; i++) {
        uint32_t at = 0;
        while (at < sum->count && sum->id[at] != from->id[i]) {
            at++;
        }
        if (at == sum->count) {
            sum->id[sum->count] = from->id[i];
            sum->score[sum->count++] = 0;
        }
        sum->score[at] += 1 / (i + 2.0);
    }
}

static double
score_of(const list *l, uint64_t id)
{
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->id[i] == id) {
            return l->score[i];
        }
    }
    return -1;
}

/* Whether every hit has the score of the fused lists, and none that is better is left out. */
static bool
is_fused(const list *answer, const list *sum)
{
    uint32_t better = 0;
    if (answer->count != (sum->count < ANSWERS ? sum->count : ANSWERS)) {
        return false;
    }
    for (uint32_t i = 0; i < answer->count; i++) {
        if (fabs(answer->score[i] - score_of(sum, answer->id[i])) > 1e-6) {
            return false;
        }
    }
    for (uint32_t i = 0; i < sum->count && answer->count > 0; i++) {
        better += sum->score[i] > answer->score[answer->count - 1] + 1e-6;
    }
    return better < ANSWERS;
}

static void
check(const load *l)
{
    bench_http http;
    uint32_t wrong = 0, asked = 0, both = 0;
    bench_http_init(&http, l->o->url, l->o->key);
    for (; asked < CHECKED && asked < l->set.query_count; asked++) {
        list dense, text, answer, sum = {.count = 0};
        fetch(l, &http, asked, DENSE, &dense);
        fetch(l, &http, asked, TEXT, &text);
        fetch(l, &http, asked, HYBRID, &answer);
        add_ranks(&sum, &dense);
        add_ranks(&sum, &text);
        both += dense.count + text.count - sum.count;
        wrong += !is_fused(&answer, &sum);
    }
    printf("check queries=%u not_as_fused_by_the_client=%u in_both_lists=%.1f\n", asked, wrong,
           (double)both / asked);
    bench_http_fini(&http);
}

static bool
set_option(options *o, const char *name, const char *value)
{
    const struct {
        const char *name;
        const char **text;
        uint32_t *number;
    } all[] = {{"--url", &o->url, NULL},         {"--key", &o->key, NULL},
               {"--set", &o->set, NULL},         {"--data", &o->data, NULL},
               {"--rows", NULL, &o->rows},       {"--collection", &o->collection, NULL},
               {"--seconds", NULL, &o->seconds}, {"--limit", NULL, &o->limit}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(name, all[i].name) == 0) {
            if (all[i].text != NULL) {
                *all[i].text = value;
            } else {
                *all[i].number = (uint32_t)strtoul(value, NULL, 10);
            }
            return true;
        }
    }
    return false;
}

int
main(int argc, char **argv)
{
    static load l;
    options o = {.collection = "hybrid", .seconds = 5, .limit = 20};
    const uint32_t conns[] = {1, 8};
    bool fine = argc % 2 == 1;
    for (int i = 1; fine && i < argc; i += 2) {
        fine = set_option(&o, argv[i], argv[i + 1]);
    }
    if (!fine || o.url == NULL || o.key == NULL || o.set == NULL || o.data == NULL ||
        o.limit == 0 || o.limit > LIST_MAX) {
        fputs("usage: bench_hybrid --url U --key K --set NAME --data DIR [--rows N] [--seconds S] "
              "[--limit 1..64] [--collection C]\n",
              stderr);
        return 2;
    }
    l.o = &o;
    bench_set_load(&l.set, o.data, o.set, o.rows, NULL);
    make_words();
    import(&l);
    check(&l);
    for (size_t i = 0; i < sizeof conns / sizeof conns[0]; i++) {
        figures of[MODES] = {{0}};
        for (uint32_t turn = 0; turn < TURNS * MODES; turn++) {
            const figures f = measure(&l, (mode)(turn % MODES), conns[i]);
            of[turn % MODES] = f.per_s > of[turn % MODES].per_s ? f : of[turn % MODES];
        }
        printf("sum conns=%u hybrid_cpu/(dense+text)=%.2f hybrid_p50/(dense+text)=%.2f "
               "hybrid_p99/(dense+text)=%.2f "
               "throughput_of_the_two_in_turn/hybrid=%.2f\n",
               conns[i], of[HYBRID].cpu / (of[DENSE].cpu + of[TEXT].cpu),
               of[HYBRID].p50 / (of[DENSE].p50 + of[TEXT].p50),
               of[HYBRID].p99 / (of[DENSE].p99 + of[TEXT].p99),
               1 / (1 / of[DENSE].per_s + 1 / of[TEXT].per_s) / of[HYBRID].per_s);
    }
    bench_set_free(&l.set);
    return 0;
}
