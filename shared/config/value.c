/* One value: text in, a checked member of the program's struct out. File, environment and flags all
 * come through here, so that they take the same words and give the same errors. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config_internal.h"

static void *
member(const ort_config_key *key, void *config)
{
    return (char *)config + key->offset;
}

void
ort_config__clear(const ort_config_key *key, void *config)
{
    if (key->type == ORT_CONFIG_STRING) {
        char **s = member(key, config);
        free(*s);
        *s = NULL;
    } else if (key->type == ORT_CONFIG_STRINGS) {
        ort_config_strings *list = member(key, config);
        for (uint64_t i = 0; i < list->count; i++) {
            free(list->items[i]);
        }
        free(list->items);
        *list = (ort_config_strings){0};
    }
}

/* Digits, and for bytes a unit behind them: 64MiB. */
static bool
number_parse(const char *text, bool bytes, uint64_t *out)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    uint64_t v = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v)) {
            return false;
        }
    }
    if (p == text) {
        return false;
    }
    if (*p != '\0') {
        unsigned shift = 0;
        for (unsigned u = 0; bytes && u < 4; u++) {
            if (strcmp(p, units[u]) == 0) {
                shift = (u + 1) * 10;
            }
        }
        if (shift == 0 || v > UINT64_MAX >> shift) {
            return false;
        }
        v <<= shift;
    }
    *out = v;
    return true;
}

static ort_err
number_set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    bool bytes = strcmp(key->unit, "bytes") == 0;
    uint64_t v = 0;

    if (!number_parse(text, bytes, &v)) {
        return ort_fail(diag, ORT_EINVAL, "%s: \"%.64s\" is not a whole number%s", key->path, text,
                        bytes ? " (of bytes, or with KiB, MiB, GiB, TiB)" : "");
    }
    if (v < key->min || v > key->max) {
        return ort_fail(diag, ORT_EINVAL, "%s: %" PRIu64 " is outside %" PRIu64 " .. %" PRIu64,
                        key->path, v, key->min, key->max);
    }
    if (key->type == ORT_CONFIG_U32) {
        *(uint32_t *)member(key, config) = (uint32_t)v;
    } else {
        *(uint64_t *)member(key, config) = v;
    }
    return ORT_OK;
}

static ort_err
bool_set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *(bool *)member(key, config) = i % 2 == 1;
            return ORT_OK;
        }
    }
    return ort_fail(diag, ORT_EINVAL, "%s: \"%.64s\" is neither true nor false", key->path, text);
}

static ort_err
choice_set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    char words[256] = "";

    for (uint32_t i = 0; key->choices[i] != NULL; i++) {
        if (strcmp(text, key->choices[i]) == 0) {
            *(uint32_t *)member(key, config) = i;
            return ORT_OK;
        }
        size_t n = strlen(words);
        (void)snprintf(words + n, sizeof words - n, "%s%s", i > 0 ? ", " : "", key->choices[i]);
    }
    return ort_fail(diag, ORT_EINVAL, "%s: \"%.64s\" is none of %s", key->path, text, words);
}

static ort_err
string_set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    size_t len = strlen(text);

    if (len < key->min || len > key->max) {
        return ort_fail(diag, ORT_EINVAL,
                        "%s: %zu bytes of text are outside %" PRIu64 " .. %" PRIu64, key->path, len,
                        key->min, key->max);
    }
    char *copy = strdup(text);
    if (copy == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "%s", key->path);
    }
    ort_config__clear(key, config);
    *(char **)member(key, config) = copy;
    return ORT_OK;
}

ort_err
ort_config__set_list(const ort_config_key *key, void *config, char *const *items, uint64_t count,
                     ort_diag *diag)
{
    ort_config_strings list = {0};

    if (count < key->min || count > key->max) {
        return ort_fail(diag, ORT_EINVAL,
                        "%s: %" PRIu64 " items are outside %" PRIu64 " .. %" PRIu64, key->path,
                        count, key->min, key->max);
    }
    if (count > 0) {
        list.items = calloc((size_t)count, sizeof *list.items);
        if (list.items == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "%s", key->path);
        }
        for (; list.count < count; list.count++) {
            list.items[list.count] = strdup(items[list.count]);
            if (list.items[list.count] == NULL) {
                break;
            }
        }
        if (list.count < count) {
            while (list.count > 0) {
                free(list.items[--list.count]);
            }
            free(list.items);
            return ort_fail(diag, ORT_ENOMEM, "%s", key->path);
        }
    }
    ort_config__clear(key, config);
    *(ort_config_strings *)member(key, config) = list;
    return ORT_OK;
}

/* "a,b": empty text is no item at all, an empty item is a mistake. */
static ort_err
list_set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    char *copy = strdup(text);
    char *items[64];
    uint64_t count = 0;
    ort_err err;

    if (copy == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "%s", key->path);
    }
    if (text[0] != '\0') {
        char *rest = copy;
        for (char *item; (item = strsep(&rest, ",")) != NULL;) {
            item += strspn(item, " ");
            if (count == sizeof items / sizeof items[0] || item[0] == '\0') {
                free(copy);
                return ort_fail(diag, ORT_EINVAL, "%s: an empty item, or more than 64", key->path);
            }
            items[count++] = item;
        }
    }
    err = ort_config__set_list(key, config, items, count, diag);
    free(copy);
    return err;
}

ort_err
ort_config__set(const ort_config_key *key, void *config, const char *text, ort_diag *diag)
{
    switch (key->type) {
    case ORT_CONFIG_STRING:
        return string_set(key, config, text, diag);
    case ORT_CONFIG_STRINGS:
        return list_set(key, config, text, diag);
    case ORT_CONFIG_U32:
    case ORT_CONFIG_U64:
        return number_set(key, config, text, diag);
    case ORT_CONFIG_BOOL:
        return bool_set(key, config, text, diag);
    case ORT_CONFIG_CHOICE:
        return choice_set(key, config, text, diag);
    default:
        return ort_fail(diag, ORT_EINTERNAL, "%s: no such type", key->path);
    }
}
