/* The index of one field: values of points on their way in, and out again. */
#include "filter/payload_index.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "filter/filter_internal.h"
#include "filter/path_internal.h"
#include "filter/payload_index_internal.h"

ort_err
dp_payload_index_new(dp_payload_index **out, dp_fields *fields, size_t field_index)
{
    dp_payload_index *x = calloc(1, sizeof *x);
    ort_err err = ORT_OK;
    *out = NULL;
    if (x == NULL) {
        return ORT_ENOMEM;
    }
    x->fields = dp_fields_ref(fields);
    x->field = dp_fields_peek(fields, field_index);
    bool whole = true;
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        x->has[i] = dp_slots_new();
        whole = whole && x->has[i] != NULL;
    }
    if (dp_payload_index__has_words(x->field->kind)) {
        x->words = dp_words_new();
        whole = whole && x->words != NULL;
    } else {
        x->numbers = dp_numbers_new();
        whole = whole && x->numbers != NULL;
    }
    if (whole && x->field->kind == DP_FIELD_TEXT) {
        err = dp_tokenizer_new(&x->tokenizer, &x->field->text);
    }
    if (!whole || err != ORT_OK) {
        dp_payload_index_free(x);
        return ORT_ENOMEM;
    }
    *out = x;
    return ORT_OK;
}

void
dp_payload_index_free(dp_payload_index *x)
{
    if (x == NULL) {
        return;
    }
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        dp_slots_free(x->has[i]);
    }
    dp_numbers_free(x->numbers);
    dp_words_free(x->words);
    dp_tokenizer_free(x->tokenizer);
    dp_fields_unref(x->fields);
    free(x);
}

const dp_declared_field *
dp_payload_index_field(const dp_payload_index *x)
{
    return x->field;
}

/* --- keys ---------------------------------------------------------------------------------------
 */

/* IEEE 754 numbers of one sign are in the order of their bits; negative ones in the reverse. */
int64_t
dp_key__of_float(double v)
{
    int64_t bits;
    const double plain = v + 0.0; /* -0 and 0 are one value */
    memcpy(&bits, &plain, sizeof bits);
    return bits >= 0 ? bits : bits ^ INT64_MAX;
}

double
dp_key__to_float(int64_t key)
{
    const int64_t bits = key >= 0 ? key : key ^ INT64_MAX;
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static uint32_t
cell(double share)
{
    const double n = (double)(UINT32_C(1) << DP_GEO_BITS);
    return !(share > 0) ? 0 : share >= 1 ? (UINT32_C(1) << DP_GEO_BITS) - 1 : (uint32_t)(share * n);
}

uint32_t
dp_key__cell_x(double lon)
{
    return cell((lon + 180) / 360);
}

uint32_t
dp_key__cell_y(double lat)
{
    return cell((lat + 90) / 180);
}

double
dp_key__cell_lon(double x)
{
    return x / (double)(UINT32_C(1) << DP_GEO_BITS) * 360 - 180;
}

double
dp_key__cell_lat(double y)
{
    return y / (double)(UINT32_C(1) << DP_GEO_BITS) * 180 - 90;
}

/* Every second bit. */
static uint64_t
spread(uint32_t v)
{
    uint64_t x = v;
    x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
    x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x << 4) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    x = (x | x << 2) & UINT64_C(0x3333333333333333);
    return (x | x << 1) & UINT64_C(0x5555555555555555);
}

static uint32_t
gather(uint64_t x)
{
    x &= UINT64_C(0x5555555555555555);
    x = (x | x >> 1) & UINT64_C(0x3333333333333333);
    x = (x | x >> 2) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    x = (x | x >> 4) & UINT64_C(0x00ff00ff00ff00ff);
    x = (x | x >> 8) & UINT64_C(0x0000ffff0000ffff);
    return (uint32_t)(x | x >> 16);
}

int64_t
dp_key__of_cell(uint32_t x, uint32_t y)
{
    return (int64_t)(spread(x) | spread(y) << 1);
}

int64_t
dp_key__of_place(double lon, double lat)
{
    return dp_key__of_cell(dp_key__cell_x(lon), dp_key__cell_y(lat));
}

void
dp_key__to_cell(int64_t key, uint32_t *x, uint32_t *y)
{
    *x = gather((uint64_t)key);
    *y = gather((uint64_t)key >> 1);
}

/* --- adding -------------------------------------------------------------------------------------
 */

typedef struct {
    dp_payload_index *index;
    uint32_t slot;
    uint32_t values; /* at the path */
    uint32_t leaves; /* not null */
    bool filled, null, other, array;
    ort_err err;
} adding;

static ort_err
add_token(void *ctx, const char *token, size_t len)
{
    const adding *a = ctx;
    return dp_words_add(a->index->words, token, len, a->slot);
}

