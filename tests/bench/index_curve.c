/* Recall against queries a second, of several indexes side by side. */
#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "index/scratch.h"
#include "index_bench.h"

typedef struct {
    const bench *b;
    contender *c;
    uint32_t ef;
    uint32_t first;
    uint32_t step;
    double *latency_us; /* NULL: not wanted */
    uint64_t *ids;      /* NULL: not wanted */
} sweep;

static void
ask(const sweep *s, uint32_t q, uint64_t *ids)
{
    const float *query = s->b->set.query + (size_t)q * s->b->set.dim;
    dp_hit hits[K];
    size_t n = 0;

    if (s->c->graph == NULL) {
        bench_peer_search(s->c->peer, query, K, s->ef, ids);
        return;
    }
    if (dp_hnsw_search(s->c->graph, query, (dp_hnsw_query){.k = K, .ef = s->ef}, NULL, hits, &n) !=
        ORT_OK) {
        bench_die("a search failed");
    }
    for (size_t i = 0; i < K; i++) {
        ids[i] = i < n ? hits[i].slot : UINT64_MAX;
    }
}

static void *
run_sweep(void *arg)
{
    const sweep *s = arg;
    uint64_t none[K];

    assert(s->b != NULL);
    for (uint32_t q = s->first; q < s->b->set.query_count; q += s->step) {
        uint64_t at = ort_mono_ns();

        ask(s, q, s->ids != NULL ? s->ids + (size_t)q * K : none);
        if (s->latency_us != NULL) {
            s->latency_us[q] = (double)(ort_mono_ns() - at) / 1e3;
        }
    }
    return NULL;
}

/* Seconds for all queries. */
static double
sweep_all(const bench *b, contender *c, uint32_t ef, uint32_t threads, double *latency_us,
          uint64_t *ids)
{
    pthread_t started[BENCH_THREADS_MAX] = {0};
    sweep parts[BENCH_THREADS_MAX];
    double at = bench_now_s();

    for (uint32_t t = 0; t < threads; t++) {
        parts[t] = (sweep){b, c, ef, t, threads, latency_us, ids};
        if (t > 0 && pthread_create(&started[t], NULL, run_sweep, &parts[t]) != 0) {
            bench_die("no thread");
        }
    }
    (void)run_sweep(&parts[0]);
    for (uint32_t t = 1; t < threads; t++) {
        pthread_join(started[t], NULL);
    }
    return bench_now_s() - at;
}

static double
recall_of(const bench *b, const uint64_t *ids)
{
    uint64_t right = 0;

    for (uint32_t q = 0; q < b->set.query_count; q++) {
        uint32_t n = K;

        while (n > 0 && ids[(size_t)q * K + n - 1] == UINT64_MAX) {
            n--;
        }
        right += bench_set_hits(&b->set, q, ids + (size_t)q * K, n, K);
    }
    return (double)right / ((double)b->set.query_count * K);
}

double
bench_recall(const bench *b, contender *c, uint32_t ef)
{
    uint64_t *ids = calloc((size_t)b->set.query_count * K, sizeof *ids);
    double recall;

    if (ids == NULL) {
        bench_die("out of memory");
    }
    (void)sweep_all(b, c, ef, 1, NULL, ids);
    recall = recall_of(b, ids);
    free(ids);
    return recall;
}

static int
by_number(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y ? 1 : 0;
}

static int
by_recall(const void *a, const void *b)
{
    return by_number(&((const point *)a)->recall, &((const point *)b)->recall);
}

/* Points in order of recall; only those that no later one beats count. */
static double
qps_at(const point *points, size_t n, double target)
{
    point front[EFS_MAX] = {{0}};
    size_t count = 0;
    double best = 0;

    for (size_t i = n; i-- > 0;) {
        if (points[i].qps > best) {
            best = points[i].qps;
            front[count++] = points[i];
        }
    }
    for (size_t i = count; i-- > 0;) {
        if (front[i].recall >= target) {
            double t;

            if (i + 1 == count) {
                return front[i].qps;
            }
            t = (target - front[i + 1].recall) / (front[i].recall - front[i + 1].recall);
            return exp(log(front[i + 1].qps) + t * (log(front[i].qps) - log(front[i + 1].qps)));
        }
    }
    return NAN;
}

