/* The payload indexes of a shard. See payload_index_internal.h for their states. */
#include "collection/payload_index_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define SLICE_SLOTS 8192u      /* payloads read in one go of maintenance */
#define LAST_SLOTS 512u        /* added with writers held up, when an index becomes whole */
#define SMALL_POINTS 4096u     /* up to here indexes wait until filters ask for them, */
#define ASKS_MIN 3u            /* so often: one or two are answered sooner out of payloads */
#define SAVED_POINTS_MIN 4096u /* and are read from payloads sooner than from a file */
#define SWEEP_MIN 1024u        /* dead slots; or a quarter of the live ones */
#define RETRY_NS (UINT64_C(10) * 1000000000u)

static const ort_log log_ = {.module = "collection"};

ort_err
dp_payload__new(dp_payload_set **out, dp_fields *fields)
{
    dp_payload_set *set = calloc(1, sizeof *set);
    *out = set;
    if (set == NULL) {
        return ORT_ENOMEM;
    }
    set->fields = dp_fields_ref(fields);
    return ORT_OK;
}

static void
stop_making(dp_payload_set *set)
{
    for (size_t i = 0; i < set->making_count; i++) {
        dp_payload_index_free(set->making[i].index);
    }
    free(set->making);
    set->making = NULL;
    set->making_count = 0;
    dp_fields_unref(set->making_for);
    set->making_for = NULL;
}

/* Without any index, nobody keeps count of slots. */
static void
drop_counts(dp_payload_set *set)
{
    if (set->count == 0) {
        dp_slots_free(set->live);
        dp_slots_free(set->dead);
        set->live = set->dead = NULL;
    }
}

static void
drop_all(dp_payload_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        dp_payload_index_free(set->indexes[i]);
    }
    set->count = 0;
    set->change_count++;
    drop_counts(set);
}

static void
free_gone(dp_payload_index **gone, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dp_payload_index_free(gone[i]);
    }
    free(gone);
}

void
dp_payload__free(dp_payload_set *set)
{
    if (set == NULL) {
        return;
    }
    drop_all(set);
    stop_making(set);
    free_gone(set->gone, set->gone_count);
    free(set->indexes);
    dp_fields_unref(set->fields);
    free(set);
}

static bool
is_same_declaration(const dp_declared_field *a, const dp_declared_field *b)
{
    return a->name_len == b->name_len && memcmp(a->name, b->name, a->name_len) == 0 &&
           a->definition_len == b->definition_len &&
           memcmp(a->definition, b->definition, a->definition_len) == 0;
}

static bool
is_declared(const dp_fields *fields, const dp_declared_field *field)
{
    for (size_t i = 0; i < dp_fields_count(fields); i++) {
        if (is_same_declaration(dp_fields_peek(fields, i), field)) {
            return true;
        }
    }
    return false;
}

/* Maintenance may be reading it: it is freed there. Without memory to remember it by, it is leaked
 * rather than freed under a reader. */
static void
put_away(dp_payload_set *set, dp_payload_index *index)
{
    dp_payload_index **grown = realloc(set->gone, (set->gone_count + 1) * sizeof(*grown));
    if (grown != NULL) {
        set->gone = grown;
        grown[set->gone_count++] = index;
    }
}

void
dp_payload__declare(dp_shard *s, dp_fields *fields)
{
    dp_payload_set *set = s->payload;
    size_t n = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (is_declared(fields, dp_payload_index_field(set->indexes[i]))) {
            set->indexes[n++] = set->indexes[i];
        } else {
            put_away(set, set->indexes[i]);
        }
    }
    set->count = n;
    set->change_count++;
    drop_counts(set);
    dp_fields_unref(set->fields);
    set->fields = dp_fields_ref(fields);
    atomic_store(&set->asked, true); /* who declares an index is about to use it */
    atomic_store(&set->retry_ns, 0);
}

void
dp_payload__bury(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    pthread_rwlock_wrlock(&s->view);
    dp_payload_index **gone = set->gone;
    const size_t count = set->gone_count;
    set->gone = NULL;
    set->gone_count = 0;
    pthread_rwlock_unlock(&s->view);
    for (size_t i = 0; s->index_dir >= 0 && i < count; i++) {
        char name[DP_PAYLOAD_INDEX_NAME_BYTES];
        dp_payload_index_file_name(dp_payload_index_field(gone[i]), name);
        if (ort_tree_remove(s->index_dir, name, NULL) != ORT_OK) {
            ORT_LOG_WARN(&log_, "payload-index.left", "collection=%016" PRIx64 " file=%s",
                         s->collection.v, name); /* refused when it is read: declared otherwise */
        }
    }
    free_gone(gone, count);
}

