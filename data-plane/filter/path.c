/* Paths into payloads, and the parts of payloads that answers show. */
#include "filter/path.h"

#include <stdlib.h>
#include <string.h>

#include "filter/path_internal.h"

/* Letters and digits of any script are raw key characters at Qdrant. Bytes of multi-byte UTF-8 are
 * let through here: the text was checked as UTF-8 when its JSON was parsed, and a path that names
 * no key matches nothing. */
static bool
is_raw_key_byte(char c)
{
    const unsigned char u = (unsigned char)c;
    return (u >= '0' && u <= '9') || (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || u == '_' ||
           u == '-' || u >= 0x80;
}

/* A key at *p, raw or quoted. */
static bool
read_key(const char **p, const char *end, dp_step *step)
{
    const char *start = *p;
    const char *stop;
    if (start < end && *start == '"') {
        start++;
        stop = memchr(start, '"', (size_t)(end - start));
        if (stop == NULL) {
            return false;
        }
        *p = stop + 1;
    } else {
        stop = start;
        while (stop < end && is_raw_key_byte(*stop)) {
            stop++;
        }
        if (stop == start) {
            return false;
        }
        *p = stop;
    }
    *step = (dp_step){.kind = DP_STEP_KEY, .key = start, .key_len = (uint32_t)(stop - start)};
    return true;
}

/* What stands behind '[': "]" or digits and "]". */
static bool
read_index(const char **p, const char *end, dp_step *step)
{
    uint64_t index = 0;
    const char *at = *p;
    if (at < end && *at == ']') {
        *p = at + 1;
        *step = (dp_step){.kind = DP_STEP_ALL};
        return true;
    }
    while (at < end && *at >= '0' && *at <= '9') {
        index = index * 10 + (uint64_t)(*at++ - '0');
        if (index > UINT32_MAX) {
            return false;
        }
    }
    if (at == *p || at >= end || *at != ']') {
        return false;
    }
    *p = at + 1;
    *step = (dp_step){.kind = DP_STEP_INDEX, .index = (uint32_t)index};
    return true;
}

static bool
read_steps(dp_path *path, size_t len)
{
    const char *p = path->text, *end = path->text + len;
    if (!read_key(&p, end, &path->steps[path->count++])) {
        return false;
    }
    while (p < end) {
        if (path->count == DP_PATH_STEPS_MAX) {
            return false;
        }
        const char c = *p++;
        dp_step *step = &path->steps[path->count++];
        const bool ok = c == '.'   ? read_key(&p, end, step)
                        : c == '[' ? read_index(&p, end, step)
                                   : false;
        if (!ok) {
            return false;
        }
    }
    return true;
}

ort_err
dp_path_parse(dp_path **out, const char *text, size_t len, ort_diag *diag)
{
    *out = NULL;
    dp_path *path = malloc(sizeof *path + len + 1);
    if (path == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    path->count = 0;
    memcpy(path->text, text, len);
    path->text[len] = '\0';
    if (!read_steps(path, len)) {
        free(path);
        return ort_fail(diag, ORT_EFORMAT, "Invalid json path: '%.*s'", len > 200 ? 200 : (int)len,
                        text);
    }
    *out = path;
    return ORT_OK;
}

/* The arrays on the way are named with [] in the whole path, and without it in the places. */
bool
dp_path__is_at(const dp_path *whole, const dp_place *place, const dp_path *path)
{
    uint32_t end = whole->count;
    const dp_path *tail = path;
    for (const dp_place *p = place;; p = p->outer) {
        if (end < tail->count) {
            return false;
        }
        end -= tail->count;
        for (uint32_t i = 0; i < tail->count; i++) {
            if (!dp_step__is_same(&whole->steps[end + i], &tail->steps[i])) {
                return false;
            }
        }
        if (p == NULL) {
            return end == 0;
        }
        if (end == 0 || whole->steps[--end].kind != DP_STEP_ALL) {
            return false;
        }
        tail = p->path;
    }
}

void
dp_path_free(dp_path *path)
{
    free(path);
}

ort_json
dp_json_member(ort_json object, const char *key, size_t len)
{
    ort_json found = {0};
    if (ort_json_type_of(object) != ORT_JSON_OBJECT) {
        return found;
    }
    for (ort_json_iter it = ort_json_each(object); ort_json_step(&it);) {
        size_t n;
        const char *k = ort_json_str(it.key, &n);
        if (k != NULL && n == len && memcmp(k, key, len) == 0) {
            found = it.value;
        }
    }
    return found;
}

typedef struct {
    const dp_path *path;
    bool (*visit)(void *ctx, ort_json value);
    void *ctx;
} walk;

static bool walk_from(const walk *w, uint32_t step, ort_json v);

static bool
walk_elements(const walk *w, uint32_t step, ort_json array)
{
    const dp_step *s = &w->path->steps[step];
    uint32_t i = 0;
    if (ort_json_type_of(array) != ORT_JSON_ARRAY) {
        return true;
    }
    for (ort_json_iter it = ort_json_each(array); ort_json_step(&it); i++) {
        if (s->kind == DP_STEP_ALL || s->index == i) {
            if (!walk_from(w, step + 1, it.value)) {
                return false;
            }
        }
    }
    return true;
}

/* Recursion is bounded by DP_PATH_STEPS_MAX. */
static bool
walk_from(const walk *w, uint32_t step, ort_json v)
{
    if (step == w->path->count) {
        return w->visit(w->ctx, v);
    }
    const dp_step *s = &w->path->steps[step];
    if (s->kind != DP_STEP_KEY) {
        return walk_elements(w, step, v);
    }
    const ort_json member = dp_json_member(v, s->key, s->key_len);
    return ort_json_type_of(member) == ORT_JSON_NONE || walk_from(w, step + 1, member);
}

bool
dp_path_each(const dp_path *path, ort_json root, bool (*visit)(void *ctx, ort_json value),
             void *ctx)
{
    const walk w = {.path = path, .visit = visit, .ctx = ctx};
    return walk_from(&w, 0, root);
}

#define ACTIVE_MAX 256u /* paths of a selector */

static ort_err
read_paths(dp_path ***out, size_t *count_out, ort_json list, ort_diag *diag)
{
    const uint32_t count = ort_json_count(list);
    if (count > ACTIVE_MAX) {
        return ort_fail(diag, ORT_EINVAL, "a payload selector of %u paths is over %u", count,
                        ACTIVE_MAX);
    }
    dp_path **paths = calloc(count > 0 ? count : 1, sizeof(dp_path *));
    size_t n = 0;
    ort_err err = ORT_OK;
    if (paths == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    for (ort_json_iter it = ort_json_each(list); err == ORT_OK && ort_json_step(&it);) {
        size_t len;
        const char *text = ort_json_str(it.value, &len);
        err = text == NULL ? ort_fail(diag, ORT_EFORMAT, "payload selector: expected a string")
                           : dp_path_parse(&paths[n], text, len, diag);
        n += err == ORT_OK;
    }
    *out = paths; /* what was parsed so far; the caller releases the selector on failure */
    *count_out = n;
    return err;
}

static ort_err
read_selector_object(dp_payload_selector *out, ort_json v, ort_diag *diag)
{
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        const bool include = ort_json_str_is(it.key, "include");
        if ((!include && !ort_json_str_is(it.key, "exclude")) || ort_json_count(v) != 1 ||
            ort_json_type_of(it.value) != ORT_JSON_ARRAY) {
            break;
        }
        return include ? read_paths(&out->include, &out->include_count, it.value, diag)
                       : read_paths(&out->exclude, &out->exclude_count, it.value, diag);
    }
    return ort_fail(diag, ORT_EFORMAT,
                    "data did not match any variant of untagged enum WithPayloadInterface");
}

ort_err
dp_payload_selector_parse(dp_payload_selector *out, ort_json v, bool absent, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *out = (dp_payload_selector){0};
    switch (ort_json_type_of(v)) {
    case ORT_JSON_NONE:
    case ORT_JSON_NULL:
        out->all = absent;
        break;
    case ORT_JSON_BOOL:
        err = ort_json_bool(v, &out->all);
        break;
    case ORT_JSON_ARRAY:
        err = read_paths(&out->include, &out->include_count, v, diag);
        break;
    case ORT_JSON_OBJECT:
        err = read_selector_object(out, v, diag);
        break;
    default:
        err = ort_fail(diag, ORT_EFORMAT,
                       "data did not match any variant of untagged enum WithPayloadInterface");
    }
    if (err != ORT_OK) {
        dp_payload_selector_fini(out);
    }
    return err;
}

void
dp_payload_selector_fini(dp_payload_selector *selector)
{
    for (size_t i = 0; i < selector->include_count; i++) {
        dp_path_free(selector->include[i]);
    }
    for (size_t i = 0; i < selector->exclude_count; i++) {
        dp_path_free(selector->exclude[i]);
    }
    free(selector->include);
    free(selector->exclude);
    *selector = (dp_payload_selector){0};
}

bool
dp_payload_selector_wants(const dp_payload_selector *selector)
{
    return selector->all || selector->include != NULL || selector->exclude != NULL;
}

/* --- writing a part of a payload: the paths that still lead below the value at hand travel down
 * with it, each with the step it stands before. */

typedef struct {
    const dp_path *path;
    uint32_t step;
} active;

typedef struct {
    ort_jw *w;
    bool include;
} projection;

static void project(const projection *p, ort_json v, const active *list, size_t count);

/* The paths of list that go on through this child; *hit when one ends there. */
static size_t
descend(const active *list, size_t count, active *next, bool *hit, const char *key, size_t key_len)
{
    size_t n = 0;
    *hit = false;
    for (size_t i = 0; i < count; i++) {
        const dp_step *s = &list[i].path->steps[list[i].step];
        const bool same = key != NULL ? s->kind == DP_STEP_KEY && s->key_len == key_len &&
                                            memcmp(s->key, key, key_len) == 0
                                      : s->kind == DP_STEP_ALL;
        if (!same) {
            continue;
        }
        if (list[i].step + 1 == list[i].path->count) {
            *hit = true;
        } else {
            next[n++] = (active){.path = list[i].path, .step = list[i].step + 1};
        }
    }
    return n;
}

static bool
is_container(ort_json v)
{
    return ort_json_type_of(v) >= ORT_JSON_ARRAY;
}

static void
project_object(const projection *p, ort_json v, const active *list, size_t count)
{
    active next[ACTIVE_MAX];
    ort_jw_object(p->w);
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        size_t len;
        bool hit;
        const char *key = ort_json_str(it.key, &len);
        if (key == NULL) {
            p->w->buf->failed = true;
            return;
        }
        const size_t n = descend(list, count, next, &hit, key, len);
        const bool below = n > 0 && is_container(it.value);
        if (p->include ? !hit && !below : hit) {
            continue;
        }
        ort_jw_key_n(p->w, key, len);
        if (hit || !below) {
            ort_jw_value(p->w, it.value);
        } else {
            project(p, it.value, next, n);
        }
    }
    ort_jw_object_end(p->w);
}

/* Elements of arrays keep their places, as at Qdrant: a path goes on through "[]", or straight
 * through an array with the key behind it. */
static void
project_array(const projection *p, ort_json v, const active *list, size_t count)
{
    active next[ACTIVE_MAX];
    ort_jw_array(p->w);
    for (ort_json_iter it = ort_json_each(v); ort_json_step(&it);) {
        bool hit;
        const size_t n = descend(list, count, next, &hit, NULL, 0);
        const bool below = n > 0 && is_container(it.value);
        if (p->include ? !hit && !below : hit) {
            continue;
        }
        if (hit || !below) {
            ort_jw_value(p->w, it.value);
        } else {
            project(p, it.value, next, n);
        }
    }
    ort_jw_array_end(p->w);
}

static void
project(const projection *p, ort_json v, const active *list, size_t count)
{
    if (ort_json_type_of(v) == ORT_JSON_OBJECT) {
        project_object(p, v, list, count);
    } else {
        project_array(p, v, list, count);
    }
}

ort_err
dp_payload_write(const dp_payload_selector *selector, const char *payload, size_t len, ort_jw *w,
                 ort_diag *diag)
{
    const bool include = selector->include != NULL;
    dp_path *const *paths = include ? selector->include : selector->exclude;
    const size_t count = include ? selector->include_count : selector->exclude_count;
    active first[ACTIVE_MAX];
    ort_json_doc *doc;

    if (len == 0) {
        ort_jw_raw(w, "{}", 2);
        return ort_buf_check(w->buf);
    }
    if (selector->all || paths == NULL) {
        ort_jw_raw(w, payload, len);
        return ort_buf_check(w->buf);
    }
    ort_err err = ort_json_parse(&doc, payload, len, (ort_json_limits){0}, diag);
    if (err != ORT_OK) {
        return err == ORT_EFORMAT ? ORT_ECORRUPT : err;
    }
    for (size_t i = 0; i < count; i++) {
        first[i] = (active){.path = paths[i]};
    }
    const projection p = {.w = w, .include = include};
    project_object(&p, ort_json_root(doc), first, count);
    ort_json_free(doc);
    return ort_buf_check(w->buf);
}
