/* A collection: its files read and checked, and made good where they are not. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/file.h>

#include "base/file.h"
#include "collection/op.h"
#include "inspect/inspect_internal.h"
#include "storage/repair.h"

static void
say_line(void *arg, const char *line)
{
    dp_inspect__say(arg, "  ", "%s", line);
}

typedef struct {
    uint64_t lsn_folded, records;
} records_seen;

/* A record that a checksum calls good and nobody can read would stop the shard at its replay. */
static ort_err
check_record(void *ctx, const dp_log_record *record, ort_diag *diag)
{
    records_seen *seen = ctx;
    ort_buf text = {0};
    seen->records += record->lsn > seen->lsn_folded;
    const ort_err err = dp_op_describe(record->body, record->len, &text);
    ort_buf_fini(&text);
    return err == ORT_ECORRUPT
               ? ort_fail(diag, err, "record %" PRIu64 " is no operation", record->lsn)
               : err;
}

/* Everything that can be checked without changing anything. */
static ort_err
check(int dir, ort_tenant_id tenant, ort_collection_id id, const dp_catalog_entry *expected,
      dp_verify_report *out, bool *folded, ort_diag *diag)
{
    ort_err err = dp_storage_verify(dir, tenant, id, out, diag);
    records_seen seen = {.lsn_folded = out->lsn};
    if (err == ORT_OK) {
        err = dp_storage_verify_records(dir, tenant, id, check_record, &seen, diag);
    }
    *folded = err == ORT_OK && seen.records == 0;
    /* Behind a checkpoint the log changes the number: only a replay knows it then. */
    if (err == ORT_OK && expected != NULL && expected->clean && seen.records == 0 &&
        expected->points != out->points) {
        err =
            ort_fail(diag, ORT_ECORRUPT, "it has %" PRIu64 " points, and the catalog says %" PRIu64,
                     out->points, expected->points);
    }
    return err;
}

static ort_err
repair(dp_inspect *i, int tenant_dir, int dir, ort_tenant_id tenant, ort_collection_id id,
       ort_diag *diag)
{
    dp_repair_report done;
    char name[ORT_ID_TEXT_BYTES];
    ort_err err = dp_storage_repair(dir, tenant, id, say_line, i, &done, diag);
    if (err != ORT_OK) {
        dp_inspect__say(i, "damaged", "it could not be repaired: %s",
                        diag != NULL ? diag->text : "");
        return err == ORT_ECORRUPT ? ORT_OK : err;
    }
    /* Graphs name slots, and these are others now. */
    ort_id_format(id.v, name);
    const int indexes =
        tenant_dir >= 0 ? ort_open_beneath(tenant_dir, "indexes", O_RDONLY | O_DIRECTORY, 0) : -1;
    if (indexes >= 0) {
        err = ort_tree_remove(indexes, name, diag);
    }
    ort_fd_close(indexes);
    if (err == ORT_OK && tenant_dir >= 0) {
        err = dp_catalog_forget_sizes(tenant_dir, tenant, &id, diag);
        err = err == ORT_ENOTFOUND || err == ORT_ECORRUPT ? ORT_OK : err;
    }
    if (err == ORT_OK) {
        i->report->damaged--;
        i->report->repaired++;
        dp_inspect__say(i, "repaired",
                        "%" PRIu64 " points and %" PRIu64 " operations are known to be lost",
                        done.points_lost, done.records_lost);
    }
    return err;
}

ort_err
dp_inspect__collection(dp_inspect *i, int tenant_dir, int dir, ort_tenant_id tenant,
                       ort_collection_id id, const dp_catalog_entry *expected, ort_diag *diag)
{
    dp_verify_report whole = {0};
    ort_diag why = {""};
    bool folded = false;
    i->report->collections++;
    if (flock(dir, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return ort_fail_errno(diag, ORT_EIO, "lock %s", i->where);
        }
        i->report->notes++;
        dp_inspect__say(i, "open", "a node has it open: not looked at");
        return ORT_OK;
    }
    ort_err err = check(dir, tenant, id, expected, &whole, &folded, &why);
    i->report->files += whole.files;
    i->report->bytes += whole.bytes;
    i->report->points += whole.points;
    if (err == ORT_OK) {
        dp_inspect__say(i, "good", "%" PRIu64 " points up to operation %" PRIu64, whole.points,
                        whole.lsn);
        err = expected != NULL
                  ? dp_inspect__derived(i, tenant_dir, dir, tenant, expected, folded, diag)
                  : ORT_OK;
        if (err == ORT_OK && (expected == NULL || !expected->home)) {
            err = dp_inspect__strays_of_shard(i, dir, diag);
        }
    } else if (err == ORT_ENOMEM) {
        err = ort_fail(diag, err, "%s", why.text);
    } else {
        i->report->damaged++;
        dp_inspect__say(i, "damaged", "%s", why.text);
        err = i->repair && err != ORT_EVERSION ? repair(i, tenant_dir, dir, tenant, id, diag)
                                               : ORT_OK;
    }
    (void)flock(dir, LOCK_UN);
    return err;
}
