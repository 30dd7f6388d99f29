/* What every handler needs of its request: body, collection, parameters. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/api_internal.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/num.h"

/* 64 prefetches, each an object in an array, and a query with a filter in the innermost. */
#define READ_DEPTH_MAX (2 * ORT_PREFETCH_DEPTH_MAX + ORT_JSON_DEPTH_MAX)

static const char *
type_word(ort_json v)
{
    switch (ort_json_type_of(v)) {
    case ORT_JSON_NULL:
        return "null";
    case ORT_JSON_BOOL:
        return "boolean";
    case ORT_JSON_NUMBER:
        return ort_json_is_integer(v) ? "integer" : "floating point";
    case ORT_JSON_STRING:
        return "string";
    case ORT_JSON_ARRAY:
        return "sequence";
    case ORT_JSON_OBJECT:
        return "map";
    default:
        return "nothing";
    }
}

ort_err
dp_call_bad_type(dp_call *call, const char *key, ort_json v, const char *expected)
{
    size_t len;
    const char *raw = ort_json_raw(v, &len);
    const int shown = len > 40 ? 40 : (int)len;
    const ort_json_type type = ort_json_type_of(v);

    if (type == ORT_JSON_BOOL || type == ORT_JSON_NUMBER) {
        return ort_fail(&call->diag, ORT_EFORMAT, "%s: invalid value: %s `%.*s`, expected %s", key,
                        type_word(v), shown, raw, expected);
    }
    return ort_fail(&call->diag, ORT_EFORMAT, "%s: invalid type: %s, expected %s", key,
                    type_word(v), expected);
}

ort_err
dp_call_missing(dp_call *call, const char *key)
{
    return ort_fail(&call->diag, ORT_EFORMAT, "missing field `%s`", key);
}

dp_stage
dp_call_stage(dp_call *call, dp_stage stage)
{
    const uint64_t now = ort_mono_ns();
    const dp_stage before = call->stage;

    if (call->stage_begin_ns != 0) {
        call->stage_ns[before] += now - call->stage_begin_ns;
    }
    call->stage_begin_ns = now;
    call->stage = stage;
    return before;
}

typedef struct {
    dp_call *call;
    dp_point_fn fn;
    void *ctx;
} timed_fn;

static ort_err
call_timed(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    const timed_fn *timed = ctx;
    const dp_stage before = dp_call_stage(timed->call, DP_STAGE_ANSWER);
    const ort_err err = timed->fn(timed->ctx, query, schema, view);

    dp_call_stage(timed->call, before);
    return err;
}

ort_err
dp_call_check_time(dp_call *call)
{
    return ort_mono_ns() < ort_http_req_deadline_ns(call->req)
               ? ORT_OK
               : ort_fail(&call->diag, ORT_ETIMEOUT, "the steps of this request took too long");
}

ort_err
dp_call_query(dp_call *call, const dp_query *queries, size_t count, bool want_payload,
              dp_point_fn fn, void *ctx)
{
    timed_fn timed = {.call = call, .fn = fn, .ctx = ctx};
    const ort_err late = dp_call_check_time(call);
    if (late != ORT_OK) {
        return late;
    }
    const dp_stage before = dp_call_stage(call, DP_STAGE_SEARCH);
    const ort_err err = dp_collection_query(call->collection, queries, count, want_payload,
                                            call_timed, &timed, &call->diag);

    dp_call_stage(call, before);
    return err;
}

ort_err
dp_call_body(dp_call *call, bool may_be_empty, ort_json *out)
{
    size_t len;
    const char *text = ort_http_req_body(call->req, &len);

    *out = (ort_json){0};
    if (len == 0 && may_be_empty) {
        text = "{}";
        len = 2;
    }
    /* What is stored keeps to the depth that everything is read back with; prefetches may be nested
     * beyond it. */
    const bool stores = (call->route->flags & DP_ROUTE_STORES) != 0;
    const ort_json_limits limits = {.floats = true, .depth_max = stores ? 0 : READ_DEPTH_MAX};
    const dp_stage before = dp_call_stage(call, DP_STAGE_JSON);
    ort_err err = ort_json_parse(&call->doc, text, len, limits, &call->diag);
    dp_call_stage(call, before);
    if (err != ORT_OK) {
        return err;
    }
    *out = ort_json_root(call->doc);
    if (ort_json_type_of(*out) != ORT_JSON_OBJECT) {
        return ort_fail(&call->diag, ORT_EFORMAT, "invalid type: %s, expected a JSON object",
                        type_word(*out));
    }
    return ORT_OK;
}

