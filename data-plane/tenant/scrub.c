/* The scrubber: reads what nobody does, slowly, so that damage is heard of while there is still a
 * backup or a replica without it.
 *
 * A round goes over the tenants in the order of their ids, over the collections of each that are
 * closed (what is open is read by its users, and its files move), and over its snapshots. It takes
 * no lock: a first search must not wait for it, so a collection that was opened meanwhile is
 * forgotten and comes again in the next round. Where it stands is kept in the file `scrub` of the
 * data directory,
 *
 *   <id of the last tenant done> <when the round began, wall ms>\n
 *
 * so that a node that is restarted every day gets through, too. It changes nothing else: see
 * inspect/ for repair. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "storage/points.h"
#include "tenant/tenant_internal.h"

#define STATE_FILE "scrub"
#define STATE_EVERY_MS 10000u
#define SLEEP_STEP_MS 100u
#define SNAPSHOT_STEP (1u << 20)

static const ort_log log_ = {"scrub"};

struct dp_scrub {
    dp_tenants *all;
    pthread_t thread;
    atomic_bool stop;
    _Atomic uint64_t bytes, rounds, damaged; /* damaged: found in the round before, or this one */
    uint64_t found;                          /* in this round */
    uint64_t due_ns;                         /* when what was read so far may have been read */
    uint64_t saved_ms;
    uint64_t began_ms; /* the round; wall */
    ort_tenant_id done;
};

/* --- time ------------------------------------------------------------------------------------- */

/* false: the node is closing. */
static bool
sleep_until(dp_scrub *s, uint64_t mono_ns)
{
    for (uint64_t now; !atomic_load(&s->stop) && (now = ort_mono_ns()) < mono_ns;) {
        const uint64_t step = SLEEP_STEP_MS * UINT64_C(1000000);
        const uint64_t left = mono_ns - now < step ? mono_ns - now : step;
        const struct timespec nap = {.tv_sec = 0, .tv_nsec = (long)left};
        nanosleep(&nap, NULL);
    }
    return !atomic_load(&s->stop);
}

static bool
pay(dp_scrub *s, uint64_t bytes)
{
    const uint64_t now = ort_mono_ns();
    atomic_fetch_add(&s->bytes, bytes);
    s->due_ns = (s->due_ns > now ? s->due_ns : now) +
                bytes * UINT64_C(1000000000) / s->all->config.scrub_bytes_per_s;
    return sleep_until(s, s->due_ns);
}

/* --- where it stands -------------------------------------------------------------------------- */

static void
load_state(dp_scrub *s)
{
    ort_buf text = {0};
    char id[ORT_ID_TEXT_BYTES] = "";
    const ort_err err = ort_file_read(s->all->data_fd, STATE_FILE, 256, &text, NULL);
    const char *line = err == ORT_OK ? ort_buf_peek_cstr(&text) : NULL;
    if (line == NULL || sscanf(line, "%16s %" SCNu64, id, &s->began_ms) != 2 ||
        ort_id_parse(id, strlen(id), &s->done.v) != ORT_OK) {
        s->done.v = 0; /* from the beginning */
        s->began_ms = (uint64_t)ort_wall_ms();
    }
    ort_buf_fini(&text);
}

static void
save_state(dp_scrub *s, bool now)
{
    char id[ORT_ID_TEXT_BYTES], text[64];
    if (!now && ort_mono_ms() - s->saved_ms < STATE_EVERY_MS) {
        return;
    }
    s->saved_ms = ort_mono_ms();
    ort_id_format(s->done.v, id);
    const int n = snprintf(text, sizeof text, "%s %" PRIu64 "\n", id, s->began_ms);
    const ort_err err = ort_file_replace(s->all->data_fd, STATE_FILE, text, (size_t)n, 0600, NULL);
    (void)err; /* then a restart begins further back */
}

/* --- one tenant ------------------------------------------------------------------------------- */

/* How often the collection was opened by this process; *open: it is now. */
static uint32_t
times_opened(dp_tenants *all, ort_tenant_id tenant, ort_collection_id id, bool *open)
{
    uint32_t times = 0;
    *open = false;
    pthread_mutex_lock(&all->lock);
    dp_tenant *t = ort_map_get(all->map, &tenant.v, sizeof tenant.v);
    if (t != NULL) {
        dp_tenant__ref(t);
    }
    pthread_mutex_unlock(&all->lock);
    if (t != NULL) {
        pthread_mutex_lock(&t->lock);
        const dp_entry *e = t->loaded ? dp_tenant__find_id(t, id) : NULL;
        if (e != NULL) {
            times = e->times_opened;
            *open = e->state != DP_ENTRY_CLOSED;
        }
        pthread_mutex_unlock(&t->lock);
    }
    dp_tenant_unref(t);
    return times;
}

