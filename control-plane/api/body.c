/* control-plane/api/body.c: members of request bodies, and of answers. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_internal.h"

static ort_err
wrong(cp_call *call, const char *name, const char *what)
{
    return ort_fail(&call->diag, ORT_EVALIDATE, "'%s' is not %s", name, what);
}

/* Copies a string's content. Control characters would end up in logs and terminals. */
static ort_err
copy_text(cp_call *call, const char *name, ort_json value, char *out, size_t cap)
{
    size_t len = 0;
    const char *text = ort_json_str(value, &len);

    if (ort_json_type_of(value) != ORT_JSON_STRING || text == NULL) {
        return wrong(call, name, "a string");
    }
    if (len >= cap) {
        return ort_fail(&call->diag, ORT_EVALIDATE, "'%s' has %zu bytes; %zu is the most", name,
                        len, cap - 1);
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "'%s' holds a control character", name);
        }
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return ORT_OK;
}

ort_err
cp_body_text(cp_call *call, ort_json object, const char *name, char *out, size_t cap, bool *given)
{
    ort_json value = ort_json_get(object, name);

    *given = ort_json_type_of(value) != ORT_JSON_NONE;
    return *given ? copy_text(call, name, value, out, cap) : ORT_OK;
}

ort_err
cp_body_u64(cp_call *call, ort_json object, const char *name, uint64_t min, uint64_t max,
            uint64_t *out, bool *given)
{
    ort_json value = ort_json_get(object, name);
    uint64_t v = 0;

    *given = ort_json_type_of(value) != ORT_JSON_NONE;
    if (!*given) {
        return ORT_OK;
    }
    if (ort_json_u64(value, &v) != ORT_OK || v < min || v > max) {
        return ort_fail(&call->diag, ORT_EVALIDATE,
                        "'%s' is not a whole number of %" PRIu64 " to %" PRIu64, name, min, max);
    }
    *out = v;
    return ORT_OK;
}

ort_err
cp_body_time(cp_call *call, ort_json object, const char *name, int64_t *ms, bool *given)
{
    ort_json value = ort_json_get(object, name);
    char text[64];
    int64_t micros = 0;

    *given = ort_json_type_of(value) != ORT_JSON_NONE;
    if (!ort_json_given(value)) {
        if (*given) {
            *ms = 0;
        }
        return ORT_OK;
    }
    ort_err err = copy_text(call, name, value, text, sizeof text);
    if (err == ORT_OK && ort_rfc3339_parse(text, strlen(text), &micros) != ORT_OK) {
        err = wrong(call, name, "an RFC 3339 time");
    }
    if (err == ORT_OK && micros < 1000) {
        err = wrong(call, name, "a time after 1970");
    }
    if (err == ORT_OK) {
        *ms = micros / 1000;
    }
    return err;
}

ort_err
cp_body_texts(cp_call *call, ort_json object, const char *name, cp_texts *out, bool *given)
{
    ort_json value = ort_json_get(object, name);
    char text[CP_DISPLAY_BYTES];
    ort_err err = ORT_OK;

    *given = ort_json_type_of(value) != ORT_JSON_NONE;
    if (!*given) {
        return ORT_OK;
    }
    if (ort_json_type_of(value) != ORT_JSON_ARRAY) {
        return wrong(call, name, "an array of strings");
    }
    *out = (cp_texts){0};
    for (ort_json_iter it = ort_json_each(value); err == ORT_OK && ort_json_step(&it);) {
        err = copy_text(call, name, it.value, text, sizeof text);
        if (err != ORT_OK) {
            break;
        }
        switch (cp_texts_add(out, text, strlen(text))) {
        case ORT_OK:
            break;
        case ORT_EEXISTS:
            err = ort_fail(&call->diag, ORT_EVALIDATE, "'%s' names '%s' twice", name, text);
            break;
        case ORT_ETOOBIG:
            err = ort_fail(&call->diag, ORT_EVALIDATE,
                           "'%s' is too long: %d texts of %d bytes "
                           "in all are the most",
                           name, CP_TEXTS_MAX, CP_TEXTS_BYTES);
            break;
        default:
            err = wrong(call, name, "free of empty strings");
        }
    }
    return err;
}

ort_err
cp_body_limits(cp_call *call, ort_json object, const char *name, cp_overrides *out, bool *given)
{
    ort_json value = ort_json_get(object, name);

    *given = ort_json_type_of(value) != ORT_JSON_NONE;
    if (!*given) {
        return ORT_OK;
    }
    if (ort_json_type_of(value) != ORT_JSON_OBJECT) {
        return wrong(call, name, "an object of limits");
    }
    *out = (cp_overrides){0};
    for (ort_json_iter it = ort_json_each(value); ort_json_step(&it);) {
        size_t len = 0;
        const char *limit_name = ort_json_str(it.key, &len);
        cp_limit limit = limit_name != NULL ? cp_limit_by_name(limit_name, len) : CP_LIMIT_COUNT;
        uint64_t v = CP_UNLIMITED;
        if (limit == CP_LIMIT_COUNT) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "'%s' has no limit '%.*s'", name,
                            (int)(len < 64 ? len : 64), limit_name != NULL ? limit_name : "");
        }
        if (ort_json_given(it.value) &&
            (ort_json_u64(it.value, &v) != ORT_OK || v > CP_LIMIT_VALUE_MAX)) {
            return ort_fail(&call->diag, ORT_EVALIDATE,
                            "'%s' is neither null nor a whole number up to %" PRIu64,
                            cp_limit_name(limit), (uint64_t)CP_LIMIT_VALUE_MAX);
        }
        out->set[limit] = true;
        out->to.v[limit] = v;
    }
    return ORT_OK;
}

