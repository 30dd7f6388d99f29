/* A shard and what it should hold. */
#include "support/shard_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const dp_column COLUMNS[] = {
    {.id = 10, .type = DP_COLUMN_F32, .dim = MODEL_DIM},
    {.id = 11, .type = DP_COLUMN_BYTES},
    {.id = 12, .type = DP_COLUMN_U8, .dim = 60},
};
enum { COLUMN_COUNT = 3 };

#define MUST(cond)                                                     \
    do {                                                               \
        if (!(cond)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __func__, __LINE__, #cond); \
            abort();                                                   \
        }                                                              \
    } while (0)

ort_point_id
model_id(uint32_t i)
{
    if (i % 3 == 2) {
        return (ort_point_id){.hi = i * UINT64_C(0x9e3779b97f4a7c15), .lo = i, .uuid = true};
    }
    return ort_point_id_of((uint64_t)i * UINT64_C(2654435761) % 100003 * MODEL_IDS + i);
}

/* The content of point i as seed tells it. */
typedef struct {
    float row[MODEL_DIM];
    unsigned char small[60];
    char bytes[64], payload[400];
    dp_value values[COLUMN_COUNT];
    dp_point_in in;
} content;

static void
make_content(content *c, uint32_t i, model_point p)
{
    memset(c, 0, sizeof *c);
    for (uint32_t k = 0; k < MODEL_DIM; k++) {
        c->row[k] = (float)(p.seed % 1000) + (float)i * 0.5f + (float)k;
    }
    for (uint32_t k = 0; k < sizeof c->small; k++) {
        c->small[k] = (unsigned char)(p.seed * 7 + i + k);
    }
    const size_t bytes_len = (p.seed + i) % sizeof c->bytes;
    memset(c->bytes, (int)(p.seed % 251), sizeof c->bytes);
    const int len =
        snprintf(c->payload, sizeof c->payload, "{\"point\":%u,\"seed\":%u,\"text\":\"%.*s\"}", i,
                 p.seed, (int)((p.seed * 13 + i) % 300),
                 "the quick brown fox jumps over the lazy dog and the quick brown fox "
                 "jumps over the lazy dog and the quick brown fox jumps over the lazy "
                 "dog and the quick brown fox jumps over the lazy dog and the quick "
                 "brown fox jumps over the lazy dog and the quick brown fox jumps over "
                 "the lazy dog and goes home.");
    if (p.seed % 4 != 0) {
        c->values[0] = (dp_value){c->row, sizeof c->row};
    }
    if (p.seed % 3 != 0) {
        c->values[1] = (dp_value){c->bytes, bytes_len};
    }
    if (p.seed % 5 == 0) {
        c->values[2] = (dp_value){c->small, sizeof c->small};
    }
    c->in = (dp_point_in){.id = model_id(i),
                          .version = p.version,
                          .payload = {c->payload, p.seed % 7 == 0 ? 0 : (size_t)len},
                          .values = c->values};
}

void
model_apply(model_point *want, uint64_t lsn, uint16_t op, uint32_t first, uint32_t count,
            uint32_t seed)
{
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t i = (first + k) % MODEL_IDS;
        want[i] =
            op == MODEL_OP_PUT ? (model_point){.seed = seed + k, .version = lsn} : (model_point){0};
    }
}

static ort_err
apply_points(shard_model *m, uint64_t lsn, uint16_t op, uint32_t first, uint32_t count,
             uint32_t seed, ort_diag *diag)
{
    static _Thread_local content c;
    ort_err err = ORT_OK;
    for (uint32_t k = 0; err == ORT_OK && k < count; k++) {
        const uint32_t i = (first + k) % MODEL_IDS;
        uint32_t slot, old;
        if (op == MODEL_OP_PUT) {
            make_content(&c, i, (model_point){.seed = seed + k, .version = lsn});
            err = dp_points_put(m->points, &c.in, &slot, &old, diag);
        } else {
            err = dp_points_kill(m->points, model_id(i), &old, diag);
        }
    }
    m->applied = lsn;
    return err;
}

