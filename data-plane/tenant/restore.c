/* Restoring: collections of a file are made beside those there are, under ids that no catalog
 * names, and one replacement of the catalog makes them the tenant's.
 *
 *   read and check ──► home or collections/<id> (each) ──► catalog.json replaced ──► in memory ──►
 * old │ any error           │ crash                           │ crash to ▼                    ▼ ▼
 * trash nothing changed       swept at the next load            new, complete
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/point.h"
#include "storage/points.h"
#include "tenant/tenant_internal.h"

static const ort_log log_ = {"tenant"};

typedef struct {
    dp_tenant *t;
    bool whole;       /* a tenant's backup, in the place of all there is */
    bool replace;     /* whole: also when there is something */
    const char *name; /* not whole: what the collection shall be called */
    size_t len;

    dp_entry **made; /* sorted by name once all are made */
    size_t count, cap;
    dp_alias_list aliases; /* of the file */
    dp_amount sum;         /* of the made ones */
    dp_amount held;        /* in the tenant's quota */
} restoring;

/* --- room ------------------------------------------------------------------------------------- */

/* What the tenant's quota is charged with for what will be replaced; t->lock is held. */
static dp_amount
replaced_amount(const restoring *r)
{
    dp_tenant *t = r->t;
    dp_amount sum = {0};
    const dp_entry *only = r->whole ? NULL : dp_tenant__resolve(t, r->name, r->len);
    for (size_t i = 0; i < t->entry_count; i++) {
        const dp_entry *e = t->entries[i];
        if (!r->whole && e != only) {
            continue;
        }
        dp_collection_info info = {.points = e->charged ? e->points : 0,
                                   .bytes = e->charged ? e->bytes : 0};
        if (e->state == DP_ENTRY_OPEN) {
            dp_collection_get_info(e->collection, &info);
        }
        sum.points += (int64_t)info.points;
        sum.bytes += (int64_t)info.bytes;
    }
    return sum;
}

/* Holds what the restored collections take beyond the replaced ones. */
static ort_err
hold_room(restoring *r, ort_diag *diag)
{
    pthread_mutex_lock(&r->t->lock);
    const dp_amount old = replaced_amount(r);
    pthread_mutex_unlock(&r->t->lock);
    dp_amount more = {.points = r->sum.points - old.points - r->held.points,
                      .bytes = r->sum.bytes - old.bytes - r->held.bytes};
    more.points = more.points > 0 ? more.points : 0;
    more.bytes = more.bytes > 0 ? more.bytes : 0;
    const ort_err err = dp_quota_reserve(r->t->quota, more, diag);
    if (err == ORT_OK) {
        r->held.points += more.points;
        r->held.bytes += more.bytes;
    }
    return err;
}

static ort_err
check_limits(restoring *r, const dp_snapshot_item *item, ort_diag *diag)
{
    dp_tenant *t = r->t;
    pthread_mutex_lock(&t->lock);
    const uint64_t points_max = t->points_per_collection_max;
    const uint32_t collections_max = t->collections_max;
    pthread_mutex_unlock(&t->lock);
    if (points_max != 0 && item->points > points_max) {
        return ort_fail(diag, ORT_EQUOTA,
                        "collection `%.200s` has %" PRIu64 " points and the quota of a collection "
                        "is %" PRIu64,
                        item->name, item->points, points_max);
    }
    if (r->whole && collections_max != 0 && r->count >= collections_max) {
        return ort_fail(diag, ORT_EQUOTA,
                        "the backup has more than %u collections, the tenant's quota "
                        "max_collections",
                        collections_max);
    }
    r->sum.points += (int64_t)item->points;
    r->sum.bytes += (int64_t)item->bytes;
    if (r->sum.points > INT64_MAX / 2 || r->sum.bytes > INT64_MAX / 2) {
        return ort_fail(diag, ORT_EINVAL, "snapshot: its counts are beyond all bounds");
    }
    return hold_room(r, diag);
}

