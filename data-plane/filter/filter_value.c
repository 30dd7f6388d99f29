/* Single values: those that a filter asks for, those that a payload has. What keeps the points of
 * one value together (graph links) goes by both, so both are here. */
#include <string.h>

#include "filter/evaluate.h"
#include "filter/filter_internal.h"
#include "filter/payload_index_internal.h"

/* --- of a filter --------------------------------------------------------------------------------
 */

/* A field condition that asks for one value and for nothing else. */
static bool
is_one_value(const dp_field *f, dp_payload_value *out)
{
    const dp_match *m = &f->match;
    if (f->range.given || f->geo.kind != DP_GEO_NONE || f->count.given || f->has_is_empty ||
        f->has_is_null) {
        return false; /* any of several is enough */
    }
    switch (m->kind) {
    case DP_MATCH_STRING:
    case DP_MATCH_ANY_STRING:
        if (m->count != 1) {
            return false;
        }
        *out = (dp_payload_value){
            .kind = DP_FIELD_KEYWORD, .text = m->texts[0].text, .len = m->texts[0].len};
        return true;
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
        if (m->count != 1) {
            return false;
        }
        *out = (dp_payload_value){.kind = DP_FIELD_INTEGER, .integer = m->integers[0]};
        return true;
    case DP_MATCH_BOOL:
        *out = (dp_payload_value){.kind = DP_FIELD_BOOL, .integer = m->boolean};
        return true;
    default:
        return false;
    }
}

/* Walks what every match has to fulfil; *left values are passed over. `alone`: nothing else is
 * asked. */
static bool
find_value(const dp_clauses *c, bool alone, size_t *left, dp_filter_value *out)
{
    /* The only way to fulfil a `should` of one is that one. */
    const dp_conditions *const lists[] = {&c->must, c->should.count == 1 ? &c->should : NULL};
    const size_t parts = c->must.count + c->should.count + c->must_not.count +
                         (c->has_min_should ? c->min_should.count + 1 : 0);
    for (size_t l = 0; l < 2; l++) {
        for (size_t i = 0; lists[l] != NULL && i < lists[l]->count; i++) {
            const dp_condition *condition = &lists[l]->items[i];
            dp_payload_value value;
            if (condition->kind == DP_COND_FILTER &&
                find_value(condition->clauses, alone && parts == 1, left, out)) {
                return true;
            }
            if (condition->kind != DP_COND_FIELD || !is_one_value(condition->u.field, &value)) {
                continue;
            }
            if (*left == 0) {
                *out = (dp_filter_value){
                    .path = condition->u.field->path, .value = value, .alone = alone && parts == 1};
                return true;
            }
            --*left;
        }
    }
    return false;
}

bool
dp_filter_peek_value(const dp_filter *filter, size_t i, dp_filter_value *out)
{
    return filter != NULL && find_value(&filter->root, true, &i, out);
}

/* --- of a payload -------------------------------------------------------------------------------
 */

void
dp_payload_value_spell(dp_payload_value *value, const dp_declared_field *field,
                       char room[ORT_POINT_ID_TEXT_BYTES])
{
    if (field->kind == DP_FIELD_UUID && value->text != NULL) {
        const dp_text told = {.text = value->text, .len = value->len};
        const dp_text spelled = dp_text__of_uuid(told, room);
        value->text = spelled.text;
        value->len = spelled.len;
    }
}

typedef struct {
    const dp_declared_field *field;
    dp_field_kind kind;
    ort_err (*fn)(void *ctx, const dp_payload_value *value);
    void *ctx;
    char rooms[2][ORT_POINT_ID_TEXT_BYTES]; /* of the last value and of this one */
    unsigned turn;
    dp_payload_value last;
    bool any;
    ort_err err;
} gathering;

static bool
is_same(const dp_payload_value *a, const dp_payload_value *b)
{
    return a->integer == b->integer && a->len == b->len &&
           (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

/* As an index of the kind takes a leaf; false: it does not. */
static bool
read_leaf(gathering *g, ort_json leaf, dp_payload_value *v)
{
    bool flag = false;
    *v = (dp_payload_value){.kind = g->kind};
    switch (g->kind) {
    case DP_FIELD_KEYWORD:
    case DP_FIELD_UUID:
        v->text = ort_json_type_of(leaf) == ORT_JSON_STRING ? ort_json_str(leaf, &v->len) : NULL;
        if (v->text == NULL && ort_json_type_of(leaf) == ORT_JSON_STRING) {
            g->err = ORT_ENOMEM;
        }
        return v->text != NULL;
    case DP_FIELD_INTEGER:
        return ort_json_i64(leaf, &v->integer) == ORT_OK;
    case DP_FIELD_BOOL:
        if (ort_json_bool(leaf, &flag) != ORT_OK) {
            return false;
        }
        v->integer = flag;
        return true;
    default:
        return false;
    }
}

static void
take_leaf(gathering *g, ort_json leaf)
{
    dp_payload_value v;
    if (g->err != ORT_OK || !read_leaf(g, leaf, &v)) {
        return;
    }
    dp_payload_value_spell(&v, g->field, g->rooms[g->turn]);
    if (!(g->any && is_same(&g->last, &v))) {
        g->turn = 1 - g->turn;
        g->any = true;
        g->last = v;
        g->err = g->fn(g->ctx, &v);
    }
}

static bool
take_value(void *ctx, ort_json value)
{
    gathering *g = ctx;
    if (ort_json_type_of(value) != ORT_JSON_ARRAY) {
        take_leaf(g, value);
        return g->err == ORT_OK;
    }
    for (ort_json_iter it = ort_json_each(value); ort_json_step(&it);) {
        take_leaf(g, it.value);
    }
    return g->err == ORT_OK;
}

ort_err
dp_field_each_value(const dp_declared_field *field, ort_json payload,
                    ort_err (*fn)(void *ctx, const dp_payload_value *value), void *ctx)
{
    gathering g = {.field = field, .kind = field->kind, .fn = fn, .ctx = ctx};
    (void)dp_path_each(field->path, payload, take_value, &g);
    return g.err;
}

/* --- of an index --------------------------------------------------------------------------------
 */

ort_err
dp_payload_index_slots(const dp_payload_index *x, const dp_payload_value *value,
                       const dp_slots **set, dp_slots **own)
{
    ort_err err = ORT_OK;
    *set = NULL;
    *own = NULL;
    if ((x->field->kind == DP_FIELD_KEYWORD || x->field->kind == DP_FIELD_UUID) &&
        value->kind == DP_FIELD_KEYWORD) {
        const dp_posting *posting = dp_words_find(x->words, value->text, value->len);
        if (posting != NULL && posting->count > DP_POSTING_FEW_MAX) {
            *set = posting->u.many;
            return ORT_OK;
        }
        *own = dp_posting_set(posting);
        err = *own != NULL ? ORT_OK : ORT_ENOMEM;
    } else if ((x->field->kind == DP_FIELD_INTEGER || x->field->kind == DP_FIELD_BOOL) &&
               x->field->kind == value->kind) {
        err = dp_numbers_range(x->numbers, value->integer, value->integer, own);
    }
    *set = *own;
    return err;
}
