/* The JSON view and writer: what they accept, what they give back, against jansson and the C
 * library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>

#include "base/json_read.h"
#include "base/json_write.h"
#include "base/num.h"

static ort_json_doc *
parse(const char *text)
{
    ort_json_doc *doc;
    ort_diag diag = {""};
    if (ort_json_parse(&doc, text, strlen(text), (ort_json_limits){0}, &diag) != ORT_OK) {
        fail_msg("%s: %s", text, diag.text);
    }
    return doc;
}

static void
values_are_read_as_written(void **state)
{
    (void)state;
    ort_json_doc *doc = parse("{\"id\":18446744073709551615, \"v\":[0.5, -1e-3,2],\"n\":null,"
                              "\"s\":\"a\\u00e9\\n\\ud83d\\ude00\",\"o\":{\"b\":true},"
                              "\"mixed\":[1,\"x\",[2,3]],\"e\":[],\"s\":\"last\\t\"}");
    ort_json root = ort_json_root(doc), v = ort_json_get(root, "v");
    uint64_t id;
    float floats[3];
    bool b = false;
    size_t len;
    assert_int_equal(ort_json_u64(ort_json_get(root, "id"), &id), ORT_OK);
    assert_true(id == UINT64_MAX);
    assert_true(ort_json_is_numbers(v));
    assert_int_equal(ort_json_count(v), 3);
    assert_int_equal(ort_json_floats(v, floats, 3), ORT_OK);
    assert_true(floats[0] == 0.5f && floats[1] == -1e-3f && floats[2] == 2.0f);
    assert_int_equal(ort_json_floats(v, floats, 2), ORT_EINVAL);
    assert_false(ort_json_given(ort_json_get(root, "n")));
    assert_false(ort_json_given(ort_json_get(root, "absent")));
    assert_true(ort_json_str_is(ort_json_get(root, "s"), "last\t"));
    assert_int_equal(ort_json_bool(ort_json_get(ort_json_get(root, "o"), "b"), &b), ORT_OK);
    assert_true(b);
    ort_json mixed = ort_json_get(root, "mixed");
    assert_false(ort_json_is_numbers(mixed));
    assert_int_equal(ort_json_count(mixed), 3);
    assert_true(ort_json_is_numbers(ort_json_get(root, "e")));

    /* Walking gives members in order, also after strings have been unescaped in place. */
    int members = 0;
    for (ort_json_iter it = ort_json_each(root); ort_json_step(&it); members++) {
        if (members == 3) {
            const char *s = ort_json_str(it.value, &len);
            assert_int_equal(len, 8);
            assert_memory_equal(s, "a\xc3\xa9\n\xf0\x9f\x98\x80", 8);
        }
    }
    assert_int_equal(members, 8);
    uint64_t sum = 0, x;
    for (ort_json_iter it = ort_json_each(mixed); ort_json_step(&it);) {
        for (ort_json_iter in = ort_json_each(it.value); ort_json_step(&in);) {
            assert_int_equal(ort_json_u64(in.value, &x), ORT_OK);
            sum += x;
        }
    }
    assert_int_equal(sum, 5);
    ort_json_free(doc);
}

static const char *const corpus[] = {
    "",
    " ",
    "{",
    "}",
    "[",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{a:1}",
    "{\"a\":1 \"b\":2}",
    "[01]",
    "[1.]",
    "[.5]",
    "[-]",
    "[+1]",
    "[1e]",
    "[1e+]",
    "[0x10]",
    "[NaN]",
    "[Infinity]",
    "[nul]",
    "[True]",
    "\"abc",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"a\tb\"",
    "\"\xff\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf5\x80\x80\x80\"",
    "\"\xe2\x82\"",
    "1 2",
    "[] x",
    "null",
    "true",
    "0",
    "-0",
    "[1,2.5,-3e2]",
    "{\"\":[{},[],\"\",0]}",
    "\"\\u20ac \\\" \\\\ \\/ \xe2\x82\xac\"",
    " {\"a\" : [ 1 , [ ] , { \"b\" : null } ] } ",
};

