/* Repair of points: those of the old segments that are good go into new ones. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "storage/io.h"
#include "storage/points_internal.h"
#include "storage/repair_internal.h"
#include "storage/segment_internal.h"

#define FOLD_POINTS 65536u /* put into memory before they are folded into a segment */

/* A block that was unpacked last, of a stream. */
typedef struct {
    const dp_segment *segment;
    uint32_t block;
    ort_buf bytes;
} unpacked;

/* Whether a span of checksummed rows is good; the last two of a column. */
typedef struct {
    const dp_segment *segment;
    uint32_t span;
    bool good;
} checked_span;

typedef struct {
    dp_repair *r;
    dp_column columns[DP_COLUMNS_MAX];
    uint32_t column_count;
    unpacked payload, streams[DP_COLUMNS_MAX];
    checked_span spans[DP_COLUMNS_MAX][2];
    dp_points *fresh;
    dp_log_mark mark;
    uint32_t unfolded, named;
} salvage;

/* --- the old segments ------------------------------------------------------------------------- */

typedef struct {
    dp_segment **items;
    uint32_t count;
    uint64_t id_max; /* of their file names, also of those that do not open */
    dp_repair *r;
} segment_pile;

static void
segments_close(segment_pile *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        dp_segment_close(p->items[i]);
    }
    free(p->items);
}

/* What the manifest would say of it, from its own head. */
static ort_err
read_ref(dp_repair *r, const char *name, dp_segment_ref *out, ort_diag *diag)
{
    unsigned char head[88];
    int fd = -1;
    ort_err err = dp_io_open(r->dir_fd, name, O_RDONLY, &fd, diag);
    if (err == ORT_OK) {
        err = dp_io_read(fd, head, sizeof head, 0, diag);
    }
    dp_io_close(fd);
    if (err == ORT_OK) {
        *out = (dp_segment_ref){.id = ort_get_u64(head + 32),
                                .uid = ort_get_u64(head + 40),
                                .file_bytes = ort_get_u64(head + 72)};
    }
    return err;
}

static ort_err
open_one(void *ctx, const char *name, ort_diag *diag)
{
    segment_pile *p = ctx;
    dp_segment_ref ref;
    ort_diag why = {""};
    uint64_t id;
    if (ort_id_parse(name + 4, strlen(name + 4), &id) != ORT_OK) {
        return ORT_OK;
    }
    p->id_max = id > p->id_max ? id : p->id_max;
    dp_segment **more = realloc(p->items, (p->count + 1) * sizeof(dp_segment *));
    if (more == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of segments");
    }
    p->items = more;
    ort_err err = read_ref(p->r, name, &ref, &why);
    if (err == ORT_OK && ref.id != id) {
        err = ort_fail(&why, ORT_ECORRUPT, "it says it is segment %016" PRIx64, ref.id);
    }
    if (err == ORT_OK) {
        err = dp_segment_open(&p->items[p->count], p->r->dir_fd, &ref, p->r->tenant, p->r->shard,
                              &why);
    }
    if (err == ORT_OK) {
        p->count++;
    } else {
        dp_repair__say(p->r, "of no use: %s: %s", name, why.text);
    }
    return err == ORT_ENOMEM ? err : ORT_OK;
}

ort_err
dp_repair__newest_version(dp_repair *r, uint64_t *out, ort_diag *diag)
{
    segment_pile p = {.r = r};
    *out = 0;
    const ort_err err = dp_repair__each(r, "seg.", open_one, &p, diag);
    for (uint32_t i = 0; i < p.count; i++) {
        for (uint32_t k = 0; k < dp_segment_slots(p.items[i]); k++) {
            const uint64_t v = ort_get_u64(dp_segment_versions(p.items[i]) + (size_t)k * 8);
            *out = v > *out ? v : *out;
        }
    }
    segments_close(&p);
    return err;
}

/* --- one point -------------------------------------------------------------------------------- */

