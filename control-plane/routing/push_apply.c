/* control-plane/routing/push_apply.c: a change of desired state becomes new sections. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "routing/push_internal.h"

/* Edits in the making, dropped whole when one of them fails. Entries of `own` are one a node. */
typedef struct {
    push_node *node;
    bool is_new; /* not in push->nodes yet: ours to free */
    bool is_gone;
    bool denial;
    size_t changed;         /* entries */
    ort_section_edit *edit; /* of its tenants; NULL: untouched */
    ort_section *done;
} own_edit;

typedef struct {
    cp_push *push;
    own_edit *own;
    size_t own_count, own_cap;
    ort_map *by_node; /* ort_node_id.v → index + 1 in own */
    ort_section_edit *directory;
    ort_section_edit *nodes;
    size_t shared_changed;
    bool shared_denial;
} work;

static void
work_fini(work *w)
{
    for (size_t i = 0; i < w->own_count; i++) {
        ort_section_edit_free(w->own[i].edit);
        ort_section_unref(w->own[i].done);
        if (w->own[i].is_new) {
            free(w->own[i].node);
        }
    }
    free(w->own);
    ort_map_free(w->by_node, NULL);
    ort_section_edit_free(w->directory);
    ort_section_edit_free(w->nodes);
}

static own_edit *
own_of(work *w, ort_node_id id)
{
    size_t at = (size_t)(uintptr_t)ort_map_get(w->by_node, &id.v, sizeof id.v);

    return at != 0 ? &w->own[at - 1] : NULL;
}

/* The node's place in the work; NULL and *err ORT_OK: there is no such node. */
static own_edit *
own_begin(work *w, ort_node_id id, bool make, ort_err *err)
{
    own_edit *own = own_of(w, id);
    push_node *node = NULL;

    *err = ORT_OK;
    if (own != NULL) {
        return own;
    }
    node = ort_map_get(w->push->nodes, &id.v, sizeof id.v);
    if (node == NULL && !make) {
        return NULL;
    }
    if (w->own_count == w->own_cap) {
        size_t cap = w->own_cap == 0 ? 16 : w->own_cap * 2;
        own_edit *grown = realloc(w->own, cap * sizeof *grown);
        if (grown == NULL) {
            *err = ORT_ENOMEM;
            return NULL;
        }
        w->own = grown;
        w->own_cap = cap;
    }
    bool is_new = node == NULL;
    if (is_new) {
        node = calloc(1, sizeof *node);
        if (node == NULL) {
            *err = ORT_ENOMEM;
            return NULL;
        }
        node->id = id;
    }
    *err = ort_map_set(w->by_node, &id.v, sizeof id.v, (void *)(uintptr_t)(w->own_count + 1), NULL);
    if (*err != ORT_OK) {
        if (is_new) {
            free(node);
        }
        return NULL;
    }
    own = &w->own[w->own_count++];
    *own = (own_edit){.node = node, .is_new = is_new};
    return own;
}

static const ort_section *
own_section(const own_edit *own)
{
    return own->is_new ? NULL : cp_push__own(own->node)->tenants;
}

/* Puts or removes (text NULL) one entry, beginning the edit only when it changes anything. */
static ort_err
edit_entry(ort_section_edit **edit, ort_table_kind kind, const ort_section *base, uint64_t id,
           const char *text, bool *changed, ort_diag *diag)
{
    ort_entry old;
    bool had = base != NULL && ort_section_get(base, id, &old);
    size_t len = text != NULL ? strlen(text) : 0;

    *changed = false;
    if (*edit == NULL) {
        if (text == NULL ? !had : had && old.len == len && memcmp(old.text, text, len) == 0) {
            return ORT_OK;
        }
        ort_err err = ort_section_edit_begin(edit, kind, base, NULL);
        if (err != ORT_OK) {
            return err;
        }
    }
    *changed = true;
    return text != NULL ? ort_section_edit_put(*edit, id, text, len, diag)
                        : ort_section_edit_remove(*edit, id);
}

