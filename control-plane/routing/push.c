/* control-plane/routing/push.c: where each node stands, and what it is to stand at. */
#include "routing/push.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/thread.h"
#include "routing/push_internal.h"

#define NACK_PAUSE_MS_MIN 1000u
#define NACK_PAUSE_MS_MAX 60000u

push_node *
cp_push__find(cp_push *push, ort_node_id id)
{
    return ort_map_get(push->nodes, &id.v, sizeof id.v);
}

/* Where the node's newest table stands. Its state hash follows from those of its sections, so no
 * table has to exist for it. */
void
cp_push__at(const cp_push *push, const push_node *node, ort_table_at *out)
{
    const push_shared *shared = cp_push__shared(push);
    const push_own *own = cp_push__own(node);
    ort_hash part;

    out->generation = push->generation;
    out->version = shared->version > own->version ? shared->version : own->version;
    ort_section_hash(own->tenants, &out->hash);
    ort_section_hash(shared->directory, &part);
    ort_hash_xor(&out->hash, &part);
    ort_section_hash(shared->nodes, &part);
    ort_hash_xor(&out->hash, &part);
}

ort_err
cp_push_new(cp_push **out, const cp_push_options *options)
{
    cp_push *push = calloc(1, sizeof *push);
    ort_err err = push != NULL ? ORT_OK : ORT_ENOMEM;

    *out = NULL;
    if (err == ORT_OK) {
        push->options = *options;
        push->key = *options->key;
        push->options.key = &push->key;
        push->generation = options->generation;
        push->shared_count = 1; /* version 0: nothing, for nobody */
        pthread_mutex_init(&push->mutex, NULL);
        ort_cond_init(&push->acked);
        err = ort_map_new(&push->nodes);
    }
    if (err == ORT_OK) {
        err = ort_map_new(&push->homes);
    }
    if (err != ORT_OK) {
        cp_push_free(push);
        return err;
    }
    *out = push;
    return ORT_OK;
}

void
cp_push_free(cp_push *push)
{
    if (push == NULL) {
        return;
    }
    for (size_t i = 0; i < push->shared_count; i++) {
        ort_section_unref(push->shared[i].directory);
        ort_section_unref(push->shared[i].nodes);
    }
    if (push->text != NULL) {
        ort_buf_fini(&push->text->text);
        free(push->text);
    }
    if (push->nodes != NULL) {
        ort_map_free(push->nodes, cp_push__node_free);
    }
    if (push->homes != NULL) {
        ort_map_free(push->homes, NULL);
    }
    pthread_cond_destroy(&push->acked);
    pthread_mutex_destroy(&push->mutex);
    ort_sign_key_wipe(&push->key);
    free(push);
}

uint64_t
cp_push_version(cp_push *push)
{
    pthread_mutex_lock(&push->mutex);
    uint64_t version = push->version;
    pthread_mutex_unlock(&push->mutex);
    return version;
}

uint64_t
cp_push_generation(cp_push *push)
{
    pthread_mutex_lock(&push->mutex);
    uint64_t generation = push->generation;
    pthread_mutex_unlock(&push->mutex);
    return generation;
}

void
cp_push_set_generation(cp_push *push, uint64_t generation)
{
    pthread_mutex_lock(&push->mutex);
    push->generation = generation;
    pthread_cond_broadcast(&push->acked);
    pthread_mutex_unlock(&push->mutex);
    if (push->options.hint != NULL) {
        push->options.hint(push->options.arg, generation, NULL, 0);
    }
}

void
cp_push_acked(cp_push *push, ort_node_id id, const ort_table_at *applied)
{
    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    if (node != NULL &&
        (node->applied.generation != applied->generation ||
         node->applied.version != applied->version || node->applied.generation == 0)) {
        node->applied = *applied;
        if (node->ack_count == PUSH_ACKS_KEPT) {
            memmove(&node->acks[0], &node->acks[1], (PUSH_ACKS_KEPT - 1) * sizeof node->acks[0]);
            memmove(&node->ack_version[0], &node->ack_version[1],
                    (PUSH_ACKS_KEPT - 1) * sizeof node->ack_version[0]);
            node->ack_count--;
        }
        node->acks[node->ack_count] = (cp_push_ack){
            .node = id, .acked = true, .at_ms = ort_wall_ms(), .mono_ns = ort_mono_ns()};
        node->ack_version[node->ack_count] =
            applied->generation == push->generation ? applied->version : 0;
        node->ack_count++;
        if (node->nack.is && ort_table_at_cmp(applied, &node->nack.at) >= 0) {
            node->nack.is = false;
        }
        pthread_cond_broadcast(&push->acked);
    }
    pthread_mutex_unlock(&push->mutex);
}

void
cp_push_hello(cp_push *push, ort_node_id id)
{
    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    if (node != NULL) {
        node->nack.is = false;
        node->nack.pause_ms = 0;
    }
    pthread_mutex_unlock(&push->mutex);
}