static ort_err
read_stream(unpacked *u, const dp_segment *s, uint32_t column_id, uint32_t p, dp_value *out,
            ort_diag *diag)
{
    dp_segment_place place;
    *out = (dp_value){0};
    ort_err err = dp_segment_locate(s, column_id, p, &place, diag);
    if (err != ORT_OK || place.len == 0) {
        return err;
    }
    if (u->segment != s || u->block != place.block) {
        u->segment = NULL;
        err = dp_segment_unpack(s, column_id, place.block, &u->bytes, diag);
        if (err != ORT_OK) {
            return err;
        }
        u->segment = s;
        u->block = place.block;
    }
    const bool headed = column_id != DP_STREAM_PAYLOAD;
    if (headed && u->bytes.data[place.at] != 1) {
        return ort_fail(diag, ORT_ECORRUPT, "a value of column %" PRIu32 " has no head", column_id);
    }
    *out = (dp_value){u->bytes.data + place.at + headed, place.len - headed};
    return ORT_OK;
}

static const dp_section *
rows_section(const dp_segment *s, uint32_t column_id)
{
    for (uint32_t i = 0; i < s->section_count; i++) {
        if (s->sections[i].kind == DP_SECTION_ROWS && s->sections[i].column_id == column_id) {
            return &s->sections[i];
        }
    }
    return NULL;
}

/* Whether the span of a section has the right checksum. Read, not looked at where it is mapped: a
 * page that the disk does not give is an error then. */
static bool
span_is_good(checked_span *known, const dp_segment *s, const dp_section *section, uint32_t span)
{
    checked_span *k = &known[span % 2];
    if (k->segment == s && k->span == span) {
        return k->good;
    }
    const uint64_t at = (uint64_t)span * DP_SEGMENT_CRC_SPAN;
    const uint64_t left = section->bytes - at;
    const size_t n = left < DP_SEGMENT_CRC_SPAN ? (size_t)left : DP_SEGMENT_CRC_SPAN;
    unsigned char *copy = malloc(n);
    const bool good =
        copy != NULL && dp_io_read(s->fd, copy, n, section->offset + at, NULL) == ORT_OK &&
        ort_crc32c(0, copy, n) == ort_get_u32(s->crcs + (size_t)(section->crc_first + span) * 4);
    free(copy);
    *k = (checked_span){s, span, good};
    return good;
}

static ort_err
read_row(salvage *v, uint32_t column, const dp_segment *s, uint32_t p, dp_value *out,
         ort_diag *diag)
{
    const dp_column *c = &v->columns[column];
    dp_segment_column have;
    *out = (dp_value){0};
    const ort_err err = dp_segment_column_of(s, c, &have, diag);
    if (err != ORT_OK || have.rows == NULL || have.present == NULL ||
        (have.present[p / 8] >> (p % 8) & 1) == 0) {
        return err;
    }
    const dp_section *section = rows_section(s, c->id);
    const uint64_t begin = (uint64_t)p * have.stride;
    const uint32_t row_bytes = dp_column_row_bytes(c);
    const uint64_t end = begin + row_bytes;
    for (uint64_t span = begin / DP_SEGMENT_CRC_SPAN; span * DP_SEGMENT_CRC_SPAN < end; span++) {
        if (!span_is_good(v->spans[column], s, section, (uint32_t)span)) {
            return ort_fail(diag, ORT_ECORRUPT, "its vector is among damaged bytes");
        }
    }
    *out = (dp_value){have.rows + begin, row_bytes};
    return ORT_OK;
}

static ort_err
fold(salvage *v, bool last, ort_diag *diag)
{
    dp_checkpoint *c = NULL;
    const dp_checkpoint_options options = {.merge_all = last};
    ort_err err = dp_points_freeze(v->fresh, v->mark, &c, diag);
    if (err == ORT_OK) {
        err = dp_checkpoint_write(c, &options, diag);
    }
    dp_checkpoint_free(c);
    v->unfolded = 0;
    return err;
}

static void
tell_lost(salvage *v, ort_point_id id, const ort_diag *why)
{
    char text[ORT_POINT_ID_TEXT_BYTES];
    v->r->report->points_lost++;
    if (v->named++ < DP_REPAIR_NAMED_MAX) {
        ort_point_id_format(id, text);
        dp_repair__say(v->r, "lost: point %s: %s", text, why->text);
    }
}

