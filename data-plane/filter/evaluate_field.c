/* Conditions on a key, by the index of that key. What an index does not know (values of another
 * type than its own) it knows the points of: they stay open. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "filter/evaluate_internal.h"

static const dp_payload_index *
find_index(dp_eval *e, const dp_path *path)
{
    for (size_t i = 0; i < e->over->index_count; i++) {
        if (dp_path__is_at(e->over->indexes[i]->field->path, e->place, path)) {
            e->narrowed = true;
            return e->over->indexes[i];
        }
    }
    return NULL;
}

static dp_both
copy_of(dp_eval *e, const dp_slots *set)
{
    return dp_both__exactly(e, dp_slots_copy(set));
}

/* Only points with a leaf of another type can match, and the index does not know which. */
static dp_both
others(dp_eval *e, const dp_payload_index *x)
{
    return dp_slots_is_empty(x->has[DP_HAS_OTHER])
               ? dp_both__none()
               : dp_both__between(e, NULL, dp_slots_copy(x->has[DP_HAS_OTHER]));
}

/* These and maybe some that have a leaf of another type. */
static dp_both
with_others(dp_eval *e, const dp_payload_index *x, dp_slots *set)
{
    const dp_both known = dp_both__exactly(e, set);
    return dp_slots_is_empty(x->has[DP_HAS_OTHER]) ? known : dp_both__or(e, known, others(e, x));
}

static dp_slots *
range_of(dp_eval *e, const dp_payload_index *x, int64_t from, int64_t to)
{
    dp_slots *set;
    const ort_err err = dp_numbers_range(x->numbers, from, to, &set);
    e->err = e->err == ORT_OK ? err : e->err;
    return set;
}

/* --- match --------------------------------------------------------------------------------------
 */

static dp_slots *
any_word(dp_eval *e, const dp_payload_index *x, const dp_text *texts, size_t count)
{
    dp_slots *set = dp_slots_new();
    for (size_t i = 0; set != NULL && i < count; i++) {
        dp_posting_into(dp_words_find(x->words, texts[i].text, texts[i].len), set);
    }
    e->err = set == NULL ? ORT_ENOMEM : e->err;
    return set;
}

static dp_slots *
any_uuid(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    dp_slots *set = dp_slots_new();
    for (size_t i = 0; set != NULL && i < m->count; i++) {
        char room[ORT_POINT_ID_TEXT_BYTES];
        const dp_text text = dp_text__of_uuid(m->texts[i], room);
        dp_posting_into(dp_words_find(x->words, text.text, text.len), set);
    }
    e->err = set == NULL ? ORT_ENOMEM : e->err;
    return set;
}

static dp_slots *
any_integer(dp_eval *e, const dp_payload_index *x, const int64_t *integers, size_t count)
{
    dp_slots *set = dp_slots_new();
    const bool floats = x->field->kind == DP_FIELD_FLOAT;
    for (size_t i = 0; set != NULL && e->err == ORT_OK && i < count; i++) {
        const int64_t key = floats ? dp_key__of_float((double)integers[i]) : integers[i];
        dp_slots *one = range_of(e, x, key, key);
        if (one != NULL) {
            dp_slots_or_into(set, one);
            dp_slots_free(one);
        }
    }
    e->err = set == NULL ? ORT_ENOMEM : e->err;
    return set;
}

/* Points with a leaf that is none of those in `hit`: surely those outside it, and those within it
 * only when they have more leaves than one. */
static dp_both
all_but(dp_eval *e, const dp_payload_index *x, dp_slots *hit)
{
    if (hit == NULL) {
        return dp_both__none();
    }
    dp_slots *sure = dp_slots_minus(x->has[DP_HAS_LEAF], hit);
    dp_slots_and_into(hit, x->has[DP_HAS_LEAVES]);
    if (sure == NULL || dp_slots_is_empty(hit)) {
        dp_slots_free(hit);
        return dp_both__exactly(e, sure);
    }
    dp_slots_or_into(hit, sure);
    return dp_both__between(e, sure, hit);
}