static bool
at_equal(const ort_table_at *a, const ort_table_at *b)
{
    return a->generation == b->generation && a->version == b->version &&
           ort_hash_equal(&a->hash, &b->hash);
}

/* Whether the newest content is one the node has refused and is not to be offered again yet. */
static bool
is_refused(const push_node *node, const ort_table_at *newest)
{
    if (!node->nack.is || !at_equal(&node->nack.at, newest) || !node->nack.was_whole) {
        return false;
    }
    return node->nack.retry_ns == 0 || ort_mono_ns() < node->nack.retry_ns;
}

void
cp_push_nacked(cp_push *push, ort_node_id id, uint64_t version, const char *reason,
               const char *path)
{
    ort_table_at newest;

    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    if (node != NULL) {
        cp_push__at(push, node, &newest);
    }
    /* A node repeats its refusal in each heartbeat: only the first one is news. One of an older
     * version says nothing about the newest. */
    if (node != NULL && version == newest.version &&
        !(node->nack.is && at_equal(&node->nack.at, &newest) &&
          node->nack.was_whole == node->sent_whole)) {
        bool storage = strcmp(reason, "storage") == 0;
        uint32_t pause = node->nack.pause_ms * 2;
        pause = pause < NACK_PAUSE_MS_MIN ? NACK_PAUSE_MS_MIN : pause;
        pause = pause > NACK_PAUSE_MS_MAX ? NACK_PAUSE_MS_MAX : pause;
        node->nack.is = true;
        node->nack.was_whole = node->sent_whole || storage;
        node->nack.at = newest;
        node->nack.version = version;
        node->nack.pause_ms = storage ? pause : 0;
        node->nack.retry_ns = storage ? ort_mono_ns() + (uint64_t)pause * 1000000u : 0;
        snprintf(node->nack.reason, sizeof node->nack.reason, "%s", reason);
        snprintf(node->nack.path, sizeof node->nack.path, "%s", path);
        push->stats.nacks_total++;
    }
    pthread_mutex_unlock(&push->mutex);
}

ort_err
cp_push_newest(cp_push *push, ort_node_id id, const ort_table_at *applied, ort_table_at *newest_out,
               bool *fetch_out)
{
    ort_err err = ORT_ENOTFOUND;

    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    if (node != NULL) {
        cp_push__at(push, node, newest_out);
        *fetch_out = !at_equal(applied, newest_out) && !is_refused(node, newest_out);
        err = ORT_OK;
    }
    pthread_mutex_unlock(&push->mutex);
    return err;
}

/* Lock held. Versions that concern the node and are newer than what it has applied. */
static void
lag_of(const cp_push *push, const push_node *node, cp_push_status *out)
{
    bool same = node->applied.generation == push->generation;
    uint64_t have = same ? node->applied.version : 0;
    uint64_t oldest_ns = UINT64_MAX;
    size_t own = node->own_count;
    size_t shared = push->shared_count;

    if (same && ort_hash_equal(&node->applied.hash, &out->newest.hash)) {
        return; /* it has all of it under an older number (we have restarted) */
    }
    while (own > 0 && node->own[own - 1].version > have) {
        own--;
        oldest_ns = node->own[own].made_ns < oldest_ns ? node->own[own].made_ns : oldest_ns;
        out->lag_versions++;
    }
    while (shared > 0 && push->shared[shared - 1].version > have) {
        shared--;
        oldest_ns =
            push->shared[shared].made_ns < oldest_ns ? push->shared[shared].made_ns : oldest_ns;
        out->lag_versions++;
    }
    /* A version that changed both is one version. */
    for (size_t i = own, j = shared; i < node->own_count && j < push->shared_count;) {
        if (node->own[i].version == push->shared[j].version) {
            out->lag_versions--;
            i++;
            j++;
        } else if (node->own[i].version < push->shared[j].version) {
            i++;
        } else {
            j++;
        }
    }
    if (oldest_ns != UINT64_MAX) {
        out->lag_ms = (ort_mono_ns() - oldest_ns) / 1000000u;
    }
}

/* When the node had applied a version at least; NULL: not yet, or not known any more. */
static const cp_push_ack *
ack_of(const push_node *node, uint64_t version)
{
    for (size_t i = 0; i < node->ack_count; i++) {
        if (node->ack_version[i] >= version) {
            return &node->acks[i];
        }
    }
    return NULL;
}

