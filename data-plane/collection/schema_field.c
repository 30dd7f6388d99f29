/* Payload fields of a schema: which of them have an index declared, and of which kind. */
#include <string.h>

#include "collection/schema_internal.h"
#include "filter/field.h"
#include "filter/path.h"

static bool
is_key(ort_json key, const char *text, size_t len)
{
    size_t n;
    const char *s = ort_json_str(key, &n);
    return s != NULL && n == len && memcmp(s, text, len) == 0;
}

/* {"data_type":"keyword"} of a name, with "params" of an object as it was sent. */
static ort_err
put_definition(ort_jw *w, ort_json spec, ort_diag *diag)
{
    const bool object = ort_json_type_of(spec) == ORT_JSON_OBJECT;
    const ort_err err = dp_field_check(spec, diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(w);
    ort_jw_key(w, "data_type");
    ort_jw_value(w, object ? ort_json_get(spec, "type") : spec);
    if (object) {
        ort_jw_key(w, "params");
        ort_jw_value(w, spec);
    }
    ort_jw_object_end(w);
    return ORT_OK;
}

/* All of the old text but `payload_schema`. */
static void
copy_rest(ort_jw *w, ort_json was)
{
    for (ort_json_iter it = ort_json_each(was); ort_json_step(&it);) {
        size_t len;
        const char *key = ort_json_str(it.key, &len);
        if (key != NULL && !is_key(it.key, "payload_schema", strlen("payload_schema"))) {
            ort_jw_key_n(w, key, len);
            ort_jw_value(w, it.value);
        }
    }
}

ort_err
dp_schema_set_field(dp_schema **out, const dp_schema *old, const char *field, size_t len,
                    ort_json spec, ort_diag *diag)
{
    const ort_json was = dp_schema__view(old);
    const ort_json fields = ort_json_get(was, "payload_schema");
    const bool adds = ort_json_type_of(spec) != ORT_JSON_NONE;
    ort_buf buf = {0};
    ort_jw w = {.buf = &buf};
    dp_path *path = NULL;

    *out = NULL;
    ort_err err = dp_path_parse(&path, field, len, diag);
    dp_path_free(path);
    if (err != ORT_OK) {
        return err;
    }
    ort_jw_object(&w);
    copy_rest(&w, was);
    ort_jw_key(&w, "payload_schema");
    ort_jw_object(&w);
    uint32_t count = 0;
    for (ort_json_iter it = ort_json_each(fields); ort_json_step(&it);) {
        size_t n;
        const char *key = ort_json_str(it.key, &n);
        if (key != NULL && !is_key(it.key, field, len)) {
            ort_jw_key_n(&w, key, n);
            ort_jw_value(&w, it.value);
            count++;
        }
    }
    const dp_strict *strict = dp_schema_peek_strict(old);
    if (adds && strict != NULL && count >= strict->max_payload_index_count) {
        err = ort_fail(diag, ORT_EBADREQ,
                       "Collection already contains the maximum number of payload indices (%llu). "
                       "Help: Delete a payload index or increase the limit in strict mode.",
                       (unsigned long long)strict->max_payload_index_count);
    } else if (adds && count >= DP_SCHEMA_FIELDS_MAX) {
        err = ort_fail(diag, ORT_EBADREQ, "%u payload indexes, at most %u are allowed", count + 1,
                       DP_SCHEMA_FIELDS_MAX);
    } else if (adds) {
        ort_jw_key_n(&w, field, len);
        err = put_definition(&w, spec, diag);
    }
    ort_jw_object_end(&w);
    ort_jw_object_end(&w);
    if (err != ORT_OK) {
        ort_buf_fini(&buf);
        return err;
    }
    return dp_schema__from_text(out, &buf, diag);
}

ort_json
dp_schema_peek_fields(const dp_schema *schema)
{
    return ort_json_get(dp_schema__view(schema), "payload_schema");
}
