/* Points in the order of a payload field.
 *
 * Every payload that passes the filter is read, and the best k values are kept: twice as many are
 * gathered, then sorted and cut, so that memory is bounded by the limit and not by the collection.
 */
#include "collection/order_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"

typedef struct {
    const dp_order *order;
    size_t k;
    dp_ordered *list; /* [cap] */
    size_t count, cap;
    bool full;     /* list[k - 1] is the last that may stay */
    dp_ordered at; /* the point being read */
    size_t from;   /* where its values begin in the list */
    bool failed;
} gathering;

static int
compare_values(const dp_order_value *a, const dp_order_value *b)
{
    switch (a->kind) {
    case DP_ORDER_FLOAT:
        return a->real < b->real ? -1 : a->real > b->real;
    case DP_ORDER_UUID:
        return ort_point_id_cmp(a->uuid, b->uuid);
    default:
        return a->integer < b->integer ? -1 : a->integer > b->integer;
    }
}

static int
ascending(const void *a, const void *b)
{
    const dp_ordered *x = a;
    const dp_ordered *y = b;
    const int c = compare_values(&x->value, &y->value);
    return c != 0 ? c : ort_point_id_cmp(x->id, y->id);
}

static int
descending(const void *a, const void *b)
{
    return ascending(b, a);
}

/* Where the value stands to the first one wanted: below 0 is before it in ascending order. */
static int
against_start(const dp_order *order, const dp_order_value *v)
{
    if (order->kind == DP_ORDER_INTEGER && order->from.kind == DP_ORDER_FLOAT) {
        const double real = (double)v->integer;
        return real < order->from.real ? -1 : real > order->from.real;
    }
    return compare_values(v, &order->from);
}

static void
cut(gathering *g)
{
    if (g->count > 1) {
        qsort(g->list, g->count, sizeof *g->list, g->order->descending ? descending : ascending);
    }
    g->full = g->count >= g->k;
    g->count = g->full ? g->k : g->count;
}

static bool
keep(gathering *g, const dp_order_value *v)
{
    const dp_order *order = g->order;
    dp_ordered one = g->at;
    one.value = *v;
    if (order->has_from) {
        const int c = against_start(order, v);
        if (order->descending ? c > 0 : c < 0) {
            return true;
        }
    }
    if (g->full && (order->descending ? descending : ascending)(&one, &g->list[g->k - 1]) > 0) {
        return true;
    }
    /* A value that stands twice in one payload is one. Points rarely have more than a few. */
    for (size_t i = g->from; i < g->count; i++) {
        if (compare_values(&g->list[i].value, v) == 0) {
            return true;
        }
    }
    if (g->count == g->cap) {
        const size_t cap = g->cap == 0 ? 64 : g->cap * 2;
        dp_ordered *grown = realloc(g->list, cap * sizeof *grown);
        if (grown == NULL) {
            g->failed = true;
            return false;
        }
        g->list = grown;
        g->cap = cap;
    }
    g->list[g->count++] = one;
    return true;
}

static bool
read_value(const gathering *g, ort_json v, dp_order_value *out)
{
    size_t len;
    const char *text;
    out->kind = g->order->kind;
    switch (g->order->kind) {
    case DP_ORDER_INTEGER:
        return ort_json_i64(v, &out->integer) == ORT_OK;
    case DP_ORDER_FLOAT:
        return ort_json_f64(v, &out->real) == ORT_OK;
    case DP_ORDER_DATETIME:
        text = ort_json_str(v, &len);
        return text != NULL && ort_rfc3339_parse(text, len, &out->integer) == ORT_OK;
    default:
        text = ort_json_str(v, &len);
        return text != NULL && ort_point_id_parse(text, len, false, &out->uuid, NULL) == ORT_OK;
    }
}

static bool
visit(void *ctx, ort_json v)
{
    gathering *g = ctx;
    dp_order_value value = {0};
    if (ort_json_type_of(v) != ORT_JSON_ARRAY) {
        return !read_value(g, v, &value) || keep(g, &value);
    }
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        if (read_value(g, it.value, &value) && !keep(g, &value)) {
            return false;
        }
    }
    return true;
}

static ort_err
read_slot(gathering *g, dp_reader *reader, uint32_t slot, ort_diag *diag)
{
    const char *payload;
    size_t len;
    ort_json_doc *doc = NULL;
    ort_err err = dp_points_payload(reader, slot, &payload, &len, diag);
    if (err != ORT_OK || len == 0) {
        return err;
    }
    err = ort_json_parse(&doc, payload, len, (ort_json_limits){0}, diag);
    if (err != ORT_OK) {
        return err == ORT_ENOMEM ? err : ORT_ECORRUPT;
    }
    g->at = (dp_ordered){.id = dp_points_id(reader, slot), .slot = slot};
    g->from = g->count;
    dp_path_each(g->order->path, ort_json_root(doc), visit, g);
    ort_json_free(doc);
    if (g->count >= 2 * g->k + 64) {
        cut(g);
    }
    return g->failed ? ort_fail(diag, ORT_ENOMEM, "out of memory") : ORT_OK;
}

