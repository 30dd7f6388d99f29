/* tests/bench/index_bench.h: what the parts of `tests/bench/run index` share. */
#ifndef INDEX_BENCH_H
#define INDEX_BENCH_H
#include <stdio.h>

#include "index/hnsw.h"
#include "peer_hnswlib.h"
#include "vectors.h"

#define K 10u
#define EFS_MAX 64
#define BENCH_THREADS_MAX 64u
#define BENCH_CONTENDERS_MAX 8

typedef struct {
    const char *data;
    const char *dataset;
    const char *csv;
    const char *keep;
    const char *metric;
    const char *variant;
    const char *elem;
    uint32_t m;
    uint32_t ef_construct;
    uint32_t threads;
    uint32_t build_threads;
    uint32_t passes;
    uint32_t efs[EFS_MAX];
    uint32_t ef_count;
    uint32_t rows_max;
    bool peer;
    bool save;
    bool living;
    bool exact;
} options;

typedef struct {
    double recall;
    double qps;
    double p50_us;
    double p99_us;
    double followed; /* lists read, and rows measured, a query; 0: not known */
    double measured;
} point;

/* One index that is measured: a graph of ours, or a peer's. */
typedef struct {
    char impl[32];
    dp_hnsw *graph;
    bench_peer *peer; /* when graph is NULL */
    double build_s;
    double bytes;
    point points[EFS_MAX];
    uint32_t count; /* of the ladder, so many were measured */
    bool done;      /* recall is as good as whole */
} contender;

typedef struct {
    const options *opt;
    bench_set set;
    dp_metric metric;
    dp_rows rows;
    dp_chunk chunk[1];
    unsigned char *memory;
    FILE *csv;
} bench;

_Noreturn void bench_die(const char *what);
double bench_now_s(void);

/* Measures every contender at every ef, one after the other within each pass, so that what else the
 * machine does falls on all of them alike; then writes rows and summaries. `threads` search at
 * once. */
void bench_curves(bench *b, contender *all, size_t count, uint32_t threads);

/* recall@10 at one ef, over all queries. */
double bench_recall(const bench *b, contender *c, uint32_t ef);

/* index_extra.c */
void bench_exact(const bench *b);
void bench_save_and_load(const bench *b, contender *c, const dp_hnsw_config *config);
void bench_live_on(const bench *b, contender *c, const dp_hnsw_config *config);
#endif /* INDEX_BENCH_H */
