/* What conditions mean where a field has been declared: on text they ask for words then, and
 * strings of a field that holds UUIDs are compared by value, however they are written. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "filter/evaluate.h"
#include "filter/filter_internal.h"

/* By text_number; both NULL: as it stands in the filter. */
typedef struct {
    dp_text_query *words;
    dp_match *by_value; /* with its texts in one piece of memory */
} rule;

struct dp_filter_texts {
    dp_fields *fields; /* whose options the queries use */
    uint32_t count;
    rule rules[];
};

static dp_text_mode
mode_of(const dp_match *m)
{
    return m->kind == DP_MATCH_TEXT_ANY ? DP_TEXT_ANY
           : m->kind == DP_MATCH_PHRASE ? DP_TEXT_PHRASE
                                        : DP_TEXT_ALL;
}

static bool
is_on_text(const dp_field *f)
{
    return f->match.kind == DP_MATCH_TEXT || f->match.kind == DP_MATCH_TEXT_ANY ||
           f->match.kind == DP_MATCH_PHRASE;
}

/* The declaration that settles the condition, or NULL. A phrase is asked by words only of an index
 * that was declared for it. */
static const dp_declared_field *
settled_by(const dp_field *f, const dp_fields *fields)
{
    for (size_t i = 0; i < dp_fields_count(fields); i++) {
        const dp_declared_field *d = dp_fields_peek(fields, i);
        if (dp_path__is_at(d->path, f->place, f->path)) {
            const bool text = d->kind == DP_FIELD_TEXT &&
                              (f->match.kind != DP_MATCH_PHRASE || d->text.phrase_matching);
            return (is_on_text(f) ? text : d->kind == DP_FIELD_UUID) ? d : NULL;
        }
    }
    return NULL;
}

static int
order_texts(const void *a, const void *b)
{
    const dp_text *x = a, *y = b;
    return dp_text__cmp(*x, *y);
}

/* A copy of the condition with each UUID in its one spelling. */
static ort_err
make_by_value(dp_match **out, const dp_match *m)
{
    size_t bytes = sizeof **out + m->count * sizeof *m->texts;
    for (size_t i = 0; i < m->count; i++) {
        bytes += m->texts[i].len + ORT_POINT_ID_TEXT_BYTES;
    }
    dp_match *copy = malloc(bytes);
    if (copy == NULL) {
        return ORT_ENOMEM;
    }
    *copy = (dp_match){.kind = m->kind, .count = m->count, .texts = (dp_text *)(void *)(copy + 1)};
    char *at = (char *)(copy->texts + m->count);
    for (size_t i = 0; i < m->count; i++) {
        char room[ORT_POINT_ID_TEXT_BYTES];
        const dp_text text = dp_text__of_uuid(m->texts[i], room);
        memcpy(at, text.text, text.len);
        copy->texts[i] = (dp_text){.text = at, .len = text.len};
        at += text.len;
    }
    if (copy->count > 1) {
        qsort(copy->texts, copy->count, sizeof *copy->texts, order_texts);
    }
    *out = copy;
    return ORT_OK;
}

static ort_err
settle(rule *out, const dp_field *f, const dp_declared_field *by, ort_diag *diag)
{
    const ort_err err = is_on_text(f)
                            ? dp_text_query_new(&out->words, &by->text, mode_of(&f->match),
                                                f->match.raw.text, f->match.raw.len)
                            : make_by_value(&out->by_value, &f->match);
    return err == ORT_OK ? ORT_OK
           : err == ORT_ETOOBIG
               ? ort_fail(diag, ORT_EVALIDATE, "a text condition has too many words")
               : ort_fail(diag, err, "out of memory");
}