static ort_err
edit_tenant(work *w, const cp_push_tenant *t, ort_diag *diag)
{
    push_node *old_home = ort_map_get(w->push->homes, &t->id.v, sizeof t->id.v);
    ort_err err = ORT_OK;
    own_edit *own = NULL;
    bool changed = false;

    if (t->entry != NULL && t->home.v != 0) {
        own = own_begin(w, t->home, false, &err);
        if (err != ORT_OK) {
            return err;
        }
    }
    const char *directory = own != NULL && !own->is_gone ? t->directory : NULL;
    if (own != NULL && !own->is_gone) {
        err = edit_entry(&own->edit, ORT_TABLE_TENANTS, own_section(own), t->id.v, t->entry,
                         &changed, diag);
        own->denial = own->denial || (changed && t->denial);
        own->changed += changed;
    }
    if (err == ORT_OK && old_home != NULL && (own == NULL || old_home != own->node)) {
        own_edit *old = own_begin(w, old_home->id, false, &err);
        if (err == ORT_OK && old != NULL) {
            err = edit_entry(&old->edit, ORT_TABLE_TENANTS, own_section(old), t->id.v, NULL,
                             &changed, diag);
            old->denial = old->denial || changed;
            old->changed += changed;
        }
    }
    if (err == ORT_OK) {
        err = edit_entry(&w->directory, ORT_TABLE_DIRECTORY, cp_push__shared(w->push)->directory,
                         t->id.v, directory, &changed, diag);
        /* A narrower pin concerns every node that forwards; the home's own copy is above. */
        w->shared_denial = w->shared_denial || (changed && t->denial);
        w->shared_changed += changed;
    }
    return err;
}

static ort_err
edit_node(work *w, const cp_push_node *n, ort_diag *diag)
{
    ort_err err = ORT_OK;
    bool changed = false;
    own_edit *own = own_begin(w, n->id, n->entry != NULL, &err);

    if (err != ORT_OK) {
        return err;
    }
    if (own != NULL && n->entry == NULL) {
        own->is_gone = true;
    }
    err = edit_entry(&w->nodes, ORT_TABLE_NODES, cp_push__shared(w->push)->nodes, n->id.v, n->entry,
                     &changed, diag);
    w->shared_changed += changed;
    return err;
}

/* What old versions hold beside the newest is what has changed since. A plan's limit changes every
 * entry of the hub: without this bound the 64 last of such changes would be 64 copies of it. Small
 * histories are kept whatever the size. */
#define OWN_ENTRIES_MIN 256u
#define SHARED_ENTRIES_MIN 4096u

static size_t
history_max(const ort_section *section, size_t min)
{
    size_t count = ort_section_count(section);

    return count > min ? count : min;
}

static void
drop_oldest_own(push_node *node)
{
    ort_section_unref(node->own[0].tenants);
    node->own_count--;
    memmove(&node->own[0], &node->own[1], node->own_count * sizeof node->own[0]);
}

static void
keep_own(push_node *node, push_own made)
{
    size_t changed = 0;

    if (node->own_count > 0 && cp_push__own(node)->version == made.version) {
        ort_section_unref(node->own[--node->own_count].tenants); /* never served: see apply */
    }
    if (node->own_count == CP_PUSH_OWN_MAX) {
        drop_oldest_own(node);
    }
    node->own[node->own_count++] = made;
    for (size_t i = 1; i < node->own_count; i++) {
        changed += node->own[i].changed;
    }
    while (node->own_count > 2 && changed > history_max(made.tenants, OWN_ENTRIES_MIN)) {
        drop_oldest_own(node);
        changed -= node->own[0].changed; /* the new oldest stands for itself */
    }
}

static void
drop_oldest_shared(cp_push *push)
{
    ort_section_unref(push->shared[0].directory);
    ort_section_unref(push->shared[0].nodes);
    push->shared_count--;
    memmove(&push->shared[0], &push->shared[1], push->shared_count * sizeof push->shared[0]);
}

