/* Collections of a tenant: create, change, drop. */
#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "tenant/tenant_internal.h"

static const ort_log log_ = {"tenant"};

void
dp_entry__free(dp_entry *e)
{
    if (e != NULL) {
        dp_schema_unref(e->schema);
        free(e->name);
        free(e);
    }
}

/* By bytes, then by length. */
int
dp_tenant__compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
    const int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

/* The place of a name among the sorted entries: where it is, or where it would go. */
static size_t
place_of(const dp_tenant *t, const char *name, size_t len)
{
    size_t low = 0, high = t->entry_count;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const char *other = t->entries[mid]->name;
        if (dp_tenant__compare(other, strlen(other), name, len) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

dp_entry *
dp_tenant__find(dp_tenant *t, const char *name, size_t len)
{
    const size_t at = place_of(t, name, len);
    if (at == t->entry_count) {
        return NULL;
    }
    const char *other = t->entries[at]->name;
    return dp_tenant__compare(other, strlen(other), name, len) == 0 ? t->entries[at] : NULL;
}

dp_entry *
dp_tenant__find_id(dp_tenant *t, ort_collection_id id)
{
    for (size_t i = 0; i < t->entry_count; i++) {
        if (t->entries[i]->id.v == id.v) {
            return t->entries[i];
        }
    }
    return NULL;
}

dp_entry *
dp_tenant__resolve(dp_tenant *t, const char *name, size_t len)
{
    dp_entry *e = dp_tenant__find(t, name, len);
    const dp_alias *alias = e == NULL ? dp_alias__find(&t->aliases, name, len) : NULL;
    return alias != NULL ? dp_tenant__find_id(t, alias->collection) : e;
}

static ort_err
insert_entry(dp_tenant *t, dp_entry *e)
{
    if (t->entry_count == t->entry_cap) {
        const size_t cap = t->entry_cap == 0 ? 8 : t->entry_cap * 2;
        dp_entry **grown = realloc(t->entries, cap * sizeof(dp_entry *));
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        t->entries = grown;
        t->entry_cap = cap;
    }
    const size_t at = place_of(t, e->name, strlen(e->name));
    memmove(t->entries + at + 1, t->entries + at, (t->entry_count - at) * sizeof(dp_entry *));
    t->entries[at] = e;
    t->entry_count++;
    return ORT_OK;
}

static void
remove_entry(dp_tenant *t, const dp_entry *e)
{
    for (size_t i = 0; i < t->entry_count; i++) {
        if (t->entries[i] == e) {
            memmove(t->entries + i, t->entries + i + 1,
                    (t->entry_count - i - 1) * sizeof(dp_entry *));
            t->entry_count--;
            return;
        }
    }
}

/* --- create, change, drop --------------------------------------------------------------------- */

/* Whether a collection of that name may be made; with t->lock held. */
ort_err
dp_tenant__check_new(dp_tenant *t, const char *name, size_t len, ort_diag *diag)
{
    if (t->deleted) {
        return ort_fail(diag, ORT_EBUSY, "the tenant is being deleted");
    }
    if (dp_tenant__find(t, name, len) != NULL) {
        return ort_fail(diag, ORT_EEXISTS, "Collection `%.*s` already exists!", (int)len, name);
    }
    if (dp_alias__find(&t->aliases, name, len) != NULL) {
        return ort_fail(diag, ORT_EINVAL,
                        "Can't create collection with name %.*s. Alias with the same name already "
                        "exists",
                        (int)len, name);
    }
    if (t->collections_max != 0 && t->entry_count >= t->collections_max) {
        return ort_fail(diag, ORT_EQUOTA,
                        "the tenant has %zu collections and its quota max_collections is %u",
                        t->entry_count, t->collections_max);
    }
    return ORT_OK;
}

/* Renames what a collection has in one of the folders into the trash. */
static void
trash_folder(dp_tenant *t, const char *folder, ort_collection_id id)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_diag diag = {""};
    ort_id_format(id.v, name);
    const int fd = dp_tenant__open_folder(t, folder, NULL);
    if (fd >= 0 && dp_tenants__trash(t->all, fd, name, &diag) != ORT_OK) {
        /* The next load of this tenant finds it again: no catalog names it. */
        ORT_LOG_WARN(&log_, "collection.trash", "folder=%s collection=%s err=%s", folder, name,
                     diag.text);
    }
    ort_fd_close(fd);
}

static void
trash_files(dp_tenant *t, dp_entry *e)
{
    trash_folder(t, "indexes", e->id);
    if (!e->home) {
        trash_folder(t, "collections", e->id);
        return;
    }
    const bool gone = dp_home__trash(t);
    pthread_mutex_lock(&t->lock);
    t->home_taken = !gone;
    pthread_mutex_unlock(&t->lock);
}

void
dp_entry__charge(dp_tenant *t, dp_entry *e)
{
    assert(!e->charged);
    dp_quota_settle(t->quota, (dp_amount){0}, (dp_amount){(int64_t)e->points, (int64_t)e->bytes});
    e->charged = true;
}

void
dp_entry__uncharge(dp_tenant *t, dp_entry *e)
{
    if (e->charged) {
        dp_quota_settle(t->quota, (dp_amount){0},
                        (dp_amount){-(int64_t)e->points, -(int64_t)e->bytes});
        e->charged = false;
    }
}

ort_err
dp_tenant__reserve_dropped(dp_tenant *t, size_t count)
{
    dp_entry **grown = realloc(t->dropped, (t->dropped_count + count + 1) * sizeof(dp_entry *));
    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    t->dropped = grown;
    return ORT_OK;
}

void
dp_tenant__drop_entry(dp_tenant *t, dp_entry *e)
{
    t->dropped[t->dropped_count++] = e;
    e->dropped = true;
}

/* Puts an entry that has just left the catalog among the dropped; with t->lock held. ORT_ENOMEM:
 * nothing changed. */
static ort_err
keep_dropped(dp_tenant *t, dp_entry *e)
{
    const ort_err err = dp_tenant__reserve_dropped(t, 1);
    if (err == ORT_OK) {
        dp_tenant__drop_entry(t, e);
    }
    return err;
}

bool
dp_tenant__take_dropped(dp_tenant *t, dp_entry *e)
{
    if (!e->dropped || e->uses > 0 || e->state == DP_ENTRY_OPENING ||
        e->state == DP_ENTRY_CLOSING) {
        return false;
    }
    for (size_t i = 0; i < t->dropped_count; i++) {
        if (t->dropped[i] == e) {
            t->dropped[i] = t->dropped[--t->dropped_count];
            break;
        }
    }
    if (e->failed_ms != 0) {
        t->all->failed--;
        e->failed_ms = 0;
    }
    dp_entry__uncharge(t, e);
    return true;
}

void
dp_tenant__bury(dp_tenant *t, dp_entry *e)
{
    dp_tenants__note_closed(t->all, e);
    dp_collection_discard(e->collection);
    trash_files(t, e);
    dp_entry__free(e);
}

ort_err
dp_tenant_create_collection(dp_tenant *t, const char *name, size_t len, dp_schema *schema,
                            ort_diag *diag)
{
    ort_err err = dp_collection_name_check(name, len, diag);
    if (err != ORT_OK) {
        return err;
    }
    dp_entry *e = calloc(1, sizeof *e);
    if (e == NULL || (e->name = strndup(name, len)) == NULL) {
        free(e);
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    e->id.v = ort_id_random();
    e->schema = dp_schema_ref(schema);
    e->owner = t;
    e->clean = true;
    e->charged = true; /* with nothing */
    e->used_ms = ort_mono_ms();

    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    err = dp_tenant__check_new(t, name, len, diag);
    if (err == ORT_OK) {
        err = insert_entry(t, e);
    }
    if (err == ORT_OK) {
        dp_home__take(t, e);
    }
    pthread_mutex_unlock(&t->lock);
    if (err != ORT_OK) {
        pthread_mutex_unlock(&t->change);
        dp_entry__free(e);
        return err;
    }
    /* The catalog first: directories without an entry would be swept as orphans, an entry without
     * directories gets them when it is opened. */
    err = dp_tenant__save(t, diag);
    ort_point("collection.created");
    bool idle = false;
    if (err != ORT_OK) {
        pthread_mutex_lock(&t->lock);
        if (keep_dropped(t, e) == ORT_OK) {
            remove_entry(t, e);
            idle = dp_tenant__take_dropped(t, e);
        }
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    if (idle) {
        dp_tenant__bury(t, e);
    }
    return err;
}

/* What a change of schema is made of: makes the new one from the old. */
typedef struct {
    ort_json body;
    const char *field; /* NULL: a patch; else a payload field */
    size_t field_len;
} schema_change;

static ort_err
make_schema(dp_schema **out, const dp_schema *old, const schema_change *change, ort_diag *diag)
{
    return change->field == NULL ? dp_schema_patch(out, old, change->body, diag)
                                 : dp_schema_set_field(out, old, change->field, change->field_len,
                                                       change->body, diag);
}

static ort_err
change_schema(dp_tenant *t, const char *name, size_t len, const schema_change *change,
              ort_diag *diag)
{
    dp_schema *fresh = NULL, *old = NULL;
    dp_collection *open = NULL;
    ort_err err = ORT_OK;
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    dp_entry *e = dp_tenant__resolve(t, name, len);
    if (e == NULL) {
        err = ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!", (int)len, name);
    } else {
        old = dp_schema_ref(e->schema);
    }
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        err = make_schema(&fresh, old, change, diag);
    }
    if (err == ORT_OK) {
        /* t->change keeps the entry in the catalog; only its schema is replaced. */
        pthread_mutex_lock(&t->lock);
        dp_schema_unref(e->schema);
        e->schema = dp_schema_ref(fresh);
        pthread_mutex_unlock(&t->lock);
        err = dp_tenant__save(t, diag);
        pthread_mutex_lock(&t->lock);
        if (err != ORT_OK) {
            dp_schema_unref(e->schema);
            e->schema = dp_schema_ref(old);
        } else if (e->state == DP_ENTRY_OPEN) {
            open = e->collection;
            e->uses++;
        }
        pthread_mutex_unlock(&t->lock);
    }
    if (open != NULL) { /* that waits for searches, and others of the tenant must not for it */
        dp_collection_set_schema(open, fresh);
        pthread_mutex_lock(&t->lock);
        e->uses--; /* it is still of the catalog: to drop it takes t->change */
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    dp_schema_unref(fresh);
    dp_schema_unref(old);
    return err;
}

ort_err
dp_tenant_patch_collection(dp_tenant *t, const char *name, size_t len, ort_json body,
                           ort_diag *diag)
{
    const schema_change change = {.body = body};
    return change_schema(t, name, len, &change, diag);
}

ort_err
dp_tenant_set_field(dp_tenant *t, const char *name, size_t len, const char *field, size_t field_len,
                    ort_json spec, ort_diag *diag)
{
    const schema_change change = {.body = spec, .field = field, .field_len = field_len};
    return change_schema(t, name, len, &change, diag);
}

/* Undoes remove_entry() and keep_dropped(); the array still has the entry's room. */
static void
take_back(dp_tenant *t, dp_entry *e)
{
    for (size_t i = 0; i < t->dropped_count; i++) {
        if (t->dropped[i] == e) {
            t->dropped[i] = t->dropped[--t->dropped_count];
            break;
        }
    }
    e->dropped = false;
    const ort_err err = insert_entry(t, e);
    assert(err == ORT_OK);
    (void)err;
}

ort_err
dp_tenant_drop_collection(dp_tenant *t, const char *name, size_t len, bool *existed, ort_diag *diag)
{
    dp_alias_list rest = {0}, old = {0};
    dp_snap_list snaps = {0}, old_snaps = {0};
    ort_err err = ORT_OK;
    ort_collection_id gone = {0};
    bool idle = false;
    *existed = false;
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    dp_entry *e = dp_tenant__find(t, name, len);
    if (e != NULL) {
        gone = e->id;
        err = dp_alias__without(&t->aliases, e->id, &rest);
    }
    if (e != NULL && err == ORT_OK && (err = dp_snap__copy(&t->snaps, 0, &snaps)) == ORT_OK) {
        dp_snap__remove_of(&snaps, e->id);
    }
    if (e != NULL && err == ORT_OK && (err = keep_dropped(t, e)) == ORT_OK) {
        remove_entry(t, e);
        e->uses++; /* ours: its last user must not bury what may be taken back below */
        old = t->aliases;
        t->aliases = rest;
        rest = (dp_alias_list){0};
        old_snaps = t->snaps;
        t->snaps = snaps;
        snaps = (dp_snap_list){0};
    }
    pthread_mutex_unlock(&t->lock);
    if (e != NULL && err == ORT_OK) {
        err = dp_tenant__save(t, diag);
        pthread_mutex_lock(&t->lock);
        e->uses--;
        if (err != ORT_OK) {
            /* There is room: the entry stood there a moment ago, and t->change is held. */
            take_back(t, e);
            rest = t->aliases;
            t->aliases = old;
            old = (dp_alias_list){0};
            snaps = t->snaps;
            t->snaps = old_snaps;
            old_snaps = (dp_snap_list){0};
        } else {
            *existed = true;
            idle = dp_tenant__take_dropped(t, e);
        }
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    if (*existed) {
        ort_point("collection.dropped");
        dp_snap__trash_of(t, &old_snaps, gone);
    }
    dp_alias__clear(&rest);
    dp_alias__clear(&old);
    free(snaps.items);
    free(old_snaps.items);
    if (idle) {
        dp_tenant__bury(t, e);
    }
    return err;
}
