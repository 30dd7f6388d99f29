/* The catalog: one JSON file a tenant, replaced whole; the one before stays as catalog.old, for
 * repair.
 *
 *   {"format": 4, "tenant": "<id>",
 *    "collections": [{"id": "<id>", "name": "..", "schema": {..}, "home": true, "clean": true,
 *                     "points": n, "bytes": n, "disk_bytes": n}, ..],
 *    "aliases": [{"name": "..", "collection": "<id>"}, ..],
 *    "snapshots": [{"id": "<id of the file>", "collection": "<id>", "name": "..", "created_at": ms,
 *                   "bytes": n, "sha256": "<64 hex>"}, ..],
 *    "crc32c": "<8 hex digits>"}     of all before the comma; the last bytes of the file
 *
 * Format 3 had no "home" (home.c), format 2 no checksum, format 1 no snapshots either. "home"
 * stands at one collection at most; without it the files are in collections/<id>.
 *
 * "clean" is false on disk from before the first write after a collection was opened until it is
 * closed: after a crash its size is not known, and the tenant's first use opens it, so that quotas
 * are exact from the first write on. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/json_write.h"
#include "base/log.h"
#include "base/point.h"
#include "tenant/tenant_internal.h"

#define FORMAT 4              /* the newest */
#define TAIL ",\"crc32c\":\"" /* then 8 digits, a quote, a brace */
#define TAIL_BYTES (sizeof TAIL - 1 + 10)

static const ort_log log_ = {"tenant"};

void
dp_tenant__path(const dp_tenant *t, const char *folder, const ort_collection_id *collection,
                char out[DP_TENANT_PATH_BYTES])
{
    char tenant[ORT_ID_TEXT_BYTES], id[ORT_ID_TEXT_BYTES] = "";
    ort_id_format(t->id.v, tenant);
    if (collection != NULL) {
        ort_id_format(collection->v, id);
    }
    snprintf(out, DP_TENANT_PATH_BYTES, "%s%s%s%s%s", tenant, folder[0] != '\0' ? "/" : "", folder,
             id[0] != '\0' ? "/" : "", id);
}

static void
encode_entry(ort_jw *w, const dp_entry *e)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(e->id.v, id);
    ort_jw_object(w);
    ort_jw_key(w, "id");
    ort_jw_str(w, id);
    ort_jw_key(w, "name");
    ort_jw_str(w, e->name);
    ort_jw_key(w, "schema");
    dp_schema_encode(e->schema, w);
    if (e->home) {
        ort_jw_key(w, "home");
        ort_jw_bool(w, true);
    }
    ort_jw_key(w, "clean");
    ort_jw_bool(w, e->clean);
    ort_jw_key(w, "points");
    ort_jw_u64(w, e->points);
    ort_jw_key(w, "bytes");
    ort_jw_u64(w, e->bytes);
    ort_jw_key(w, "disk_bytes");
    ort_jw_u64(w, e->disk_bytes);
    ort_jw_object_end(w);
}

static void
encode_alias(ort_jw *w, const dp_alias *alias)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(alias->collection.v, id);
    ort_jw_object(w);
    ort_jw_key(w, "name");
    ort_jw_str(w, alias->name);
    ort_jw_key(w, "collection");
    ort_jw_str(w, id);
    ort_jw_object_end(w);
}

static void
encode_snap(ort_jw *w, const dp_snap *snap)
{
    char id[ORT_ID_TEXT_BYTES], sha256[ORT_HASH_TEXT_BYTES];
    ort_jw_object(w);
    ort_id_format(snap->id.v, id);
    ort_jw_key(w, "id");
    ort_jw_str(w, id);
    ort_id_format(snap->collection.v, id);
    ort_jw_key(w, "collection");
    ort_jw_str(w, id);
    ort_jw_key(w, "name");
    ort_jw_str(w, snap->info.name);
    ort_jw_key(w, "created_at");
    ort_jw_i64(w, snap->info.created_ms);
    ort_jw_key(w, "bytes");
    ort_jw_u64(w, snap->info.bytes);
    ort_hash_format(&snap->info.sha256, sha256);
    ort_jw_key(w, "sha256");
    ort_jw_str(w, sha256);
    ort_jw_object_end(w);
}

