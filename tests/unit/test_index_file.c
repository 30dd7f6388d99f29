/* The graph's file: what is written is what is found again, of this version and the one before;
 * what is damaged, another's, or of a newer program is refused; what the disk does to pages in use
 * is harmless; a save that is killed leaves a whole file. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "support/scratch.h"
#include "unit/index_support.h"

#define DIM 32u
#define N 3000u
#define QUERIES 60u
#define K 10u

static float *vectors; /* 2 N of them, then QUERIES */
static const float *queries;

typedef struct {
    test_rows rows;
    dp_hnsw *graph;
} fixture;

static void
make(fixture *f, dp_metric metric, dp_code code, uint32_t n)
{
    dp_hnsw_config config = {.metric = metric, .code = code};

    test_rows_init(&f->rows, DP_ELEM_F32, DIM, 2 * N);
    for (uint32_t i = 0; i < n; i++) {
        test_rows_put(&f->rows, i, vectors + (size_t)i * DIM);
    }
    assert_int_equal(dp_hnsw_new(&f->graph, &f->rows.view, &config, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_build(f->graph, 0, n, NULL, 1, NULL, NULL), ORT_OK);
}

static void
unmake(fixture *f)
{
    dp_hnsw_free(f->graph);
    test_rows_fini(&f->rows);
}

static void
check_invariants(dp_hnsw *graph, uint32_t nodes)
{
    dp_hnsw_report report;

    assert_int_equal(dp_hnsw_check(graph, &report), ORT_OK);
    assert_int_equal(report.nodes, nodes);
    assert_int_equal(report.dead_links, 0);
    assert_int_equal(report.bad_links, 0);
    assert_int_equal(report.unreachable, 0);
}

static int
temp_dir(char *path)
{
    scratch_dir(path, 64, "ort-hnsw");
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
temp_remove(char *path, int dir)
{
    (void)unlinkat(dir, "graph", 0);
    (void)unlinkat(dir, "bad", 0);
    close(dir);
    rmdir(path);
}

static const dp_hnsw_stamp stamp = {.owner = {7, 9}, .lsn = 1234};

static void
a_saved_graph_answers_as_before(void **state)
{
    char path[64];
    int dir = temp_dir(path);

    (void)state;
    for (int code = DP_CODE_AUTO; code <= DP_CODE_NONE; code++) {
        fixture f;
        dp_hnsw *loaded = NULL;
        dp_hnsw_stamp read = {.owner = {7, 9}, .slot_end = N};
        dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .code = (dp_code)code};
        dp_hnsw *old;

        make(&f, DP_METRIC_EUCLID, (dp_code)code, N);
        for (uint32_t i = 0; i < 30; i++) {
            assert_int_equal(dp_hnsw_delete(f.graph, i * 7), ORT_OK);
        }
        assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
        assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &config, dir, "graph", &read, NULL),
                         ORT_OK);
        assert_int_equal(read.lsn, 1234);
        assert_int_equal(dp_hnsw_count(loaded), N - 30);
        for (size_t q = 0; q < QUERIES; q++) {
            dp_hit a[K];
            dp_hit b[K];
            size_t na = 0;
            size_t nb = 0;

            assert_int_equal(
                dp_hnsw_search(f.graph, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, a, &na),
                ORT_OK);
            assert_int_equal(
                dp_hnsw_search(loaded, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, b, &nb),
                ORT_OK);
            assert_int_equal(na, nb);
            assert_memory_equal(a, b, na * sizeof *a);
        }
        old = f.graph;
        f.graph = loaded;
        for (uint32_t i = N; i < N + 300; i++) { /* and it goes on living */
            test_rows_put(&f.rows, i, vectors + (size_t)i * DIM);
            assert_int_equal(dp_hnsw_insert(f.graph, i), ORT_OK);
        }
        check_invariants(f.graph, N + 270);
        dp_hnsw_free(old);
        unmake(&f);
    }
    temp_remove(path, dir);
}

static size_t
slurp(int dir, const char *name, unsigned char **out)
{
    struct stat st = {0};
    int fd = openat(dir, name, O_RDONLY);

    assert_true(fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0);
    *out = malloc((size_t)st.st_size + 1);
    assert_non_null(*out);
    assert_int_equal(read(fd, *out, (size_t)st.st_size), st.st_size);
    close(fd);
    return (size_t)st.st_size;
}