ort_err
dp_order__find(dp_reader *reader, const dp_order *order, const uint32_t *slots, size_t count,
               size_t k, dp_ordered **out, size_t *n_out, ort_diag *diag)
{
    gathering g = {.order = order, .k = k};
    ort_err err = ORT_OK;
    *out = NULL;
    *n_out = 0;
    for (size_t i = 0; err == ORT_OK && k > 0 && i < count; i++) {
        err = read_slot(&g, reader, slots[i], diag);
    }
    if (err != ORT_OK) {
        free(g.list);
        return err;
    }
    cut(&g);
    *out = g.list;
    *n_out = g.count;
    return ORT_OK;
}

/* --- from the index -----------------------------------------------------------------------------
 */

/* A value of the index; false for one that is none of this order. */
static bool
take_value(const dp_order *order, const dp_payload_value *v, dp_order_value *out)
{
    *out = (dp_order_value){.kind = order->kind, .real = v->number, .integer = v->integer};
    return order->kind != DP_ORDER_UUID ||
           ort_point_id_parse(v->text, v->len, false, &out->uuid, NULL) == ORT_OK;
}

/* Where the walk may begin; NULL: at its end. What is not exact there is decided by keep(). */
static const dp_payload_value *
start_of(const dp_order *order, dp_payload_value *room)
{
    const dp_order_value *from = &order->from;
    if (!order->has_from || order->kind == DP_ORDER_UUID || from->kind != order->kind) {
        return NULL;
    }
    *room = (dp_payload_value){.kind = order->kind == DP_ORDER_INTEGER    ? DP_FIELD_INTEGER
                                       : order->kind == DP_ORDER_DATETIME ? DP_FIELD_DATETIME
                                                                          : DP_FIELD_FLOAT,
                               .integer = from->integer,
                               .number = from->real};
    return room;
}

static ort_err
take_walked(gathering *g, dp_reader *reader, dp_payload_walk *walk, const uint64_t *allowed)
{
    dp_order_value last = {0};
    dp_payload_value value;
    uint32_t slot;
    size_t taken = 0;
    ort_err err;
    while ((err = dp_payload_walk_next(walk, &value, &slot)) == ORT_OK) {
        dp_order_value v;
        if (!dp_points_is_live(reader->points, slot) ||
            (allowed != NULL && (allowed[slot / 64] >> (slot % 64) & 1) == 0) ||
            !take_value(g->order, &value, &v)) {
            continue;
        }
        /* Equal values come by slot, and are wanted by id: the last group is taken whole. */
        if (taken >= g->k && compare_values(&v, &last) != 0) {
            return ORT_OK;
        }
        const size_t before = g->count;
        g->at = (dp_ordered){.id = dp_points_id(reader, slot), .slot = slot};
        g->from = g->count;
        if (!keep(g, &v)) {
            return ORT_ENOMEM;
        }
        taken += g->count > before;
        last = v;
        if (g->count >= 2 * g->k + 64) {
            cut(g);
        }
    }
    return err == ORT_ENOTFOUND ? ORT_OK : err;
}

ort_err
dp_order__walk(dp_reader *reader, const dp_payload_index *index, const dp_order *order,
               const uint64_t *allowed, size_t k, dp_ordered **out, size_t *n_out, ort_diag *diag)
{
    gathering g = {.order = order, .k = k};
    dp_payload_value room;
    dp_payload_walk *walk;
    *out = NULL;
    *n_out = 0;
    if (k == 0) {
        return ORT_OK;
    }
    ort_err err = dp_payload_walk_new(&walk, index, order->descending, start_of(order, &room));
    if (err == ORT_OK) {
        err = take_walked(&g, reader, walk, allowed);
        dp_payload_walk_free(walk);
    }
    if (err != ORT_OK) {
        free(g.list);
        return ort_fail(diag, err, "out of memory");
    }
    cut(&g);
    *out = g.list;
    *n_out = g.count;
    return ORT_OK;
}

/* --- at random ----------------------------------------------------------------------------------
 */

void
dp_order__shuffle(uint32_t *slots, size_t count, size_t k)
{
    uint64_t state;
    ort_random_bytes(&state, sizeof state);
    for (size_t i = 0; i < k; i++) {
        /* splitmix64 (Steele, Lea, Flood 2014): even enough to choose by, seeded by the kernel. */
        uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        const size_t with = i + (size_t)(z % (count - i));
        const uint32_t slot = slots[i];
        slots[i] = slots[with];
        slots[with] = slot;
    }
}
