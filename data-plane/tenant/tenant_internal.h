/* data-plane/tenant/tenant_internal.h: what the files of this folder share.
 *
 * Locks, in order: all->lock (the map) -> t->change (one catalog change at a time, held over its
 * fsync) -> t->lock (the tenant's state; never held over I/O) -> all->open_lock. all->trash_lock is
 * last: it is taken with any but t->lock held. */
#ifndef DP_TENANT_INTERNAL_H
#define DP_TENANT_INTERNAL_H
#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "tenant/snapshots.h"
#include "tenant/tenant.h"

/* How long a collection that could not be opened is answered from memory before it is tried again.
 */
#define DP_TENANT_RETRY_MS 2000

#define DP_CATALOG_BYTES_MAX (64u << 20)

typedef enum {
    DP_ENTRY_CLOSED,
    DP_ENTRY_OPENING, /* one thread works on it, the others wait on t->moved */
    DP_ENTRY_OPEN,
    DP_ENTRY_CLOSING,
} dp_entry_state;

/* A collection of the catalog. Guarded by t->lock.
 *
 *   CLOSED -> OPENING  dp_tenant_use()            OPENING -> OPEN, CLOSED  dp_tenant_use()
 *   OPEN -> CLOSING    dp_tenant__close_entry()   CLOSING -> CLOSED        dp_tenant__close_entry()
 */
typedef struct dp_entry {
    dp_tenant *owner;
    ort_collection_id id;
    char *name;
    dp_schema *schema;
    dp_entry_state state;
    dp_collection *collection; /* OPEN and CLOSING */
    uint32_t uses;             /* calls of dp_tenant_use() not yet released */
    bool home;                 /* its files stand in the tenant's own directory (home.c) */
    bool stays;                /* they cannot be moved there */
    bool changing;             /* its vectors change: dp_tenant_use() waits (vectors.c) */
    bool dropped;              /* out of the catalog, on t->dropped until its last use ends */
    _Atomic uint64_t used_ms;  /* when last */
    uint32_t times_opened;     /* by this process; wraps */
    bool unrooted; /* its directory may not be there for good; opening, then t->change */

    /* Of the last close. `clean`: the catalog on disk may tell them; false from the first write
     * after an open on (before_writes() in use.c) until it is closed again. */
    bool clean;
    bool charged; /* the tenant's quota is charged with them, as the collection is not there to */
    uint64_t points, bytes, disk_bytes;

    /* Among all open ones; all->open_lock. */
    struct dp_entry *open_next, *open_before;
    bool open_listed;

    ort_diag failure;   /* why it could not be opened, and */
    ort_err failed_err; /* what callers are told */
    uint64_t failed_ms; /* when; 0: it could */
} dp_entry;

typedef struct {
    char *name;
    ort_collection_id collection;
} dp_alias;

typedef struct {
    dp_alias *items;
    size_t count;
} dp_alias_list;

/* A snapshot of a collection that the catalog names: snapshots/<id>. */
typedef struct {
    ort_collection_id id;         /* of the file */
    ort_collection_id collection; /* whose */
    dp_snapshot_info info;
} dp_snap;

typedef struct {
    dp_snap *items; /* oldest first */
    size_t count;
} dp_snap_list;

struct dp_tenant {
    dp_tenants *all;
    ort_tenant_id id;
    _Atomic uint32_t refs; /* one is the map's */

    pthread_mutex_t change;
    pthread_mutex_t lock; /* guards all below but the meters */
    pthread_cond_t moved; /* an entry changed its state */
    bool loaded; /* until then the entries are the loading thread's alone, without the lock */
    bool deleted;
    dp_entry **entries; /* sorted by name */
    size_t entry_count, entry_cap;
    dp_entry **dropped; /* still in use, opening or closing */
    size_t dropped_count;
    bool home_taken;       /* a collection's files stand, or may stand, in the directory itself */
    bool may_settle;       /* one was closed that could move there */
    dp_alias_list aliases; /* sorted by name */
    dp_snap_list snaps;
    bool snapshotting;   /* a snapshot, backup or restore is under way */
    uint32_t read_count; /* of dp_tenant_snapshot_open() */
    uint32_t file_count; /* dp_tenant_file handles */
    uint64_t file_bytes; /* what they hold, and what a snapshot in the making does */
    dp_quota *quota;     /* of open collections, and what the closed ones were charged */
    atomic_bool rooted;  /* its directory is there for good */
    atomic_bool unsure;  /* of the catalog on disk: replace() in catalog.c */
    bool unsaved;        /* sizes of collections that closed are not in the catalog yet */
    ort_diag *failure;   /* why the catalog could not be read, and */
    uint64_t failed_ms;  /* when; 0: it could */
    ort_err failed_err;
    uint32_t collections_max;
    uint64_t points_per_collection_max;
    uint64_t bytes_max;

