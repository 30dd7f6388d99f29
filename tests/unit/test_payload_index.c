/* Payload indexes: what an evaluation by sets says of a point is what matching says of it, for
 * random payloads, random filters of every kind of condition, and any choice of indexes; before and
 * after deaths, sweeps and a way over the disk. And their parts, each against a plain one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "filter/evaluate.h"
#include "filter/numbers.h"
#include "filter/words.h"

static uint64_t seed_;

static uint32_t
draw(uint32_t below)
{
    seed_ = seed_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed_ >> 33) % below;
}

/* --- random payloads and filters ----------------------------------------------------------------
 */

static const char *const paths[] = {"k", "n", "x",     "b",     "g",   "d",
                                    "u", "s", "a[].p", "a[].q", "o.v", "a[].r"};
static const char *const kinds[] = {"\"keyword\"", "\"integer\"",  "\"float\"",   "\"bool\"",
                                    "\"geo\"",     "\"datetime\"", "\"uuid\"",    "\"text\"",
                                    "\"keyword\"", "\"integer\"",  "\"keyword\"", "\"uuid\""};
#define PATHS (sizeof paths / sizeof *paths)

static const char *const texts[] = {
    "red",        "green fish", "Red Fish",        "a red-green sea",
    "naïve café", "",           "the fish is red", "fish fish",
    "我爱北京",   "Fishes RUN", "run, fish, run",  "der rote Fisch und das Meer"};
#define TEXTS (sizeof texts / sizeof *texts)

/* Of the text index on `s`: every tokenizer, with and without everything else. */
static const char *const text_params[] = {
    "\"phrase_matching\":true,\"ascii_folding\":true,\"stopwords\":\"english\"",
    "\"tokenizer\":\"whitespace\",\"phrase_matching\":true,\"lowercase\":false",
    "\"tokenizer\":\"prefix\",\"min_token_len\":2,\"max_token_len\":4",
    "\"tokenizer\":\"multilingual\",\"phrase_matching\":true",
    "\"stemmer\":{\"type\":\"snowball\",\"language\":\"english\"},\"phrase_matching\":true",
    "\"min_token_len\":3,\"max_token_len\":5,\"stopwords\":{\"languages\":[\"english\",\"german\"],"
    "\"custom\":[\"red\"]}",
    "\"tokenizer\":\"whitespace\",\"ascii_folding\":true,\"stemmer\":{\"type\":\"snowball\","
    "\"language\":\"german\"}",
    "\"tokenizer\":\"prefix\",\"phrase_matching\":true,\"ascii_folding\":true,\"stopwords\":"
    "\"german\"",
    "\"tokenizer\":\"multilingual\",\"lowercase\":false,\"min_token_len\":2,\"stopwords\":"
    "\"english\"",
};
#define TEXT_PARAMS (sizeof text_params / sizeof *text_params)
static size_t text_params_; /* which of them is declared */

/* Two UUIDs, one of them in all its forms. */
static const char *const uuids[] = {
    "550e8400-e29b-41d4-a716-446655440000",         "550E8400-E29B-41D4-A716-446655440000",
    "00000000-0000-0000-0000-000000000001",         "no uuid",
    "{550e8400-E29B-41d4-a716-446655440000}",       "550e8400e29b41d4a716446655440000",
    "urn:uuid:550e8400-e29b-41d4-a716-446655440000"};
#define UUIDS (sizeof uuids / sizeof *uuids)

static void
put_scalar(ort_buf *out, size_t kind)
{
    static const char *const strange[] = {"null", "{}",  "{\"z\":1}", "\"red\"",
                                          "1",    "1.5", "true",      "18446744073709551615"};
    if (draw(12) == 0) {
        ort_buf_puts(out, strange[draw(8)]);
        return;
    }
    switch (kind) {
    case 0:
    case 8:
    case 10:
        ort_buf_printf(out, "\"%c%u\"", 'a' + (char)draw(2), draw(draw(2) == 0 ? 3 : 40));
        break;
    case 1:
    case 9:
        ort_buf_printf(out, "%d", (int)draw(draw(2) == 0 ? 5 : 2000) - 100);
        break;
    case 2:
        ort_buf_printf(out, draw(3) == 0 ? "%d" : "%d.25", (int)draw(200) - 100);
        break;
    case 3:
        ort_buf_puts(out, draw(2) == 0 ? "true" : "false");
        break;
    case 4:
        ort_buf_printf(out, "{\"lon\":%d.%u,\"lat\":%d.%u}", (int)draw(390) - 195, draw(1000),
                       (int)draw(190) - 95, draw(1000));
        break;
    case 5:
        ort_buf_printf(out, "\"202%u-0%u-1%uT0%u:00:00%s\"", draw(4), 1 + draw(9), draw(9), draw(9),
                       draw(2) == 0 ? "Z" : "+01:00");
        break;
    case 6:
    case 11:
        ort_buf_printf(out, "\"%s\"", uuids[draw(UUIDS)]);
        break;
    default:
        ort_buf_printf(out, "\"%s\"", texts[draw(TEXTS)]);
        break;
    }
}

static void
put_value(ort_buf *out, size_t kind)
{
    if (draw(4) != 0) {
        put_scalar(out, kind);
        return;
    }
    ort_buf_putc(out, '[');
    for (uint32_t i = 0, n = draw(4); i < n; i++) {
        ort_buf_puts(out, i > 0 ? "," : "");
        put_scalar(out, kind);
    }
    ort_buf_putc(out, ']');
}

static char *
random_payload(void)
{
    ort_buf out = {0};
    ort_buf_putc(&out, '{');
    bool first = true;
    for (size_t i = 0; i < 8; i++) {
        if (draw(5) == 0) {
            continue;
        }
        ort_buf_printf(&out, "%s\"%s\":", first ? "" : ",", paths[i]);
        put_value(&out, i);
        first = false;
    }
    ort_buf_puts(&out, first ? "\"a\":[" : ",\"a\":[");
    for (uint32_t i = 0, n = draw(4); i < n; i++) {
        ort_buf_puts(&out, i > 0 ? ",{\"p\":" : "{\"p\":");
        put_value(&out, 8);
        ort_buf_puts(&out, ",\"q\":");
        put_value(&out, 9);
        ort_buf_puts(&out, ",\"r\":");
        put_value(&out, 11);
        ort_buf_putc(&out, '}');
    }
    ort_buf_puts(&out, "],\"o\":{\"v\":");
    put_value(&out, 10);
    ort_buf_puts(&out, "}}");
    assert_int_equal(ort_buf_check(&out), ORT_OK);
    ort_buf_putc(&out, '\0');
    return out.data;
}