/* Leaves of the index's own type cannot be what is excepted: a point that has one matches. */
static dp_both
all_of_kind(dp_eval *e, const dp_payload_index *x)
{
    if (dp_slots_is_empty(x->has[DP_HAS_OTHER])) {
        return copy_of(e, x->has[DP_HAS_LEAF]);
    }
    return dp_both__between(e, dp_slots_minus(x->has[DP_HAS_LEAF], x->has[DP_HAS_OTHER]),
                            dp_slots_copy(x->has[DP_HAS_LEAF]));
}

static dp_both
some_leaf(dp_eval *e, const dp_payload_index *x)
{
    return dp_both__between(e, NULL, dp_slots_copy(x->has[DP_HAS_LEAF]));
}

static dp_both
match_keyword(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    switch (m->kind) {
    case DP_MATCH_STRING:
    case DP_MATCH_ANY_STRING:
        return dp_both__exactly(e, any_word(e, x, m->texts, m->count));
    case DP_MATCH_EXCEPT_STRING:
        return all_but(e, x, any_word(e, x, m->texts, m->count));
    case DP_MATCH_PREFIX:
        return dp_both__exactly(e, dp_words_prefix(x->words, m->texts[0].text, m->texts[0].len));
    case DP_MATCH_EXCEPT_INTEGER:
        return all_of_kind(e, x);
    case DP_MATCH_TEXT:
    case DP_MATCH_TEXT_ANY:
    case DP_MATCH_PHRASE:
        return some_leaf(e, x);
    default:
        return others(e, x);
    }
}

/* The index has UUIDs in one spelling. What was settled by a declaration is compared in it too;
 * otherwise a string is what it is, and only its spelling is in doubt. */
static dp_both
match_uuid(dp_eval *e, const dp_payload_index *x, const dp_field *f)
{
    const dp_match *m = &f->match;
    const bool by_value = f->text_number == DP_TEXT_NONE ||
                          dp_filter_texts_by_value(e->over->texts, f->text_number) != NULL;
    switch (m->kind) {
    case DP_MATCH_STRING:
    case DP_MATCH_ANY_STRING:
        return by_value ? dp_both__exactly(e, any_uuid(e, x, m))
                        : dp_both__between(e, NULL, any_uuid(e, x, m));
    case DP_MATCH_EXCEPT_STRING:
        return by_value ? all_but(e, x, any_uuid(e, x, m)) : some_leaf(e, x);
    case DP_MATCH_PREFIX: /* of the text as it was written */
        return some_leaf(e, x);
    default:
        return match_keyword(e, x, m);
    }
}

static dp_both
match_integer(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    switch (m->kind) {
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
        return dp_both__exactly(e, any_integer(e, x, m->integers, m->count));
    case DP_MATCH_EXCEPT_INTEGER:
        return all_but(e, x, any_integer(e, x, m->integers, m->count));
    case DP_MATCH_EXCEPT_STRING:
        return all_of_kind(e, x);
    default:
        return others(e, x);
    }
}

/* A float index holds 1 and 1.0 alike; an integer matches the first only. */
static dp_both
match_float(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    switch (m->kind) {
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
        return dp_both__between(e, NULL, any_integer(e, x, m->integers, m->count));
    case DP_MATCH_EXCEPT_INTEGER:
        return some_leaf(e, x);
    case DP_MATCH_EXCEPT_STRING:
        return all_of_kind(e, x);
    default:
        return others(e, x);
    }
}

static dp_both
match_bool(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    switch (m->kind) {
    case DP_MATCH_BOOL:
        return dp_both__exactly(e, range_of(e, x, m->boolean, m->boolean));
    case DP_MATCH_EXCEPT_STRING:
    case DP_MATCH_EXCEPT_INTEGER:
        return all_of_kind(e, x);
    default:
        return others(e, x);
    }
}

