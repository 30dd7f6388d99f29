/* Inverted lists against adding everything up: the same hits, scores and order, whatever was
 * skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "collection/sparse_internal.h"

#define SLOTS 20000u
#define TERMS 300u
#define ENTRIES_MAX 24u

typedef struct {
    uint32_t count;
    uint32_t indices[ENTRIES_MAX];
    float values[ENTRIES_MAX];
} row;

static row rows[SLOTS];
static _Atomic(uint64_t) live[SLOTS / 64 + 1], allowed[SLOTS / 64 + 1];
static uint64_t seed = 88172645463325252u;

static uint32_t
next_random(uint32_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 33) % below;
}

/* Few indices are common, most are rare; some values are negative, many are equal. */
static void
make_row(row *r)
{
    const uint32_t wanted = next_random(ENTRIES_MAX + 1);

    r->count = 0;
    for (uint32_t i = 0; i < TERMS && r->count < wanted; i += 1 + next_random(2 + i / 4)) {
        r->indices[r->count] = i * 7919u;
        r->values[r->count++] = (float)((int)next_random(40) - 4) / 8.0f;
    }
}

static ort_buf
stored(const row *r)
{
    ort_buf buf = {0};

    for (uint32_t i = 0; i < r->count; i++) {
        ort_buf_put_u32(&buf, r->indices[i]);
    }
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t bits;
        memcpy(&bits, &r->values[i], sizeof bits);
        ort_buf_put_u32(&buf, bits);
    }
    ort_buf_putc(&buf, '\0'); /* never NULL */
    return buf;
}

/* What the lists must answer: each slot's sum in the order of the query's indices. */
static size_t
add_up(const dp_vector *query, const dp_slot_filter *filter, uint32_t k, dp_hit *hits)
{
    static dp_hit all[SLOTS];
    size_t n = 0;

    for (uint32_t s = 0; s < SLOTS; s++) {
        float score = 0;
        bool met = false;
        for (uint32_t q = 0; q < query->count; q++) {
            for (uint32_t i = 0; i < rows[s].count; i++) {
                if (rows[s].indices[i] == query->indices[q]) {
                    const float more = query->values[q] * rows[s].values[i];
                    score = met ? score + more : more;
                    met = true;
                }
            }
        }
        if (met && dp_slot_filter_passes(filter, s)) {
            all[n++] = (dp_hit){.slot = s, .distance = -score};
        }
    }
    qsort(all, n, sizeof all[0], dp_hit_compare);
    n = n < k ? n : k;
    memcpy(hits, all, n * sizeof *hits);
    return n;
}

static void
set_bit(_Atomic(uint64_t) *words, uint32_t slot, bool on)
{
    const uint64_t bit = UINT64_C(1) << (slot % 64);

    words[slot / 64] = on ? words[slot / 64] | bit : words[slot / 64] & ~bit;
}

static void
compare(const dp_sparse *sparse, bool filtered)
{
    static dp_hit ours[SLOTS], theirs[SLOTS];
    uint32_t indices[20];
    float values[20];
    size_t n = 0;

    for (int round = 0; round < 60; round++) {
        const uint32_t ks[] = {1, 3, 10, 100, SLOTS};
        const uint32_t k = ks[next_random(5)];
        dp_vector query = {
            .kind = DP_VECTOR_SPARSE, .indices = indices, .values = values, .rows = 1};
        for (uint32_t i = next_random(4); i < TERMS + 5 && query.count < 20;
             i += 1 + next_random(60)) {
            indices[query.count] = i * 7919u;
            values[query.count++] =
                (float)((int)next_random(20) - (round % 3 == 0 ? 10 : 0)) / 4.0f;
        }
        const dp_slot_filter filter = {
            .live = {live, SLOTS},
            .allowed = {filtered ? allowed : NULL, SLOTS},
        };
        uint64_t read = 0;
        assert_int_equal(
            dp_sparse__search(sparse, &query, NULL, SLOTS, &filter, k, ours, &n, &read), ORT_OK);
        const size_t wanted = add_up(&query, &filter, k, theirs);
        assert_int_equal(n, wanted);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ours[i].slot, theirs[i].slot);
            assert_true(ours[i].distance == theirs[i].distance);
        }
    }
}

static void
lists_answer_what_adding_up_does(void **state)
{
    dp_sparse *sparse;

    (void)state;
    assert_int_equal(dp_sparse__new(&sparse), ORT_OK);
    for (uint32_t s = 0; s < SLOTS; s++) {
        make_row(&rows[s]);
        ort_buf buf = stored(&rows[s]);
        assert_int_equal(dp_sparse__add(sparse, s, buf.data, rows[s].count), ORT_OK);
        ort_buf_fini(&buf);
        set_bit(live, s, true);
        set_bit(allowed, s, next_random(5) == 0);
    }
    compare(sparse, false);
    compare(sparse, true);
    /* Two thirds die, a stretch of them whole: lists are swept, bounds stay bounds. */
    const dp_slot_set live_set = {live, SLOTS};
    for (uint32_t s = 0; s < SLOTS; s++) {
        if (next_random(3) != 0 || (s > 5000 && s < 9000)) {
            set_bit(live, s, false);
            ort_buf buf = stored(&rows[s]);
            dp_sparse__remove(sparse, &live_set, buf.data, rows[s].count);
            ort_buf_fini(&buf);
        }
    }
    compare(sparse, false);
    compare(sparse, true);
    dp_sparse__free(sparse);
}

/* Where few slots score high, most entries are never read. */
static void
windows_that_cannot_win_are_not_read(void **state)
{
    dp_sparse *sparse;
    dp_hit hits[10];
    size_t n = 0;
    uint64_t read = 0;
    const uint32_t index = 5;
    const float weight = 1;
    const dp_vector query = {
        .kind = DP_VECTOR_SPARSE, .indices = &index, .values = &weight, .count = 1, .rows = 1};

    (void)state;
    assert_int_equal(dp_sparse__new(&sparse), ORT_OK);
    for (uint32_t s = 0; s < 100000; s++) {
        const row r = {.count = 1, .indices = {5}, .values = {s == 77777 ? 9.0f : 0.5f}};
        ort_buf buf = stored(&r);
        assert_int_equal(dp_sparse__add(sparse, s, buf.data, 1), ORT_OK);
        ort_buf_fini(&buf);
    }
    const dp_slot_filter none = {0};
    assert_int_equal(dp_sparse__search(sparse, &query, NULL, 100000, &none, 1, hits, &n, &read),
                     ORT_OK);
    assert_int_equal(n, 1);
    assert_int_equal(hits[0].slot, 77777);
    assert_true(read <= 1024);
    dp_sparse__free(sparse);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_answer_what_adding_up_does),
        cmocka_unit_test(windows_that_cannot_win_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