static void
put_match(ort_buf *out, size_t kind)
{
    static const char *const ways[] = {"text", "text_any", "phrase", "prefix"};
    static const char *const values[] = {
        "\"a1\"", "\"b2\"", "0", "1", "true", "\"red\"", "\"550e8400-e29b-41d4-a716-446655440000\"",
        "-3"};
    static const char *const parts[] = {"b", "fi", "RED", "cafe", "北京", "fisch run"};
    static const char *const lists[] = {"[\"a1\",\"b0\",\"a2\"]", "[1,2,-5]", "[]", "[\"red\"]"};
    if ((kind == 6 || kind == 11) && draw(4) != 0) {
        const char *one = uuids[draw(UUIDS)], *other = uuids[draw(UUIDS)];
        switch (draw(4)) {
        case 0:
            ort_buf_printf(out, "{\"any\":[\"%s\",\"%s\"]}", one, other);
            break;
        case 1:
            ort_buf_printf(out, "{\"except\":[\"%s\",\"%s\"]}", one, other);
            break;
        case 2:
            ort_buf_printf(out, "{\"prefix\":\"%.*s\"}", 1 + (int)draw(36), one);
            break;
        default:
            ort_buf_printf(out, "{\"value\":\"%s\"}", one);
            break;
        }
        return;
    }
    switch (draw(kind == 7 ? 8 : 5)) {
    case 0:
    case 1:
        ort_buf_printf(out, "{\"value\":%s}", values[draw(8)]);
        break;
    case 2:
        ort_buf_printf(out, "{\"any\":%s}", lists[draw(4)]);
        break;
    case 3:
        ort_buf_printf(out, "{\"except\":%s}", lists[draw(4)]);
        break;
    default:
        ort_buf_printf(out, "{\"%s\":\"%s\"}", ways[draw(4)],
                       draw(3) == 0 ? parts[draw(6)] : texts[draw(TEXTS)]);
        break;
    }
}

static void
put_geo(ort_buf *out)
{
    const int lon = (int)draw(300) - 150, lat = (int)draw(140) - 70;
    switch (draw(3)) {
    case 0:
        ort_buf_printf(out,
                       "\"geo_bounding_box\":{\"top_left\":{\"lon\":%d,\"lat\":%d},"
                       "\"bottom_right\":{\"lon\":%d,\"lat\":%d}}",
                       lon, lat + 15, draw(5) == 0 ? lon - 10 : lon + 25, lat - 15);
        break;
    case 1:
        ort_buf_printf(out, "\"geo_radius\":{\"center\":{\"lon\":%d,\"lat\":%d},\"radius\":%u000}",
                       lon, lat, draw(6000));
        break;
    default:
        ort_buf_printf(out,
                       "\"geo_polygon\":{\"exterior\":{\"points\":[{\"lon\":%d,\"lat\":%d},"
                       "{\"lon\":%d,\"lat\":%d},{\"lon\":%d,\"lat\":%d},{\"lon\":%d,\"lat\":%d}]},"
                       "\"interiors\":[{\"points\":[{\"lon\":%d,\"lat\":%d},{\"lon\":%d,\"lat\":%d}"
                       ",{\"lon\":%d,\"lat\":%d},{\"lon\":%d,\"lat\":%d}]}]}",
                       lon, lat, lon + 30, lat, lon + 10, lat + 20, lon, lat, lon + 5, lat + 2,
                       lon + 9, lat + 2, lon + 7, lat + 8, lon + 5, lat + 2);
        break;
    }
}

static void
put_check(ort_buf *out, size_t kind)
{
    static const char *const signs[] = {"lt", "gt", "lte", "gte"};
    switch (draw(10)) {
    case 0:
        ort_buf_printf(out, "\"values_count\":{\"%s\":%u}", signs[draw(4)], draw(4));
        break;
    case 1:
        ort_buf_printf(out, "\"is_empty\":%s", draw(2) == 0 ? "true" : "false");
        break;
    case 2:
        ort_buf_printf(out, "\"is_null\":%s", draw(2) == 0 ? "true" : "false");
        break;
    case 3:
        ort_buf_printf(out, "\"range\":{\"%s\":%d.5}", signs[draw(4)], (int)draw(50) - 20);
        break;
    case 4:
        ort_buf_printf(out, "\"range\":{\"gte\":%d,\"lt\":%d}", (int)draw(50) - 20, draw(100));
        break;
    case 5:
        ort_buf_printf(out, "\"range\":{\"%s\":\"202%u-0%u-11\"}", signs[draw(4)], draw(4),
                       1 + draw(9));
        break;
    case 6:
        put_geo(out);
        break;
    default:
        ort_buf_puts(out, "\"match\":");
        put_match(out, kind);
        break;
    }
}

static void put_filter(ort_buf *out, uint32_t depth);

static void
put_condition(ort_buf *out, uint32_t depth)
{
    const size_t path = draw(PATHS);
    switch (draw(depth > 2 ? 8 : 10)) {
    case 0:
        ort_buf_printf(out, "{\"is_%s\":{\"key\":\"%s\"}}", draw(2) == 0 ? "empty" : "null",
                       paths[path]);
        break;
    case 1:
        if (draw(3) == 0) {
            ort_buf_printf(out, "{\"slice\":{\"total\":3,\"index\":%u}}", draw(3));
        } else if (draw(2) == 0) {
            ort_buf_printf(out, "{\"has_vector\":\"%s\"}", draw(2) == 0 ? "all" : "odd");
        } else {
            ort_buf_printf(out, "{\"has_id\":[%u,%u,%u,99999]}", draw(100), draw(300), draw(300));
        }
        break;
    case 8:
        ort_buf_printf(out, "{\"nested\":{\"key\":\"a%s\",\"filter\":{\"must%s\":[{\"key\":\"p\",",
                       draw(2) == 0 ? "[]" : "", draw(4) == 0 ? "_not" : "");
        put_check(out, 8);
        if (draw(2) == 0) {
            ort_buf_puts(out, "},{\"key\":\"q\",");
            put_check(out, 9);
        } else {
            ort_buf_puts(out, "},{\"key\":\"r\",");
            put_check(out, 11);
        }
        ort_buf_puts(out, "}]}}}");
        break;
    case 9:
        put_filter(out, depth + 1);
        break;
    default:
        ort_buf_printf(out, "{\"key\":\"%s\",", paths[path]);
        put_check(out, path);
        ort_buf_putc(out, '}');
        break;
    }
}

