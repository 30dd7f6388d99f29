/* Lists of texts, limits, scopes, roles: their names and small arithmetic. */
#include "store/types.h"

static const char *const limit_names[CP_LIMIT_COUNT] = {
    [CP_LIMIT_COLLECTIONS] = "max_collections",
    [CP_LIMIT_VECTORS_PER_COLLECTION] = "max_vectors_per_collection",
    [CP_LIMIT_VECTORS] = "max_vectors",
    [CP_LIMIT_STORAGE_BYTES] = "max_storage_bytes",
    [CP_LIMIT_REQUESTS_PER_MINUTE] = "max_requests_per_minute",
    [CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY] = "max_requests_per_minute_per_key",
};

static const char *const scope_names[CP_SCOPE_COUNT] = {"data:read", "data:write",
                                                        "collections:manage"};

static const char *const role_names[CP_ROLE_COUNT] = {
    [CP_ROLE_OPERATOR] = "operator",
    [CP_ROLE_VIEWER] = "viewer",
    [CP_ROLE_TENANT_ADMIN] = "tenant-admin",
};

/* Index of the name, or count. */
static unsigned
find(const char *const *names, unsigned count, const char *name, size_t len)
{
    unsigned i = 0;
    while (i < count && (strlen(names[i]) != len || memcmp(names[i], name, len) != 0)) {
        i++;
    }
    return i;
}

ort_err
cp_texts_add(cp_texts *list, const char *text, size_t len)
{
    if (len == 0 || memchr(text, '\0', len) != NULL) {
        return ORT_EINVAL;
    }
    for (const char *t = cp_texts_first(list); t != NULL; t = cp_texts_next(list, t)) {
        if (strlen(t) == len && memcmp(t, text, len) == 0) {
            return ORT_EEXISTS;
        }
    }
    if (list->count >= CP_TEXTS_MAX || len >= sizeof list->text - list->bytes) {
        return ORT_ETOOBIG;
    }
    memcpy(list->text + list->bytes, text, len);
    list->text[list->bytes + len] = '\0';
    list->bytes = (uint16_t)(list->bytes + len + 1);
    list->count++;
    return ORT_OK;
}

bool
cp_texts_has(const cp_texts *list, const char *text)
{
    for (const char *t = cp_texts_first(list); t != NULL; t = cp_texts_next(list, t)) {
        if (strcmp(t, text) == 0) {
            return true;
        }
    }
    return false;
}

bool
cp_texts_equal(const cp_texts *a, const cp_texts *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (const char *t = cp_texts_first(a); t != NULL; t = cp_texts_next(a, t)) {
        if (!cp_texts_has(b, t)) {
            return false;
        }
    }
    return true;
}

const char *
cp_limit_name(cp_limit limit)
{
    return (unsigned)limit < CP_LIMIT_COUNT ? limit_names[limit] : NULL;
}

cp_limit
cp_limit_by_name(const char *name, size_t len)
{
    return (cp_limit)find(limit_names, CP_LIMIT_COUNT, name, len);
}

cp_limits
cp_limits_effective(const cp_limits *plan, const cp_overrides *overrides)
{
    cp_limits out = *plan;
    for (unsigned i = 0; i < CP_LIMIT_COUNT; i++) {
        if (overrides->set[i]) {
            out.v[i] = overrides->to.v[i];
        }
    }
    return out;
}

bool
cp_limits_lower(const cp_limits *from, const cp_limits *to)
{
    for (unsigned i = 0; i < CP_LIMIT_COUNT; i++) {
        if (to->v[i] < from->v[i]) { /* CP_UNLIMITED is the greatest number */
            return true;
        }
    }
    return false;
}

const char *
cp_scope_name(unsigned index)
{
    return index < CP_SCOPE_COUNT ? scope_names[index] : NULL;
}

unsigned
cp_scope_by_name(const char *name, size_t len)
{
    const unsigned i = find(scope_names, CP_SCOPE_COUNT, name, len);
    return i < CP_SCOPE_COUNT ? 1u << i : 0;
}

const char *
cp_role_name(cp_role role)
{
    return (unsigned)role < CP_ROLE_COUNT ? role_names[role] : NULL;
}

cp_role
cp_role_by_name(const char *name, size_t len)
{
    return (cp_role)find(role_names, CP_ROLE_COUNT, name, len);
}