/* Geo and datetime: a date is a string, of which the index does not keep how it was written. */
static dp_both
match_else(dp_eval *e, const dp_payload_index *x, const dp_match *m)
{
    const bool except = m->kind == DP_MATCH_EXCEPT_STRING || m->kind == DP_MATCH_EXCEPT_INTEGER;
    if (x->field->kind == DP_FIELD_DATETIME) {
        return m->kind == DP_MATCH_EXCEPT_INTEGER ? all_of_kind(e, x) : some_leaf(e, x);
    }
    return except ? all_of_kind(e, x) : others(e, x);
}

/* --- text ---------------------------------------------------------------------------------------
 */

/* The points that have all of these words, or one of them. */
static dp_slots *
by_words(dp_eval *e, const dp_payload_index *x, const dp_text_query *q)
{
    const bool any = dp_text_query_mode(q) == DP_TEXT_ANY;
    dp_slots *set = NULL;
    for (uint32_t i = 0; i < dp_text_query_count(q); i++) {
        size_t len;
        const char *word = dp_text_query_peek(q, i, &len);
        const dp_posting *posting = dp_words_find(x->words, word, len);
        if (set == NULL) {
            set = dp_posting_set(posting);
        } else if (any) {
            dp_posting_into(posting, set);
        } else {
            dp_slots *other = dp_posting_set(posting);
            if (other != NULL) {
                dp_slots_and_into(set, other);
            }
            e->err = other == NULL ? ORT_ENOMEM : e->err;
            dp_slots_free(other);
        }
        if (set == NULL) {
            break;
        }
    }
    return set != NULL || dp_text_query_count(q) > 0 ? set : dp_slots_new();
}

/* A string that is equal has equal words. */
static dp_both
equal_text(dp_eval *e, const dp_payload_index *x, const dp_text *text)
{
    dp_text_query *q;
    const ort_err err = dp_text_query_new(&q, &x->field->text, DP_TEXT_ALL, text->text, text->len);
    if (err != ORT_OK) { /* very many words: nothing is said */
        e->err = err == ORT_ENOMEM ? err : e->err;
        return some_leaf(e, x);
    }
    const dp_both b =
        dp_text_query_count(q) > 0 ? dp_both__between(e, NULL, by_words(e, x, q)) : some_leaf(e, x);
    dp_text_query_free(q);
    return b;
}

static dp_both
match_text(dp_eval *e, const dp_payload_index *x, const dp_field *f)
{
    const dp_match *m = &f->match;
    const dp_text_query *q =
        e->place == NULL ? dp_filter_texts_peek(e->over->texts, f->text_number) : NULL;
    switch (m->kind) {
    case DP_MATCH_TEXT:
    case DP_MATCH_TEXT_ANY:
    case DP_MATCH_PHRASE:
        if (q == NULL || !dp_text_options_are_equal(dp_text_query_options(q), &x->field->text)) {
            return some_leaf(e, x); /* substrings */
        }
        return dp_text_query_mode(q) == DP_TEXT_PHRASE && dp_text_query_count(q) > 0
                   ? dp_both__between(e, NULL, by_words(e, x, q))
                   : dp_both__exactly(e, by_words(e, x, q));
    case DP_MATCH_STRING:
        return equal_text(e, x, &m->texts[0]);
    case DP_MATCH_EXCEPT_INTEGER:
        return all_of_kind(e, x);
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
    case DP_MATCH_BOOL:
        return others(e, x);
    default:
        return some_leaf(e, x);
    }
}

static dp_both
eval_match(dp_eval *e, const dp_payload_index *x, const dp_field *f)
{
    switch (x->field->kind) {
    case DP_FIELD_KEYWORD:
        return match_keyword(e, x, &f->match);
    case DP_FIELD_UUID:
        return match_uuid(e, x, f);
    case DP_FIELD_INTEGER:
        return match_integer(e, x, &f->match);
    case DP_FIELD_FLOAT:
        return match_float(e, x, &f->match);
    case DP_FIELD_BOOL:
        return match_bool(e, x, &f->match);
    case DP_FIELD_TEXT:
        return match_text(e, x, f);
    default:
        return match_else(e, x, &f->match);
    }
}

