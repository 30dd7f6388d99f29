/* Frames, and the bodies that are not JSON: tables in a row, hints. */
#include <string.h>

#include "wire/messages.h"

static const char MAGIC[4] = {'O', 'R', 'T', 'W'};

#define VERSION 1u
#define FLAG_SIGNED 1u

ort_err
ort_frame_write(const ort_frame *frame, const ort_sign_key *key, ort_buf *out)
{
    const size_t start = out->len, tail = key != NULL ? ORT_SIGN_BYTES : 0;
    if (frame->body_len > ORT_WIRE_BYTES_MAX - ORT_FRAME_HEAD_BYTES - tail) {
        return ORT_ETOOBIG;
    }
    char *at = ort_buf_reserve(out, ORT_FRAME_HEAD_BYTES + frame->body_len + tail);
    if (at == NULL) {
        return ORT_ENOMEM;
    }
    memcpy(at, MAGIC, sizeof MAGIC);
    at[4] = VERSION;
    at[5] = (char)frame->type;
    at[6] = key != NULL ? FLAG_SIGNED : 0;
    at[7] = 0;
    ort_put_u64(at + 8, frame->node.v);
    ort_put_u64(at + 16, frame->incarnation);
    ort_put_u64(at + 24, frame->sequence);
    ort_put_u32(at + 32, (uint32_t)frame->body_len);
    if (frame->body_len > 0) {
        memcpy(at + ORT_FRAME_HEAD_BYTES, frame->body, frame->body_len);
    }
    ort_buf_commit(out, ORT_FRAME_HEAD_BYTES + frame->body_len);
    if (key != NULL) {
        ort_signature sig;
        ort_sign(key, ORT_SIGN_MESSAGE, out->data + start, out->len - start, &sig);
        ort_buf_put(out, sig.b, sizeof sig.b);
    }
    return ort_buf_check(out);
}

ort_err
ort_frame_read(const void *bytes, size_t n, ort_frame *out, ort_diag *diag)
{
    const unsigned char *p = bytes;
    *out = (ort_frame){0};
    if (n < ORT_FRAME_HEAD_BYTES || memcmp(p, MAGIC, sizeof MAGIC) != 0) {
        return ort_fail(diag, ORT_EFORMAT, "these %zu bytes are no message", n);
    }
    if (p[4] != VERSION || p[5] < ORT_MSG_ERROR || p[5] > ORT_MSG_FORWARD_REPLY ||
        (p[6] & ~FLAG_SIGNED) != 0 || p[7] != 0) {
        return ort_fail(diag, ORT_EFORMAT, "message of version %u, type %u, flags %u: unknown",
                        p[4], p[5], p[6]);
    }
    const size_t tail = (p[6] & FLAG_SIGNED) != 0 ? ORT_SIGN_BYTES : 0;
    if (ort_get_u32(p + 32) + (uint64_t)ORT_FRAME_HEAD_BYTES + tail != n) {
        return ort_fail(diag, ORT_EFORMAT, "a message of %zu bytes claims a body of %u", n,
                        ort_get_u32(p + 32));
    }
    *out = (ort_frame){
        .type = (ort_msg_type)p[5],
        .is_signed = tail > 0,
        .node = {ort_get_u64(p + 8)},
        .incarnation = ort_get_u64(p + 16),
        .sequence = ort_get_u64(p + 24),
        .body = (const char *)p + ORT_FRAME_HEAD_BYTES,
        .body_len = ort_get_u32(p + 32),
    };
    return ORT_OK;
}

bool
ort_frame_verify(const void *bytes, size_t n, const ort_sign_public *by)
{
    ort_frame frame;
    ort_signature sig;
    if (ort_frame_read(bytes, n, &frame, NULL) != ORT_OK || !frame.is_signed) {
        return false;
    }
    memcpy(sig.b, (const unsigned char *)bytes + n - sizeof sig.b, sizeof sig.b);
    return ort_sign_verify(by, ORT_SIGN_MESSAGE, bytes, n - sizeof sig.b, &sig);
}

void
ort_tables_put(ort_buf *body, const void *envelope, size_t n)
{
    ort_buf_put_u32(body, (uint32_t)n);
    ort_buf_put(body, envelope, n);
}

bool
ort_tables_next(ort_cursor *at, const void **envelope, size_t *n)
{
    if (at->failed || ort_cursor_left(at) == 0) {
        return false;
    }
    const uint32_t len = ort_cursor_u32(at);
    const void *bytes = ort_cursor_take(at, len);
    if (bytes == NULL) {
        return false;
    }
    *envelope = bytes;
    *n = len;
    return true;
}

/*   offset  size  field
 *        0     8  generation
 *        8     4  count       0 = every node
 *       12  16·n  node id, version */
ort_err
ort_hint_encode(uint64_t generation, const ort_hint_entry *entries, size_t count, ort_buf *body)
{
    if (count > ORT_HINT_NODES_MAX) {
        return ORT_ETOOBIG;
    }
    ort_buf_put_u64(body, generation);
    ort_buf_put_u32(body, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        ort_buf_put_u64(body, entries[i].node.v);
        ort_buf_put_u64(body, entries[i].version);
    }
    return ort_buf_check(body);
}

ort_err
ort_hint_decode(const char *body, size_t n, ort_node_id node, uint64_t *generation_out,
                uint64_t *version_out)
{
    ort_cursor c = ort_cursor_of(body, n);
    const uint64_t generation = ort_cursor_u64(&c);
    const uint32_t count = ort_cursor_u32(&c);
    if (c.failed || count > ORT_HINT_NODES_MAX || ort_cursor_left(&c) != (size_t)count * 16) {
        return ORT_EFORMAT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t id = ort_cursor_u64(&c), version = ort_cursor_u64(&c);
        if (id == node.v) {
            *generation_out = generation;
            *version_out = version;
            return ORT_OK;
        }
    }
    if (count > 0) {
        return ORT_ENOTFOUND;
    }
    *generation_out = generation;
    *version_out = 0;
    return ORT_OK;
}
