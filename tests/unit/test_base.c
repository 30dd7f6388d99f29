/* The ground both planes stand on: buffers, maps, clocks, files, checksums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/id.h"
#include "base/map.h"
#include "base/siphash.h"
#include "base/thread.h"

/* RFC 3720 B.4 gives these sums; the hardware and the table path must agree with it. */
static void
crc32c_matches_the_rfc(void **state)
{
    (void)state;
    unsigned char zeros[32] = {0}, ones[32];
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(ort_crc32c(0, zeros, 32), 0x8a9136aau);
    assert_int_equal(ort_crc32c(0, ones, 32), 0x62a8ab43u);
    assert_int_equal(ort_crc32c(ort_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
}

/* The vector of the SipHash paper, appendix A. */
static void
siphash_matches_the_paper(void **state)
{
    (void)state;
    unsigned char in[15];
    for (int i = 0; i < 15; i++) {
        in[i] = (unsigned char)i;
    }
    assert_true(ort_siphash(0x0706050403020100u, 0x0f0e0d0c0b0a0908u, in, 15) ==
                0xa129ca6149be45e5u);
}

/* Deletion shifts entries back; a mistake there loses keys that probed past the gap. */
static void
map_agrees_with_a_plain_array(void **state)
{
    (void)state;
    enum { KEYS = 512, STEPS = 20000 };
    static int present[KEYS];
    ort_map *map;
    assert_int_equal(ort_map_new(&map), ORT_OK);
    uint64_t seed = 7;
    size_t count = 0;
    for (int i = 0; i < STEPS; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        const unsigned k = (unsigned)(seed >> 33) % KEYS;
        if (seed >> 63) {
            assert_int_equal(ort_map_set(map, &k, sizeof k, &present[k], NULL), ORT_OK);
            count += present[k] == 0;
            present[k] = 1;
        } else {
            assert_ptr_equal(ort_map_take(map, &k, sizeof k), present[k] ? &present[k] : NULL);
            count -= present[k] == 1;
            present[k] = 0;
        }
        assert_int_equal(ort_map_count(map), count);
    }
    for (unsigned k = 0; k < KEYS; k++) {
        assert_ptr_equal(ort_map_get(map, &k, sizeof k), present[k] ? &present[k] : NULL);
    }
    size_t at = 0, walked = 0;
    for (void *v; ort_map_next(map, &at, NULL, NULL, &v);) {
        walked++;
    }
    assert_int_equal(walked, count);
    ort_map_free(map, NULL);
}

static void
rfc3339_reads_what_qdrant_reads(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t micros; /* -1: refused */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01", 0},
        {"2024-02-29 12:30:00.5", 1709209800500000},
        {"2024-02-29T12:30:00.5+02:00", 1709202600500000},
        {"2023-02-29", -1},
        {"2024-13-01", -1},
        {"2024-01-01T24:00:00Z", -1},
        {"2024-01-01T00:00:00Zx", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t got = -1;
        const ort_err err = ort_rfc3339_parse(cases[i].text, strlen(cases[i].text), &got);
        assert_int_equal(err, cases[i].micros < 0 ? ORT_EFORMAT : ORT_OK);
        assert_true(got == cases[i].micros);
    }
    char out[ORT_RFC3339_BYTES];
    ort_rfc3339_format(1709209800500, out);
    assert_string_equal(out, "2024-02-29T12:30:00.500Z");
}

static void
buffer_remembers_a_failed_growth(void **state)
{
    (void)state;
    ort_buf buf = {0};
    ort_buf_puts(&buf, "ab");
    assert_null(ort_buf_reserve(&buf, SIZE_MAX - 1));
    ort_buf_puts(&buf, "c");
    assert_int_equal(ort_buf_check(&buf), ORT_ENOMEM);
    assert_int_equal(buf.len, 2);
    ort_buf_clear(&buf);
    ort_buf_printf(&buf, "%0300d", 7);
    assert_int_equal(buf.len, 300);
    assert_int_equal(strlen(ort_buf_peek_cstr(&buf)), 300);
    ort_buf_fini(&buf);
}

/* The one way to a tenant's file: whatever a name holds, nothing outside the directory opens. */
static void
open_beneath_never_leaves_the_directory(void **state)
{
    (void)state;
    char root[] = "/tmp/ort-base-XXXXXX";
    assert_non_null(mkdtemp(root));
    const int dir = open(root, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(dir, "in", 0700), 0);
    const int in = open(root, O_RDONLY | O_DIRECTORY);
    const int sub = openat(dir, "in", O_RDONLY | O_DIRECTORY);
    assert_int_equal(symlinkat("/etc/passwd", sub, "link"), 0);
    assert_int_equal(symlinkat("..", sub, "up"), 0);
    static const char *const hostile[] = {"/etc/passwd", "../../etc/passwd", "..", "link", "up/in"};
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        assert_int_equal(ort_open_beneath(sub, hostile[i], O_RDONLY, 0), -1);
    }
    ort_diag diag;
    ort_buf got = {0};
    assert_int_equal(ort_file_replace(sub, "file", "one", 3, 0600, &diag), ORT_OK);
    assert_int_equal(ort_file_replace(sub, "file", "two", 3, 0600, &diag), ORT_OK);
    assert_int_equal(ort_file_read(sub, "file", 2, &got, &diag), ORT_ETOOBIG);
    assert_int_equal(ort_file_read(sub, "file", 3, &got, &diag), ORT_OK);
    assert_memory_equal(got.data, "two", 3);
    assert_int_equal(ort_file_read(sub, "none", 3, &got, &diag), ORT_ENOTFOUND);
    /* Removing a tree removes the links in it, not what they point at. */
    assert_int_equal(ort_tree_remove(dir, "in", &diag), ORT_OK);
    assert_int_equal(access("/etc/passwd", R_OK), 0);
    assert_int_equal(ort_tree_remove(dir, "in", &diag), ORT_OK);
    ort_buf_fini(&got);
    close(sub);
    close(in);
    close(dir);
    assert_int_equal(rmdir(root), 0);
}

static void
ids_are_read_strictly(void **state)
{
    (void)state;
    uint64_t v = 0;
    char text[ORT_ID_TEXT_BYTES];
    ort_id_format(0xfeu, text);
    assert_string_equal(text, "00000000000000fe");
    assert_int_equal(ort_id_parse(text, 16, &v), ORT_OK);
    assert_true(v == 0xfe);
    static const char *const bad[] = {
        "", "fe", "00000000000000FE", "0000000000000000", "00000000000000fe0", "0x000000000000fe"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ort_id_parse(bad[i], strlen(bad[i]), &v), ORT_EFORMAT);
    }
}

