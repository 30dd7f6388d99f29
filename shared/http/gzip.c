/* Bodies that come in gzip (RFC 9110, 8.4), and answers in gzip for clients that ask for it
 * (12.5.3). Whole bodies only: what is streamed is mostly packed already. Level 1 of libdeflate: a
 * kilobyte of vectors as JSON takes some 8 us and leaves half of it. */
#include <libdeflate.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>

#include "http_internal.h"

#define LEVEL 1
#define BODY_BYTES_MIN 1024u /* below, a packet is a packet */

/* A compressor is some 100 KiB: as many are kept as answers were ever packed at once, up to this.
 */
#define KEPT_MAX 8
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct libdeflate_compressor *kept[KEPT_MAX];
static size_t kept_count;

static struct libdeflate_compressor *
compressor_take(void)
{
    struct libdeflate_compressor *c = NULL;

    pthread_mutex_lock(&lock);
    if (kept_count > 0) {
        c = kept[--kept_count];
    }
    pthread_mutex_unlock(&lock);
    return c != NULL ? c : libdeflate_alloc_compressor(LEVEL);
}

static void
compressor_give_back(struct libdeflate_compressor *c)
{
    pthread_mutex_lock(&lock);
    if (kept_count < KEPT_MAX) {
        kept[kept_count++] = c;
        c = NULL;
    }
    pthread_mutex_unlock(&lock);
    libdeflate_free_compressor(c); /* NULL is fine */
}

/* One element of Accept-Encoding, without its comma: 1 it wants gzip, 0 it refuses it, -1 it speaks
 * of something else. */
static int
element_says(const char *at, size_t len)
{
    const size_t name_len = strcspn(at, " \t;,");
    const size_t name_end = name_len < len ? name_len : len;
    const char *weight = memchr(at, '=', len);

    if (!(name_end == 4 && strncasecmp(at, "gzip", 4) == 0) &&
        !(name_end == 6 && strncasecmp(at, "x-gzip", 6) == 0) && !(name_end == 1 && *at == '*')) {
        return -1;
    }
    /* q=0, q=0., q=0.000 refuse; every other weight is a wish. */
    return weight == NULL || strspn(weight + 1, "0. \t") < (size_t)(at + len - weight - 1);
}

/* Whether the client takes gzip; what names it counts before the asterisk. */
static bool
accepted(const char *list)
{
    bool any = false;

    while (list != NULL && *list != '\0') {
        list += strspn(list, " \t,");
        const size_t len = strcspn(list, ",");
        const int says = len > 0 ? element_says(list, len) : -1;
        if (says >= 0 && *list != '*') {
            return says == 1;
        }
        any = any || says == 1;
        list += len;
    }
    return any;
}

static bool
packs_well(const char *content_type)
{
    return content_type != NULL &&
           (strncmp(content_type, "text/", 5) == 0 || strstr(content_type, "json") != NULL ||
            strstr(content_type, "yaml") != NULL || strstr(content_type, "javascript") != NULL);
}

bool
ort_http__gzip(ort_http_req *req, const char *content_type, const void *bytes, size_t len,
               ort_buf *out)
{
    if (len < BODY_BYTES_MIN || !packs_well(content_type)) {
        return false;
    }
    ort_http_header(req, "Vary", "Accept-Encoding");
    if (!accepted(ort_http_req_header(req, "accept-encoding"))) {
        return false;
    }
    struct libdeflate_compressor *c = compressor_take();
    /* No more room than the body takes: what does not shrink goes as it is. */
    char *at = c != NULL ? ort_buf_reserve(out, len) : NULL;
    const size_t packed = at != NULL ? libdeflate_gzip_compress(c, bytes, len, at, len) : 0;

    if (c != NULL) {
        compressor_give_back(c);
    }
    if (packed == 0) {
        ort_buf_fini(out);
        return false;
    }
    ort_buf_commit(out, packed);
    ort_http_header(req, "Content-Encoding", "gzip");
    return true;
}

/* deflate's own bound on how much a byte can stand for (zlib's technical notes): 1032. */
#define INFLATES_TO_MAX 1032u

/* The last four bytes say how long it was, so that it is unpacked at once into room that it can
 * fill. What says more than its bytes can stand for, or than a body may have, costs nothing. */
static ort_err
unpack(ort_http_req *req, ort_diag *diag)
{
    const unsigned char *end = (const unsigned char *)req->body + req->body_len;
    const uint32_t len = req->body_len < 18 ? 0
                                            : (uint32_t)end[-4] | (uint32_t)end[-3] << 8 |
                                                  (uint32_t)end[-2] << 16 | (uint32_t)end[-1] << 24;
    if (req->body_len < 18 || len / INFLATES_TO_MAX > req->body_len) {
        return ort_fail(diag, ORT_EBADREQ, "the body is no gzip");
    }
    if (len > req->body_max) {
        return ort_fail(diag, ORT_ETOOBIG,
                        "a body of %u bytes, unpacked, is over the limit of %llu", len,
                        (unsigned long long)req->body_max);
    }
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    char *plain = malloc((size_t)len + 1);
    ort_err err =
        d != NULL && plain != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "no memory for a body");
    if (err == ORT_OK && libdeflate_gzip_decompress(d, req->body, req->body_len, plain, len,
                                                    NULL) != LIBDEFLATE_SUCCESS) {
        err = ort_fail(diag, ORT_EBADREQ, "the body is no gzip");
    }
    libdeflate_free_decompressor(d); /* NULL is fine */
    if (err != ORT_OK) {
        free(plain);
        return err;
    }
    free(req->body);
    plain[len] = '\0';
    req->body = plain;
    req->body_len = len;
    return ORT_OK;
}

ort_err
ort_http__gunzip(ort_http_req *req, ort_diag *diag)
{
    const char *coding = ort_http_req_header(req, "content-encoding");

    if (coding == NULL || req->body_len == 0 || strcasecmp(coding, "identity") == 0) {
        return ORT_OK;
    }
    if (strcasecmp(coding, "gzip") != 0 && strcasecmp(coding, "x-gzip") != 0) {
        return ort_fail(diag, ORT_EBADREQ, "a Content-Encoding other than gzip: %.60s", coding);
    }
    return unpack(req, diag);
}
