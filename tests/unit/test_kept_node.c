/* The node's own files: those that older programs wrote, kept in tests/formats/node-V; what a newer
 * one may write; what rots.
 *
 *   node-1  credential 1, table 1 with a log behind it, watermark 1
 *   node-2  credential 2, watermark 2
 *
 * `--write DIR` makes such a directory with the formats of now: kept when one of them gets a new
 * version. table.log ends there where its zeroes begin; a node makes it long again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "crypto/secret.h"
#include "routing/credential.h"
#include "routing/keep.h"
#include "support/scratch.h"

#define FORMATS "tests/formats/"
#define NEWEST 2 /* node-V */
#define HUB 0x1234u
#define NODE ((ort_node_id){0x77})
#define VERSIONS 7u

static const char *const files[] = {"node.key", "credential", "table", "table.log", "watermark"};
#define FILES (sizeof files / sizeof *files)

/* --- making ----------------------------------------------------------------------------------- */

/* Version v: tenants 1, 2, 3, each with the epoch of the last version that changed it. */
static ort_err
put_versions(dp_keep *keep, const ort_sign_key *signer, ort_diag *diag)
{
    ort_table *before = NULL;
    ort_err err = ort_table_new(&before, NULL, NULL, NULL);
    for (unsigned v = 1; err == ORT_OK && v <= VERSIONS; v++) {
        char change[256];
        ort_buf body = {0}, envelope = {0};
        ort_table *after = NULL;
        ort_table_head head = {.hub_id = HUB,
                               .node = NODE,
                               .at = {.generation = 1, .version = v},
                               .base = v - 1,
                               .issued_at_ms = 1700000000000 + v};
        snprintf(change, sizeof change,
                 "{\"tenants\":{\"%016x\":{\"name\":\"t\",\"state\":\"active\",\"epoch\":%u,"
                 "\"limits\":{},\"keys\":{}}}}",
                 1 + v % 3, v);
        err = ort_table_apply(&after, before, change, strlen(change), NULL, diag);
        if (err == ORT_OK) {
            ort_table_hash(after, &head.at.hash);
            if (v > 1) {
                ort_table_hash(before, &head.base_hash);
            }
            err = v == 1 ? ort_table_write(after, &body) : ort_table_diff(before, after, &body);
        }
        if (err == ORT_OK) {
            err = ort_envelope_seal(&head, body.data, body.len, signer, &envelope, diag);
        }
        if (err == ORT_OK) {
            err = dp_keep_put(keep, &head, envelope.data, envelope.len, after, diag);
        }
        ort_table_unref(before);
        before = after;
        ort_buf_fini(&body);
        ort_buf_fini(&envelope);
    }
    ort_table_unref(before);
    return err;
}

static ort_err
cut_zeroes(int dir, ort_diag *diag)
{
    ort_buf log = {0};
    ort_err err = ort_file_read(dir, "table.log", 2 << 20, &log, diag);
    if (err == ORT_OK) {
        size_t n = log.len;
        while (n > 0 && log.data[n - 1] == 0) {
            n--;
        }
        err = ort_file_replace(dir, "table.log", log.data, n, 0600, diag);
    }
    ort_buf_fini(&log);
    return err;
}

static ort_err
write_node(int dir, ort_diag *diag)
{
    ort_sign_key node_key, control_key;
    dp_keep *keep = NULL;
    ort_sign_key_new(&node_key);
    ort_sign_key_new(&control_key);
    ort_hello_reply hello = {
        .hub_id = HUB, .node = NODE, .control_key = control_key.public, .has_pepper = true};
    memset(hello.pepper, 0x5a, sizeof hello.pepper);
    snprintf(hello.control_url, sizeof hello.control_url, "tls+tcp://127.0.0.1:7400");
    ort_err err = ort_sign_key_save(&node_key, dir, DP_NODE_KEY_FILE, diag);
    if (err == ORT_OK) {
        err = dp_credential_save(dir, &hello, &node_key.public, diag);
    }
    if (err == ORT_OK) {
        err = dp_keep_open(&keep, dir, diag);
    }
    if (err == ORT_OK) {
        err = put_versions(keep, &control_key, diag);
    }
    dp_keep_close(keep);
    ort_sign_key_wipe(&node_key);
    ort_sign_key_wipe(&control_key);
    return err == ORT_OK ? cut_zeroes(dir, diag) : err;
}

static int
write_sample(const char *path)
{
    ort_diag diag = {""};
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const ort_err err =
        dir < 0 ? ort_fail_errno(&diag, ORT_EIO, "%s", path) : write_node(dir, &diag);
    if (err != ORT_OK) {
        fprintf(stderr, "%s\n", diag.text);
    }
    ort_fd_close(dir);
    return err != ORT_OK;
}

/* --- looking ---------------------------------------------------------------------------------- */

