/* Frames and message bodies from the network: no crash, no leak, and what is taken is written again
 * the same way and taken again. The first byte chooses the decoder, so that each is reached
 * whatever the frame says; a whole frame goes the way a listener's does. */
#include <stdlib.h>
#include <string.h>

#include "wire/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool ok)
{
    if (!ok) {
        abort();
    }
}

#define ROUND(NAME, FINI)                                                     \
    static void round_##NAME(const char *body, size_t n)                      \
    {                                                                         \
        NAME m, again;                                                        \
        ort_buf one = {0}, two = {0};                                         \
        if (NAME##_decode(body, n, &m, NULL) != ORT_OK) {                     \
            return;                                                           \
        }                                                                     \
        must(NAME##_encode(&m, &one) == ORT_OK);                              \
        FINI(&m);                                                             \
        must(NAME##_decode(one.data, one.len, &again, NULL) == ORT_OK);       \
        must(NAME##_encode(&again, &two) == ORT_OK);                          \
        must(one.len == two.len && memcmp(one.data, two.data, one.len) == 0); \
        FINI(&again);                                                         \
        ort_buf_fini(&one);                                                   \
        ort_buf_fini(&two);                                                   \
    }

#define NOTHING(m) (void)(m)
ROUND(ort_wire_error, NOTHING)
ROUND(ort_hello_reply, ort_hello_reply_fini)
ROUND(ort_heartbeat, ort_heartbeat_fini)
ROUND(ort_heartbeat_reply, NOTHING)
ROUND(ort_fetch, NOTHING)
ROUND(ort_forward_request, ort_forward_request_fini)
ROUND(ort_forward_reply, ort_forward_reply_fini)

/* A hello with an empty name is taken apart fine and cannot be written: names are required. */
static void
round_ort_hello(const char *body, size_t n)
{
    ort_hello m;
    ort_buf out = {0};
    if (ort_hello_decode(body, n, &m, NULL) == ORT_OK) {
        must(ort_hello_encode(&m, &out) == ORT_OK);
        ort_hello_fini(&m);
        ort_buf_fini(&out);
    }
}

static void
walk(const char *body, size_t n)
{
    uint64_t generation, version;
    const void *envelope;
    size_t len;
    ort_cursor c = ort_cursor_of(body, n);
    while (ort_tables_next(&c, &envelope, &len)) {
        must(len <= n);
    }
    (void)!ort_hint_decode(body, n, (ort_node_id){1}, &generation, &version);
}

static void (*const rounds[])(const char *, size_t) = {
    round_ort_wire_error,      round_ort_hello,           round_ort_hello_reply,
    round_ort_heartbeat,       round_ort_heartbeat_reply, round_ort_fetch,
    round_ort_forward_request, round_ort_forward_reply,   walk,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ort_sign_public nobody = {{1}};
    ort_frame frame;
    if (size == 0) {
        return 0;
    }
    const size_t kinds = sizeof rounds / sizeof *rounds;
    rounds[data[0] % kinds]((const char *)data + 1, size - 1);
    if (ort_frame_read(data, size, &frame, NULL) == ORT_OK) {
        ort_buf out = {0};
        must(frame.body_len <= size);
        must(!ort_frame_verify(data, size, &nobody));
        if (!frame.is_signed) {
            must(ort_frame_write(&frame, NULL, &out) == ORT_OK);
            must(out.len == size && memcmp(out.data, data, size) == 0);
        }
        ort_buf_fini(&out);
        for (size_t i = 0; i < kinds; i++) {
            rounds[i](frame.body, frame.body_len);
        }
    }
    return 0;
}
