/* Snapshots, and the look-ups of the request path. */
#include "routing/table.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "routing/table_internal.h"

struct dp_table {
    atomic_uint refs;
    ort_node_id self;
    ort_table_at at;
    int64_t issued_at_ms;
    ort_table *content;
};

ort_err
dp_table__new(const dp_table **out, ort_node_id self, ort_table_at at, int64_t issued_at_ms,
              const ort_table *content)
{
    dp_table *t = calloc(1, sizeof *t);
    *out = t;
    if (t == NULL) {
        return ORT_ENOMEM;
    }
    atomic_init(&t->refs, 1);
    t->self = self;
    t->at = at;
    t->issued_at_ms = issued_at_ms;
    t->content = ort_table_ref(content);
    return ORT_OK;
}

ort_err
dp_table_from_body(const dp_table **out, ort_node_id self, ort_table_at at, int64_t issued_at_ms,
                   const char *body, size_t len, ort_diag *diag)
{
    ort_table *content = NULL;
    *out = NULL;
    ort_err err = ort_table_apply(&content, NULL, body, len, &dp_table__codec, diag);
    if (err == ORT_OK) {
        err = dp_table__new(out, self, at, issued_at_ms, content);
    }
    ort_table_unref(content);
    return err;
}

const ort_table *
dp_table__peek_content(const dp_table *table)
{
    return table->content;
}

const dp_table *
dp_table_ref(const dp_table *table)
{
    atomic_fetch_add_explicit(&((dp_table *)(uintptr_t)table)->refs, 1, memory_order_relaxed);
    return table;
}

void
dp_table_release(const dp_table *table)
{
    dp_table *t = (dp_table *)(uintptr_t)table;
    if (t != NULL && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
        ort_table_unref(t->content);
        free(t);
    }
}

ort_node_id
dp_table_self(const dp_table *table)
{
    return table->self;
}

ort_table_at
dp_table_at(const dp_table *table)
{
    return table->at;
}

int64_t
dp_table_issued_at_ms(const dp_table *table)
{
    return table->issued_at_ms;
}

static const void *
look_up(const dp_table *table, ort_table_kind kind, uint64_t id)
{
    ort_entry e;
    return ort_section_get(ort_table_peek(table->content, kind), id, &e) ? e.decoded : NULL;
}

const dp_tenant_entry *
dp_table_tenant(const dp_table *table, ort_tenant_id id)
{
    return look_up(table, ORT_TABLE_TENANTS, id.v);
}

const dp_home *
dp_table_home(const dp_table *table, ort_tenant_id id)
{
    return look_up(table, ORT_TABLE_DIRECTORY, id.v);
}

const dp_node *
dp_table_node(const dp_table *table, ort_node_id id)
{
    return look_up(table, ORT_TABLE_NODES, id.v);
}

size_t
dp_table_tenant_count(const dp_table *table)
{
    return ort_section_count(ort_table_peek(table->content, ORT_TABLE_TENANTS));
}

const dp_tenant_entry *
dp_table_next_tenant(const dp_table *table, uint64_t *at)
{
    ort_entry e;
    return ort_section_next(ort_table_peek(table->content, ORT_TABLE_TENANTS), at, &e) ? e.decoded
                                                                                       : NULL;
}

const dp_node *
dp_table_next_node(const dp_table *table, uint64_t *at)
{
    ort_entry e;
    return ort_section_next(ort_table_peek(table->content, ORT_TABLE_NODES), at, &e) ? e.decoded
                                                                                     : NULL;
}

const dp_key *
dp_tenant_key(const dp_tenant_entry *tenant, uint64_t serial)
{
    size_t low = 0, high = tenant->key_count;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (tenant->keys[mid].serial < serial) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low < tenant->key_count && tenant->keys[low].serial == serial ? &tenant->keys[low]
                                                                         : NULL;
}

/* On a mismatch goes back to the last '*' and lets it take one byte more: no recursion, and at most
 * |glob| * |name| steps, both of which are bounded. */
static bool
glob_matches(const char *glob, const char *name, size_t len)
{
    const char *star = NULL;
    size_t i = 0, star_at = 0;
    while (i < len) {
        if (*glob == '*') {
            star = ++glob;
            star_at = i;
        } else if (*glob != '\0' && (*glob == '?' || *glob == name[i])) {
            glob++;
            i++;
        } else if (star != NULL) {
            glob = star;
            i = ++star_at;
        } else {
            return false;
        }
    }
    while (*glob == '*') {
        glob++;
    }
    return *glob == '\0';
}

bool
dp_key_covers(const dp_key *key, const char *name, size_t len)
{
    for (size_t i = 0; i < key->collection_count; i++) {
        if (glob_matches(key->collections[i], name, len)) {
            return true;
        }
    }
    return key->collection_count == 0;
}

bool
dp_regions_allow(const char *const *regions, size_t count, const char *region)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(regions[i], region) == 0) {
            return true;
        }
    }
    return count == 0;
}