/* jansson is the other opinion: both take or both refuse. */
static void
agrees_with_jansson_on_what_is_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        ort_json_doc *doc = NULL;
        json_error_t error;
        const size_t len = strlen(corpus[i]);
        ort_diag diag;
        const ort_err err = ort_json_parse(&doc, corpus[i], len, (ort_json_limits){0}, &diag);
        json_t *other = json_loadb(corpus[i], len, JSON_DECODE_ANY, &error);
        if ((err == ORT_OK) != (other != NULL)) {
            fail_msg("\"%s\": ours %d, jansson's %s", corpus[i], err, error.text);
        }
        if (doc != NULL) {
            /* Written again, it means the same to jansson. */
            ort_buf out = {0};
            ort_jw w = {.buf = &out};
            ort_jw_value(&w, ort_json_root(doc));
            json_t *again = json_loadb(out.data, out.len, JSON_DECODE_ANY, &error);
            assert_true(json_equal(again, other));
            json_decref(again);
            ort_buf_fini(&out);
        }
        json_decref(other);
        ort_json_free(doc);
    }
}

static void
every_prefix_of_a_document_is_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":[1.5,-2e3,3],\"b\":{\"c\":\"\\u00e9\xc3\xa9\"},\"d\":[true,null]}";
    for (size_t n = 0; n < sizeof text - 1; n++) {
        /* An exact copy, so that reading past its end is seen. */
        char *copy = malloc(n > 0 ? n : 1);
        memcpy(copy, text, n);
        ort_json_doc *doc;
        assert_int_equal(ort_json_parse(&doc, copy, n, (ort_json_limits){0}, NULL), ORT_EFORMAT);
        assert_null(doc);
        free(copy);
    }
}

/* 100,000 brackets cost neither the stack nor time; a flood of values costs bounded memory. */
static void
depth_and_size_are_bounded(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *deep = malloc(N);
    memset(deep, '[', N);
    ort_json_doc *doc;
    ort_diag diag;
    assert_int_equal(ort_json_parse(&doc, deep, N, (ort_json_limits){0}, &diag), ORT_EFORMAT);
    assert_non_null(strstr(diag.text, "recursion limit exceeded"));
    for (int i = 0; i < N; i++) {
        deep[i] = i == 0 ? '[' : i % 3 == 1 ? '{' : i % 3 == 2 ? '}' : ',';
    }
    const ort_json_limits few = {.notes_max = 1000};
    assert_int_equal(ort_json_parse(&doc, deep, N, few, &diag), ORT_ETOOBIG);
    free(deep);
}

static uint64_t seed = 88172645463325252u;

static uint64_t
next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Clients compare floats for equality: what we print must read back, and be as short as printf
 * could make it; what we read must be what the C library reads. */
static void
floats_go_out_and_in_exactly(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        float v, back;
        uint32_t bits = (uint32_t)next_random();
        if (i % 2 == 0) { /* the range that embeddings live in */
            bits = (bits & 0x807fffffu) | (110u + bits % 20u) << 23;
        }
        memcpy(&v, &bits, sizeof v);
        if (!isfinite(v)) {
            continue;
        }
        char text[ORT_NUM_TEXT_BYTES], shortest[40];
        const size_t len = ort_num_put_f32(text, v);
        assert_int_equal(len, strlen(text));
        assert_true(strtof(text, NULL) == v);
        assert_int_equal(ort_num_f32(text, len, &back), ORT_OK);
        assert_memory_equal(&back, &v, sizeof v);
        int digits = 0, least = 1;
        for (const char *p = text; *p != '\0' && *p != 'e'; p++) {
            digits += *p >= '0' && *p <= '9' && (digits > 0 || *p != '0');
        }
        for (; least <= 9; least++) {
            snprintf(shortest, sizeof shortest, "%.*e", least - 1, (double)v);
            if (strtof(shortest, NULL) == v) {
                break;
            }
        }
        /* Integers carry ".0" and trailing zeros, so only fractions are counted. */
        if (fabsf(v) < 1 && strchr(text, 'e') == NULL && v != 0) {
            assert_true(digits <= least);
        }
        snprintf(shortest, sizeof shortest, "%.*g", 1 + (int)(next_random() % 20), (double)v);
        assert_int_equal(ort_num_f32(shortest, strlen(shortest), &back),
                         isfinite(strtof(shortest, NULL)) ? ORT_OK : ORT_EINVAL);
        assert_true(!isfinite(strtof(shortest, NULL)) || back == strtof(shortest, NULL));
    }
    static const struct {
        float v;
        const char *text;
    } known[] = {{0.15f, "0.15"},
                 {1.0f, "1.0"},
                 {-2.5f, "-2.5"},
                 {1e-7f, "1e-7"},
                 {123456.0f, "123456.0"},
                 {0.1f, "0.1"},
                 {3.4028235e38f, "3.4028235e38"},
                 {1e16f, "1e16"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[ORT_NUM_TEXT_BYTES];
        ort_num_put_f32(text, known[i].v);
        assert_string_equal(text, known[i].text);
    }
}

