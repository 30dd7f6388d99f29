/* Snapshots of collections: create, list, download, delete, upload. The file forms of `recover` are
 * refused: a hub fetches nothing from where a tenant says, and opens no path he names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "api/multipart.h"
#include "base/file.h"
#include "base/log.h"

static const ort_log log_api = {"api"};

#define STEP_BYTES (64u << 10)

static dp_snapshot_pin
pin_of(const dp_call *call)
{
    return (dp_snapshot_pin){.regions = call->pass.entry->regions,
                             .region_count = call->pass.entry->region_count};
}

const char *
dp_api__region(const dp_table *table)
{
    const dp_node *self = dp_table_node(table, dp_table_self(table));
    return self != NULL ? self->region : "";
}

static void
write_info(ort_jw *w, const dp_snapshot_info *info)
{
    char when[32], sha256[ORT_HASH_TEXT_BYTES];
    const time_t s = (time_t)(info->created_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm); /* as Qdrant writes it: no zone */
    ort_hash_format(&info->sha256, sha256);
    ort_jw_object(w);
    ort_jw_key(w, "name");
    ort_jw_str(w, info->name);
    ort_jw_key(w, "creation_time");
    ort_jw_str(w, when);
    ort_jw_key(w, "size");
    ort_jw_u64(w, info->bytes);
    ort_jw_key(w, "checksum");
    ort_jw_str(w, sha256);
    ort_jw_object_end(w);
}

/* Snapshots wait unless told otherwise, where writes do not. */
static ort_err
wait_param(dp_call *call, bool *out)
{
    const char *wait = ort_http_req_query(call->req, "wait");
    *out = wait == NULL || strcmp(wait, "true") == 0;
    if (!*out && strcmp(wait, "false") != 0) {
        call->place = DP_PLACE_QUERY;
        return ort_fail(&call->diag, ORT_EFORMAT,
                        "wait: provided string was not `true` or `false`");
    }
    return ORT_OK;
}

void
dp_api__reply_accepted(dp_call *call)
{
    ort_buf out = {0};
    ort_jw w = {.buf = &out};
    ort_jw_object(&w);
    ort_jw_key(&w, "status");
    ort_jw_str(&w, "accepted");
    ort_jw_key(&w, "time");
    dp_api__write_time(&w, call->req);
    ort_jw_object_end(&w);
    ort_http_reply_json(call->req, 202, &out);
    ort_buf_fini(&out);
}

/* --- in the background ------------------------------------------------------------------------ */

/* What a call with wait=false leaves behind; everything is its own. */
typedef struct {
    dp_tenant *tenant;
    const dp_table *table; /* pin and region stand in it */
    dp_snapshot_pin pin;
    char *collection;
    dp_tenant_file *upload; /* NULL: create */
} later;

static void
later_free(later *l)
{
    dp_tenant_file_free(l->upload);
    dp_tenant_unref(l->tenant);
    dp_table_release(l->table);
    free(l->collection);
    free(l);
}

static void
later_run(void *arg)
{
    later *l = arg;
    ort_diag diag = {""};
    dp_snapshot_info info;
    dp_snapshot_totals totals;
    const size_t len = strlen(l->collection);
    const ort_err err =
        l->upload == NULL
            ? dp_tenant_snapshot_create(l->tenant, l->collection, len, &l->pin, &info, &diag)
            : dp_tenant_restore_collection(l->tenant, l->collection, len,
                                           dp_tenant_file_peek_fd(l->upload),
                                           dp_api__region(l->table), &totals, &diag);
    if (err != ORT_OK) {
        char id[ORT_ID_TEXT_BYTES];
        ort_id_format(dp_tenant_id(l->tenant).v, id);
        ORT_LOG_WARN(&log_api, "snapshot.failed", "tenant=%s what=%s err=%s detail=%s", id,
                     l->upload == NULL ? "create" : "restore", ort_err_code(err), diag.text);
    }
    later_free(l);
}

/* Takes over the upload, whatever comes back. */
static ort_err
run_later(dp_call *call, dp_tenant_file *upload)
{
    later *l = calloc(1, sizeof *l);
    char *name = strdup(ort_http_req_param(call->req, "collection"));
    if (l == NULL || name == NULL) {
        free(l);
        free(name);
        dp_tenant_file_free(upload);
        return ORT_ENOMEM;
    }
    *l = (later){.tenant = dp_tenant_ref(call->pass.tenant),
                 .table = dp_table_ref(call->pass.table),
                 .pin = pin_of(call),
                 .collection = name,
                 .upload = upload};
    const ort_err err = dp_tenants_background(call->api->config.tenants, later_run, l, &call->diag);
    if (err != ORT_OK) {
        later_free(l);
        return err;
    }
    dp_api__reply_accepted(call);
    return ORT_OK;
}

