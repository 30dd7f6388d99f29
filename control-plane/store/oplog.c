/* Reading the op log, and the hash of a record. */
#include "store/oplog.h"

#include <string.h>

#include "base/buf.h"
#include "store/oplog_internal.h"
#include "store/store_internal.h"

#define DOMAIN "orthant-oplog-1"

static void
put_text(ort_hasher *h, const char *text)
{
    unsigned char len[4];
    const size_t n = strlen(text);
    ort_put_u32(len, (uint32_t)n); /* rows are bounded far below (SQLITE_LIMIT_LENGTH) */
    ort_hasher_put(h, len, sizeof len);
    ort_hasher_put(h, text, n);
}

void
cp__oplog_hash(uint64_t version, const ort_hash *prev, int64_t at_ms, const char *actor,
               const char *op, uint64_t tenant, bool denial, const char *before, const char *after,
               const char *request_id, ort_hash *out)
{
    ort_hasher h;
    unsigned char number[8];
    const unsigned char denial_byte = denial;
    ort_hasher_init(&h);
    ort_hasher_put(&h, DOMAIN, sizeof DOMAIN - 1);
    ort_put_u64(number, version);
    ort_hasher_put(&h, number, sizeof number);
    ort_hasher_put(&h, prev->b, sizeof prev->b);
    ort_put_u64(number, (uint64_t)at_ms);
    ort_hasher_put(&h, number, sizeof number);
    put_text(&h, actor);
    put_text(&h, op);
    ort_put_u64(number, tenant);
    ort_hasher_put(&h, number, sizeof number);
    ort_hasher_put(&h, &denial_byte, 1);
    put_text(&h, before);
    put_text(&h, after);
    put_text(&h, request_id);
    ort_hasher_done(&h, out);
}

void
cp__oplog_read(cp__query *q, cp_oplog_record *out)
{
    *out = (cp_oplog_record){.version = cp__col_u64(q, 0)};
    cp__col_blob(q, 1, out->prev_hash.b, sizeof out->prev_hash.b);
    cp__col_blob(q, 2, out->hash.b, sizeof out->hash.b);
    out->at_ms = cp__col_i64(q, 3);
    out->actor = cp__col_text(q, 4);
    out->op = cp__col_text(q, 5);
    out->tenant.v = cp__col_id(q, 6);
    out->denial = cp__col_i64(q, 7) != 0;
    out->before = cp__col_text(q, 8);
    out->after = cp__col_text(q, 9);
    out->request_id = cp__col_text(q, 10);
}

/* Copies JSON with the value of every member "hash" hidden. In the images a member's name has no
 * escapes and a quote inside a text has a backslash before it, so the bytes "hash":" (with both
 * quotes bare) are a member's name and nothing else. */
static const char *
hide(ort_buf *out, const char *json)
{
    static const char member[] = "\"hash\":\"";
    const char *at;
    ort_buf_clear(out);
    while ((at = strstr(json, member)) != NULL) {
        const char *value = at + sizeof member - 1;
        const char *end = strchr(value, '"');
        if (end == NULL) {
            break;
        }
        ort_buf_put(out, json, (size_t)(value - json));
        ort_buf_puts(out, "(hidden)");
        json = end;
    }
    ort_buf_puts(out, json);
    return ort_buf_peek_cstr(out);
}

/* "key." and "key/": what op texts that begin with "key." lie between. */
static ort_err
op_range(const char *op, char from[64], char to[64], ort_diag *diag)
{
    const size_t len = strlen(op);
    if (len == 0 || len >= 63) {
        return ort_fail(diag, ORT_EINVAL, "no op is called that");
    }
    memcpy(from, op, len + 1);
    memcpy(to, op, len + 1);
    if (op[len - 1] == '.') {
        to[len - 1] = '/';
    } else {
        to[len] = '\1'; /* ops are lower-case words: nothing lies between */
        to[len + 1] = '\0';
    }
    return ORT_OK;
}

#define WHERE                                                                                  \
    " AND (?2 IS NULL OR op >= ?2) AND (?3 IS NULL OR op < ?3) AND (?4 IS NULL OR actor = ?4)" \
    " AND (?5 = 0 OR at_ms >= ?5) AND (?6 = 0 OR at_ms < ?6)"
#define SELECT "SELECT " CP__OPLOG_COLUMNS " FROM op_log WHERE version"

ort_err
cp_oplog_list(cp_tx *tx, const cp_oplog_query *query, cp_oplog_visit visit, void *ctx,
              ort_diag *diag)
{
    ort_err err = ORT_OK;
    ort_buf before = {0}, after = {0};
    char op_from[64], op_to[64];
    if (query->op != NULL && (err = op_range(query->op, op_from, op_to, diag)) != ORT_OK) {
        return err;
    }
    const bool of_tenant = query->tenant.v != 0;
    cp__query q =
        query->newest_first
            ? (of_tenant ? cp__q(tx, SELECT " < ?1 AND tenant = ?8" WHERE
                                            " ORDER BY version DESC LIMIT ?7")
                         : cp__q(tx, SELECT " < ?1" WHERE " ORDER BY version DESC LIMIT ?7"))
            : (of_tenant
                   ? cp__q(tx, SELECT " > ?1 AND tenant = ?8" WHERE " ORDER BY version LIMIT ?7")
                   : cp__q(tx, SELECT " > ?1" WHERE " ORDER BY version LIMIT ?7"));
    cp__bind_u64(&q, query->newest_first && query->after == 0 ? INT64_MAX : query->after);
    cp__bind_text(&q, query->op != NULL ? op_from : NULL);
    cp__bind_text(&q, query->op != NULL ? op_to : NULL);
    cp__bind_text(&q, query->actor);
    cp__bind_i64(&q, query->from_ms);
    cp__bind_i64(&q, query->to_ms);
    cp__bind_i64(&q, query->limit == 0 ? -1 : (int64_t)query->limit);
    if (of_tenant) {
        cp__bind_id(&q, query->tenant.v);
    }
    while (err == ORT_OK && cp__step(&q)) {
        cp_oplog_record record;
        cp__oplog_read(&q, &record);
        if (query->for_people) {
            record.before = hide(&before, record.before);
            record.after = hide(&after, record.after);
            if (record.before == NULL || record.after == NULL) {
                err = ort_fail(diag, ORT_ENOMEM, "read the op log");
            }
        }
        if (err == ORT_OK && q.rc == SQLITE_OK) {
            err = visit(ctx, &record);
        }
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    ort_buf_fini(&before);
    ort_buf_fini(&after);
    return err != ORT_OK ? err : end;
}

ort_err
cp_oplog_last_denial(cp_tx *tx, uint64_t *version_out, ort_diag *diag)
{
    cp__query q = cp__q(tx, "SELECT coalesce(max(version), 0) FROM op_log WHERE denial = 1");
    *version_out = 0;
    if (cp__step(&q)) {
        *version_out = cp__col_u64(&q, 0);
    }
    return cp__q_end(&q, diag);
}
