/* Entries of a table: from JSON text to what the request path looks at. Each becomes one block of
 * memory, so that freeing is one call and a look-up touches few lines of cache. What an entry says
 * is checked here, before anything of a table is used. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/limits.h"
#include "routing/table_internal.h"

/* Bounds of one entry; a tenant beyond them is an error of the control plane, told by name. */
#define KEYS_MAX 10000u
#define REGIONS_MAX 256u
#define GLOBS_MAX 256u
#define WORD_BYTES_MAX 63u

/* Hands out one block piece by piece: first all that wants alignment, then texts. */
typedef struct {
    char *words; /* pointers and structs */
    char *texts;
    char *end;
    ort_err err;
    ort_diag *diag;
} filler;

static void
wrong(filler *f, const char *key, const char *what)
{
    if (f->err == ORT_OK) {
        f->err = ort_fail(f->diag, ORT_EVALIDATE, "%s %s", key, what);
    }
}

/* The block: `words` bytes for structs and pointers, then room for every text of an entry of len
 * bytes (a text's two quotes in JSON pay for its NUL). */
static filler
filler_of(size_t words, size_t len, ort_diag *diag)
{
    filler f = {.diag = diag};
    char *block = calloc(1, words + len + 1);
    if (block == NULL) {
        f.err = ort_fail(diag, ORT_ENOMEM, "table entry");
        return f;
    }
    f.words = block;
    f.texts = block + words;
    f.end = f.texts + len + 1;
    return f;
}

static void *
take_words(filler *f, size_t bytes)
{
    void *p = f->words;
    f->words += bytes;
    assert(f->err != ORT_OK || f->words <= f->end);
    return p;
}

/* A string of 1 (or, if it may be empty, 0) to max printable bytes. */
static const char *
take_text(filler *f, ort_json v, const char *key, size_t max, bool may_be_empty)
{
    size_t len = 0;
    const char *text = f->err == ORT_OK ? ort_json_str(v, &len) : NULL;
    bool good = text != NULL && len <= max && (len > 0 || may_be_empty);
    for (size_t i = 0; good && i < len; i++) {
        good = (unsigned char)text[i] >= 0x20 && text[i] != 0x7f;
    }
    if (!good) {
        wrong(f, key, "is no text of the size it may have");
        return "";
    }
    assert(f->texts + len + 1 <= f->end);
    char *kept = f->texts;
    memcpy(kept, text, len);
    kept[len] = '\0';
    f->texts += len + 1;
    return kept;
}

/* Elements of an array that may be missing (then 0); more than max is an error. */
static uint32_t
count_of(ort_json v, uint32_t max, const char *key, ort_err *err, ort_diag *diag)
{
    const uint32_t count = ort_json_count(v);
    const ort_json_type type = ort_json_type_of(v);
    if (*err == ORT_OK && ((type != ORT_JSON_ARRAY && type != ORT_JSON_NONE) || count > max)) {
        *err = ort_fail(diag, ORT_EVALIDATE, "%s is no array of at most %u", key, max);
        return 0;
    }
    return type == ORT_JSON_ARRAY ? count : 0;
}

static const char *const *
take_texts(filler *f, ort_json array, const char *key, size_t bytes_max)
{
    const uint32_t count = ort_json_count(array);
    const char **out = take_words(f, count * sizeof *out);
    uint32_t i = 0;
    for (ort_json_iter it = ort_json_each(array); f->err == ORT_OK && ort_json_step(&it);) {
        out[i++] = take_text(f, it.value, key, bytes_max, false);
    }
    return out;
}

static uint64_t
u64_or(filler *f, ort_json object, const char *key, uint64_t missing)
{
    uint64_t v = missing;
    const ort_json at = ort_json_get(object, key);
    if (ort_json_given(at) && ort_json_u64(at, &v) != ORT_OK) {
        wrong(f, key, "is no unsigned integer");
    }
    return v;
}

/* ---- tenants ---- */

static uint32_t
scopes_of(filler *f, ort_json array)
{
    uint32_t scopes = 0;
    if (ort_json_type_of(array) != ORT_JSON_ARRAY) {
        wrong(f, "scopes", "is no array");
        return 0;
    }
    for (ort_json_iter it = ort_json_each(array); ort_json_step(&it);) {
        /* A scope of a newer control plane grants nothing here. */
        if (ort_json_str_is(it.value, "data:read")) {
            scopes |= DP_SCOPE_DATA_READ;
        } else if (ort_json_str_is(it.value, "data:write")) {
            scopes |= DP_SCOPE_DATA_WRITE;
        } else if (ort_json_str_is(it.value, "collections:manage")) {
            scopes |= DP_SCOPE_COLLECTIONS_MANAGE;
        }
    }
    return scopes;
}