/* The first pass, untimed: recall, what it took, and warm caches. */
static void
warm(const bench *b, contender *c, uint32_t e, uint64_t *ids)
{
    dp_scratch_counts before;
    dp_scratch_counts after;
    double queries = b->set.query_count;

    dp_scratch_count(&before);
    (void)sweep_all(b, c, b->opt->efs[e], 1, NULL, ids);
    dp_scratch_count(&after);
    c->points[e] = (point){.recall = recall_of(b, ids),
                           .followed = (double)(after.followed - before.followed) / queries,
                           .measured = (double)(after.measured - before.measured) / queries};
    c->count = e + 1;
    c->done = c->points[e].recall > 0.9995;
}

static void
time_once(const bench *b, contender *c, uint32_t e, uint32_t threads, double *latency)
{
    point *p = &c->points[e];
    uint32_t queries = b->set.query_count;
    double qps = queries / sweep_all(b, c, b->opt->efs[e], threads, latency, NULL);

    if (qps > p->qps) {
        qsort(latency, queries, sizeof *latency, by_number);
        p->qps = qps;
        p->p50_us = latency[queries / 2];
        p->p99_us = latency[(size_t)queries * 99 / 100];
    }
}

static void
emit(const bench *b, const contender *c, uint32_t threads)
{
    for (uint32_t e = 0; e < c->count; e++) {
        const point *p = &c->points[e];
        char line[512];

        (void)snprintf(line, sizeof line,
                       "%s,%s,M=%u efC=%u %s threads=%u,%u,%.5f,%.1f,%.1f,%.1f,%.2f,%.0f\n",
                       c->impl, b->opt->dataset, b->opt->m, b->opt->ef_construct,
                       c->graph != NULL ? b->opt->elem : "f32", threads, b->opt->efs[e], p->recall,
                       p->qps, p->p50_us, p->p99_us, c->build_s, c->bytes);
        (void)fputs(line, stdout);
        if (b->csv != NULL) {
            (void)fputs(line, b->csv);
        }
        if (c->graph != NULL) {
            fprintf(stderr, "WORK %s %s ef=%u recall=%.4f lists=%.1f distances=%.1f us=%.2f\n",
                    b->opt->dataset, c->impl, b->opt->efs[e], p->recall, p->followed, p->measured,
                    1e6 / p->qps * threads);
        }
    }
    (void)fflush(stdout);
}

static void
summarize(const bench *b, contender *all, size_t count, uint32_t threads)
{
    static const double targets[] = {0.90, 0.95, 0.99};
    double qps[BENCH_CONTENDERS_MAX][3];

    for (size_t i = 0; i < count; i++) {
        contender *c = &all[i];
        point sorted[EFS_MAX];

        memcpy(sorted, c->points, c->count * sizeof *sorted);
        qsort(sorted, c->count, sizeof *sorted, by_recall);
        for (size_t t = 0; t < 3; t++) {
            qps[i][t] = qps_at(sorted, c->count, targets[t]);
        }
        fprintf(stderr,
                "SUMMARY %-14s %-16s threads=%u qps@.90=%8.0f @.95=%8.0f @.99=%8.0f build=%.1fs "
                "mem=%.1fMB\n",
                b->opt->dataset, c->impl, threads, qps[i][0], qps[i][1], qps[i][2], c->build_s,
                c->bytes / 1e6);
    }
    for (size_t i = 0; i + 1 < count && all[count - 1].graph == NULL; i++) {
        fprintf(stderr, "RATIO %-14s %s / %s threads=%u: %.2f / %.2f / %.2f, build %.2f\n",
                b->opt->dataset, all[i].impl, all[count - 1].impl, threads,
                qps[i][0] / qps[count - 1][0], qps[i][1] / qps[count - 1][1],
                qps[i][2] / qps[count - 1][2], all[i].build_s / all[count - 1].build_s);
    }
}

void
bench_curves(bench *b, contender *all, size_t count, uint32_t threads)
{
    uint32_t queries = b->set.query_count;
    double *latency = calloc(queries, sizeof *latency);
    uint64_t *ids = calloc((size_t)queries * K, sizeof *ids);

    if (latency == NULL || ids == NULL) {
        bench_die("out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        all[i].done = false;
        all[i].count = 0;
    }
    for (uint32_t e = 0; e < b->opt->ef_count; e++) {
        bool measured[BENCH_CONTENDERS_MAX] = {false};

        for (size_t i = 0; i < count; i++) {
            measured[i] = !all[i].done;
            if (measured[i]) {
                warm(b, &all[i], e, ids);
            }
        }
        for (uint32_t pass = 0; pass < b->opt->passes; pass++) {
            for (size_t i = 0; i < count; i++) {
                if (measured[i]) {
                    time_once(b, &all[i], e, threads, latency);
                }
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        emit(b, &all[i], threads);
    }
    summarize(b, all, count, threads);
    free(latency);
    free(ids);
}
