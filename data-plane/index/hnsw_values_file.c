/* Links among points of one value, in the graph's file (hnsw_file.c). Programs that do not know
 * these sections pass over them.
 *
 * values: what fields there are, and their values
 *
 *   offset  size  field        all integers little-endian
 *        0     4  fields       1 .. 8
 *        4     4               0
 *   then for each field
 *        0     8  field        the caller's number, not 0
 *        8     4  m
 *       12     4  told_end     slots below were told of
 *       16     4  slots        elements of the two sections below, at most those of the graph
 *       20     4  groups       values
 *   then for each value of each field
 *        0     8  value        the caller's number; no two of a field are the same
 *        8     4  state        0 few points, 1 linked, 2 mixed, 3 none: a place to be given out
 *       12     4  noted        points that have other values too, 0 .. 256
 *   then those of each value of each field, u32 each: slots that are nodes
 *
 * groupsN: of the N-th of these fields, slots * u32: the number of the slot's value, plus 1; 0:
 * none listsN:  slots * 2 * m * u32, as `links`
 *
 * A slot of a group is a node, and links lead to nodes of the same group: so whatever the bytes
 * are, a walk stays among the points of one value. */
#include "index/hnsw_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "index/hnsw_values_internal.h"

#define HEAD_BYTES 8u
#define FIELD_BYTES 24u
#define GROUP_BYTES 16u
#define CANCEL_SLOTS 65536u

enum { STATE_FEW, STATE_LINKED, STATE_MIXED, STATE_NONE, STATES };

static ort_err
damaged(ort_diag *diag)
{
    return ort_fail(diag, ORT_ECORRUPT, "the links by value of the graph's file are damaged");
}

/* --- writing ------------------------------------------------------------------------------------
 */

static uint32_t
slots_of(const dp_value_links *f, uint32_t graph_slots)
{
    const uint32_t end =
        atomic_load_explicit((_Atomic(uint32_t) *)&f->slot_end, memory_order_relaxed);
    return end < graph_slots ? end : graph_slots;
}

static void
put_field(ort_buf *out, const dp_value_links *f, uint32_t graph_slots)
{
    ort_buf_put_u64(out, f->field);
    ort_buf_put_u32(out, f->m);
    ort_buf_put_u32(out,
                    atomic_load_explicit((_Atomic(uint32_t) *)&f->told_end, memory_order_relaxed));
    ort_buf_put_u32(out, slots_of(f, graph_slots));
    ort_buf_put_u32(out, f->group_count);
}

static void
put_group(ort_buf *out, const dp_value_group *g)
{
    ort_buf_put_u64(out, g->used ? g->value : 0);
    ort_buf_put_u32(out, !g->used      ? STATE_NONE
                         : g->mixed    ? STATE_MIXED
                         : g->walkable ? STATE_LINKED
                                       : STATE_FEW);
    ort_buf_put_u32(out, g->noted_count);
}

/* Of all fields; how many there are. */
static uint32_t
list_fields(const dp_hnsw *graph, const dp_value_links *fields[DP_HNSW_FIELDS_MAX])
{
    uint32_t n = 0;
    for (unsigned i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        const dp_value_links *f = dp_hnsw__field(graph, i);
        if (f != NULL) {
            fields[n++] = f;
        }
    }
    return n;
}

static ort_err
write_about(dp_graph_writer *w, const dp_value_links *const *fields, uint32_t count,
            dp_graph_head *h, ort_diag *diag)
{
    ort_buf out = {0};
    ort_buf_put_u32(&out, count);
    ort_buf_put_u32(&out, 0);
    for (uint32_t i = 0; i < count; i++) {
        put_field(&out, fields[i], h->slots);
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t g = 0; g < fields[i]->group_count; g++) {
            put_group(&out, &fields[i]->groups[g]);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t g = 0; g < fields[i]->group_count; g++) {
            for (uint32_t j = 0; j < fields[i]->groups[g].noted_count; j++) {
                ort_buf_put_u32(&out, fields[i]->groups[g].noted[j]);
            }
        }
    }
    ort_err err = ort_buf_check(&out);
    if (err != ORT_OK) {
        err = ort_fail(diag, err, "no memory to write a graph");
    } else {
        err = dp_graph_write(w, out.data, out.len, diag);
    }
    ort_buf_fini(&out);
    return err == ORT_OK ? dp_graph_write_end(w, &h->at[DP_GRAPH_VALUES], diag) : err;
}