static ort_err
load_again(fixture *f, int dir)
{
    dp_hnsw_stamp read = {.owner = {7, 9}, .slot_end = 200};
    dp_hnsw_config config = {.metric = DP_METRIC_EUCLID};
    dp_hnsw *loaded = NULL;
    ort_err err;

    err = dp_hnsw_load(&loaded, &f->rows.view, &config, dir, "bad", &read, NULL);
    assert_true((err == ORT_OK) == (loaded != NULL));
    dp_hnsw_free(loaded);
    return err;
}

static ort_err
load_bytes(fixture *f, int dir, const unsigned char *bytes, size_t n)
{
    int fd = openat(dir, "bad", O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0 && bytes != NULL);
    assert_int_equal(write(fd, bytes, n), (ssize_t)n);
    close(fd);
    return load_again(f, dir);
}

/* A disk can change any bit and lose any tail. */
static void
every_damaged_file_is_refused(void **state)
{
    char path[64];
    int dir = temp_dir(path);
    unsigned char *bytes = NULL;
    size_t n;
    int fd;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 200);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    n = slurp(dir, "graph", &bytes);
    assert_int_equal(load_bytes(&f, dir, bytes, n), ORT_OK);
    for (size_t i = 0; i < n; i += i < 400 ? 1 : 97) {
        ort_err err;

        bytes[i] ^= (unsigned char)(1U << (i % 8));
        err = load_bytes(&f, dir, bytes, n);
        assert_true(err == ORT_ECORRUPT || err == ORT_EVERSION);
        bytes[i] ^= (unsigned char)(1U << (i % 8));
    }
    assert_int_equal(load_bytes(&f, dir, bytes, n), ORT_OK);
    fd = openat(dir, "bad", O_WRONLY);
    for (size_t i = n; i-- > 0;) {
        assert_int_equal(ftruncate(fd, (off_t)i), 0);
        assert_int_equal(load_again(&f, dir), ORT_ECORRUPT);
    }
    close(fd);
    free(bytes);
    unmake(&f);
    temp_remove(path, dir);
}

/* A file that is whole but another's must not be taken. */
static void
a_file_of_another_graph_is_refused(void **state)
{
    char path[64];
    int dir = temp_dir(path);
    dp_hnsw_stamp other = {.owner = {7, 10}};
    dp_hnsw_stamp same = {.owner = {7, 9}};
    dp_hnsw_stamp fewer = {.owner = {7, 9}, .slot_end = 100};
    dp_hnsw_config right = {.metric = DP_METRIC_EUCLID};
    dp_hnsw_config dot = {.metric = DP_METRIC_DOT};
    dp_hnsw_config wider = {.metric = DP_METRIC_EUCLID, .m = 20};
    dp_hnsw *loaded = NULL;
    ort_diag diag;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 200);
    assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &right, dir, "graph", &same, &diag),
                     ORT_ENOTFOUND);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &right, dir, "graph", &other, &diag),
                     ORT_ESTALE);
    assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &dot, dir, "graph", &same, &diag),
                     ORT_ESTALE);
    assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &wider, dir, "graph", &same, &diag),
                     ORT_ESTALE);
    assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &right, dir, "graph", &fewer, &diag),
                     ORT_ECORRUPT);
    assert_null(loaded);
    unmake(&f);
    temp_remove(path, dir);
}

/* Whether two graphs answer alike. */
static void
expect_equal_answers(dp_hnsw *one, dp_hnsw *other)
{
    for (size_t q = 0; q < QUERIES; q++) {
        dp_hit a[K];
        dp_hit b[K];
        size_t na = 0;
        size_t nb = 0;

        assert_int_equal(
            dp_hnsw_search(one, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, a, &na), ORT_OK);
        assert_int_equal(
            dp_hnsw_search(other, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, b, &nb),
            ORT_OK);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, na * sizeof *a);
    }
}

/* Where links are, in the file or in memory, changes no answer; nor does the way there: after a
 * save, after an open, with changes since. */