    _Atomic uint64_t requests, searches, writes, bytes_in, bytes_out;
    uint64_t told; /* digest of the usage last told; of dp_tenants_each_news() */
};

struct dp_tenants {
    dp_tenants_config config;
    int data_fd, tenants_fd, trash_fd, lock_fd;
    pthread_mutex_t lock; /* guards map, closing */
    ort_map *map;         /* id -> dp_tenant */
    bool closing;
    bool sweep;                 /* something was put into the trash */
    pthread_mutex_t trash_lock; /* one moves something there or lists it; held over renames and
                                 * syncs, no other lock is taken under it */
    pthread_cond_t wake;        /* of the janitor */
    pthread_t janitor;
    bool janitor_runs;
    size_t closed_since;             /* memory was given back; the janitor's, as are the next two */
    uint64_t trim_due_ms;            /* when it is looked at again how much there is */
    uint64_t trimmed_bytes;          /* in memory since it was given back */
    struct dp_scrub *scrub;          /* NULL: there is none */
    _Atomic uint64_t opened;         /* collections, since start */
    _Atomic uint32_t failed;         /* collections that could not be opened when last tried */
    _Atomic uint32_t failed_tenants; /* whose catalog could not be read */

    atomic_bool disk_low;
    atomic_uint snapshot_jobs;
    _Atomic uint64_t snapshots, restores, snapshot_failures;
    uint32_t background; /* threads of dp_tenants_background(); lock, wake */

    /* What is open: upkeep looks at these, however many tenants there are. */
    pthread_mutex_t open_lock;
    dp_entry *open_first;
    uint32_t open_count;
    atomic_bool crowded; /* more is open than may be: the janitor is wanted at once */
};

/* catalog.c */

/* Reads the tenant's catalog into t (empty when there is none) and moves what no catalog names to
 * the trash. Called once, with t->change held. */
ORT_NODISCARD ort_err dp_tenant__load(dp_tenant *t, ort_diag *diag);

/* Writes the catalog of now. With t->change held, t->lock not. Makes the tenant's directories. */
ORT_NODISCARD ort_err dp_tenant__save(dp_tenant *t, ort_diag *diag);

ORT_NODISCARD ort_err dp_tenant__make_folders(dp_tenant *t, ort_diag *diag);

/* Writes a catalog that is about to be the tenant's; likewise. */
typedef struct {
    dp_entry *const *entries;
    size_t entry_count;
    const dp_alias_list *aliases;
    const dp_snap_list *snaps;
} dp_catalog;
ORT_NODISCARD ort_err dp_tenant__save_as(dp_tenant *t, const dp_catalog *catalog, ort_diag *diag);

/* collections.c */
void dp_entry__charge(dp_tenant *t, dp_entry *entry); /* t->lock held, or loading */
void dp_entry__uncharge(dp_tenant *t, dp_entry *entry);

/* Takes a dropped entry that nobody uses, opens or closes out of the tenant, t->lock held: true,
 * and the caller must bury it (close, trash and free, with no lock held) afterwards. */
bool dp_tenant__take_dropped(dp_tenant *t, dp_entry *entry);
void dp_tenant__bury(dp_tenant *t, dp_entry *entry);

/* Whether a collection of that name may be made; t->lock held. */
ORT_NODISCARD ort_err dp_tenant__check_new(dp_tenant *t, const char *name, size_t len,
                                           ort_diag *diag);

/* Puts an entry that leaves the catalog among the dropped; t->lock held, and there is room. */
ORT_NODISCARD ort_err dp_tenant__reserve_dropped(dp_tenant *t, size_t count);
void dp_tenant__drop_entry(dp_tenant *t, dp_entry *entry);

/* Order of names among the entries. */
int dp_tenant__compare(const char *a, size_t a_len, const char *b, size_t b_len);

/* The entry of a collection's name or of an alias of it; t->lock held, as for all that find. */
dp_entry *dp_tenant__resolve(dp_tenant *t, const char *name, size_t len);
dp_entry *dp_tenant__find(dp_tenant *t, const char *name, size_t len);
dp_entry *dp_tenant__find_id(dp_tenant *t, ort_collection_id id);
void dp_entry__free(dp_entry *entry);

/* home.c: the one collection whose files stand in the tenant's own directory. */

/* Opens the directory of an entry's data; -1 and errno, ENOENT also when it has no file yet. */
int dp_tenant__open_data(dp_tenant *t, const dp_entry *entry);

/* Makes it, where it is not there, and opens it. */
ORT_NODISCARD ort_err dp_tenant__make_data(dp_tenant *t, const dp_entry *entry, int *fd_out,
                                           ort_diag *diag);

