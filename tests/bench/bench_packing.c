/* tests/bench/run packing [--data DIR] [--payloads FILE] [--dir PATH]
 *
 * What compression gives and costs, on real data: points with the vectors of notes-384 and, as
 * payloads, the records of Debian's package index (name, section, tags, description, ..: what
 * `apt-get update` leaves under /var/lib/apt/lists), as JSON. For each way of packing: bytes on
 * disk, time of a checkpoint, of a read of one payload, of a scan of all. Then full files of the
 * log, and vectors as float16 with the recall that they leave. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/json_write.h"
#include "bench/vectors.h"
#include "index/distance.h"
#include "storage/points.h"
#include "support/scratch.h"

enum { POINTS = 50000, READS = 20000 };

static const char *payload_command =
    "lz4 -dcm /var/lib/apt/lists/*_bookworm_main_binary-amd64_Packages.lz4";

static void
must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench_packing: %s\n", what);
        exit(1);
    }
}

static void
must_ok(ort_err err, const ort_diag *diag)
{
    must(err == ORT_OK, diag->text);
}

static double
seconds_since(uint64_t ns)
{
    return (double)(ort_mono_ns() - ns) / 1e9;
}

/* --- payloads ----------------------------------------------------------------------------------
 */

typedef struct {
    char **texts;
    size_t *lens;
    size_t count;
    uint64_t bytes;
} payload_list;

static void
keep(payload_list *list, ort_buf *text)
{
    if (text->len == 0 || list->count == POINTS) {
        ort_buf_clear(text);
        return;
    }
    ort_buf_put(text, "}", 1);
    list->texts[list->count] = malloc(text->len);
    must(list->texts[list->count] != NULL && !text->failed, "memory");
    memcpy(list->texts[list->count], text->data, text->len);
    list->lens[list->count++] = text->len;
    list->bytes += text->len;
    ort_buf_clear(text);
}

/* Stanzas of `Field: value` lines become objects of strings and numbers. */
static void
read_payloads(payload_list *list, const char *path)
{
    static char line[1 << 16];
    ort_buf text = {0};
    *list = (payload_list){.texts = calloc(POINTS, sizeof(char *)),
                           .lens = calloc(POINTS, sizeof(size_t))};
    must(list->texts != NULL && list->lens != NULL, "memory");
    FILE *in = path != NULL ? fopen(path, "r") : popen(payload_command, "r");
    must(in != NULL, "no payloads");
    while (fgets(line, sizeof line, in) != NULL) {
        char *colon = strstr(line, ": ");
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0') {
            keep(list, &text);
            continue;
        }
        if (line[0] == ' ' || colon == NULL) {
            continue;
        }
        char *end;
        const char *value = colon + 2;
        ort_jw w = {.buf = &text};
        const unsigned long long number = strtoull(value, &end, 10);
        ort_buf_put(&text, text.len == 0 ? "{" : ",", 1);
        ort_jw_str_n(&w, line, (size_t)(colon - line));
        ort_buf_put(&text, ":", 1);
        w = (ort_jw){.buf = &text};
        if (end != value && *end == '\0') {
            ort_jw_u64(&w, number);
        } else {
            ort_jw_str_n(&w, value, strlen(value));
        }
    }
    keep(list, &text);
    ort_buf_fini(&text);
    path != NULL ? fclose(in) : pclose(in);
    must(list->count > 1000, "fewer than 1000 payloads; run apt-get update or give --payloads");
}

/* --- points ------------------------------------------------------------------------------------
 */

static uint64_t
fill(dp_points *points, const bench_set *set, const payload_list *list, bool half)
{
    uint16_t *row = calloc(set->dim, sizeof *row);
    ort_diag diag = {{0}};
    must(row != NULL && list->count > 0, "memory");
    const uint32_t count = set->base_count < POINTS ? set->base_count : POINTS;
    for (uint32_t i = 0; i < count; i++) {
        const float *vector = set->base + (size_t)i * set->dim;
        dp_value value = {vector, set->dim * sizeof *vector};
        uint32_t slot, old;
        if (half) {
            dp_f16_from_f32(row, vector, set->dim);
            value = (dp_value){row, set->dim * sizeof *row};
        }
        const size_t p = i % list->count;
        const dp_point_in in = {.id = ort_point_id_of(i),
                                .version = 1,
                                .payload = {list->texts[p], list->lens[p]},
                                .values = &value};
        must_ok(dp_points_put(points, &in, &slot, &old, &diag), &diag);
    }
    free(row);
    return count;
}

