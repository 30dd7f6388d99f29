/* tests/bench/run storage [--dir PATH] [--seconds N] [--points N] [--only PART]
 *
 * Durable writes a second of a shard's log and points, at 1, 8 and 64 writers and in batches of 1
 * and 100 points; the same bytes into SQLite (WAL, synchronous=FULL, one connection, since it has
 * one writer whatever one does), side by side; what a checkpoint does to writers; how long a
 * restart takes by the length of the log; how much is written and kept for what was put. A point is
 * 128 floats and some 100 bytes of JSON. */
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/thread.h"
#include "storage/points.h"
#include "support/scratch.h"

enum { DIM = 128, WRITERS_MAX = 64, BATCH_MAX = 100 };

static const dp_column COLUMN = {.id = 1, .type = DP_COLUMN_F32, .dim = DIM};
static double seconds = 2;
static uint64_t points_max = 200000;

static void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_storage: %s\n", what);
        exit(1);
    }
}

static void
must_ok(ort_err err, const ort_diag *diag)
{
    must(err == ORT_OK, diag->text);
}

typedef struct {
    scratch place;
    dp_log *log;
    dp_points *points;
    pthread_mutex_t apply; /* one writer of points at a time */
    uint64_t applied;
} shard;

static void
shard_open(shard *s)
{
    ort_diag diag = {{0}};
    const dp_points_config points = {
        .tenant = {1}, .shard = {2}, .layout = {.columns = &COLUMN, .column_count = 1}};
    must_ok(dp_points_open(&s->points, s->place.fd, &points, &diag), &diag);
    const dp_log_config log = {
        .tenant = {1}, .shard = {2}, .epoch = 1, .folded = dp_points_mark(s->points)};
    must_ok(dp_log_open(&s->log, s->place.fd, &log, NULL, &diag), &diag);
    s->applied = log.folded.lsn;
}

static void
shard_close(shard *s)
{
    dp_log_close(s->log);
    dp_points_close(s->points);
}

/* A point as it travels: id, vector, payload. */
typedef struct {
    uint64_t id;
    float vector[DIM];
    char payload[104];
} point;

static void
make_point(point *p, uint64_t id)
{
    memset(p, 0, sizeof *p);
    p->id = id;
    for (unsigned i = 0; i < DIM; i++) {
        p->vector[i] = (float)((id * 2654435761u + i * 40503u) % 10007) / 10007.0f;
    }
    snprintf(p->payload, sizeof p->payload,
             "{\"number\":%" PRIu64
             ",\"city\":\"%s\",\"stars\":%u,\"open\":%s,\"tags\":[\"a\",\"b%u\"]}",
             id, id % 3 ? "Graz" : "Lisboa", (unsigned)(id % 5), id % 2 ? "true" : "false",
             (unsigned)(id % 17));
}

static void
put_points(shard *s, const point *batch, uint32_t n, uint64_t lsn)
{
    ort_diag diag = {{0}};
    uint32_t slot, old;
    for (uint32_t i = 0; i < n; i++) {
        const dp_value value = {batch[i].vector, sizeof batch[i].vector};
        const dp_point_in in = {.id = ort_point_id_of(batch[i].id),
                                .version = lsn,
                                .payload = {batch[i].payload, strlen(batch[i].payload)},
                                .values = &value};
        must_ok(dp_points_put(s->points, &in, &slot, &old, &diag), &diag);
    }
}

/* --- writers ---------------------------------------------------------------------------------- */

typedef struct {
    shard *s;    /* or */
    sqlite3 *db; /* one of these */
    sqlite3_stmt *insert, *begin, *commit;
    pthread_mutex_t *db_mutex;
    uint32_t batch;
    uint64_t first_id, writes;
    uint64_t stop_ns;
    uint32_t *latency_us;
    uint32_t latency_count, latency_cap;
} writer;

static void
write_orthant(writer *w, const point *batch)
{
    ort_diag diag = {{0}};
    dp_log_ticket ticket;
    must_ok(dp_log_append(w->s->log, 1, batch, w->batch * sizeof *batch, &ticket, &diag), &diag);
    must_ok(dp_log_wait(w->s->log, ticket, &diag), &diag);
    pthread_mutex_lock(&w->s->apply);
    put_points(w->s, batch, w->batch, ticket.lsn);
    pthread_mutex_unlock(&w->s->apply);
}