/* Whether a file of a shard stands in that directory. */
bool dp_home__has_files(int tenant_fd);

/* Moves the files in the tenant's own directory to the trash; false: some may still be there. */
bool dp_home__trash(dp_tenant *t);

/* What a crash left there of a collection that was made, dropped or moved in. While loading. */
void dp_home__sweep(dp_tenant *t);

/* Takes the place for an entry if it is free; t->lock held. */
void dp_home__take(dp_tenant *t, dp_entry *entry);

/* Moves the files of a closed collection there, if the place is free, and saves the catalog; true:
 * that was done. t->change is held, t->lock is not. */
bool dp_home__settle(dp_tenant *t);

/* use.c */
int dp_tenant__open_folder(dp_tenant *t, const char *folder, const ort_collection_id *id);
ORT_NODISCARD ort_err dp_tenant__make_folder(dp_tenant *t, const char *folder, ort_collection_id id,
                                             int *fd_out, ort_diag *diag);

/* Closes an open entry that nobody uses; t->lock is held, is let go meanwhile, and is held again.
 * The catalog is saved by the caller. false: it was not OPEN or is in use. */
bool dp_tenant__close_entry(dp_tenant *t, dp_entry *entry);

/* Closes that collection if it is open, nobody uses it, and it was last used before `before_ms`;
 * then, once for all that were closed, dp_tenant__save_sizes(). */
bool dp_tenant__close_one(dp_tenant *t, ort_collection_id id, uint64_t before_ms);
void dp_tenant__save_sizes(dp_tenant *t);

/* Closes every collection that nobody uses, and saves the catalog. */
void dp_tenant__close_all(dp_tenant *t);

/* snapshots.c */

/* One of these at a time a tenant, a few a node. ORT_EBUSY. */
ORT_NODISCARD ort_err dp_tenant__job_begin(dp_tenant *t, ort_diag *diag);
void dp_tenant__job_end(dp_tenant *t);
ORT_NODISCARD ort_err dp_tenant__may_go_on(void *tenant, ort_diag *diag); /* dp_snapshot_bounds */

/* A copy with room for more. ORT_ENOMEM: *out is empty. */
ORT_NODISCARD ort_err dp_snap__copy(const dp_snap_list *list, size_t room, dp_snap_list *out);
void dp_snap__remove_of(dp_snap_list *list, ort_collection_id collection);

/* Those of the first list that belong to a collection (all: {0}) go to the trash. */
void dp_snap__trash_of(dp_tenant *t, const dp_snap_list *list, ort_collection_id collection);

/* aliases.c */
dp_alias *dp_alias__find(const dp_alias_list *list, const char *name, size_t len);
void dp_alias__clear(dp_alias_list *list);

/* The aliases without those of one collection; ORT_ENOMEM: *out is empty. */
ORT_NODISCARD ort_err dp_alias__without(const dp_alias_list *list, ort_collection_id id,
                                        dp_alias_list *out);
ORT_NODISCARD ort_err dp_alias__add(dp_alias_list *list, const char *name, size_t len,
                                    ort_collection_id id);

/* tenants.c */

/* Renames beneath the data directory into the trash, durably; ORT_OK when it is not there.
 * from_fd  the directory that holds it; synced too */
ORT_NODISCARD ort_err dp_tenants__trash(dp_tenants *all, int from_fd, const char *path,
                                        ort_diag *diag);

/* Keeps the list of what is open; the second is fine for an entry that is not in it. */
void dp_tenants__note_open(dp_tenants *all, dp_entry *entry);
void dp_tenants__note_closed(dp_tenants *all, dp_entry *entry);

/* scrub.c: reads cold files at the rate of the configuration; NULL where that is 0. */
typedef struct dp_scrub dp_scrub;
ORT_NODISCARD ort_err dp_scrub__start(dp_scrub **out, dp_tenants *all, ort_diag *diag);
void dp_scrub__stop(dp_scrub *scrub);
void dp_scrub__stats(const dp_scrub *scrub, dp_tenants_stats *out);

/* A path beneath tenants/: "<id>", "<id>/catalog.json", "<id>/collections/<id>" ... */
#define DP_TENANT_PATH_BYTES 80
void dp_tenant__path(const dp_tenant *t, const char *folder, const ort_collection_id *collection,
                     char out[DP_TENANT_PATH_BYTES]);

/* tenant.c */
ORT_NODISCARD ort_err dp_tenant__new(dp_tenant **out, dp_tenants *all, ort_tenant_id id,
                                     ort_diag *diag);
void dp_tenant__ref(dp_tenant *t);

/* Loads the catalog if it is not loaded yet. */
ORT_NODISCARD ort_err dp_tenant__ready(dp_tenant *t, ort_diag *diag);
#endif /* DP_TENANT_INTERNAL_H */