/* Bytes of payload blocks in the segment: all of it without vectors, ids and the like. */
static void
measure(const bench_set *set, const payload_list *list, const char *name, dp_packing packing,
        bool half)
{
    scratch place = scratch_make();
    ort_diag diag = {{0}};
    const dp_column column = {
        .id = 1, .type = half ? DP_COLUMN_F16 : DP_COLUMN_F32, .dim = set->dim};
    const dp_points_config config = {.tenant = {1},
                                     .shard = {2},
                                     .layout = {.columns = &column, .column_count = 1},
                                     .packing = packing};
    dp_points *points;
    dp_checkpoint *c;
    must_ok(dp_points_open(&points, place.fd, &config, &diag), &diag);
    const uint64_t count = fill(points, set, list, half);
    must_ok(dp_points_freeze(points, (dp_log_mark){.lsn = 1}, &c, &diag), &diag);
    uint64_t began = ort_mono_ns();
    must_ok(dp_checkpoint_write(c, NULL, &diag), &diag);
    const double write_s = seconds_since(began);
    dp_checkpoint_free(c);
    dp_points_stats stats;
    dp_points_get_stats(points, &stats);
    dp_points_close(points);

    must_ok(dp_points_open(&points, place.fd, &config, &diag), &diag);
    const char *text;
    size_t len;
    uint64_t random = 1, bytes = 0;
    assert(count > 0);
    began = ort_mono_ns();
    for (uint32_t i = 0; i < READS; i++) {
        dp_reader reader;
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        dp_reader_init(&reader, points);
        must_ok(dp_points_payload(&reader, (uint32_t)((random >> 33) % count), &text, &len, &diag),
                &diag);
        bytes += len;
        dp_reader_fini(&reader);
    }
    const double read_us = seconds_since(began) / READS * 1e6;
    dp_reader reader;
    dp_reader_init(&reader, points);
    bytes = 0;
    began = ort_mono_ns();
    for (uint32_t slot = 0; slot < count; slot++) {
        must_ok(dp_points_payload(&reader, slot, &text, &len, &diag), &diag);
        bytes += len;
    }
    const double scan_s = seconds_since(began);
    dp_reader_fini(&reader);
    const uint64_t rows = count * set->dim * (half ? 2 : 4);
    printf("packing=%s vectors=%s points=%" PRIu64 " payload_mib=%.1f disk_mib=%.1f "
           "disk_without_rows_mib=%.1f payload_ratio=%.2f checkpoint_s=%.2f read_us=%.1f "
           "scan_mib_s=%.0f\n",
           name, half ? "f16" : "f32", count, (double)bytes / 1048576.0,
           (double)stats.disk_bytes / 1048576.0, (double)(stats.disk_bytes - rows) / 1048576.0,
           (double)bytes / (double)(stats.disk_bytes - rows), write_s, read_us,
           (double)bytes / 1048576.0 / scan_s);
    fflush(stdout);
    dp_points_close(points);
    scratch_drop(&place);
}

/* --- the log -----------------------------------------------------------------------------------
 */

static ort_err
nothing(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    (void)diag;
    *(uint64_t *)ctx += record->len;
    return ORT_OK;
}

/* vectors: 0 none, 4 float32. Records of 20 points. */
static void
measure_log(const bench_set *set, const payload_list *list, bool vectors, int level)
{
    scratch place = scratch_make();
    ort_diag diag = {{0}};
    const dp_log_config config = {.tenant = {1}, .shard = {2}, .epoch = 1};
    dp_log *log;
    ort_buf body = {0};
    must_ok(dp_log_open(&log, place.fd, &config, NULL, &diag), &diag);
    for (uint32_t i = 0, n = 0; i < 4 * POINTS; i++) {
        const uint32_t v = i % set->base_count;
        dp_log_ticket ticket;
        ort_buf_put(&body, list->texts[i % list->count], list->lens[i % list->count]);
        if (vectors) {
            ort_buf_put(&body, set->base + (size_t)v * set->dim, set->dim * sizeof(float));
        }
        if (++n == 20) {
            must_ok(dp_log_append(log, 1, body.data, body.len, &ticket, &diag), &diag);
            must_ok(dp_log_wait(log, ticket, &diag), &diag);
            ort_buf_clear(&body);
            n = 0;
        }
    }
    const uint64_t before = dp_log_disk_bytes(log);
    uint64_t read = 0, began = ort_mono_ns();
    must_ok(dp_log_replay(log, 1, nothing, &read, &diag), &diag);
    const double plain_s = seconds_since(began);
    uint64_t files = 0;
    began = ort_mono_ns();
    for (bool more = level > 0; more; files += more) {
        must_ok(dp_log_pack(log, 0, level, &more, &diag), &diag);
    }
    const double pack_s = seconds_since(began);
    const uint64_t after = dp_log_disk_bytes(log);
    began = ort_mono_ns();
    read = 0;
    must_ok(dp_log_replay(log, 1, nothing, &read, &diag), &diag);
    printf("log records_of=%s level=%d mib=%.0f packed_mib=%.0f files_packed=%" PRIu64
           " ratio=%.2f pack_mib_s=%.0f read_plain_mib_s=%.0f read_packed_mib_s=%.0f\n",
           vectors ? "vectors+payloads" : "payloads", level, (double)before / 1048576.0,
           (double)after / 1048576.0, files, (double)before / (double)after,
           (double)before / 1048576.0 / pack_s, (double)read / 1048576.0 / plain_s,
           (double)read / 1048576.0 / seconds_since(began));
    fflush(stdout);
    ort_buf_fini(&body);
    dp_log_close(log);
    scratch_drop(&place);
}