ort_err
dp_hnsw__write_values(dp_graph_writer *w, const dp_hnsw *graph, dp_graph_head *h, ort_diag *diag)
{
    const dp_value_links *fields[DP_HNSW_FIELDS_MAX];
    const uint32_t count = list_fields(graph, fields);
    ort_err err = count > 0 ? write_about(w, fields, count, h, diag) : ORT_OK;
    for (uint32_t i = 0; i < count && err == ORT_OK; i++) {
        err = dp_graph_write_slab(w, &fields[i]->group_of, slots_of(fields[i], h->slots),
                                  &h->at[DP_GRAPH_GROUPS + i], diag);
    }
    for (uint32_t i = 0; i < count && err == ORT_OK; i++) {
        err = dp_graph_write_slab(w, &fields[i]->links, slots_of(fields[i], h->slots),
                                  &h->at[DP_GRAPH_LISTS + i], diag);
    }
    return err;
}

/* --- reading ------------------------------------------------------------------------------------
 */

ort_err
dp_hnsw__check_value_sections(const dp_graph_head *h, ort_diag *diag)
{
    bool more = h->at[DP_GRAPH_VALUES].offset != 0;
    for (uint32_t i = 0; i < DP_HNSW_FIELDS_MAX; i++) {
        const bool groups = h->at[DP_GRAPH_GROUPS + i].offset != 0;
        if (groups != (h->at[DP_GRAPH_LISTS + i].offset != 0) || (groups && !more) ||
            (i == 0 && groups != more)) {
            return damaged(diag);
        }
        more = groups;
    }
    return h->at[DP_GRAPH_VALUES].bytes <= UINT32_MAX ? ORT_OK : damaged(diag);
}

typedef struct {
    const dp_graph_verify *v;
    dp_value_links *f;
    uint32_t slots, groups;
    const dp_graph_place *group_place, *list_place;
} taking;

static ort_err
take_about(taking *t, dp_hnsw *graph, unsigned i, ort_cursor *at, ort_diag *diag)
{
    const dp_graph_head *h = &t->v->file->head;
    const uint64_t field = ort_cursor_u64(at);
    const uint32_t m = ort_cursor_u32(at);
    const uint32_t told_end = ort_cursor_u32(at);
    t->slots = ort_cursor_u32(at);
    t->groups = ort_cursor_u32(at);
    t->group_place = &h->at[DP_GRAPH_GROUPS + i];
    t->list_place = &h->at[DP_GRAPH_LISTS + i];
    if (at->failed || field == 0 || dp_hnsw__field_of(graph, field) < DP_HNSW_FIELDS_MAX || m < 2 ||
        m > DP_HNSW_M_MAX || told_end > DP_HNSW_SLOT_MAX || t->slots > h->slots ||
        t->group_place->bytes != (uint64_t)t->slots * sizeof(dp_group_number) ||
        t->list_place->bytes != (uint64_t)t->slots * 2 * m * sizeof(dp_link)) {
        return damaged(diag);
    }
    t->f = dp_value_links_new(field, m);
    if (t->f == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
    }
    atomic_store_explicit(&t->f->told_end, told_end, memory_order_relaxed);
    atomic_store_explicit(&graph->fields[i], t->f, memory_order_release); /* which frees it */
    return ORT_OK;
}

static ort_err
take_groups(taking *t, ort_cursor *at, ort_diag *diag)
{
    for (uint32_t i = 0; i < t->groups; i++) {
        const uint64_t value = ort_cursor_u64(at);
        const uint32_t state = ort_cursor_u32(at);
        const uint32_t noted = ort_cursor_u32(at);
        uint32_t number = 0;
        if (at->failed || state >= STATES || noted > DP_HNSW_VALUE_NOTED_MAX ||
            (noted > 0 && state == STATE_NONE)) {
            return damaged(diag);
        }
        const ort_err err = state == STATE_NONE ? dp_value__group_none(t->f, &number)
                                                : dp_value__group(t->f, value, &number);
        if (err != ORT_OK) {
            return ort_fail(diag, err, "no memory for a graph");
        }
        if (number != i) {
            return damaged(diag); /* a value twice */
        }
        t->f->groups[i].mixed = state == STATE_MIXED;
        t->f->groups[i].walkable = state == STATE_LINKED;
        t->f->groups[i].noted_cap = noted; /* to be read */
    }
    for (uint32_t i = 0; i < t->f->group_count; i++) {
        if (!t->f->groups[i].used) {
            dp_value__release(t->f, i);
        }
    }
    return ORT_OK;
}

static ort_err
take_noted(const taking *t, ort_cursor *at, ort_diag *diag)
{
    for (uint32_t i = 0; i < t->f->group_count; i++) {
        dp_value_group *g = &t->f->groups[i];
        const uint32_t count = g->noted_cap;
        g->noted_cap = 0;
        for (uint32_t j = 0; j < count; j++) {
            const uint32_t slot = ort_cursor_u32(at);
            if (at->failed || slot >= t->v->file->head.slots ||
                dp_hnsw__state(t->v->graph, slot) != DP_NODE_LIVE ||
                dp_value__group_of(t->f, slot) != 0) {
                return damaged(diag);
            }
            const ort_err err = dp_value__note(t->f, g, slot);
            if (err != ORT_OK) {
                return ort_fail(diag, err, "no memory for a graph");
            }
        }
    }
    return ORT_OK;
}

