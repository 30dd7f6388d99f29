/* Aliases: other names of a tenant's collections. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tenant/tenant_internal.h"

dp_alias *
dp_alias__find(const dp_alias_list *list, const char *name, size_t len)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strlen(list->items[i].name) == len && memcmp(list->items[i].name, name, len) == 0) {
            return &list->items[i];
        }
    }
    return NULL;
}

void
dp_alias__clear(dp_alias_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].name);
    }
    free(list->items);
    *list = (dp_alias_list){0};
}

ort_err
dp_alias__add(dp_alias_list *list, const char *name, size_t len, ort_collection_id id)
{
    dp_alias *grown = realloc(list->items, (list->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return ORT_ENOMEM;
    }
    list->items = grown;
    char *copy = strndup(name, len);
    if (copy == NULL) {
        return ORT_ENOMEM;
    }
    size_t at = list->count;
    while (at > 0 && strcmp(list->items[at - 1].name, copy) > 0) {
        list->items[at] = list->items[at - 1];
        at--;
    }
    list->items[at] = (dp_alias){.name = copy, .collection = id};
    list->count++;
    return ORT_OK;
}

ort_err
dp_alias__without(const dp_alias_list *list, ort_collection_id id, dp_alias_list *out)
{
    *out = (dp_alias_list){0};
    for (size_t i = 0; i < list->count; i++) {
        const dp_alias *a = &list->items[i];
        if (a->collection.v != id.v &&
            dp_alias__add(out, a->name, strlen(a->name), a->collection) != ORT_OK) {
            dp_alias__clear(out);
            return ORT_ENOMEM;
        }
    }
    return ORT_OK;
}

/* Takes a name out of the list; false when it was not there. */
static bool
take(dp_alias_list *list, const char *name, size_t len, ort_collection_id *id)
{
    dp_alias *found = dp_alias__find(list, name, len);
    if (found == NULL) {
        return false;
    }
    assert(list->items != NULL && list->count > 0); /* it was found there */
    *id = found->collection;
    free(found->name);
    list->count--;
    memmove(found, found + 1, (size_t)(list->items + list->count - found) * sizeof *found);
    return true;
}

/* A string member of an action. ORT_EFORMAT: it is not there. */
static ort_err
member(ort_json action, const char *name, const char **text, size_t *len, ort_diag *diag)
{
    *text = ort_json_str(ort_json_get(action, name), len);
    return *text != NULL ? ORT_OK : ort_fail(diag, ORT_EFORMAT, "missing field `%s`", name);
}

/* Points a name at a collection; an alias of that name is replaced. */
static ort_err
set_alias(dp_tenant *t, dp_alias_list *list, const char *name, size_t len, ort_collection_id id,
          ort_diag *diag)
{
    ort_collection_id old;
    ort_err err = dp_collection_name_check(name, len, diag);
    if (err == ORT_OK && dp_tenant__find(t, name, len) != NULL) {
        err = ort_fail(diag, ORT_EEXISTS, "Collection `%.*s` already exists!", (int)len, name);
    }
    if (err == ORT_OK) {
        (void)take(list, name, len, &old);
        err = dp_alias__add(list, name, len, id);
    }
    return err;
}

