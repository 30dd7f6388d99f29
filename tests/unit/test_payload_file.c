/* Files of payload indexes: those that older programs wrote, kept in tests/formats/payload-V, a
 * file a kind; what a newer one may write; what rots.
 *
 * `--write DIR` makes such a directory with the format of now: kept when it gets a new version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "filter/evaluate.h"
#include "filter/payload_index.h"

#define SLOTS 200u
#define FORMATS "tests/formats/"

static const dp_payload_index_stamp stamp = {
    .tenant = {7}, .collection = {9}, .generation = 3, .slot_end = SLOTS};

/* Slot i of each kind, a filter over the field, and whether it matches slot i. */
static bool
keyword_matches(uint32_t i)
{
    return i % 5 == 2;
}
static bool
integer_matches(uint32_t i)
{
    return i >= 150;
}
static bool
bool_matches(uint32_t i)
{
    return i % 2 == 1;
}
static bool
uuid_matches(uint32_t i)
{
    return i % 7 == 3;
}
static bool
text_matches(uint32_t i)
{
    return i % 3 == 0;
}
static bool
geo_matches(uint32_t i)
{
    return i < 50;
}

static const struct {
    const char *kind, *payload, *filter;
    bool (*matches)(uint32_t i);
} kinds[] = {
    {"keyword", "{\"f\":[\"k%u\",\"all\"]}", "{\"match\":{\"value\":\"k2\"}}", keyword_matches},
    {"integer", "{\"f\":%u}", "{\"range\":{\"gte\":150}}", integer_matches},
    {"float", "{\"f\":%u.25}", "{\"range\":{\"gte\":150}}", integer_matches},
    {"bool", "{\"f\":%s}", "{\"match\":{\"value\":true}}", bool_matches},
    {"geo", "{\"f\":{\"lon\":%u.0,\"lat\":0.5}}",
     "{\"geo_bounding_box\":{\"top_left\":{\"lon\":-0.5,\"lat\":1},\"bottom_right\":{\"lon\":49.5,"
     "\"lat\":0}}}",
     geo_matches},
    {"datetime", "{\"f\":\"2021-01-01T00:%02u:%02uZ\"}",
     "{\"range\":{\"gte\":\"2021-01-01T00:02:30Z\"}}", integer_matches},
    {"uuid", "{\"f\":\"550e8400-e29b-41d4-a716-44665544000%u\"}",
     "{\"match\":{\"value\":\"550e8400-e29b-41d4-a716-446655440003\"}}", uuid_matches},
    {"text", "{\"f\":\"%s sea\"}", "{\"match\":{\"text\":\"FISH sea\"}}", text_matches},
};
#define KINDS (sizeof kinds / sizeof *kinds)

static void
payload_of(size_t kind, uint32_t i, char out[128])
{
    const char *format = kinds[kind].payload;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    switch (kind) {
    case 0:
        snprintf(out, 128, format, i % 5);
        break;
    case 3:
        snprintf(out, 128, format, i % 2 == 1 ? "true" : "false");
        break;
    case 4:
        snprintf(out, 128, format, i % 180);
        break;
    case 5:
        snprintf(out, 128, format, i / 60, i % 60);
        break;
    case 6:
        snprintf(out, 128, format, i % 7);
        break;
    case 7:
        snprintf(out, 128, format, i % 3 == 0 ? "a fish of the" : "a bird above the");
        break;
    default:
        snprintf(out, 128, format, i);
    }
#pragma GCC diagnostic pop
}

static ort_json_doc *
json(const char *text)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, NULL), ORT_OK);
    return doc;
}

