/* multipart/form-data, piece by piece:
 *
 *   BEFORE ──delimiter──► EDGE ──CR LF──► HEAD ──blank line──► WANTED or OTHER ──delimiter──► EDGE
 *                          └──"--"──► END (what follows is an epilogue and means nothing)
 *
 * The first delimiter has no CR LF before it, so one is put there before anything is read. What is
 * held between two pieces is shorter than a delimiter, or a head within its bound. */
#include "api/multipart.h"

#include <stdio.h>
#include <strings.h>

bool
dp_multipart_is(const char *content_type)
{
    static const char kind[] = "multipart/form-data";
    return content_type != NULL && strncasecmp(content_type, kind, sizeof kind - 1) == 0 &&
           strchr("; \t", content_type[sizeof kind - 1]) != NULL;
}

/* The value of a parameter `name=` of a field's value, quoted or not; its length, 0 when it is not
 * there. */
static size_t
parameter(const char *text, size_t len, const char *name, const char **out)
{
    const char *end = text + len;
    const size_t name_len = strlen(name);
    for (const char *at = memchr(text, ';', len); at != NULL;
         at = memchr(at, ';', (size_t)(end - at))) {
        at++;
        while (at < end && (*at == ' ' || *at == '\t')) {
            at++;
        }
        if ((size_t)(end - at) <= name_len || strncasecmp(at, name, name_len) != 0 ||
            at[name_len] != '=') {
            continue;
        }
        at += name_len + 1;
        const bool quoted = at < end && *at == '"';
        at += quoted;
        const char *stop = at;
        while (stop < end && (quoted ? *stop != '"' : *stop != ';' && *stop != ' ')) {
            stop++;
        }
        *out = at;
        return quoted && stop == end ? 0 : (size_t)(stop - at);
    }
    return 0;
}

ort_err
dp_multipart_init(dp_multipart *m, const char *content_type, const char *field, dp_multipart_fn fn,
                  void *ctx, ort_diag *diag)
{
    const char *boundary = NULL;
    const size_t len = parameter(content_type, strlen(content_type), "boundary", &boundary);
    *m = (dp_multipart){.field = field, .fn = fn, .ctx = ctx};
    if (len == 0 || len > DP_MULTIPART_BOUNDARY_MAX) {
        return ort_fail(diag, ORT_EBADREQ,
                        "multipart/form-data without a boundary of 1 to %u bytes",
                        DP_MULTIPART_BOUNDARY_MAX);
    }
    m->delimiter_len =
        (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%.*s", (int)len, boundary);
    ort_buf_puts(&m->held, "\r\n");
    return ort_buf_check(&m->held);
}

void
dp_multipart_fini(dp_multipart *m)
{
    ort_buf_fini(&m->held);
}

static void
drop(ort_buf *held, size_t n)
{
    memmove(held->data, held->data + n, held->len - n);
    held->len -= n;
}

/* Content of a part, up to the delimiter if it is there; *more: there is something left to read. */
static ort_err
content(dp_multipart *m, bool *more, ort_diag *diag)
{
    const char *edge = memmem(m->held.data, m->held.len, m->delimiter, m->delimiter_len);
    const size_t keep = m->delimiter_len - 1;
    const size_t n = edge != NULL         ? (size_t)(edge - m->held.data)
                     : m->held.len > keep ? m->held.len - keep
                                          : 0;
    const ort_err err =
        m->state == DP_PART_WANTED && n > 0 ? m->fn(m->ctx, m->held.data, n, diag) : ORT_OK;
    drop(&m->held, n + (edge != NULL ? m->delimiter_len : 0));
    if (edge != NULL) {
        m->state = DP_PART_EDGE;
    }
    *more = edge != NULL;
    return err;
}

/* Whether the head of a part names the field that is wanted. */
static bool
is_wanted(const dp_multipart *m, const char *head, size_t len)
{
    static const char disposition[] = "content-disposition:";
    const char *end = head + len;
    while (head < end) {
        const char *stop = memmem(head, (size_t)(end - head), "\r\n", 2);
        const size_t line = (size_t)((stop != NULL ? stop : end) - head);
        const char *name = NULL;
        if (line > sizeof disposition - 1 &&
            strncasecmp(head, disposition, sizeof disposition - 1) == 0) {
            const size_t n = parameter(head, line, "name", &name);
            return name != NULL && n == strlen(m->field) && memcmp(name, m->field, n) == 0;
        }
        head += line + 2;
    }
    return false;
}

static ort_err
head(dp_multipart *m, bool *more, ort_diag *diag)
{
    const char *end = memmem(m->held.data, m->held.len, "\r\n\r\n", 4);
    *more = end != NULL;
    if (end == NULL) {
        return m->held.len <= DP_MULTIPART_HEAD_MAX
                   ? ORT_OK
                   : ort_fail(diag, ORT_EBADREQ, "the fields of a part are over %u bytes",
                              DP_MULTIPART_HEAD_MAX);
    }
    const bool wanted = is_wanted(m, m->held.data, (size_t)(end - m->held.data));
    if (wanted && m->found) {
        return ort_fail(diag, ORT_EBADREQ, "the part `%s` stands twice", m->field);
    }
    m->found = m->found || wanted;
    m->state = wanted ? DP_PART_WANTED : DP_PART_OTHER;
    drop(&m->held, (size_t)(end - m->held.data) + 4);
    return ORT_OK;
}

static ort_err
step(dp_multipart *m, bool *more, ort_diag *diag)
{
    *more = false;
    switch (m->state) {
    case DP_PART_EDGE:
        if (m->held.len < 2) {
            return ORT_OK;
        }
        if (memcmp(m->held.data, "--", 2) == 0) {
            m->state = DP_PART_END;
        } else if (memcmp(m->held.data, "\r\n", 2) == 0) {
            m->state = DP_PART_HEAD; /* that CR LF stays: a head may be empty */
        } else {
            return ort_fail(diag, ORT_EBADREQ,
                            "a boundary is followed by neither a line nor an end");
        }
        *more = true;
        return ORT_OK;
    case DP_PART_HEAD:
        return head(m, more, diag);
    case DP_PART_END:
        ort_buf_clear(&m->held);
        return ORT_OK;
    default:
        return content(m, more, diag);
    }
}

ort_err
dp_multipart_put(dp_multipart *m, const void *bytes, size_t n, ort_diag *diag)
{
    bool more = true;
    ort_buf_put(&m->held, bytes, n);
    ort_err err = ort_buf_check(&m->held);
    while (err == ORT_OK && more) {
        err = step(m, &more, diag);
    }
    return err;
}

ort_err
dp_multipart_end(dp_multipart *m, ort_diag *diag)
{
    if (m->state != DP_PART_END) {
        return ort_fail(diag, ORT_EBADREQ, "the multipart body ends before its last boundary");
    }
    return m->found ? ORT_OK
                    : ort_fail(diag, ORT_EBADREQ, "the multipart body has no part `%s`", m->field);
}