/* --- range --------------------------------------------------------------------------------------
 */

/* The keys of an integer index are compared as doubles, as matching does: the smallest integer
 * whose double is above (or at) the bound, by halving. */
static bool
is_below(int64_t key, double bound, bool or_equal)
{
    return or_equal ? (double)key <= bound : (double)key < bound;
}

/* The last key that is below the bound; false: none is. */
static bool
last_below(double bound, bool or_equal, int64_t *out)
{
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (!is_below(lo, bound, or_equal)) {
        return false;
    }
    while (lo < hi) { /* lo is below; unsigned: the distance may be over INT64_MAX */
        const uint64_t gap = (uint64_t)hi - (uint64_t)lo;
        const int64_t mid = (int64_t)((uint64_t)lo + gap / 2 + gap % 2);
        if (is_below(mid, bound, or_equal)) {
            lo = mid;
        } else {
            hi = mid - 1;
        }
    }
    *out = lo;
    return true;
}

typedef struct {
    int64_t from, to;
    bool empty;
} key_range;

static void
cap_to(key_range *k, bool some, int64_t to)
{
    k->empty = k->empty || !some;
    k->to = some && to < k->to ? to : k->to;
}

static void
raise_from(key_range *k, bool some_below, int64_t last)
{
    if (some_below && last == INT64_MAX) {
        k->empty = true;
    } else if (some_below && last + 1 > k->from) {
        k->from = last + 1;
    }
}

static key_range
integer_range(const dp_range *r)
{
    key_range k = {.from = INT64_MIN, .to = INT64_MAX};
    int64_t key = 0;
    bool some;
    if (r->has_lt) {
        some = last_below(r->lt, false, &key);
        cap_to(&k, some, key);
    }
    if (r->has_lte) {
        some = last_below(r->lte, true, &key);
        cap_to(&k, some, key);
    }
    if (r->has_gt) {
        some = last_below(r->gt, true, &key);
        raise_from(&k, some, key);
    }
    if (r->has_gte) {
        some = last_below(r->gte, false, &key);
        raise_from(&k, some, key);
    }
    return k;
}

/* Keys whose order is that of the values. */
static key_range
ordered_range(bool has_lt, int64_t lt, bool has_lte, int64_t lte, bool has_gt, int64_t gt,
              bool has_gte, int64_t gte)
{
    key_range k = {.from = INT64_MIN, .to = INT64_MAX};
    if (has_lt) {
        cap_to(&k, lt != INT64_MIN, lt - (lt != INT64_MIN));
    }
    if (has_lte) {
        cap_to(&k, true, lte);
    }
    if (has_gt) {
        raise_from(&k, true, gt);
    }
    if (has_gte) {
        raise_from(&k, gte != INT64_MIN, gte - (gte != INT64_MIN));
    }
    return k;
}

static dp_slots *
keys_of(dp_eval *e, const dp_payload_index *x, key_range k)
{
    if (k.empty || k.from > k.to) {
        dp_slots *none = dp_slots_new();
        e->err = none == NULL ? ORT_ENOMEM : e->err;
        return none;
    }
    return range_of(e, x, k.from, k.to);
}

static dp_both
eval_range(dp_eval *e, const dp_payload_index *x, const dp_range *r)
{
    if (r->datetime) {
        switch (x->field->kind) {
        case DP_FIELD_DATETIME:
            return dp_both__exactly(
                e, keys_of(e, x,
                           ordered_range(r->has_lt, r->lt_us, r->has_lte, r->lte_us, r->has_gt,
                                         r->gt_us, r->has_gte, r->gte_us)));
        case DP_FIELD_KEYWORD:
        case DP_FIELD_UUID:
        case DP_FIELD_TEXT:
            return some_leaf(e, x);
        default:
            return others(e, x);
        }
    }
    switch (x->field->kind) {
    case DP_FIELD_INTEGER:
        return with_others(e, x, keys_of(e, x, integer_range(r)));
    case DP_FIELD_FLOAT:
        return dp_both__exactly(
            e, keys_of(e, x,
                       ordered_range(r->has_lt, dp_key__of_float(r->lt), r->has_lte,
                                     dp_key__of_float(r->lte), r->has_gt, dp_key__of_float(r->gt),
                                     r->has_gte, dp_key__of_float(r->gte))));
    default:
        return others(e, x);
    }
}

