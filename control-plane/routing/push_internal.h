/* control-plane/routing/push_internal.h: what the files of push share. */
#ifndef CP_PUSH_INTERNAL_H
#define CP_PUSH_INTERNAL_H
#include <pthread.h>

#include "base/map.h"
#include "routing/push.h"

/* A version of the sections that all nodes share. */
typedef struct {
    uint64_t version;
    uint64_t made_ns; /* ort_mono_ns() */
    size_t changed;   /* entries that differ from the version before */
    ort_section *directory;
    ort_section *nodes;
} push_shared;

/* A version of one node's own section. */
typedef struct {
    uint64_t version;
    uint64_t made_ns;
    size_t changed;
    ort_section *tenants;
} push_own;

#define PUSH_ACKS_KEPT 16u

typedef struct {
    ort_node_id id;
    push_own own[CP_PUSH_OWN_MAX]; /* oldest first; [own_count - 1] is the newest */
    size_t own_count;
    ort_table_at applied;                 /* as last said; generation 0: never */
    cp_push_ack acks[PUSH_ACKS_KEPT];     /* the newest applied versions, oldest first, and */
    uint64_t ack_version[PUSH_ACKS_KEPT]; /* which versions they were */
    size_t ack_count;
    uint64_t deny_version;
    bool sent_whole; /* the table last sent was whole */
    struct {
        bool is;
        bool was_whole;    /* nothing further to try */
        ort_table_at at;   /* what was refused */
        uint64_t retry_ns; /* storage: offered again from here on; 0 = never */
        uint32_t pause_ms;
        uint64_t version; /* as the node said */
        char reason[ORT_MSG_TEXT_BYTES];
        char path[128];
    } nack;
} push_node;

/* The text of the shared sections as a table's body, made once for all whole fetches of a version.
 * Counted, because a fetch outlives the lock. */
typedef struct {
    uint64_t version;
    unsigned refs; /* under the lock of push */
    ort_buf text;
} push_text;

struct cp_push {
    cp_push_options options;
    ort_sign_key key;

    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t acked;  /* someone applied something, or version grew, or stopping */
    bool stopping;
    uint64_t generation;
    uint64_t version; /* of the last apply */
    ort_map *nodes;   /* ort_node_id.v → push_node */
    ort_map *homes;   /* ort_tenant_id.v → push_node that holds it; absent: none */
    push_shared shared[CP_PUSH_SHARED_MAX]; /* oldest first */
    size_t shared_count;                    /* >= 1 */
    push_text *text;                        /* of the newest shared version, or NULL */
    cp_push_stats stats;
};

void cp_push__node_free(void *node);
push_node *cp_push__find(cp_push *push, ort_node_id id);     /* lock held */
void cp_push__at(const cp_push *push, const push_node *node, /* lock held */
                 ort_table_at *out);
static inline const push_shared *
cp_push__shared(const cp_push *push)
{
    return &push->shared[push->shared_count - 1];
}
static inline const push_own *
cp_push__own(const push_node *node)
{
    return &node->own[node->own_count - 1];
}
#endif /* CP_PUSH_INTERNAL_H */
