/* control-plane/routing/push_fetch.c: a node's table, put together when the node asks for it. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "routing/push_internal.h"

static const ort_log log_ = {"push"};

/* What a fetch needs, taken out under the lock; the work is done outside. */
typedef struct {
    ort_table_head head;
    ort_section *tenants, *directory, *nodes;                /* the newest */
    ort_section *from_tenants, *from_directory, *from_nodes; /* the base, when is_delta */
    bool is_delta;
    uint64_t shared_version;
    push_text *text; /* counted; NULL: to be made */
} job;

static void
text_unref(cp_push *push, push_text *text)
{
    if (text == NULL) {
        return;
    }
    pthread_mutex_lock(&push->mutex);
    bool last = --text->refs == 0;
    pthread_mutex_unlock(&push->mutex);
    if (last) {
        ort_buf_fini(&text->text);
        free(text);
    }
}

static void
job_fini(cp_push *push, job *j)
{
    ort_section_unref(j->tenants);
    ort_section_unref(j->directory);
    ort_section_unref(j->nodes);
    ort_section_unref(j->from_tenants);
    ort_section_unref(j->from_directory);
    ort_section_unref(j->from_nodes);
    text_unref(push, j->text);
}

static ort_section *
ref_or_null(const ort_section *section)
{
    return section != NULL ? ort_section_ref(section) : NULL;
}

static void
hash_of(const ort_section *a, const ort_section *b, const ort_section *c, ort_hash *out)
{
    ort_hash part;

    ort_section_hash(a, out);
    ort_section_hash(b, &part);
    ort_hash_xor(out, &part);
    ort_section_hash(c, &part);
    ort_hash_xor(out, &part);
}

/* Lock held. Finds the sections of the table that the node says it stands at; the hash decides
 * whether it is the same table. */
static bool
find_base(const cp_push *push, const push_node *node, const ort_table_at *applied, job *j)
{
    const push_shared *shared = NULL;
    const push_own *own = NULL;
    ort_hash hash;

    if (applied->generation != push->generation || applied->version == 0) {
        return false;
    }
    /* We started anew and know no older versions, but what it has is what we have. */
    if (ort_hash_equal(&applied->hash, &j->head.at.hash)) {
        shared = cp_push__shared(push);
        own = cp_push__own(node);
    }
    for (size_t i = push->shared_count; shared == NULL && i-- > 0;) {
        if (push->shared[i].version <= applied->version) {
            shared = &push->shared[i];
        }
    }
    for (size_t i = node->own_count; own == NULL && i-- > 0;) {
        if (node->own[i].version <= applied->version) {
            own = &node->own[i];
        }
    }
    if (shared == NULL || own == NULL) {
        return false;
    }
    hash_of(own->tenants, shared->directory, shared->nodes, &hash);
    if (!ort_hash_equal(&hash, &applied->hash)) {
        return false;
    }
    j->from_tenants = ref_or_null(own->tenants);
    j->from_directory = ref_or_null(shared->directory);
    j->from_nodes = ref_or_null(shared->nodes);
    return true;
}

static ort_err
delta_body(const job *j, ort_buf *body)
{
    ort_table *from = NULL;
    ort_table *to = NULL;
    ort_err err = ort_table_new(&from, j->from_tenants, j->from_directory, j->from_nodes);

    if (err == ORT_OK) {
        err = ort_table_new(&to, j->tenants, j->directory, j->nodes);
    }
    if (err == ORT_OK) {
        err = ort_table_diff(from, to, body);
    }
    ort_table_unref(from);
    ort_table_unref(to);
    return err;
}

static ort_err
write_sections(const ort_section *tenants, const ort_section *directory, const ort_section *nodes,
               ort_buf *out)
{
    ort_table *table = NULL;
    ort_err err = ort_table_new(&table, tenants, directory, nodes);

    if (err == ORT_OK) {
        err = ort_table_write(table, out);
    }
    ort_table_unref(table);
    return err != ORT_OK ? err : ort_buf_check(out);
}

/* The directory of a hub of 100,000 tenants is 8 MB of text and the same for every node, so it is
 * written once a version, and each whole table is {own} with {shared} put into it. */
static ort_err
shared_text(cp_push *push, job *j)
{
    push_text *made = NULL;
    push_text *old = NULL;
    ort_err err = ORT_OK;

    if (j->text != NULL) {
        return ORT_OK;
    }
    made = calloc(1, sizeof *made);
    if (made == NULL) {
        return ORT_ENOMEM;
    }
    made->version = j->shared_version;
    made->refs = 1;
    err = write_sections(NULL, j->directory, j->nodes, &made->text);
    if (err != ORT_OK) {
        ort_buf_fini(&made->text);
        free(made);
        return err;
    }
    pthread_mutex_lock(&push->mutex);
    if (push->text == NULL || push->text->version < made->version) {
        old = push->text;
        push->text = made;
        made->refs++;
    }
    pthread_mutex_unlock(&push->mutex);
    text_unref(push, old);
    j->text = made;
    return ORT_OK;
}

