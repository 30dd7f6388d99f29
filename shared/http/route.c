/* The route table: patterns are cut into segments once; a path is compared with all patterns of
 * its length. Eighty routes cost about a microsecond, so there is no tree to get wrong. */
#include <assert.h>
#include <stdlib.h>

#include "http_internal.h"

static const char *const method_names[] = {
    [ORT_HTTP_GET] = "GET",         [ORT_HTTP_HEAD] = "HEAD",   [ORT_HTTP_POST] = "POST",
    [ORT_HTTP_PUT] = "PUT",         [ORT_HTTP_PATCH] = "PATCH", [ORT_HTTP_DELETE] = "DELETE",
    [ORT_HTTP_OPTIONS] = "OPTIONS",
};

ort_http_method
ort_http__method_parse(const char *text)
{
    for (unsigned m = 0; m < ORT_HTTP_OTHER; m++) {
        if (strcmp(text, method_names[m]) == 0) {
            return (ort_http_method)m;
        }
    }
    return ORT_HTTP_OTHER;
}

const char *
ort_http__method_name(ort_http_method method)
{
    return method < ORT_HTTP_OTHER ? method_names[method] : "OTHER";
}

/* Cuts "/a/{b}" at its slashes. false: not such a pattern. */
static bool
pattern_cut(ort_http__pattern *p, const char *text)
{
    uint32_t params = 0;

    p->segment_count = 0;
    if (text == NULL || text[0] != '/') {
        return false;
    }
    if (text[1] == '\0') {
        return true; /* "/" has no segment */
    }
    for (const char *at = text; *at == '/';) {
        const char *begin = at + 1;
        size_t len = strcspn(begin, "/");
        if (len == 0 || p->segment_count == ORT_HTTP_SEGMENTS_MAX) {
            return false;
        }
        ort_http__segment *s = &p->segments[p->segment_count++];
        s->is_param = begin[0] == '{';
        s->text = begin;
        s->len = (uint32_t)len;
        if (s->is_param) {
            if (len < 3 || begin[len - 1] != '}' || ++params > ORT_HTTP_PARAMS_MAX) {
                return false;
            }
            s->text++;
            s->len -= 2;
        }
        at = begin + len;
    }
    return true;
}

/* Two patterns that fit exactly the same paths. */
static bool
pattern_same(const ort_http__pattern *a, const ort_http__pattern *b)
{
    if (a->segment_count != b->segment_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->segment_count; i++) {
        const ort_http__segment *x = &a->segments[i];
        const ort_http__segment *y = &b->segments[i];
        if (x->is_param != y->is_param ||
            (!x->is_param && (x->len != y->len || memcmp(x->text, y->text, x->len) != 0))) {
            return false;
        }
    }
    return true;
}

ort_err
ort_http__routes_init(ort_http__routes *routes, const ort_http_route *table, size_t count,
                      ort_diag *diag)
{
    routes->count = 0;
    routes->patterns = calloc(count > 0 ? count : 1, sizeof *routes->patterns);
    if (routes->patterns == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "%zu routes", count);
    }
    for (size_t i = 0; i < count; i++) {
        ort_http__pattern *p = &routes->patterns[i];
        p->route = &table[i];
        if (table[i].handler == NULL || table[i].method >= ORT_HTTP_OTHER ||
            !pattern_cut(p, table[i].pattern)) {
            return ort_fail(diag, ORT_EINVAL, "route %zu (%s) is malformed", i,
                            table[i].pattern != NULL ? table[i].pattern : "no pattern");
        }
        for (size_t k = 0; k < i; k++) {
            if (table[k].method == table[i].method && pattern_same(p, &routes->patterns[k])) {
                return ort_fail(diag, ORT_EINVAL, "two routes for %s %s",
                                ort_http__method_name(table[i].method), table[i].pattern);
            }
        }
    }
    routes->count = count;
    return ORT_OK;
}

void
ort_http__routes_fini(ort_http__routes *routes)
{
    free(routes->patterns);
    *routes = (ort_http__routes){0};
}