/* Takes over both references. */
static void
keep_shared(cp_push *push, push_shared made)
{
    size_t changed = 0;

    if (cp_push__shared(push)->version == made.version) {
        push->shared_count--;
        ort_section_unref(push->shared[push->shared_count].directory);
        ort_section_unref(push->shared[push->shared_count].nodes);
    }
    if (push->shared_count == CP_PUSH_SHARED_MAX) {
        drop_oldest_shared(push);
    }
    push->shared[push->shared_count++] = made;
    for (size_t i = 1; i < push->shared_count; i++) {
        changed += push->shared[i].changed;
    }
    while (push->shared_count > 2 && changed > history_max(made.directory, SHARED_ENTRIES_MIN)) {
        drop_oldest_shared(push);
        changed -= push->shared[0].changed;
    }
}

void
cp_push__node_free(void *arg)
{
    push_node *node = arg;

    for (size_t i = 0; node != NULL && i < node->own_count; i++) {
        ort_section_unref(node->own[i].tenants);
    }
    free(node);
}

/* All that can fail, before anything is seen: map slots for new nodes and new homes. The values are
 * put now and are right only after commit(), which is why the lock is held over both. */
static ort_err
reserve_maps(work *w, const cp_push_change *change)
{
    ort_err err = ORT_OK;

    for (size_t i = 0; err == ORT_OK && i < w->own_count; i++) {
        if (w->own[i].is_new && !w->own[i].is_gone) {
            err = ort_map_set(w->push->nodes, &w->own[i].node->id.v, sizeof(uint64_t),
                              w->own[i].node, NULL);
            if (err != ORT_OK) {
                while (i-- > 0) {
                    if (w->own[i].is_new && !w->own[i].is_gone) {
                        (void)ort_map_take(w->push->nodes, &w->own[i].node->id.v, sizeof(uint64_t));
                    }
                }
                return err;
            }
        }
    }
    /* Homes last: a home that points to a node the tenant is not on yet only makes a wait longer,
     * and the next apply puts it right. */
    for (size_t i = 0; err == ORT_OK && i < change->tenant_count; i++) {
        const cp_push_tenant *t = &change->tenants[i];
        own_edit *own = t->entry != NULL ? own_of(w, t->home) : NULL;
        if (own != NULL && !own->is_gone) {
            err = ort_map_set(w->push->homes, &t->id.v, sizeof t->id.v, own->node, NULL);
        } else {
            (void)ort_map_take(w->push->homes, &t->id.v, sizeof t->id.v);
        }
    }
    return err;
}

/* A node's tenants lose their home with it: they are in no table until they are placed anew. */
static void
forget_node(cp_push *push, own_edit *own)
{
    const ort_section *tenants = own_section(own);
    ort_entry entry;
    uint64_t at = 0;

    while (tenants != NULL && ort_section_next(tenants, &at, &entry)) {
        if (ort_map_get(push->homes, &entry.id, sizeof entry.id) == own->node) {
            (void)ort_map_take(push->homes, &entry.id, sizeof entry.id);
        }
    }
    cp_push__node_free(ort_map_take(push->nodes, &own->node->id.v, sizeof(uint64_t)));
    own->node = NULL;
}