/* What a start of the node does with its files; ORT_OK: it serves the newest table there was. */
static ort_err
load(int dir, ort_diag *diag)
{
    ort_sign_key key;
    ort_hello_reply hello = {0};
    dp_keep *keep = NULL;
    const dp_table *t = NULL;
    ort_err err = ort_sign_key_load(&key, dir, DP_NODE_KEY_FILE, diag);
    if (err == ORT_OK) {
        err = dp_credential_load(dir, &key.public, &hello, diag);
    }
    if (err == ORT_OK) {
        for (size_t i = 0; i < sizeof hello.pepper; i++) {
            assert_int_equal(hello.pepper[i], 0x5a);
        }
        assert_string_equal(hello.control_url, "tls+tcp://127.0.0.1:7400");
        err = dp_keep_open(&keep, dir, diag);
    }
    if (err == ORT_OK) {
        const dp_keep_owner owner = {hello.hub_id, hello.node, hello.control_key};
        err = dp_keep_load(keep, &owner, &t, diag);
    }
    if (err == ORT_OK) {
        assert_int_equal(dp_table_at(t).version, VERSIONS);
        for (unsigned v = VERSIONS - 2; v <= VERSIONS; v++) {
            const dp_tenant_entry *e = dp_table_tenant(t, (ort_tenant_id){1 + v % 3});
            assert_non_null(e);
            assert_int_equal(e->epoch, v);
        }
        assert_int_equal(dp_keep_watermark(keep).version, VERSIONS);
        dp_table_release(t);
    }
    dp_keep_close(keep);
    ort_hello_reply_fini(&hello);
    ort_sign_key_wipe(&key);
    return err;
}

/* A copy: a start goes on writing, and keys are for their owner alone. */
static scratch
copy_of(int version)
{
    scratch place = scratch_make();
    for (size_t i = 0; i < FILES; i++) {
        char name[96];
        ort_buf bytes = {0};
        snprintf(name, sizeof name, FORMATS "node-%d/%s", version, files[i]);
        assert_int_equal(ort_file_read(AT_FDCWD, name, 1 << 20, &bytes, NULL), ORT_OK);
        assert_int_equal(ort_file_replace(place.fd, files[i], bytes.data, bytes.len, 0600, NULL),
                         ORT_OK);
        ort_buf_fini(&bytes);
    }
    return place;
}

static ort_buf
read_file(const scratch *place, const char *name)
{
    ort_buf bytes = {0};
    assert_int_equal(ort_file_read(place->fd, name, 2 << 20, &bytes, NULL), ORT_OK);
    return bytes;
}

static void
write_file(const scratch *place, const char *name, const ort_buf *bytes)
{
    assert_int_equal(ort_file_replace(place->fd, name, bytes->data, bytes->len, 0600, NULL),
                     ORT_OK);
}

/* What the owner of the files may know of them without starting a node. */
static ort_err
verify(int dir, dp_keep_report *report, ort_diag *diag)
{
    ort_hello_reply hello = {0};
    ort_err err = dp_credential_load(dir, NULL, &hello, diag);
    if (err == ORT_OK) {
        const dp_keep_owner owner = {hello.hub_id, hello.node, hello.control_key};
        err = dp_keep_verify(dir, &owner, report, diag);
    }
    ort_hello_reply_fini(&hello);
    return err;
}

static void
files_of_every_version_open(void **state)
{
    (void)state;
    for (int version = 1; version <= NEWEST; version++) {
        scratch place = copy_of(version);
        ort_diag diag = {""};
        dp_keep_report report = {.files = 0};
        if (verify(place.fd, &report, &diag) != ORT_OK) {
            fail_msg("node-%d: %s", version, diag.text);
        }
        assert_int_equal(report.table.version, VERSIONS);
        assert_int_equal(report.mark.version, VERSIONS);
        assert_int_equal(report.files, 3);
        for (int again = 0; again < 2; again++) {
            if (load(place.fd, &diag) != ORT_OK) {
                fail_msg("node-%d: %s", version, diag.text);
            }
        }
        scratch_drop(&place);
    }
}

/* --- newer files ------------------------------------------------------------------------------ */

/* Said as such by whoever reads it, and left as it is. */
static void
expect_newer(scratch *place, const char *name, const ort_buf *newer, const char *says)
{
    ort_diag diag = {""};
    dp_keep_report report = {.files = 0};
    write_file(place, name, newer);
    const ort_err err = verify(place->fd, &report, &diag);
    if (err != ORT_EVERSION || strstr(diag.text, says) == NULL) {
        fail_msg("%s: %s: %s", name, ort_err_code(err), diag.text);
    }
    assert_int_equal(load(place->fd, &diag), ORT_EVERSION);
    assert_non_null(strstr(diag.text, says));
    ort_buf after = read_file(place, name);
    assert_true(after.len >= newer->len);
    assert_memory_equal(after.data, newer->data, newer->len);
    ort_buf_fini(&after);
    scratch_drop(place);
}