/* Copies the point at position p of a segment. A damaged one is told of; an error ends it all. */
static ort_err
copy_point(salvage *v, const dp_segment *s, uint32_t p, ort_diag *diag)
{
    dp_value values[DP_COLUMNS_MAX];
    ort_diag why = {""};
    dp_point_in in = {.values = values};
    uint32_t slot, old;
    ort_err err = ort_point_id_decode(dp_segment_ids(s) + (size_t)p * ORT_POINT_ID_BYTES, &in.id);
    if (err != ORT_OK) {
        return ORT_OK; /* cannot be: ids are checked when a segment opens */
    }
    in.version = ort_get_u64(dp_segment_versions(s) + (size_t)p * 8);
    err = read_stream(&v->payload, s, DP_STREAM_PAYLOAD, p, &in.payload, &why);
    for (uint32_t i = 0; err == ORT_OK && i < v->column_count; i++) {
        err = v->columns[i].type == DP_COLUMN_BYTES
                  ? read_stream(&v->streams[i], s, v->columns[i].id, p, &values[i], &why)
                  : read_row(v, i, s, p, &values[i], &why);
    }
    if (err == ORT_ENOMEM) {
        return ort_fail(diag, err, "%s", why.text);
    }
    if (err != ORT_OK) {
        tell_lost(v, in.id, &why);
        return ORT_OK;
    }
    err = dp_points_put(v->fresh, &in, &slot, &old, diag);
    if (err == ORT_OK) {
        v->r->report->points_kept++;
        err = ++v->unfolded == FOLD_POINTS ? fold(v, false, diag) : ORT_OK;
    }
    return err;
}

/* --- which points ----------------------------------------------------------------------------- */

/* A place that a point had. */
typedef struct {
    ort_point_id id;
    uint64_t version;
    uint64_t segment_id;
    uint32_t segment, position;
    bool live; /* when its segment was written */
} place;

static int
by_id(const void *x, const void *y)
{
    const place *a = x, *b = y;
    const int order = ort_point_id_cmp(a->id, b->id);
    if (order != 0) {
        return order;
    }
    if (a->version != b->version) {
        return a->version > b->version ? -1 : 1;
    }
    if (a->segment_id != b->segment_id) {
        return a->segment_id > b->segment_id ? -1 : 1;
    }
    return b->live - a->live;
}

static int
by_place(const void *x, const void *y)
{
    const place *a = x, *b = y;
    return a->segment != b->segment ? (a->segment > b->segment) - (a->segment < b->segment)
                                    : (a->position > b->position) - (a->position < b->position);
}

static void
list_places(const segment_pile *p, place *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const dp_segment *s = p->items[i];
        const size_t first = n;
        for (uint32_t k = 0; k < s->slots; k++) {
            place *x = &out[n++];
            *x = (place){.version = ort_get_u64(s->versions + (size_t)k * 8),
                         .segment_id = s->ref.id,
                         .segment = i,
                         .position = k};
            const ort_err err =
                ort_point_id_decode(s->ids + (size_t)k * ORT_POINT_ID_BYTES, &x->id);
            (void)err; /* checked at open */
        }
        for (uint32_t k = 0; k < s->order_count; k++) {
            out[first + ort_get_u32(s->order + (size_t)k * 4)].live = true;
        }
    }
}

/* Without a manifest: of each id what was written last counts, if it lived then. A later segment
 * that has the same version knows better whether it still lived. */
static ort_err
copy_newest(salvage *v, const segment_pile *p, ort_diag *diag)
{
    size_t n = 0, kept = 0;
    ort_err err = ORT_OK;
    for (uint32_t i = 0; i < p->count; i++) {
        n += p->items[i]->slots;
    }
    place *places = calloc(n + 1, sizeof *places);
    if (places == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "list of points");
    }
    list_places(p, places);
    qsort(places, n, sizeof *places, by_id);
    for (size_t i = 0; i < n; i++) {
        if ((i == 0 || ort_point_id_cmp(places[i].id, places[i - 1].id) != 0) && places[i].live) {
            places[kept++] = places[i];
        }
    }
    qsort(places, kept, sizeof *places, by_place);
    for (size_t i = 0; err == ORT_OK && i < kept; i++) {
        err = copy_point(v, p->items[places[i].segment], places[i].position, diag);
    }
    free(places);
    return err;
}