/* Lock held; cannot fail. */
static void
commit(work *w, uint64_t version, ort_section *directory, ort_section *nodes)
{
    cp_push *push = w->push;
    uint64_t now = ort_mono_ns();
    void *value = NULL;

    for (size_t i = 0; i < w->own_count; i++) {
        own_edit *own = &w->own[i];
        if (own->is_gone) {
            if (!own->is_new) {
                forget_node(push, own);
            }
            continue;
        }
        if (own->is_new || own->done != NULL) {
            keep_own(own->node, (push_own){.version = version,
                                           .made_ns = now,
                                           .changed = own->changed,
                                           .tenants = own->done});
            own->done = NULL;
            own->is_new = false;
        }
        if (own->denial) {
            own->node->deny_version = version;
        }
    }
    for (size_t at = 0; w->shared_denial && ort_map_next(push->nodes, &at, NULL, NULL, &value);) {
        ((push_node *)value)->deny_version = version;
    }
    if (directory != NULL || nodes != NULL) {
        const push_shared *last = cp_push__shared(push);
        keep_shared(push,
                    (push_shared){.version = version,
                                  .made_ns = now,
                                  .changed = w->shared_changed,
                                  .directory = directory != NULL ? directory
                                                                 : ort_section_ref(last->directory),
                                  .nodes = nodes != NULL ? nodes : ort_section_ref(last->nodes)});
    }
    push->version = version;
    push->stats.applies_total++;
    pthread_cond_broadcast(&push->acked);
}

static void
hint_some(work *w, uint64_t generation, uint64_t version, bool denials)
{
    cp_push *push = w->push;
    ort_hint_entry *entries = NULL;
    size_t n = 0;

    entries = calloc(w->own_count > 0 ? w->own_count : 1, sizeof *entries);
    for (size_t i = 0; entries != NULL && i < w->own_count; i++) {
        own_edit *own = &w->own[i];
        if (own->node != NULL && own->edit == NULL && own->is_gone == false &&
            own->denial == denials && cp_push__own(own->node)->version == version) {
            entries[n++] = (ort_hint_entry){.node = own->node->id, .version = version};
        }
    }
    for (size_t at = 0; at < n; at += ORT_HINT_NODES_MAX) {
        size_t count = n - at < ORT_HINT_NODES_MAX ? n - at : ORT_HINT_NODES_MAX;
        push->options.hint(push->options.arg, generation, entries + at, count);
    }
    free(entries);
}

ort_err
cp_push_apply(cp_push *push, const cp_push_change *change, ort_diag *diag)
{
    work w = {.push = push};
    ort_section *directory = NULL;
    ort_section *nodes = NULL;
    uint64_t generation = 0;
    bool shared = false;

    /* Equal is a full compile of a state that is there already (after a restart of the feed). */
    assert(change->version >= push->version);
    ort_err err = ort_map_new(&w.by_node);
    for (size_t i = 0; err == ORT_OK && i < change->node_count; i++) {
        err = edit_node(&w, &change->nodes[i], diag);
    }
    for (size_t i = 0; err == ORT_OK && i < change->tenant_count; i++) {
        err = edit_tenant(&w, &change->tenants[i], diag);
    }
    if (err != ORT_OK) {
        goto done;
    }
    for (size_t i = 0; i < w.own_count; i++) {
        if (w.own[i].edit != NULL) {
            w.own[i].done = ort_section_edit_done(w.own[i].edit);
            w.own[i].edit = NULL;
        }
    }
    directory = w.directory != NULL ? ort_section_edit_done(w.directory) : NULL;
    nodes = w.nodes != NULL ? ort_section_edit_done(w.nodes) : NULL;
    w.directory = NULL;
    w.nodes = NULL;
    shared = directory != NULL || nodes != NULL;

    pthread_mutex_lock(&push->mutex);
    err = reserve_maps(&w, change);
    if (err == ORT_OK) {
        commit(&w, change->version, directory, nodes);
        directory = NULL;
        nodes = NULL;
    }
    generation = push->generation;
    push->stats.hints_total += err == ORT_OK;
    pthread_mutex_unlock(&push->mutex);
    if (err == ORT_OK && push->options.hint != NULL) {
        hint_some(&w, generation, change->version, true);
        if (shared) {
            push->options.hint(push->options.arg, generation, NULL, 0);
        } else {
            hint_some(&w, generation, change->version, false);
        }
    }
done:
    ort_section_unref(directory);
    ort_section_unref(nodes);
    work_fini(&w);
    return err;
}