static void
newer_files_are_refused_as_such(void **state)
{
    (void)state;
    scratch place = copy_of(NEWEST);
    ort_buf bytes = read_file(&place, "table");
    bytes.data[7] = 2;
    expect_newer(&place, "table", &bytes, "table: version 2, this program reads 1");
    ort_buf_fini(&bytes);

    place = copy_of(NEWEST); /* the envelope of the first change */
    bytes = read_file(&place, "table.log");
    const uint32_t n = ort_get_u32(bytes.data);
    assert_true(n + 8 < bytes.len);
    bytes.data[8 + 7] = 2;
    ort_put_u32(bytes.data + 4, ort_crc32c(ort_crc32c(0, bytes.data, 4), bytes.data + 8, n));
    expect_newer(&place, "table.log", &bytes, "has version 2, this program reads 1");
    ort_buf_fini(&bytes);

    place = copy_of(NEWEST);
    bytes = read_file(&place, "watermark");
    ort_put_u32(bytes.data + 64 + 52, 3);
    ort_put_u32(bytes.data + 64 + 56, ort_crc32c(0, bytes.data + 64, 56));
    expect_newer(&place, "watermark", &bytes, "watermark: version 3, this program reads 2");
    ort_buf_fini(&bytes);

    place = copy_of(NEWEST);
    bytes = read_file(&place, "credential");
    char *at = memmem(bytes.data, bytes.len, "\"format\":2", 10);
    assert_non_null(at);
    at[9] = '3';
    expect_newer(&place, "credential", &bytes, "credential: format 3, this program reads 2");
    ort_buf_fini(&bytes);

    ort_diag diag = {""};
    place = copy_of(NEWEST);
    bytes = read_file(&place, "node.key");
    at = memmem(bytes.data, bytes.len, "-1 ", 3);
    assert_non_null(at);
    at[1] = '2';
    write_file(&place, "node.key", &bytes);
    assert_int_equal(load(place.fd, &diag), ORT_EVERSION);
    assert_non_null(strstr(diag.text, "node.key: version 2, this program reads 1"));
    ort_buf_fini(&bytes);
    scratch_drop(&place);
}

/* --- flipped bits ----------------------------------------------------------------------------- */

/* The first 128 bytes of each, and every 97th: a start refuses to go by them, saying why, or serves
 * the newest table there was. Never an older one, in which a revoked key may stand. */
static void
a_flipped_bit_in_any_file_is_found_or_does_no_harm(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILES; i++) {
        unsigned flips = 0, found = 0;
        scratch good = copy_of(NEWEST);
        ort_buf bytes = read_file(&good, files[i]);
        for (size_t at = 0; at < bytes.len; at += at < 128 ? 1 : 97) {
            ort_diag diag = {""};
            dp_keep_report report = {.files = 0};
            scratch place = copy_of(NEWEST);
            const char whole = bytes.data[at];
            bytes.data[at] = (char)(whole ^ (1 << (flips % 8)));
            write_file(&place, files[i], &bytes);
            bytes.data[at] = whole;
            const ort_err looked = verify(place.fd, &report, &diag);
            const ort_err err = load(place.fd, &diag);
            if (err != ORT_OK) {
                assert_true(err == ORT_ECORRUPT || err == ORT_ESTALE || err == ORT_EVERSION);
                assert_true(diag.text[0] != '\0');
                found++;
                /* node.key is held against the credential by who has both. */
                assert_true(i == 0 || looked != ORT_OK);
            }
            flips++;
            scratch_drop(&place);
        }
        print_message("%s: %u of %u flips were found\n", files[i], found, flips);
        assert_true(i == 4 || found > flips * 9 / 10);
        ort_buf_fini(&bytes);
        scratch_drop(&good);
    }
}

/* Each slot in turn, and both. */
static void
a_watermark_outlives_one_bad_slot(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots < 4; slots++) {
        scratch place = copy_of(NEWEST);
        ort_buf bytes = read_file(&place, "watermark");
        ort_diag diag = {""};
        dp_keep_report report = {.files = 0};
        for (unsigned k = 0; k < 2; k++) {
            bytes.data[64 * k + 9] ^= (char)((slots >> k & 1) << 4);
        }
        write_file(&place, "watermark", &bytes);
        assert_int_equal(verify(place.fd, &report, &diag), ORT_OK);
        assert_int_equal(report.mark_damaged, slots == 3);
        assert_int_equal(load(place.fd, &diag), ORT_OK);
        assert_int_equal(verify(place.fd, &report, &diag), ORT_OK);
        assert_false(report.mark_damaged); /* the load wrote it again */
        assert_int_equal(report.mark.version, VERSIONS);
        ort_buf_fini(&bytes);
        scratch_drop(&place);
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_every_version_open),
        cmocka_unit_test(newer_files_are_refused_as_such),
        cmocka_unit_test(a_flipped_bit_in_any_file_is_found_or_does_no_harm),
        cmocka_unit_test(a_watermark_outlives_one_bad_slot),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_sample(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