/* --- the field ----------------------------------------------------------------------------------
 */

static bool
counts(const dp_count_range *r, uint64_t n)
{
    return (!r->has_lt || n < r->lt) && (!r->has_gt || n > r->gt) && (!r->has_lte || n <= r->lte) &&
           (!r->has_gte || n >= r->gte);
}

/* Known are points with nothing there (0) and with one plain value (1). */
static dp_both
eval_count(dp_eval *e, const dp_payload_index *x, const dp_count_range *r)
{
    dp_slots *sure = counts(r, 1) ? dp_slots_copy(x->has[DP_HAS_PLAIN]) : dp_slots_new();
    dp_slots *known = dp_slots_minus(e->over->live, x->has[DP_HAS_FILLED]); /* of count 0 */
    if (sure == NULL || known == NULL) {
        dp_slots_free(sure);
        dp_slots_free(known);
        e->err = ORT_ENOMEM;
        return dp_both__none();
    }
    if (counts(r, 0)) {
        dp_slots_or_into(sure, known);
    }
    dp_slots_or_into(known, x->has[DP_HAS_PLAIN]);
    dp_slots *may = dp_slots_minus(e->over->live, known); /* arrays */
    dp_slots_free(known);
    if (may != NULL) {
        dp_slots_or_into(may, sure);
    }
    return dp_both__between(e, sure, may);
}

static dp_both
eval_is_empty(dp_eval *e, const dp_payload_index *x, bool wanted)
{
    return wanted ? dp_both__exactly(e, dp_slots_minus(e->over->live, x->has[DP_HAS_FILLED]))
                  : copy_of(e, x->has[DP_HAS_FILLED]);
}

static dp_both
eval_is_null(dp_eval *e, const dp_payload_index *x, bool wanted)
{
    return wanted ? copy_of(e, x->has[DP_HAS_NULL])
                  : dp_both__exactly(e, dp_slots_minus(e->over->live, x->has[DP_HAS_NULL]));
}

dp_both
dp_eval__field(dp_eval *e, const dp_field *f)
{
    /* What an element has not, its point may have. */
    const bool counted = f->count.given || f->has_is_empty || f->has_is_null;
    const dp_payload_index *x = e->place != NULL && counted ? NULL : find_index(e, f->path);
    dp_both b = dp_both__none();
    if (x == NULL) {
        return dp_both__open();
    }
    if (f->match.kind != DP_MATCH_NONE) {
        b = dp_both__or(e, b, eval_match(e, x, f));
    }
    if (f->range.given) {
        b = dp_both__or(e, b, eval_range(e, x, &f->range));
    }
    if (f->geo.kind != DP_GEO_NONE) {
        b = dp_both__or(
            e, b, x->field->kind == DP_FIELD_GEO ? dp_eval__geo(e, x, &f->geo) : others(e, x));
    }
    if (f->count.given) {
        b = dp_both__or(e, b, eval_count(e, x, &f->count));
    }
    if (f->has_is_empty) {
        b = dp_both__or(e, b, eval_is_empty(e, x, f->is_empty));
    }
    if (f->has_is_null) {
        b = dp_both__or(e, b, eval_is_null(e, x, f->is_null));
    }
    return b;
}

dp_both
dp_eval__is_empty(dp_eval *e, const dp_path *path)
{
    const dp_payload_index *x = e->place == NULL ? find_index(e, path) : NULL;
    return x != NULL ? eval_is_empty(e, x, true) : dp_both__open();
}

dp_both
dp_eval__is_null(dp_eval *e, const dp_path *path)
{
    const dp_payload_index *x = e->place == NULL ? find_index(e, path) : NULL;
    return x != NULL ? eval_is_null(e, x, true) : dp_both__open();
}
