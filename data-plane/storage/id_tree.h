/* data-plane/storage/id_tree.h: ids of the tail in order, each with its newest slot.
 *
 * A B+tree that only grows: an id that was killed stays, its slot is dead, and the whole tree goes
 * when a checkpoint has put its slots into a segment. Threads: the owner locks. */
#ifndef DP_ID_TREE_H
#define DP_ID_TREE_H
#include "storage/points.h"

typedef struct dp_id_tree dp_id_tree;

ORT_NODISCARD ort_err dp_id_tree_new(dp_id_tree **out);
void dp_id_tree_free(dp_id_tree *tree); /* NULL is fine */

uint64_t dp_id_tree_count(const dp_id_tree *tree);
uint64_t dp_id_tree_bytes(const dp_id_tree *tree);

/* Sets the slot of an id. ORT_ENOMEM: nothing changed. */
ORT_NODISCARD ort_err dp_id_tree_set(dp_id_tree *tree, ort_point_id id, uint32_t slot);

/* The slot of an id, or DP_SLOT_NONE. */
uint32_t dp_id_tree_get(const dp_id_tree *tree, ort_point_id id);

/* A place in the tree, good until the next set. */
typedef struct {
    const void *leaf;
    uint32_t at;
} dp_id_tree_place;

/* The first entry at or behind id (NULL: the first of all). */
dp_id_tree_place dp_id_tree_seek(const dp_id_tree *tree, const ort_point_id *id);

/* The entry there; false at the end. */
bool dp_id_tree_peek(dp_id_tree_place place, dp_id_slot *out);
void dp_id_tree_step(dp_id_tree_place *place);
#endif /* DP_ID_TREE_H */
