/* data-plane/filter/path_internal.h: a parsed path, as the files of this folder see it. */
#ifndef DP_PATH_INTERNAL_H
#define DP_PATH_INTERNAL_H
#include <string.h>

#include "filter/path.h"

#define DP_PATH_STEPS_MAX 64u /* as deep as a payload can be */

typedef enum { DP_STEP_KEY, DP_STEP_INDEX, DP_STEP_ALL } dp_step_kind;

typedef struct {
    dp_step_kind kind;
    uint32_t index;  /* INDEX */
    const char *key; /* KEY: into the path's text */
    uint32_t key_len;
} dp_step;

struct dp_path {
    uint32_t count; /* at least 1, and the first is a KEY */
    dp_step steps[DP_PATH_STEPS_MAX];
    char text[]; /* as it was given */
};

static inline bool
dp_step__is_same(const dp_step *a, const dp_step *b)
{
    return a->kind == b->kind && (a->kind != DP_STEP_INDEX || a->index == b->index) &&
           (a->kind != DP_STEP_KEY ||
            (a->key_len == b->key_len && memcmp(a->key, b->key, a->key_len) == 0));
}

/* Inside `nested`: the path to the array, and the place that one is in. */
typedef struct dp_place dp_place;
struct dp_place {
    const dp_place *outer;
    const dp_path *path;
};

/* Whether `whole` leads where `path` does when it begins at an element of the place (NULL: at the
 * point itself). */
bool dp_path__is_at(const dp_path *whole, const dp_place *place, const dp_path *path);

/* The member of object with this key, the last where it stands twice; type NONE otherwise. */
ort_json dp_json_member(ort_json object, const char *key, size_t len);
#endif /* DP_PATH_INTERNAL_H */