static void
step(sqlite3_stmt *s)
{
    must(sqlite3_step(s) == SQLITE_DONE, "sqlite step");
    sqlite3_reset(s);
}

static void
write_sqlite(writer *w, const point *batch)
{
    pthread_mutex_lock(w->db_mutex);
    step(w->begin);
    for (uint32_t i = 0; i < w->batch; i++) {
        sqlite3_bind_int64(w->insert, 1, (sqlite3_int64)batch[i].id);
        sqlite3_bind_blob(w->insert, 2, batch[i].vector, sizeof batch[i].vector, SQLITE_STATIC);
        sqlite3_bind_text(w->insert, 3, batch[i].payload, -1, SQLITE_STATIC);
        step(w->insert);
    }
    step(w->commit);
    pthread_mutex_unlock(w->db_mutex);
}

static void *
write_all(void *arg)
{
    writer *w = arg;
    point *batch = calloc(w->batch, sizeof *batch);
    uint64_t id = w->first_id;
    must(batch != NULL, "memory");
    while (ort_mono_ns() < w->stop_ns) {
        for (uint32_t i = 0; i < w->batch; i++) {
            make_point(&batch[i], id++);
        }
        const uint64_t began = ort_mono_ns();
        if (w->s != NULL) {
            write_orthant(w, batch);
        } else {
            write_sqlite(w, batch);
        }
        if (w->latency_count < w->latency_cap) {
            w->latency_us[w->latency_count++] = (uint32_t)((ort_mono_ns() - began) / 1000);
        }
        w->writes++;
    }
    free(batch);
    return NULL;
}

static int
by_value(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

typedef struct {
    double writes_s, points_s;
    double p50_ms, p99_ms, p999_ms, max_ms;
} figures;

static figures
run_writers(const writer *like, uint32_t count, uint64_t first_id)
{
    enum { CAP = 1 << 18 };
    pthread_t threads[WRITERS_MAX];
    writer *writers = calloc(count, sizeof *writers);
    uint32_t *all = calloc((size_t)CAP * count, sizeof *all);
    uint64_t writes = 0;
    size_t n = 0;
    ort_diag diag;
    must(writers != NULL && all != NULL, "memory");
    const uint64_t began = ort_mono_ns();
    for (uint32_t i = 0; i < count; i++) {
        writers[i] = *like;
        writers[i].first_id = first_id + (uint64_t)i * 10000000;
        writers[i].stop_ns = began + (uint64_t)(seconds * 1e9);
        writers[i].latency_us = malloc(CAP * sizeof(uint32_t));
        writers[i].latency_cap = CAP;
        must(writers[i].latency_us != NULL, "memory");
        must_ok(ort_thread_start(&threads[i], "writer", write_all, &writers[i], &diag), &diag);
    }
    for (uint32_t i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        writes += writers[i].writes;
        memcpy(all + n, writers[i].latency_us, writers[i].latency_count * sizeof *all);
        n += writers[i].latency_count;
        free(writers[i].latency_us);
    }
    const double took = (double)(ort_mono_ns() - began) / 1e9;
    qsort(all, n, sizeof *all, by_value);
    const size_t p50 = n / 2, p99 = n - 1 - n / 100, p999 = n - 1 - n / 1000;
    const figures f = {.writes_s = (double)writes / took,
                       .points_s = (double)(writes * like->batch) / took,
                       .p50_ms = all[p50] / 1e3,
                       .p99_ms = all[p99] / 1e3,
                       .p999_ms = all[p999] / 1e3,
                       .max_ms = all[n - 1] / 1e3};
    free(all);
    free(writers);
    return f;
}

static figures
bench_orthant(uint32_t writers, uint32_t batch, double *per_sync)
{
    shard s = {.place = scratch_make(), .apply = PTHREAD_MUTEX_INITIALIZER};
    shard_open(&s);
    const writer like = {.s = &s, .batch = batch};
    const figures f = run_writers(&like, writers, 0);
    dp_log_stats stats;
    dp_log_get_stats(s.log, &stats);
    *per_sync = (double)stats.appends / (double)stats.groups;
    shard_close(&s);
    scratch_drop(&s.place);
    return f;
}

static sqlite3_stmt *
prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *s;
    must(sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK, sqlite3_errmsg(db));
    return s;
}