ort_err
cp_push_status_of(cp_push *push, ort_node_id id, cp_push_status *out)
{
    ort_err err = ORT_ENOTFOUND;

    *out = (cp_push_status){0};
    pthread_mutex_lock(&push->mutex);
    push_node *node = cp_push__find(push, id);
    if (node != NULL) {
        out->applied = node->applied;
        cp_push__at(push, node, &out->newest);
        lag_of(push, node, out);
        out->has_nack = node->nack.is;
        if (node->nack.is) {
            out->nack_version = node->nack.version;
            memcpy(out->nack_reason, node->nack.reason, sizeof out->nack_reason);
            memcpy(out->nack_path, node->nack.path, sizeof out->nack_path);
        }
        out->tenants = ort_section_count(cp_push__own(node)->tenants);
        out->deny_version = node->deny_version;
        const cp_push_ack *ack = node->deny_version != 0 ? ack_of(node, node->deny_version) : NULL;
        out->deny_acked_ms = ack != NULL ? (uint64_t)ack->at_ms : 0;
        err = ORT_OK;
    }
    pthread_mutex_unlock(&push->mutex);
    return err;
}

/* Whether the tenant is in the node's newest table, or in one it may still be serving from: any
 * from the one it has applied on. Nothing known of that: any that we have. */
static bool
may_serve(const cp_push *push, const push_node *node, ort_tenant_id tenant)
{
    uint64_t have = node->applied.generation == push->generation ? node->applied.version : 0;
    ort_entry entry;

    for (size_t i = node->own_count; i-- > 0;) {
        if (node->own[i].tenants != NULL &&
            ort_section_get(node->own[i].tenants, tenant.v, &entry)) {
            return true;
        }
        if (node->own[i].version <= have) {
            return false; /* what it applied; older ones it cannot go back to */
        }
    }
    return false;
}

/* Lock held. The version a node must have applied, so that it has all up to the store's version
 * that concerns it: its newest one, or an older one that is new enough already. */
static uint64_t
target_of(const cp_push *push, const push_node *node)
{
    ort_table_at at;

    cp_push__at(push, node, &at);
    return at.version;
}

static size_t
count_acked(cp_push *push, const uint64_t *targets, cp_push_ack *acks, size_t count)
{
    size_t acked = 0;

    for (size_t i = 0; i < count; i++) {
        const push_node *node = cp_push__find(push, acks[i].node);
        const cp_push_ack *ack = NULL;
        if (!acks[i].acked && node != NULL && node->applied.generation == push->generation &&
            node->applied.version >= targets[i]) {
            ack = ack_of(node, targets[i]);
        }
        if (ack != NULL) {
            acks[i] = *ack;
        } else if (!acks[i].acked && node == NULL) {
            /* Removed while we waited: its credential is void and it serves nobody we vouch for. */
            acks[i].acked = true;
            acks[i].at_ms = ort_wall_ms();
            acks[i].mono_ns = ort_mono_ns();
        }
        acked += acks[i].acked;
    }
    return acked;
}

ort_err
cp_push_wait_acked(cp_push *push, uint64_t version, ort_tenant_id tenant, uint32_t timeout_ms,
                   cp_push_ack *acks_out, size_t cap, size_t *count_out)
{
    uint64_t deadline = ort_mono_ns() + (uint64_t)timeout_ms * 1000000u;
    uint64_t *targets = calloc(cap > 0 ? cap : 1, sizeof *targets);
    ort_err err = targets != NULL ? ORT_OK : ORT_ENOMEM;
    bool in_time = true;
    size_t at = 0;
    void *value = NULL;

    *count_out = 0;
    pthread_mutex_lock(&push->mutex);
    /* Until the change is in the tables there is nothing to ask the nodes about; but who may be
     * serving the tenant is asked before it leaves their tables, too. */
    while (err == ORT_OK && push->version < version && in_time && !push->stopping) {
        in_time = ort_cond_wait_until(&push->acked, &push->mutex, deadline);
    }
    while (err == ORT_OK && ort_map_next(push->nodes, &at, NULL, NULL, &value)) {
        const push_node *node = value;
        if (!may_serve(push, node, tenant)) {
            continue;
        }
        if (*count_out == cap) {
            err = ORT_ETOOBIG;
            break;
        }
        targets[*count_out] = target_of(push, node);
        acks_out[(*count_out)++] = (cp_push_ack){.node = node->id};
    }
    bool compiled = push->version >= version;
    while (err == ORT_OK) {
        if (compiled && count_acked(push, targets, acks_out, *count_out) == *count_out) {
            break;
        }
        if (!in_time || push->stopping) {
            err = ORT_ETIMEOUT;
            break;
        }
        in_time = ort_cond_wait_until(&push->acked, &push->mutex, deadline);
    }
    pthread_mutex_unlock(&push->mutex);
    free(targets);
    return err;
}

void
cp_push_stop_waits(cp_push *push)
{
    pthread_mutex_lock(&push->mutex);
    push->stopping = true;
    pthread_cond_broadcast(&push->acked);
    pthread_mutex_unlock(&push->mutex);
}

void
cp_push_stats_get(cp_push *push, cp_push_stats *out)
{
    pthread_mutex_lock(&push->mutex);
    *out = push->stats;
    pthread_mutex_unlock(&push->mutex);
}

void
cp_push_public(const cp_push *push, ort_sign_public *out)
{
    *out = push->key.public;
}
