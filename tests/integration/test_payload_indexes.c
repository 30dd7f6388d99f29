/* Payload indexes of a collection: built beside writes, kept by them, on disk and back; and always
 * the same answers as without. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/thread.h"
#include "collection_support.h"

static const char schema[] = "{\"vectors\":{\"size\":4,\"distance\":\"Euclid\"},"
                             "\"optimizers_config\":{\"indexing_threshold\":1}}";

/* Whether a test in which one thread asks is left out: the thread sanitizer takes minutes for it,
 * and what it looks for is where several ask at once, in the last one. */
#ifdef ORT_TSAN
enum { SKIPS_SERIAL = 1 };
#else
enum { SKIPS_SERIAL = 0 };
#endif

static uint64_t seed_ = 5;

static uint32_t
draw(uint32_t below)
{
    seed_ = seed_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed_ >> 33) % below;
}

/* Declares an index (spec NULL: takes it away), as the tenant's catalog would. */
static void
declare(fixture *f, const char *field, const char *spec)
{
    ort_json_doc *doc = NULL;
    dp_schema *fresh, *old = dp_collection_schema(f->c);
    ort_json v = {0};
    if (spec != NULL) {
        assert_int_equal(ort_json_parse(&doc, spec, strlen(spec), (ort_json_limits){0}, NULL), 0);
        v = ort_json_root(doc);
    }
    assert_int_equal(dp_schema_set_field(&fresh, old, field, strlen(field), v, NULL), ORT_OK);
    dp_collection_set_schema(f->c, fresh);
    dp_schema_unref(old);
    dp_schema_unref(f->schema);
    f->schema = fresh;
    ort_json_free(doc);
}

static void
declare_all(fixture *f)
{
    declare(f, "k", "\"keyword\"");
    declare(f, "n", "{\"type\":\"integer\",\"lookup\":true,\"range\":true}");
    declare(f, "x", "\"float\"");
    declare(f, "s", "{\"type\":\"text\",\"tokenizer\":\"word\"}");
    declare(f, "d", "\"datetime\"");
    declare(f, "b", "\"bool\"");
}

static void
wait_built(fixture *f)
{
    assert_int_equal(dp_collection_wait_indexed(f->c, ort_mono_ns() + UINT64_C(240000000000)),
                     ORT_OK);
}

static void
put_points(fixture *f, uint32_t first, uint32_t count)
{
    ort_buf text = {0};
    ort_buf_puts(&text, "{\"points\":[");
    for (uint32_t i = 0; i < count; i++) {
        ort_buf_printf(&text,
                       "%s{\"id\":%u,\"vector\":[%u,%u,%u,1],\"payload\":{\"k\":\"v%u\",\"n\":%u,"
                       "\"x\":%u.5,\"s\":\"word%u and word%u\",\"d\":\"2024-01-%02uT00:00:00Z\","
                       "\"b\":%s}}",
                       i > 0 ? "," : "", first + i, draw(50), draw(50), draw(50), draw(9),
                       draw(500), draw(40), draw(30), draw(30), 1 + draw(28),
                       draw(2) == 0 ? "true" : "false");
    }
    ort_buf_puts(&text, "]}");
    do_op(f, DP_OP_UPSERT, "%s", ort_buf_peek_cstr(&text));
    ort_buf_fini(&text);
}

static const char *const filters[] = {
    "{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"v3\"}}]}",
    "{\"must\":[{\"key\":\"k\",\"match\":{\"except\":[\"v1\",\"v2\"]}},{\"key\":\"b\",\"match\":"
    "{\"value\":true}}]}",
    "{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":100,\"lt\":110}}]}",
    "{\"must\":[{\"key\":\"n\",\"match\":{\"any\":[7,8,9]}}]}",
    "{\"should\":[{\"key\":\"x\",\"range\":{\"lt\":4}},{\"key\":\"d\",\"range\":{\"gt\":"
    "\"2024-01-27\"}}]}",
    "{\"must_not\":[{\"key\":\"k\",\"match\":{\"value\":\"v3\"}},{\"is_empty\":{\"key\":\"n\"}}]}",
    "{\"must\":[{\"key\":\"zz\",\"match\":{\"value\":1}}]}",
    "{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"v4\"}},{\"slice\":{\"total\":3,\"index\":1}}]"
    "}",
};
#define FILTERS (sizeof filters / sizeof *filters)