/* --- float16 -----------------------------------------------------------------------------------
 */

typedef struct {
    float distance;
    uint32_t id;
} hit;

static int
by_distance(const void *a, const void *b)
{
    const hit *x = a, *y = b;
    return x->distance < y->distance ? -1 : x->distance > y->distance;
}

/* Exact scans over rows that went through float16 and back; rows and queries are of unit length. */
static void
measure_half(bench_set *set)
{
    enum { QUERIES = 100, K = 10 };
    hit *all = calloc(set->base_count, sizeof *all);
    uint16_t *row = calloc(set->dim, sizeof *row);
    uint64_t right = 0;
    must(all != NULL && row != NULL && set->truth != NULL, "no ground truth");
    for (uint32_t i = 0; i < set->base_count; i++) {
        float *v = set->base + (size_t)i * set->dim;
        dp_f16_from_f32(row, v, set->dim);
        dp_f32_from_f16(v, row, set->dim);
    }
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = set->query + (size_t)q * set->dim;
        for (uint32_t i = 0; i < set->base_count; i++) {
            all[i] = (hit){bench_set_distance(set, query, set->base + (size_t)i * set->dim), i};
        }
        qsort(all, set->base_count, sizeof *all, by_distance);
        for (uint32_t k = 0; k < K; k++) {
            for (uint32_t t = 0; t < K; t++) {
                right += (uint32_t)set->truth[(size_t)q * set->truth_k + t] == all[k].id;
            }
        }
    }
    printf("float16 rows=%u dim=%u queries=%d recall@10=%.4f (exact scan, ids of the first ten)\n",
           set->base_count, set->dim, QUERIES, (double)right / (QUERIES * K));
    free(all);
    free(row);
}

int
main(int argc, char **argv)
{
    const char *data = getenv("ORT_DATA_DIR"), *payloads = NULL, *dir = "/var/tmp";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--data") == 0) {
            data = argv[i + 1];
        } else if (strcmp(argv[i], "--payloads") == 0) {
            payloads = argv[i + 1];
        } else if (strcmp(argv[i], "--dir") == 0) {
            dir = argv[i + 1];
        } else {
            fprintf(stderr, "usage: bench_packing [--data DIR] [--payloads FILE] [--dir PATH]\n");
            return 2;
        }
    }
    static const struct {
        const char *name;
        dp_packing packing;
    } ways[] = {{"none", {DP_PACK_NONE, 0}},     {"lz4-1", {DP_PACK_LZ4, 1}},
                {"lz4-9", {DP_PACK_LZ4, 9}},     {"zstd-1", {DP_PACK_ZSTD, 1}},
                {"zstd-3", {DP_PACK_ZSTD, 3}},   {"zstd-9", {DP_PACK_ZSTD, 9}},
                {"zstd-19", {DP_PACK_ZSTD, 19}}, {"zstd-22", {DP_PACK_ZSTD, 22}}};
    bench_set set;
    payload_list list;
    setenv("ORT_SCRATCH", dir, 1);
    bench_set_load(&set, data != NULL ? data : "../shared/data", "notes-384", 0, "cos");
    read_payloads(&list, payloads);
    printf("payloads=%zu bytes_each=%.0f dim=%u\n", list.count,
           (double)list.bytes / (double)list.count, set.dim);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        measure(&set, &list, ways[i].name, ways[i].packing, false);
    }
    measure(&set, &list, "zstd-1", (dp_packing){DP_PACK_ZSTD, 1}, true);
    measure_log(&set, &list, true, 1);
    measure_log(&set, &list, true, 3);
    measure_log(&set, &list, false, 1);
    measure_log(&set, &list, false, 3);
    measure_half(&set);
    for (size_t i = 0; i < list.count; i++) {
        free(list.texts[i]);
    }
    free(list.texts);
    free(list.lens);
    bench_set_free(&set);
    return 0;
}
