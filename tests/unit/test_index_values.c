/* Links among the points of one value: a search for a value finds what an exact scan of its points
 * finds, whatever was inserted, deleted, moved or saved before; and a file that says otherwise than
 * was written is refused. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "index/hnsw_values.h"
#include "unit/index_support.h"

#define DIM 32u
#ifdef __SANITIZE_THREAD__ /* it is slow */
#define N 1800u
#define LARGE 2u
#else
#define N 4500u
#define LARGE 4u /* values of N / (LARGE + 1) points each */
#endif
#define SMALL 20u /* values that share the rest */
#define K 10u
#define QUERIES 40u
#define FIELD UINT64_C(77)
#define STRESS_MS 1500u

static float *vectors; /* N, then QUERIES */

/* The large ones lie all over the slots, as tenants do. */
static uint64_t
value_of(uint32_t slot)
{
    return slot % (LARGE + 1) < LARGE ? slot % (LARGE + 1) + 1 : 100 + slot / (LARGE + 1) % SMALL;
}

typedef struct {
    test_rows rows;
    dp_hnsw *graph;
    uint64_t of[2 * N]; /* the value of each slot; 0: it is not there */
    uint32_t slots;
} fixture;

static void
add(fixture *f, uint32_t slot, uint64_t value)
{
    assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, slot, &value, 1), ORT_OK);
    f->of[slot] = value;
}

static fixture *
make(bool unlinked, dp_code code)
{
    const dp_hnsw_config config = {
        .metric = DP_METRIC_EUCLID, .m = 16, .code = code, .unlinked = unlinked};
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    test_rows_init(&f->rows, DP_ELEM_F32, DIM, 2 * N);
    for (uint32_t i = 0; i < N; i++) {
        test_rows_put(&f->rows, i, vectors + (size_t)i * DIM);
    }
    f->slots = N;
    assert_int_equal(dp_hnsw_new(&f->graph, &f->rows.view, &config, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_build(f->graph, 0, N, NULL, 1, NULL, NULL), ORT_OK);
    assert_int_equal(dp_hnsw_field_add(f->graph, FIELD, 16, NULL), ORT_OK);
    for (uint32_t i = 0; i < N; i++) {
        add(f, i, value_of(i));
        if (i % 900 == 899) {
            assert_int_equal(dp_hnsw_field_advance(f->graph, FIELD, i + 1), ORT_OK);
        }
    }
    return f;
}

static void
unmake(fixture *f)
{
    dp_hnsw_free(f->graph);
    test_rows_fini(&f->rows);
    free(f);
}

static void
take_out(fixture *f, uint32_t slot)
{
    assert_int_equal(dp_hnsw_delete(f->graph, slot), ORT_OK);
    f->of[slot] = 0;
}

static bool
has_value(void *arg, uint32_t slot)
{
    const fixture *f = ((const void **)arg)[0];
    return slot < f->slots && f->of[slot] == *(const uint64_t *)((const void **)arg)[1];
}

/* Mean recall of the value's points; every hit is one of them. */
static double
recall(const fixture *f, dp_hnsw *graph, uint64_t value, dp_hnsw_among among)
{
    const void *arg[2] = {f, &value};
    const dp_slot_filter only = {.match = has_value, .arg = arg};
    double sum = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = vectors + (size_t)(N + q) * DIM;
        dp_hit hits[K];
        size_t n = 0;
        assert_int_equal(dp_hnsw_search(graph, query,
                                        (dp_hnsw_query){.k = K, .ef = 64, .among = &among}, NULL,
                                        hits, &n),
                         ORT_OK);
        assert_int_equal(n, K);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(f->of[hits[i].slot], value);
            assert_true(i == 0 || !dp_hit_nearer(hits[i], hits[i - 1]));
        }
        sum += test_recall(&f->rows.view, DP_METRIC_EUCLID, query, &only, f->slots, hits, n, K);
    }
    return sum / QUERIES;
}

static void
check(fixture *f, uint32_t linked)
{
    dp_hnsw_field_report report;
    assert_int_equal(dp_hnsw_field_check(f->graph, FIELD, &report), ORT_OK);
    assert_int_equal(report.bad_links, 0);
    assert_int_equal(report.unreachable, 0);
    assert_int_equal(report.linked, linked);
    for (uint64_t v = 1; v <= LARGE; v++) {
        const dp_hnsw_among among = {.field = FIELD, .value = v};
        assert_true(recall(f, f->graph, v, among) >= 0.97);
    }
}