/* --- create, list, delete --------------------------------------------------------------------- */

ort_err
dp_api__snapshot_create(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    const dp_snapshot_pin pin = pin_of(call);
    dp_snapshot_info info;
    bool wait;
    ort_err err = wait_param(call, &wait);
    if (err != ORT_OK) {
        return err;
    }
    dp_call_slot_leave(call);
    if (!wait) {
        return dp_tenant_has_collection(call->pass.tenant, name, strlen(name))
                   ? run_later(call, NULL)
                   : ort_fail(&call->diag, ORT_ENOTFOUND, "Collection `%s` doesn't exist!", name);
    }
    err =
        dp_tenant_snapshot_create(call->pass.tenant, name, strlen(name), &pin, &info, &call->diag);
    if (err == ORT_OK) {
        write_info(&call->w, &info);
    }
    return err;
}

static bool
list_one(void *ctx, const dp_snapshot_info *info)
{
    dp_call *call = ctx;
    write_info(&call->w, info);
    return true;
}

ort_err
dp_api__snapshots_list(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    ort_jw_array(&call->w);
    const ort_err err =
        dp_tenant_snapshot_list(call->pass.tenant, name, strlen(name), list_one, call, &call->diag);
    ort_jw_array_end(&call->w);
    return err;
}

ort_err
dp_api__snapshot_delete(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    bool wait;
    ort_err err = wait_param(call, &wait); /* it takes no time: there is nothing to wait for */
    if (err == ORT_OK) {
        dp_call_slot_leave(call);
        err = dp_tenant_snapshot_delete(call->pass.tenant, name, strlen(name),
                                        ort_http_req_param(call->req, "snapshot"), &call->diag);
    }
    ort_jw_bool(&call->w, true);
    return err;
}

/* --- download --------------------------------------------------------------------------------- */

void
dp_api__send_file(dp_call *call, int fd, uint64_t bytes, const char *name)
{
    ort_http_req *req = call->req;
    char *step = malloc(STEP_BYTES);
    uint64_t at = 0;
    ort_diag diag = {""};
    if (step == NULL) {
        dp_api__reply_error(req, 500, "Service internal error: out of memory");
        return;
    }
    ort_http_headerf(req, "Content-Disposition", "attachment; filename=\"%s\"", name);
    ort_err err = ort_http_stream_begin_sized(req, 200, "application/octet-stream", bytes);
    while (err == ORT_OK && at < bytes && ort_http_req_method(req) != ORT_HTTP_HEAD) {
        const size_t n = bytes - at < STEP_BYTES ? (size_t)(bytes - at) : STEP_BYTES;
        err = ort_pread_full(fd, step, n, at, &diag);
        if (err != ORT_OK) {
            /* The answer has begun: that it ends early is all that the client can be told. */
            ORT_LOG_ERROR(&log_api, "snapshot.read_failed", "request=%s err=%s",
                          ort_http_req_id(req), diag.text);
        } else {
            err = ort_http_stream_write(req, step, n);
        }
        at += n;
    }
    ort_http_stream_end(req);
    free(step);
}

ort_err
dp_api__snapshot_get(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    dp_snapshot_info info;
    int fd = -1;
    dp_call_slot_leave(call);
    const ort_err err =
        dp_tenant_snapshot_open(call->pass.tenant, name, strlen(name),
                                ort_http_req_param(call->req, "snapshot"), &fd, &info, &call->diag);
    if (err == ORT_OK) {
        dp_api__send_file(call, fd, info.bytes, info.name);
        dp_tenant_snapshot_close(call->pass.tenant, fd);
    }
    return err;
}

/* --- upload ----------------------------------------------------------------------------------- */

static ort_err
keep(void *ctx, const void *bytes, size_t n, ort_diag *diag)
{
    return dp_tenant_file_write(ctx, bytes, n, diag);
}