/* Under a manifest: of each of its chunks whose segment opens, the slots that live. */
static ort_err
copy_live(salvage *v, const segment_pile *p, const dp_manifest *m, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (uint32_t i = 0; err == ORT_OK && i < m->chunk_count; i++) {
        const dp_manifest_chunk *c = &m->chunks[i];
        const dp_segment *s = NULL;
        for (uint32_t k = 0; k < p->count; k++) {
            if (p->items[k]->ref.id == m->segments[c->segment].id &&
                p->items[k]->ref.uid == m->segments[c->segment].uid) {
                s = p->items[k];
            }
        }
        uint32_t index = c->place;
        for (uint32_t k = 0;
             s != NULL && index == DP_MANIFEST_PLACE_BY_NUMBER && k < dp_segment_chunk_count(s);
             k++) {
            index = dp_segment_chunk(s, k) == c->chunk ? k : index;
        }
        const bool usable = s != NULL && index < dp_segment_chunk_count(s);
        const uint32_t used = usable ? dp_segment_chunk_used(s, index)
                              : m->slot_end - c->chunk * DP_CHUNK_SLOTS < DP_CHUNK_SLOTS
                                  ? m->slot_end - c->chunk * DP_CHUNK_SLOTS
                                  : DP_CHUNK_SLOTS;
        uint32_t gone = 0;
        for (uint32_t k = 0; err == ORT_OK && k < used; k++) {
            if ((c->live[k / 64] >> (k % 64) & 1) == 0) {
                continue;
            }
            gone += !usable;
            err = usable ? copy_point(v, s, index * DP_CHUNK_SLOTS + k, diag) : ORT_OK;
        }
        if (gone > 0) {
            v->r->report->points_lost += gone;
            dp_repair__say(v->r,
                           "lost: %" PRIu32 " points of segment %016" PRIx64
                           ", whose ids cannot be read",
                           gone, m->segments[c->segment].id);
        }
    }
    return err;
}

/* --- the new ones ----------------------------------------------------------------------------- */

static void
gather_columns(salvage *v, const segment_pile *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        for (uint32_t k = 0; k < p->items[i]->section_count; k++) {
            const dp_section *section = &p->items[i]->sections[k];
            dp_column c = {.id = section->column_id};
            if (section->kind == DP_SECTION_ROWS) {
                c.type = (dp_column_type)section->type;
                c.dim = section->dim;
            } else if (section->kind == DP_SECTION_ENDS &&
                       section->column_id != DP_STREAM_PAYLOAD) {
                c.type = DP_COLUMN_BYTES;
            } else {
                continue;
            }
            bool known = v->column_count == DP_COLUMNS_MAX;
            for (uint32_t j = 0; j < v->column_count; j++) {
                known = known || v->columns[j].id == c.id;
            }
            if (!known) {
                v->columns[v->column_count++] = c;
            }
        }
    }
}

static ort_err
open_work(dp_repair *r, ort_diag *diag)
{
    ort_err err = ort_tree_remove(r->dir_fd, DP_REPAIR_WORK, diag); /* of an interrupted one */
    if (err == ORT_OK) {
        err = ort_dir_make(r->dir_fd, DP_REPAIR_WORK, diag);
    }
    if (err == ORT_OK) {
        r->work_fd = ort_open_beneath(r->dir_fd, DP_REPAIR_WORK, O_RDONLY | O_DIRECTORY, 0);
        err = r->work_fd < 0 ? ort_fail_errno(diag, ORT_EIO, "open " DP_REPAIR_WORK) : ORT_OK;
    }
    return err;
}

static ort_err
set_aside_unless_named(void *ctx, const char *name, ort_diag *diag)
{
    dp_repair *r = ((void **)ctx)[0];
    const dp_manifest *m = ((void **)ctx)[1];
    uint64_t id;
    if (ort_id_parse(name + 4, strlen(name + 4), &id) != ORT_OK) {
        return ORT_OK;
    }
    for (uint32_t i = 0; i < m->segment_count; i++) {
        if (m->segments[i].id == id) {
            return ORT_OK;
        }
    }
    return dp_repair__put_aside(r, name, diag);
}