static int
temp_dir(char *path)
{
    memcpy(path, "/tmp/ort-values-XXXXXX", sizeof "/tmp/ort-values-XXXXXX");
    assert_non_null(mkdtemp(path));
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void
temp_remove(const char *path, int dir)
{
    (void)unlinkat(dir, "graph", 0);
    (void)unlinkat(dir, "bad", 0);
    close(dir);
    rmdir(path);
}

static ort_err
load(fixture *f, int dir, const char *name, bool unlinked, dp_hnsw **out)
{
    const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .m = 16, .unlinked = unlinked};
    dp_hnsw_stamp stamp = {.owner = {1, 2}};
    return dp_hnsw_load(out, &f->rows.view, &config, dir, name, &stamp, NULL);
}

static void
a_value_is_searched_by_its_own_links(void **state)
{
    (void)state;
    for (int unlinked = 0; unlinked < 2; unlinked++) {
        for (int code = DP_CODE_AUTO; code <= DP_CODE_NONE; code++) {
            fixture *f = make(unlinked != 0, (dp_code)code);
            check(f, LARGE);
            unmake(f);
        }
    }
}

/* Of a value with few points, and of one that nobody has, somebody else must know. */
static void
a_value_without_links_says_so(void **state)
{
    static const uint64_t values[] = {100, 4711};
    fixture *f = make(false, DP_CODE_AUTO);
    dp_hit hits[K];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const dp_hnsw_among among = {.field = FIELD, .value = values[i]};
        assert_int_equal(dp_hnsw_search(f->graph, vectors, (dp_hnsw_query){.k = K, .among = &among},
                                        NULL, hits, &n),
                         ORT_ENOTFOUND);
    }
    unmake(f);
}

static void
named_slots_are_compared_by_their_codes(void **state)
{
    fixture *f = make(true, DP_CODE_AUTO);
    uint32_t slots[N];
    (void)state;
    take_out(f, LARGE); /* of value 100 */
    for (uint64_t v = 100; v < 100 + SMALL; v++) {
        size_t n = 0;
        for (uint32_t slot = 0; slot < N; slot++) {
            if (value_of(slot) == v) {
                slots[n++] = slot;
            }
        }
        assert_true(recall(f, f->graph, v, (dp_hnsw_among){.slots = slots, .slot_count = n}) >=
                    0.99);
    }
    unmake(f);
}

/* What else a filter asks is asked of what the walk found; where little passes it gives up. */
static bool
is_even(void *arg, uint32_t slot)
{
    (void)arg;
    return slot / (LARGE + 1) % 2 == 0;
}

static void
a_filter_within_a_value(void **state)
{
    fixture *f = make(true, DP_CODE_AUTO);
    const dp_slot_filter filter = {.match = is_even, .selectivity = 0.05F};
    dp_hnsw_among among = {.field = FIELD, .value = 3, .share = 0.5F};
    double sum = 0;
    (void)state;
    for (uint32_t slot = 0; slot < N; slot++) { /* so that recall is of the others */
        f->of[slot] = is_even(NULL, slot) ? f->of[slot] : 0;
    }
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float *query = vectors + (size_t)(N + q) * DIM;
        const uint64_t value = 3;
        const void *arg[2] = {f, &value};
        const dp_slot_filter only = {.match = has_value, .arg = arg};
        dp_hit hits[K];
        size_t n = 0;
        assert_int_equal(dp_hnsw_search(f->graph, query,
                                        (dp_hnsw_query){.k = K, .ef = 64, .among = &among}, &filter,
                                        hits, &n),
                         ORT_OK);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(f->of[hits[i].slot], 3);
        }
        sum += test_recall(&f->rows.view, DP_METRIC_EUCLID, query, &only, N, hits, n, K);
    }
    assert_true(sum / QUERIES >= 0.97);
    among.share = 0.01F;
    dp_hit hits[K];
    size_t n;
    assert_int_equal(dp_hnsw_search(f->graph, vectors, (dp_hnsw_query){.k = K, .among = &among},
                                    &filter, hits, &n),
                     ORT_ENOTFOUND);
    unmake(f);
}