static void
put_filter(ort_buf *out, uint32_t depth)
{
    static const char *const clauses[] = {"must", "should", "must_not"};
    bool first = true;
    ort_buf_putc(out, '{');
    for (size_t c = 0; c < 4; c++) {
        if (draw(3) != 0 && !(c == 0 && depth == 0)) {
            continue;
        }
        if (c == 3) {
            ort_buf_printf(out, "%s\"min_should\":{\"min_count\":%u,\"conditions\":[",
                           first ? "" : ",", draw(4));
        } else {
            ort_buf_printf(out, "%s\"%s\":[", first ? "" : ",", clauses[c]);
        }
        first = false;
        for (uint32_t i = 0, n = 1 + draw(3); i < n; i++) {
            ort_buf_puts(out, i > 0 ? "," : "");
            put_condition(out, depth);
        }
        ort_buf_puts(out, c == 3 ? "]}" : "]");
    }
    ort_buf_putc(out, '}');
}

/* --- a collection of points ---------------------------------------------------------------------
 */

#define POINTS 300u

typedef struct {
    char *payloads[POINTS];
    dp_slots *live;
    dp_fields *fields;
    dp_payload_index *indexes[PATHS];
    size_t count;
} world;

/* Declares an index for some of the paths. */
static dp_fields *
declare(uint32_t chosen)
{
    ort_buf text = {0};
    ort_json_doc *doc;
    dp_fields *fields;
    ort_buf_putc(&text, '{');
    for (size_t i = 0; i < PATHS; i++) {
        if ((chosen >> i & 1) != 0) {
            ort_buf_printf(&text, "%s\"%s\":{\"data_type\":%s", text.len > 1 ? "," : "", paths[i],
                           kinds[i]);
            if (i == 7) {
                ort_buf_printf(&text, ",\"params\":{\"type\":\"text\",%s}",
                               text_params[text_params_]);
            }
            ort_buf_putc(&text, '}');
        }
    }
    ort_buf_putc(&text, '}');
    assert_int_equal(ort_json_parse(&doc, text.data, text.len, (ort_json_limits){0}, NULL), ORT_OK);
    assert_int_equal(dp_fields_parse(&fields, ort_json_root(doc), NULL), ORT_OK);
    ort_json_free(doc);
    ort_buf_fini(&text);
    return fields;
}

static void
add_point(world *w, uint32_t slot)
{
    ort_json_doc *doc;
    assert_int_equal(ort_json_parse(&doc, w->payloads[slot], strlen(w->payloads[slot]),
                                    (ort_json_limits){0}, NULL),
                     ORT_OK);
    for (size_t i = 0; i < w->count; i++) {
        assert_int_equal(dp_payload_index_add(w->indexes[i], slot, ort_json_root(doc)), ORT_OK);
    }
    (void)dp_slots_add(w->live, slot);
    ort_json_free(doc);
}

static void
make_world(world *w, uint32_t chosen)
{
    *w = (world){.live = dp_slots_new(), .fields = declare(chosen)};
    w->count = dp_fields_count(w->fields);
    for (size_t i = 0; i < w->count; i++) {
        assert_int_equal(dp_payload_index_new(&w->indexes[i], w->fields, i), ORT_OK);
    }
    for (uint32_t slot = 0; slot < POINTS; slot++) {
        w->payloads[slot] = random_payload();
        add_point(w, slot);
    }
}

static void
end_world(world *w)
{
    for (size_t i = 0; i < w->count; i++) {
        dp_payload_index_free(w->indexes[i]);
    }
    for (uint32_t slot = 0; slot < POINTS; slot++) {
        free(w->payloads[slot]);
    }
    dp_fields_unref(w->fields);
    dp_slots_free(w->live);
}

/* The id of a point is its slot. */
static bool
find_slot(void *ctx, ort_point_id id, uint32_t *slot)
{
    const world *w = ctx;
    *slot = (uint32_t)id.lo;
    return id.lo < POINTS && dp_slots_has(w->live, *slot);
}

static int
vector_is_had(void *ctx, const char *name)
{
    (void)ctx;
    return strcmp(name, "all") == 0 ? 1 : -1;
}

static bool
has_vector(void *ctx, const char *name)
{
    return strcmp(name, "all") == 0 || *(const uint32_t *)ctx % 2 == 1;
}

static void
compare_filter(world *w, const char *text, size_t len)
{
    dp_filter *filter;
    dp_filter_texts *words;
    dp_verdict v;
    ort_diag diag;
    if (dp_filter_parse_text(&filter, text, len, &diag) != ORT_OK) {
        fail_msg("%.*s: %s", (int)len, text, diag.text);
    }
    assert_int_equal(dp_filter_bind(filter, w->fields, &words, &diag), ORT_OK);
    const dp_evaluation over = {.indexes = w->indexes,
                                .index_count = w->count,
                                .live = w->live,
                                .texts = words,
                                .find = find_slot,
                                .has_vector = vector_is_had,
                                .ctx = w};
    assert_int_equal(dp_filter_evaluate(filter, &over, &v), ORT_OK);
    uint64_t matches = 0;
    for (uint32_t slot = 0; slot < POINTS; slot++) {
        const dp_filter_point point = {.id = ort_point_id_of(slot),
                                       .payload = w->payloads[slot],
                                       .payload_len = strlen(w->payloads[slot]),
                                       .has_vector = has_vector,
                                       .ctx = &slot,
                                       .texts = words};
        const bool live = dp_slots_has(w->live, slot);
        const bool yes = live && dp_filter_match(filter, &point);
        const bool sure = dp_slots_has(v.sure, slot);
        const bool maybe = v.maybe != NULL && dp_slots_has(v.maybe, slot);
        matches += yes;
        if ((sure && !yes) || (yes && !sure && !maybe) || ((sure || maybe) && !live) ||
            (sure && maybe)) {
            fail_msg("slot %u %s: live %d matches %d sure %d maybe %d of %.*s", slot,
                     w->payloads[slot], live, yes, sure, maybe, (int)len, text);
        }
    }
    assert_true(v.min <= matches && matches <= v.max);
    assert_true(v.min <= v.expected && v.expected <= v.max);
    dp_verdict_fini(&v);
    dp_filter_texts_free(words);
    dp_filter_free(filter);
}

static void
compare_filters(world *w, uint32_t count)
{
    ort_buf text = {0};
    for (uint32_t i = 0; i < count; i++) {
        ort_buf_clear(&text);
        put_filter(&text, 0);
        compare_filter(w, text.data, text.len);
    }
    ort_buf_fini(&text);
}

