/* The JSON bodies: written by json_write, read through one sticky reader. */
#include "wire/messages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/json_write.h"

/* Values in one JSON body: a heartbeat with every array full. */
#define BODY_VALUES_MAX (3u << 20)

/* ---- reading ---- */

/* Reads members of one object; the first thing wrong stays, and later reads do nothing. */
typedef struct {
    ort_json_doc *doc;
    ort_json at;
    ort_err err;
    ort_diag *diag;
} reader;

static void
wrong(reader *r, const char *key, const char *what)
{
    if (r->err == ORT_OK) {
        r->err = ort_fail(r->diag, ORT_EFORMAT, "%s: %s", key, what);
    }
}

static reader
reader_of(const char *body, size_t n, ort_diag *diag)
{
    reader r = {.diag = diag};
    r.err = ort_json_parse(&r.doc, body, n, (ort_json_limits){.notes_max = BODY_VALUES_MAX}, diag);
    if (r.err == ORT_OK) {
        r.at = ort_json_root(r.doc);
        if (ort_json_type_of(r.at) != ORT_JSON_OBJECT) {
            wrong(&r, "body", "is no object");
        }
    }
    return r;
}

static ort_err
reader_done(reader *r)
{
    ort_json_free(r->doc);
    r->doc = NULL;
    return r->err;
}

/* A reader of one member, or of one element, that is an object itself. */
static reader
reader_in(const reader *r, ort_json object, const char *key)
{
    reader in = {.at = object, .err = r->err, .diag = r->diag};
    if (in.err == ORT_OK && ort_json_type_of(object) != ORT_JSON_OBJECT) {
        wrong(&in, key, "is no object");
    }
    return in;
}

/* false: nothing to read (an error before, or the member is missing or null). */
static bool
member(reader *r, const char *key, bool required, ort_json *out)
{
    if (r->err != ORT_OK) {
        return false;
    }
    *out = ort_json_get(r->at, key);
    if (!ort_json_given(*out)) {
        if (required) {
            wrong(r, key, "is missing");
        }
        return false;
    }
    return true;
}

/* C0 controls and DEL end lines, hide text and cut C strings: none in a name or a URL. */
static bool
is_printable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static void
read_text(reader *r, const char *key, bool required, char *out, size_t cap)
{
    ort_json v;
    size_t len = 0;
    if (!member(r, key, required, &v)) {
        return;
    }
    const char *text = ort_json_str(v, &len);
    if (text == NULL || len >= cap || !is_printable(text, len)) {
        wrong(r, key, "is no printable text of the size it may have");
        return;
    }
    memcpy(out, text, len);
    out[len] = '\0';
}

/* A PEM text: lines, so controls are looked at by who parses it; a NUL would cut it. */
static void
read_pem(reader *r, const char *key, bool required, char **out)
{
    ort_json v;
    size_t len = 0;
    if (!member(r, key, required, &v)) {
        return;
    }
    const char *text = ort_json_str(v, &len);
    if (text == NULL || len == 0 || len > ORT_PEM_BYTES_MAX || memchr(text, 0, len) != NULL) {
        wrong(r, key, "is no PEM text");
        return;
    }
    *out = malloc(len + 1);
    if (*out == NULL) {
        r->err = ort_fail(r->diag, ORT_ENOMEM, "%s", key);
        return;
    }
    memcpy(*out, text, len);
    (*out)[len] = '\0';
}

static void
read_u64(reader *r, const char *key, bool required, uint64_t *out)
{
    ort_json v;
    if (member(r, key, required, &v) && ort_json_u64(v, out) != ORT_OK) {
        wrong(r, key, "is no unsigned integer");
    }
}

static void
read_i64(reader *r, const char *key, bool required, int64_t *out)
{
    ort_json v;
    if (member(r, key, required, &v) && ort_json_i64(v, out) != ORT_OK) {
        wrong(r, key, "is no integer");
    }
}

/* A load figure: not negative, and not so large that sums of it overflow anything. */
static void
read_ratio(reader *r, const char *key, double *out)
{
    ort_json v;
    double d = 0;
    if (!member(r, key, false, &v)) {
        return;
    }
    if (ort_json_f64(v, &d) != ORT_OK || !isfinite(d) || d < 0 || d > 1e6) {
        wrong(r, key, "is no ratio");
        return;
    }
    *out = d;
}