static figures
bench_sqlite(uint32_t writers, uint32_t batch)
{
    scratch place = scratch_make();
    char path[128];
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    writer like = {.batch = batch, .db_mutex = &mutex};
    snprintf(path, sizeof path, "%s/points.db", place.path);
    must(sqlite3_open(path, &like.db) == SQLITE_OK, "sqlite open");
    must(sqlite3_exec(like.db,
                      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                      "CREATE TABLE points(id INTEGER PRIMARY KEY, vector BLOB, payload TEXT)",
                      NULL, NULL, NULL) == SQLITE_OK,
         sqlite3_errmsg(like.db));
    like.begin = prepare(like.db, "BEGIN IMMEDIATE");
    like.commit = prepare(like.db, "COMMIT");
    like.insert = prepare(like.db, "INSERT OR REPLACE INTO points VALUES(?,?,?)");
    const figures f = run_writers(&like, writers, 0);
    sqlite3_finalize(like.begin);
    sqlite3_finalize(like.commit);
    sqlite3_finalize(like.insert);
    sqlite3_close(like.db);
    scratch_drop(&place);
    return f;
}

/* --- checkpoints beside writers -----------------------------------------------------------------
 */

typedef struct {
    shard *s;
    uint64_t bytes_per_s;
    atomic_bool stop;
    uint64_t count, freeze_ns_max;
} checkpointer;

static void *
checkpoint_all(void *arg)
{
    checkpointer *c = arg;
    while (!atomic_load(&c->stop)) {
        ort_diag diag = {{0}};
        dp_checkpoint *cp;
        const dp_checkpoint_options options = {.bytes_per_s = c->bytes_per_s, .hurry = &c->stop};
        pthread_mutex_lock(&c->s->apply);
        const uint64_t frozen = ort_mono_ns();
        const dp_log_mark mark = dp_log_durable(c->s->log);
        must_ok(dp_points_freeze(c->s->points, mark, &cp, &diag), &diag);
        const uint64_t took = ort_mono_ns() - frozen;
        pthread_mutex_unlock(&c->s->apply);
        must_ok(dp_checkpoint_write(cp, &options, &diag), &diag);
        dp_checkpoint_free(cp);
        /* The mark may be ahead of what was applied: nothing is cut here, only timed. */
        c->freeze_ns_max = took > c->freeze_ns_max ? took : c->freeze_ns_max;
        c->count++;
    }
    return NULL;
}

/* mib_s below 0: no checkpoints; 0: without a bound. */
static void
bench_checkpoint(int mib_s)
{
    shard s = {.place = scratch_make(), .apply = PTHREAD_MUTEX_INITIALIZER};
    checkpointer c = {.s = &s, .bytes_per_s = mib_s > 0 ? (uint64_t)mib_s << 20 : 0};
    pthread_t thread;
    ort_diag diag;
    dp_points_stats stats;
    shard_open(&s);
    const writer like = {.s = &s, .batch = 1};
    if (mib_s >= 0) {
        must_ok(ort_thread_start(&thread, "checkpoint", checkpoint_all, &c, &diag), &diag);
    }
    const uint64_t began = ort_mono_ns();
    const figures f = run_writers(&like, 8, 0);
    dp_points_get_stats(s.points, &stats);
    const double took = (double)(ort_mono_ns() - began) / 1e9;
    atomic_store(&c.stop, true);
    if (mib_s >= 0) {
        pthread_join(thread, NULL);
    }
    char bound[32] = "none";
    if (mib_s >= 0) {
        snprintf(bound, sizeof bound, mib_s > 0 ? "%d" : "unbounded", mib_s);
    }
    printf("checkpoint_stall writers=8 checkpoint_mib_s=%s writes_s=%.0f p50_ms=%.2f p99_ms=%.2f "
           "p99.9_ms=%.2f max_ms=%.2f checkpoints=%" PRIu64 " checkpoint_wrote_mib_s=%.0f "
           "freeze_max_ms=%.3f\n",
           bound, f.writes_s, f.p50_ms, f.p99_ms, f.p999_ms, f.max_ms, c.count,
           (double)stats.written_bytes / 1048576.0 / took, (double)c.freeze_ns_max / 1e6);
    fflush(stdout);
    shard_close(&s);
    scratch_drop(&s.place);
}

