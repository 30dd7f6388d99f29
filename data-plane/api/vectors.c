/* Vectors of a collection by name: PUT and DELETE /collections/{c}/vectors/{name}. */
#include <string.h>

#include "api/api_internal.h"

ort_err
dp_api__vector_add(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    const char *vector = ort_http_req_param(call->req, "vector");
    ort_json body;
    bool wait = false;

    ort_err err = dp_call_write_params(call, &wait);
    if (err == ORT_OK) {
        err = dp_call_body(call, false, &body);
    }
    if (err == ORT_OK) {
        dp_call_slot_leave(call); /* it waits for others, and for the disk */
        err = dp_tenant_add_vector(call->pass.tenant, name, strlen(name), vector, strlen(vector),
                                   body, ort_http_req_deadline_ns(call->req), &call->diag);
    }
    return err == ORT_OK ? dp_api__write_newest(call, wait) : err;
}

ort_err
dp_api__vector_drop(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    const char *vector = ort_http_req_param(call->req, "vector");
    bool wait = false;

    ort_err err = dp_call_write_params(call, &wait);
    if (err == ORT_OK) {
        dp_call_slot_leave(call);
        err = dp_tenant_drop_vector(call->pass.tenant, name, strlen(name), vector, strlen(vector),
                                    ort_http_req_deadline_ns(call->req), &call->diag);
    }
    return err == ORT_OK ? dp_api__write_newest(call, wait) : err;
}