static ort_err
create(dp_tenant *t, dp_alias_list *list, ort_json action, ort_diag *diag)
{
    const char *collection, *alias;
    size_t collection_len = 0, alias_len = 0;
    ort_err err = member(action, "collection_name", &collection, &collection_len, diag);
    if (err == ORT_OK) {
        err = member(action, "alias_name", &alias, &alias_len, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    const dp_entry *e = dp_tenant__find(t, collection, collection_len);
    return e == NULL ? ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!",
                                (int)collection_len, collection)
                     : set_alias(t, list, alias, alias_len, e->id, diag);
}

static ort_err
rename_alias(dp_tenant *t, dp_alias_list *list, ort_json action, ort_diag *diag)
{
    const char *from = NULL, *to = NULL;
    size_t from_len = 0, to_len = 0;
    ort_collection_id id = {0};
    ort_err err = member(action, "old_alias_name", &from, &from_len, diag);
    if (err == ORT_OK) {
        err = member(action, "new_alias_name", &to, &to_len, diag);
    }
    if (err == ORT_OK && !take(list, from, from_len, &id)) {
        err = ort_fail(diag, ORT_ENOTFOUND, "Alias %.*s does not exists!", (int)from_len, from);
    }
    return err != ORT_OK ? err : set_alias(t, list, to, to_len, id, diag);
}

static ort_err
delete_alias(dp_alias_list *list, ort_json action, ort_diag *diag)
{
    const char *name;
    size_t len = 0;
    ort_collection_id id;
    const ort_err err = member(action, "alias_name", &name, &len, diag);
    if (err == ORT_OK) {
        (void)take(list, name, len, &id); /* one that is not there is no error, as in Qdrant */
    }
    return err;
}

static ort_err
apply(dp_tenant *t, dp_alias_list *list, ort_json action, ort_diag *diag)
{
    ort_json body;
    if (ort_json_given(body = ort_json_get(action, "create_alias"))) {
        return create(t, list, body, diag);
    }
    if (ort_json_given(body = ort_json_get(action, "delete_alias"))) {
        return delete_alias(list, body, diag);
    }
    if (ort_json_given(body = ort_json_get(action, "rename_alias"))) {
        return rename_alias(t, list, body, diag);
    }
    return ort_fail(diag, ORT_EFORMAT,
                    "data did not match any variant of untagged enum AliasOperations");
}

ort_err
dp_tenant_change_aliases(dp_tenant *t, ort_json body, ort_diag *diag)
{
    ort_json actions = ort_json_get(body, "actions");
    dp_alias_list fresh = {0};
    if (ort_json_type_of(actions) != ORT_JSON_ARRAY) {
        return ort_fail(diag, ORT_EFORMAT, "missing field `actions`");
    }
    pthread_mutex_lock(&t->change);
    pthread_mutex_lock(&t->lock);
    ort_err err = dp_alias__without(&t->aliases, (ort_collection_id){0}, &fresh); /* a copy */
    for (ort_json_iter it = ort_json_each(actions); err == ORT_OK && ort_json_step(&it);) {
        err = apply(t, &fresh, it.value, diag);
    }
    dp_alias_list old = t->aliases;
    if (err == ORT_OK) {
        t->aliases = fresh;
    }
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        err = dp_tenant__save(t, diag);
        pthread_mutex_lock(&t->lock);
        if (err != ORT_OK) {
            t->aliases = old;
        } else {
            fresh = old; /* what is to be freed */
        }
        pthread_mutex_unlock(&t->lock);
    }
    pthread_mutex_unlock(&t->change);
    dp_alias__clear(&fresh);
    return err;
}

/* Names copied out under the lock, so that the caller's function runs without it. */
typedef struct {
    char **names, **of;
    size_t count;
} name_list;

static void
names_clear(name_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->names[i]);
        free(list->of[i]);
    }
    free(list->names);
    free(list->of);
}

static ort_err
names_alloc(name_list *list, size_t cap)
{
    *list = (name_list){.names = calloc(cap + 1, sizeof(char *)),
                        .of = calloc(cap + 1, sizeof(char *))};
    return list->names != NULL && list->of != NULL ? ORT_OK : ORT_ENOMEM;
}

static ort_err
names_add(name_list *list, const char *name, const char *of)
{
    char *a = strdup(name), *b = of != NULL ? strdup(of) : NULL;
    if (a == NULL || (of != NULL && b == NULL)) {
        free(a);
        free(b);
        return ORT_ENOMEM;
    }
    list->names[list->count] = a;
    list->of[list->count++] = b;
    return ORT_OK;
}

static void
names_tell(const name_list *list, dp_name_fn fn, void *ctx)
{
    for (size_t i = 0; i < list->count && fn(ctx, list->names[i], list->of[i]); i++) {
    }
}

ort_err
dp_tenant_list_collections(dp_tenant *t, dp_name_fn fn, void *ctx)
{
    name_list list;
    pthread_mutex_lock(&t->lock);
    ort_err err = names_alloc(&list, t->entry_count);
    for (size_t i = 0; err == ORT_OK && i < t->entry_count; i++) {
        err = names_add(&list, t->entries[i]->name, NULL);
    }
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        names_tell(&list, fn, ctx);
    }
    names_clear(&list);
    return err;
}

ort_err
dp_tenant_list_aliases(dp_tenant *t, const char *collection, size_t len, dp_name_fn fn, void *ctx,
                       ort_diag *diag)
{
    name_list list;
    pthread_mutex_lock(&t->lock);
    const dp_entry *only = collection != NULL ? dp_tenant__find(t, collection, len) : NULL;
    ort_err err = names_alloc(&list, t->aliases.count);
    if (collection != NULL && only == NULL) {
        err =
            ort_fail(diag, ORT_ENOTFOUND, "Collection `%.*s` doesn't exist!", (int)len, collection);
    }
    for (size_t i = 0; err == ORT_OK && i < t->aliases.count; i++) {
        const dp_alias *a = &t->aliases.items[i];
        const dp_entry *e = dp_tenant__find_id(t, a->collection);
        if (e != NULL && (only == NULL || e == only)) {
            err = names_add(&list, a->name, e->name);
        }
    }
    pthread_mutex_unlock(&t->lock);
    if (err == ORT_OK) {
        names_tell(&list, fn, ctx);
    }
    names_clear(&list);
    return err;
}

bool
dp_tenant_has_collection(dp_tenant *t, const char *name, size_t len)
{
    pthread_mutex_lock(&t->lock);
    const bool has =
        dp_tenant__find(t, name, len) != NULL || dp_alias__find(&t->aliases, name, len) != NULL;
    pthread_mutex_unlock(&t->lock);
    return has;
}