static void
encode(const dp_tenant *t, const dp_catalog *c, ort_buf *out)
{
    char id[ORT_ID_TEXT_BYTES];
    ort_jw w = {.buf = out};
    ort_id_format(t->id.v, id);
    ort_jw_object(&w);
    ort_jw_key(&w, "format");
    ort_jw_u64(&w, FORMAT);
    ort_jw_key(&w, "tenant");
    ort_jw_str(&w, id);
    ort_jw_key(&w, "collections");
    ort_jw_array(&w);
    for (size_t i = 0; i < c->entry_count; i++) {
        encode_entry(&w, c->entries[i]);
    }
    ort_jw_array_end(&w);
    ort_jw_key(&w, "aliases");
    ort_jw_array(&w);
    for (size_t i = 0; i < c->aliases->count; i++) {
        encode_alias(&w, &c->aliases->items[i]);
    }
    ort_jw_array_end(&w);
    if (c->snaps->count > 0) {
        ort_jw_key(&w, "snapshots");
        ort_jw_array(&w);
        for (size_t i = 0; i < c->snaps->count; i++) {
            encode_snap(&w, &c->snaps->items[i]);
        }
        ort_jw_array_end(&w);
    }
    const uint32_t crc = ort_crc32c(0, out->data, out->len);
    ort_buf_printf(out, TAIL "%08" PRIx32 "\"}", crc);
}

/* Makes tenants/<id>; what is in it is made with the first file. */
ort_err
dp_tenant__make_folders(dp_tenant *t, ort_diag *diag)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, "", NULL, path);
    ort_err err = ort_dir_make(t->all->tenants_fd, path, diag);
    /* A process that was killed may have made it and not synced. The catalog that it did not come
     * to write tells. */
    if (err == ORT_OK && !t->rooted) {
        err = ort_dir_sync(t->all->tenants_fd, diag);
        t->rooted = err == ORT_OK;
    }
    return err;
}

/* Without the spare, damage to one small file would take a tenant's names and schemas with it. It
 * is a link to what stood there: no byte is written for it.
 *
 * A sync of the directory that fails leaves either catalog: what was to change may have changed,
 * and a restart may find it so. Nothing may be promised to a collection that the new one does not
 * name, so no write is taken (before_writes() in use.c) until a catalog is there for good. */
static ort_err
replace(dp_tenant *t, int fd, const ort_buf *text, ort_diag *diag)
{
    (void)unlinkat(fd, DP_CATALOG_SPARE, 0);
    (void)linkat(fd, DP_CATALOG_NAME, fd, DP_CATALOG_SPARE, 0);
    ort_err err = ort_file_switch(fd, DP_CATALOG_NAME, text->data, text->len, 0600, diag);
    if (err != ORT_OK) {
        return err; /* the one before stands, as sure as it was */
    }
    ort_point("catalog.switched");
    err = ort_dir_sync(fd, diag);
    ort_point("catalog.durable");
    if (err == ORT_ENOSPC) {
        err = ORT_EIO; /* whoever hears of no space believes that nothing has changed */
    }
    if (err != ORT_OK) {
        ORT_LOG_ERROR(&log_, "tenant.catalog_unsure", "tenant=%016" PRIx64 " err=%s", t->id.v,
                      diag != NULL ? diag->text : "");
    }
    atomic_store(&t->unsure, err != ORT_OK);
    return err;
}

ort_err
dp_tenant__save(dp_tenant *t, ort_diag *diag)
{
    return dp_tenant__save_as(t, NULL, diag);
}

