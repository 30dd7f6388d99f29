/* Ids in order: a B+tree without removal. */
#include "storage/id_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* 64 entries of 24 bytes: a node is 1.5 KiB, a search in it touches a few cache lines. */
#define FANOUT 64u
#define HEIGHT_MAX 12u /* half full nodes: 32^12 ids */
#define UUID_BIT (UINT32_C(1) << 31)

typedef struct {
    uint64_t hi, lo;
    uint32_t slot; /* the top bit: a UUID; slots stay below it */
} entry;

static_assert(DP_SLOTS_MAX <= UUID_BIT, "a slot leaves the top bit free");

typedef struct leaf {
    uint32_t count;
    struct leaf *next;
    entry entries[FANOUT];
} leaf;

/* keys[i] is the least key that ever stood below children[i]; keys[0] is not looked at. */
typedef struct {
    uint32_t count;
    ort_point_id keys[FANOUT];
    void *children[FANOUT];
} inner;

struct dp_id_tree {
    void *root;
    uint32_t height; /* inner nodes above a leaf */
    uint64_t count;
    uint64_t bytes;
};

static ort_point_id
entry_id(const entry *e)
{
    return (ort_point_id){.hi = e->hi, .lo = e->lo, .uuid = (e->slot & UUID_BIT) != 0};
}

static entry
entry_of(ort_point_id id, uint32_t slot)
{
    return (entry){.hi = id.hi, .lo = id.lo, .slot = slot | (id.uuid ? UUID_BIT : 0)};
}

ort_err
dp_id_tree_new(dp_id_tree **out)
{
    dp_id_tree *tree = calloc(1, sizeof *tree);
    leaf *root = calloc(1, sizeof *root);
    *out = NULL;
    if (tree == NULL || root == NULL) {
        free(tree);
        free(root);
        return ORT_ENOMEM;
    }
    *tree = (dp_id_tree){.root = root, .bytes = sizeof *tree + sizeof *root};
    *out = tree;
    return ORT_OK;
}

static void
node_free(void *node, uint32_t height)
{
    if (height > 0) {
        inner *in = node;
        for (uint32_t i = 0; i < in->count; i++) {
            node_free(in->children[i], height - 1);
        }
    }
    free(node);
}

void
dp_id_tree_free(dp_id_tree *tree)
{
    if (tree != NULL) {
        node_free(tree->root, tree->height);
        free(tree);
    }
}

uint64_t
dp_id_tree_count(const dp_id_tree *tree)
{
    return tree->count;
}

uint64_t
dp_id_tree_bytes(const dp_id_tree *tree)
{
    return tree->bytes;
}

/* The child whose keys reach to id. */
static uint32_t
inner_find(const inner *in, ort_point_id id)
{
    uint32_t low = 0, high = in->count - 1;
    while (low < high) {
        const uint32_t mid = (low + high + 1) / 2;
        if (ort_point_id_cmp(in->keys[mid], id) <= 0) {
            low = mid;
        } else {
            high = mid - 1;
        }
    }
    return low;
}