static void
fill_key(filler *f, ort_tenant_id tenant, ort_json name, ort_json v, dp_key *key)
{
    ort_key_id id;
    size_t len = 0;
    const char *text = ort_json_str(name, &len);
    if (text == NULL || ort_key_id_parse(text, len, &id) != ORT_OK || id.tenant.v != tenant.v) {
        wrong(f, "keys", "holds an id that is none of this tenant's");
        return;
    }
    key->serial = id.serial;
    text = ort_json_str(ort_json_get(v, "hash"), &len);
    if (text == NULL || ort_hash_parse(text, len, &key->hash) != ORT_OK) {
        wrong(f, "hash", "is no hash");
    }
    key->scopes = scopes_of(f, ort_json_get(v, "scopes"));
    const ort_json globs = ort_json_get(v, "collections");
    if (ort_json_given(globs)) {
        key->collection_count = ort_json_count(globs);
        key->collections = take_texts(f, globs, "collections", ORT_NAME_BYTES_MAX);
    }
    key->expires_at_ms = INT64_MAX;
    const ort_json expires = ort_json_get(v, "expires_at_ms");
    if (ort_json_given(expires) && ort_json_i64(expires, &key->expires_at_ms) != ORT_OK) {
        wrong(f, "expires_at_ms", "is no integer");
    }
    key->max_requests_per_minute = u64_or(f, v, "max_requests_per_minute", UINT64_MAX);
}

static int
by_serial(const void *a, const void *b)
{
    const uint64_t x = ((const dp_key *)a)->serial, y = ((const dp_key *)b)->serial;
    return (x > y) - (x < y);
}

static void
fill_keys(filler *f, dp_tenant_entry *t, ort_json keys, dp_key *to)
{
    size_t n = 0;
    for (ort_json_iter it = ort_json_each(keys); f->err == ORT_OK && ort_json_step(&it);) {
        fill_key(f, t->id, it.key, it.value, &to[n++]);
    }
    qsort(to, n, sizeof *to, by_serial);
    for (size_t i = 1; i < n; i++) {
        if (f->err == ORT_OK && to[i].serial == to[i - 1].serial) {
            wrong(f, "keys", "holds one key twice");
        }
    }
    t->keys = to;
    t->key_count = n;
}

static dp_tenant_state
state_of(filler *f, ort_json v)
{
    if (ort_json_str_is(v, "active")) {
        return DP_TENANT_ACTIVE;
    }
    if (ort_json_str_is(v, "suspended")) {
        return DP_TENANT_SUSPENDED;
    }
    if (ort_json_str_is(v, "deleting")) {
        return DP_TENANT_DELETING;
    }
    /* Never guessed: an unknown state may be one that denies. */
    wrong(f, "state", "is none of active, suspended, deleting");
    return DP_TENANT_SUSPENDED;
}

/* Pointers that the texts of a tenant need, so that its block can be cut to size. */
static size_t
tenant_pointers(ort_json root, ort_err *err, ort_diag *diag)
{
    const ort_json keys = ort_json_get(root, "keys");
    size_t n = count_of(ort_json_get(root, "regions"), REGIONS_MAX, "regions", err, diag);
    if (*err == ORT_OK &&
        (ort_json_type_of(keys) != ORT_JSON_OBJECT || ort_json_count(keys) > KEYS_MAX)) {
        *err = ort_fail(diag, ORT_EVALIDATE, "keys is no object of at most %u", KEYS_MAX);
    }
    for (ort_json_iter it = ort_json_each(keys); *err == ORT_OK && ort_json_step(&it);) {
        const ort_json globs = ort_json_get(it.value, "collections");
        if (ort_json_given(globs)) {
            n += count_of(globs, GLOBS_MAX, "collections", err, diag);
        }
    }
    return n;
}

