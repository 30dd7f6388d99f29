/* Aliases: other names for collections, changed several at once or not at all. */
#include <string.h>

#include "api/api_internal.h"

/* A key that is limited to some names may neither give those names away nor take others'. */
static ort_err
check_covered(dp_call *call, ort_json action, const char *member)
{
    size_t len;
    const char *name = ort_json_str(ort_json_get(action, member), &len);
    if (name != NULL && !dp_gate_covers(&call->pass, name, len)) {
        return ort_fail(&call->diag, ORT_EDENIED, "this API key is limited to other collections");
    }
    return ORT_OK;
}

static ort_err
check_actions(dp_call *call, ort_json body)
{
    static const char *const members[] = {"collection_name", "alias_name", "old_alias_name",
                                          "new_alias_name"};
    ort_err err = ORT_OK;

    for (ort_json_iter it = ort_json_each(ort_json_get(body, "actions")); ort_json_step(&it);) {
        for (ort_json_iter kind = ort_json_each(it.value); ort_json_step(&kind);) {
            for (size_t i = 0; err == ORT_OK && i < sizeof members / sizeof members[0]; i++) {
                err = check_covered(call, kind.value, members[i]);
            }
        }
    }
    return err;
}

ort_err
dp_api__aliases_change(dp_call *call)
{
    ort_json body;

    ort_err err = dp_call_read_params(call);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        err = check_actions(call, body);
    }
    if (err == ORT_OK) {
        err = dp_tenant_change_aliases(call->pass.tenant, body, &call->diag);
    }
    ort_jw_bool(&call->w, true);
    return err;
}

static bool
list_one(void *ctx, const char *name, const char *of)
{
    dp_call *call = ctx;
    ort_jw *w = &call->w;

    if (dp_gate_covers(&call->pass, name, strlen(name)) &&
        dp_gate_covers(&call->pass, of, strlen(of))) {
        ort_jw_object(w);
        ort_jw_key(w, "alias_name");
        ort_jw_str(w, name);
        ort_jw_key(w, "collection_name");
        ort_jw_str(w, of);
        ort_jw_object_end(w);
    }
    return true;
}

static ort_err
list(dp_call *call, const char *collection)
{
    ort_jw_object(&call->w);
    ort_jw_key(&call->w, "aliases");
    ort_jw_array(&call->w);
    const ort_err err = dp_tenant_list_aliases(call->pass.tenant, collection,
                                               collection != NULL ? strlen(collection) : 0,
                                               list_one, call, &call->diag);
    ort_jw_array_end(&call->w);
    ort_jw_object_end(&call->w);
    return err;
}

ort_err
dp_api__aliases_list(dp_call *call)
{
    return list(call, NULL);
}

ort_err
dp_api__collection_aliases(dp_call *call)
{
    return list(call, ort_http_req_param(call->req, "collection"));
}