ort_err
shard_model_apply(shard_model *m, uint64_t lsn, uint16_t op, uint32_t first, uint32_t count,
                  uint32_t seed, ort_diag *diag)
{
    model_apply(m->points_want, lsn, op, first, count, seed);
    return apply_points(m, lsn, op, first, count, seed, diag);
}

static ort_err
replay(void *ctx, const dp_log_record *r, ort_diag *diag)
{
    MUST(r->len == 12);
    return apply_points(ctx, r->lsn, r->type, ort_get_u32(r->body), ort_get_u32(r->body + 4),
                        ort_get_u32(r->body + 8), diag);
}

ort_err
shard_model_open(shard_model *m, int dir_fd, ort_diag *diag)
{
    const dp_points_config points = {
        .tenant = {1}, .shard = {2}, .layout = {.columns = COLUMNS, .column_count = COLUMN_COUNT}};
    dp_log_config log = {.tenant = {1}, .shard = {2}, .epoch = 1, .file_bytes_max = 4096};
    m->log = NULL;
    ort_err err = dp_points_open(&m->points, dir_fd, &points, diag);
    if (err != ORT_OK) {
        return err;
    }
    log.folded = dp_points_mark(m->points);
    m->applied = log.folded.lsn;
    err = dp_log_open(&m->log, dir_fd, &log, &m->found, diag);
    if (err == ORT_OK) {
        err = dp_log_replay(m->log, log.folded.lsn + 1, replay, m, diag);
    }
    if (err != ORT_OK) {
        shard_model_close(m);
    }
    return err;
}

void
shard_model_close(shard_model *m)
{
    dp_log_close(m->log);
    dp_points_close(m->points);
    m->log = NULL;
    m->points = NULL;
}

ort_err
shard_model_op(shard_model *m, uint16_t op, uint32_t first, uint32_t count, uint32_t seed,
               ort_diag *diag)
{
    unsigned char body[12];
    dp_log_ticket ticket;
    ort_put_u32(body, first);
    ort_put_u32(body + 4, count);
    ort_put_u32(body + 8, seed);
    ort_err err = dp_log_append(m->log, op, body, sizeof body, &ticket, diag);
    if (err == ORT_OK) {
        err = dp_log_wait(m->log, ticket, diag);
    }
    if (err == ORT_OK) {
        err = shard_model_apply(m, ticket.lsn, op, first, count, seed, diag);
    }
    return err;
}

ort_err
shard_model_checkpoint(shard_model *m, bool merge_all, ort_diag *diag)
{
    dp_checkpoint *c;
    const dp_log_mark mark = dp_log_durable(m->log);
    const dp_checkpoint_options options = {.merge_all = merge_all};
    MUST(mark.lsn == m->applied);
    /* Every way of packing has its turn, and segments of all of them are merged. */
    dp_points_set_packing(m->points, (dp_packing){.kind = (dp_pack_kind)(mark.lsn % 4),
                                                  .level = (int)(mark.lsn % 5)});
    ort_err err = dp_points_freeze(m->points, mark, &c, diag);
    if (err == ORT_OK) {
        err = dp_checkpoint_write(c, &options, diag);
        dp_checkpoint_free(c);
    }
    if (err == ORT_OK) {
        err = dp_log_cut(m->log, mark.lsn, diag);
    }
    return err;
}

