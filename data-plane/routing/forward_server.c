/* The answering side of forwarding.
 *
 * NNG sends a request again when the connection is lost under it, and the first copy may have been
 * run. A write must not be run twice (the second `create` would answer 409 to a client whose
 * collection was just made), so each forward has a name, (incarnation, sequence) of the asking
 * process, and the names of the last REMEMBERED are kept: a second copy is answered "it may have
 * been done", which is the truth. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "routing/forward.h"

#define THREADS 16u
#define QUEUE_MAX 256u
#define REMEMBERED 16384u

typedef struct {
    uint64_t incarnation, sequence;
} forward_name;

struct dp_forward_server {
    ort_rep *rep;
    dp_forward_handler handler;
    void *arg;
    pthread_mutex_t lock; /* guards all below */
    ort_map *seen;        /* forward_name -> &marker */
    forward_name ring[REMEMBERED];
    uint32_t at;
};

static char marker;

/* false: this one has been here. Out of memory counts as new: better once more than never. */
static bool
is_first(dp_forward_server *s, const ort_frame *frame)
{
    const forward_name name = {frame->incarnation, frame->sequence};
    pthread_mutex_lock(&s->lock);
    const bool first = ort_map_get(s->seen, &name, sizeof name) == NULL;
    if (first && ort_map_set(s->seen, &name, sizeof name, &marker, NULL) == ORT_OK) {
        forward_name *slot = &s->ring[s->at];
        if (slot->sequence != 0) {
            (void)ort_map_take(s->seen, slot, sizeof *slot);
        }
        *slot = name;
        s->at = (s->at + 1) % REMEMBERED;
    }
    pthread_mutex_unlock(&s->lock);
    return first;
}

static void
answer_error(ort_buf *reply, ort_err err, const char *message)
{
    ort_buf body = {0};
    ort_wire_error m = {.err = err};
    strncpy(m.message, message, sizeof m.message - 1);
    ort_err done = ort_wire_error_encode(&m, &body);
    if (done == ORT_OK) {
        done = ort_frame_write(
            &(ort_frame){.type = ORT_MSG_ERROR, .body = body.data, .body_len = body.len}, NULL,
            reply);
    }
    if (done != ORT_OK) {
        ort_buf_clear(reply); /* empty: the endpoint answers for us */
    }
    ort_buf_fini(&body);
}

static void
on_request(void *arg, const void *bytes, size_t n, ort_buf *out)
{
    dp_forward_server *s = arg;
    ort_frame frame;
    ort_diag diag = {""};
    ort_forward_request request;
    ort_forward_reply reply = {0};
    ort_buf body_out = {0}, body = {0};

    ort_err err = ort_frame_read(bytes, n, &frame, &diag);
    if (err == ORT_OK && (frame.type != ORT_MSG_FORWARD || frame.sequence == 0)) {
        err = ort_fail(&diag, ORT_EFORMAT, "this listener takes forwards, not message type %d",
                       frame.type);
    }
    if (err == ORT_OK) {
        err = ort_forward_request_decode(frame.body, frame.body_len, &request, &diag);
    }
    if (err != ORT_OK) {
        answer_error(out, err, diag.text);
        return;
    }
    if (!is_first(s, &frame)) {
        ort_forward_request_fini(&request);
        answer_error(out, ORT_ETIMEOUT, "the connection was lost: the request may have been done");
        return;
    }
    s->handler(s->arg, &request, &reply, &body_out);
    reply.body = body_out.data;
    reply.body_len = body_out.len;
    err = body_out.failed ? ORT_ENOMEM : ort_forward_reply_encode(&reply, &body);
    if (err == ORT_OK) {
        err = ort_frame_write(&(ort_frame){.type = ORT_MSG_FORWARD_REPLY,
                                           .sequence = frame.sequence,
                                           .body = body.data,
                                           .body_len = body.len},
                              NULL, out);
    }
    if (err != ORT_OK) {
        ort_buf_clear(out);
        answer_error(out, err, "the answer does not fit a message");
    }
    ort_forward_reply_fini(&reply);
    ort_forward_request_fini(&request);
    ort_buf_fini(&body_out);
    ort_buf_fini(&body);
}

ort_err
dp_forward_server_open(dp_forward_server **out, const dp_forward_server_options *options,
                       ort_diag *diag)
{
    *out = NULL;
    dp_forward_server *s = calloc(1, sizeof *s);
    if (s == NULL || ort_map_new(&s->seen) != ORT_OK) {
        free(s);
        return ort_fail(diag, ORT_ENOMEM, "forward listener");
    }
    s->handler = options->handler;
    s->arg = options->arg;
    pthread_mutex_init(&s->lock, NULL);
    const ort_rep_options rep = {
        .url = options->url,
        .tls = options->tls,
        .plain_ok = options->plain_ok,
        .handler = on_request,
        .arg = s,
        .threads = options->threads != 0 ? options->threads : THREADS,
        .queue_max = options->queue_max != 0 ? options->queue_max : QUEUE_MAX,
        .contexts = (options->threads != 0 ? options->threads : THREADS) +
                    (options->queue_max != 0 ? options->queue_max : QUEUE_MAX) + 16,
        .name = "forward",
    };
    const ort_err err = ort_rep_open(&s->rep, &rep, diag);
    if (err != ORT_OK) {
        dp_forward_server_close(s);
        return err;
    }
    *out = s;
    return ORT_OK;
}

const char *
dp_forward_server_peek_url(const dp_forward_server *server)
{
    return ort_rep_peek_url(server->rep);
}

void
dp_forward_server_close(dp_forward_server *server)
{
    if (server != NULL) {
        ort_rep_close(server->rep);
        ort_map_free(server->seen, NULL);
        pthread_mutex_destroy(&server->lock);
        free(server);
    }
}
