/* A snapshot into collections: each checked, and put into a directory of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/point.h"
#include "collection/snapshot_internal.h"

/* Of points in memory, before they are checkpointed. Tests shall not need 32 MiB to see it. */
#if ORT_CHECK
#define TAIL_BYTES (UINT64_C(2) << 20)
#else
#define TAIL_BYTES (UINT64_C(32) << 20)
#endif

/* --- the head of a collection ----------------------------------------------------------------- */

static bool
read_hash(ort_json v, uint64_t *out)
{
    size_t len = 0;
    const char *text = ort_json_str(v, &len);
    if (text == NULL || len != 16) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < len; i++) {
        const char *digits = "0123456789abcdef";
        const char *at = memchr(digits, text[i], 16);
        if (at == NULL) {
            return false;
        }
        *out = *out << 4 | (uint64_t)(at - digits);
    }
    return true;
}

static void
drop_item(dp_snapshot_reader *r)
{
    for (size_t i = 0; i < r->alias_count; i++) {
        free(r->aliases[i]);
    }
    free(r->aliases);
    r->aliases = NULL;
    r->alias_count = 0;
    dp_schema_unref(r->item.schema);
    r->item = (dp_snapshot_item){0};
}

static ort_err
read_aliases(dp_snapshot_reader *r, ort_json list, ort_diag *diag)
{
    const uint32_t count = ort_json_count(list);
    if (ort_json_type_of(list) != ORT_JSON_ARRAY || count > DP_SNAPSHOT_ALIASES_MAX ||
        (count > 0 && r->about.kind != DP_SNAPSHOT_TENANT)) {
        return dp_snapshot__bad(diag, "a collection's aliases are not as they are written");
    }
    r->aliases = calloc((size_t)count + 1, sizeof *r->aliases);
    if (r->aliases == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "snapshot");
    }
    for (ort_json_iter it = ort_json_each(list); ort_json_step(&it);) {
        size_t len = 0;
        const char *text = ort_json_str(it.value, &len);
        if (text == NULL || dp_collection_name_check(text, len, diag) != ORT_OK) {
            return dp_snapshot__bad(diag, "an alias is no name");
        }
        if ((r->aliases[r->alias_count] = strndup(text, len)) == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "snapshot");
        }
        r->alias_count++;
    }
    return ORT_OK;
}

static ort_err
read_item(dp_snapshot_reader *r, ort_json root, ort_diag *diag)
{
    size_t len = 0;
    const char *name = ort_json_str(ort_json_get(root, "name"), &len);
    if (name == NULL || dp_collection_name_check(name, len, diag) != ORT_OK) {
        return dp_snapshot__bad(diag, "a collection's name is none");
    }
    memcpy(r->name, name, len);
    r->name[len] = '\0';
    r->item.name = r->name;
    if (ort_json_u64(ort_json_get(root, "lsn"), &r->mark.lsn) != ORT_OK ||
        ort_json_u64(ort_json_get(root, "epoch"), &r->mark.epoch) != ORT_OK ||
        !read_hash(ort_json_get(root, "hash"), &r->mark.hash) ||
        ort_json_u64(ort_json_get(root, "points"), &r->item.points) != ORT_OK ||
        ort_json_u64(ort_json_get(root, "bytes"), &r->item.bytes) != ORT_OK ||
        r->mark.lsn > DP_SNAPSHOT_LSN_MAX || r->mark.epoch > DP_SNAPSHOT_LSN_MAX ||
        r->item.points > DP_SLOTS_MAX || r->item.bytes > INT64_MAX / 4) {
        return dp_snapshot__bad(
            diag, "collection `%.200s`: its numbers are not as they are written", r->name);
    }
    if (r->mark.lsn == 0) {
        r->mark =
            (dp_log_mark){0}; /* nothing was ever written: the place before the first record */
    }
    r->item.lsn = r->mark.lsn;
    ort_err err = dp_schema_decode(&r->item.schema, ort_json_get(root, "schema"), diag);
    if (err != ORT_OK && err != ORT_ENOMEM) {
        char why[200];
        snprintf(why, sizeof why, "%.199s", diag != NULL ? diag->text : "");
        err = dp_snapshot__bad(diag, "collection `%.100s`: its schema: %s", r->name, why);
    }
    if (err == ORT_OK) {
        err = read_aliases(r, ort_json_get(root, "aliases"), diag);
        r->item.aliases = (const char *const *)r->aliases;
        r->item.alias_count = r->alias_count;
    }
    return err;
}