void
dp_payload__forget(dp_shard *s)
{
    drop_all(s->payload);
    stop_making(s->payload);
    s->payload->saved_generation = 0;
}

/* --- in step with writes ------------------------------------------------------------------------
 */

/* The payload as a document, or NULL for {} (a damaged one matches as that). */
static ort_err
read_payload(dp_reader *reader, uint32_t slot, ort_json_doc **out)
{
    const char *text;
    size_t len;
    *out = NULL;
    const ort_err err = dp_points_payload(reader, slot, &text, &len, NULL);
    if (err != ORT_OK || len == 0) {
        return err;
    }
    return ort_json_parse(out, text, len, (ort_json_limits){0}, NULL) == ORT_ENOMEM ? ORT_ENOMEM
                                                                                    : ORT_OK;
}

static ort_json
root_of(ort_json_doc *doc)
{
    return doc != NULL ? ort_json_root(doc) : (ort_json){0};
}

void
dp_payload__add(dp_shard *s, dp_reader *reader, uint32_t slot)
{
    dp_payload_set *set = s->payload;
    ort_json_doc *doc;
    if (set->count == 0) {
        return;
    }
    ort_err err = read_payload(reader, slot, &doc);
    for (size_t i = 0; err == ORT_OK && i < set->count; i++) {
        err = dp_payload_index_add(set->indexes[i], slot, root_of(doc));
    }
    ort_json_free(doc);
    if (err != ORT_OK) { /* half of it: made again from the start, later */
        ORT_LOG_WARN(&log_, "payload-index.dropped", "collection=%016" PRIx64 " err=%d",
                     s->collection.v, err);
        drop_all(set);
        atomic_store(&set->retry_ns, ort_mono_ns() + RETRY_NS);
        return;
    }
    (void)dp_slots_add(set->live, slot);
}

void
dp_payload__remove(dp_shard *s, uint32_t slot)
{
    dp_payload_set *set = s->payload;
    if (set->count > 0) {
        dp_slots_remove(set->live, slot);
        (void)dp_slots_add(set->dead, slot);
    }
}

/* --- making -------------------------------------------------------------------------------------
 */

static bool
is_whole(const dp_payload_set *set, const dp_declared_field *field)
{
    for (size_t i = 0; i < set->count; i++) {
        if (is_same_declaration(dp_payload_index_field(set->indexes[i]), field)) {
            return true;
        }
    }
    return false;
}

static size_t
missing(const dp_payload_set *set)
{
    size_t n = 0;
    for (size_t i = 0; i < dp_fields_count(set->fields); i++) {
        n += !is_whole(set, dp_fields_peek(set->fields, i));
    }
    return n;
}

static bool
sweep_is_due(const dp_payload_set *set)
{
    if (set->count == 0) {
        return false;
    }
    const uint64_t dead = dp_slots_count(set->dead);
    return dead >= SWEEP_MIN && dead >= dp_slots_count(set->live) / 4;
}

bool
dp_payload__is_due(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    pthread_rwlock_rdlock(&s->view);
    bool due = sweep_is_due(set);
    if (!due && dp_fields_count(set->fields) > set->count &&
        ort_mono_ns() >= atomic_load(&set->retry_ns)) {
        due = (atomic_load(&set->asked) || dp_points_live_count(s->points) > SMALL_POINTS) &&
              missing(set) > 0;
    }
    pthread_rwlock_unlock(&s->view);
    return due;
}

static dp_payload_index_stamp
stamp_of(const dp_shard *s)
{
    return (dp_payload_index_stamp){.tenant = s->tenant,
                                    .collection = s->collection,
                                    .generation = dp_points_generation(s->points),
                                    .slot_end = dp_points_sealed_end(s->points)};
}

/* An index of field i: from its file, or empty. */
static ort_err
begin_one(dp_shard *s, size_t i, dp_payload_making *out)
{
    dp_fields *fields = s->payload->making_for;
    const dp_payload_index_stamp stamp = stamp_of(s);
    ort_diag diag;
    *out = (dp_payload_making){0};
    if (s->index_dir >= 0 && stamp.slot_end > 0) {
        const ort_err err =
            dp_payload_index_load(&out->index, fields, i, s->index_dir, &stamp, &diag);
        if (err == ORT_OK) {
            out->from = stamp.slot_end;
            out->was_saved = true;
            return ORT_OK;
        }
        if (err != ORT_ENOTFOUND) {
            ORT_LOG_WARN(&log_, "payload-index.rebuild", "collection=%016" PRIx64 " err=%s",
                         s->collection.v, diag.text);
        }
    }
    return dp_payload_index_new(&out->index, fields, i);
}