/* A point that takes another value is another slot: the old one is deleted. */
static void
points_move_between_values(void **state)
{
    fixture *f = make(false, DP_CODE_AUTO);
    uint64_t seed = 5;
    (void)state;
    for (uint32_t round = 0; round < 4; round++) {
        for (uint32_t i = 0; i < 400; i++) {
            const uint32_t from = (uint32_t)(test_random(&seed) % f->slots);
            if (f->of[from] == 0 || f->slots == 2 * N) {
                continue;
            }
            const uint32_t slot = f->slots++;
            test_rows_put(&f->rows, slot, vectors + (size_t)(from % N) * DIM);
            take_out(f, from);
            assert_int_equal(dp_hnsw_insert(f->graph, slot), ORT_OK);
            add(f, slot, 1 + test_random(&seed) % LARGE);
        }
        assert_int_equal(dp_hnsw_field_advance(f->graph, FIELD, f->slots), ORT_OK);
        for (uint64_t v = 1; v <= LARGE; v++) {
            const dp_hnsw_among among = {.field = FIELD, .value = v};
            assert_true(recall(f, f->graph, v, among) >= 0.95);
        }
        assert_int_equal(dp_hnsw_repair(f->graph), ORT_OK);
        check(f, LARGE);
    }
    unmake(f);
}

/* All points of a value go, and others come: its place is given to another value. */
static void
a_value_can_go_and_another_come(void **state)
{
    fixture *f = make(true, DP_CODE_AUTO);
    dp_hnsw_field_report report;
    (void)state;
    for (uint32_t slot = 0; slot < N; slot++) {
        if (value_of(slot) <= 2) {
            take_out(f, slot);
        }
    }
    assert_int_equal(dp_hnsw_repair(f->graph), ORT_OK);
    assert_int_equal(dp_hnsw_field_check(f->graph, FIELD, &report), ORT_OK);
    assert_int_equal(report.linked, LARGE - 2);
    assert_int_equal(report.values, LARGE - 2 + SMALL);
    for (uint32_t i = 0; i < 2000; i++) {
        const uint32_t slot = f->slots++;
        test_rows_put(&f->rows, slot, vectors + (size_t)i * DIM);
        assert_int_equal(dp_hnsw_insert(f->graph, slot), ORT_OK);
        add(f, slot, i % 2 == 0 ? 1 : 5000);
    }
    assert_int_equal(dp_hnsw_field_advance(f->graph, FIELD, f->slots), ORT_OK);
    assert_int_equal(dp_hnsw_field_check(f->graph, FIELD, &report), ORT_OK);
    assert_int_equal(report.linked, LARGE);
    assert_int_equal(report.bad_links, 0);
    assert_int_equal(report.unreachable, 0);
    assert_true(recall(f, f->graph, 5000, (dp_hnsw_among){.field = FIELD, .value = 5000}) >= 0.97);
    assert_true(recall(f, f->graph, 1, (dp_hnsw_among){.field = FIELD, .value = 1}) >= 0.97);
    unmake(f);
}

/* They are in no list, so no walk finds them: what is noted is compared besides, also after a
 * restart and until it dies; where that would be too many, there is no walk. */