ort_err
dp_tenant__save_as(dp_tenant *t, const dp_catalog *catalog, ort_diag *diag)
{
    ort_buf text = {0};
    char path[DP_TENANT_PATH_BYTES];
    pthread_mutex_lock(&t->lock);
    const bool deleted = t->deleted;
    const dp_catalog present = {.entries = t->entries,
                                .entry_count = t->entry_count,
                                .aliases = &t->aliases,
                                .snaps = &t->snaps};
    encode(t, catalog != NULL ? catalog : &present, &text);
    pthread_mutex_unlock(&t->lock);

    ort_err err =
        deleted ? ort_fail(diag, ORT_EBUSY, "the tenant is being deleted") : ort_buf_check(&text);
    if (err == ORT_OK) {
        err = dp_tenant__make_folders(t, diag);
    }
    if (err == ORT_OK) {
        dp_tenant__path(t, "", NULL, path);
        const int fd = ort_open_beneath(t->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
        err = fd < 0 ? ort_fail_errno(diag, ORT_EIO, "open tenants/%s", path)
                     : replace(t, fd, &text, diag);
        ort_fd_close(fd);
    }
    ort_buf_fini(&text);
    return err;
}

static ort_err
bad(ort_diag *diag, const char *what)
{
    return ort_fail(diag, ORT_ECORRUPT, "catalog.json: %s", what);
}

static bool
read_id(ort_json v, uint64_t *out)
{
    size_t len = 0;
    const char *text = ort_json_str(v, &len);
    return text != NULL && ort_id_parse(text, len, out) == ORT_OK;
}

/* Copies a JSON string without NULs inside. Memory that runs out is not damage: a repair would put
 * the catalog before this one in its place. */
static ort_err
copy_name(ort_json v, char **out, ort_diag *diag)
{
    size_t len = 0;
    const char *text = ort_json_str(v, &len);
    if (text == NULL || memchr(text, 0, len) != NULL) {
        return bad(diag, "a collection has no name");
    }
    *out = strndup(text, len);
    return *out != NULL ? ORT_OK : ort_fail(diag, ORT_ENOMEM, "out of memory");
}

static ort_err
decode_entry(dp_tenant *t, ort_json v, ort_diag *diag)
{
    dp_entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return ORT_ENOMEM;
    }
    e->owner = t;
    ort_err err = copy_name(ort_json_get(v, "name"), &e->name, diag);
    if (err == ORT_OK && (!read_id(ort_json_get(v, "id"), &e->id.v) ||
                          ort_json_bool(ort_json_get(v, "clean"), &e->clean) != ORT_OK ||
                          ort_json_u64(ort_json_get(v, "points"), &e->points) != ORT_OK ||
                          ort_json_u64(ort_json_get(v, "bytes"), &e->bytes) != ORT_OK ||
                          ort_json_u64(ort_json_get(v, "disk_bytes"), &e->disk_bytes) != ORT_OK ||
                          e->points > INT64_MAX / 4 || e->bytes > INT64_MAX / 4)) {
        err = bad(diag, "a collection is not as it is written");
    }
    const ort_json home = ort_json_get(v, "home");
    if (err == ORT_OK && ort_json_type_of(home) != ORT_JSON_NONE &&
        (ort_json_bool(home, &e->home) != ORT_OK || (e->home && t->home_taken))) {
        err = bad(diag, "more than one collection is at home");
    }
    t->home_taken = t->home_taken || e->home;
    if (err == ORT_OK) {
        err = dp_schema_decode(&e->schema, ort_json_get(v, "schema"), diag);
        if (err != ORT_OK) {
            ort_diag_prefix(diag, DP_CATALOG_NAME ": collection `%.100s`", e->name);
        }
    }
    if (err == ORT_OK && t->entry_count == t->entry_cap) {
        const size_t cap = t->entry_cap == 0 ? 8 : t->entry_cap * 2;
        dp_entry **grown = realloc(t->entries, cap * sizeof(dp_entry *));
        if (grown == NULL) {
            err = ORT_ENOMEM;
        } else {
            t->entries = grown;
            t->entry_cap = cap;
        }
    }
    if (err != ORT_OK) {
        dp_entry__free(e);
        return err;
    }
    t->entries[t->entry_count++] = e;
    return ORT_OK;
}

