/* Payload changes: new text from old, one walk each. */
#include <string.h>

#include "base/json_write.h"
#include "collection/payload_internal.h"
#include "filter/path.h"
#include "filter/path_internal.h"

typedef struct {
    ort_jw w;
    ort_json patch;
    const dp_path *path; /* NULL: at the root */
} merge;

static void
copy_member(ort_jw *w, ort_json_iter *it)
{
    size_t len;
    const char *key = ort_json_str(it->key, &len);
    if (key == NULL) {
        w->buf->failed = true;
        return;
    }
    ort_jw_key_n(w, key, len);
    ort_jw_value(w, it->value);
}

static ort_json
member_like(ort_json object, ort_json key)
{
    size_t len;
    const char *text = ort_json_str(key, &len);
    return text != NULL ? dp_json_member(object, text, len) : (ort_json){0};
}

static void
merge_members(merge *m, ort_json old)
{
    ort_jw_object(&m->w);
    for (ort_json_iter it = ort_json_each(old); ort_json_step(&it);) {
        const ort_json now = member_like(m->patch, it.key);
        if (ort_json_type_of(now) == ORT_JSON_NONE) {
            copy_member(&m->w, &it);
        }
    }
    for (ort_json_iter it = ort_json_each(m->patch); ort_json_step(&it);) {
        if (ort_json_given(it.value)) {
            copy_member(&m->w, &it);
        }
    }
    ort_jw_object_end(&m->w);
}

static void merge_at(merge *m, ort_json old, uint32_t step);

static void
merge_at_key(merge *m, ort_json old, uint32_t step)
{
    const dp_step *s = &m->path->steps[step];
    const ort_json child = dp_json_member(old, s->key, s->key_len);
    ort_jw_object(&m->w);
    for (ort_json_iter it =
             ort_json_each(ort_json_type_of(old) == ORT_JSON_OBJECT ? old : (ort_json){0});
         ort_json_step(&it);) {
        size_t len;
        const char *key = ort_json_str(it.key, &len);
        if (key == NULL || len != s->key_len || memcmp(key, s->key, len) != 0) {
            copy_member(&m->w, &it);
        }
    }
    ort_jw_key_n(&m->w, s->key, s->key_len);
    merge_at(m, child, step + 1);
    ort_jw_object_end(&m->w);
}

static void
merge_at_elements(merge *m, ort_json old, uint32_t step)
{
    const dp_step *s = &m->path->steps[step];
    uint32_t i = 0;
    ort_jw_array(&m->w);
    for (ort_json_iter it =
             ort_json_each(ort_json_type_of(old) == ORT_JSON_ARRAY ? old : (ort_json){0});
         ort_json_step(&it); i++) {
        if (s->kind == DP_STEP_ALL || s->index == i) {
            merge_at(m, it.value, step + 1);
        } else {
            ort_jw_value(&m->w, it.value);
        }
    }
    ort_jw_array_end(&m->w);
}

/* What is on the way to the target is kept or made; depth is bounded by the path's. */
static void
merge_at(merge *m, ort_json old, uint32_t step)
{
    if (m->path == NULL || step == m->path->count) {
        merge_members(m, ort_json_type_of(old) == ORT_JSON_OBJECT ? old : (ort_json){0});
    } else if (m->path->steps[step].kind == DP_STEP_KEY) {
        merge_at_key(m, old, step);
    } else {
        merge_at_elements(m, old, step);
    }
}

static ort_err
parse_text(ort_json_doc **out, const char *text, size_t len, ort_diag *diag)
{
    const ort_err err =
        ort_json_parse(out, len > 0 ? text : "{}", len > 0 ? len : 2,
                       (ort_json_limits){.depth_max = 2 * ORT_JSON_DEPTH_MAX}, diag);
    return err == ORT_OK || err == ORT_ENOMEM ? err : ORT_ECORRUPT;
}

/* {} is kept as no bytes at all. */
static void
normalize_empty(ort_buf *out, size_t start)
{
    if (!out->failed && out->len == start + 2 && memcmp(out->data + start, "{}", 2) == 0) {
        out->len = start;
    }
}

ort_err
dp_payload__merge(const char *old, size_t old_len, dp_op_text patch, dp_op_text key, ort_buf *out,
                  ort_diag *diag)
{
    ort_json_doc *was = NULL, *now = NULL;
    dp_path *path = NULL;
    const size_t start = out->len;
    ort_err err = parse_text(&was, old, old_len, diag);
    err = err == ORT_OK ? parse_text(&now, patch.text, patch.len, diag) : err;
    if (err == ORT_OK && key.len > 0) {
        err = dp_path_parse(&path, key.text, key.len, diag);
    }
    if (err == ORT_OK) {
        merge m = {.w = {.buf = out}, .patch = ort_json_root(now), .path = path};
        merge_at(&m, ort_json_root(was), 0);
        normalize_empty(out, start);
        err = ort_buf_check(out);
    }
    dp_path_free(path);
    ort_json_free(was);
    ort_json_free(now);
    return err;
}

#define NAMES_AT_ONCE 64u

/* Up to NAMES_AT_ONCE paths; *left tells how many remain. */
static ort_err
delete_some(const char *old, size_t old_len, ort_cursor *names, uint32_t *left, ort_buf *out,
            ort_diag *diag)
{
    dp_path *paths[NAMES_AT_ONCE] = {NULL};
    dp_payload_selector selector = {.exclude = paths};
    ort_jw w = {.buf = out};
    ort_err err = ORT_OK;
    while (err == ORT_OK && *left > 0 && selector.exclude_count < NAMES_AT_ONCE) {
        const uint32_t len = ort_cursor_u32(names);
        const char *text = ort_cursor_take(names, len);
        err = text == NULL ? ort_fail(diag, ORT_ECORRUPT, "an operation cut short")
                           : dp_path_parse(&paths[selector.exclude_count], text, len, diag);
        selector.exclude_count += err == ORT_OK;
        --*left;
    }
    err = err == ORT_OK ? dp_payload_write(&selector, old, old_len, &w, diag) : err;
    for (size_t i = 0; i < selector.exclude_count; i++) {
        dp_path_free(paths[i]);
    }
    return err;
}

ort_err
dp_payload__delete(const char *old, size_t old_len, ort_cursor names, uint32_t count, ort_buf *out,
                   ort_diag *diag)
{
    ort_buf text[2] = {{0}, {0}};
    const size_t start = out->len;
    unsigned turn = 0;
    ort_err err = ORT_OK;
    ort_buf_put(&text[0], old, old_len);
    while (err == ORT_OK && count > 0) {
        ort_buf_clear(&text[1 - turn]);
        err = delete_some(text[turn].data, text[turn].len, &names, &count, &text[1 - turn], diag);
        turn = 1 - turn;
    }
    if (err == ORT_OK) {
        ort_buf_put(out, text[turn].data, text[turn].len);
        normalize_empty(out, start);
        err = ort_buf_check(out);
    }
    ort_buf_fini(&text[0]);
    ort_buf_fini(&text[1]);
    return err;
}