/* A third dies; half of those are swept; some slots come back with other points. */
static void
age(world *w)
{
    dp_slots *dead = dp_slots_new();
    for (uint32_t i = 0; i < POINTS / 3; i++) {
        const uint32_t slot = draw(POINTS);
        dp_slots_remove(w->live, slot);
        if (draw(2) == 0) {
            (void)dp_slots_add(dead, slot);
        }
    }
    for (size_t i = 0; i < w->count; i++) {
        assert_int_equal(dp_payload_index_sweep(w->indexes[i], dead), ORT_OK);
    }
    for (uint32_t slot = 0; slot < POINTS; slot++) {
        if (dp_slots_has(dead, slot) && draw(2) == 0) {
            free(w->payloads[slot]);
            w->payloads[slot] = random_payload();
            add_point(w, slot);
        }
    }
    dp_slots_free(dead);
}

static void
evaluation_agrees_with_matching(void **state)
{
    const char *rounds = getenv("ORT_FILTER_ROUNDS");
    const uint32_t n = rounds != NULL ? (uint32_t)atoi(rounds) : 2 * TEXT_PARAMS;
    (void)state;
    for (uint32_t round = 0; round < n; round++) {
        world w;
        seed_ = 1000 + round;
        text_params_ = round % TEXT_PARAMS;
        make_world(&w, round < TEXT_PARAMS ? UINT32_MAX : draw(1u << PATHS));
        compare_filters(&w, 80);
        age(&w);
        compare_filters(&w, 40);
        end_world(&w);
    }
    text_params_ = 0;
}

/* With everything indexed and one value a field, most conditions are exact: else an index would be
 * right and of no use. */
static void
plain_conditions_are_exact(void **state)
{
    static const char *const exact[] = {"{\"key\":\"k\",\"match\":{\"value\":\"a1\"}}",
                                        "{\"key\":\"k\",\"match\":{\"except\":[\"a1\"]}}",
                                        "{\"key\":\"k\",\"match\":{\"prefix\":\"a\"}}",
                                        "{\"key\":\"n\",\"match\":{\"any\":[1,2]}}",
                                        "{\"key\":\"n\",\"range\":{\"gte\":3}}",
                                        "{\"key\":\"x\",\"range\":{\"lt\":3.5}}",
                                        "{\"key\":\"b\",\"match\":{\"value\":true}}",
                                        "{\"key\":\"d\",\"range\":{\"lt\":\"2022-01-01\"}}",
                                        "{\"key\":\"s\",\"match\":{\"text\":\"fish\"}}",
                                        "{\"is_empty\":{\"key\":\"k\"}}",
                                        "{\"key\":\"k\",\"values_count\":{\"gt\":0}}"};
    world w = {.live = dp_slots_new(), .fields = declare(UINT32_MAX)};
    (void)state;
    w.count = dp_fields_count(w.fields);
    for (size_t i = 0; i < w.count; i++) {
        assert_int_equal(dp_payload_index_new(&w.indexes[i], w.fields, i), ORT_OK);
    }
    for (uint32_t slot = 0; slot < POINTS; slot++) {
        ort_buf p = {0};
        ort_buf_printf(&p,
                       "{\"k\":\"a%u\",\"n\":%u,\"x\":%u.5,\"b\":%s,\"d\":\"202%u-01-01\","
                       "\"s\":\"fish %u\"}",
                       slot % 7, slot % 5, slot % 9, slot % 2 == 0 ? "true" : "false", slot % 4,
                       slot);
        ort_buf_putc(&p, '\0');
        w.payloads[slot] = p.data;
        add_point(&w, slot);
    }
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++) {
        char text[256];
        dp_filter *filter;
        dp_filter_texts *words;
        dp_verdict v;
        const int n = snprintf(text, sizeof text, "{\"must\":[%s]}", exact[i]);
        compare_filter(&w, text, (size_t)n);
        assert_int_equal(dp_filter_parse_text(&filter, text, (size_t)n, NULL), ORT_OK);
        assert_int_equal(dp_filter_bind(filter, w.fields, &words, NULL), ORT_OK);
        const dp_evaluation over = {
            .indexes = w.indexes, .index_count = w.count, .live = w.live, .texts = words};
        assert_int_equal(dp_filter_evaluate(filter, &over, &v), ORT_OK);
        if (v.maybe != NULL) {
            fail_msg("%s is left open for %llu", exact[i],
                     (unsigned long long)dp_slots_count(v.maybe));
        }
        dp_verdict_fini(&v);
        dp_filter_texts_free(words);
        dp_filter_free(filter);
    }
    end_world(&w);
}

/* --- parts --------------------------------------------------------------------------------------
 */

/* Few keys with very many slots, and many with one: blocks are parted in every way. */
static void
numbers_agree_with_a_list(void **state)
{
    enum { N = 30000 };
    int64_t *keys = malloc(N * sizeof *keys);
    dp_numbers *map = dp_numbers_new();
    dp_slots *dead = dp_slots_new();
    (void)state;
    seed_ = 7;
    for (uint32_t i = 0; i < N; i++) {
        keys[i] = draw(3) == 0 ? (int64_t)draw(4) * 1000 : (int64_t)draw(40000) - 20000;
        assert_int_equal(dp_numbers_add(map, keys[i], i), ORT_OK);
        assert_int_equal(dp_numbers_add(map, keys[i], i), ORT_OK); /* again: no change */
    }
    for (uint32_t round = 0; round < 2; round++) {
        uint64_t left = 0;
        for (uint32_t i = 0; i < N; i++) {
            left += !dp_slots_has(dead, i);
        }
        assert_int_equal(dp_numbers_count(map), left);
        for (uint32_t q = 0; q < 60; q++) {
            const int64_t from = (int64_t)draw(42000) - 21000;
            const int64_t to = q == 0 ? INT64_MAX : from + (int64_t)draw(9000) - 10;
            dp_slots *found;
            assert_int_equal(dp_numbers_range(map, from, to, &found), ORT_OK);
            uint64_t n = 0;
            for (uint32_t i = 0; i < N; i++) {
                const bool in = keys[i] >= from && keys[i] <= to && !dp_slots_has(dead, i);
                assert_int_equal(dp_slots_has(found, i), in);
                n += in;
            }
            assert_int_equal(dp_slots_count(found), n);
            assert_int_equal(dp_numbers_any(map, from, to), from <= to && n > 0);
            dp_slots_free(found);
        }
        for (uint32_t d = 0; d < 2; d++) { /* walks: in order, complete, from a start */
            dp_numbers_walk walk = dp_numbers_begin(map, d == 1, 1000);
            int64_t key, before = 1000;
            uint32_t slot;
            uint64_t n = 0, expected = 0;
            while (dp_numbers_next(&walk, &key, &slot) == ORT_OK) {
                assert_true(d == 1 ? key <= before : key >= before);
                assert_int_equal(keys[slot], key);
                before = key;
                n++;
            }
            dp_numbers_end(&walk);
            for (uint32_t i = 0; i < N; i++) {
                expected += !dp_slots_has(dead, i) && (d == 1 ? keys[i] <= 1000 : keys[i] >= 1000);
            }
            assert_int_equal(n, expected);
        }
        for (uint32_t i = 0; round == 0 && i < N; i++) {
            if (draw(10) != 0) {
                (void)dp_slots_add(dead, i);
            }
        }
        assert_int_equal(dp_numbers_sweep(map, dead), ORT_OK);
    }
    dp_slots_free(dead);
    dp_numbers_free(map);
    free(keys);
}