/* {"tenants":{..}} and {"directory":{..},"nodes":{..}} become one object. */
static ort_err
whole_body(cp_push *push, job *j, ort_buf *body)
{
    ort_buf own = {0};
    ort_err err = write_sections(j->tenants, NULL, NULL, &own);

    if (err == ORT_OK) {
        err = shared_text(push, j);
    }
    if (err == ORT_OK) {
        const ort_buf *rest = &j->text->text;
        ort_buf_put(body, own.data, own.len - 1);
        if (own.len > 2 && rest->len > 2) {
            ort_buf_putc(body, ',');
        }
        ort_buf_put(body, rest->data + 1, rest->len - 1);
        err = ort_buf_check(body);
    }
    ort_buf_fini(&own);
    return err;
}

/* Names what an operator would have to look at: a table that grew past a message is a hub that
 * stops changing, and the largest tenant is where it grew. */
static void
log_oversize(const job *j, size_t bytes)
{
    ort_entry entry;
    ort_entry largest = {0};
    uint64_t at = 0;

    while (j->tenants != NULL && ort_section_next(j->tenants, &at, &entry)) {
        if (entry.len > largest.len) {
            largest = entry;
        }
    }
    ORT_LOG_ERROR(&log_, "push.oversize",
                  "node=%016" PRIx64 " version=%" PRIu64 " bytes=%zu limit=%u tenant=%016" PRIx64
                  " tenant_bytes=%zu",
                  j->head.node.v, j->head.at.version, bytes, ORT_WIRE_BYTES_MAX, largest.id,
                  largest.len);
}

/* Lock held. false: there is nothing to send. */
static bool
job_begin(cp_push *push, push_node *node, const ort_fetch *ask, job *j)
{
    const push_shared *shared = cp_push__shared(push);
    const push_own *own = cp_push__own(node);
    bool refused = false;

    j->head.hub_id = push->options.hub_id;
    j->head.node = node->id;
    j->head.issued_at_ms = ort_wall_ms();
    cp_push__at(push, node, &j->head.at);
    if (j->head.at.version == 0) {
        return false;
    }
    refused = node->nack.is && ort_table_at_cmp(&node->nack.at, &j->head.at) == 0;
    if (refused && node->nack.was_whole && node->nack.retry_ns > 0) {
        if (ort_mono_ns() < node->nack.retry_ns) {
            return false;
        }
        node->nack.is = false; /* once more; its pause is remembered */
        refused = false;
    }
    if (refused && node->nack.was_whole) {
        return false;
    }
    if (!ask->whole && ort_table_at_cmp(&ask->applied, &j->head.at) == 0 &&
        ort_hash_equal(&ask->applied.hash, &j->head.at.hash)) {
        return false;
    }
    j->is_delta = !ask->whole && !refused && find_base(push, node, &ask->applied, j);
    node->sent_whole = !j->is_delta;
    j->tenants = ref_or_null(own->tenants);
    j->directory = ref_or_null(shared->directory);
    j->nodes = ref_or_null(shared->nodes);
    j->shared_version = shared->version;
    if (!j->is_delta && push->text != NULL && push->text->version == shared->version) {
        j->text = push->text;
        j->text->refs++;
    }
    return true;
}

ort_err
cp_push_fetch(cp_push *push, ort_node_id id, const ort_fetch *ask, ort_buf *body, ort_diag *diag)
{
    job j = {0};
    ort_buf text = {0};
    ort_buf envelope = {0};
    bool some = false;
    ort_err err = ORT_OK;

    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    some = node != NULL && job_begin(push, node, ask, &j);
    pthread_mutex_unlock(&push->mutex);
    if (node == NULL) {
        return ort_fail(diag, ORT_ENOTFOUND, "node %016" PRIx64 " is not in the tables", id.v);
    }
    if (!some) {
        return ORT_OK;
    }
    if (j.is_delta) {
        j.head.base = ask->applied.version;
        j.head.base_hash = ask->applied.hash;
        err = delta_body(&j, &text);
    } else {
        err = whole_body(push, &j, &text);
    }
    if (err == ORT_OK) {
        err = ort_buf_check(&text);
    }
    if (err == ORT_OK) {
        err = ort_envelope_seal(&j.head, text.data, text.len, &push->key, &envelope, diag);
    }
    if (err == ORT_OK) {
        ort_tables_put(body, envelope.data, envelope.len);
        err = ort_buf_check(body);
    } else if (err == ORT_ETOOBIG) {
        log_oversize(&j, text.len);
    }
    pthread_mutex_lock(&push->mutex);
    push->stats.deltas_total += err == ORT_OK && j.is_delta;
    push->stats.wholes_total += err == ORT_OK && !j.is_delta;
    push->stats.table_bytes_total += err == ORT_OK ? envelope.len : 0;
    push->stats.oversize_total += err == ORT_ETOOBIG;
    if (err == ORT_OK && envelope.len > push->stats.table_bytes_max) {
        push->stats.table_bytes_max = envelope.len;
    }
    pthread_mutex_unlock(&push->mutex);
    ort_buf_fini(&text);
    ort_buf_fini(&envelope);
    job_fini(push, &j);
    return err;
}