/* --- making ----------------------------------------------------------------------------------- */

static ort_err
new_entry(restoring *r, const dp_snapshot_item *item, dp_entry **out)
{
    if (r->count == r->cap) {
        const size_t cap = r->cap == 0 ? 8 : r->cap * 2;
        dp_entry **grown = realloc(r->made, cap * sizeof(dp_entry *));
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        r->made = grown;
        r->cap = cap;
    }
    dp_entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return ORT_ENOMEM;
    }
    e->name = r->whole ? strdup(item->name) : strndup(r->name, r->len);
    if (e->name == NULL) {
        free(e);
        return ORT_ENOMEM;
    }
    e->owner = r->t;
    e->id.v = ort_id_random();
    e->schema = dp_schema_ref(item->schema);
    e->clean = true;
    e->points = item->points;
    e->bytes = item->bytes;
    e->used_ms = ort_mono_ms();
    pthread_mutex_lock(&r->t->lock);
    dp_home__take(r->t, e);
    pthread_mutex_unlock(&r->t->lock);
    r->made[r->count++] = e; /* undo() frees it from here on */
    *out = e;
    return ORT_OK;
}

/* What the shard's files in a directory take: known before the collection is opened for the first
 * time. */
static uint64_t
files_bytes(int fd)
{
    uint64_t bytes = 0;
    struct stat st;
    const int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = own >= 0 ? fdopendir(own) : NULL;
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        if (dp_storage_has_name(d->d_name) &&
            fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
            bytes += (uint64_t)st.st_size;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    } else {
        ort_fd_close(own);
    }
    return bytes;
}

static ort_err
make_one(restoring *r, dp_snapshot_reader *reader, const dp_snapshot_item *item, ort_diag *diag)
{
    dp_entry *e = NULL;
    int fd = -1;
    ort_err err = check_limits(r, item, diag);
    if (err == ORT_OK) {
        err = new_entry(r, item, &e);
    }
    for (size_t i = 0; err == ORT_OK && i < item->alias_count; i++) {
        err = dp_alias__add(&r->aliases, item->aliases[i], strlen(item->aliases[i]), e->id);
    }
    if (err == ORT_OK) {
        err = dp_tenant__make_data(r->t, e, &fd, diag);
    }
    if (err == ORT_OK) {
        err = dp_snapshot_fill(reader, fd, r->t->id, e->id, diag);
        e->disk_bytes = files_bytes(fd);
        ort_point("restore.collection");
    }
    ort_fd_close(fd);
    return err;
}

static int
by_name(const void *a, const void *b)
{
    const char *x = (*(dp_entry *const *)a)->name, *y = (*(dp_entry *const *)b)->name;
    return dp_tenant__compare(x, strlen(x), y, strlen(y));
}

/* Two of one name, or an alias with a collection's: no catalog could hold them. */
static ort_err
check_names(restoring *r, ort_diag *diag)
{
    if (r->count > 1) {
        qsort(r->made, r->count, sizeof(dp_entry *), by_name);
    }
    for (size_t i = 1; i < r->count; i++) {
        if (strcmp(r->made[i - 1]->name, r->made[i]->name) == 0) {
            return ort_fail(diag, ORT_EINVAL, "snapshot: collection `%.200s` stands twice",
                            r->made[i]->name);
        }
    }
    for (size_t i = 0; i < r->aliases.count; i++) {
        const char *alias = r->aliases.items[i].name;
        const dp_entry key = {.name = r->aliases.items[i].name};
        const dp_entry *k = &key;
        if ((i > 0 && strcmp(r->aliases.items[i - 1].name, alias) == 0) ||
            (r->count > 0 && bsearch(&k, r->made, r->count, sizeof(dp_entry *), by_name) != NULL)) {
            return ort_fail(diag, ORT_EINVAL,
                            "snapshot: alias `%.200s` stands twice, or is a "
                            "collection's name",
                            alias);
        }
    }
    return ORT_OK;
}