/* The members of each group, counted before they are listed. */
static ort_err
take_members(taking *t, const dp_hnsw *graph, ort_diag *diag)
{
    dp_value_links *f = t->f;
    for (uint32_t slot = 0; slot < t->slots; slot++) {
        const uint32_t number = dp_value__group_of(f, slot);
        if (number == 0) {
            continue;
        }
        if (number > f->group_count || !f->groups[number - 1].used ||
            dp_hnsw__state(graph, slot) != DP_NODE_LIVE) {
            return damaged(diag);
        }
        f->groups[number - 1].cap++;
    }
    for (uint32_t i = 0; i < f->group_count; i++) {
        dp_value_group *g = &f->groups[i];
        g->members = g->cap > 0 ? malloc((size_t)g->cap * sizeof *g->members) : NULL;
        if (g->cap > 0 && g->members == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "no memory for a graph");
        }
    }
    for (uint32_t slot = 0; slot < t->slots; slot++) {
        const uint32_t number = dp_value__group_of(f, slot);
        if (number != 0) {
            dp_value_group *g = &f->groups[number - 1];
            g->members[g->count++] = slot;
            g->linked += g->walkable;
        }
    }
    return ORT_OK;
}

static bool
list_is_sound(const dp_value_links *f, uint32_t slots, uint32_t slot)
{
    const dp_link *list = dp_slab_at(&f->links, slot);
    const uint32_t number = dp_value__group_of(f, slot);
    bool ended = false;
    for (uint32_t i = 0; i < f->m0; i++) {
        const uint32_t link = atomic_load_explicit((dp_link *)&list[i], memory_order_relaxed);
        ended = ended || link == 0;
        if (link != 0 && (ended || number == 0 || link > slots || link == slot + 1 ||
                          dp_value__group_of(f, link - 1) != number)) {
            return false;
        }
    }
    return true;
}

static ort_err
take_lists(taking *t, ort_diag *diag)
{
    const dp_graph_verify *v = t->v;
    ort_err err =
        dp_graph_read_slab(v, &t->f->links, t->list_place, t->slots, "links by value", diag);
    for (uint32_t slot = 0; slot < t->slots && err == ORT_OK; slot++) {
        if (!list_is_sound(t->f, t->slots, slot)) {
            err = damaged(diag);
        } else if (slot % CANCEL_SLOTS == 0 && dp_hnsw__is_cancelled(v->progress)) {
            err = ort_fail(diag, ORT_EBUSY, "the check of a graph was cancelled");
        }
    }
    return err;
}

static ort_err
take_field(taking *t, ort_cursor *at, ort_diag *diag)
{
    ort_err err = take_groups(t, at, diag);
    if (err == ORT_OK) {
        err = dp_graph_read_slab(t->v, &t->f->group_of, t->group_place, t->slots, "values by slot",
                                 diag);
    }
    if (err == ORT_OK && t->slots > 0) {
        err = dp_value_links_reserve(t->f, t->slots - 1);
        err = err == ORT_OK ? err : ort_fail(diag, err, "no memory for a graph");
    }
    err = err == ORT_OK ? take_members(t, t->v->graph, diag) : err;
    return err == ORT_OK ? take_lists(t, diag) : err;
}

ort_err
dp_hnsw__take_values(const dp_graph_verify *v, ort_diag *diag)
{
    const dp_graph_place *place = &v->file->head.at[DP_GRAPH_VALUES];
    taking fields[DP_HNSW_FIELDS_MAX];
    unsigned char *about;
    ort_err err;
    if (place->offset == 0) {
        return ORT_OK;
    }
    err = dp_graph_read_bytes(v, &about, place, "values", diag);
    if (err != ORT_OK) {
        return err;
    }
    ort_cursor at = ort_cursor_of(about, (size_t)place->bytes);
    const uint32_t count = ort_cursor_u32(&at);
    if (ort_cursor_u32(&at) != 0 || count == 0 || count > DP_HNSW_FIELDS_MAX ||
        v->file->head.at[DP_GRAPH_GROUPS + count - 1].offset == 0 ||
        (count < DP_HNSW_FIELDS_MAX && v->file->head.at[DP_GRAPH_GROUPS + count].offset != 0)) {
        err = damaged(diag);
    }
    for (uint32_t i = 0; i < count && err == ORT_OK; i++) {
        fields[i] = (taking){.v = v};
        err = take_about(&fields[i], v->graph, i, &at, diag);
    }
    for (uint32_t i = 0; i < count && err == ORT_OK; i++) {
        err = take_field(&fields[i], &at, diag);
    }
    for (uint32_t i = 0; i < count && err == ORT_OK; i++) {
        err = take_noted(&fields[i], &at, diag);
    }
    if (err == ORT_OK && ort_cursor_left(&at) != 0) {
        err = damaged(diag);
    }
    free(about);
    return err;
}