static void
read_bool(reader *r, const char *key, bool *out)
{
    ort_json v;
    if (member(r, key, false, &v) && ort_json_bool(v, out) != ORT_OK) {
        wrong(r, key, "is neither true nor false");
    }
}

static void
read_id(reader *r, const char *key, bool required, uint64_t *out)
{
    ort_json v;
    size_t len = 0;
    if (!member(r, key, required, &v)) {
        return;
    }
    const char *text = ort_json_str(v, &len);
    if (text == NULL || ort_id_parse(text, len, out) != ORT_OK) {
        wrong(r, key, "is no id");
    }
}

static bool
read_hex(reader *r, const char *key, bool required, void *out, size_t n)
{
    ort_json v;
    size_t len = 0;
    if (!member(r, key, required, &v)) {
        return false;
    }
    const char *text = ort_json_str(v, &len);
    if (text == NULL || ort_hex_parse(text, len, out, n) != ORT_OK) {
        wrong(r, key, "is not hex of the size it must have");
        return false;
    }
    return true;
}

static void
read_at(reader *r, const char *key, bool required, ort_table_at *out)
{
    ort_json v;
    if (!member(r, key, required, &v)) {
        return;
    }
    reader in = reader_in(r, v, key);
    read_u64(&in, "generation", true, &out->generation);
    read_u64(&in, "version", true, &out->version);
    read_hex(&in, "hash", true, out->hash.b, sizeof out->hash.b);
    r->err = in.err;
}

static void
read_err(reader *r, const char *key, ort_err *out)
{
    ort_json v;
    *out = ORT_EINTERNAL;
    if (!member(r, key, true, &v)) {
        return;
    }
    if (ort_json_type_of(v) != ORT_JSON_STRING) {
        wrong(r, key, "is no text");
        return;
    }
#define X(name, number, status, code) \
    if (ort_json_str_is(v, code)) {   \
        *out = (name);                \
    }
    ORT_ERR_TABLE(X)
#undef X
}

/* An array of at most max elements, and memory for them. false: nothing to read. */
static bool
read_array(reader *r, const char *key, uint32_t max, size_t elem_bytes, ort_json *out, void **mem)
{
    if (!member(r, key, false, out)) {
        return false;
    }
    const uint32_t count = ort_json_count(*out);
    if (ort_json_type_of(*out) != ORT_JSON_ARRAY || count > max) {
        wrong(r, key, "is no array of the size it may have");
        return false;
    }
    if (count == 0) {
        return false;
    }
    *mem = calloc(count, elem_bytes);
    if (*mem == NULL) {
        r->err = ort_fail(r->diag, ORT_ENOMEM, "%s", key);
        return false;
    }
    return true;
}

/* ---- writing ---- */

static void
put_text(ort_jw *w, const char *key, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        ort_jw_key(w, key);
        ort_jw_str(w, text);
    }
}

static void
put_u64(ort_jw *w, const char *key, uint64_t v)
{
    ort_jw_key(w, key);
    ort_jw_u64(w, v);
}

static void
put_id(ort_jw *w, const char *key, uint64_t id)
{
    char text[ORT_ID_TEXT_BYTES];
    ort_id_format(id, text);
    put_text(w, key, text);
}

static void
put_hex32(ort_jw *w, const char *key, const unsigned char bytes[32])
{
    char text[65];
    ort_hex_format(bytes, 32, text);
    put_text(w, key, text);
    ort_secret_wipe(text, sizeof text); /* one of them is the pepper */
}

static void
put_at(ort_jw *w, const char *key, const ort_table_at *at)
{
    ort_jw_key(w, key);
    ort_jw_object(w);
    put_u64(w, "generation", at->generation);
    put_u64(w, "version", at->version);
    put_hex32(w, "hash", at->hash.b);
    ort_jw_object_end(w);
}

/* ---- error ---- */

