/* Declarations of payload indexes. */
#include "filter/field.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "filter/path_internal.h"

struct dp_fields {
    atomic_uint refs;
    size_t count;
    dp_declared_field items[];
};

static const struct {
    const char *name;
    dp_field_kind kind;
} kinds[] = {{"keyword", DP_FIELD_KEYWORD}, {"integer", DP_FIELD_INTEGER},
             {"float", DP_FIELD_FLOAT},     {"bool", DP_FIELD_BOOL},
             {"geo", DP_FIELD_GEO},         {"datetime", DP_FIELD_DATETIME},
             {"uuid", DP_FIELD_UUID},       {"text", DP_FIELD_TEXT}};

const char *
dp_field_kind_name(dp_field_kind kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].kind == kind) {
            return kinds[i].name;
        }
    }
    return "";
}

static ort_err
no_variant(ort_diag *diag)
{
    return ort_fail(diag, ORT_EFORMAT,
                    "field_schema: data did not match any variant of untagged enum "
                    "PayloadFieldSchema");
}

static ort_err
read_kind(ort_json v, dp_field_kind *out, ort_diag *diag)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (ort_json_str_is(v, kinds[i].name)) {
            *out = kinds[i].kind;
            return ORT_OK;
        }
    }
    return no_variant(diag);
}

static ort_err
read_flag(ort_json params, const char *name, bool *out, ort_diag *diag)
{
    const ort_json v = ort_json_get(params, name);
    return !ort_json_given(v) || ort_json_bool(v, out) == ORT_OK ? ORT_OK : no_variant(diag);
}

/* Where an index lies is ours to choose; that it was said is kept and shown. */
static ort_err
check_placement(ort_json params, ort_diag *diag)
{
    const ort_json memory = ort_json_get(params, "memory");
    bool flag;
    const ort_err err = read_flag(params, "on_disk", &flag, diag);
    if (err != ORT_OK || !ort_json_given(memory)) {
        return err;
    }
    return ort_json_str_is(memory, "cold") || ort_json_str_is(memory, "cached") ||
                   ort_json_str_is(memory, "pinned")
               ? ORT_OK
               : no_variant(diag);
}

/* What the kind takes beside `type`; members it does not know are ignored, as everywhere. */
static ort_err
read_params(dp_declared_field *f, ort_json params, ort_diag *diag)
{
    const bool tenant = f->kind == DP_FIELD_KEYWORD || f->kind == DP_FIELD_UUID;
    bool principal;
    f->lookup = f->range = f->links = true;
    ort_err err = check_placement(params, diag);
    err = err == ORT_OK ? read_flag(params, "enable_hnsw", &f->links, diag) : err;
    if (err == ORT_OK && tenant) {
        err = read_flag(params, "is_tenant", &f->is_tenant, diag);
    }
    if (err == ORT_OK && f->kind == DP_FIELD_KEYWORD) {
        err = read_flag(params, "prefix", &f->prefix, diag);
    }
    if (err == ORT_OK && !tenant) {
        err = read_flag(params, "is_principal", &principal, diag);
    }
    if (err == ORT_OK && f->kind == DP_FIELD_INTEGER) {
        err = read_flag(params, "lookup", &f->lookup, diag);
        err = err == ORT_OK ? read_flag(params, "range", &f->range, diag) : err;
        if (err == ORT_OK && !f->lookup && !f->range) {
            return ort_fail(
                diag, ORT_EVALIDATE,
                "field_schema: the 'lookup' and 'range' capabilities can't be both disabled");
        }
    }
    if (err == ORT_OK && f->kind == DP_FIELD_TEXT) {
        err = dp_text_options_parse(&f->text, params, diag);
    }
    return err;
}

ort_err
dp_field_check(ort_json spec, ort_diag *diag)
{
    dp_declared_field f = {0};
    const bool object = ort_json_type_of(spec) == ORT_JSON_OBJECT;
    ort_err err = read_kind(object ? ort_json_get(spec, "type") : spec, &f.kind, diag);
    if (err == ORT_OK && object) {
        err = read_params(&f, spec, diag);
        dp_text_options_fini(&f.text);
    }
    return err;
}

static ort_err
read_field(dp_declared_field *f, ort_json key, ort_json v, ort_diag *diag)
{
    size_t len, raw_len;
    const char *name = ort_json_str(key, &len), *raw = ort_json_raw(v, &raw_len);
    ort_err err = read_kind(ort_json_get(v, "data_type"), &f->kind, diag);
    err = err == ORT_OK ? read_params(f, ort_json_get(v, "params"), diag) : err;
    if (err != ORT_OK) {
        return err;
    }
    f->name = name != NULL ? strndup(name, len) : NULL;
    f->name_len = len;
    f->definition = strndup(raw, raw_len);
    f->definition_len = raw_len;
    if (f->name == NULL || f->definition == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    return dp_path_parse(&f->path, name, len, diag);
}

static void
field_fini(dp_declared_field *f)
{
    free(f->name);
    free(f->definition);
    dp_path_free(f->path);
    dp_text_options_fini(&f->text);
}

ort_err
dp_fields_parse(dp_fields **out, ort_json schema, ort_diag *diag)
{
    const uint32_t count = ort_json_count(schema);
    ort_err err = ORT_OK;
    *out = NULL;
    if (ort_json_type_of(schema) != ORT_JSON_OBJECT || count == 0) {
        return ORT_OK;
    }
    dp_fields *fields = calloc(1, sizeof *fields + count * sizeof *fields->items);
    if (fields == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    atomic_init(&fields->refs, 1);
    for (ort_json_iter it = ort_json_each(schema); err == ORT_OK && ort_json_step(&it);) {
        dp_declared_field *f = &fields->items[fields->count];
        err = read_field(f, it.key, it.value, diag);
        if (err == ORT_OK || err == ORT_ENOMEM) {
            fields->count++;
            continue;
        }
        /* Declared by a program that checked less: shown as it is, and served by no index. */
        field_fini(f);
        *f = (dp_declared_field){0};
        err = ORT_OK;
    }
    if (err != ORT_OK || fields->count == 0) {
        dp_fields_unref(fields);
        return err;
    }
    *out = fields;
    return ORT_OK;
}

dp_fields *
dp_fields_ref(dp_fields *fields)
{
    if (fields != NULL) {
        atomic_fetch_add_explicit(&fields->refs, 1, memory_order_relaxed);
    }
    return fields;
}

void
dp_fields_unref(dp_fields *fields)
{
    if (fields == NULL || atomic_fetch_sub_explicit(&fields->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < fields->count; i++) {
        field_fini(&fields->items[i]);
    }
    free(fields);
}

size_t
dp_fields_count(const dp_fields *fields)
{
    return fields != NULL ? fields->count : 0;
}

const dp_declared_field *
dp_fields_peek(const dp_fields *fields, size_t i)
{
    return &fields->items[i];
}

bool
dp_path_is_same(const dp_path *a, const dp_path *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (!dp_step__is_same(&a->steps[i], &b->steps[i])) {
            return false;
        }
    }
    return true;
}

const dp_declared_field *
dp_fields_find(const dp_fields *fields, const dp_path *path)
{
    for (size_t i = 0; i < dp_fields_count(fields); i++) {
        if (dp_path_is_same(fields->items[i].path, path)) {
            return &fields->items[i];
        }
    }
    return NULL;
}