/* One pass or two, near the end of the text or not: the same end, the same bits, the same verdict.
 */
static void
take_and_scan_agree(const char *text, size_t len)
{
    for (unsigned behind = 0; behind <= 64; behind += 64) {
        char *copy = malloc(len + behind + 1);
        memcpy(copy, text, len);
        memset(copy + len, ',', behind + 1);
        const char *end = copy + len + behind;
        bool integer, finite = true;
        float taken = 42, read = 42;
        const char *stop = ort_num_take_f32(copy, end, &taken, &finite);
        const char *scanned = ort_num_scan(copy, end, &integer);
        if (stop != scanned) {
            fail_msg("\"%.*s\": one ends elsewhere", (int)len, text);
        }
        if (scanned != NULL) {
            const bool ok = ort_num_f32(copy, (size_t)(scanned - copy), &read) == ORT_OK;
            if (ok != finite || (ok && (taken != read || signbit(taken) != signbit(read)))) {
                fail_msg("\"%.*s\": %a or %a", (int)len, text, (double)taken, (double)read);
            }
        }
        free(copy);
    }
}

/* Vectors are read eight digits at a time; whatever stands there must be taken as the plain reading
 * of one digit after the other takes it. */
static void
numbers_read_in_eights_are_those_read_one_by_one(void **state)
{
    static const char *const odd[] = {
        "0",
        "-0",
        "-0.0",
        "0.0",
        "00",
        "01",
        "-",
        "-.",
        ".5",
        "5.",
        "5.e1",
        "1e5",
        "1E+5",
        "1e",
        "1e-",
        "12345678",
        "1234567",
        "123456789012345678901234567890",
        "0.1234567",
        "0.12345678",
        "0.123456789",
        "0.1234567890123456",
        "0.12345678901234567",
        "0.1234567890123456789",
        "0.12345678901234567890123456789",
        "0.000000000000000000000001",
        "1.00000000000000000000",
        "3.4028235e38",
        "3.4028236e38",
        "1e39",
        "-1e999",
        "1.1754944e-38",
        "1e-45",
        "1e-46",
        "0.1:345678",
        "0.1/345678",
        "0.\xff\xff\xff\xff",
        "1234567.1234567",
        "9999999.99999999999",
        "16777217",
        "16777217.0",
        "0.50000002980232238769531250",
        "8.5899345920000000001",
        "--1",
        "+1",
    };
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        take_and_scan_agree(odd[i], strlen(odd[i]));
    }
    for (int i = 0; i < 100000; i++) {
        static const char alphabet[] = "0123456789012345678900..--eE+,: ";
        const uint32_t bits = (uint32_t)next_random();
        size_t len;
        float v;
        memcpy(&v, &bits, sizeof v);
        if (i % 4 == 0) {
            len = 1 + next_random() % 30;
            for (size_t j = 0; j < len; j++) {
                text[j] = alphabet[next_random() % (sizeof alphabet - 1)];
            }
        } else {
            v = i % 4 == 1 && isfinite(v) ? v : (float)(int32_t)bits / 3e9f;
            const int precision = (int)(next_random() % 21);
            len = (size_t)snprintf(text, sizeof text, i % 2 == 0 ? "%.*f" : "%.*g", precision,
                                   (double)v);
        }
        take_and_scan_agree(text, len < sizeof text ? len : sizeof text - 1);
    }
}

/* Arrays are read by their commas, 64 bytes at a time: whatever way the numbers are written in, and
 * wherever in a block a comma falls, they are those that the C library reads. */