/* ---- writing ---- */

void
cp_write_id(ort_jw *w, const char *name, uint64_t id)
{
    char text[ORT_ID_TEXT_BYTES];

    ort_id_format(id, text);
    cp_write_text(w, name, text);
}

void
cp_write_text(ort_jw *w, const char *name, const char *text)
{
    ort_jw_key(w, name);
    ort_jw_str(w, text);
}

void
cp_write_u64(ort_jw *w, const char *name, uint64_t v)
{
    ort_jw_key(w, name);
    ort_jw_u64(w, v);
}

void
cp_write_time(ort_jw *w, const char *name, int64_t ms)
{
    char text[ORT_RFC3339_BYTES];

    ort_jw_key(w, name);
    if (ms == 0) {
        ort_jw_null(w);
        return;
    }
    ort_rfc3339_format(ms, text);
    ort_jw_str(w, text);
}

void
cp_write_texts(ort_jw *w, const char *name, const cp_texts *texts)
{
    ort_jw_key(w, name);
    ort_jw_array(w);
    for (const char *t = cp_texts_first(texts); t != NULL; t = cp_texts_next(texts, t)) {
        ort_jw_str(w, t);
    }
    ort_jw_array_end(w);
}

static void
write_limit(ort_jw *w, cp_limit limit, uint64_t v)
{
    ort_jw_key(w, cp_limit_name(limit));
    if (v == CP_UNLIMITED) {
        ort_jw_null(w);
    } else {
        ort_jw_u64(w, v);
    }
}

void
cp_write_limits(ort_jw *w, const char *name, const cp_limits *limits)
{
    ort_jw_key(w, name);
    ort_jw_object(w);
    for (unsigned i = 0; i < CP_LIMIT_COUNT; i++) {
        write_limit(w, (cp_limit)i, limits->v[i]);
    }
    ort_jw_object_end(w);
}

void
cp_write_overrides(ort_jw *w, const char *name, const cp_overrides *overrides)
{
    ort_jw_key(w, name);
    ort_jw_object(w);
    for (unsigned i = 0; i < CP_LIMIT_COUNT; i++) {
        if (overrides->set[i]) {
            write_limit(w, (cp_limit)i, overrides->to.v[i]);
        }
    }
    ort_jw_object_end(w);
}

/* ---- pages ---- */

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 1000u

ort_err
cp_list_begin(cp_list *list, cp_call *call, const char *kind)
{
    const char *limit = ort_http_req_query(call->req, "limit");
    const char *cursor = ort_http_req_query(call->req, "cursor");
    ort_err err = ORT_OK;

    *list =
        (cp_list){.call = call, .kind = kind, .limit = LIMIT_DEFAULT, .w = {.buf = &call->body}};
    if (limit != NULL) {
        char *end = NULL;
        unsigned long v = strtoul(limit, &end, 10);
        if (limit[0] < '0' || limit[0] > '9' || *end != '\0' || v < 1 || v > LIMIT_MAX) {
            return ort_fail(&call->diag, ORT_EVALIDATE, "limit is not a number of 1 to %u",
                            LIMIT_MAX);
        }
        list->limit = (uint32_t)v;
    }
    if (cursor != NULL) {
        err = cp_cursor_parse(kind, cursor, strlen(cursor), list->after, &call->diag);
    }
    list->page = (cp_page){.after = list->after, .limit = list->limit + 1};
    ort_jw_object(&list->w);
    ort_jw_key(&list->w, "items");
    ort_jw_array(&list->w);
    return err;
}

bool
cp_list_take(cp_list *list, const char *key)
{
    if (list->count == list->limit) {
        list->more = true;
        return false;
    }
    size_t len = strlen(key);
    memcpy(list->last, key, len < sizeof list->last ? len + 1 : 1);
    list->count++;
    return true;
}

void
cp_list_end(cp_list *list)
{
    char cursor[CP_CURSOR_BYTES];

    ort_jw_array_end(&list->w);
    ort_jw_key(&list->w, "next_cursor");
    if (list->more) {
        cp_cursor_format(list->kind, list->last, cursor);
        ort_jw_str(&list->w, cursor);
    } else {
        ort_jw_null(&list->w);
    }
    ort_jw_object_end(&list->w);
}
