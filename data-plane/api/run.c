/* The way of one call: admit (head only) → body → slot → handler → answer → done.
 *
 * The gate decides on the head; a dp_call carries its pass from there to the end. The answer is
 * made in memory while a CPU slot is held and sent after it was given back, so that a slow reader
 * holds a connection and nothing else. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_internal.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"

static const ort_log log_api = {"api"};

static uint64_t
thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static ort_err
slot_enter(dp_call *call)
{
    const ort_err err = dp_gate_slot_enter(call->api->config.gate, &call->pass,
                                           ort_http_req_deadline_ns(call->req));
    if (err == ORT_OK) {
        call->in_slot = true;
        call->slot_cpu_ns = thread_cpu_ns();
        return ORT_OK;
    }
    return err == ORT_EBUSY
               ? ort_fail(&call->diag, err, "too many requests of this tenant are waiting")
               : ort_fail(&call->diag, err, "the request waited too long for its turn");
}

void
dp_call_slot_leave(dp_call *call)
{
    if (call->in_slot) {
        call->in_slot = false;
        dp_gate_slot_leave(call->api->config.gate, &call->pass,
                           thread_cpu_ns() - call->slot_cpu_ns);
    }
}

/* Tells every caller how much of the tightest rate is left, so that a polite client slows down
 * before it is refused (draft-ietf-httpapi-ratelimit-headers). */
static void
rate_fields(dp_call *call)
{
    const dp_gate_pass *pass = &call->pass;
    if (pass->has_rate) {
        ort_http_headerf(call->req, "RateLimit-Policy", "\"%s\";q=%llu;w=60", pass->rate.policy,
                         (unsigned long long)pass->rate.per_minute);
        ort_http_headerf(call->req, "RateLimit", "\"%s\";r=%llu;t=%llu", pass->rate.policy,
                         (unsigned long long)pass->rate.left,
                         (unsigned long long)pass->rate.reset_s);
    }
}

/* What the body will take in memory; -1: not known. What comes packed may be many times as long. */
static int64_t
body_bytes(const ort_http_req *req, const dp_route *route)
{
    const int64_t n = ort_http_req_content_length(req);
    if ((route->flags & DP_ROUTE_STREAM) != 0) {
        return 64 << 10; /* it passes through a buffer, whatever its length */
    }
    return ort_http_req_header(req, "content-encoding") == NULL ? n
           : n < 0 || n > ORT_BODY_BYTES_MAX / 1032             ? (int64_t)ORT_BODY_BYTES_MAX
                                                                : n * 1032;
}

bool
dp_api__admit(ort_http_req *req, void *user)
{
    dp_api *api = user;
    const dp_route *route = ort_http_req_route(req)->extra;
    dp_call *call = calloc(1, sizeof *call);

    if (call == NULL) {
        dp_api__reply_error(req, 500, "Service internal error: out of memory");
        return false;
    }
    call->api = api;
    call->req = req;
    call->route = route;
    dp_call_stage(call, DP_STAGE_GATE);
    ort_http_req_set_slot(req, call);
    if ((route->flags & DP_ROUTE_PUBLIC) != 0) {
        return true;
    }
    const dp_gate_ask ask = {
        .api_key = ort_http_req_header(req, "api-key"),
        .authorization = ort_http_req_header(req, "authorization"),
        .scopes_any = route->scopes_any,
        .collection = ort_http_req_param(req, "collection"),
        .grows = (route->flags & DP_ROUTE_GROWS) != 0,
        .stores = (route->flags & DP_ROUTE_STORES) != 0,
        .body_bytes = body_bytes(req, route),
        .body_bytes_likely = 1u << 20,
        .forwarded = ort_http_req_header(req, DP_API_FORWARDED) != NULL,
        .mono_ns = ort_mono_ns(),
        .wall_ms = ort_wall_ms(),
    };
    dp_gate_ask_pass(api->config.gate, &ask, &call->pass);
    rate_fields(call);
    if (call->pass.verdict == DP_GATE_REFUSED) {
        dp_api__reply_refusal(call);
        return false;
    }
    dp_call_stage(call, DP_STAGE_WAIT);
    return true;
}