static ort_err
begin_making(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    pthread_rwlock_rdlock(&s->view);
    dp_fields *fields = dp_fields_ref(set->fields);
    const size_t count = missing(set);
    pthread_rwlock_unlock(
        &s->view); /* more only when it is declared otherwise: that is seen later */
    set->making_for = fields;
    set->making = calloc(count + 1, sizeof *set->making);
    set->making_next = UINT32_MAX;
    ort_err err = set->making != NULL ? ORT_OK : ORT_ENOMEM;
    for (size_t i = 0; err == ORT_OK && i < dp_fields_count(fields); i++) {
        pthread_rwlock_rdlock(&s->view);
        const bool whole = is_whole(set, dp_fields_peek(fields, i));
        pthread_rwlock_unlock(&s->view);
        if (whole || set->making_count == count) {
            continue;
        }
        dp_payload_making *m = &set->making[set->making_count];
        err = begin_one(s, i, m);
        if (err == ORT_OK) {
            set->making_count++;
            set->making_next = m->from < set->making_next ? m->from : set->making_next;
        }
    }
    return err;
}

/* Adds the live slots of making_next .. end to what is being made. */
static ort_err
add_slots(dp_shard *s, dp_reader *reader, uint32_t end)
{
    dp_payload_set *set = s->payload;
    ort_err err = ORT_OK;
    for (uint32_t slot = dp_points_next_live(s->points, set->making_next);
         err == ORT_OK && slot < end; slot = dp_points_next_live(s->points, slot + 1)) {
        ort_json_doc *doc;
        err = read_payload(reader, slot, &doc);
        if (err != ORT_OK && !dp_points_is_live(s->points, slot)) {
            err = ORT_OK; /* it died meanwhile, and its payload may be gone */
            continue;
        }
        for (size_t i = 0; err == ORT_OK && i < set->making_count; i++) {
            if (slot >= set->making[i].from) {
                err = dp_payload_index_add(set->making[i].index, slot, root_of(doc));
            }
        }
        ort_json_free(doc);
    }
    set->making_next = end;
    return err;
}

static dp_slots *
live_slots(const dp_points *points)
{
    const _Atomic(uint64_t) *live = dp_points_live_words(points);
    const uint32_t end = dp_points_slot_end(points);
    const size_t words = (size_t)end / 64 + 1;
    uint64_t *copy = malloc(words * sizeof *copy);
    if (copy == NULL) {
        return NULL;
    }
    for (size_t w = 0; w < words; w++) {
        copy[w] = w * 64 < end ? atomic_load_explicit((_Atomic(uint64_t) *)(uintptr_t)&live[w],
                                                      memory_order_relaxed)
                               : 0;
    }
    dp_slots *set = dp_slots_of_words(copy, end);
    free(copy);
    if (set != NULL) {
        dp_slots_trim(set);
    }
    return set;
}

/* With writers held up: the last slots, and from now on apply keeps them. */
static ort_err
publish(dp_shard *s, dp_reader *reader)
{
    dp_payload_set *set = s->payload;
    ort_err err = add_slots(s, reader, dp_points_slot_end(s->points));
    dp_payload_index **grown =
        err == ORT_OK ? realloc(set->indexes, (set->count + set->making_count + 1) * sizeof(*grown))
                      : NULL;
    if (grown == NULL) {
        return err != ORT_OK ? err : ORT_ENOMEM;
    }
    set->indexes = grown;
    if (set->count == 0) {
        set->live = live_slots(s->points);
        set->dead = dp_slots_new();
        if (set->live == NULL || set->dead == NULL) {
            drop_counts(set);
            return ORT_ENOMEM;
        }
    }
    for (size_t i = 0; i < set->making_count; i++) {
        dp_slots *stray = dp_payload_index_stray(set->making[i].index, set->live);
        if (stray != NULL) { /* died while it was made: for the next sweep */
            dp_slots_or_into(set->dead, stray);
            dp_slots_free(stray);
        }
        grown[set->count++] = set->making[i].index;
        set->making[i].index = NULL;
    }
    return ORT_OK;
}