/* The first entry at or behind id; count when there is none. */
static uint32_t
leaf_find(const leaf *lf, ort_point_id id)
{
    uint32_t low = 0, high = lf->count;
    while (low < high) {
        const uint32_t mid = (low + high) / 2;
        if (ort_point_id_cmp(entry_id(&lf->entries[mid]), id) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static leaf *
find_leaf(const dp_id_tree *tree, ort_point_id id)
{
    void *node = tree->root;
    for (uint32_t h = tree->height; h > 0; h--) {
        inner *in = node;
        node = in->children[inner_find(in, id)];
    }
    return node;
}

uint32_t
dp_id_tree_get(const dp_id_tree *tree, ort_point_id id)
{
    const leaf *lf = find_leaf(tree, id);
    const uint32_t at = leaf_find(lf, id);
    if (at == lf->count || !ort_point_id_eq(entry_id(&lf->entries[at]), id)) {
        return DP_SLOT_NONE;
    }
    return lf->entries[at].slot & ~UUID_BIT;
}

/* Where a full node is cut. Ids that come in ascending order, as most do, leave full nodes behind
 * when the cut is at the end. */
static uint32_t
cut_at(uint32_t at)
{
    return at == FANOUT ? FANOUT - 1 : FANOUT / 2;
}

/* Moves the upper part of a full leaf into `fresh`. */
static void
leaf_split(leaf *lf, leaf *fresh, uint32_t cut)
{
    fresh->count = FANOUT - cut;
    memcpy(fresh->entries, lf->entries + cut, fresh->count * sizeof(entry));
    lf->count = cut;
    fresh->next = lf->next;
    lf->next = fresh;
}

static void
leaf_insert(leaf *lf, uint32_t at, entry e)
{
    memmove(lf->entries + at + 1, lf->entries + at, (lf->count - at) * sizeof(entry));
    lf->entries[at] = e;
    lf->count++;
}

static void
inner_insert(inner *in, uint32_t at, ort_point_id key, void *child)
{
    memmove(in->keys + at + 1, in->keys + at, (in->count - at) * sizeof *in->keys);
    memmove(in->children + at + 1, in->children + at, (in->count - at) * sizeof *in->children);
    in->keys[at] = key;
    in->children[at] = child;
    in->count++;
}

static void
inner_split(inner *in, inner *fresh, uint32_t cut)
{
    fresh->count = FANOUT - cut;
    memcpy(fresh->keys, in->keys + cut, fresh->count * sizeof *in->keys);
    memcpy(fresh->children, in->children + cut, fresh->count * sizeof *in->children);
    in->count = cut;
}

ort_err
dp_id_tree_set(dp_id_tree *tree, ort_point_id id, uint32_t slot)
{
    inner *path[HEIGHT_MAX];
    uint32_t steps[HEIGHT_MAX];
    void *spare[HEIGHT_MAX + 2] = {NULL};
    uint32_t spares = 0;
    void *node = tree->root;

    for (uint32_t h = 0; h < tree->height; h++) {
        path[h] = node;
        steps[h] = inner_find(path[h], id);
        node = path[h]->children[steps[h]];
    }
    leaf *lf = node;
    uint32_t at = leaf_find(lf, id);
    if (at < lf->count && ort_point_id_eq(entry_id(&lf->entries[at]), id)) {
        lf->entries[at] = entry_of(id, slot);
        return ORT_OK;
    }
    if (lf->count < FANOUT) {
        leaf_insert(lf, at, entry_of(id, slot));
        tree->count++;
        return ORT_OK;
    }

    /* All memory first: how many nodes on the way up are full? */
    uint32_t full = 0;
    while (full < tree->height && path[tree->height - 1 - full]->count == FANOUT) {
        full++;
    }
    const bool grows = full == tree->height;
    if (grows && tree->height == HEIGHT_MAX) {
        return ORT_ENOMEM;
    }
    const uint32_t need = 1 + full + (grows ? 1 : 0);
    for (uint32_t i = 0; i < need; i++) {
        spare[i] = calloc(1, i == 0 ? sizeof(leaf) : sizeof(inner));
        if (spare[i] == NULL) {
            while (i-- > 0) {
                free(spare[i]);
                tree->bytes -= i == 0 ? sizeof(leaf) : sizeof(inner);
            }
            return ORT_ENOMEM;
        }
        tree->bytes += i == 0 ? sizeof(leaf) : sizeof(inner);
    }

    leaf *fresh = spare[spares++];
    const uint32_t cut = cut_at(at);
    leaf_split(lf, fresh, cut);
    if (at <= cut) {
        leaf_insert(lf, at, entry_of(id, slot));
    } else {
        leaf_insert(fresh, at - cut, entry_of(id, slot));
    }
    tree->count++;

    void *child = fresh;
    ort_point_id key = entry_id(&fresh->entries[0]);
    for (uint32_t h = tree->height; h-- > 0;) {
        inner *in = path[h];
        at = steps[h] + 1;
        if (in->count < FANOUT) {
            inner_insert(in, at, key, child);
            return ORT_OK;
        }
        inner *half = spare[spares++];
        const uint32_t inner_cut = cut_at(at);
        assert(half != NULL); /* one for each full node, counted above */
        inner_split(in, half, inner_cut);
        if (at <= inner_cut) {
            inner_insert(in, at, key, child);
        } else {
            inner_insert(half, at - inner_cut, key, child);
        }
        child = half;
        key = half->keys[0];
    }
    inner *root = spare[spares++];
    root->count = 2;
    root->children[0] = tree->root;
    root->children[1] = child;
    root->keys[1] = key;
    tree->root = root;
    tree->height++;
    return ORT_OK;
}

dp_id_tree_place
dp_id_tree_seek(const dp_id_tree *tree, const ort_point_id *id)
{
    const leaf *lf = find_leaf(tree, id != NULL ? *id : (ort_point_id){0});
    dp_id_tree_place place = {.leaf = lf, .at = id != NULL ? leaf_find(lf, *id) : 0};
    if (place.at == lf->count) {
        place = (dp_id_tree_place){.leaf = lf->next};
    }
    return place;
}

bool
dp_id_tree_peek(dp_id_tree_place place, dp_id_slot *out)
{
    const leaf *lf = place.leaf;
    if (lf == NULL || place.at >= lf->count) {
        return false;
    }
    *out = (dp_id_slot){.id = entry_id(&lf->entries[place.at]),
                        .slot = lf->entries[place.at].slot & ~UUID_BIT};
    return true;
}

void
dp_id_tree_step(dp_id_tree_place *place)
{
    const leaf *lf = place->leaf;
    if (lf != NULL && ++place->at >= lf->count) {
        *place = (dp_id_tree_place){.leaf = lf->next};
    }
}