/* What scroll and search say, beside what count says. */
static void
take_answers(fixture *f, uint64_t counts[FILTERS], ort_point_id first[FILTERS])
{
    const float query[4] = {25, 25, 25, 1};
    for (size_t i = 0; i < FILTERS; i++) {
        answer *a = calloc(1, sizeof *a);
        dp_filter *filter = make_filter(filters[i]);
        bool more;
        ort_point_id next;
        counts[i] = count_where(f, filters[i]);
        assert_int_equal(dp_collection_scroll(f->c, filter, NULL, ANSWER_MAX - 1, false, collect, a,
                                              &more, &next, NULL),
                         ORT_OK);
        assert_true(more ? counts[i] > a->count : counts[i] == a->count);
        first[i] = a->count > 0 ? a->at[0].id : ort_point_id_of(0);
        for (size_t j = 1; j < a->count; j++) {
            assert_true(ort_point_id_cmp(a->at[j - 1].id, a->at[j].id) < 0);
        }
        free(a);
        a = calloc(1, sizeof *a);
        nearest(f, "", query, 4, 10, filters[i], true, a);
        assert_int_equal(a->count, counts[i] < 10 ? counts[i] : 10);
        free(a);
        dp_filter_free(filter);
    }
}

static void
assert_same_answers(fixture *f, const uint64_t counts[FILTERS], const ort_point_id first[FILTERS])
{
    uint64_t now[FILTERS];
    ort_point_id heads[FILTERS];
    take_answers(f, now, heads);
    for (size_t i = 0; i < FILTERS; i++) {
        if (now[i] != counts[i] || !ort_point_id_eq(heads[i], first[i])) {
            fail_msg("%s: %llu points, %llu before", filters[i], (unsigned long long)now[i],
                     (unsigned long long)counts[i]);
        }
    }
}

/* Replaces, deletes, and changes payloads by filter. */
static void
churn(fixture *f)
{
    put_points(f, 100, 300);
    do_op(f, DP_OP_DELETE, "{\"filter\":%s}", filters[2]);
    do_op(f, DP_OP_SET_PAYLOAD, "{\"payload\":{\"n\":8},\"filter\":%s}", filters[3]);
    do_op(f, DP_OP_DELETE_PAYLOAD, "{\"keys\":[\"x\"],\"filter\":%s}", filters[7]);
}

static void
answers_are_the_same_with_and_without(void **state)
{
    fixture with, without;
    uint64_t counts[FILTERS];
    ort_point_id first[FILTERS];
    (void)state;
    if (SKIPS_SERIAL) {
        skip();
    }
    fixture_init(&without, schema, 0);
    fixture_init(&with, schema, 1);
    for (uint32_t round = 0; round < 3; round++) {
        const uint64_t s = seed_;
        put_points(&without, round * 1500, 1500);
        churn(&without);
        seed_ = s;
        put_points(&with, round * 1500, 1500);
        if (round == 0) {
            declare_all(&with);
        }
        wait_built(&with);
        churn(&with);
        take_answers(&without, counts, first);
        assert_same_answers(&with, counts, first);
    }
    fixture_reopen(&with);
    assert_same_answers(&with, counts, first); /* not built: payloads are looked at */
    wait_built(&with);
    assert_same_answers(&with, counts, first);
    fixture_fini(&with);
    fixture_fini(&without);
}

/* A large collection keeps its indexes in files: read when it is opened again, thrown away when
 * they are damaged or of another declaration. */
static void
files_are_read_back_and_mistrusted(void **state)
{
    fixture f;
    uint64_t counts[FILTERS];
    ort_point_id first[FILTERS];
    char command[256];
    (void)state;
    if (SKIPS_SERIAL) {
        skip();
    }
    fixture_init(&f, schema, 1);
    for (uint32_t i = 0; i < 5; i++) {
        put_points(&f, i * 1000, 1000);
    }
    declare_all(&f);
    wait_built(&f);
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    churn(&f); /* behind the checkpoint: the files do not know */
    take_answers(&f, counts, first);
    fixture_reopen(&f);
    wait_built(&f);
    assert_same_answers(&f, counts, first);
    declare(&f, "k", "{\"type\":\"keyword\",\"is_tenant\":true}");
    wait_built(&f);
    assert_same_answers(&f, counts, first);
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    fixture_close(&f);
    snprintf(command, sizeof command,
             "for x in $(find %s -name '*.pidx'); do printf 'xx' | dd of=$x bs=1 seek=300 "
             "conv=notrunc status=none; done",
             f.path);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own words */
    fixture_open(&f);
    wait_built(&f);
    assert_same_answers(&f, counts, first);
    fixture_fini(&f);
}

