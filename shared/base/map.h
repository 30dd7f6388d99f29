/* shared/base/map.h: a hash map from byte strings to pointers. */
#ifndef ORT_MAP_H
#define ORT_MAP_H
#include <stdint.h>

#include "base/err.h"

/* Keys are copied, values are the caller's. Keyed with a random SipHash key, so that outsiders
 * cannot choose keys that collide. Threads: none of its own; the owner locks. */
typedef struct ort_map ort_map;

ORT_NODISCARD ort_err ort_map_new(ort_map **out);
void ort_map_free(ort_map *map, void (*free_value)(void *)); /* free_value may be NULL */
size_t ort_map_count(const ort_map *map);

/* The value, or NULL. */
void *ort_map_get(const ort_map *map, const void *key, size_t len);

/* Stores value (not NULL) under key; *old_out, where not NULL, becomes the value it replaced or
 * NULL. ORT_ENOMEM: nothing changed. */
ORT_NODISCARD ort_err ort_map_set(ort_map *map, const void *key, size_t len, void *value,
                                  void **old_out);

/* Removes and gives back the value, or NULL when there was none. */
void *ort_map_take(ort_map *map, const void *key, size_t len);

/* Walks all entries in no particular order: start with *at = 0, until false. key, len and value may
 * be NULL. The map must not
 * change meanwhile, but for ort_map_set() on a key that is there. */
bool ort_map_next(const ort_map *map, size_t *at, const void **key, size_t *len, void **value);
#endif /* ORT_MAP_H */