static void
points_of_several_values(void **state)
{
    static const uint64_t both[] = {1, 2};
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    char path[64];
    const int dir = temp_dir(path);
    fixture *f = make(false, DP_CODE_AUTO);
    dp_hit hits[K];
    size_t n;
    (void)state;
    const uint32_t first = f->slots;
    for (uint32_t i = 0; i < DP_HNSW_VALUE_NOTED_MAX; i++) {
        test_rows_put(&f->rows, f->slots, vectors + (size_t)i * DIM);
        assert_int_equal(dp_hnsw_insert(f->graph, f->slots), ORT_OK);
        for (int twice = 0; twice < 2; twice++) {
            assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, f->slots, both, 2), ORT_OK);
        }
        f->slots++;
    }
    for (int pass = 0; pass < 2; pass++) {
        dp_hnsw_field_report report;
        assert_int_equal(dp_hnsw_field_check(f->graph, FIELD, &report), ORT_OK);
        assert_int_equal(report.noted, 2 * DP_HNSW_VALUE_NOTED_MAX);
        assert_int_equal(report.mixed, 0);
        for (uint32_t i = 0; i < 3 * LARGE; i++) {
            const uint64_t v = 1 + i % LARGE;
            const dp_hnsw_among among = {.field = FIELD, .value = v};
            const uint32_t equal = i * 7 / 5 * 5; /* as far away as a noted one, of value 1 */
            assert_int_equal(dp_hnsw_search(f->graph, vectors + (size_t)equal * DIM,
                                            (dp_hnsw_query){.k = K, .among = &among}, NULL, hits,
                                            &n),
                             ORT_OK);
            bool found = false;
            for (size_t j = 0; j < n; j++) {
                found = found || hits[j].slot == first + equal;
            }
            assert_int_equal(found, v <= 2);
        }
        dp_hnsw *loaded;
        assert_int_equal(dp_hnsw_save(f->graph, dir, "graph", &stamp, NULL), ORT_OK);
        assert_int_equal(load(f, dir, "graph", false, &loaded), ORT_OK);
        dp_hnsw_free(f->graph);
        f->graph = loaded;
    }
    const uint32_t slot = f->slots++;
    test_rows_put(&f->rows, slot, vectors);
    assert_int_equal(dp_hnsw_insert(f->graph, slot), ORT_OK);
    assert_int_equal(dp_hnsw_delete(f->graph, first), ORT_OK);
    assert_int_equal(dp_hnsw_repair(f->graph), ORT_OK);
    assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, slot, both, 2), ORT_OK); /* its place */
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t v = 1; v <= 3; v++) {
            const dp_hnsw_among among = {.field = FIELD, .value = v};
            assert_int_equal(dp_hnsw_search(f->graph, vectors,
                                            (dp_hnsw_query){.k = K, .among = &among}, NULL, hits,
                                            &n),
                             v < 3 && pass > 0 ? ORT_ENOTFOUND : ORT_OK);
        }
        test_rows_put(&f->rows, f->slots, vectors);
        assert_int_equal(dp_hnsw_insert(f->graph, f->slots), ORT_OK);
        assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, f->slots++, both, 2), ORT_OK);
    }
    unmake(f);
    temp_remove(path, dir);
}

static void
fields_come_and_go(void **state)
{
    fixture *f = make(false, DP_CODE_AUTO);
    uint32_t m;
    (void)state;
    assert_int_equal(dp_hnsw_field_at(f->graph, 0, &m), FIELD);
    assert_int_equal(m, 16);
    assert_int_equal(dp_hnsw_field_end(f->graph, FIELD), N);
    assert_int_equal(dp_hnsw_field_add(f->graph, 0, 16, NULL), ORT_EINVAL);
    assert_int_equal(dp_hnsw_field_add(f->graph, 1, 1, NULL), ORT_EINVAL);
    for (uint64_t i = 1; i < DP_HNSW_FIELDS_MAX; i++) {
        assert_int_equal(dp_hnsw_field_add(f->graph, i, 8, NULL), ORT_OK);
    }
    assert_int_equal(dp_hnsw_field_add(f->graph, 1000, 8, NULL), ORT_EINVAL);
    const uint64_t value = 1;
    assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, 0, &value, 1), ORT_EEXISTS);
    assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, N, &value, 1), ORT_ENOTFOUND);
    dp_hnsw_field_drop(f->graph, FIELD);
    assert_int_equal(dp_hnsw_value_add(f->graph, FIELD, 0, &value, 1), ORT_ENOTFOUND);
    assert_int_equal(dp_hnsw_field_end(f->graph, FIELD), 0);
    assert_int_equal(dp_hnsw_field_add(f->graph, 1000, 8, NULL), ORT_OK);
    unmake(f);
}

/* --- the file -----------------------------------------------------------------------------------
 */

static void
links_are_found_again(void **state)
{
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    char path[64];
    const int dir = temp_dir(path);
    (void)state;
    for (int unlinked = 0; unlinked < 2; unlinked++) {
        fixture *f = make(unlinked != 0, DP_CODE_AUTO);
        dp_hnsw *loaded;
        for (uint32_t i = 0; i < N; i += 13) {
            take_out(f, i);
        }
        assert_int_equal(dp_hnsw_save(f->graph, dir, "graph", &stamp, NULL), ORT_OK);
        assert_int_equal(load(f, dir, "graph", unlinked == 0, &loaded), ORT_ESTALE);
        assert_int_equal(load(f, dir, "graph", unlinked != 0, &loaded), ORT_OK);
        assert_int_equal(dp_hnsw_field_end(loaded, FIELD), N);
        dp_hnsw_free(f->graph);
        f->graph = loaded;
        check(f, LARGE);
        /* And go on as if nothing had been. */
        for (uint32_t i = 0; i < 1100; i++) {
            const uint32_t slot = f->slots++;
            test_rows_put(&f->rows, slot, vectors + (size_t)i * DIM);
            assert_int_equal(dp_hnsw_insert(f->graph, slot), ORT_OK);
            add(f, slot, i % 2 == 0 ? 1 : 117);
        }
        assert_int_equal(dp_hnsw_field_advance(f->graph, FIELD, f->slots), ORT_OK);
        check(f, LARGE + 1); /* one was small */
        unmake(f);
    }
    temp_remove(path, dir);
}