static void
make(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    dp_reader reader;
    bool fresh = false, whole = false;
    pthread_rwlock_rdlock(&s->view);
    bool stale = set->making != NULL && set->making_for != set->fields;
    pthread_rwlock_unlock(&s->view);
    if (stale) {
        stop_making(set);
    }
    ort_err err = set->making == NULL ? begin_making(s) : ORT_OK;
    dp_reader_init(&reader, s->points);
    if (err == ORT_OK) {
        const uint32_t end = atomic_load_explicit(&s->slot_end, memory_order_acquire);
        const uint32_t next = set->making_next;
        err = add_slots(s, &reader,
                        end > next && end - next > SLICE_SLOTS ? next + SLICE_SLOTS
                        : end > next                           ? end
                                                               : next);
    }
    for (size_t i = 0; set->making != NULL && i < set->making_count; i++) {
        fresh = fresh || !set->making[i].was_saved;
    }
    pthread_rwlock_wrlock(&s->view);
    stale = set->making_for != set->fields; /* declared otherwise meanwhile: from the beginning */
    if (err == ORT_OK && !stale && dp_points_slot_end(s->points) <= set->making_next + LAST_SLOTS) {
        err = publish(s, &reader);
        whole = err == ORT_OK;
    }
    pthread_rwlock_unlock(&s->view);
    dp_reader_fini(&reader);
    if (err != ORT_OK) {
        ORT_LOG_WARN(&log_, "payload-index.failed", "collection=%016" PRIx64 " err=%d",
                     s->collection.v, err);
        atomic_store(&set->retry_ns, ort_mono_ns() + RETRY_NS);
    }
    if (err != ORT_OK || whole || stale) {
        stop_making(set);
    }
    if (whole) {
        atomic_store(&set->asked, false);
        if (fresh) {
            dp_payload__save(s);
        }
    }
}

/* --- sweeping -----------------------------------------------------------------------------------
 */

/* One index at a time, so that readers wait for no more than one. */
static void
sweep(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    ort_err err = ORT_OK;
    pthread_rwlock_rdlock(&s->view);
    dp_slots *dead = sweep_is_due(set) ? dp_slots_copy(set->dead) : NULL;
    const uint64_t change_count = set->change_count;
    pthread_rwlock_unlock(&s->view);
    for (size_t i = 0; dead != NULL; i++) {
        pthread_rwlock_wrlock(&s->view);
        const bool more = i < set->count;
        if (more && err == ORT_OK) {
            err = dp_payload_index_sweep(set->indexes[i], dead);
        } else if (!more && err == ORT_OK && set->count > 0 &&
                   set->change_count == change_count) { /* else one may have been passed over */
            dp_slots_minus_into(set->dead, dead);
        }
        pthread_rwlock_unlock(&s->view);
        if (!more) {
            break;
        }
    }
    dp_slots_free(dead);
}

void
dp_payload__tend(dp_shard *s)
{
    if (!dp_payload__is_due(s)) {
        return;
    }
    sweep(s);
    pthread_rwlock_rdlock(&s->view);
    const size_t wanted = missing(s->payload);
    pthread_rwlock_unlock(&s->view);
    if (wanted > 0) {
        make(s);
    }
}

/* Index i of the set as it was at `changes`; NULL: there is none, or others stand there now. view
 * is held. */
static dp_payload_index *
index_at(const dp_payload_set *set, size_t i, uint64_t changes)
{
    return set->change_count == changes && i < set->count ? set->indexes[i] : NULL;
}

/* Copied in steps with writers held up, written with nobody held up. What was sealed by the
 * checkpoint does not change meanwhile: later slots are left out, and only maintenance sweeps.
 * *more false: there is no index i, or the set is another one. */