/* The last block: what stood before it is what it says, and nothing follows. */
static ort_err
read_end(dp_snapshot_reader *r, ort_diag *diag)
{
    ort_cursor c = ort_cursor_of(r->plain.data, r->plain.len);
    ort_hash before;
    const uint64_t collections = ort_cursor_u64(&c), points = ort_cursor_u64(&c),
                   bytes = ort_cursor_u64(&c);
    const unsigned char *digest = ort_cursor_take(&c, sizeof before.b);
    if (digest == NULL || ort_cursor_left(&c) != 0 || collections != r->totals.collections ||
        points != r->totals.points || bytes != r->totals.bytes) {
        return dp_snapshot__bad(diag, "its end does not agree with what stands before it");
    }
    memcpy(before.b, digest, sizeof before.b);
    if (!ort_hash_equal(&before, &r->digest_before)) {
        return dp_snapshot__bad(diag, "its checksum is wrong");
    }
    if (r->at != r->size) {
        return dp_snapshot__bad(diag, "%" PRIu64 " bytes follow its end", r->size - r->at);
    }
    r->totals.file_bytes = r->at;
    ort_sha256 copy = r->digest;
    ort_sha256_done(&copy, &r->totals.sha256);
    return ORT_OK;
}

ort_err
dp_snapshot_next(dp_snapshot_reader *r, dp_snapshot_item *out, bool *got, ort_diag *diag)
{
    ort_json_doc *doc = NULL;
    *got = false;
    drop_item(r);
    if (!r->filled) {
        return ort_fail(diag, ORT_EINTERNAL, "snapshot: a collection was left out");
    }
    ort_err err = dp_snapshot__read_block(r, diag);
    if (err == ORT_OK && r->type == DP_SNAPSHOT_BLOCK_END) {
        return read_end(r, diag);
    }
    const uint64_t most = r->about.kind == DP_SNAPSHOT_TENANT ? DP_SNAPSHOT_COLLECTIONS_MAX : 1;
    if (err == ORT_OK &&
        (r->type != DP_SNAPSHOT_BLOCK_COLLECTION || r->totals.collections == most)) {
        err = dp_snapshot__bad(diag, "a block stands where a collection or the end should");
    }
    if (err == ORT_OK) {
        err = ort_json_parse(&doc, r->plain.data, r->plain.len, (ort_json_limits){0}, diag);
        err = err == ORT_OK || err == ORT_ENOMEM ? err : dp_snapshot__bad(diag, "no JSON");
    }
    if (err == ORT_OK) {
        err = read_item(r, ort_json_root(doc), diag);
    }
    ort_json_free(doc);
    if (err != ORT_OK) {
        drop_item(r);
        return err;
    }
    r->totals.collections++;
    r->filled = false;
    *out = r->item;
    *got = true;
    return ORT_OK;
}

/* --- its points ------------------------------------------------------------------------------- */

typedef struct {
    dp_snapshot_reader *r;
    dp_points *points; /* NULL: only looked at */
    uint64_t count, bytes;
    uint64_t folded; /* of count */
} filling;

static ort_err
put_point(filling *f, const dp_op_record *record, const dp_op_point *point, uint64_t version,
          ort_diag *diag)
{
    dp_value values[DP_COLUMNS_MAX] = {{0}};
    uint32_t slot, old = DP_SLOT_NONE;
    ort_cursor at = point->vectors;
    dp_op_vector v;
    uint64_t bytes = ORT_POINT_ID_BYTES + (uint64_t)point->payload.len;
    ort_err err = ORT_OK;
    for (uint32_t n = point->vector_count; dp_op__next_vector(record, &at, &n, &v);) {
        values[v.column] = (dp_value){.data = v.data, .len = v.bytes};
        bytes += v.bytes;
    }
    f->count++;
    f->bytes += bytes;
    if (f->count > f->r->item.points || f->bytes > f->r->item.bytes) {
        return dp_snapshot__bad(diag, "collection `%.200s` holds more than it says", f->r->name);
    }
    if (f->points != NULL) {
        const dp_point_in in = {.id = point->id,
                                .version = version,
                                .payload = {point->payload.text, point->payload.len},
                                .values = values};
        err = dp_points_put(f->points, &in, &slot, &old, diag);
    }
    if (err == ORT_OK && old != DP_SLOT_NONE) {
        char id[ORT_POINT_ID_TEXT_BYTES];
        ort_point_id_format(point->id, id);
        err = dp_snapshot__bad(diag, "point %s stands twice", id);
    }
    return err;
}