typedef struct {
    unsigned char *bytes;
    size_t len;
    uint32_t sections;
} file;

static file
read_file(int dir)
{
    file f = {0};
    const int fd = openat(dir, "graph", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    f.len = (size_t)lseek(fd, 0, SEEK_END);
    f.bytes = malloc(f.len);
    assert_non_null(f.bytes);
    assert_int_equal(pread(fd, f.bytes, f.len, 0), f.len);
    close(fd);
    memcpy(&f.sections, f.bytes + 88, 4);
    return f;
}

static void
write_file(int dir, const unsigned char *bytes, size_t len)
{
    const int fd = openat(dir, "bad", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

static size_t
place_of(const file *f, const char *name, size_t *bytes)
{
    for (uint32_t i = 0; i < f->sections; i++) {
        const unsigned char *row = f->bytes + 128 + (size_t)i * 24;
        if (strncmp((const char *)row, name, 8) == 0) {
            size_t at;
            memcpy(&at, row + 8, 8);
            memcpy(bytes, row + 16, 8);
            return at;
        }
    }
    fail_msg("no section %s", name);
    return 0;
}

/* The checksums of what stands there now. */
static void
fit_checksums(unsigned char *bytes, uint32_t sections)
{
    size_t sums, sums_bytes, n = 0;
    uint32_t crc;
    memcpy(&sums, bytes + 128 + (size_t)(sections - 1) * 24 + 8, 8);
    memcpy(&sums_bytes, bytes + 128 + (size_t)(sections - 1) * 24 + 16, 8);
    for (uint32_t i = 0; i + 1 < sections; i++) {
        size_t begin, end;
        memcpy(&begin, bytes + 128 + (size_t)i * 24 + 8, 8);
        memcpy(&end, bytes + 128 + (size_t)(i + 1) * 24 + 8, 8);
        for (; begin < end; begin += 1u << 20) {
            crc = ort_crc32c(0, bytes + begin, end - begin < 1u << 20 ? end - begin : 1u << 20);
            memcpy(bytes + sums + 4 * n++, &crc, 4);
        }
    }
    crc = ort_crc32c(0, bytes + sums, (sums_bytes + 4095) / 4096 * 4096);
    memcpy(bytes + 96, &crc, 4);
    crc = ort_crc32c(0, bytes + 128, 4096 - 128);
    memcpy(bytes + 92, &crc, 4);
    crc = ort_crc32c(0, bytes, 124);
    memcpy(bytes + 124, &crc, 4);
}

/* Bytes that a checksum vouches for, and are wrong all the same. */
static void
what_does_not_fit_is_refused(void **state)
{
    static const struct {
        const char *section;
        size_t at;
        uint32_t value;
    } wrong[] = {
        {"values", 0, 0},           /* no fields */
        {"values", 0, 2},           /* one more than there are sections */
        {"values", 0, 9},           /* more than there may be */
        {"values", 4, 1},           /* a reserved word */
        {"values", 8, 0},           /* a field of number 0 */
        {"values", 16, 1},          /* m */
        {"values", 16, 8},          /* an m that the lists do not have */
        {"values", 16, 0x80000010}, /* whose lists would be longer than memory */
        {"values", 20, UINT32_MAX}, /* told of slots that there cannot be */
        {"values", 24, 10},         /* fewer slots than the sections have */
        {"values", 24, UINT32_MAX}, /* more slots than the graph has */
        {"values", 28, 1},          /* bytes behind the last value */
        {"values", 28, UINT32_MAX}, /* values that are not there */
        {"values", 32, 101},        /* a value twice */
        {"values", 40, 4},          /* a state that there is not */
        {"values", 40, 3},          /* a place without a value, which slots have */
        {"values", 44, 7},          /* a reserved word */
        {"groups0", 0, 4711},       /* a value that there is not */
        {"groups0", 0, 2},          /* the value of others: its links lead out of it */
        {"groups0", 0, 0},          /* none, and links */
        {"lists0", 0, 1},           /* a link to itself */
        {"lists0", 0, 3},           /* to a point of another value */
        {"lists0", 0, N + 1},       /* to a slot that is not there */
        {"lists0", 0, 0},           /* links behind the end */
    };
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    char path[64];
    const int dir = temp_dir(path);
    fixture *f = make(true, DP_CODE_AUTO);
    (void)state;
    assert_int_equal(dp_hnsw_save(f->graph, dir, "graph", &stamp, NULL), ORT_OK);
    file sound = read_file(dir);
    unsigned char *bytes = malloc(sound.len);
    assert_non_null(bytes);
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        dp_hnsw *loaded = NULL;
        memcpy(bytes, sound.bytes, sound.len);
        if (i < sizeof wrong / sizeof *wrong) {
            size_t room;
            const size_t at = place_of(&sound, wrong[i].section, &room);
            assert_true(wrong[i].at + 4 <= room);
            memcpy(bytes + at + wrong[i].at, &wrong[i].value, 4);
        }
        fit_checksums(bytes, sound.sections);
        write_file(dir, bytes, sound.len);
        const ort_err err = load(f, dir, "bad", true, &loaded);
        if (err != (i < sizeof wrong / sizeof *wrong ? ORT_ECORRUPT : ORT_OK)) {
            fail_msg("case %zu: %s", i, ort_err_code(err));
        }
        dp_hnsw_free(loaded);
    }
    free(bytes);
    free(sound.bytes);
    unmake(f);
    temp_remove(path, dir);
}

static void
every_flipped_bit_is_seen(void **state)
{
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    char path[64];
    const int dir = temp_dir(path);
    fixture *f = make(false, DP_CODE_AUTO);
    uint64_t seed = 9;
    (void)state;
    assert_int_equal(dp_hnsw_save(f->graph, dir, "graph", &stamp, NULL), ORT_OK);
    file sound = read_file(dir);
    for (int i = 0; i < 60; i++) {
        static const char *const sections[] = {"values", "groups0", "lists0"};
        dp_hnsw *loaded = NULL;
        size_t room = 1;
        const size_t at = place_of(&sound, sections[i % 3], &room) + test_random(&seed) % room;
        const unsigned char bit = (unsigned char)(1u << test_random(&seed) % 8);
        sound.bytes[at] ^= bit;
        write_file(dir, sound.bytes, sound.len);
        sound.bytes[at] ^= bit;
        assert_int_equal(load(f, dir, "bad", false, &loaded), ORT_ECORRUPT);
        assert_null(loaded);
    }
    free(sound.bytes);
    unmake(f);
    temp_remove(path, dir);
}

/* tests/formats/hnsw-2-values.graph: 600 slots of 4 components without links among all; every
 * eighth, slots 7, 15, .., has value 2, the others value 1. What is out there must open for ever.
 */
static void
a_kept_file_opens(void **state)
{
    const dp_hnsw_config config = {.metric = DP_METRIC_EUCLID, .unlinked = true};
    const dp_hnsw_among among = {.field = FIELD, .value = 1};
    dp_hnsw_stamp read = {.owner = {7, 9}, .slot_end = 600};
    const int dir = open("tests/formats", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dp_hnsw_field_report report;
    dp_hnsw *graph = NULL;
    test_rows rows;
    (void)state;
    assert_true(dir >= 0);
    test_rows_init(&rows, DP_ELEM_F32, 4, 600);
    for (size_t slot = 0; slot < 600; slot++) {
        float row[4];
        for (size_t c = 0; c < 4; c++) {
            row[c] = (float)((slot * 4 + c) * UINT64_C(2654435761) % 1000) / 100.0F;
        }
        test_rows_put(&rows, (uint32_t)slot, row);
    }
    assert_int_equal(
        dp_hnsw_load(&graph, &rows.view, &config, dir, "hnsw-2-values.graph", &read, NULL), ORT_OK);
    assert_int_equal(read.lsn, 1234);
    assert_int_equal(dp_hnsw_field_end(graph, FIELD), 600);
    assert_int_equal(dp_hnsw_field_check(graph, FIELD, &report), ORT_OK);
    assert_int_equal(report.values, 2);
    assert_int_equal(report.linked, 1);
    assert_int_equal(report.points, 600);
    assert_int_equal(report.unreachable, 0);
    for (uint32_t q = 0; q < 7; q++) {
        dp_hit hits[K];
        size_t n = 0;
        assert_int_equal(dp_hnsw_search(graph,
                                        (const float *)(const void *)dp_rows_peek(&rows.view, q),
                                        (dp_hnsw_query){.k = K, .among = &among}, NULL, hits, &n),
                         ORT_OK);
        assert_int_equal(n, K);
        assert_int_equal(hits[0].slot, q);
    }
    dp_hnsw_free(graph);
    test_rows_fini(&rows);
    close(dir);
}

/* --- at the same time ---------------------------------------------------------------------------
 */

typedef struct {
    fixture *f;
    _Atomic(bool) stop;
    _Atomic(uint32_t) failures, searches;
} arena;

static void *
search_all_the_time(void *arg)
{
    arena *a = arg;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;
    while (!atomic_load(&a->stop)) {
        const dp_hnsw_among among = {.field = FIELD, .value = 1 + test_random(&seed) % LARGE};
        const float *query = vectors + (test_random(&seed) % N) * DIM;
        dp_hit hits[K];
        size_t n = 0;
        const ort_err err = dp_hnsw_search(
            a->f->graph, query, (dp_hnsw_query){.k = K, .ef = 32, .among = &among}, NULL, hits, &n);
        atomic_fetch_add(&a->failures, err != ORT_OK);
        for (size_t i = 0; err == ORT_OK && i < n; i++) {
            /* A slot of this test comes back with the value that it had. */
            atomic_fetch_add(&a->failures, value_of(hits[i].slot % N) != among.value);
        }
        atomic_fetch_add(&a->searches, 1);
    }
    return NULL;
}

static void
searches_beside_changes(void **state)
{
    const dp_hnsw_stamp stamp = {.owner = {1, 2}};
    char path[64];
    const int dir = temp_dir(path);
    arena a = {.f = make(false, DP_CODE_AUTO)};
    pthread_t threads[2];
    uint64_t seed = 3;
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, search_all_the_time, &a), 0);
    }
    const uint64_t until = ort_mono_ns() + STRESS_MS * UINT64_C(1000000);
    while (ort_mono_ns() < until || atomic_load(&a.searches) == 0) {
        for (uint32_t i = 0; i < 50; i++) {
            const uint32_t slot = (uint32_t)(test_random(&seed) % N);
            const uint64_t value = value_of(slot);
            assert_int_equal(dp_hnsw_delete(a.f->graph, slot), ORT_OK);
            if (i % 10 == 0) {
                assert_int_equal(dp_hnsw_repair(a.f->graph), ORT_OK);
            }
            assert_int_equal(dp_hnsw_insert(a.f->graph, slot), ORT_OK);
            assert_int_equal(dp_hnsw_value_add(a.f->graph, FIELD, slot, &value, 1), ORT_OK);
        }
        assert_int_equal(dp_hnsw_field_advance(a.f->graph, FIELD, N), ORT_OK);
        assert_int_equal(dp_hnsw_save(a.f->graph, dir, "graph", &stamp, NULL), ORT_OK);
    }
    atomic_store(&a.stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&a.failures), 0);
    assert_true(atomic_load(&a.searches) > 0);
    check(a.f, LARGE);
    unmake(a.f);
    temp_remove(path, dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_searched_by_its_own_links),
        cmocka_unit_test(a_value_without_links_says_so),
        cmocka_unit_test(named_slots_are_compared_by_their_codes),
        cmocka_unit_test(a_filter_within_a_value),
        cmocka_unit_test(points_move_between_values),
        cmocka_unit_test(a_value_can_go_and_another_come),
        cmocka_unit_test(points_of_several_values),
        cmocka_unit_test(fields_come_and_go),
        cmocka_unit_test(links_are_found_again),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(a_kept_file_opens),
        cmocka_unit_test(searches_beside_changes),
    };
    vectors = test_clusters(1, N + QUERIES, DIM, 60, 0.4F);
#ifdef __SANITIZE_THREAD__ /* the others have one thread */
    cmocka_set_test_filter("searches_beside_*");
#endif
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(vectors);
    return failed;
}
