/* Vectors of a collection, added and taken away by name.
 *
 * The columns of points are fixed while they are open, and a write that was parsed under the old
 * schema must not come to lie under the new one. So the collection is had alone: `changing` keeps
 * new calls waiting in dp_tenant_use(), and those that are in it are waited for. They are few and
 * end soon (a call's deadline bounds each), and this is rare: it is asked for, not notified. */
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_write.h"
#include "tenant/tenant_internal.h"

#define CLEARED_AT_ONCE 1024u /* points that lose a vector in one operation */

/* --- having it alone ----------------------------------------------------------------------------
 */

/* Waits until only `own` calls use it, and none moves it. t->lock is held, let go meanwhile. */
static ort_err
have_alone(dp_tenant *t, dp_entry *e, uint32_t own, uint64_t until_mono_ns, ort_diag *diag)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    e->changing = true;
    while (e->uses > own || e->state == DP_ENTRY_OPENING || e->state == DP_ENTRY_CLOSING) {
        if (until_mono_ns != 0 && ort_mono_ns() >= until_mono_ns) {
            return ort_fail(diag, ORT_ETIMEOUT, "the collection is in use");
        }
        pthread_mutex_unlock(&t->lock);
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&t->lock);
    }
    return ORT_OK;
}

static void
let_others_in(dp_tenant *t, dp_entry *e)
{
    e->changing = false;
    pthread_cond_broadcast(&t->moved);
}

/* Makes `fresh` the entry's schema, on disk first of all. t->change is held, t->lock is not. */
static ort_err
keep_schema(dp_tenant *t, dp_entry *e, dp_schema *fresh, ort_diag *diag)
{
    pthread_mutex_lock(&t->lock);
    dp_schema *old = e->schema;
    e->schema = dp_schema_ref(fresh);
    pthread_mutex_unlock(&t->lock);
    const ort_err err = dp_tenant__save(t, diag);
    pthread_mutex_lock(&t->lock);
    if (err != ORT_OK) {
        dp_schema_unref(e->schema);
        e->schema = old;
        old = NULL;
    }
    pthread_mutex_unlock(&t->lock);
    dp_schema_unref(old);
    return err;
}

/* The collection of that name; t->change keeps it in the catalog. t->lock is held. */
static ort_err
find_entry(dp_tenant *t, const char *name, size_t len, dp_entry **out, ort_diag *diag)
{
    *out = t->deleted ? NULL : dp_tenant__resolve(t, name, len);
    return *out != NULL
               ? ORT_OK
               : ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!", (int)len, name);
}

/* --- adding -------------------------------------------------------------------------------------
 */

/* Closed, changed; the next call opens it with the new column. t->change and t->lock are held. */
static ort_err
add_alone(dp_tenant *t, dp_entry *e, const char *vector, size_t vector_len, ort_json body,
          uint64_t until_mono_ns, ort_diag *diag)
{
    dp_schema *fresh = NULL;
    ort_err err =
        dp_schema_add_vector(&fresh, e->schema, vector, vector_len, body, diag); /* cheap: no I/O */
    if (err == ORT_OK) {
        err = have_alone(t, e, 0, until_mono_ns, diag);
    }
    if (err == ORT_OK && e->state == DP_ENTRY_OPEN && !dp_tenant__close_entry(t, e)) {
        err = ort_fail(diag, ORT_EBUSY, "the collection is in use");
    }
    if (err == ORT_OK) {
        pthread_mutex_unlock(&t->lock);
        err = keep_schema(t, e, fresh, diag);
        pthread_mutex_lock(&t->lock);
    }
    dp_schema_unref(fresh);
    let_others_in(t, e);
    return err;
}

ort_err
dp_tenant_add_vector(dp_tenant *t, const char *name, size_t len, const char *vector,
                     size_t vector_len, ort_json body, uint64_t until_mono_ns, ort_diag *diag)
{
    dp_entry *e;
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    ort_err err = find_entry(t, name, len, &e, diag);
    if (err == ORT_OK) {
        err = add_alone(t, e, vector, vector_len, body, until_mono_ns, diag);
    }
    pthread_mutex_unlock(&t->lock);
    pthread_mutex_unlock(&t->change);
    return err;
}

/* --- taking away --------------------------------------------------------------------------------
 */

/* The points that still have it, and the operation that takes it from them. */
typedef struct {
    ort_buf body;
    ort_jw w;
    size_t count;
} clearing;

static ort_err
note_point(void *ctx, size_t query, const dp_schema *schema, const dp_point_view *view)
{
    clearing *c = ctx;
    (void)query;
    (void)schema;
    dp_point_id_write(&c->w, view->id);
    c->count++;
    return ORT_OK;
}

/* Reads one page into c->body: {"vector":[name],"points":[..]}. */
static ort_err
read_page(dp_collection *c, const dp_filter *filter, const char *vector, size_t len, clearing *out,
          ort_diag *diag)
{
    bool more;
    ort_point_id next;
    ort_buf_clear(&out->body);
    out->count = 0;
    out->w = (ort_jw){.buf = &out->body};
    ort_jw_object(&out->w);
    ort_jw_key(&out->w, "vector");
    ort_jw_array(&out->w);
    ort_jw_str_n(&out->w, vector, len);
    ort_jw_array_end(&out->w);
    ort_jw_key(&out->w, "points");
    ort_jw_array(&out->w);
    const ort_err err = dp_collection_scroll(c, filter, NULL, CLEARED_AT_ONCE, false, note_point,
                                             out, &more, &next, diag);
    ort_jw_array_end(&out->w);
    ort_jw_object_end(&out->w);
    return err == ORT_OK ? ort_buf_check(&out->body) : err;
}