ort_err
dp_filter_bind(const dp_filter *filter, dp_fields *fields, dp_filter_texts **out, ort_diag *diag)
{
    dp_filter_texts *texts = NULL;
    *out = NULL;
    if (filter == NULL) {
        return ORT_OK;
    }
    dp_fields *by = filter->own_fields != NULL ? filter->own_fields : fields;
    for (uint32_t i = 0; i < filter->text_field_count; i++) {
        const dp_field *f = filter->text_fields[i];
        const dp_declared_field *field = settled_by(f, by);
        if (field == NULL) {
            continue;
        }
        if (texts == NULL) {
            texts = calloc(1, sizeof *texts + filter->text_field_count * sizeof(rule));
            if (texts == NULL) {
                return ort_fail(diag, ORT_ENOMEM, "out of memory");
            }
            texts->count = filter->text_field_count;
            texts->fields = dp_fields_ref(by);
        }
        const ort_err err = settle(&texts->rules[i], f, field, diag);
        if (err != ORT_OK) {
            dp_filter_texts_free(texts);
            return err;
        }
    }
    *out = texts;
    return ORT_OK;
}

void
dp_filter_texts_free(dp_filter_texts *texts)
{
    if (texts == NULL) {
        return;
    }
    for (uint32_t i = 0; i < texts->count; i++) {
        dp_text_query_free(texts->rules[i].words);
        free(texts->rules[i].by_value);
    }
    dp_fields_unref(texts->fields);
    free(texts);
}

dp_text_query *
dp_filter_texts_peek(const dp_filter_texts *texts, uint32_t number)
{
    return texts != NULL && number != DP_TEXT_NONE ? texts->rules[number].words : NULL;
}

const dp_match *
dp_filter_texts_by_value(const dp_filter_texts *texts, uint32_t number)
{
    return texts != NULL && number != DP_TEXT_NONE ? texts->rules[number].by_value : NULL;
}

bool
dp_filter_has_texts(const dp_filter *filter)
{
    return filter != NULL && filter->text_field_count > 0;
}

void
dp_filter_write_record(const dp_filter *filter, const dp_fields *fields, ort_buf *out)
{
    ort_jw w = {.buf = out};
    bool any = false;
    for (uint32_t i = 0; i < filter->text_field_count; i++) {
        const dp_declared_field *field = settled_by(filter->text_fields[i], fields);
        bool told = false;
        for (uint32_t j = 0; j < i; j++) {
            told = told || settled_by(filter->text_fields[j], fields) == field;
        }
        if (field == NULL || told) {
            continue;
        }
        if (!any) {
            ort_jw_object(&w);
            ort_jw_key(&w, DP_FILTER_RECORD_FIELDS);
            ort_jw_object(&w);
            any = true;
        }
        ort_jw_key_n(&w, field->name, field->name_len);
        ort_jw_raw(&w, field->definition, field->definition_len);
    }
    if (!any) {
        ort_buf_put(out, filter->text, filter->text_len);
        return;
    }
    ort_jw_object_end(&w);
    ort_buf_putc(out, ',');
    ort_buf_put(out, filter->text + 1, filter->text_len - 1); /* it has members: these conditions */
}

/* --- strict mode --------------------------------------------------------------------------------
 */

static bool
serves_match(const dp_declared_field *d, const dp_match *m, dp_field_kind *wanted)
{
    switch (m->kind) {
    case DP_MATCH_INTEGER:
    case DP_MATCH_ANY_INTEGER:
    case DP_MATCH_EXCEPT_INTEGER:
        *wanted = DP_FIELD_INTEGER;
        return d->kind == DP_FIELD_INTEGER && d->lookup;
    case DP_MATCH_BOOL:
        *wanted = DP_FIELD_BOOL;
        return d->kind == DP_FIELD_BOOL;
    case DP_MATCH_TEXT:
    case DP_MATCH_TEXT_ANY:
        *wanted = DP_FIELD_TEXT;
        return d->kind == DP_FIELD_TEXT;
    case DP_MATCH_PHRASE:
        *wanted = DP_FIELD_TEXT;
        return d->kind == DP_FIELD_TEXT && d->text.phrase_matching;
    case DP_MATCH_PREFIX:
        *wanted = DP_FIELD_KEYWORD;
        return d->kind == DP_FIELD_KEYWORD && d->prefix;
    default:
        *wanted = DP_FIELD_KEYWORD;
        return d->kind == DP_FIELD_KEYWORD || d->kind == DP_FIELD_UUID;
    }
}