static void
words_agree_with_a_list(void **state)
{
    enum { N = 20000, WORDS = 3000 };
    uint32_t *of = malloc(N * sizeof *of);
    dp_words *map = dp_words_new();
    dp_slots *dead = dp_slots_new();
    (void)state;
    seed_ = 9;
    for (uint32_t i = 0; i < N; i++) {
        char word[16];
        of[i] = draw(2) == 0 ? draw(10) : draw(WORDS);
        const int n = snprintf(word, sizeof word, "w%u", of[i]);
        assert_int_equal(dp_words_add(map, word, (size_t)n, i), ORT_OK);
    }
    for (uint32_t round = 0; round < 2; round++) {
        const char *text, *last = "";
        size_t len, last_len = 0;
        const dp_posting *posting;
        uint64_t total = 0;
        dp_words_walk walk = dp_words_seek(map, "", 0);
        while (dp_words_next(&walk, &text, &len, &posting)) {
            const size_t n = len < last_len ? len : last_len;
            const int c = memcmp(last, text, n);
            assert_true(c < 0 || (c == 0 && last_len < len));
            last = text;
            last_len = len;
            total += posting->count;
            assert_ptr_equal(dp_words_find(map, text, len), posting);
        }
        uint64_t expected = 0, prefixed = 0;
        for (uint32_t i = 0; i < N; i++) {
            char word[16];
            snprintf(word, sizeof word, "w%u", of[i]);
            expected += !dp_slots_has(dead, i);
            prefixed += !dp_slots_has(dead, i) && strncmp(word, "w12", 3) == 0;
        }
        assert_int_equal(total, expected);
        dp_slots *set = dp_words_prefix(map, "w12", 3);
        assert_int_equal(dp_slots_count(set), prefixed);
        dp_slots_free(set);
        for (uint32_t i = 0; round == 0 && i < N; i++) {
            if (draw(8) != 0) {
                (void)dp_slots_add(dead, i);
            }
        }
        assert_int_equal(dp_words_sweep(map, dead), ORT_OK);
    }
    dp_slots_free(dead);
    dp_words_free(map);
    free(of);
}

/* A map is written while later slots go on coming into it: what is written is what stood there,
 * once each, however blocks were parted and words came in between. */
static void
maps_are_written_in_steps_beside_additions(void **state)
{
    enum { N = 20000, BELOW = N / 2, KEYS = 5000 };
    uint32_t *of = malloc(N * sizeof *of);
    dp_words *words = dp_words_new(), *words_back;
    dp_numbers *numbers = dp_numbers_new(), *numbers_back;
    ort_buf w = {0}, n = {0}, out = {0};
    uint64_t word_count = 0, block_count = 0;
    uint32_t added = 0;
    char word[16], after[16] = "";
    (void)state;
    seed_ = 13;
    const char *last = "";
    size_t last_len = 0;
    int64_t from = INT64_MIN;
    bool more = true;
    for (uint32_t step = 0; last != NULL || more; step++) {
        for (const uint32_t until = step == 0 ? BELOW : added + 40; added < until && added < N;
             added++) {
            of[added] = draw(3) == 0 ? draw(3) : draw(KEYS);
            const int len = snprintf(word, sizeof word, "w%u", of[added]);
            assert_int_equal(dp_words_add(words, word, (size_t)len, added), ORT_OK);
            assert_int_equal(dp_numbers_add(numbers, (int64_t)of[added] - 9, added), ORT_OK);
        }
        if (last != NULL) {
            dp_words_encode(words, BELOW, step > 0 ? after : NULL, step > 0 ? last_len : 0, 500, &w,
                            &word_count, &last, &last_len);
            memcpy(after, last != NULL ? last : "", last != NULL ? last_len : 0);
        }
        more = more && dp_numbers_encode(numbers, BELOW, &from, 500, &n, &block_count);
    }
    assert_true(added > BELOW + 1000);
    dp_leb_put(&out, word_count);
    ort_buf_put(&out, w.data, w.len);
    ort_cursor c = ort_cursor_of(out.data, out.len);
    assert_int_equal(dp_words_decode(&words_back, &c, BELOW), ORT_OK);
    assert_int_equal(ort_cursor_left(&c), 0);
    ort_buf_clear(&out);
    dp_leb_put(&out, block_count);
    ort_buf_put(&out, n.data, n.len);
    c = ort_cursor_of(out.data, out.len);
    assert_int_equal(dp_numbers_decode(&numbers_back, &c, BELOW), ORT_OK);
    assert_int_equal(ort_cursor_left(&c), 0);
    assert_int_equal(dp_numbers_count(numbers_back), BELOW);
    uint64_t total = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        dp_slots *at;
        const int len = snprintf(word, sizeof word, "w%u", key);
        dp_slots *set = dp_posting_set(dp_words_find(words_back, word, (size_t)len));
        assert_int_equal(dp_numbers_range(numbers_back, (int64_t)key - 9, (int64_t)key - 9, &at),
                         ORT_OK);
        assert_true(dp_slots_are_equal(set, at));
        total += dp_slots_count(set);
        dp_slots_free(set);
        dp_slots_free(at);
    }
    assert_int_equal(total, BELOW);
    dp_words_free(words);
    dp_words_free(words_back);
    dp_numbers_free(numbers);
    dp_numbers_free(numbers_back);
    ort_buf_fini(&w);
    ort_buf_fini(&n);
    ort_buf_fini(&out);
    free(of);
}