ort_err
ort_wire_error_encode(const ort_wire_error *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    ort_jw_object(&w);
    put_text(&w, "code", ort_err_code(m->err));
    put_text(&w, "message", m->message);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

ort_err
ort_wire_error_decode(const char *body, size_t n, ort_wire_error *out, ort_diag *diag)
{
    reader r = reader_of(body, n, diag);
    *out = (ort_wire_error){0};
    read_err(&r, "code", &out->err);
    read_text(&r, "message", false, out->message, sizeof out->message);
    if (out->err == ORT_OK) {
        out->err = ORT_EINTERNAL; /* an error that says "ok" is one all the same */
    }
    return reader_done(&r);
}

/* ---- hello ---- */

ort_err
ort_hello_encode(const ort_hello *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    ort_jw_object(&w);
    put_text(&w, "join_token", m->join_token);
    put_text(&w, "name", m->name);
    put_text(&w, "region", m->region);
    put_text(&w, "zone", m->zone);
    put_text(&w, "endpoint", m->endpoint);
    put_text(&w, "forward", m->forward);
    put_text(&w, "software", m->software);
    put_u64(&w, "capacity_bytes", m->capacity_bytes);
    put_hex32(&w, "node_key", m->node_key.b);
    put_text(&w, "csr_pem", m->csr_pem);
    put_at(&w, "applied", &m->applied);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

ort_err
ort_hello_decode(const char *body, size_t n, ort_hello *out, ort_diag *diag)
{
    reader r = reader_of(body, n, diag);
    *out = (ort_hello){0};
    read_text(&r, "join_token", false, out->join_token, sizeof out->join_token);
    read_text(&r, "name", true, out->name, sizeof out->name);
    read_text(&r, "region", true, out->region, sizeof out->region);
    read_text(&r, "zone", false, out->zone, sizeof out->zone);
    read_text(&r, "endpoint", true, out->endpoint, sizeof out->endpoint);
    read_text(&r, "forward", false, out->forward, sizeof out->forward);
    read_text(&r, "software", false, out->software, sizeof out->software);
    read_u64(&r, "capacity_bytes", true, &out->capacity_bytes);
    read_hex(&r, "node_key", true, out->node_key.b, sizeof out->node_key.b);
    read_pem(&r, "csr_pem", false, &out->csr_pem);
    read_at(&r, "applied", true, &out->applied);
    const ort_err err = reader_done(&r);
    if (err != ORT_OK) {
        ort_hello_fini(out);
    }
    return err;
}

void
ort_hello_fini(ort_hello *m)
{
    ort_pem_free(m->csr_pem);
    ort_secret_wipe(m, sizeof *m);
}

ort_err
ort_hello_reply_encode(const ort_hello_reply *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    ort_jw_object(&w);
    put_id(&w, "hub_id", m->hub_id);
    put_id(&w, "node_id", m->node.v);
    put_hex32(&w, "control_key", m->control_key.b);
    put_at(&w, "newest", &m->newest);
    put_text(&w, "ca_pem", m->ca_pem);
    put_text(&w, "cert_pem", m->cert_pem);
    if (m->has_pepper) {
        put_hex32(&w, "pepper", m->pepper);
    }
    put_text(&w, "control_url", m->control_url);
    put_text(&w, "hint_url", m->hint_url);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

ort_err
ort_hello_reply_decode(const char *body, size_t n, ort_hello_reply *out, ort_diag *diag)
{
    reader r = reader_of(body, n, diag);
    *out = (ort_hello_reply){0};
    read_id(&r, "hub_id", true, &out->hub_id);
    read_id(&r, "node_id", true, &out->node.v);
    read_hex(&r, "control_key", true, out->control_key.b, sizeof out->control_key.b);
    read_at(&r, "newest", true, &out->newest);
    read_pem(&r, "ca_pem", false, &out->ca_pem);
    read_pem(&r, "cert_pem", false, &out->cert_pem);
    out->has_pepper = read_hex(&r, "pepper", false, out->pepper, sizeof out->pepper);
    read_text(&r, "control_url", false, out->control_url, sizeof out->control_url);
    read_text(&r, "hint_url", false, out->hint_url, sizeof out->hint_url);
    const ort_err err = reader_done(&r);
    if (err != ORT_OK) {
        ort_hello_reply_fini(out);
    }
    return err;
}

void
ort_hello_reply_fini(ort_hello_reply *m)
{
    ort_pem_free(m->ca_pem);
    ort_pem_free(m->cert_pem);
    ort_secret_wipe(m, sizeof *m);
}

/* ---- heartbeat ---- */

static void
put_usage(ort_jw *w, const ort_usage *u)
{
    ort_jw_object(w);
    put_id(w, "tenant", u->tenant.v);
    put_u64(w, "points", u->points);
    put_u64(w, "storage_bytes", u->storage_bytes);
    put_u64(w, "disk_bytes", u->disk_bytes);
    put_u64(w, "collections", u->collections);
    put_u64(w, "requests", u->requests);
    put_u64(w, "searches", u->searches);
    put_u64(w, "writes", u->writes);
    put_u64(w, "bytes_in", u->bytes_in);
    put_u64(w, "bytes_out", u->bytes_out);
    ort_jw_object_end(w);
}

static void
read_usage(reader *r, ort_usage *u)
{
    read_id(r, "tenant", true, &u->tenant.v);
    read_u64(r, "points", true, &u->points);
    read_u64(r, "storage_bytes", true, &u->storage_bytes);
    read_u64(r, "disk_bytes", false, &u->disk_bytes);
    read_u64(r, "collections", true, &u->collections);
    read_u64(r, "requests", true, &u->requests);
    read_u64(r, "searches", true, &u->searches);
    read_u64(r, "writes", true, &u->writes);
    read_u64(r, "bytes_in", true, &u->bytes_in);
    read_u64(r, "bytes_out", true, &u->bytes_out);
}

static void
put_arrays(ort_jw *w, const ort_heartbeat *m)
{
    if (m->usage_count > 0) {
        ort_jw_key(w, "usage");
        ort_jw_array(w);
        for (size_t i = 0; i < m->usage_count; i++) {
            put_usage(w, &m->usage[i]);
        }
        ort_jw_array_end(w);
    }
    if (m->gone_count > 0) {
        ort_jw_key(w, "gone");
        ort_jw_array(w);
        for (size_t i = 0; i < m->gone_count; i++) {
            char text[ORT_ID_TEXT_BYTES];
            ort_id_format(m->gone[i].v, text);
            ort_jw_str(w, text);
        }
        ort_jw_array_end(w);
    }
    if (m->key_used_count > 0) {
        ort_jw_key(w, "key_used");
        ort_jw_array(w);
        for (size_t i = 0; i < m->key_used_count; i++) {
            char text[ORT_TOKEN_ID_TEXT_BYTES];
            ort_key_id_format(m->key_used[i].key, text);
            ort_jw_object(w);
            put_text(w, "key", text);
            ort_jw_key(w, "at_ms");
            ort_jw_i64(w, m->key_used[i].at_ms);
            ort_jw_object_end(w);
        }
        ort_jw_array_end(w);
    }
}

ort_err
ort_heartbeat_encode(const ort_heartbeat *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    if (m->usage_count > ORT_BEAT_USAGE_MAX || m->gone_count > ORT_BEAT_USAGE_MAX ||
        m->key_used_count > ORT_BEAT_KEYS_MAX) {
        return ORT_ETOOBIG;
    }
    ort_jw_object(&w);
    put_at(&w, "applied", &m->applied);
    if (m->has_nack) {
        ort_jw_key(&w, "nack");
        ort_jw_object(&w);
        put_u64(&w, "version", m->nack.version);
        put_text(&w, "code", ort_err_code(m->nack.err));
        put_text(&w, "reason", m->nack.reason);
        put_text(&w, "path", m->nack.path);
        ort_jw_object_end(&w);
    }
    ort_jw_key(&w, "load");
    ort_jw_object(&w);
    ort_jw_key(&w, "cpu");
    ort_jw_f64(&w, m->load.cpu_ratio);
    ort_jw_key(&w, "memory");
    ort_jw_f64(&w, m->load.memory_ratio);
    put_u64(&w, "disk_used", m->load.disk_used_bytes);
    put_u64(&w, "disk_total", m->load.disk_total_bytes);
    put_u64(&w, "queue", m->load.queue_depth);
    ort_jw_object_end(&w);
    put_arrays(&w, m);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

static void
read_gone(reader *r, ort_heartbeat *out)
{
    ort_json array;
    void *mem = NULL;
    if (!read_array(r, "gone", ORT_BEAT_USAGE_MAX, sizeof *out->gone, &array, &mem)) {
        return;
    }
    out->gone = mem;
    for (ort_json_iter it = ort_json_each(array); ort_json_step(&it);) {
        size_t len = 0;
        const char *text = ort_json_str(it.value, &len);
        if (text == NULL || ort_id_parse(text, len, &out->gone[out->gone_count].v) != ORT_OK) {
            wrong(r, "gone", "holds something that is no id");
            return;
        }
        out->gone_count++;
    }
}

static void
read_key_used(reader *r, ort_heartbeat *out)
{
    ort_json array, key;
    void *mem = NULL;
    if (!read_array(r, "key_used", ORT_BEAT_KEYS_MAX, sizeof *out->key_used, &array, &mem)) {
        return;
    }
    out->key_used = mem;
    for (ort_json_iter it = ort_json_each(array); r->err == ORT_OK && ort_json_step(&it);) {
        ort_key_used *to = &out->key_used[out->key_used_count++];
        reader in = reader_in(r, it.value, "key_used");
        size_t len = 0;
        if (member(&in, "key", true, &key)) {
            const char *text = ort_json_str(key, &len);
            if (text == NULL || ort_key_id_parse(text, len, &to->key) != ORT_OK) {
                wrong(&in, "key", "is no key id");
            }
        }
        read_i64(&in, "at_ms", true, &to->at_ms);
        r->err = in.err;
    }
}

ort_err
ort_heartbeat_decode(const char *body, size_t n, ort_heartbeat *out, ort_diag *diag)
{
    ort_json v;
    void *mem = NULL;
    reader r = reader_of(body, n, diag);
    *out = (ort_heartbeat){0};
    read_at(&r, "applied", true, &out->applied);
    if (member(&r, "nack", false, &v)) {
        reader in = reader_in(&r, v, "nack");
        read_u64(&in, "version", true, &out->nack.version);
        read_err(&in, "code", &out->nack.err);
        read_text(&in, "reason", false, out->nack.reason, sizeof out->nack.reason);
        read_text(&in, "path", false, out->nack.path, sizeof out->nack.path);
        out->has_nack = true;
        r.err = in.err;
    }
    if (member(&r, "load", false, &v)) {
        reader in = reader_in(&r, v, "load");
        read_ratio(&in, "cpu", &out->load.cpu_ratio);
        read_ratio(&in, "memory", &out->load.memory_ratio);
        read_u64(&in, "disk_used", false, &out->load.disk_used_bytes);
        read_u64(&in, "disk_total", false, &out->load.disk_total_bytes);
        read_u64(&in, "queue", false, &out->load.queue_depth);
        r.err = in.err;
    }
    if (read_array(&r, "usage", ORT_BEAT_USAGE_MAX, sizeof *out->usage, &v, &mem)) {
        out->usage = mem;
        for (ort_json_iter it = ort_json_each(v); r.err == ORT_OK && ort_json_step(&it);) {
            reader in = reader_in(&r, it.value, "usage");
            read_usage(&in, &out->usage[out->usage_count++]);
            r.err = in.err;
        }
    }
    read_gone(&r, out);
    read_key_used(&r, out);
    const ort_err err = reader_done(&r);
    if (err != ORT_OK) {
        ort_heartbeat_fini(out);
    }
    return err;
}

void
ort_heartbeat_fini(ort_heartbeat *m)
{
    free(m->usage);
    free(m->gone);
    free(m->key_used);
    *m = (ort_heartbeat){0};
}

ort_err
ort_heartbeat_reply_encode(const ort_heartbeat_reply *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    ort_jw_object(&w);
    put_at(&w, "newest", &m->newest);
    ort_jw_key(&w, "fetch");
    ort_jw_bool(&w, m->fetch);
    ort_jw_key(&w, "hello");
    ort_jw_bool(&w, m->hello);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

ort_err
ort_heartbeat_reply_decode(const char *body, size_t n, ort_heartbeat_reply *out, ort_diag *diag)
{
    reader r = reader_of(body, n, diag);
    *out = (ort_heartbeat_reply){0};
    read_at(&r, "newest", true, &out->newest);
    read_bool(&r, "fetch", &out->fetch);
    read_bool(&r, "hello", &out->hello);
    const ort_err err = reader_done(&r);
    if (err != ORT_OK) {
        *out = (ort_heartbeat_reply){0};
    }
    return err;
}

/* ---- fetch ---- */

ort_err
ort_fetch_encode(const ort_fetch *m, ort_buf *body)
{
    ort_jw w = {.buf = body};
    ort_jw_object(&w);
    put_at(&w, "applied", &m->applied);
    ort_jw_key(&w, "whole");
    ort_jw_bool(&w, m->whole);
    ort_jw_object_end(&w);
    return ort_buf_check(body);
}

ort_err
ort_fetch_decode(const char *body, size_t n, ort_fetch *out, ort_diag *diag)
{
    reader r = reader_of(body, n, diag);
    *out = (ort_fetch){0};
    read_at(&r, "applied", true, &out->applied);
    read_bool(&r, "whole", &out->whole);
    const ort_err err = reader_done(&r);
    if (err != ORT_OK) {
        *out = (ort_fetch){0};
    }
    return err;
}