static bool
serves(const dp_declared_field *d, const dp_field *f, dp_field_kind *wanted)
{
    if (f->match.kind != DP_MATCH_NONE && !serves_match(d, &f->match, wanted)) {
        return false;
    }
    if (f->range.given && f->range.datetime && d->kind != DP_FIELD_DATETIME) {
        *wanted = DP_FIELD_DATETIME;
        return false;
    }
    if (f->range.given && !f->range.datetime && d->kind != DP_FIELD_FLOAT &&
        (d->kind != DP_FIELD_INTEGER || !d->range)) {
        *wanted = DP_FIELD_INTEGER;
        return false;
    }
    if (f->geo.kind != DP_GEO_NONE && d->kind != DP_FIELD_GEO) {
        *wanted = DP_FIELD_GEO;
        return false;
    }
    return true; /* how many values there are, and whether any: every index knows */
}

typedef struct {
    const dp_fields *fields;
    const char *key;
    dp_field_kind wanted;
    const dp_path *nested; /* innermost */
} audit;

static bool clauses_are_indexed(audit *a, const dp_clauses *c);

static dp_field_kind
natural_kind(const dp_field *f)
{
    static const dp_declared_field none = {0};
    dp_field_kind wanted = DP_FIELD_KEYWORD;
    (void)serves(&none, f, &wanted);
    return wanted;
}

/* A path within `nested` is declared with its array before it. */
static const dp_declared_field *
declared(const audit *a, const dp_path *path)
{
    if (a->nested == NULL) {
        return dp_fields_find(a->fields, path);
    }
    for (size_t i = 0; i < dp_fields_count(a->fields); i++) {
        const dp_declared_field *d = dp_fields_peek(a->fields, i);
        const uint32_t head = a->nested->count;
        bool same =
            d->path->count == head + 1 + path->count && d->path->steps[head].kind == DP_STEP_ALL;
        for (uint32_t s = 0; same && s < d->path->count; s++) {
            same = s == head ||
                   dp_step__is_same(&d->path->steps[s],
                                    s < head ? &a->nested->steps[s] : &path->steps[s - head - 1]);
        }
        if (same) {
            return d;
        }
    }
    return NULL;
}

static bool
condition_is_indexed(audit *a, const dp_condition *c)
{
    const dp_declared_field *d;
    const dp_path *outer;
    bool fine;
    switch (c->kind) {
    case DP_COND_FIELD:
        d = declared(a, c->u.field->path);
        a->wanted = natural_kind(c->u.field);
        fine = d != NULL && serves(d, c->u.field, &a->wanted);
        a->key = c->u.field->path->text;
        return fine;
    case DP_COND_IS_EMPTY:
    case DP_COND_IS_NULL:
        a->key = c->path->text;
        a->wanted = DP_FIELD_KEYWORD;
        return declared(a, c->path) != NULL;
    case DP_COND_NESTED:
        outer = a->nested;
        a->nested = c->path;
        fine = clauses_are_indexed(a, c->clauses);
        a->nested = outer;
        return fine;
    case DP_COND_FILTER:
        return clauses_are_indexed(a, c->clauses);
    default:
        return true;
    }
}

static bool
clauses_are_indexed(audit *a, const dp_clauses *c)
{
    const dp_conditions *lists[] = {&c->must, &c->should, &c->must_not, &c->min_should};
    for (size_t l = 0; l < 4; l++) {
        for (size_t i = 0; i < lists[l]->count; i++) {
            if (!condition_is_indexed(a, &lists[l]->items[i])) {
                return false;
            }
        }
    }
    return true;
}

bool
dp_filter_is_indexed(const dp_filter *filter, const dp_fields *fields, const char **key_out,
                     dp_field_kind *wanted_out)
{
    audit a = {.fields = fields};
    const bool fine = filter == NULL || clauses_are_indexed(&a, &filter->root);
    *key_out = fine ? NULL : a.key;
    *wanted_out = a.wanted;
    return fine;
}
