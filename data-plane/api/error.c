/* Errors in Qdrant's words. Clients match some of these texts exactly; the prefixes are a part of
 * the contract, so they stand in one table.
 *
 *   err            status  prefix
 *   ORT_EFORMAT    400     Format error in JSON body: | Deserialize error in query parameters:
 *   ORT_EVALIDATE  422     Validation error in JSON body: [..] | query | path parameters: [..]
 *   ORT_EINVAL     400     Wrong input:
 *   ORT_EEXISTS    409     Wrong input:      (".. already exists!": frameworks look for it)
 *   ORT_EBADREQ    400     Bad request:
 *   ... */
#include <stdio.h>
#include <string.h>

#include "api/api_internal.h"
#include "base/clock.h"

int
dp_api__error_status(ort_err err)
{
    switch (err) {
    case ORT_ETOOBIG:
        return 400; /* as Qdrant answers, where others say 413 */
    case ORT_ECONFLICT:
        return 409;
    default:
        return ort_err_http(err);
    }
}

static const char *
prefix_of(ort_err err, dp_place place)
{
    switch (err) {
    case ORT_EFORMAT:
        return place == DP_PLACE_BODY    ? "Format error in JSON body: "
               : place == DP_PLACE_QUERY ? "Deserialize error in query parameters: "
                                         : "Deserialize error in path parameters: ";
    case ORT_EVALIDATE:
        return place == DP_PLACE_BODY    ? "Validation error in JSON body: ["
               : place == DP_PLACE_QUERY ? "Validation error in query parameters: ["
                                         : "Validation error in path parameters: [";
    case ORT_EINVAL:
    case ORT_EEXISTS:
    case ORT_ECONFLICT:
        return "Wrong input: ";
    case ORT_EBADREQ:
        return "Bad request: ";
    case ORT_EDENIED:
        return "Forbidden: ";
    case ORT_ENOTFOUND:
        return "Not found: ";
    case ORT_ETIMEOUT:
        return "Timeout: ";
    case ORT_ERATE:
        return "Rate limiting exceeded: ";
    case ORT_EQUOTA:
    case ORT_ENOSPC:
        return "Insufficient storage: ";
    case ORT_EBUSY:
        return "Service unavailable: ";
    case ORT_ENOTIMPL:
        return "Not implemented: ";
    case ORT_ETOOBIG:
        return "Payload error: ";
    case ORT_EAUTH:
    case ORT_EMETHOD:
    case ORT_EREGION:
        return "";
    default:
        return "Service internal error: ";
    }
}

void
dp_api__error_text(ort_err err, dp_place place, const char *detail, ort_buf *out)
{
    const char *prefix = prefix_of(err, place);
    const bool said = strncmp(detail, prefix, strlen(prefix)) == 0; /* modules may bring it along */

    if (!said) {
        ort_buf_puts(out, prefix);
    }
    ort_buf_puts(out, detail[0] != '\0' ? detail : ort_err_code(err));
    if (err == ORT_EVALIDATE && !said) {
        ort_buf_putc(out, ']');
    }
}

/* Nanoseconds as seconds, to the nanosecond: the double nearest to a sum of such has up to 17
 * digits, most of them noise. */
void
dp_api__write_time(ort_jw *w, const ort_http_req *req)
{
    char text[40];
    const uint64_t ns = ort_mono_ns() - ort_http_req_begin_ns(req);
    const int len =
        snprintf(text, sizeof text, "%llu.%09llu", (unsigned long long)(ns / 1000000000u),
                 (unsigned long long)(ns % 1000000000u));
    ort_jw_raw(w, text, (size_t)len);
}

/* Copies whole characters: a text may be cut where what it quotes was too long. */
static void
put_whole(ort_buf *out, const char *text)
{
    for (size_t i = 0; text[i] != '\0';) {
        const unsigned char c = (unsigned char)text[i];
        const size_t n = c < 0x80   ? 1
                         : c < 0xc0 ? 0
                         : c < 0xe0 ? 2
                         : c < 0xf0 ? 3
                         : c < 0xf8 ? 4
                                    : 0;
        size_t have = n > 0;
        while (have > 0 && have < n && ((unsigned char)text[i + have] & 0xc0) == 0x80) {
            have++;
        }
        if (n > 0 && have == n) {
            ort_buf_put(out, text + i, n);
            i += n;
        } else {
            i++;
        }
    }
}

void
dp_api__reply_error(ort_http_req *req, int status, const char *text)
{
    ort_buf out = {0}, whole = {0};
    ort_jw w = {.buf = &out};

    put_whole(&whole, text);

    ort_jw_object(&w);
    ort_jw_key(&w, "status");
    ort_jw_object(&w);
    ort_jw_key(&w, "error");
    ort_jw_str_n(&w, whole.data != NULL ? whole.data : "", whole.len);
    ort_jw_object_end(&w);
    ort_jw_key(&w, "time");
    dp_api__write_time(&w, req);
    ort_jw_object_end(&w);
    ort_http_reply_json(req, status, &out);
    ort_buf_fini(&whole);
    ort_buf_fini(&out);
}

void
dp_api__refuse(ort_http_req *req, ort_err err, const char *detail, void *user)
{
    ort_buf text = {0};
    (void)user;

    if (err == ORT_ETOOBIG) {
        ort_buf_printf(&text, "Payload error: JSON payload is larger than allowed (%s)", detail);
    } else {
        dp_api__error_text(err, DP_PLACE_BODY, detail, &text);
    }
    const char *said = ort_buf_peek_cstr(&text);
    dp_api__reply_error(req, dp_api__error_status(err), said != NULL ? said : "out of memory");
    ort_buf_fini(&text);
}

/* What the gate said no to. Key errors are plain text, as Qdrant's are. */
void
dp_api__reply_refusal(dp_call *call)
{
    const dp_gate_pass *pass = &call->pass;

    if (pass->refusal.retry_after_s != 0) {
        ort_http_headerf(call->req, "Retry-After", "%u", pass->refusal.retry_after_s);
    }
    if (pass->refusal.plain) {
        ort_http_reply_text(call->req, ort_err_http(pass->refusal.err), pass->refusal.text);
    } else {
        dp_api__reply_error(call->req, dp_api__error_status(pass->refusal.err), pass->refusal.text);
    }
}