static void
links_on_disk_answer_as_in_memory(void **state)
{
    const dp_hnsw_config on_disk = {.metric = DP_METRIC_EUCLID, .links_on_disk = true};
    const dp_hnsw_config in_memory = {.metric = DP_METRIC_EUCLID};
    char path[64];
    int dir = temp_dir(path);
    dp_hnsw_stamp read = {.owner = {7, 9}};
    dp_hnsw *mapped = NULL;
    dp_hnsw *settled = NULL;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_load(&mapped, &f.rows.view, &on_disk, dir, "graph", &read, NULL),
                     ORT_OK);
    assert_int_equal(dp_hnsw_load(&settled, &f.rows.view, &in_memory, dir, "graph", &read, NULL),
                     ORT_OK);
    assert_int_equal(dp_hnsw_settle(mapped, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_settle(settled, NULL), ORT_OK);
    assert_true(dp_hnsw_bytes(mapped) + (size_t)N * 32 * 4 / 2 < dp_hnsw_bytes(settled));
    expect_equal_answers(mapped, f.graph);
    expect_equal_answers(settled, f.graph);
    f.rows.view.on_disk = true; /* rows are fetched ahead: no other answers by that either */
    expect_equal_answers(mapped, f.graph);
    for (uint32_t i = 0; i < 600; i++) {
        test_rows_put(&f.rows, N + i, vectors + (size_t)(N + i) * DIM);
        assert_int_equal(dp_hnsw_insert(mapped, N + i), ORT_OK);
        assert_int_equal(dp_hnsw_insert(settled, N + i), ORT_OK);
        if (i % 200 == 100) { /* the links go back to the file, and on */
            assert_int_equal(dp_hnsw_delete(mapped, i), ORT_OK);
            assert_int_equal(dp_hnsw_delete(settled, i), ORT_OK);
            assert_int_equal(dp_hnsw_save(mapped, dir, "graph", &stamp, NULL), ORT_OK);
            assert_int_equal(dp_hnsw_repair(settled), ORT_OK);
        }
        if (i % 100 == 99) {
            expect_equal_answers(mapped, settled);
        }
    }
    check_invariants(mapped, N + 597);
    dp_hnsw_free(mapped);
    dp_hnsw_free(settled);
    unmake(&f);
    temp_remove(path, dir);
}

/* A page that was found sound, was given back to the system, and comes back from a failing disk as
 * anything: walks go astray within bounds, and what they answer is measured by rows. */
static void
links_that_rot_in_use_are_harmless(void **state)
{
    const dp_hnsw_config on_disk = {.metric = DP_METRIC_EUCLID, .links_on_disk = true};
    char path[64];
    int dir = temp_dir(path);
    dp_hnsw_stamp read = {.owner = {7, 9}};
    dp_hnsw *mapped = NULL;
    unsigned char *noise = NULL;
    uint64_t seed = 5;
    uint64_t offset;
    uint64_t end;
    fixture f;
    int fd;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_load(&mapped, &f.rows.view, &on_disk, dir, "graph", &read, NULL),
                     ORT_OK);
    fd = openat(dir, "graph", O_RDWR);
    /* links and codes, from the table in the head: rows 3 and 4 of 24 bytes, offset at 8 */
    assert_int_equal(pread(fd, &offset, 8, 128 + 3 * 24 + 8), 8);
    assert_int_equal(pread(fd, &end, 8, 128 + 5 * 24 + 8), 8);
    noise = malloc(end - offset);
    assert_non_null(noise);
    for (size_t i = 0; i < end - offset; i++) {
        noise[i] = (unsigned char)test_random(&seed);
    }
    assert_int_equal(pwrite(fd, noise, end - offset, (off_t)offset), (ssize_t)(end - offset));
    for (size_t q = 0; q < QUERIES; q++) {
        dp_hit hits[K];
        size_t n = 0;

        assert_int_equal(
            dp_hnsw_search(mapped, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, hits, &n),
            ORT_OK);
        for (size_t i = 0; i < n; i++) {
            float d = 0;

            assert_true(hits[i].slot < N);
            for (uint32_t c = 0; c < DIM; c++) {
                float x = vectors[(size_t)hits[i].slot * DIM + c] - queries[q * DIM + c];

                d += x * x;
            }
            assert_true(d > hits[i].distance * 0.999F && d < hits[i].distance * 1.001F);
        }
    }
    for (uint32_t i = 0; i < 50; i++) {
        test_rows_put(&f.rows, N + i, vectors + (size_t)(N + i) * DIM);
        assert_int_equal(dp_hnsw_insert(mapped, N + i), ORT_OK);
        assert_int_equal(dp_hnsw_delete(mapped, i), ORT_OK);
    }
    assert_int_equal(dp_hnsw_repair(mapped), ORT_OK);
    close(fd);
    free(noise);
    dp_hnsw_free(mapped);
    unmake(&f);
    temp_remove(path, dir);
}

