/* Text into sparse vectors: the same words and numbers as Qdrant's own model, so that vectors of
 * clients and of servers meet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "collection/bm25.h"

static dp_vector
read(const char *body, bool query)
{
    ort_json_doc *doc;
    dp_vector v;
    ort_diag diag = {0};

    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, NULL), ORT_OK);
    if (dp_bm25_read(&v, ort_json_root(doc), query, &diag) != ORT_OK) {
        fail_msg("%s: %s", body, diag.text);
    }
    ort_json_free(doc);
    return v;
}

static void
refused(ort_err err, const char *part, const char *body)
{
    ort_json_doc *doc;
    dp_vector v;
    ort_diag diag = {0};

    assert_int_equal(ort_json_parse(&doc, body, strlen(body), (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_bm25_read(&v, ort_json_root(doc), false, &diag), err);
    if (strstr(diag.text, part) == NULL) {
        fail_msg("%s: %s", body, diag.text);
    }
    assert_null(v.values);
    ort_json_free(doc);
}

/* The hash's published values: murmur3_x86_32 of "hello" is 0x248bfa47, of "test" 0xba6bd213. */
static void
words_have_the_indices_that_clients_give_them(void **state)
{
    (void)state;
    dp_vector v = read("{\"text\":\"hello test\",\"model\":\"Qdrant/BM25\","
                       "\"options\":{\"language\":\"none\"}}",
                       true);
    assert_int_equal(v.kind, DP_VECTOR_SPARSE);
    assert_int_equal(v.count, 2);
    assert_int_equal(v.indices[0], 0x248bfa47u);
    assert_int_equal(v.indices[1], 0 - 0xba6bd213u);
    assert_true(v.values[0] == 1.0f && v.values[1] == 1.0f);
    dp_vector_fini(&v);
}

static void
documents_are_weighed(void **state)
{
    (void)state;
    /* "the" is a stopword; cats, cat and CAT are one word, three times of four. */
    dp_vector v = read("{\"text\":\"The cats, cat CAT purring\",\"model\":\"qdrant/bm25\"}", false);
    const double norm = 1.2 * (1 - 0.75 + 0.75 * 4 / 256);
    assert_int_equal(v.count, 2);
    const float three = (float)(3 * 2.2 / (3 + norm)), one = (float)(2.2 / (1 + norm));
    assert_true(fabsf(fmaxf(v.values[0], v.values[1]) - three) < 1e-6f);
    assert_true(fabsf(fminf(v.values[0], v.values[1]) - one) < 1e-6f);
    dp_vector_fini(&v);

    v = read("{\"text\":\"a b "
             "a\",\"model\":\"qdrant/bm25\",\"options\":{\"language\":\"none\",\"k\":2,\"b\":1,"
             "\"avg_len\":3}}",
             false);
    assert_int_equal(v.count, 2);
    assert_true(fabsf(v.values[0] + v.values[1] - (2.0f * 3 / (2 + 2) + 3.0f / (1 + 2))) < 1e-6f);
    dp_vector_fini(&v);

    /* A query of the same words names the same indices, once each. */
    v = read("{\"text\":\"cats purring cat\",\"model\":\"qdrant/bm25\"}", true);
    assert_int_equal(v.count, 2);
    assert_true(v.values[0] == 1.0f && v.values[1] == 1.0f);
    dp_vector_fini(&v);

    v = read("{\"text\":\"\",\"model\":\"qdrant/bm25\"}", false);
    assert_int_equal(v.count, 0);
    dp_vector_fini(&v);
}

static void
other_languages_have_their_own_stems(void **state)
{
    (void)state;
    dp_vector a =
        read("{\"text\":\"Katze\",\"model\":\"qdrant/bm25\",\"options\":{\"language\":\"german\"}}",
             true);
    dp_vector b = read(
        "{\"text\":\"Katzen\",\"model\":\"qdrant/bm25\",\"options\":{\"language\":\"german\"}}",
        true);
    assert_int_equal(a.count, 1);
    assert_int_equal(b.count, 1);
    assert_int_equal(a.indices[0], b.indices[0]);
    dp_vector_fini(&a);
    dp_vector_fini(&b);
}

static void
what_cannot_be_is_refused(void **state)
{
    (void)state;
    refused(ORT_EBADREQ, "openai/ada", "{\"text\":\"a\",\"model\":\"openai/ada\"}");
    refused(ORT_EFORMAT, "text", "{\"text\":7,\"model\":\"qdrant/bm25\"}");
    refused(ORT_EFORMAT, "options", "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":[]}");
    refused(ORT_EFORMAT, "options.k",
            "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":{\"k\":\"x\"}}");
    refused(ORT_EVALIDATE, "options.b",
            "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":{\"b\":2}}");
    refused(ORT_EVALIDATE, "options.avg_len",
            "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":{\"avg_len\":0}}");
    refused(ORT_EFORMAT, "",
            "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":{\"language\":\"klingon\"}}");
    refused(ORT_EFORMAT, "language",
            "{\"text\":\"a\",\"model\":\"qdrant/bm25\",\"options\":{\"language\":1}}");
}

/* More different words than a sparse vector may have entries. */
static void
endless_texts_are_refused(void **state)
{
    ort_buf body = {0};

    (void)state;
    ort_buf_puts(&body,
                 "{\"model\":\"qdrant/bm25\",\"options\":{\"language\":\"none\"},\"text\":\"");
    for (int i = 0; i < 70000; i++) {
        ort_buf_printf(&body, "w%d ", i);
    }
    ort_buf_puts(&body, "\"}");
    refused(ORT_EVALIDATE, "different words", ort_buf_peek_cstr(&body));
    ort_buf_fini(&body);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_have_the_indices_that_clients_give_them),
        cmocka_unit_test(documents_are_weighed),
        cmocka_unit_test(other_languages_have_their_own_stems),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(endless_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