static ort_err
join_token(void *ctx, const char *token, size_t len)
{
    ort_buf *out = ctx;
    ort_buf_puts(out, out->len > 0 ? "|" : "");
    ort_buf_put(out, token, len);
    return ORT_OK;
}

/* The tokens of a text, joined by bars; the caller's. */
static char *
tokens_of(const char *params, const char *text, bool query)
{
    ort_json_doc *doc;
    dp_text_options options;
    dp_tokenizer *t;
    ort_diag diag;
    ort_buf out = {0};
    assert_int_equal(ort_json_parse(&doc, params, strlen(params), (ort_json_limits){0}, NULL),
                     ORT_OK);
    if (dp_text_options_parse(&options, ort_json_root(doc), &diag) != ORT_OK) {
        fail_msg("%s: %s", params, diag.text);
    }
    assert_int_equal(dp_tokenizer_new(&t, &options), ORT_OK);
    assert_int_equal(dp_tokenizer_run(t, text, strlen(text), query, join_token, &out), ORT_OK);
    ort_buf_putc(&out, '\0');
    assert_int_equal(ort_buf_check(&out), ORT_OK);
    dp_tokenizer_free(t);
    dp_text_options_fini(&options);
    ort_json_free(doc);
    return out.data;
}

static void
assert_tokens(const char *params, const char *text, bool query, const char *wanted)
{
    char *tokens = tokens_of(params, text, query);
    if (strcmp(tokens, wanted) != 0) {
        fail_msg("%s of \"%s\": %s, not %s", params, text, tokens, wanted);
    }
    free(tokens);
}