/* Whether the leaf is of the index's kind, and then it was added. */
static bool
add_number(adding *a, ort_json v)
{
    dp_numbers *numbers = a->index->numbers;
    size_t len;
    int64_t integer;
    double number, lat;
    bool flag;
    const char *text;
    switch (a->index->field->kind) {
    case DP_FIELD_INTEGER:
        if (ort_json_i64(v, &integer) != ORT_OK) {
            return false;
        }
        break;
    case DP_FIELD_FLOAT:
        if (ort_json_f64(v, &number) != ORT_OK) {
            return false;
        }
        integer = dp_key__of_float(number);
        break;
    case DP_FIELD_BOOL:
        if (ort_json_bool(v, &flag) != ORT_OK) {
            return false;
        }
        integer = flag;
        break;
    case DP_FIELD_DATETIME:
        text = ort_json_str(v, &len);
        if (text == NULL || ort_rfc3339_parse(text, len, &integer) != ORT_OK) {
            return false;
        }
        break;
    default:
        if (ort_json_f64(dp_json_member(v, "lon", 3), &number) != ORT_OK ||
            ort_json_f64(dp_json_member(v, "lat", 3), &lat) != ORT_OK || !(fabs(number) <= 180) ||
            !(fabs(lat) <= 90)) {
            return false;
        }
        integer = dp_key__of_place(number, lat);
        break;
    }
    a->err = dp_numbers_add(numbers, integer, a->slot);
    return true;
}

static void
add_leaf(adding *a, ort_json v)
{
    dp_payload_index *x = a->index;
    size_t len;
    if (ort_json_type_of(v) == ORT_JSON_NULL || a->err != ORT_OK) {
        return;
    }
    a->leaves++;
    if (x->words == NULL) {
        a->other = !add_number(a, v) || a->other;
        return;
    }
    if (ort_json_type_of(v) != ORT_JSON_STRING) {
        a->other = true;
        return;
    }
    const char *text = ort_json_str(v, &len);
    if (text == NULL) {
        a->err = ORT_ENOMEM;
    } else if (x->tokenizer != NULL) {
        a->err = dp_tokenizer_run(x->tokenizer, text, len, false, add_token, a);
    } else {
        char room[ORT_POINT_ID_TEXT_BYTES];
        dp_text word = {.text = text, .len = len};
        if (x->field->kind == DP_FIELD_UUID) {
            word = dp_text__of_uuid(word, room);
        }
        a->err = dp_words_add(x->words, word.text, word.len, a->slot);
    }
}

static bool
add_value(void *ctx, ort_json v)
{
    adding *a = ctx;
    a->values++;
    if (ort_json_type_of(v) == ORT_JSON_NULL) {
        a->null = true;
        return true;
    }
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        a->filled = true;
        add_leaf(a, v);
        return a->err == ORT_OK;
    }
    a->array = true;
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        a->filled = true;
        a->null = a->null || ort_json_type_of(it.value) == ORT_JSON_NULL;
        add_leaf(a, it.value);
    }
    return a->err == ORT_OK;
}

ort_err
dp_payload_index_add(dp_payload_index *x, uint32_t slot, ort_json payload)
{
    adding a = {.index = x, .slot = slot};
    (void)dp_path_each(x->field->path, payload, add_value, &a);
    const bool has[DP_HAS_COUNT] = {
        [DP_HAS_FILLED] = a.filled,   [DP_HAS_NULL] = a.null,
        [DP_HAS_LEAF] = a.leaves > 0, [DP_HAS_LEAVES] = a.leaves > 1,
        [DP_HAS_OTHER] = a.other,     [DP_HAS_PLAIN] = a.values == 1 && !a.array && !a.null,
    };
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        if (has[i]) {
            (void)dp_slots_add(x->has[i], slot);
        }
    }
    return a.err;
}

ort_err
dp_payload_index_sweep(dp_payload_index *x, const dp_slots *dead)
{
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        dp_slots_minus_into(x->has[i], dead);
    }
    return x->words != NULL ? dp_words_sweep(x->words, dead) : dp_numbers_sweep(x->numbers, dead);
}

dp_slots *
dp_payload_index_stray(const dp_payload_index *x, const dp_slots *live)
{
    /* Who has no value, no null and no leaf stands nowhere. */
    const dp_slots *const sets[] = {x->has[DP_HAS_FILLED], x->has[DP_HAS_NULL],
                                    x->has[DP_HAS_LEAF]};
    dp_slots *all = dp_slots_or_many(sets, 3);
    if (all != NULL) {
        dp_slots_minus_into(all, live);
    }
    return all;
}

void
dp_payload_index_trim(dp_payload_index *x)
{
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        dp_slots_trim(x->has[i]);
    }
}

size_t
dp_payload_index_bytes(const dp_payload_index *x)
{
    size_t bytes = sizeof *x;
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        bytes += dp_slots_bytes(x->has[i]);
    }
    return bytes + (x->words != NULL ? dp_words_bytes(x->words) : dp_numbers_bytes(x->numbers));
}

uint64_t
dp_payload_index_points(const dp_payload_index *x, const dp_slots *live)
{
    return dp_slots_and_count(x->has[DP_HAS_FILLED], live);
}