static dp_fields *
declare(size_t kind)
{
    char text[64];
    dp_fields *fields;
    snprintf(text, sizeof text, "{\"f\":{\"data_type\":\"%s\"}}", kinds[kind].kind);
    ort_json_doc *doc = json(text);
    assert_int_equal(dp_fields_parse(&fields, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    return fields;
}

static dp_payload_index *
build(size_t kind, dp_fields *fields)
{
    dp_payload_index *index;
    assert_int_equal(dp_payload_index_new(&index, fields, 0), ORT_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        char text[128];
        payload_of(kind, i, text);
        ort_json_doc *doc = json(text);
        assert_int_equal(dp_payload_index_add(index, i, ort_json_root(doc)), ORT_OK);
        ort_json_free(doc);
    }
    return index;
}

static void
expect_answers(size_t kind, dp_fields *fields, dp_payload_index *index)
{
    char text[256];
    dp_filter *filter;
    dp_filter_texts *words = NULL;
    dp_verdict v;
    dp_slots *all = dp_slots_new();
    uint32_t expected = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_true(dp_slots_add(all, i));
    }
    snprintf(text, sizeof text, "{\"must\":[{\"key\":\"f\",%s]}", kinds[kind].filter + 1);
    assert_int_equal(dp_filter_parse_text(&filter, text, strlen(text), NULL), ORT_OK);
    assert_int_equal(dp_filter_bind(filter, fields, &words, NULL), ORT_OK);
    const dp_evaluation over = {.indexes = &index, .index_count = 1, .live = all, .texts = words};
    assert_int_equal(dp_filter_evaluate(filter, &over, &v), ORT_OK);
    for (uint32_t i = 0; i < SLOTS; i++) {
        expected += kinds[kind].matches(i);
    }
    /* A geo index gives a superset that matching narrows. */
    assert_true(kind == 4 ? v.max >= expected && v.max < SLOTS : v.max == expected);
    assert_int_equal(dp_payload_index_points(index, all), SLOTS);
    dp_verdict_fini(&v);
    dp_filter_texts_free(words);
    dp_filter_free(filter);
    dp_slots_free(all);
}

static int
write_samples(const char *path)
{
    const int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = dir >= 0;
    for (size_t k = 0; good && k < KINDS; k++) {
        char own[DP_PAYLOAD_INDEX_NAME_BYTES], name[32];
        dp_fields *fields = declare(k);
        dp_payload_index *index = build(k, fields);
        dp_payload_index_file_name(dp_fields_peek(fields, 0), own);
        snprintf(name, sizeof name, "%s.pidx", kinds[k].kind);
        good = dp_payload_index_save(index, dir, &stamp, NULL) == ORT_OK &&
               renameat(dir, own, dir, name) == 0;
        dp_payload_index_free(index);
        dp_fields_unref(fields);
    }
    ort_fd_close(dir);
    return !good;
}

static ort_buf
kept(int version, size_t kind)
{
    ort_buf bytes = {0};
    char name[64];
    snprintf(name, sizeof name, FORMATS "payload-%d/%s.pidx", version, kinds[kind].kind);
    assert_int_equal(ort_file_read(AT_FDCWD, name, 1 << 20, &bytes, NULL), ORT_OK);
    return bytes;
}

/* Where this machine has another ICU than the one that cut the kept text into words. */
static bool
is_of_another_icu(size_t kind, ort_err err, const ort_diag *diag)
{
    return kind == KINDS - 1 && err == ORT_EVERSION && strstr(diag->text, "other rules") != NULL;
}

/* Words of UUIDs were as they had been written: such a file is no use, and is made anew. */
static void
a_file_of_other_rules_is_made_anew(void **state)
{
    (void)state;
    dp_fields *fields = declare(6);
    dp_payload_index *index = NULL;
    ort_buf bytes = {0};
    ort_diag diag = {""};
    assert_int_equal(
        ort_file_read(AT_FDCWD, FORMATS "payload-1/uuid-rules-0.pidx", 1 << 20, &bytes, NULL),
        ORT_OK);
    assert_int_equal(
        dp_payload_index_decode(&index, fields, 0, bytes.data, bytes.len, &stamp, &diag),
        ORT_EVERSION);
    assert_non_null(strstr(diag.text, "other rules"));
    dp_fields_unref(fields);
    ort_buf_fini(&bytes);
}

static void
files_of_every_version_open(void **state)
{
    (void)state;
    for (int version = 1; version <= 1; version++) {
        for (size_t k = 0; k < KINDS; k++) {
            dp_fields *fields = declare(k);
            dp_payload_index *index = NULL;
            ort_buf bytes = kept(version, k);
            ort_diag diag = {""};
            const ort_err err =
                dp_payload_index_decode(&index, fields, 0, bytes.data, bytes.len, &stamp, &diag);
            if (is_of_another_icu(k, err, &diag)) {
                print_message("%s: skipped, %s\n", kinds[k].kind, diag.text);
            } else if (err != ORT_OK) {
                fail_msg("%s: %s", kinds[k].kind, diag.text);
            } else {
                expect_answers(k, fields, index);
            }
            dp_payload_index_free(index);
            dp_fields_unref(fields);
            ort_buf_fini(&bytes);
        }
    }
}

static void
a_newer_version_is_told_from_damage(void **state)
{
    (void)state;
    dp_fields *fields = declare(1);
    dp_payload_index *index = NULL;
    ort_buf bytes = kept(1, 1);
    ort_diag diag = {""};
    bytes.data[7] = 2;
    ort_put_u32(bytes.data + 60, ort_crc32c(0, bytes.data, 60));
    assert_int_equal(
        dp_payload_index_decode(&index, fields, 0, bytes.data, bytes.len, &stamp, &diag),
        ORT_EVERSION);
    assert_non_null(strstr(diag.text, "version 2, this program reads 1"));
    assert_null(index);
    dp_fields_unref(fields);
    ort_buf_fini(&bytes);
}

/* Two checksums stand over all of it: no file with a flipped bit, and none that was cut, is one. */
static void
flipped_bits_and_cuts_are_found(void **state)
{
    unsigned flips = 0;
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        dp_fields *fields = declare(k);
        ort_buf bytes = kept(1, k);
        for (size_t at = 0; at < bytes.len; at += at < 64 ? 1 : 97, flips++) {
            dp_payload_index *index = NULL;
            const char bit = (char)(1 << (flips % 8));
            bytes.data[at] = (char)(bytes.data[at] ^ bit);
            assert_int_not_equal(
                dp_payload_index_decode(&index, fields, 0, bytes.data, bytes.len, &stamp, NULL),
                ORT_OK);
            bytes.data[at] = (char)(bytes.data[at] ^ bit);
            assert_int_not_equal(
                dp_payload_index_decode(&index, fields, 0, bytes.data, at, &stamp, NULL), ORT_OK);
            assert_null(index);
        }
        ort_buf_fini(&bytes);
        dp_fields_unref(fields);
    }
    print_message("%u flips\n", flips);
    assert_true(flips > 8 * 64 + 50);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_every_version_open),
        cmocka_unit_test(a_file_of_other_rules_is_made_anew),
        cmocka_unit_test(a_newer_version_is_told_from_damage),
        cmocka_unit_test(flipped_bits_and_cuts_are_found),
    };
    if (argc == 3 && strcmp(argv[1], "--write") == 0) {
        return write_samples(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