/* --- restart, amplification ---------------------------------------------------------------------
 */

static ort_err
replay(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    shard *s = ctx;
    (void)diag;
    put_points(s, (const point *)(const void *)record->body,
               (uint32_t)(record->len / sizeof(point)), record->lsn);
    return ORT_OK;
}

static void
fill(shard *s, uint64_t from, uint64_t count)
{
    point *batch = calloc(BATCH_MAX, sizeof *batch);
    ort_diag diag = {{0}};
    must(batch != NULL, "memory");
    for (uint64_t id = from; id < from + count; id += BATCH_MAX) {
        dp_log_ticket ticket;
        for (uint32_t i = 0; i < BATCH_MAX; i++) {
            make_point(&batch[i], id + i);
        }
        must_ok(dp_log_append(s->log, 1, batch, BATCH_MAX * sizeof *batch, &ticket, &diag), &diag);
        must_ok(dp_log_wait(s->log, ticket, &diag), &diag);
        put_points(s, batch, BATCH_MAX, ticket.lsn);
    }
    free(batch);
}

static void
checkpoint(shard *s, bool all)
{
    ort_diag diag = {{0}};
    dp_checkpoint *c;
    const dp_checkpoint_options options = {.merge_all = all};
    const dp_log_mark mark = dp_log_durable(s->log);
    must_ok(dp_points_freeze(s->points, mark, &c, &diag), &diag);
    must_ok(dp_checkpoint_write(c, &options, &diag), &diag);
    dp_checkpoint_free(c);
    must_ok(dp_log_cut(s->log, mark.lsn, &diag), &diag);
}

/* packed: all full files of the log are. */
static void
bench_restart(uint64_t in_log, bool packed)
{
    shard s = {.place = scratch_make(), .apply = PTHREAD_MUTEX_INITIALIZER};
    ort_diag diag = {{0}};
    shard_open(&s);
    fill(&s, 0, in_log);
    const uint64_t pack_began = ort_mono_ns();
    for (bool more = packed; more;) {
        must_ok(dp_log_pack(s.log, 0, 1, &more, &diag), &diag);
    }
    const double pack_s = (double)(ort_mono_ns() - pack_began) / 1e9;
    const double log_mib = (double)dp_log_disk_bytes(s.log) / 1048576.0;
    shard_close(&s);
    const uint64_t began = ort_mono_ns();
    shard_open(&s);
    const uint64_t opened = ort_mono_ns();
    must_ok(dp_log_replay(s.log, 1, replay, &s, &diag), &diag);
    const uint64_t ended = ort_mono_ns();
    must(dp_points_live_count(s.points) == in_log, "points are missing");
    checkpoint(&s, true);
    shard_close(&s);
    const uint64_t again = ort_mono_ns();
    shard_open(&s);
    const uint64_t mapped = ort_mono_ns();
    printf("restart points=%" PRIu64 " log_mib=%.0f packed=%s pack_s=%.2f check_ms=%.0f "
           "replay_ms=%.0f after_checkpoint_ms=%.1f\n",
           in_log, log_mib, packed ? "yes" : "no", packed ? pack_s : 0,
           (double)(opened - began) / 1e6, (double)(ended - opened) / 1e6,
           (double)(mapped - again) / 1e6);
    fflush(stdout);
    shard_close(&s);
    scratch_drop(&s.place);
}