static void
count_up(void *arg)
{
    __atomic_fetch_add((int *)arg, 1, __ATOMIC_SEQ_CST);
}

/* A pool that drops queued jobs at its end would lose acknowledged work. */
static void
pool_runs_every_accepted_job(void **state)
{
    (void)state;
    ort_pool *pool;
    int ran = 0, accepted = 0;
    assert_int_equal(ort_pool_new(&pool, "test", 3, 8, NULL), ORT_OK);
    for (int i = 0; i < 1000; i++) {
        accepted += ort_pool_submit(pool, count_up, &ran) == ORT_OK;
    }
    ort_pool_free(pool);
    assert_int_equal(ran, accepted);
    assert_true(accepted >= 8);
}

/* A long text is read at three places at once; bit by bit it must come to the same, wherever it
 * begins, ends, and is parted. */
static void
crc32c_of_long_texts_is_that_of_their_bits(void **state)
{
    enum { BYTES = 60000 };
    unsigned char *text = malloc(BYTES);
    uint32_t *sums = malloc((BYTES + 1) * sizeof *sums); /* of the first n bytes */
    uint32_t seed = 1;
    (void)state;
    assert_non_null(text);
    assert_non_null(sums);
    sums[0] = 0;
    for (size_t i = 0; i < BYTES; i++) {
        uint32_t crc = ~sums[i];
        seed = seed * 1664525u + 1013904223u;
        text[i] = (unsigned char)(seed >> 24);
        crc ^= text[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
        }
        sums[i + 1] = ~crc;
    }
    for (size_t n = 0; n <= BYTES; n += n % 4096 == 0 || n > BYTES - 20 ? 1 : 511) {
        assert_int_equal(ort_crc32c(0, text, n), sums[n]);
    }
    for (size_t at = 1; at < BYTES; at += 997) {
        assert_int_equal(ort_crc32c(sums[at], text + at, BYTES - at), sums[BYTES]);
    }
    free(text);
    free(sums);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_matches_the_rfc),
        cmocka_unit_test(crc32c_of_long_texts_is_that_of_their_bits),
        cmocka_unit_test(siphash_matches_the_paper),
        cmocka_unit_test(map_agrees_with_a_plain_array),
        cmocka_unit_test(rfc3339_reads_what_qdrant_reads),
        cmocka_unit_test(buffer_remembers_a_failed_growth),
        cmocka_unit_test(open_beneath_never_leaves_the_directory),
        cmocka_unit_test(ids_are_read_strictly),
        cmocka_unit_test(pool_runs_every_accepted_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
