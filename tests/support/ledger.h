/* tests/support/ledger.h: what a node was asked for and what it answered, and the check of a node
 * against that. Kept in memory that processes share, so that it outlives the node's.
 *
 * A tenant has a collection `main` of groups of points. Each group is changed by one request at a
 * time, which writes all of its points, so that its state is one word: the request that made it
 * last. The same goes for collections that come and go, a payload index, snapshots, and a
 * collection that is restored. After a crash each of these is in the state of its last answered
 * request or of the one that has no answer, and never in between. Ids and names are the same in all
 * tenants, and every point says whose it is: nothing of another tenant goes unseen. */
#ifndef TESTS_SUPPORT_LEDGER_H
#define TESTS_SUPPORT_LEDGER_H
#include <stdatomic.h>

#include "support/test_node.h"

enum {
    LEDGER_TENANTS = 3,
    LEDGER_GROUPS = 10,
    LEDGER_MEMBERS = 5,
    LEDGER_SIDES = 2,
    LEDGER_SNAPSHOTS = 2,
    LEDGER_DIM = 16,
    LEDGER_WIDE = 5000, /* points of `wide`: more than a chunk, so that there is some to compact */
};

/* States of `wide`. */
enum { LEDGER_WIDE_EMPTY, LEDGER_WIDE_THINNED, LEDGER_WIDE_FULL };

/* One thing and its state; 0: it is not there. */
typedef struct {
    _Atomic(uint64_t) sure;  /* of the last request that was answered with OK */
    _Atomic(uint64_t) maybe; /* while `open`: of one without an answer, or with a 500 */
    atomic_bool open;
} ledger_item;

typedef struct {
    ledger_item groups[LEDGER_GROUPS];
    ledger_item sides[LEDGER_SIDES], side_groups[LEDGER_SIDES];
    ledger_item index, kept, wide, exists;
    ledger_item snapshots[LEDGER_SNAPSHOTS];
    char snapshot_names[LEDGER_SNAPSHOTS][160];
} ledger_tenant;

typedef struct {
    ledger_tenant tenants[LEDGER_TENANTS];
    test_tenant table[LEDGER_TENANTS]; /* of the node: kept, so that keys outlive it */
    _Atomic(uint32_t) mark;            /* the newest request's */
    _Atomic(uint64_t) answered, refused, failed;
    _Atomic(uint32_t) checked; /* how often all of it was checked; the test's */
    char where[96];            /* for messages: round, seed, point; the test's */
} ledger;

/* What is wrong with the disk, and so what the answers may be beside 200: 507, and 500 and 503 too.
 */
typedef enum { LEDGER_NO_FAULTS, LEDGER_FULL, LEDGER_BROKEN } ledger_faults;

/* A client of one tenant. Threads: one a group, side, ... at a time. */
typedef struct {
    ledger *l;
    const test_node *node;
    unsigned tenant;
    ledger_faults faults;
} ledger_client;

typedef enum {
    LEDGER_UPSERT,
    LEDGER_BATCH,
    LEDGER_UPDATE_FILTER,
    LEDGER_FOR_ALL, /* those before it make a group, those behind it want one */
    LEDGER_PAYLOAD = LEDGER_FOR_ALL,
    LEDGER_PAYLOAD_FILTER,
    LEDGER_OVERWRITE,
    LEDGER_DELETE,
    LEDGER_DELETE_FILTER,
    LEDGER_KINDS,
} ledger_kind;

/* ORT_FAULT_SEED; 1 without it, so that a suite does the same each time as far as threads let it,
 * and another one each time for `new`. */
uint64_t ledger_seed(void);

/* Shared with processes forked from here on; and with programs, by a descriptor that they inherit
 * (fd_out may be NULL). */
ledger *ledger_new(int *fd_out);
ledger *ledger_of(int fd);
void ledger_free(ledger *l);

/* Makes `main`, `kept` and `wide` of a tenant that has nothing: `exists`, from then on. */
void ledger_begin(const ledger_client *c);

/* One request each, or a few; their answers are noted. What has an open state is left alone. */
void ledger_write(const ledger_client *c, unsigned group, ledger_kind kind);
void ledger_side(const ledger_client *c, unsigned side);  /* made, filled, dropped in turn */
void ledger_index(const ledger_client *c);                /* of payloads: made, dropped */
void ledger_snapshot(const ledger_client *c, unsigned n); /* taken, deleted */
void ledger_restore(const ledger_client *c);              /* a snapshot, a change, the restore */
void ledger_wide(const ledger_client *c);                 /* filled, thinned out */
void ledger_search(const ledger_client *c);

/* These are not calls of the data API, and are made where its handlers would. */
void ledger_backup(const ledger_client *c); /* of the tenant, and its restore */
void ledger_delete_tenant(const ledger_client *c);
void ledger_checkpoint(const ledger_client *c, const char *collection);

/* Looks at all the tenant has. settle: the node was started anew and its disk works, so that what
 * it says of open states holds from now on. Ends the process with a message when anything is not as
 * it must be. */
void ledger_check(const ledger_client *c, bool settle);
#endif /* TESTS_SUPPORT_LEDGER_H */