static void
reply_failed(dp_call *call, ort_err err)
{
    ort_buf text = {0};
    const int status = dp_api__error_status(err);

    dp_api__error_text(err, call->place, call->diag.text, &text);
    const char *said = ort_buf_peek_cstr(&text);
    if (status == 503) {
        ort_http_header(call->req, "Retry-After", "1");
    }
    if (status == 500) {
        ORT_LOG_ERROR(&log_api, "request.failed", "request=%s path=%s err=%s detail=%s",
                      ort_http_req_id(call->req), ort_http_req_path(call->req), ort_err_code(err),
                      call->diag.text);
    }
    dp_api__reply_error(call->req, status, said != NULL ? said : "out of memory");
    ort_buf_fini(&text);
}

static void
reply_result(dp_call *call)
{
    ort_buf_puts(&call->out, ",\"status\":\"ok\",\"time\":");
    call->w.comma = false;
    dp_api__write_time(&call->w, call->req);
    ort_buf_putc(&call->out, '}');
    ort_http_reply_json(call->req, 200, &call->out);
}

/* A forward is one message in memory, and a snapshot may be larger than that. */
static void
reply_elsewhere(dp_call *call)
{
    char text[400];
    snprintf(text, sizeof text,
             "Misdirected request: snapshots are sent to and taken from the node that holds the "
             "tenant: %.250s",
             call->pass.home->endpoint);
    dp_api__reply_error(call->req, 421, text);
}

void
dp_api__run(ort_http_req *req, void *user)
{
    dp_call *call = ort_http_req_slot(req);
    (void)user;

    if ((call->route->flags & DP_ROUTE_PUBLIC) != 0) {
        const ort_err err = call->route->fn(call);
        if (err != ORT_OK) {
            reply_failed(call, err);
        }
        return;
    }
    if (call->pass.verdict == DP_GATE_FORWARD) {
        if ((call->route->flags & DP_ROUTE_STREAM) != 0) {
            reply_elsewhere(call);
        } else {
            dp_api__forward(call);
        }
        return;
    }
    ort_err err = slot_enter(call);
    if (err == ORT_OK) {
        dp_call_stage(call, DP_STAGE_PLAN);
        call->w = (ort_jw){.buf = &call->out};
        ort_buf_puts(&call->out, "{\"result\":");
        err = call->route->fn(call);
        ort_json_free(call->doc);
        call->doc = NULL;
        if (call->collection != NULL) {
            dp_tenant_release(call->pass.tenant, call->collection);
            call->collection = NULL;
        }
        dp_call_slot_leave(call);
        dp_call_stage(call, DP_STAGE_ANSWER);
    }
    if (err == ORT_OK) {
        err = ort_buf_check(&call->out);
    }
    if (ort_http_replied(req)) {
        return; /* the handler has answered by itself */
    }
    if (err != ORT_OK) {
        reply_failed(call, err);
    } else {
        reply_result(call);
    }
}

void
dp_api__done(ort_http_req *req, const ort_http_outcome *outcome, void *user)
{
    dp_api *api = user;
    dp_call *call = ort_http_req_slot(req);

    dp_api__observe(api, req, outcome);
    if (call == NULL) {
        return; /* unknown path or method, or refused by the front */
    }
    dp_api__observe_stages(call, outcome->status);
    if (call->pass.tenant != NULL && call->pass.verdict == DP_GATE_HERE) {
        dp_tenant_meter(call->pass.tenant, call->route->meter, outcome->bytes_in,
                        outcome->bytes_out);
    }
    assert(!call->in_slot);
    if ((call->route->flags & DP_ROUTE_PUBLIC) == 0) {
        dp_gate_leave(api->config.gate, &call->pass);
    }
    ort_buf_fini(&call->out);
    free(call);
    ort_http_req_set_slot(req, NULL);
}
