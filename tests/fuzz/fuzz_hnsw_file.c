/* Fuzzes the reader of a graph's file: the input changes bytes of a sound file, the checksums are
 * then made to fit, so that what is behind them is reached. What loads must be walkable. */
#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "index/hnsw_values.h"

#define DIM 4u
#define SLOTS 640u
#define ROOM 1024u /* rows that there are */
#define FIELD 5u   /* whose value 1 most slots have: enough to be linked */
#define PAGE 4096u
#define TABLE 128u
#define ROW 24u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dp_rows rows;
static dp_chunk directory[1];
static float vectors[ROOM * DIM];
static unsigned char *sound;
static size_t sound_bytes;
static int dir = -1;

static const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .m = 4};

static void
prepare(void)
{
    char path[] = "/tmp/ort-fuzz-hnsw-XXXXXX";
    dp_hnsw_stamp stamp = {.owner = {1, 2}};
    dp_hnsw *graph = NULL;
    ort_err err;
    int fd;

    rows = (dp_rows){.chunk_bits = 10, .stride_bytes = DIM * 4, .dim = DIM, .elem = DP_ELEM_F32};
    atomic_store(&rows.chunks, directory);
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        vectors[i] = (float)(i * 2654435761U % 1000) / 100.0F;
    }
    dp_rows_publish(&rows, 0, vectors);
    if (mkdtemp(path) == NULL) {
        abort();
    }
    dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err = dp_hnsw_new(&graph, &rows, &config, NULL);
    assert(err == ORT_OK);
    err = dp_hnsw_build(graph, 0, SLOTS, NULL, 1, NULL, NULL);
    assert(err == ORT_OK);
    err = dp_hnsw_field_add(graph, FIELD, 4, NULL);
    assert(err == ORT_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        const uint64_t value = i % 8 == 7 ? 2 : 1;

        err = dp_hnsw_value_add(graph, FIELD, i, &value, 1);
        assert(err == ORT_OK);
    }
    err = dp_hnsw_save(graph, dir, "graph", &stamp, NULL);
    assert(err == ORT_OK);
    (void)err;
    dp_hnsw_free(graph);
    fd = openat(dir, "graph", O_RDONLY | O_CLOEXEC);
    sound_bytes = (size_t)lseek(fd, 0, SEEK_END);
    sound = malloc(sound_bytes);
    if (sound == NULL || pread(fd, sound, sound_bytes, 0) != (ssize_t)sound_bytes) {
        abort();
    }
    close(fd);
}

static void
put_crc(unsigned char *file, size_t at, size_t from, size_t bytes)
{
    uint32_t crc = from + bytes <= sound_bytes ? ort_crc32c(0, file + from, bytes) : 0;

    memcpy(file + at, &crc, sizeof crc); /* the files are little-endian, and so are we */
}

/* The sections as the sound file has them; none of them is as long as two groups. */
static void
fit_checksums(unsigned char *file)
{
    uint32_t sections;
    size_t sums;

    memcpy(&sections, sound + 88, sizeof sections);
    memcpy(&sums, sound + TABLE + (sections - 1) * ROW + 8, sizeof sums);
    for (uint32_t i = 0; i + 1 < sections; i++) {
        size_t begin;
        size_t end;

        memcpy(&begin, sound + TABLE + i * ROW + 8, sizeof begin);
        memcpy(&end, sound + TABLE + (i + 1) * ROW + 8, sizeof end);
        assert(end - begin <= (1U << 20) && end > begin);
        put_crc(file, sums + (size_t)i * 4, begin, end - begin);
    }
    put_crc(file, 92, TABLE, PAGE - TABLE);
    put_crc(file, 96, sums, PAGE);
    put_crc(file, 124, 0, 124);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dp_hnsw_stamp stamp = {.owner = {1, 2}, .slot_end = ROOM};
    dp_hnsw *graph = NULL;
    unsigned char *file;
    ort_err err;
    int fd;

    if (sound == NULL) {
        prepare();
    }
    file = malloc(sound_bytes);
    if (file == NULL) {
        return 0;
    }
    memcpy(file, sound, sound_bytes);
    for (size_t i = 0; i + 3 <= size && i < 300; i += 3) {
        /* Two bytes do not reach all of the file: every second change begins farther behind. */
        const size_t at = (data[i] | (size_t)data[i + 1] << 8) + i / 3 % 2 * 32768;

        file[at % sound_bytes] = data[i + 2];
    }
    fit_checksums(file);
    fd = openat(dir, "bad", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, file, sound_bytes) != (ssize_t)sound_bytes) {
        abort();
    }
    close(fd);
    err = dp_hnsw_load(&graph, &rows, &config, dir, "bad", &stamp, NULL);
    if (err == ORT_OK) {
        const dp_hnsw_among among = {.field = FIELD, .value = 1};
        dp_hnsw_field_report links;
        dp_hnsw_report report;
        dp_hit hits[10];
        size_t n = 0;

        for (uint32_t q = 0; q < 8; q++) {
            if (dp_hnsw_search(graph, vectors + (size_t)q * DIM, (dp_hnsw_query){.k = 10}, NULL,
                               hits, &n) != ORT_OK) {
                abort();
            }
        }
        err = dp_hnsw_search(graph, vectors, (dp_hnsw_query){.k = 10, .among = &among}, NULL, hits,
                             &n);
        if (err != ORT_OK && err != ORT_ENOTFOUND) {
            abort();
        }
        err = dp_hnsw_field_check(graph, FIELD, &links); /* the field may have another number */
        if (err != ORT_OK && err != ORT_ENOTFOUND) {
            abort();
        }
        if (dp_hnsw_check(graph, &report) != ORT_OK || dp_hnsw_delete(graph, 1000) == ORT_OK) {
            abort();
        }
        if (n > 0 && dp_hnsw_delete(graph, hits[0].slot) != ORT_OK) {
            abort();
        }
        if (dp_hnsw_repair(graph) != ORT_OK) {
            abort();
        }
        dp_hnsw_free(graph);
    }
    free(file);
    return 0;
}