ort_err
dp_call_use_collection(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    const ort_err err =
        dp_tenant_use(call->pass.tenant, name, strlen(name), &call->collection, &call->diag);

    return err == ORT_OK ? dp_api__check_strict(call) : err;
}

ort_err
dp_call_filter(dp_call *call, dp_filter **out, ort_json v, const char *where)
{
    const ort_err err = dp_filter_parse(out, v, where, &call->diag);
    dp_filter_set_until_ns(*out, ort_http_req_deadline_ns(call->req));
    return err;
}

ort_err
dp_call_get_bool(dp_call *call, ort_json object, const char *key, bool *out)
{
    const ort_json v = ort_json_get(object, key);
    if (!ort_json_given(v) || ort_json_bool(v, out) == ORT_OK) {
        return ORT_OK;
    }
    return dp_call_bad_type(call, key, v, "a boolean");
}

ort_err
dp_call_get_u64(dp_call *call, ort_json object, const char *key, uint64_t *out)
{
    const ort_json v = ort_json_get(object, key);
    if (!ort_json_given(v) || ort_json_u64(v, out) == ORT_OK) {
        return ORT_OK;
    }
    return dp_call_bad_type(call, key, v, "usize");
}

/* A decimal number of a query parameter. */
static bool
param_u64(const char *text, uint64_t *out)
{
    const size_t len = strlen(text);
    bool integer;
    const char *end = text + len;
    return len > 0 && ort_num_scan(text, end, &integer) == end && integer &&
           ort_num_u64(text, len, out) == ORT_OK;
}

/* `timeout` in seconds: the caller wants an answer by then, so we need not wait longer. */
static ort_err
take_timeout(dp_call *call)
{
    const char *text = ort_http_req_query(call->req, "timeout");
    uint64_t s;

    if (text == NULL || text[0] == '\0') {
        return ORT_OK;
    }
    if (!param_u64(text, &s)) {
        return ort_fail(&call->diag, ORT_EFORMAT, "timeout: invalid digit found in string");
    }
    if (s == 0) {
        return ort_fail(&call->diag, ORT_EVALIDATE,
                        "timeout: value 0 invalid, must be 1 or larger");
    }
    const uint64_t begin = ort_http_req_begin_ns(call->req);
    if (s < 3600 && begin + s * 1000000000u < ort_http_req_deadline_ns(call->req)) {
        ort_http_req_set_deadline_ns(call->req, begin + s * 1000000000u);
    }
    return ORT_OK;
}

static bool
one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

ort_err
dp_call_read_params(dp_call *call)
{
    static const char *const levels[] = {"", "majority", "quorum", "all", NULL};
    const char *consistency = ort_http_req_query(call->req, "consistency");
    uint64_t n;

    call->place = DP_PLACE_QUERY;
    if (consistency != NULL && !one_of(consistency, levels)) {
        if (!param_u64(consistency, &n)) {
            return ort_fail(&call->diag, ORT_EFORMAT,
                            "consistency: failed to parse read consistency, expected integer, "
                            "`majority`, `quorum` or `all`");
        }
        if (n == 0) {
            return ort_fail(&call->diag, ORT_EFORMAT,
                            "consistency: read consistency factor can't be zero");
        }
    }
    const ort_err err = take_timeout(call);
    if (err == ORT_OK) {
        call->place = DP_PLACE_BODY;
    }
    return err;
}

ort_err
dp_call_write_params(dp_call *call, bool *wait_out)
{
    static const char *const orderings[] = {"weak", "medium", "strong", NULL};
    const char *wait = ort_http_req_query(call->req, "wait");
    const char *ordering = ort_http_req_query(call->req, "ordering");

    *wait_out = false; /* the server's default; most clients send true */
    call->place = DP_PLACE_QUERY;
    if (wait != NULL) {
        *wait_out = strcmp(wait, "true") == 0;
        if (!*wait_out && strcmp(wait, "false") != 0) {
            return ort_fail(&call->diag, ORT_EFORMAT,
                            "wait: provided string was not `true` or `false`");
        }
    }
    if (ordering != NULL && !one_of(ordering, orderings)) {
        return ort_fail(&call->diag, ORT_EFORMAT,
                        "ordering: unknown variant, expected one of `weak`, `medium`, `strong`");
    }
    const ort_err err = take_timeout(call);
    if (err == ORT_OK) {
        call->place = DP_PLACE_BODY;
    }
    return err;
}