static ort_err
decode_snap(dp_tenant *t, ort_json v, ort_diag *diag)
{
    dp_snap_list *list = &t->snaps;
    dp_snap snap = {.id = {0}};
    size_t len = 0, hash_len = 0;
    const char *name = ort_json_str(ort_json_get(v, "name"), &len);
    const char *hash = ort_json_str(ort_json_get(v, "sha256"), &hash_len);
    if (name == NULL || len >= sizeof snap.info.name || memchr(name, 0, len) != NULL ||
        hash == NULL || ort_hash_parse(hash, hash_len, &snap.info.sha256) != ORT_OK ||
        !read_id(ort_json_get(v, "id"), &snap.id.v) ||
        !read_id(ort_json_get(v, "collection"), &snap.collection.v) ||
        ort_json_i64(ort_json_get(v, "created_at"), &snap.info.created_ms) != ORT_OK ||
        ort_json_u64(ort_json_get(v, "bytes"), &snap.info.bytes) != ORT_OK ||
        snap.info.bytes > INT64_MAX / 4 || list->count == DP_SNAPSHOTS_MAX) {
        return bad(diag, "a snapshot is not as it is written");
    }
    memcpy(snap.info.name, name, len);
    dp_snap *grown = realloc(list->items, (list->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    list->items = grown;
    list->items[list->count++] = snap;
    return ORT_OK;
}

/* Whether a checksum stands at the end; ORT_ECORRUPT: it does and is not that of the text. */
static ort_err
check_sum(const ort_buf *text, bool *summed, ort_diag *diag)
{
    unsigned crc = 0;
    *summed = text->len > TAIL_BYTES &&
              memcmp(text->data + text->len - TAIL_BYTES, TAIL, sizeof TAIL - 1) == 0;
    if (!*summed) {
        return ORT_OK;
    }
    char tail[11] = "";
    memcpy(tail, text->data + text->len - 10, 10);
    if (strcmp(tail + 8, "\"}") != 0 || sscanf(tail, "%8x", &crc) != 1 ||
        crc != ort_crc32c(0, text->data, text->len - TAIL_BYTES)) {
        return bad(diag, "the checksum is wrong");
    }
    return ORT_OK;
}

/* summed  a checksum was there and right */
static ort_err
decode(dp_tenant *t, ort_json root, bool summed, ort_diag *diag)
{
    uint64_t format, owner;
    ort_err err = ORT_OK;
    if (ort_json_u64(ort_json_get(root, "format"), &format) != ORT_OK || format == 0) {
        return bad(diag, "no format");
    }
    if (format > FORMAT) {
        return ort_fail(diag, ORT_EVERSION,
                        "catalog.json: format %" PRIu64 ", this program reads %d", format, FORMAT);
    }
    if (format > 2 && !summed) {
        return bad(diag, "the checksum is missing");
    }
    if (!read_id(ort_json_get(root, "tenant"), &owner) || owner != t->id.v) {
        return bad(diag, "it is another tenant's");
    }
    for (ort_json_iter it = ort_json_each(ort_json_get(root, "collections"));
         err == ORT_OK && ort_json_step(&it);) {
        err = decode_entry(t, it.value, diag);
    }
    for (ort_json_iter it = ort_json_each(ort_json_get(root, "aliases"));
         err == ORT_OK && ort_json_step(&it);) {
        size_t len = 0;
        ort_collection_id id;
        const char *name = ort_json_str(ort_json_get(it.value, "name"), &len);
        if (name == NULL || !read_id(ort_json_get(it.value, "collection"), &id.v)) {
            err = bad(diag, "an alias is not as it is written");
        } else {
            err = dp_alias__add(&t->aliases, name, len, id);
        }
    }
    for (ort_json_iter it = ort_json_each(ort_json_get(root, "snapshots"));
         err == ORT_OK && ort_json_step(&it);) {
        err = decode_snap(t, it.value, diag);
    }
    return err;
}

/* Whether the catalog names a file of that id in this folder. */
static bool
is_named(dp_tenant *t, const char *folder, ort_collection_id id)
{
    if (strcmp(folder, "snapshots") != 0) {
        const dp_entry *e = dp_tenant__find_id(t, id);
        return e != NULL && (!e->home || strcmp(folder, "collections") != 0);
    }
    for (size_t i = 0; i < t->snaps.count; i++) {
        if (t->snaps.items[i].id.v == id.v) {
            return true;
        }
    }
    return false;
}

/* Moves the directories of one folder that no entry names to the trash: what a crash left of a
 * collection that was being made or dropped. */
static void
sweep_orphans(dp_tenant *t, const char *folder)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, folder, NULL, path);
    const int fd = ort_open_beneath(t->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        ort_collection_id id;
        ort_diag diag = {""};
        if (d->d_name[0] == '.' || (ort_id_parse(d->d_name, strlen(d->d_name), &id.v) == ORT_OK &&
                                    is_named(t, folder, id))) {
            continue;
        }
        if (dp_tenants__trash(t->all, fd, d->d_name, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "tenant.orphan", "path=%s/%s err=%s", path, d->d_name, diag.text);
        }
    }
    closedir(dir);
}