static void
arrays_read_by_commas_are_those_read_one_by_one(void **state)
{
    static const char *const formats[] = {"%.8f",  "%.1f",  "%.9g", "%.17g", "%.0f",
                                          "%.16f", "%.3e",  "%g",   "%.15g", "%.6f",
                                          "%.17f", "%.18f", "%.19f"};
    static const char *const gaps[] = {",", ", ", ",  ", " ,", ",\n"};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        const size_t count = 1 + next_random() % 120;
        const bool mixed = round % 3 == 0;
        const char *format = formats[next_random() % 13], *gap = gaps[next_random() % 5];
        float expected[128], got[128];
        ort_buf text = {0};
        ort_json_doc *doc;

        ort_buf_puts(&text, "{\"a\":[");
        for (size_t i = 0; i < count; i++) {
            const double far = round % 2 == 0 ? 1 : 1e6;
            char one[64];
            snprintf(one, sizeof one, mixed ? formats[next_random() % 13] : format,
                     ((double)next_random() / 1e19 - 0.9) * far);
            ort_buf_printf(&text, "%s%s", i > 0 ? gap : "", one);
            expected[i] = strtof(one, NULL);
        }
        ort_buf_puts(&text, "],\"b\":[\"x,y\",1,2]}");
        char *exact = malloc(text.len); /* nothing behind its end may be read */
        assert_non_null(exact);
        memcpy(exact, text.data, text.len);
        assert_int_equal(
            ort_json_parse(&doc, exact, text.len, (ort_json_limits){.floats = true}, NULL), ORT_OK);
        const ort_json a = ort_json_get(ort_json_root(doc), "a");
        assert_int_equal(ort_json_count(a), count);
        assert_int_equal(ort_json_floats(a, got, count), ORT_OK);
        assert_memory_equal(got, expected, count * sizeof *got);
        assert_int_equal(ort_json_count(ort_json_get(ort_json_root(doc), "b")), 3);
        ort_json_free(doc);
        /* Cut anywhere it is refused, and read no further. */
        const size_t cut = next_random() % text.len;
        memmove(exact + text.len - cut, exact, cut);
        assert_int_equal(ort_json_parse(&doc, exact + text.len - cut, cut,
                                        (ort_json_limits){.floats = true}, NULL),
                         ORT_EFORMAT);
        free(exact);
        ort_buf_fini(&text);
    }
}

/* One wrong number among right ones, at each place of a block. */
static void
a_wrong_number_in_an_array_is_found(void **state)
{
    static const char *const wrong[] = {"01",    "-",    ".5",  "5.",  "1e",  "--1",  "+1",  "0x1",
                                        "1.2.3", "",     "1 2", "1,,", "nan", "1.e",  "-.1", "1-2",
                                        "00",    "1e5.", "1..", "-a",  "1.a", "1.2x", "0.1:"};

    (void)state;
    for (size_t w = 0; w < sizeof wrong / sizeof *wrong; w++) {
        for (size_t at = 0; at < 40; at++) {
            ort_buf text = {0};
            ort_json_doc *doc = NULL;
            ort_buf_puts(&text, "{\"some member\":[");
            for (size_t i = 0; i < 60; i++) {
                ort_buf_printf(&text, "%s%s", i > 0 ? "," : "", i == at ? wrong[w] : "-0.0123");
            }
            ort_buf_puts(&text, "]}");
            assert_int_equal(
                ort_json_parse(&doc, text.data, text.len, (ort_json_limits){.floats = true}, NULL),
                ORT_EFORMAT);
            ort_buf_fini(&text);
        }
    }
}

/* A document asked for floats gives the same floats, and refuses the same ones, as one that reads
 * them when asked; arrays beside and behind are not disturbed. */
static void
floats_kept_are_the_floats_read(void **state)
{
    static const char text[] = "{\"a\":[0.25,-1.5,3],\"x\":[1,\"s\",2],\"b\":[[],[7.125],[1e999,2],"
                               "[4,5.0000000000000000000001]],\"n\":[12345678901234567890]}";
    ort_json_doc *docs[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ort_json_parse(&docs[i], text, sizeof text - 1,
                                        (ort_json_limits){.floats = i == 1}, NULL),
                         ORT_OK);
        float v[4] = {0};
        const ort_json root = ort_json_root(docs[i]), b = ort_json_get(root, "b");
        assert_int_equal(ort_json_floats(ort_json_get(root, "a"), v, 4), ORT_OK);
        assert_true(v[0] == 0.25f && v[1] == -1.5f && v[2] == 3.0f);
        assert_int_equal(ort_json_floats(ort_json_get(root, "a"), v, 2), ORT_EINVAL);
        assert_false(ort_json_is_numbers(ort_json_get(root, "x")));
        assert_int_equal(ort_json_count(ort_json_get(root, "x")), 3);
        assert_int_equal(ort_json_count(b), 4);
        ort_json_iter it = ort_json_each(b);
        assert_true(ort_json_step(&it) && ort_json_floats(it.value, v, 0) == ORT_OK);
        assert_true(ort_json_step(&it) && ort_json_floats(it.value, v, 4) == ORT_OK);
        assert_true(v[0] == 7.125f);
        assert_true(ort_json_step(&it) && ort_json_floats(it.value, v, 4) == ORT_EINVAL);
        assert_true(ort_json_step(&it) && ort_json_floats(it.value, v, 4) == ORT_OK);
        assert_true(v[0] == 4.0f && v[1] == 5.0f);
        it = ort_json_each(ort_json_get(root, "n"));
        uint64_t n = 0;
        assert_true(ort_json_step(&it) && ort_json_u64(it.value, &n) == ORT_OK);
        assert_true(n == UINT64_C(12345678901234567890));
    }
    ort_json_free(docs[0]);
    ort_json_free(docs[1]);
}