typedef struct {
    dp_scrub *scrub;
    ort_tenant_id tenant;
    ort_collection_id id;
    uint32_t times;
} one_collection;

static bool
was_opened(const one_collection *one)
{
    bool open;
    return times_opened(one->scrub->all, one->tenant, one->id, &open) != one->times || open;
}

static bool
pace(void *arg, uint64_t bytes)
{
    const one_collection *one = arg;
    return pay(one->scrub, bytes) && !was_opened(one);
}

static void
tell_damage(dp_scrub *s, ort_tenant_id tenant, const ort_collection_id *id, ort_err err,
            const char *why)
{
    char t[ORT_ID_TEXT_BYTES], c[ORT_ID_TEXT_BYTES] = "";
    ort_id_format(tenant.v, t);
    if (id != NULL) {
        ort_id_format(id->v, c);
    }
    s->found++;
    if (s->found > atomic_load(&s->damaged)) {
        atomic_store(&s->damaged, s->found);
    }
    ORT_LOG_ERROR(&log_, "scrub.damaged", "tenant=%s collection=%s code=%s err=%s", t, c,
                  ort_err_code(err), why);
}

static ort_err
scrub_collection(void *ctx, const dp_catalog_entry *e, ort_diag *diag)
{
    one_collection *one = ctx;
    dp_scrub *s = one->scrub;
    dp_verify_report report;
    ort_diag why = {""};
    bool open;
    char path[2 * ORT_ID_TEXT_BYTES + 16], tenant[ORT_ID_TEXT_BYTES], id[ORT_ID_TEXT_BYTES];
    (void)diag;
    one->id = e->id;
    one->times = times_opened(s->all, one->tenant, e->id, &open);
    ort_id_format(one->tenant.v, tenant);
    ort_id_format(e->id.v, id);
    snprintf(path, sizeof path, "%s%s%s", tenant, e->home ? "" : "/collections/",
             e->home ? "" : id);
    const int dir =
        open ? -1 : ort_open_beneath(s->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
    if (dir >= 0) {
        const ort_err err =
            dp_storage_verify_paced(dir, one->tenant, e->id, pace, one, &report, &why);
        /* Files that were written meanwhile may have looked damaged; a collection that was dropped
         * has none. */
        if ((err == ORT_ECORRUPT || err == ORT_EIO) && !was_opened(one) && !atomic_load(&s->stop)) {
            const int still = ort_open_beneath(s->all->tenants_fd, path, O_RDONLY | O_DIRECTORY, 0);
            if (still >= 0) {
                tell_damage(s, one->tenant, &e->id, err, why.text);
            }
            ort_fd_close(still);
        }
    }
    ort_fd_close(dir);
    return atomic_load(&s->stop) ? ORT_EBUSY : ORT_OK;
}

/* A file that is written once and named by its SHA-256: that of what is read tells all. It may be
 * deleted meanwhile, and is whole for who has it open. */
static ort_err
scrub_snapshot(void *ctx, ort_collection_id file, ort_collection_id collection,
               const dp_snapshot_info *info, ort_diag *diag)
{
    const one_collection *one = ctx;
    dp_scrub *s = one->scrub;
    char path[2 * ORT_ID_TEXT_BYTES + 16], tenant[ORT_ID_TEXT_BYTES], id[ORT_ID_TEXT_BYTES];
    ort_sha256 digest;
    ort_hash got;
    ort_err err = ORT_OK;
    ort_id_format(one->tenant.v, tenant);
    ort_id_format(file.v, id);
    snprintf(path, sizeof path, "%s/snapshots/%s", tenant, id);
    const int fd = ort_open_beneath(s->all->tenants_fd, path, O_RDONLY, 0);
    unsigned char *room = fd >= 0 ? malloc(SNAPSHOT_STEP) : NULL;
    ort_sha256_init(&digest);
    for (uint64_t at = 0; room != NULL && err == ORT_OK && at < info->bytes;) {
        const uint64_t left = info->bytes - at;
        const size_t n = left < SNAPSHOT_STEP ? (size_t)left : SNAPSHOT_STEP;
        err = ort_pread_full(fd, room, n, at, NULL);
        ort_sha256_put(&digest, room, err == ORT_OK ? n : 0);
        at += n;
        if (!pay(s, n)) {
            err = ORT_EBUSY;
        }
    }
    ort_sha256_done(&digest, &got);
    if (room != NULL && (err == ORT_EIO || err == ORT_ECORRUPT ||
                         (err == ORT_OK && !ort_hash_equal(&got, &info->sha256)))) {
        (void)ort_fail(diag, ORT_ECORRUPT, "snapshot %s: it is not what was written", info->name);
        tell_damage(s, one->tenant, &collection, ORT_ECORRUPT, diag->text);
    }
    free(room);
    ort_fd_close(fd);
    return atomic_load(&s->stop) ? ORT_EBUSY : ORT_OK;
}

static void
scrub_tenant(dp_scrub *s, ort_tenant_id id)
{
    char name[ORT_ID_TEXT_BYTES];
    ort_diag why = {""};
    one_collection one = {.scrub = s, .tenant = id};
    ort_id_format(id.v, name);
    const int dir = ort_open_beneath(s->all->tenants_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return; /* deleted meanwhile */
    }
    ort_err err = dp_catalog_read(dir, DP_CATALOG_NAME, id, scrub_collection, &one, &why);
    if (err == ORT_OK) {
        err = dp_catalog_read_snapshots(dir, id, scrub_snapshot, &one, &why);
    }
    ort_fd_close(dir);
    if (err == ORT_ECORRUPT || err == ORT_EIO) {
        tell_damage(s, id, NULL, err, why.text);
    }
    (void)pay(s, 4096); /* a catalog is a page or two, and has to be asked for */
}

/* --- a round ---------------------------------------------------------------------------------- */

static int
by_id(const void *x, const void *y)
{
    const uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* The tenants behind the last one done; the caller's to free. */
static uint64_t *
list_tenants(dp_scrub *s, size_t *count)
{
    uint64_t *ids = NULL;
    size_t cap = 0;
    *count = 0;
    const int fd = ort_open_beneath(s->all->data_fd, "tenants", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        ort_fd_close(fd);
        return NULL;
    }
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        uint64_t id;
        if (ort_id_parse(d->d_name, strlen(d->d_name), &id) != ORT_OK || id <= s->done.v) {
            continue;
        }
        if (*count == cap) {
            cap = cap == 0 ? 256 : 2 * cap;
            uint64_t *more = realloc(ids, cap * sizeof *more);
            if (more == NULL) {
                break; /* the next round looks at the rest */
            }
            ids = more;
        }
        ids[(*count)++] = id;
    }
    closedir(dir);
    if (*count > 0) {
        qsort(ids, *count, sizeof *ids, by_id);
    }
    return ids;
}

static void
scrub_round(dp_scrub *s)
{
    size_t count;
    uint64_t *ids = list_tenants(s, &count);
    for (size_t i = 0; i < count && !atomic_load(&s->stop); i++) {
        scrub_tenant(s, (ort_tenant_id){ids[i]});
        if (!atomic_load(&s->stop)) {
            s->done.v = ids[i];
            save_state(s, false);
        }
    }
    free(ids);
}

static void *
scrub_main(void *arg)
{
    dp_scrub *s = arg;
    load_state(s);
    while (!atomic_load(&s->stop)) {
        scrub_round(s);
        if (atomic_load(&s->stop)) {
            break;
        }
        atomic_store(&s->damaged, s->found);
        atomic_fetch_add(&s->rounds, 1);
        ORT_LOG_INFO(&log_, "scrub.round", "bytes=%" PRIu64 " damaged=%" PRIu64,
                     atomic_load(&s->bytes), s->found);
        const uint64_t took_ms = (uint64_t)ort_wall_ms() - s->began_ms;
        const uint64_t round_ms = s->all->config.scrub_round_ms;
        const uint64_t rest_ms = took_ms < round_ms ? round_ms - took_ms : 0;
        /* At least a moment between rounds over nothing. */
        if (!sleep_until(s, ort_mono_ns() + (rest_ms + SLEEP_STEP_MS) * UINT64_C(1000000))) {
            break;
        }
        s->found = 0;
        s->done.v = 0;
        s->began_ms = (uint64_t)ort_wall_ms();
    }
    save_state(s, true);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------- */

ort_err
dp_scrub__start(dp_scrub **out, dp_tenants *all, ort_diag *diag)
{
    *out = NULL;
    if (all->config.scrub_bytes_per_s == 0) {
        return ORT_OK;
    }
    dp_scrub *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "scrubber");
    }
    s->all = all;
    const ort_err err = ort_thread_start(&s->thread, "scrub", scrub_main, s, diag);
    if (err != ORT_OK) {
        free(s);
        return err;
    }
    *out = s;
    return ORT_OK;
}

void
dp_scrub__stop(dp_scrub *s)
{
    if (s != NULL) {
        atomic_store(&s->stop, true);
        pthread_join(s->thread, NULL);
        free(s);
    }
}

void
dp_scrub__stats(const dp_scrub *s, dp_tenants_stats *out)
{
    if (s != NULL) {
        out->scrub_bytes = atomic_load(&s->bytes);
        out->scrub_rounds = atomic_load(&s->rounds);
        out->scrub_damaged = atomic_load(&s->damaged);
    }
}