/* Charges the tenant with what it has. Collections that were open when the process died are opened:
 * that charges them. One that cannot be opened is charged with nothing. */
static void
recount(dp_tenant *t)
{
    for (size_t i = 0; i < t->entry_count; i++) {
        dp_entry *e = t->entries[i];
        dp_collection *c;
        ort_diag diag = {""};
        if (e->clean) {
            dp_entry__charge(t, e);
        } else if (dp_tenant_use(t, e->name, strlen(e->name), &c, &diag) == ORT_OK) {
            dp_tenant_release(t, c);
        }
    }
}

/* ORT_ENOTFOUND: there is none. */
static ort_err
read_catalog(dp_tenant *t, int dir_fd, const char *path, ort_diag *diag)
{
    ort_buf text = {0};
    ort_json_doc *doc = NULL;
    bool summed = false;
    ort_err err = ort_file_read(dir_fd, path, DP_CATALOG_BYTES_MAX, &text, diag);
    if (err == ORT_OK) {
        err = check_sum(&text, &summed, diag);
    }
    if (err == ORT_OK) {
        err = ort_json_parse(&doc, text.data, text.len, (ort_json_limits){0}, diag);
        err = err == ORT_EFORMAT ? ORT_ECORRUPT : err;
    }
    if (err == ORT_OK) {
        err = decode(t, ort_json_root(doc), summed, diag);
    }
    if (err != ORT_OK && err != ORT_ENOTFOUND) {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(t->id.v, id);
        ort_diag_prefix(diag, "tenant %s", id);
    }
    ort_json_free(doc);
    ort_buf_fini(&text);
    return err;
}

/* Whether files of any collection are there. */
static bool
has_collections(dp_tenant *t)
{
    const int top = dp_tenant__open_folder(t, "", NULL);
    const int fd = top >= 0 ? dp_tenant__open_folder(t, "collections", NULL) : -1;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    bool any = top >= 0 && dp_home__has_files(top);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        any = any || d->d_name[0] != '.';
    }
    if (dir != NULL) {
        closedir(dir);
    } else {
        ort_fd_close(fd);
    }
    ort_fd_close(top);
    return any;
}

ort_err
dp_tenant__load(dp_tenant *t, ort_diag *diag)
{
    char path[DP_TENANT_PATH_BYTES];
    dp_tenant__path(t, DP_CATALOG_NAME, NULL, path);
    ort_err err = read_catalog(t, t->all->tenants_fd, path, diag);
    t->rooted = err == ORT_OK;
    if (err == ORT_OK) {
        dp_home__sweep(t);
        sweep_orphans(t, "collections");
        sweep_orphans(t, "indexes");
        sweep_orphans(t, "snapshots");
    }
    if (err == ORT_ENOTFOUND) {
        /* A tenant has a catalog before it has a collection. To begin one now would have the next
         * load sweep all there is. */
        err = has_collections(t) ? ort_fail(diag, ORT_ECORRUPT, DP_CATALOG_NAME " is missing")
                                 : ORT_OK;
    }
    if (err == ORT_OK) {
        recount(t);
    }
    return err;
}