static void
doubles_go_out_and_in_exactly(void **state)
{
    (void)state;
    for (int i = 0; i < 50000; i++) {
        double v, back;
        uint64_t bits = next_random();
        memcpy(&v, &bits, sizeof v);
        if (i % 2 == 0) {
            v = (double)(int64_t)(next_random() % 2000000) / 1000.0;
        }
        if (!isfinite(v)) {
            continue;
        }
        char text[ORT_NUM_TEXT_BYTES];
        const size_t len = ort_num_put_f64(text, v);
        assert_true(strtod(text, NULL) == v);
        assert_int_equal(ort_num_f64(text, len, &back), ORT_OK);
        assert_true(back == v);
    }
    char long_number[400] = "0.";
    memset(long_number + 2, '3', 390);
    double d;
    float f;
    assert_int_equal(ort_num_f64(long_number, 392, &d), ORT_OK);
    assert_true(d == strtod(long_number, NULL));
    assert_int_equal(ort_num_f32(long_number, 392, &f), ORT_OK);
    assert_true(f == strtof(long_number, NULL));
    assert_int_equal(ort_num_f64("1e999", 5, &d), ORT_EINVAL);
    assert_int_equal(ort_num_f32("1e39", 4, &f), ORT_EINVAL);
    assert_int_equal(ort_num_f32("0e99999999999", 13, &f), ORT_OK);
    assert_true(f == 0);
}

static void
integers_are_exact_or_refused(void **state)
{
    (void)state;
    uint64_t u;
    int64_t i;
    assert_int_equal(ort_num_u64("18446744073709551615", 20, &u), ORT_OK);
    assert_int_equal(ort_num_u64("18446744073709551616", 20, &u), ORT_EINVAL);
    assert_int_equal(ort_num_u64("-1", 2, &u), ORT_EINVAL);
    assert_int_equal(ort_num_u64("1.0", 3, &u), ORT_EINVAL);
    assert_int_equal(ort_num_u64("1e3", 3, &u), ORT_EINVAL);
    assert_int_equal(ort_num_i64("-9223372036854775808", 20, &i), ORT_OK);
    assert_true(i == INT64_MIN);
    assert_int_equal(ort_num_i64("-9223372036854775809", 20, &i), ORT_EINVAL);
    assert_int_equal(ort_num_i64("9223372036854775808", 19, &i), ORT_EINVAL);
}

static void
writer_escapes_what_json_forbids(void **state)
{
    (void)state;
    ort_buf out = {0};
    ort_jw w = {.buf = &out};
    ort_jw_object(&w);
    ort_jw_key(&w, "k\"");
    ort_jw_str_n(&w, "a\0\x1f\n\\", 5);
    ort_jw_key(&w, "v");
    ort_jw_floats(&w, (float[]){0.15f, NAN}, 2);
    ort_jw_key(&w, "u");
    ort_jw_u64(&w, UINT64_MAX);
    ort_jw_object_end(&w);
    assert_string_equal(ort_buf_peek_cstr(&out),
                        "{\"k\\\"\":\"a\\u0000\\u001f\\n\\\\\",\"v\":[0.15,null],"
                        "\"u\":18446744073709551615}");
    ort_buf_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_as_written),
        cmocka_unit_test(agrees_with_jansson_on_what_is_json),
        cmocka_unit_test(every_prefix_of_a_document_is_refused),
        cmocka_unit_test(depth_and_size_are_bounded),
        cmocka_unit_test(floats_go_out_and_in_exactly),
        cmocka_unit_test(numbers_read_in_eights_are_those_read_one_by_one),
        cmocka_unit_test(arrays_read_by_commas_are_those_read_one_by_one),
        cmocka_unit_test(a_wrong_number_in_an_array_is_found),
        cmocka_unit_test(floats_kept_are_the_floats_read),
        cmocka_unit_test(doubles_go_out_and_in_exactly),
        cmocka_unit_test(integers_are_exact_or_refused),
        cmocka_unit_test(writer_escapes_what_json_forbids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
