/* Open addressing with linear probing and backward-shift deletion (no tombstones), at most 3/4
 * full; key bytes live in the entry's own allocation. */
#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/siphash.h"

typedef struct {
    uint64_t hash;
    unsigned char *key; /* NULL: empty */
    size_t len;
    void *value;
} entry;

struct ort_map {
    entry *entries;
    size_t cap; /* a power of two, or 0 */
    size_t count;
    uint64_t k0, k1;
};

ort_err
ort_map_new(ort_map **out)
{
    ort_map *map = calloc(1, sizeof *map);
    *out = map;
    if (map == NULL) {
        return ORT_ENOMEM;
    }
    ort_random_bytes(&map->k0, sizeof map->k0);
    ort_random_bytes(&map->k1, sizeof map->k1);
    return ORT_OK;
}

void
ort_map_free(ort_map *map, void (*free_value)(void *))
{
    if (map == NULL) {
        return;
    }
    for (size_t i = 0; i < map->cap; i++) {
        if (map->entries[i].key != NULL) {
            free(map->entries[i].key);
            if (free_value != NULL) {
                free_value(map->entries[i].value);
            }
        }
    }
    free(map->entries);
    free(map);
}

size_t
ort_map_count(const ort_map *map)
{
    return map->count;
}

/* The entry of key, or the empty one where it would stand. cap > count, so one is always there. */
static entry *
probe(const ort_map *map, uint64_t hash, const void *key, size_t len)
{
    for (size_t i = hash & (map->cap - 1);; i = (i + 1) & (map->cap - 1)) {
        entry *e = &map->entries[i];
        if (e->key == NULL || (e->hash == hash && e->len == len && memcmp(e->key, key, len) == 0)) {
            return e;
        }
    }
}

void *
ort_map_get(const ort_map *map, const void *key, size_t len)
{
    if (map->count == 0) {
        return NULL;
    }
    const entry *e = probe(map, ort_siphash(map->k0, map->k1, key, len), key, len);
    return e->key != NULL ? e->value : NULL;
}

static ort_err
grow(ort_map *map)
{
    const size_t cap = map->cap == 0 ? 16 : map->cap * 2;
    entry *old = map->entries;
    entry *fresh = calloc(cap, sizeof *fresh);
    if (fresh == NULL) {
        return ORT_ENOMEM;
    }
    const size_t old_cap = map->cap;
    map->entries = fresh;
    map->cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].key != NULL) {
            *probe(map, old[i].hash, old[i].key, old[i].len) = old[i];
        }
    }
    free(old);
    return ORT_OK;
}

ort_err
ort_map_set(ort_map *map, const void *key, size_t len, void *value, void **old_out)
{
    if (old_out != NULL) {
        *old_out = NULL;
    }
    if (map->count >= map->cap / 4 * 3 && grow(map) != ORT_OK) {
        return ORT_ENOMEM;
    }
    const uint64_t hash = ort_siphash(map->k0, map->k1, key, len);
    entry *e = probe(map, hash, key, len);
    if (e->key != NULL) {
        if (old_out != NULL) {
            *old_out = e->value;
        }
        e->value = value;
        return ORT_OK;
    }
    unsigned char *copy = malloc(len > 0 ? len : 1);
    if (copy == NULL) {
        return ORT_ENOMEM;
    }
    if (len > 0) {
        memcpy(copy, key, len);
    }
    *e = (entry){.hash = hash, .key = copy, .len = len, .value = value};
    map->count++;
    return ORT_OK;
}

void *
ort_map_take(ort_map *map, const void *key, size_t len)
{
    if (map->count == 0) {
        return NULL;
    }
    entry *e = probe(map, ort_siphash(map->k0, map->k1, key, len), key, len);
    if (e->key == NULL) {
        return NULL;
    }
    void *value = e->value;
    free(e->key);
    map->count--;
    /* Close the gap: pull back every follower that may stand here. */
    const size_t mask = map->cap - 1;
    size_t gap = (size_t)(e - map->entries);
    for (size_t i = (gap + 1) & mask; map->entries[i].key != NULL; i = (i + 1) & mask) {
        const size_t home = map->entries[i].hash & mask;
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            map->entries[gap] = map->entries[i];
            gap = i;
        }
    }
    map->entries[gap] = (entry){0};
    return value;
}

bool
ort_map_next(const ort_map *map, size_t *at, const void **key, size_t *len, void **value)
{
    for (size_t i = *at; i < map->cap; i++) {
        const entry *e = &map->entries[i];
        if (e->key != NULL) {
            if (key != NULL) {
                *key = e->key;
            }
            if (len != NULL) {
                *len = e->len;
            }
            if (value != NULL) {
                *value = e->value;
            }
            *at = i + 1;
            return true;
        }
    }
    return false;
}