/* Puts what is in memory into a segment. */
static ort_err
fold(filling *f, ort_diag *diag)
{
    const dp_checkpoint_options options = {0};
    dp_checkpoint *cp = NULL;
    ort_err err = dp_points_freeze(f->points, f->r->mark, &cp, diag);
    if (err == ORT_OK) {
        err = dp_checkpoint_write(cp, &options, diag);
    }
    dp_checkpoint_free(cp);
    return err;
}

static ort_err
fill_block(filling *f, ort_diag *diag)
{
    dp_snapshot_points block;
    dp_op_point point;
    dp_points_stats stats;
    ort_err err = dp_snapshot__read_block(f->r, diag);
    if (err == ORT_OK && f->r->type != DP_SNAPSHOT_BLOCK_POINTS) {
        err = dp_snapshot__bad(diag, "collection `%.200s` holds less than it says", f->r->name);
    }
    if (err == ORT_OK) {
        err =
            dp_snapshot__points_open(&block, &f->r->plain, f->r->item.schema, f->r->mark.lsn, diag);
    }
    if (err != ORT_OK) {
        return err;
    }
    ort_cursor at = block.record.points;
    uint32_t i = 0;
    for (uint32_t left = block.count;
         err == ORT_OK && dp_op__next_point(&block.record, &at, &left, &point); i++) {
        err =
            put_point(f, &block.record, &point, ort_get_u64(block.versions + (size_t)i * 8), diag);
    }
    if (err == ORT_OK && f->points != NULL) {
        dp_points_get_stats(f->points, &stats);
        /* A fold gives back the memory of full chunks: without one it would be for nothing, block
         * after block where points are large. */
        if (stats.memory_bytes >= TAIL_BYTES &&
            f->count / DP_CHUNK_SLOTS > f->folded / DP_CHUNK_SLOTS) {
            err = fold(f, diag);
            f->folded = f->count;
            ort_point("restore.folded");
        }
    }
    return err;
}

static ort_err
finish(filling *f, int data_dir, ort_tenant_id tenant, ort_collection_id id, ort_diag *diag)
{
    const dp_log_config log = {.tenant = tenant, .shard = id, .folded = f->r->mark};
    ort_err err = fold(f, diag);
    ort_point("restore.points");
    if (err == ORT_OK) {
        err = dp_log_begin(data_dir, &log, diag);
    }
    ort_point("restore.log");
    return err;
}

ort_err
dp_snapshot_fill(dp_snapshot_reader *r, int data_dir, ort_tenant_id tenant, ort_collection_id id,
                 ort_diag *diag)
{
    filling f = {.r = r};
    dp_column columns[ORT_VECTORS_PER_POINT_MAX];
    dp_points_config config;
    ort_err err = ORT_OK;
    if (data_dir >= 0) {
        dp_collection_points_config(r->item.schema, tenant, id, columns, &config);
        err = dp_points_open(&f.points, data_dir, &config, diag);
    }
    while (err == ORT_OK && f.count < r->item.points) {
        err = fill_block(&f, diag);
    }
    if (err == ORT_OK && f.bytes != r->item.bytes) {
        err =
            dp_snapshot__bad(diag, "collection `%.200s` holds %" PRIu64 " bytes and says %" PRIu64,
                             r->name, f.bytes, r->item.bytes);
    }
    if (err == ORT_OK && data_dir >= 0) {
        err = finish(&f, data_dir, tenant, id, diag);
    }
    dp_points_close(f.points);
    if (err == ORT_OK) {
        r->filled = true;
        r->totals.points += f.count;
        r->totals.bytes += f.bytes;
    }
    return err;
}