void
shard_model_check_slot(shard_model *m, dp_reader *r, uint32_t slot, uint32_t i, model_point point)
{
    static _Thread_local content c;
    const char *payload;
    const void *bytes;
    size_t len;
    uint64_t logical;
    make_content(&c, i, point);
    MUST(ort_point_id_eq(dp_points_id(r, slot), c.in.id));
    MUST(dp_points_version(r, slot) == c.in.version);
    MUST(dp_points_payload(r, slot, &payload, &len, NULL) == ORT_OK);
    MUST(len == c.in.payload.len && memcmp(payload, c.payload, len) == 0);
    for (uint32_t k = 0; k < COLUMN_COUNT; k++) {
        const dp_value *want = &c.values[k];
        if (k == 1) {
            MUST(dp_points_bytes(r, k, slot, &bytes, &len, NULL) == ORT_OK);
            MUST((bytes != NULL) == (want->data != NULL) && len == want->len);
            MUST(dp_points_has(r, k, slot) == (bytes != NULL));
            MUST(dp_points_row(r, k, slot) == NULL);
            MUST(len == 0 || (bytes != NULL && memcmp(bytes, want->data, len) == 0));
        } else {
            const void *row = dp_points_row(r, k, slot);
            MUST((row != NULL) == (want->data != NULL));
            MUST(dp_points_has(r, k, slot) == (row != NULL));
            dp_column_rows rows;
            MUST(dp_points_rows(m->points, k, &rows) == ORT_OK);
            if (row != NULL) {
                MUST(memcmp(row, want->data, want->len) == 0);
                MUST(rows.chunks[slot >> DP_CHUNK_BITS] +
                         (size_t)(slot % DP_CHUNK_SLOTS) * rows.stride_bytes ==
                     row);
            }
        }
    }
    MUST(dp_points_slot_bytes(r, slot, &logical, NULL) == ORT_OK);
    MUST(logical == dp_points_in_bytes(m->points, &c.in));
}

static int
order_of(const void *a, const void *b)
{
    const dp_id_slot *x = a, *y = b;
    return ort_point_id_cmp(x->id, y->id);
}

void
shard_model_check(shard_model *m)
{
    dp_reader r;
    uint64_t live = 0, logical = 0;
    static _Thread_local dp_id_slot want[MODEL_IDS], got[MODEL_IDS + 1];
    dp_reader_init(&r, m->points);
    for (uint32_t i = 0; i < MODEL_IDS; i++) {
        uint32_t slot;
        ort_diag diag;
        const ort_err err = dp_points_find(&r, model_id(i), &slot, &diag);
        if (m->points_want[i].seed == 0) {
            MUST(err == ORT_ENOTFOUND);
            continue;
        }
        MUST(err == ORT_OK);
        MUST(dp_points_is_live(m->points, slot));
        shard_model_check_slot(m, &r, slot, i, m->points_want[i]);
        uint64_t bytes;
        MUST(dp_points_slot_bytes(&r, slot, &bytes, NULL) == ORT_OK);
        logical += bytes;
        want[live++] = (dp_id_slot){.id = model_id(i), .slot = slot};
    }
    MUST(live == dp_points_live_count(m->points));
    dp_points_stats stats;
    dp_points_get_stats(m->points, &stats);
    MUST(stats.logical_bytes == logical);

    uint64_t seen = 0;
    for (uint32_t s = dp_points_next_live(m->points, 0); s != DP_SLOT_NONE;
         s = dp_points_next_live(m->points, s + 1)) {
        seen++;
    }
    MUST(seen == live);

    qsort(want, live, sizeof want[0], order_of);
    size_t total = 0, n = 0;
    const ort_point_id *from = NULL;
    ort_point_id last;
    do {
        MUST(dp_points_scroll(&r, from, true, got + total, 1 + total % 700, &n, NULL) == ORT_OK);
        const bool more = n == 1 + total % 700;
        total += n;
        MUST(total <= live);
        if (!more) {
            break;
        }
        last = got[total - 1].id;
        from = &last;
    } while (true);
    MUST(total == live);
    for (size_t i = 0; i < total; i++) {
        MUST(ort_point_id_eq(got[i].id, want[i].id) && got[i].slot == want[i].slot);
    }
    if (live > 0) {
        MUST(dp_points_scroll(&r, &want[live / 2].id, false, got, 1, &n, NULL) == ORT_OK);
        MUST(n == 1 && got[0].slot == want[live / 2].slot);
    }
    dp_reader_fini(&r);
}