/* A file cut short, or a sector that cannot be read: not the end of the process, but the end of the
 * graph, which answers by an exact scan until it is made anew. */
static void
pages_that_cannot_be_read_cost_no_answer(void **state)
{
    const dp_hnsw_config on_disk = {.metric = DP_METRIC_EUCLID, .links_on_disk = true};
    char path[64];
    int dir = temp_dir(path);
    dp_hnsw_stamp read = {.owner = {7, 9}};
    dp_hnsw *mapped = NULL;
    double recall = 0;
    fixture f;
    int fd;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, N);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_load(&mapped, &f.rows.view, &on_disk, dir, "graph", &read, NULL),
                     ORT_OK);
    assert_false(dp_hnsw_is_bad(mapped));
    fd = openat(dir, "graph", O_RDWR);
    assert_int_equal(ftruncate(fd, 4096), 0);
    for (size_t q = 0; q < QUERIES; q++) {
        dp_hit hits[K];
        size_t n = 0;

        assert_int_equal(
            dp_hnsw_search(mapped, queries + q * DIM, (dp_hnsw_query){.k = K}, NULL, hits, &n),
            ORT_OK);
        recall +=
            test_recall(&f.rows.view, DP_METRIC_EUCLID, queries + q * DIM, NULL, N, hits, n, K);
    }
    assert_true(recall == QUERIES);
    assert_true(dp_hnsw_is_bad(mapped));
    assert_int_equal(dp_hnsw_settle(mapped, NULL), ORT_EIO);
    assert_int_equal(dp_hnsw_save(mapped, dir, "graph", &stamp, NULL), ORT_EIO);
    close(fd);
    dp_hnsw_free(mapped);
    unmake(&f);
    temp_remove(path, dir);
}

/* The rows of every kept file. */
static void
kept_rows(test_rows *rows)
{
    test_rows_init(rows, DP_ELEM_F32, 4, 256);
    for (size_t slot = 0; slot < 200; slot++) {
        float row[4];

        for (size_t c = 0; c < 4; c++) {
            row[c] = (float)((slot * 4 + c) * UINT64_C(2654435761) % 1000) / 100.0F;
        }
        test_rows_put(rows, (uint32_t)slot, row);
    }
}

/* `--write DIR`: graph-now, as this program writes what files_of_every_version_open() reads. */
static int
write_sample(const char *path)
{
    const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .m = 4};
    const dp_hnsw_stamp now = {.owner = {7, 9}, .lsn = 1234, .slot_end = 200};
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dp_hnsw *graph = NULL;
    test_rows rows;
    ort_err err = ORT_OK;

    kept_rows(&rows);
    err = dp_hnsw_new(&graph, &rows.view, &config, NULL);
    if (err == ORT_OK) {
        err = dp_hnsw_build(graph, 0, 200, NULL, 1, NULL, NULL);
    }
    for (uint32_t slot = 0; err == ORT_OK && slot < 70; slot += 7) {
        err = dp_hnsw_delete(graph, slot);
    }
    if (err == ORT_OK) {
        err = dp_hnsw_save(graph, dir, "graph-now", &now, NULL);
    }
    dp_hnsw_free(graph);
    test_rows_fini(&rows);
    close(dir);
    return err != ORT_OK;
}

/* tests/formats/hnsw-V.graph: 200 slots of 4 components, every seventh of the first 70 deleted.
 * Files that are out there must open for ever. */