/* Points put once, then a fifth of them three times over, with a checkpoint every tenth. */
static void
bench_amplification(uint64_t points)
{
    shard s = {.place = scratch_make(), .apply = PTHREAD_MUTEX_INITIALIZER};
    uint64_t put = 0;
    ort_diag diag = {{0}};
    shard_open(&s);
    const uint64_t part = points / 10 / BATCH_MAX * BATCH_MAX;
    for (int i = 0; i < 10; i++) {
        fill(&s, (uint64_t)i * part, part);
        put += part;
        checkpoint(&s, false);
    }
    for (int i = 0; i < 6; i++) {
        fill(&s, (uint64_t)(i % 2) * part, part);
        put += part;
        uint32_t moved;
        do {
            must_ok(dp_points_relocate(s.points, 10000, NULL, NULL, &moved, &diag), &diag);
        } while (moved > 0);
        checkpoint(&s, false);
    }
    dp_points_stats stats;
    dp_log_stats log;
    dp_points_get_stats(s.points, &stats);
    dp_log_get_stats(s.log, &log);
    const double logical = (double)stats.logical_bytes / (double)stats.live * (double)put;
    printf("amplification points=%" PRIu64 " put=%" PRIu64 " segments=%u write_log=%.2f "
           "write_checkpoints=%.2f write_total=%.2f space=%.2f\n",
           stats.live, put, stats.segments, (double)(log.bytes + log.zero_bytes) / logical,
           (double)stats.written_bytes / logical,
           ((double)(log.bytes + log.zero_bytes) + (double)stats.written_bytes) / logical,
           (double)(stats.disk_bytes + dp_log_disk_bytes(s.log)) / (double)stats.logical_bytes);
    shard_close(&s);
    scratch_drop(&s.place);
}

static void
bench_writes(void)
{
    static const uint32_t writers[] = {1, 8, 64}, batches[] = {1, BATCH_MAX};
    for (size_t b = 0; b < 2; b++) {
        for (size_t w = 0; w < 3; w++) {
            double per_sync;
            const figures ours = bench_orthant(writers[w], batches[b], &per_sync);
            const figures theirs = bench_sqlite(writers[w], batches[b]);
            printf(
                "writers=%u batch=%u orthant_writes_s=%.0f points_s=%.0f p50_ms=%.2f p99_ms=%.2f "
                "records_per_sync=%.1f | sqlite_writes_s=%.0f points_s=%.0f p50_ms=%.2f "
                "p99_ms=%.2f | ratio=%.1f\n",
                writers[w], batches[b], ours.writes_s, ours.points_s, ours.p50_ms, ours.p99_ms,
                per_sync, theirs.writes_s, theirs.points_s, theirs.p50_ms, theirs.p99_ms,
                ours.writes_s / theirs.writes_s);
            fflush(stdout);
        }
    }
}

static const char *only;

static bool
wanted(const char *part)
{
    return only == NULL || strcmp(only, part) == 0;
}

int
main(int argc, char **argv)
{
    const char *dir = "/var/tmp";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--dir") == 0) {
            dir = argv[i + 1];
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = atof(argv[i + 1]);
        } else if (strcmp(argv[i], "--points") == 0) {
            points_max = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--only") == 0) {
            only = argv[i + 1];
        } else {
            fprintf(stderr, "usage: bench_storage [--dir PATH] [--seconds N] [--points N] [--only "
                            "writes|checkpoint|restart|amplification]\n");
            return 2;
        }
    }
    setenv("ORT_SCRATCH", dir, 1);
    printf("point_bytes=%zu dir=%s\n", sizeof(point), dir);
    if (wanted("writes")) {
        bench_writes();
    }
    for (size_t i = 0; wanted("checkpoint") && i < 4; i++) {
        static const int mib_s[] = {-1, 0, 64, 16};
        bench_checkpoint(mib_s[i]);
    }
    if (wanted("restart")) {
        bench_restart(points_max / 20 / BATCH_MAX * BATCH_MAX, false);
        bench_restart(points_max / BATCH_MAX * BATCH_MAX, false);
        bench_restart(points_max / BATCH_MAX * BATCH_MAX * 4, false);
        bench_restart(points_max / BATCH_MAX * BATCH_MAX * 4, true);
    }
    if (wanted("amplification")) {
        bench_amplification(points_max);
    }
    return 0;
}