ort_err
dp_api__receive_file(dp_call *call, dp_tenant_file *file)
{
    const char *type = ort_http_req_header(call->req, "content-type");
    const bool parts = dp_multipart_is(type);
    dp_multipart multipart = {.fn = keep};
    char *step = malloc(STEP_BYTES);
    size_t n = 1;
    ort_err err = step == NULL ? ORT_ENOMEM : ORT_OK;
    if (err == ORT_OK && parts) {
        err = dp_multipart_init(&multipart, type, "snapshot", keep, file, &call->diag);
    }
    while (err == ORT_OK && n > 0) {
        err = ort_http_req_read(call->req, step, STEP_BYTES, &n);
        if (err != ORT_OK) {
            (void)ort_fail(&call->diag, err, "the upload ended early or came too slowly");
        } else if (n > 0) {
            err = parts ? dp_multipart_put(&multipart, step, n, &call->diag)
                        : keep(file, step, n, &call->diag);
        }
    }
    if (err == ORT_OK && parts) {
        err = dp_multipart_end(&multipart, &call->diag);
    }
    dp_multipart_fini(&multipart);
    free(step);
    return err;
}

/* priority says which replica wins where there are several: here the file always does. */
static ort_err
upload_params(dp_call *call, bool *wait, bool *checked, ort_hash *checksum)
{
    const char *priority = ort_http_req_query(call->req, "priority");
    const char *text = ort_http_req_query(call->req, "checksum");
    const ort_err err = wait_param(call, wait);
    call->place = DP_PLACE_QUERY;
    if (err != ORT_OK) {
        return err;
    }
    if (priority != NULL && strcmp(priority, "no_sync") != 0 && strcmp(priority, "snapshot") != 0 &&
        strcmp(priority, "replica") != 0) {
        return ort_fail(&call->diag, ORT_EFORMAT,
                        "priority: unknown variant, expected one of `no_sync`, `snapshot`, "
                        "`replica`");
    }
    *checked = text != NULL && text[0] != '\0';
    if (*checked && ort_hash_parse(text, strlen(text), checksum) != ORT_OK) {
        return ort_fail(&call->diag, ORT_EFORMAT, "checksum: expected 64 lower-case hex digits");
    }
    call->place = DP_PLACE_BODY;
    return ORT_OK;
}

static ort_err
check_sum(dp_call *call, const dp_tenant_file *file, const ort_hash *want)
{
    ort_hash got;
    char expected[ORT_HASH_TEXT_BYTES], found[ORT_HASH_TEXT_BYTES];
    dp_tenant_file_sha256(file, &got);
    if (ort_hash_equal(&got, want)) {
        return ORT_OK;
    }
    ort_hash_format(want, expected);
    ort_hash_format(&got, found);
    return ort_fail(&call->diag, ORT_EBADREQ, "Snapshot checksum mismatch: expected %s, got %s",
                    expected, found);
}

ort_err
dp_api__snapshot_upload(dp_call *call)
{
    const char *name = ort_http_req_param(call->req, "collection");
    dp_tenant_file *file = NULL;
    dp_snapshot_totals totals;
    ort_hash checksum;
    bool wait = true, checked = false;
    dp_call_slot_leave(call);
    ort_err err = dp_collection_name_check(name, strlen(name), &call->diag);
    if (err == ORT_OK && (call->pass.key->scopes & DP_SCOPE_DATA_WRITE) == 0) {
        err = ort_fail(&call->diag, ORT_EDENIED,
                       "restoring writes points: the key needs data:write besides "
                       "collections:manage");
    }
    if (err == ORT_OK) {
        err = upload_params(call, &wait, &checked, &checksum);
    }
    if (err == ORT_OK) {
        err = dp_tenant_file_new(&file, call->pass.tenant, &call->diag);
    }
    if (err == ORT_OK) {
        err = dp_api__receive_file(call, file);
    }
    if (err == ORT_OK && checked) {
        err = check_sum(call, file, &checksum);
    }
    if (err == ORT_OK && !wait) {
        return run_later(call, file);
    }
    if (err == ORT_OK) {
        err = dp_tenant_restore_collection(call->pass.tenant, name, strlen(name),
                                           dp_tenant_file_peek_fd(file),
                                           dp_api__region(call->pass.table), &totals, &call->diag);
    }
    dp_tenant_file_free(file);
    ort_jw_bool(&call->w, true);
    return err;
}

ort_err
dp_api__snapshot_recover(dp_call *call)
{
    return ort_fail(&call->diag, ORT_EBADREQ,
                    "snapshots are not recovered from a `location`: a hub fetches no URL and opens "
                    "no file that a request names. Send the file itself to POST "
                    "/collections/{collection}/snapshots/upload");
}

ort_err
dp_api__snapshots_whole(dp_call *call)
{
    return ort_fail(&call->diag, ORT_EBADREQ,
                    "a snapshot of the whole storage would hold other tenants' data too. Take one "
                    "of a collection, or let the hub back up the tenant (`orthant tenant backup`)");
}