static ort_err
save_one(dp_shard *s, size_t i, uint64_t changes, const dp_payload_index_stamp *stamp, bool *more,
         ort_diag *diag)
{
    dp_payload_set *set = s->payload;
    dp_payload_saving *saving = NULL;
    ort_err err = ORT_OK;
    pthread_rwlock_rdlock(&s->view);
    const dp_payload_index *x = index_at(set, i, changes);
    *more = x != NULL;
    if (x != NULL && dp_payload_saving_new(&saving, x, stamp) != ORT_OK) {
        err = ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    pthread_rwlock_unlock(&s->view);
    for (bool left = saving != NULL; left;) {
        pthread_rwlock_rdlock(&s->view);
        *more = index_at(set, i, changes) != NULL; /* else it may be freed by now */
        left = *more && dp_payload_saving_step(saving);
        pthread_rwlock_unlock(&s->view);
    }
    if (saving != NULL && *more) {
        err = dp_payload_saving_write(saving, s->index_dir, diag);
    }
    dp_payload_saving_free(saving);
    return err;
}

void
dp_payload__save(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    const dp_payload_index_stamp stamp = stamp_of(s);
    pthread_rwlock_rdlock(&s->view);
    const bool any = set->count > 0;
    const uint64_t changes = set->change_count;
    pthread_rwlock_unlock(&s->view);
    if (!any || stamp.slot_end < SAVED_POINTS_MIN) {
        return;
    }
    if (s->index_dir < 0 && s->make_index_dir != NULL) {
        s->index_dir = s->make_index_dir(s->index_arg);
    }
    bool more = s->index_dir >= 0;
    for (size_t i = 0; more; i++) {
        ort_diag diag;
        if (save_one(s, i, changes, &stamp, &more, &diag) != ORT_OK) {
            ORT_LOG_WARN(&log_, "payload-index.save", "collection=%016" PRIx64 " err=%s",
                         s->collection.v, diag.text);
        }
    }
    set->saved_generation = stamp.generation;
}

/* --- asking -------------------------------------------------------------------------------------
 */

static bool
find_id(void *ctx, ort_point_id id, uint32_t *slot)
{
    dp_matcher *m = ctx;
    return dp_points_find(m->reader, id, slot, NULL) == ORT_OK;
}

static int
has_vector(void *ctx, const char *name)
{
    const dp_matcher *m = ctx;
    const int column = dp_schema_find_vector(m->schema, name, strlen(name));
    if (column < 0) {
        return 0;
    }
    const uint64_t with = m->s->derived[column].live_count;
    return with == dp_points_live_count(m->s->points) ? 1 : with == 0 ? 0 : -1;
}

/* Thousands of tenants come back for a search and leave again: an index for each would be most of
 * what that costs. */
static void
note_asked(dp_shard *s)
{
    dp_payload_set *set = s->payload;
    if (dp_points_live_count(s->points) > SMALL_POINTS ||
        atomic_fetch_add_explicit(&set->asks, 1, memory_order_relaxed) + 1 >= ASKS_MIN) {
        atomic_store(&set->asked, true);
    }
}

ort_err
dp_payload__evaluate(dp_matcher *m, dp_verdict *out, bool *useful)
{
    dp_payload_set *set = m->s != NULL ? m->s->payload : NULL;
    *out = (dp_verdict){0};
    *useful = false;
    if (set == NULL || dp_filter_is_empty(m->filter)) {
        return ORT_OK;
    }
    if (set->count < dp_fields_count(set->fields)) {
        note_asked(m->s);
    }
    if (set->count == 0) {
        return ORT_OK;
    }
    ort_err err = dp_matcher__bind(m);
    if (err != ORT_OK) {
        return err;
    }
    const dp_evaluation over = {.indexes = set->indexes,
                                .index_count = set->count,
                                .live = set->live,
                                .texts = m->texts,
                                .find = find_id,
                                .has_vector = has_vector,
                                .ctx = m};
    err = dp_filter_evaluate(m->filter, &over, out);
    *useful = err == ORT_OK && out->narrowed;
    if (!*useful) {
        dp_verdict_fini(out);
    }
    return err != ORT_OK ? ort_fail(m->diag, err, "out of memory") : ORT_OK;
}

const dp_payload_index *
dp_payload__find(dp_shard *s, const char *path, size_t len)
{
    dp_payload_set *set = s->payload;
    for (size_t i = 0; i < set->count; i++) {
        const dp_declared_field *f = dp_payload_index_field(set->indexes[i]);
        if (f->name_len == len && memcmp(f->name, path, len) == 0) {
            return set->indexes[i];
        }
    }
    if (set->count < dp_fields_count(set->fields)) {
        atomic_store(&set->asked, true);
    }
    return NULL;
}

size_t
dp_payload__bytes(const dp_payload_set *set)
{
    size_t bytes = sizeof *set;
    for (size_t i = 0; i < set->count; i++) {
        bytes += dp_payload_index_bytes(set->indexes[i]);
    }
    if (set->count > 0) {
        bytes += dp_slots_bytes(set->live) + dp_slots_bytes(set->dead);
    }
    return bytes;
}