/* What may befall files that can be made again, while the node is down. */
static const struct {
    const char *name, *command; /* in the directory of indexes */
} damages[] = {
    {"gone", "rm -f *.pidx"},
    {"one of them gone", "rm -f $(ls *.pidx | head -1)"},
    {"empty", "for x in *.pidx; do : >$x; done"},
    {"half there", "for x in *.pidx; do truncate -s $(($(stat -c %s $x) / 2)) $x; done"},
    {"a byte short", "for x in *.pidx; do truncate -s -1 $x; done"},
    {"a byte long", "for x in *.pidx; do printf x >>$x; done"},
    {"overwritten at the head",
     "for x in *.pidx; do printf xxxx | dd of=$x conv=notrunc status=none; done"},
    {"overwritten in the middle",
     "for x in *.pidx; do printf xxxx | dd of=$x bs=1 seek=$(($(stat -c %s $x) / 2)) conv=notrunc "
     "status=none; done"},
    {"each in the place of the next",
     "first=$(ls *.pidx | head -1); cp $first saved; last=$first; "
     "for x in $(ls *.pidx | tail -n +2); do cp $x $last; last=$x; done; mv saved $last"},
    {"links that lead nowhere", "for x in *.pidx; do rm $x; ln -s /nowhere $x; done"},
    {"of another moment", "cp old/*.pidx ."},
};

/* An index that is missing, damaged or another's is made again, and until it is, answers are the
 * same; afterwards it is whole, in step with writes, and saved. */
static void
missing_and_damaged_files_are_made_again(void **state)
{
    fixture f;
    uint64_t counts[FILTERS];
    ort_point_id first[FILTERS];
    char command[512];
    (void)state;
    if (SKIPS_SERIAL) {
        skip();
    }
    fixture_init(&f, schema, 1);
    for (uint32_t i = 0; i < 5; i++) {
        put_points(&f, i * 1000, 1000);
    }
    declare_all(&f);
    wait_built(&f);
    assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
    snprintf(command, sizeof command, "cd %s/index && mkdir old && cp *.pidx old/", f.path);
    assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own words */
    churn(&f);
    take_answers(&f, counts, first);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        assert_int_equal(dp_collection_checkpoint(f.c, NULL), ORT_OK);
        snprintf(command, sizeof command, "test $(ls %s/index/*.pidx | wc -l) -eq 6", f.path);
        assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
        fixture_close(&f);
        snprintf(command, sizeof command, "cd %s/index && { %s; }", f.path, damages[i].command);
        assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c) */
        fixture_open(&f);
        printf("%s\n", damages[i].name);
        assert_same_answers(&f, counts, first);
        do_op(&f, DP_OP_SET_PAYLOAD, "{\"payload\":{\"n\":%u},\"filter\":%s}", 8 + (uint32_t)i % 2,
              filters[0]);
        take_answers(&f, counts, first); /* from payloads, or from an index half made */
        wait_built(&f);
        assert_same_answers(&f, counts, first);
    }
    fixture_fini(&f);
}

/* What a text filter means is settled when the operation is taken, and a replay under another
 * schema does the same again. */
static void
a_replay_does_what_was_done(void **state)
{
    fixture f;
    (void)state;
    fixture_init(&f, schema, 1);
    do_op(&f, DP_OP_UPSERT,
          "{\"points\":[{\"id\":1,\"vector\":[1,2,3,4],\"payload\":{\"s\":\"Red Fish\"}},"
          "{\"id\":2,\"vector\":[1,2,3,4],\"payload\":{\"s\":\"redfish\"}}]}");
    do_op(&f, DP_OP_SET_PAYLOAD,
          "{\"payload\":{\"a\":1},\"filter\":{\"must\":[{\"key\":\"s\",\"match\":{\"text\":"
          "\"red\"}}]}}"); /* the substring: 2 */
    declare(&f, "s", "\"text\"");
    do_op(&f, DP_OP_SET_PAYLOAD,
          "{\"payload\":{\"c\":1},\"filter\":{\"must\":[{\"key\":\"s\",\"match\":{\"text\":"
          "\"fish\"}}]}}"); /* the word: 1 */
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(
            count_where(&f,
                        "{\"must\":[{\"key\":\"a\",\"match\":{\"value\":1}},{\"has_id\":[2]}]}"),
            1);
        assert_int_equal(count_where(&f, "{\"must\":[{\"key\":\"a\",\"match\":{\"value\":1}}]}"),
                         1);
        assert_int_equal(
            count_where(&f,
                        "{\"must\":[{\"key\":\"c\",\"match\":{\"value\":1}},{\"has_id\":[1]}]}"),
            1);
        assert_int_equal(count_where(&f, "{\"must\":[{\"key\":\"c\",\"match\":{\"value\":1}}]}"),
                         1);
        if (i == 1) {
            declare(&f, "s", NULL);
        }
        fixture_reopen(&f);
    }
    fixture_fini(&f);
}

