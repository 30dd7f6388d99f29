/* Whether the op log is whole, and whether it tells of the rows as they are. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "store/hub.h"
#include "store/oplog_internal.h"

static void
found(cp_oplog_verdict *out, uint64_t version, const char *what)
{
    out->intact = false;
    out->bad_version = version;
    snprintf(out->detail, sizeof out->detail, "%s", what);
}

/* Checks one record against the one before it; false: does not fit, and *out says why. */
static bool
fits(const cp_oplog_record *r, cp_oplog_verdict *out)
{
    char words[160];
    ort_hash hash;
    const uint64_t expect = out->records + 1;
    if (r->version != expect) {
        snprintf(words, sizeof words,
                 r->version == expect + 1 ? "record %" PRIu64 " is missing"
                                          : "records %" PRIu64 " to %" PRIu64 " are missing",
                 expect, r->version - 1);
        found(out, expect, words);
        return false;
    }
    if (!ort_hash_equal(&r->prev_hash, &out->head)) {
        snprintf(words, sizeof words, "record %" PRIu64 " does not follow from the one before it",
                 r->version);
        found(out, r->version, words);
        return false;
    }
    cp__oplog_hash(r->version, &r->prev_hash, r->at_ms, r->actor, r->op, r->tenant.v, r->denial,
                   r->before, r->after, r->request_id, &hash);
    if (!ort_hash_equal(&hash, &r->hash)) {
        snprintf(words, sizeof words, "record %" PRIu64 " (%.40s) is not what was written",
                 r->version, r->op);
        found(out, r->version, words);
        return false;
    }
    return true;
}

/* The end of the chain against the hub's row, which is written with each record. */
static void
check_end(const cp_hub *hub, cp_oplog_verdict *out)
{
    char words[160];
    if (out->records < hub->version) {
        snprintf(words, sizeof words, "records %" PRIu64 " to %" PRIu64 " are missing at the end",
                 out->records + 1, hub->version);
        found(out, out->records + 1, words);
    } else if (out->records > hub->version || !ort_hash_equal(&out->head, &hub->head)) {
        snprintf(words, sizeof words,
                 "the hub's own row does not agree with the last record (%" PRIu64 ")",
                 out->records);
        found(out, out->records, words);
    }
}

ort_err
cp_oplog_verify(cp_tx *tx, uint64_t expect_version, const ort_hash *expect_head,
                cp_oplog_verdict *out, ort_diag *diag)
{
    cp_hub hub;
    ort_err err = cp_hub_get(tx, &hub, diag);
    *out = (cp_oplog_verdict){.intact = true};
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "SELECT " CP__OPLOG_COLUMNS " FROM op_log ORDER BY version");
    while (out->intact && cp__step(&q)) {
        cp_oplog_record r;
        cp__oplog_read(&q, &r);
        if (q.rc == SQLITE_CORRUPT) {
            /* A column is not of its shape: the record was changed. Pages that SQLite itself
             * cannot read end the walk by cp__step() instead. */
            char words[160];
            q.rc = SQLITE_OK;
            snprintf(words, sizeof words, "record %" PRIu64 " is not what was written", r.version);
            found(out, r.version, words);
            break;
        }
        if (!fits(&r, out)) {
            break;
        }
        out->records++;
        out->head = r.hash;
        if (r.version == expect_version && expect_head != NULL &&
            !ort_hash_equal(&r.hash, expect_head)) {
            found(out, r.version,
                  "the chain is whole, but it is not the one whose head was kept:"
                  " it was written anew");
        }
    }
    err = cp__q_end(&q, diag);
    if (err != ORT_OK) {
        return err;
    }
    if (out->intact) {
        check_end(&hub, out);
    }
    if (out->intact && expect_head != NULL && expect_version > out->records) {
        found(out, out->records + 1, "the chain ends before the head that was kept");
    }
    if (out->intact) {
        snprintf(out->detail, sizeof out->detail, "%" PRIu64 " records, none changed or missing",
                 out->records);
    }
    return ORT_OK;
}

/* ---- state = fold(op_log) ---- */

static ort_err
fold_record(ort_map *rows, const char *after, ort_diag *diag)
{
    ort_json_doc *doc;
    ort_err err = ort_json_parse(&doc, after, strlen(after), (ort_json_limits){0}, diag);
    if (err != ORT_OK) {
        return err;
    }
    for (ort_json_iter it = ort_json_each(ort_json_root(doc));
         err == ORT_OK && ort_json_step(&it);) {
        size_t key_len, len;
        void *old = NULL;
        const char *key = ort_json_str(it.key, &key_len);
        const char *raw = ort_json_raw(it.value, &len);
        if (key == NULL) {
            err = ORT_ENOMEM;
        } else if (ort_json_type_of(it.value) == ORT_JSON_NULL) {
            old = ort_map_take(rows, key, key_len);
        } else {
            char *row = strndup(raw, len);
            err = row != NULL ? ort_map_set(rows, key, key_len, row, &old) : ORT_ENOMEM;
            if (err != ORT_OK) {
                free(row);
            }
        }
        free(old);
    }
    ort_json_free(doc);
    return err;
}

/* Takes the rows of one table off the fold. */
static ort_err
compare_table(cp_tx *tx, unsigned table, ort_map *rows, char differ_out[256], ort_diag *diag)
{
    ort_err err = ORT_OK;
    cp__query q = cp__q(tx, cp__tables[table].keys);
    while (err == ORT_OK && differ_out[0] == '\0' && cp__step(&q)) {
        char name[256];
        char *image = NULL;
        const char *key = cp__col_text(&q, 0);
        const int n = snprintf(name, sizeof name, "%s/%s", cp__tables[table].name, key);
        err = cp__image(tx, table, key, &image, diag);
        if (err != ORT_OK) {
            break;
        }
        char *told = ort_map_take(rows, name, (size_t)n);
        if (told == NULL) {
            snprintf(differ_out, 256, "%.200s is there, and no record made it", name);
        } else if (strcmp(told, image) != 0) {
            snprintf(differ_out, 256, "%.200s is not as its last record left it", name);
        }
        free(told);
        free(image);
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    return err != ORT_OK ? err : end;
}

ort_err
cp_oplog_compare_state(cp_tx *tx, char differ_out[256], ort_diag *diag)
{
    ort_map *rows = NULL;
    ort_err err = ort_map_new(&rows);
    differ_out[0] = '\0';
    if (err != ORT_OK) {
        return err;
    }
    cp__query q = cp__q(tx, "SELECT after FROM op_log ORDER BY version");
    while (err == ORT_OK && cp__step(&q)) {
        err = fold_record(rows, cp__col_text(&q, 0), diag);
    }
    const ort_err end = cp__q_end(&q, err == ORT_OK ? diag : NULL);
    err = err != ORT_OK ? err : end;
    for (unsigned t = 0; t < CP__TABLES && err == ORT_OK && differ_out[0] == '\0'; t++) {
        err = compare_table(tx, t, rows, differ_out, diag);
    }
    if (err == ORT_OK && differ_out[0] == '\0' && ort_map_count(rows) > 0) {
        size_t at = 0, len;
        const void *key;
        void *value;
        if (ort_map_next(rows, &at, &key, &len, &value)) {
            snprintf(differ_out, 256, "%.*s is gone, and no record removed it",
                     (int)(len < 200 ? len : 200), (const char *)key);
        }
    }
    ort_map_free(rows, free);
    return err;
}