static ort_err
check_about(const restoring *r, const dp_snapshot_about *about, const char *region, ort_diag *diag)
{
    if ((about->kind == DP_SNAPSHOT_TENANT) != r->whole) {
        return ort_fail(diag, ORT_EINVAL, "snapshot: the file is %s",
                        r->whole ? "one collection's snapshot, not a tenant's backup"
                                 : "a tenant's backup, not one collection's snapshot");
    }
    bool allowed = about->region_count == 0;
    for (size_t i = 0; i < about->region_count; i++) {
        allowed = allowed || strcmp(about->regions[i], region) == 0;
    }
    return allowed
               ? ORT_OK
               : ort_fail(diag, ORT_EREGION,
                          "the snapshot is pinned to %s%s and this node is in %s",
                          about->regions[0], about->region_count > 1 ? " and others" : "", region);
}

static ort_err
make_all(restoring *r, int fd, const char *region, dp_snapshot_totals *totals, ort_diag *diag)
{
    const dp_snapshot_bounds bounds = {.check = dp_tenant__may_go_on, .arg = r->t};
    dp_snapshot_reader *reader = NULL;
    dp_snapshot_item item;
    bool got = true;
    ort_err err = dp_snapshot_reader_open(&reader, fd, &bounds, diag);
    if (err == ORT_OK) {
        err = check_about(r, dp_snapshot_peek_about(reader), region, diag);
    }
    while (err == ORT_OK && got) {
        err = dp_snapshot_next(reader, &item, &got, diag);
        if (err == ORT_OK && got) {
            err = make_one(r, reader, &item, diag);
        }
    }
    if (err == ORT_OK) {
        *totals = *dp_snapshot_peek_totals(reader);
        err = !r->whole && r->count != 1
                  ? ort_fail(diag, ORT_EINVAL, "snapshot: there is no collection in it")
                  : check_names(r, diag);
    }
    dp_snapshot_reader_close(reader);
    return err == ORT_EVERSION ? ORT_EINVAL : err; /* the file's fault, not ours */
}

/* --- the switch ------------------------------------------------------------------------------- */

/* What the tenant will have: entries and aliases and snapshots, made aside. */
typedef struct {
    dp_entry **entries;
    size_t count;
    dp_alias_list aliases;
    dp_snap_list snaps;
    dp_entry **gone;
    size_t gone_count;
} next_state;

static dp_entry *
made_as(const restoring *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++) {
        if (strcmp(r->made[i]->name, name) == 0) {
            return r->made[i];
        }
    }
    return NULL;
}

static ort_err
next_aliases(const restoring *r, const dp_entry *old, next_state *n)
{
    const dp_alias_list *from = r->whole ? &r->aliases : &r->t->aliases;
    ort_err err = ORT_OK;
    for (size_t i = 0; err == ORT_OK && i < from->count; i++) {
        const dp_alias *a = &from->items[i];
        const bool moves = old != NULL && a->collection.v == old->id.v;
        err = dp_alias__add(&n->aliases, a->name, strlen(a->name),
                            moves ? r->made[0]->id : a->collection);
    }
    return err;
}