static void
files_of_every_version_open(void **state)
{
    const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .m = 4};
    int dir = open("tests/formats", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    test_rows rows;

    (void)state;
    assert_true(dir >= 0);
    kept_rows(&rows);
    for (int version = 1; version <= 2; version++) {
        dp_hnsw_stamp read = {.owner = {7, 9}, .slot_end = 200};
        dp_hnsw *graph = NULL;
        char name[32];

        (void)snprintf(name, sizeof name, "hnsw-%d.graph", version);
        assert_int_equal(dp_hnsw_load(&graph, &rows.view, &config, dir, name, &read, NULL), ORT_OK);
        assert_int_equal(read.lsn, 1234);
        assert_int_equal(dp_hnsw_count(graph), 190);
        check_invariants(graph, 190);
        for (uint32_t q = 1; q < 7; q++) {
            dp_hit hits[K];
            size_t n = 0;

            assert_int_equal(
                dp_hnsw_search(graph, (const float *)(const void *)dp_rows_peek(&rows.view, q),
                               (dp_hnsw_query){.k = K}, NULL, hits, &n),
                ORT_OK);
            assert_int_equal(n, K);
            assert_int_equal(hits[0].slot, q);
        }
        dp_hnsw_free(graph);
    }
    test_rows_fini(&rows);
    close(dir);
}

/* An older program must say so, not call the file damaged. */
static void
a_newer_version_is_told_from_damage(void **state)
{
    char path[64];
    int dir = temp_dir(path);
    unsigned char *bytes = NULL;
    uint32_t crc;
    size_t n;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 200);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    n = slurp(dir, "graph", &bytes);
    bytes[8] = 3;
    crc = ort_crc32c(0, bytes, 124);
    memcpy(bytes + 124, &crc, sizeof crc);
    assert_int_equal(load_bytes(&f, dir, bytes, n), ORT_EVERSION);
    free(bytes);
    unmake(&f);
    temp_remove(path, dir);
}

/* Whatever the moment, `graph` is the file before or the file after. */
static void
a_killed_save_leaves_a_whole_file(void **state)
{
    char path[64];
    int dir = temp_dir(path);
    uint64_t seed = 11;
    uint64_t last = 0;
    fixture f;

    (void)state;
    make(&f, DP_METRIC_EUCLID, DP_CODE_AUTO, 500);
    assert_int_equal(dp_hnsw_save(f.graph, dir, "graph", &stamp, NULL), ORT_OK);
    for (int round = 0; round < 25; round++) {
        const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID};
        const struct timespec wait = {.tv_nsec = (long)(test_random(&seed) % 6000000)};
        dp_hnsw_stamp read = {.owner = {7, 9}};
        dp_hnsw *loaded = NULL;
        const pid_t child = fork();
        int status;

        assert_true(child >= 0);
        if (child == 0) {
            for (dp_hnsw_stamp s = {.owner = {7, 9}, .lsn = 10000};; s.lsn++) {
                if (dp_hnsw_save(f.graph, dir, "graph", &s, NULL) != ORT_OK) {
                    _exit(1);
                }
            }
        }
        nanosleep(&wait, NULL);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(dp_hnsw_load(&loaded, &f.rows.view, &config, dir, "graph", &read, NULL),
                         ORT_OK);
        assert_int_equal(dp_hnsw_count(loaded), 500);
        assert_true(read.lsn == 1234 || read.lsn >= 10000);
        last = read.lsn;
        dp_hnsw_free(loaded);
    }
    print_message("the last file found was %llu\n", (unsigned long long)last);
    (void)unlinkat(dir, "graph.new", 0);
    unmake(&f);
    temp_remove(path, dir);
}

static int
setup(void **state)
{
    (void)state;
    vectors = test_clusters(1, 2 * N + QUERIES, DIM, 60, 0.5F);
    queries = vectors + (size_t)2 * N * DIM;
    return vectors == NULL;
}

static int
teardown(void **state)
{
    (void)state;
    free(vectors);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_graph_answers_as_before),
        cmocka_unit_test(every_damaged_file_is_refused),
        cmocka_unit_test(a_file_of_another_graph_is_refused),
        cmocka_unit_test(links_on_disk_answer_as_in_memory),
        cmocka_unit_test(links_that_rot_in_use_are_harmless),
        cmocka_unit_test(pages_that_cannot_be_read_cost_no_answer),
        cmocka_unit_test(files_of_every_version_open),
        cmocka_unit_test(a_newer_version_is_told_from_damage),
        cmocka_unit_test(a_killed_save_leaves_a_whole_file),
    };

    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_sample(argv[2]);
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