static ort_err
apply_page(dp_collection *c, const clearing *page, uint64_t until_mono_ns, ort_diag *diag)
{
    ort_json_doc *doc = NULL;
    dp_op *op = NULL;
    dp_op_result result;
    ort_err err = ort_json_parse(&doc, page->body.data, page->body.len, (ort_json_limits){0}, diag);
    if (err == ORT_OK) {
        dp_schema *schema = dp_collection_schema(c);
        err = dp_op_parse(&op, DP_OP_DELETE_VECTORS, schema, ort_json_root(doc), diag);
        dp_schema_unref(schema);
    }
    if (err == ORT_OK) {
        err = dp_collection_apply(c, op, until_mono_ns, &result, diag);
        err = err == ORT_ENOTFOUND ? ORT_OK : err; /* deleted meanwhile */
    }
    dp_op_free(op);
    ort_json_free(doc);
    return err;
}

/* Takes it from all points, a page at a time: readers and writers come in between. */
static ort_err
clear_points(dp_collection *c, const char *vector, size_t len, uint64_t until_mono_ns,
             ort_diag *diag)
{
    clearing page = {0};
    dp_filter *filter = NULL;
    ort_buf text = {0};
    ort_jw w = {.buf = &text};
    ort_jw_object(&w);
    ort_jw_key(&w, "must");
    ort_jw_object(&w);
    ort_jw_key(&w, "has_vector");
    ort_jw_str_n(&w, vector, len);
    ort_jw_object_end(&w);
    ort_jw_object_end(&w);
    ort_err err = ort_buf_check(&text);
    if (err == ORT_OK) {
        err = dp_filter_parse_text(&filter, text.data, text.len, diag);
    }
    while (err == ORT_OK) {
        err = read_page(c, filter, vector, len, &page, diag);
        if (err != ORT_OK || page.count == 0) {
            break;
        }
        err = until_mono_ns != 0 && ort_mono_ns() >= until_mono_ns
                  ? ort_fail(diag, ORT_ETIMEOUT, "points still have the vector: ask again")
                  : apply_page(c, &page, until_mono_ns, diag);
    }
    dp_filter_free(filter);
    ort_buf_fini(&page.body);
    ort_buf_fini(&text);
    return err;
}

/* What writes in between have brought, and then the name. t->change is held; `own` is in use once,
 * by us. */
static ort_err
drop_alone(dp_tenant *t, dp_entry *e, dp_collection *own, const char *vector, size_t vector_len,
           uint64_t until_mono_ns, ort_diag *diag)
{
    dp_schema *fresh = NULL;
    pthread_mutex_lock(&t->lock);
    ort_err err = have_alone(t, e, 1, until_mono_ns, diag);
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        err = clear_points(own, vector, vector_len, until_mono_ns, diag);
    }
    if (err == ORT_OK) {
        err = dp_schema_drop_vector(&fresh, e->schema, vector, vector_len, diag);
    }
    if (err == ORT_OK) {
        err = keep_schema(t, e, fresh, diag);
    }
    if (err == ORT_OK) {
        dp_collection_set_schema(own, fresh);
    }
    dp_schema_unref(fresh);
    pthread_mutex_lock(&t->lock);
    let_others_in(t, e);
    pthread_mutex_unlock(&t->lock);
    return err;
}

ort_err
dp_tenant_drop_vector(dp_tenant *t, const char *name, size_t len, const char *vector,
                      size_t vector_len, uint64_t until_mono_ns, ort_diag *diag)
{
    dp_collection *own;
    dp_entry *e;
    ort_err err = dp_tenant_use(t, name, len, &own, diag);
    if (err != ORT_OK) {
        return err;
    }
    dp_schema *schema = dp_collection_schema(own);
    if (dp_schema_find_vector(schema, vector, vector_len) < 0) {
        err = ort_fail(diag, ORT_EINVAL, "Not existing vector name error: %.*s",
                       (int)(vector_len > 200 ? 200 : vector_len), vector);
    }
    dp_schema_unref(schema);
    if (err == ORT_OK) {
        err = clear_points(own, vector, vector_len, until_mono_ns, diag);
    }
    if (err == ORT_OK) {
        pthread_mutex_lock(&t->change);
        pthread_mutex_lock(&t->lock);
        err = find_entry(t, name, len, &e, diag);
        if (err == ORT_OK && e->collection != own) { /* dropped, and made anew */
            err = ort_fail(diag, ORT_ECONFLICT, "the collection has changed meanwhile");
        }
        pthread_mutex_unlock(&t->lock);
        if (err == ORT_OK && atomic_load(&t->unsure)) { /* its writes would wait for t->change */
            err = dp_tenant__save(t, diag);
        }
        if (err == ORT_OK) {
            err = drop_alone(t, e, own, vector, vector_len, until_mono_ns, diag);
        }
        pthread_mutex_unlock(&t->change);
    }
    dp_tenant_release(t, own);
    return err;
}