typedef struct {
    const char *text; /* decoded */
    size_t len;
} piece;

static bool
pattern_fits(const ort_http__pattern *p, const piece *pieces, uint32_t count)
{
    if (p->segment_count != count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const ort_http__segment *s = &p->segments[i];
        if (s->is_param ? pieces[i].len == 0
                        : s->len != pieces[i].len || memcmp(s->text, pieces[i].text, s->len) != 0) {
            return false;
        }
    }
    return true;
}

/* Whether a says more than b about the paths they both fit: the first segment in which one is a
 * literal and the other a parameter decides. */
static bool
pattern_sharper(const ort_http__pattern *a, const ort_http__pattern *b)
{
    for (uint32_t i = 0; i < a->segment_count; i++) {
        if (a->segments[i].is_param != b->segments[i].is_param) {
            return b->segments[i].is_param;
        }
    }
    return false;
}

/* Decodes the segments of req->path into req->decoded. ORT_ETOOBIG: more than any pattern has. */
static ort_err
path_cut(ort_http_req *req, piece *pieces, uint32_t *count_out)
{
    uint32_t count = 0;

    if (req->path[0] != '/') {
        return ORT_EBADREQ;
    }
    for (const char *at = req->path; *at == '/' && at[1] != '\0';) {
        const char *begin = at + 1;
        size_t len = strcspn(begin, "/");
        size_t n = 0;
        char *out = req->decoded + req->decoded_len;
        if (ort_http__decode(begin, len, false, out, &n) != ORT_OK) {
            return ORT_EBADREQ;
        }
        if (count == ORT_HTTP_SEGMENTS_MAX) {
            return ORT_ETOOBIG;
        }
        req->decoded_len += n + 1; /* the NUL stands for the slash */
        assert(req->decoded_len <= sizeof req->decoded);
        pieces[count++] = (piece){.text = out, .len = n};
        at = begin + len;
    }
    *count_out = count;
    return ORT_OK;
}

static void
params_fill(ort_http_req *req, const ort_http__pattern *p, const piece *pieces)
{
    req->param_count = 0;
    for (uint32_t i = 0; i < p->segment_count; i++) {
        if (p->segments[i].is_param) {
            req->params[req->param_count++] = (ort_http__param){
                .name = p->segments[i].text,
                .name_len = p->segments[i].len,
                .value = pieces[i].text,
            };
        }
    }
}

ort_http__match
ort_http__route_find(ort_http_req *req, uint32_t *allow_out)
{
    const ort_http__routes *routes = &req->server->routes;
    const ort_http__pattern *best = NULL;
    piece pieces[ORT_HTTP_SEGMENTS_MAX];
    uint32_t count = 0;
    uint32_t allow = 0;

    switch (path_cut(req, pieces, &count)) {
    case ORT_OK:
        break;
    case ORT_ETOOBIG:
        return ORT_HTTP_NO_PATH;
    default:
        return ORT_HTTP_BAD_PATH;
    }
    /* The sharpest pattern of the path with this method; HEAD falls back on GET. */
    for (size_t i = 0; i < routes->count; i++) {
        const ort_http__pattern *p = &routes->patterns[i];
        if (!pattern_fits(p, pieces, count)) {
            continue;
        }
        ort_http_method m = p->route->method;
        allow |= 1u << m;
        bool exact = m == req->method;
        if (!exact && !(m == ORT_HTTP_GET && req->method == ORT_HTTP_HEAD)) {
            continue;
        }
        if (best == NULL || pattern_sharper(p, best) ||
            (exact && best->route->method != req->method && !pattern_sharper(best, p))) {
            best = p;
        }
    }
    if (best == NULL) {
        *allow_out = allow;
        return allow != 0 ? ORT_HTTP_NO_METHOD : ORT_HTTP_NO_PATH;
    }
    req->route = best->route;
    params_fill(req, best, pieces);
    return ORT_HTTP_FOUND;
}