static ort_err
decode_tenant(uint64_t id, ort_json root, size_t len, void **out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    const ort_json keys = ort_json_get(root, "keys");
    const size_t pointers = tenant_pointers(root, &err, diag);
    if (err != ORT_OK) {
        return err;
    }
    const size_t key_count = ort_json_count(keys);
    filler f =
        filler_of(sizeof(dp_tenant_entry) + key_count * sizeof(dp_key) + pointers * sizeof(char *),
                  len, diag);
    if (f.err != ORT_OK) {
        return f.err;
    }
    dp_tenant_entry *t = take_words(&f, sizeof *t);
    dp_key *key_room = take_words(&f, key_count * sizeof(dp_key));
    const ort_json limits = ort_json_get(root, "limits");
    const ort_json regions = ort_json_get(root, "regions");
    t->id.v = id;
    t->name = take_text(&f, ort_json_get(root, "name"), "name", ORT_NAME_BYTES_MAX, false);
    t->state = state_of(&f, ort_json_get(root, "state"));
    t->epoch = u64_or(&f, root, "epoch", 0);
    t->max_stale_s = u64_or(&f, root, "max_stale_s", 0);
    if (ort_json_type_of(limits) != ORT_JSON_OBJECT) {
        wrong(&f, "limits", "is no object");
    }
    t->limits = (dp_limits){
        .max_collections = u64_or(&f, limits, "max_collections", UINT64_MAX),
        .max_vectors_per_collection = u64_or(&f, limits, "max_vectors_per_collection", UINT64_MAX),
        .max_vectors = u64_or(&f, limits, "max_vectors", UINT64_MAX),
        .max_storage_bytes = u64_or(&f, limits, "max_storage_bytes", UINT64_MAX),
        .max_requests_per_minute = u64_or(&f, limits, "max_requests_per_minute", UINT64_MAX),
    };
    t->region_count = ort_json_count(regions);
    t->regions = take_texts(&f, regions, "regions", WORD_BYTES_MAX);
    fill_keys(&f, t, keys, key_room);
    if (f.err != ORT_OK) {
        free(t);
        return f.err;
    }
    *out = t;
    return ORT_OK;
}

/* ---- directory and nodes ---- */

static ort_err
decode_home(uint64_t id, ort_json root, size_t len, void **out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    size_t n = 0;
    const ort_json regions = ort_json_get(root, "regions");
    const uint32_t count = count_of(regions, REGIONS_MAX, "regions", &err, diag);
    if (err != ORT_OK) {
        return err;
    }
    filler f = filler_of(sizeof(dp_home) + count * sizeof(char *), len, diag);
    if (f.err != ORT_OK) {
        return f.err;
    }
    dp_home *h = take_words(&f, sizeof *h);
    h->id.v = id;
    const char *home = ort_json_str(ort_json_get(root, "home"), &n);
    if (home == NULL || ort_id_parse(home, n, &h->home.v) != ORT_OK) {
        wrong(&f, "home", "is no node id");
    }
    h->region_count = count;
    h->regions = take_texts(&f, regions, "regions", WORD_BYTES_MAX);
    if (f.err != ORT_OK) {
        free(h);
        return f.err;
    }
    *out = h;
    return ORT_OK;
}

static const char *
text_or_empty(filler *f, ort_json root, const char *key, size_t max)
{
    const ort_json v = ort_json_get(root, key);
    return ort_json_given(v) ? take_text(f, v, key, max, true) : "";
}

static ort_err
decode_node(uint64_t id, ort_json root, size_t len, void **out, ort_diag *diag)
{
    filler f = filler_of(sizeof(dp_node), len, diag);
    if (f.err != ORT_OK) {
        return f.err;
    }
    dp_node *n = take_words(&f, sizeof *n);
    n->id.v = id;
    n->region = take_text(&f, ort_json_get(root, "region"), "region", WORD_BYTES_MAX, false);
    n->zone = text_or_empty(&f, root, "zone", WORD_BYTES_MAX);
    n->endpoint = text_or_empty(&f, root, "endpoint", 255);
    n->forward = text_or_empty(&f, root, "forward", 255);
    if (f.err != ORT_OK) {
        free(n);
        return f.err;
    }
    *out = n;
    return ORT_OK;
}

static ort_err
decode_entry(ort_table_kind kind, uint64_t id, const char *text, size_t len, void **out,
             ort_diag *diag)
{
    ort_json_doc *doc = NULL;
    ort_err err = ort_json_parse(&doc, text, len, (ort_json_limits){0}, diag);
    if (err != ORT_OK) {
        return err;
    }
    const ort_json root = ort_json_root(doc);
    if (ort_json_type_of(root) != ORT_JSON_OBJECT) {
        err = ort_fail(diag, ORT_EVALIDATE, "is no object");
    } else if (kind == ORT_TABLE_TENANTS) {
        err = decode_tenant(id, root, len, out, diag);
    } else if (kind == ORT_TABLE_DIRECTORY) {
        err = decode_home(id, root, len, out, diag);
    } else {
        err = decode_node(id, root, len, out, diag);
    }
    ort_json_free(doc);
    return err;
}

static void
free_entry(ort_table_kind kind, void *decoded)
{
    (void)kind;
    free(decoded);
}

const ort_table_codec dp_table__codec = {.decode = decode_entry, .free = free_entry};