/* --- beside writers -----------------------------------------------------------------------------
 */

typedef struct {
    fixture *f;
    atomic_bool *stop;
    uint32_t number;
} worker;

/* Moves points between two values; each write changes a pair at once. */
static void *
write_pairs(void *arg)
{
    const worker *w = arg;
    for (uint32_t i = 0; i < 150; i++) {
        const uint32_t id = w->number * 32 + i % 16;
        do_op(w->f, DP_OP_UPSERT,
              "{\"points\":[{\"id\":%u,\"vector\":[1,2,3,%u],\"payload\":{\"k\":\"v%u\",\"n\":%u}},"
              "{\"id\":%u,\"vector\":[1,2,4,%u],\"payload\":{\"k\":\"v%u\",\"n\":%u}}]}",
              id, i % 7, i % 3, i % 3, id + 16, i % 7, i % 3, i % 3);
    }
    return NULL;
}

/* Points of a value come in pairs, by k and by n, whatever indexes there are at that moment. */
static void *
read_pairs(void *arg)
{
    const worker *w = arg;
    while (!atomic_load(w->stop)) {
        assert_int_equal(
            count_where(w->f, "{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"v1\"}}]}") % 2, 0);
        assert_int_equal(count_where(w->f,
                                     "{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"v1\"}}"
                                     "],\"must_not\":[{\"key\":\"n\",\"match\":{\"value\":1}}]"
                                     "}"),
                         0);
        const float query[4] = {1, 2, 3, 4};
        answer *a = calloc(1, sizeof *a);
        nearest(w->f, "", query, 4, 5, "{\"must\":[{\"key\":\"n\",\"range\":{\"gte\":1}}]}", false,
                a);
        free(a);
    }
    return NULL;
}

static void *
declare_often(void *arg)
{
    const worker *w = arg;
    for (uint32_t i = 0; i < 12; i++) {
        declare(w->f, "k",
                i % 4 == 3   ? NULL
                : i % 2 == 0 ? "\"keyword\""
                             : "{\"type\":\"keyword\","
                               "\"is_tenant\":true}");
        declare(w->f, "n", i % 3 == 2 ? NULL : "\"integer\"");
        const ort_err waited = dp_collection_wait_indexed(w->f->c, ort_mono_ns() + 20000000);
        assert_true(waited == ORT_OK || waited == ORT_ETIMEOUT);
        if (i % 4 == 0) {
            assert_int_equal(dp_collection_checkpoint(w->f->c, NULL), ORT_OK);
        }
    }
    return NULL;
}

static void
reads_are_right_while_indexes_come_and_go(void **state)
{
    fixture f;
    atomic_bool stop = false;
    pthread_t threads[5];
    worker workers[5];
    (void)state;
    fixture_init(&f, schema, 1);
    for (uint32_t i = 0; i < 5; i++) {
        workers[i] = (worker){.f = &f, .stop = &stop, .number = i};
        void *(*fn)(void *) = i < 2 ? write_pairs : i < 4 ? read_pairs : declare_often;
        assert_int_equal(ort_thread_start(&threads[i], "worker", fn, &workers[i], NULL), ORT_OK);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pthread_join(threads[4], NULL);
    atomic_store(&stop, true);
    pthread_join(threads[2], NULL);
    pthread_join(threads[3], NULL);
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_does_what_was_done),
        cmocka_unit_test(answers_are_the_same_with_and_without),
        cmocka_unit_test(files_are_read_back_and_mistrusted),
        cmocka_unit_test(missing_and_damaged_files_are_made_again),
        cmocka_unit_test(reads_are_right_while_indexes_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