/* --- inspection ------------------------------------------------------------------------------- */

ort_err
dp_catalog_read(int tenant_dir, const char *file, ort_tenant_id id, dp_catalog_fn fn, void *ctx,
                ort_diag *diag)
{
    dp_tenant *t;
    ort_err err = dp_tenant__new(&t, NULL, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = read_catalog(t, tenant_dir, file, diag);
    for (size_t i = 0; err == ORT_OK && fn != NULL && i < t->entry_count; i++) {
        const dp_entry *e = t->entries[i];
        const dp_catalog_entry entry = {.id = e->id,
                                        .name = e->name,
                                        .schema = e->schema,
                                        .home = e->home,
                                        .clean = e->clean,
                                        .points = e->points,
                                        .bytes = e->bytes};
        err = fn(ctx, &entry, diag);
    }
    dp_tenant_unref(t);
    return err;
}

ort_err
dp_catalog_read_snapshots(int tenant_dir, ort_tenant_id id, dp_catalog_snapshot_fn fn, void *ctx,
                          ort_diag *diag)
{
    dp_tenant *t;
    ort_err err = dp_tenant__new(&t, NULL, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = read_catalog(t, tenant_dir, DP_CATALOG_NAME, diag);
    for (size_t i = 0; err == ORT_OK && i < t->snaps.count; i++) {
        const dp_snap *snap = &t->snaps.items[i];
        err = fn(ctx, snap->id, snap->collection, &snap->info, diag);
    }
    dp_tenant_unref(t);
    return err;
}

/* Reads the catalog, has it changed in memory, and puts what it is then in its place. */
static ort_err
rewrite(int tenant_dir, ort_tenant_id id, void (*change)(dp_tenant *t, const void *arg),
        const void *arg, ort_diag *diag)
{
    dp_tenant *t;
    ort_buf text = {0};
    ort_err err = dp_tenant__new(&t, NULL, id, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = read_catalog(t, tenant_dir, DP_CATALOG_NAME, diag);
    if (err == ORT_OK) {
        change(t, arg);
        const dp_catalog now = {.entries = t->entries,
                                .entry_count = t->entry_count,
                                .aliases = &t->aliases,
                                .snaps = &t->snaps};
        encode(t, &now, &text);
        err = ort_buf_check(&text);
    }
    if (err == ORT_OK) {
        err = ort_file_replace(tenant_dir, DP_CATALOG_NAME, text.data, text.len, 0600, diag);
    }
    ort_buf_fini(&text);
    dp_tenant_unref(t);
    return err;
}

static void
forget_sizes(dp_tenant *t, const void *arg)
{
    const ort_collection_id *collection = arg;
    for (size_t i = 0; i < t->entry_count; i++) {
        if (collection == NULL || t->entries[i]->id.v == collection->v) {
            t->entries[i]->clean = false;
        }
    }
}

ort_err
dp_catalog_forget_sizes(int tenant_dir, ort_tenant_id id, const ort_collection_id *collection,
                        ort_diag *diag)
{
    return rewrite(tenant_dir, id, forget_sizes, collection, diag);
}

static void
forget_snapshot(dp_tenant *t, const void *arg)
{
    const ort_collection_id *file = arg;
    size_t kept = 0;
    for (size_t i = 0; i < t->snaps.count; i++) {
        if (t->snaps.items[i].id.v != file->v) {
            t->snaps.items[kept++] = t->snaps.items[i];
        }
    }
    t->snaps.count = kept;
}

ort_err
dp_catalog_forget_snapshot(int tenant_dir, ort_tenant_id id, ort_collection_id file, ort_diag *diag)
{
    return rewrite(tenant_dir, id, forget_snapshot, &file, diag);
}