static void
text_becomes_tokens(void **state)
{
    static const struct {
        const char *params, *text, *tokens, *query;
    } rows[] = {
        {"{}", "Hello, World-wide web 3.0!", "hello|world|wide|web|3|0", NULL},
        {"{\"lowercase\":false}", "Hello World", "Hello|World", NULL},
        {"{\"tokenizer\":\"whitespace\"}", " Hello, World-wide\tweb ", "hello,|world-wide|web",
         NULL},
        {"{\"tokenizer\":\"prefix\",\"min_token_len\":2,\"max_token_len\":4}", "hello ab",
         "he|hel|hell|ab", "hell|ab"},
        {"{\"min_token_len\":3,\"max_token_len\":5}", "a ab abc abcdef", "abc", NULL},
        {"{\"ascii_folding\":true}", "Café Straße Łódź naïve Москва",
         "cafe|strasse|lodz|naive|"
         "москва",
         NULL},
        {"{\"stopwords\":\"english\"}", "the cat and The dog", "cat|dog", NULL},
        {"{\"stopwords\":{\"languages\":[\"german\"],\"custom\":[\"katze\"]}}",
         "der Hund und die Katze", "hund", NULL},
        {"{\"stemmer\":{\"type\":\"snowball\",\"language\":\"english\"}}", "running runs runner",
         "run|run|runner", NULL},
        {"{\"tokenizer\":\"multilingual\"}", "don't stop", "don't|stop", NULL},
        {"{}", "வீடுகள் हिन्दी, किताबें", "வீடுகள்|हिन्दी|किताबें", NULL}, /* vowels are marks */
        {"{}", "\xff\xfe bad \xc3 bytes", "bad|bytes", NULL},
        {"{}", "", "", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_tokens(rows[i].params, rows[i].text, false, rows[i].tokens);
        if (rows[i].query != NULL) {
            assert_tokens(rows[i].params, rows[i].text, true, rows[i].query);
        }
    }
    /* Chinese is parted by a dictionary: more words than one, no character lost. */
    char *tokens =
        tokens_of("{\"tokenizer\":\"multilingual\"}", "Hello, wide world 我爱北京", false);
    assert_non_null(strstr(tokens, "hello|wide|world|"));
    assert_non_null(strstr(tokens, "|北京"));
    free(tokens);
}

/* Each language that a request may name has a stemmer of its own: two forms of a word meet. */
static void
every_language_has_its_stems(void **state)
{
    static const char *const forms[][3] = {
        {"arabic", "كتاب", "الكتاب"},        {"armenian", "աշխարհը", "աշխարհների"},
        {"danish", "katten", "katte"},       {"dutch", "lichamelijk", "lichamelijke"},
        {"english", "running", "runs"},      {"finnish", "taloissa", "talossa"},
        {"french", "continuer", "continua"}, {"german", "katze", "katzen"},
        {"greek", "γάτα", "γάτες"},          {"hungarian", "házak", "házat"},
        {"italian", "gatto", "gatti"},       {"norwegian", "katten", "katter"},
        {"portuguese", "gato", "gatos"},     {"romanian", "casa", "casele"},
        {"russian", "кошка", "кошки"},       {"spanish", "gato", "gatos"},
        {"swedish", "flicka", "flickor"},    {"tamil", "வீடு", "வீடுகள்"},
        {"turkish", "kitap", "kitaplar"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char params[128];
        snprintf(params, sizeof params, "{\"stemmer\":{\"type\":\"snowball\",\"language\":\"%s\"}}",
                 forms[i][0]);
        char *plain = tokens_of("{}", forms[i][1], false);
        char *a = tokens_of(params, forms[i][1], false);
        char *b = tokens_of(params, forms[i][2], false);
        if (strcmp(a, b) != 0 || (strcmp(plain, a) == 0 && strcmp(forms[i][2], a) == 0)) {
            fail_msg("%s: %s and %s become %s and %s", forms[i][0], forms[i][1], forms[i][2], a, b);
        }
        free(plain);
        free(a);
        free(b);
    }
}

/* Each list drops its words, and no others; two lists together drop those of both. */
static void
every_list_of_stopwords_drops_its_words(void **state)
{
    static const char *const rows[][3] = {
        {"danish", "katten og hunden er ikke her", "katten|hunden"},
        {"dutch", "de kat en het huis", "kat|huis"},
        {"english", "The cat and the dog are not here", "cat|dog"},
        {"finnish", "kissa ja koira ovat", "kissa|koira"},
        {"french", "le chat et la maison", "chat|maison"},
        {"german", "der Hund und die Katze", "hund|katze"},
        {"italian", "il gatto e la casa", "gatto|casa"},
        {"norwegian", "katten og hunden er ikke", "katten|hunden"},
        {"portuguese", "o gato e a casa", "gato|casa"},
        {"russian", "кошка и собака не", "кошка|собака"},
        {"spanish", "el gato y la casa", "gato|casa"},
        {"swedish", "katten och hunden är", "katten|hunden"},
        {"arabic", "القط و الكلب", "القط|الكلب"},
        {"azerbaijani", "pişik və it", "pişik|it"},
        {"basque", "katua eta txakurra", "katua|txakurra"},
        {"bengali", "বিড়াল এবং কুকুর", "বিড়াল|কুকুর"},
        {"catalan", "el gat i la casa", "gat|casa"},
        {"greek", "ο σκύλος και η γάτα", "σκύλος|γάτα"},
        {"hinglish", "billi aur kutta", "billi|kutta"},
        {"hungarian", "a kutya és a macska", "kutya|macska"},
        {"indonesian", "kucing dan anjing", "kucing|anjing"},
        {"kazakh", "мысық және ит", "мысық|ит"},
        {"romanian", "pisica și câinele", "pisica|câinele"},
        {"slovene", "mačka in pes", "mačka|pes"},
        {"tajik", "гурба ва саг", "гурба|саг"},
        {"turkish", "kedi ve köpek", "kedi|köpek"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char params[128];
        snprintf(params, sizeof params, "{\"stopwords\":\"%s\"}", rows[i][0]);
        assert_tokens(params, rows[i][1], false, rows[i][2]);
        snprintf(params, sizeof params, "{\"stopwords\":{\"languages\":[\"%s\"]}}", rows[i][0]);
        assert_tokens(params, rows[i][1], false, rows[i][2]);
    }
    assert_tokens("{\"stopwords\":{\"languages\":[\"english\",\"german\"],\"custom\":[\"katze\"]}}",
                  "the Hund and die Katze", false, "hund");
}

/* --- what a text condition asks -------------------------------------------------------------- */

static bool
text_holds(const char *params, dp_text_mode mode, const char *asked, const char *const texts_of[2])
{
    ort_json_doc *doc;
    dp_text_options options;
    dp_text_query *query;
    assert_int_equal(ort_json_parse(&doc, params, strlen(params), (ort_json_limits){0}, NULL),
                     ORT_OK);
    assert_int_equal(dp_text_options_parse(&options, ort_json_root(doc), NULL), ORT_OK);
    assert_int_equal(dp_text_query_new(&query, &options, mode, asked, strlen(asked)), ORT_OK);
    dp_text_query_begin(query);
    for (size_t i = 0; i < 2 && texts_of[i] != NULL; i++) {
        assert_int_equal(dp_text_query_look(query, texts_of[i], strlen(texts_of[i])), ORT_OK);
    }
    const bool holds = dp_text_query_holds(query);
    dp_text_query_free(query);
    dp_text_options_fini(&options);
    ort_json_free(doc);
    return holds;
}

/* Words are looked for in all strings of a point together, a phrase in one of them; what the
 * tokenizer drops counts neither here nor there. */
static void
conditions_on_text_ask_for_words(void **state)
{
    static const struct {
        const char *params;
        dp_text_mode mode;
        const char *asked;
        const char *texts[2];
        bool holds;
    } rows[] = {
        {"{}", DP_TEXT_ALL, "fish red", {"Red Fish"}, true},
        {"{}", DP_TEXT_ALL, "fish red", {"red", "fish"}, true},
        {"{}", DP_TEXT_ALL, "fish red sea", {"red", "fish"}, false},
        {"{}", DP_TEXT_ALL, "fis", {"fish"}, false},
        {"{}", DP_TEXT_ALL, "", {"fish"}, false},
        {"{}", DP_TEXT_ANY, "sea fish", {"red", "fish"}, true},
        {"{}", DP_TEXT_ANY, "sea bird", {"red", "fish"}, false},
        {"{}", DP_TEXT_ANY, "...", {"..."}, false},
        {"{\"lowercase\":false}", DP_TEXT_ALL, "red", {"Red"}, false},
        {"{\"tokenizer\":\"prefix\"}", DP_TEXT_ALL, "fi re", {"red fish"}, true},
        {"{\"tokenizer\":\"prefix\"}", DP_TEXT_ALL, "ish", {"red fish"}, false},
        {"{\"tokenizer\":\"whitespace\"}", DP_TEXT_ALL, "sea", {"red-green sea."}, false},
        {"{\"tokenizer\":\"whitespace\"}", DP_TEXT_ALL, "red-green", {"red-green sea."}, true},
        {"{\"ascii_folding\":true}", DP_TEXT_ALL, "CAFE", {"café"}, true},
        {"{\"ascii_folding\":true}", DP_TEXT_ALL, "café", {"cafe"}, true},
        {"{\"min_token_len\":3}", DP_TEXT_ALL, "a big fish", {"fish so big"}, true},
        {"{\"stopwords\":\"english\"}", DP_TEXT_ALL, "the fish", {"fish"}, true},
        {"{\"stopwords\":\"english\"}", DP_TEXT_ALL, "the", {"the fish"}, false},
        {"{\"stemmer\":\"english\"}", DP_TEXT_ALL, "run fishes", {"running fish"}, true},
        {"{}", DP_TEXT_PHRASE, "red fish", {"a red fish swims"}, true},
        {"{}", DP_TEXT_PHRASE, "red fish", {"a red, fish"}, true},
        {"{}", DP_TEXT_PHRASE, "red fish", {"fish red"}, false},
        {"{}", DP_TEXT_PHRASE, "red fish", {"red big fish"}, false},
        {"{}", DP_TEXT_PHRASE, "red fish", {"red", "fish"}, false},
        {"{}", DP_TEXT_PHRASE, "red fish", {"fish", "red fish"}, true},
        {"{}", DP_TEXT_PHRASE, "red red fish", {"red red red fish"}, true},
        {"{}", DP_TEXT_PHRASE, "red fish red bird", {"red fish red fish red bird"}, true},
        {"{\"stopwords\":\"english\"}", DP_TEXT_PHRASE, "fish of the sea", {"fish, sea"}, true},
        {"{\"stemmer\":\"english\"}", DP_TEXT_PHRASE, "runs fast", {"running fast"}, true},
        {"{\"tokenizer\":\"multilingual\"}", DP_TEXT_PHRASE, "北京", {"我爱北京"}, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (text_holds(rows[i].params, rows[i].mode, rows[i].asked, rows[i].texts) !=
            rows[i].holds) {
            fail_msg("%s: \"%s\" of \"%s\" should be %d", rows[i].params, rows[i].asked,
                     rows[i].texts[0], rows[i].holds);
        }
    }
}

/* The record of an operation by filter keeps what its words mean, whatever is declared later. */
static void
a_record_keeps_its_text_indexes(void **state)
{
    static const char text[] = "{\"must\":[{\"key\":\"s\",\"match\":{\"text\":\"FISH the sea\"}}]}";
    static const char payload[] = "{\"s\":\"sea of fish\"}";
    dp_fields *fields = declare(UINT32_MAX);
    dp_filter *filter, *again;
    dp_filter_texts *words;
    ort_buf record = {0};
    (void)state;
    assert_int_equal(dp_filter_parse_text(&filter, text, strlen(text), NULL), ORT_OK);
    dp_filter_write_record(filter, fields, &record);
    assert_int_equal(dp_filter_parse_text(&again, record.data, record.len, NULL), ORT_OK);
    dp_filter_point point = {
        .id = ort_point_id_of(1), .payload = payload, .payload_len = strlen(payload)};
    assert_int_equal(dp_filter_bind(again, NULL, &words, NULL), ORT_OK);
    assert_non_null(words);
    point.texts = words;
    assert_true(dp_filter_match(again, &point));
    dp_filter_texts_free(words);
    assert_int_equal(dp_filter_bind(filter, NULL, &words, NULL), ORT_OK);
    assert_null(words);
    point.texts = NULL;
    assert_false(dp_filter_match(filter, &point));
    ort_buf_clear(&record); /* without a declaration: the text alone */
    dp_filter_write_record(filter, NULL, &record);
    assert_int_equal(record.len, strlen(text));
    ort_buf_fini(&record);
    dp_filter_free(again);
    dp_filter_free(filter);
    dp_fields_unref(fields);
}

static void
unindexed_conditions_are_named(void **state)
{
    static const struct {
        const char *filter, *key;
    } rows[] = {
        {"{\"must\":[{\"key\":\"k\",\"match\":{\"value\":\"a\"}}]}", NULL},
        {"{\"must\":[{\"key\":\"k\",\"match\":{\"value\":1}}]}", "k"},
        {"{\"must\":[{\"key\":\"zz\",\"match\":{\"value\":\"a\"}}]}", "zz"},
        {"{\"must\":[{\"key\":\"n\",\"range\":{\"gt\":1}}]}", NULL},
        {"{\"must\":[{\"key\":\"k\",\"range\":{\"gt\":1}}]}", "k"},
        {"{\"must\":[{\"key\":\"k\",\"match\":{\"prefix\":\"a\"}}]}", "k"},
        {"{\"should\":[{\"has_id\":[1]},{\"must_not\":[{\"is_empty\":{\"key\":\"yy\"}}]}]}", "yy"},
        {"{\"must\":[{\"nested\":{\"key\":\"a\",\"filter\":{\"must\":[{\"key\":\"p\",\"match\":"
         "{\"value\":\"x\"}}]}}}]}",
         NULL},
        {"{\"must\":[{\"nested\":{\"key\":\"a\",\"filter\":{\"must\":[{\"key\":\"z\",\"match\":"
         "{\"value\":\"x\"}}]}}}]}",
         "z"},
    };
    dp_fields *fields = declare(UINT32_MAX);
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        dp_filter *filter;
        const char *key;
        dp_field_kind wanted;
        assert_int_equal(
            dp_filter_parse_text(&filter, rows[i].filter, strlen(rows[i].filter), NULL), ORT_OK);
        const bool fine = dp_filter_is_indexed(filter, fields, &key, &wanted);
        assert_int_equal(fine, rows[i].key == NULL);
        if (!fine) {
            assert_string_equal(key, rows[i].key);
        }
        dp_filter_free(filter);
    }
    dp_fields_unref(fields);
}

typedef struct {
    char texts[8][40];
    size_t count;
} told_values;

static ort_err
tell_value(void *ctx, const dp_payload_value *value)
{
    told_values *t = ctx;
    assert_true(t->count < 8 && value->len < 40);
    snprintf(t->texts[t->count++], 40, "%.*s", (int)value->len, value->text);
    return ORT_OK;
}

/* What keeps the points of one value together goes by values of payloads and of filters: both must
 * spell a UUID alike, and as the index does. */
static void
values_of_uuids_are_spelt_one_way(void **state)
{
    static const char payload[] = "{\"u\":[\"550E8400-E29B-41D4-A716-446655440000\",\"{550e8400-"
                                  "e29b-41d4-a716-446655440000}\","
                                  "\"no uuid\",7,\"00000000000000000000000000000001\"]}";
    ort_json_doc *doc, *declared;
    dp_fields *fields;
    told_values told = {0};
    char room[ORT_POINT_ID_TEXT_BYTES];

    (void)state;
    assert_int_equal(ort_json_parse(&declared, "{\"u\":{\"data_type\":\"uuid\"}}", 26,
                                    (ort_json_limits){0}, NULL),
                     ORT_OK);
    assert_int_equal(dp_fields_parse(&fields, ort_json_root(declared), NULL), ORT_OK);
    assert_int_equal(ort_json_parse(&doc, payload, sizeof payload - 1, (ort_json_limits){0}, NULL),
                     ORT_OK);
    const dp_declared_field *field = dp_fields_peek(fields, 0);
    assert_int_equal(dp_field_each_value(field, ort_json_root(doc), tell_value, &told), ORT_OK);
    assert_int_equal(told.count, 3);
    assert_string_equal(told.texts[0], "550e8400-e29b-41d4-a716-446655440000");
    assert_string_equal(told.texts[1], "no uuid");
    assert_string_equal(told.texts[2], "00000000-0000-0000-0000-000000000001");
    dp_payload_value asked = {
        .kind = DP_FIELD_KEYWORD, .text = "550E8400E29B41D4A716446655440000", .len = 32};
    dp_payload_value_spell(&asked, field, room);
    assert_int_equal(asked.len, 36);
    assert_memory_equal(asked.text, told.texts[0], 36);
    dp_fields_unref(fields);
    ort_json_free(doc);
    ort_json_free(declared);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_agree_with_a_list),
        cmocka_unit_test(words_agree_with_a_list),
        cmocka_unit_test(maps_are_written_in_steps_beside_additions),
        cmocka_unit_test(text_becomes_tokens),
        cmocka_unit_test(every_language_has_its_stems),
        cmocka_unit_test(every_list_of_stopwords_drops_its_words),
        cmocka_unit_test(conditions_on_text_ask_for_words),
        cmocka_unit_test(a_record_keeps_its_text_indexes),
        cmocka_unit_test(unindexed_conditions_are_named),
        cmocka_unit_test(values_of_uuids_are_spelt_one_way),
        cmocka_unit_test(plain_conditions_are_exact),
        cmocka_unit_test(evaluation_agrees_with_matching),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