/* Everything of `n` from what there is; t->change and t->lock are held. */
static ort_err
plan(restoring *r, next_state *n, ort_diag *diag)
{
    dp_tenant *t = r->t;
    dp_entry *old = NULL;
    ort_err err = t->deleted ? ort_fail(diag, ORT_EBUSY, "the tenant is being deleted") : ORT_OK;
    if (err == ORT_OK && !r->whole) {
        old = dp_tenant__resolve(t, r->name, r->len);
        err = old == NULL ? dp_tenant__check_new(t, r->name, r->len, diag) : ORT_OK;
    } else if (err == ORT_OK && !r->replace && t->entry_count > 0) {
        err = ort_fail(diag, ORT_ECONFLICT,
                       "the tenant has %zu collections: say replace to lose them for those of the "
                       "backup",
                       t->entry_count);
    }
    if (err != ORT_OK) {
        return err;
    }
    n->entries = calloc(t->entry_count + r->count + 1, sizeof(dp_entry *));
    n->gone = calloc(t->entry_count + 1, sizeof(dp_entry *));
    if (n->entries == NULL || n->gone == NULL ||
        dp_tenant__reserve_dropped(t, t->entry_count) != ORT_OK ||
        dp_snap__copy(&t->snaps, 0, &n->snaps) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    if (old != NULL && strcmp(old->name, r->made[0]->name) != 0) { /* asked by an alias */
        char *name = strdup(old->name);
        if (name == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
        free(r->made[0]->name);
        r->made[0]->name = name;
    }
    for (size_t i = 0; i < t->entry_count; i++) {
        dp_entry *e = t->entries[i];
        if (!r->whole && e != old) {
            n->entries[n->count++] = e;
            continue;
        }
        n->gone[n->gone_count++] = e;
        const dp_entry *heir = made_as(r, e->name);
        for (size_t s = 0; heir != NULL && s < n->snaps.count; s++) {
            if (n->snaps.items[s].collection.v == e->id.v) {
                n->snaps.items[s].collection = heir->id;
            }
        }
        if (heir == NULL) {
            dp_snap__remove_of(&n->snaps, e->id);
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        n->entries[n->count++] = r->made[i];
    }
    if (n->count > 1) {
        qsort(n->entries, n->count, sizeof(dp_entry *), by_name);
    }
    return next_aliases(r, old, n) == ORT_OK ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "out of memory");
}

/* The catalog on disk says so already: nothing here can fail. t->lock is held. */
static void
install(restoring *r, next_state *n)
{
    dp_tenant *t = r->t;
    dp_entry **entries = t->entries;
    const dp_alias_list aliases = t->aliases;
    const dp_snap_list snaps = t->snaps;
    for (size_t i = 0; i < n->gone_count; i++) {
        dp_tenant__drop_entry(t, n->gone[i]);
        n->gone[i]->uses++; /* ours, so that nobody buries it yet */
    }
    for (size_t i = 0; i < r->count; i++) {
        dp_entry__charge(t, r->made[i]);
    }
    dp_quota_settle(t->quota, r->held, (dp_amount){0});
    r->held = (dp_amount){0};
    t->entry_cap = t->entry_count + r->count + 1;
    t->entries = n->entries;
    t->entry_count = n->count;
    t->aliases = n->aliases;
    t->snaps = n->snaps;
    r->count = 0; /* they are the tenant's */
    n->entries = entries;
    n->aliases = aliases;
    n->snaps = snaps;
}

/* Lets go of what was replaced: closed and trashed now, or with its last use. */
static void
let_go(dp_tenant *t, const next_state *n)
{
    for (size_t i = 0; i < n->gone_count; i++) {
        dp_entry *e = n->gone[i];
        pthread_mutex_lock(&t->lock);
        e->uses--;
        const bool idle = dp_tenant__take_dropped(t, e);
        pthread_mutex_unlock(&t->lock);
        if (idle) {
            dp_tenant__bury(t, e);
        }
    }
}

/* Files of snapshots that are in the old list and not in the tenant's any more. */
static void
trash_snaps(dp_tenant *t, const dp_snap_list *old)
{
    for (size_t i = 0; i < old->count; i++) {
        bool kept = false;
        pthread_mutex_lock(&t->lock);
        for (size_t j = 0; j < t->snaps.count; j++) {
            kept = kept || t->snaps.items[j].id.v == old->items[i].id.v;
        }
        pthread_mutex_unlock(&t->lock);
        if (!kept) {
            const dp_snap_list one = {.items = &old->items[i], .count = 1};
            dp_snap__trash_of(t, &one, old->items[i].collection);
        }
    }
}

static ort_err
switch_over(restoring *r, ort_diag *diag)
{
    dp_tenant *t = r->t;
    next_state n = {0};
    ort_err err = hold_room(r, diag); /* again: what is replaced may have become less */
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    if (err == ORT_OK) {
        err = plan(r, &n, diag);
    }
    pthread_mutex_unlock(&t->lock);
    ort_point("restore.planned");
    if (err == ORT_OK) {
        const dp_catalog catalog = {
            .entries = n.entries, .entry_count = n.count, .aliases = &n.aliases, .snaps = &n.snaps};
        err = dp_tenant__save_as(t, &catalog, diag);
        ort_point("restore.switched");
    }
    bool done = false;
    if (err == ORT_OK) {
        pthread_mutex_lock(&t->lock);
        install(r, &n);
        done = true;
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    if (done) {
        let_go(t, &n);
        trash_snaps(t, &n.snaps);
    }
    free(n.entries);
    free(n.gone);
    dp_alias__clear(&n.aliases);
    free(n.snaps.items);
    return err;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* What was made and is nobody's goes to the trash; but for what a catalog names that may or may not
 * be the one on disk: the next load knows, and sweeps the orphans. */
static void
undo(restoring *r)
{
    const bool unsure = atomic_load(&r->t->unsure);
    for (size_t i = 0; i < r->count; i++) {
        r->made[i]->charged = false;
        if (unsure) {
            dp_entry__free(r->made[i]);
        } else {
            dp_tenant__bury(r->t, r->made[i]);
        }
    }
    dp_quota_settle(r->t->quota, r->held, (dp_amount){0});
    free(r->made);
    dp_alias__clear(&r->aliases);
}

/* A tenant that is new here gets its catalog before it gets files: files without one are damage. */
static ort_err
begin(dp_tenant *t, ort_diag *diag)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, DP_CATALOG_NAME, NULL, path);
    if (faccessat(t->all->tenants_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return ORT_OK;
    }
    pthread_mutex_lock(&t->change);
    const ort_err err = dp_tenant__save(t, diag);
    pthread_mutex_unlock(&t->change);
    return err;
}

static ort_err
run(restoring *r, int fd, const char *region, dp_snapshot_totals *out, ort_diag *diag)
{
    ort_diag why = {""};
    ort_err err = dp_tenant__job_begin(r->t, diag);
    if (err != ORT_OK) {
        return err;
    }
    pthread_mutex_lock(&r->t->lock);
    if (r->whole && !r->replace && r->t->entry_count > 0) {
        next_state unused = {0};
        err = plan(r, &unused, &why); /* says why not, before a large file is read */
    }
    pthread_mutex_unlock(&r->t->lock);
    if (err == ORT_OK) {
        err = begin(r->t, &why);
    }
    if (err == ORT_OK) {
        err = make_all(r, fd, region, out, &why);
    }
    if (err == ORT_OK) {
        err = switch_over(r, &why);
    }
    undo(r);
    dp_tenant__job_end(r->t);
    (*(err == ORT_OK ? &r->t->all->restores : &r->t->all->snapshot_failures))++;
    if (err == ORT_OK) {
        ORT_LOG_INFO(&log_, "tenant.restored",
                     "tenant=%016" PRIx64 " collections=%" PRIu64 " points=%" PRIu64
                     " bytes=%" PRIu64,
                     r->t->id.v, out->collections, out->points, out->bytes);
    } else if (diag != NULL) {
        *diag = why;
    }
    return err;
}

ort_err
dp_tenant_restore_collection(dp_tenant *t, const char *name, size_t len, int fd, const char *region,
                             dp_snapshot_totals *out, ort_diag *diag)
{
    restoring r = {.t = t, .name = name, .len = len};
    const ort_err err = dp_collection_name_check(name, len, diag);
    return err != ORT_OK ? err : run(&r, fd, region, out, diag);
}

ort_err
dp_tenant_restore(dp_tenant *t, int fd, const char *region, bool replace, dp_snapshot_totals *out,
                  ort_diag *diag)
{
    restoring r = {.t = t, .whole = true, .replace = replace};
    return run(&r, fd, region, out, diag);
}
