/* control-plane/store/types.h: small things that rows are made of. */
#ifndef CP_TYPES_H
#define CP_TYPES_H
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/id.h"

/* Sizes with the NUL. */
#define CP_SLUG_BYTES 64     /* region, plan, tenant names: [a-z0-9-]{1,63} */
#define CP_DISPLAY_BYTES 256 /* free text for people */
#define CP_ACTOR_BYTES 128
#define CP_REQUEST_ID_BYTES 65
#define CP_URL_BYTES 256
#define CP_SOFTWARE_BYTES 64

/* A short list of short texts (regions of a pin, globs of a key) in one place, so that rows need no
 * memory of their own: NUL-ended texts one behind the other. {0} is empty. */
#define CP_TEXTS_BYTES 4096
#define CP_TEXTS_MAX 64
typedef struct {
    uint16_t count;
    uint16_t bytes;
    char text[CP_TEXTS_BYTES];
} cp_texts;

/* ORT_ETOOBIG: more than CP_TEXTS_MAX, or their bytes do not fit. ORT_EINVAL: empty or holds a NUL.
 * ORT_EEXISTS: is there already. */
ORT_NODISCARD ort_err cp_texts_add(cp_texts *list, const char *text, size_t len);
bool cp_texts_has(const cp_texts *list, const char *text);
bool cp_texts_equal(const cp_texts *a, const cp_texts *b); /* same texts, any order */

/* for (const char *t = cp_texts_first(&l); t != NULL; t = cp_texts_next(&l, t)) */
static inline const char *
cp_texts_first(const cp_texts *list)
{
    return list->count > 0 ? list->text : NULL;
}

static inline const char *
cp_texts_next(const cp_texts *list, const char *at)
{
    at += strlen(at) + 1;
    return at < list->text + list->bytes ? at : NULL;
}

/* The limits of a plan, and those of one tenant. */
typedef enum {
    CP_LIMIT_COLLECTIONS,
    CP_LIMIT_VECTORS_PER_COLLECTION,
    CP_LIMIT_VECTORS,
    CP_LIMIT_STORAGE_BYTES,
    CP_LIMIT_REQUESTS_PER_MINUTE,
    CP_LIMIT_REQUESTS_PER_MINUTE_PER_KEY, /* a key's own bound counts where it is lower */
    CP_LIMIT_COUNT
} cp_limit;

/* "max_collections" ...: how the API, the CLI and the tables call it. NULL: no such limit. */
const char *cp_limit_name(cp_limit limit);
/* CP_LIMIT_COUNT: no limit is called so. */
cp_limit cp_limit_by_name(const char *name, size_t len);

#define CP_UNLIMITED UINT64_MAX              /* null in JSON */
#define CP_LIMIT_VALUE_MAX 9007199254740991u /* 2^53 - 1: what every JSON reader holds exactly */

typedef struct {
    uint64_t v[CP_LIMIT_COUNT]; /* 0 .. CP_LIMIT_VALUE_MAX, or CP_UNLIMITED */
} cp_limits;

/* What a tenant has instead of its plan's limits. */
typedef struct {
    bool set[CP_LIMIT_COUNT]; /* false: as the plan says */
    cp_limits to;
} cp_overrides;

/* The plan's limits, but for those that are overridden. */
cp_limits cp_limits_effective(const cp_limits *plan, const cp_overrides *overrides);
/* Whether `to` allows less than `from` in any limit: then the change is a denial. */
bool cp_limits_lower(const cp_limits *from, const cp_limits *to);

/* What a key may do. */
typedef enum {
    CP_SCOPE_DATA_READ = 1,
    CP_SCOPE_DATA_WRITE = 2,
    CP_SCOPE_COLLECTIONS_MANAGE = 4,
} cp_scope;
#define CP_SCOPES_ALL 7u
#define CP_SCOPE_COUNT 3
/* "data:read", "data:write", "collections:manage" for 0, 1, 2. */
const char *cp_scope_name(unsigned index);
/* The bit, or 0 when no scope is called so. */
unsigned cp_scope_by_name(const char *name, size_t len);

/* Who may do what over the admin API. */
typedef enum { CP_ROLE_OPERATOR, CP_ROLE_VIEWER, CP_ROLE_TENANT_ADMIN, CP_ROLE_COUNT } cp_role;
const char *cp_role_name(cp_role role); /* "operator", "viewer", "tenant-admin" */
/* CP_ROLE_COUNT: no role is called so. */
cp_role cp_role_by_name(const char *name, size_t len);
#endif /* CP_TYPES_H */