/* The files of the work directory become the shard's: segments, then the manifest, which is the
 * moment it counts; then the old ones go aside. */
static ort_err
publish(dp_repair *r, ort_diag *diag)
{
    dp_manifest m;
    uint64_t bytes;
    ort_err err = dp_manifest_read(r->work_fd, &m, &bytes, diag);
    if (err != ORT_OK) {
        return err;
    }
    for (uint32_t i = 0; err == ORT_OK && i < m.segment_count; i++) {
        char name[DP_SEGMENT_NAME_BYTES];
        dp_segment_name(m.segments[i].id, name);
        if (renameat(r->work_fd, name, r->dir_fd, name) != 0) {
            err = ort_fail_errno(diag, ORT_EIO, "put %s in its place", name);
        }
    }
    if (err == ORT_OK) {
        err = ort_dir_sync(r->dir_fd, diag);
    }
    if (err == ORT_OK && renameat(r->work_fd, DP_MANIFEST_NAME, r->dir_fd, DP_MANIFEST_NAME) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "put the manifest in its place");
    }
    if (err == ORT_OK) {
        err = ort_dir_sync(r->dir_fd, diag);
    }
    if (err == ORT_OK) {
        void *ctx[] = {r, &m};
        err = dp_repair__each(r, "seg.", set_aside_unless_named, ctx, diag);
    }
    if (err == ORT_OK) {
        err = ort_tree_remove(r->dir_fd, DP_REPAIR_WORK, diag);
    }
    dp_manifest_fini(&m);
    return err;
}

/* What goes before the first put: numbers that no file or graph of before has. */
static ort_err
open_fresh(salvage *v, const segment_pile *p, const dp_manifest *m, ort_diag *diag)
{
    const dp_points_config config = {
        .tenant = v->r->tenant,
        .shard = v->r->shard,
        .layout = {.columns = v->columns, .column_count = v->column_count}};
    ort_err err = open_work(v->r, diag);
    if (err == ORT_OK) {
        err = dp_points_open(&v->fresh, v->r->work_fd, &config, diag);
    }
    if (err == ORT_OK) {
        v->fresh->generation = m != NULL ? m->generation : (uint64_t)ort_wall_ms();
        v->fresh->next_segment_id = p->id_max + 1;
        if (m != NULL && m->next_segment_id > v->fresh->next_segment_id) {
            v->fresh->next_segment_id = m->next_segment_id;
        }
    }
    return err;
}

ort_err
dp_repair__points(dp_repair *r, const dp_manifest *m, const dp_log_mark *mark, ort_diag *diag)
{
    segment_pile p = {.r = r};
    salvage *v = calloc(1, sizeof *v);
    ort_err err = v == NULL ? ort_fail(diag, ORT_ENOMEM, "repair") : ORT_OK;
    if (err == ORT_OK) {
        v->r = r;
        v->mark = *mark;
        err = dp_repair__each(r, "seg.", open_one, &p, diag);
    }
    if (err == ORT_OK) {
        gather_columns(v, &p);
        err = open_fresh(v, &p, m, diag);
    }
    if (err == ORT_OK) {
        err = m != NULL ? copy_live(v, &p, m, diag) : copy_newest(v, &p, diag);
    }
    if (err == ORT_OK) {
        err = fold(v, true, diag);
    }
    if (v != NULL) {
        dp_points_close(v->fresh);
        ort_buf_fini(&v->payload.bytes);
        for (uint32_t i = 0; i < v->column_count; i++) {
            ort_buf_fini(&v->streams[i].bytes);
        }
    }
    if (err == ORT_OK) {
        err = publish(r, diag);
    }
    if (err == ORT_OK) {
        dp_repair__say(r, "kept %" PRIu64 " points of the segments, lost %" PRIu64,
                       r->report->points_kept, r->report->points_lost);
    }
    segments_close(&p);
    free(v);
    return err;
}
