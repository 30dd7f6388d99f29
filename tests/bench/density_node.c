/* The directory of a node with many tenants. */
#include "density_node.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "crypto/secret.h"
#include "routing/keep.h"
#include "routing/table_internal.h"
#include "storage/dump.h"
#include "storage/points.h"
#include "tenant/tenant.h"
#include "wire/messages.h"

#define NODE UINT64_C(0x0d0d0d0d0d0d0d0d)
#define HUB UINT64_C(0x0a0a0a0a0a0a0a0a)

static void
must(ort_err err, const ort_diag *diag, const char *what)
{
    if (err != ORT_OK) {
        fprintf(stderr, "bench_density: %s: %s %s\n", what, ort_err_code(err),
                diag != NULL ? diag->text : "");
        exit(1);
    }
}

static int
must_open(int at, const char *path, int flags)
{
    const int fd = openat(at, path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

static int
make_dir(int at, const char *name)
{
    if (mkdirat(at, name, 0700) != 0) {
        perror(name);
        exit(1);
    }
    return must_open(at, name, O_RDONLY | O_DIRECTORY);
}

/* --- identity and table ----------------------------------------------------------------------- */

static void
put_tenant(ort_buf *out, density_tenant *t, const unsigned char *pepper)
{
    ort_token token;
    ort_hash hash;
    char id[ORT_TOKEN_ID_TEXT_BYTES], hex[ORT_HASH_TEXT_BYTES];
    t->id.v = ort_id_random();
    ort_token_make(&token, ORT_TOKEN_LIVE, t->id, NULL);
    ort_token_format(&token, t->token);
    ort_token_hash(&token, pepper, &hash);
    ort_hash_format(&hash, hex);
    ort_key_id_format(token.id, id);
    ort_buf_printf(out,
                   "\"%016" PRIx64 "\":{\"name\":\"tenant-%016" PRIx64 "\",\"state\":\"active\","
                   "\"regions\":[],\"epoch\":1,\"max_stale_s\":0,\"limits\":{"
                   "\"max_collections\":100,\"max_vectors_per_collection\":1000000,"
                   "\"max_vectors\":10000000,\"max_storage_bytes\":100000000000,"
                   "\"max_requests_per_minute\":null},\"keys\":{\"%s\":{\"hash\":\"%s\","
                   "\"scopes\":[\"data:read\",\"data:write\",\"collections:manage\"],"
                   "\"collections\":[],\"expires_at_ms\":null,\"max_requests_per_minute\":null}}}",
                   t->id.v, t->id.v, id, hex);
}

static void
put_body(ort_buf *out, density_tenant *tenants, size_t count, const unsigned char *pepper)
{
    ort_buf_puts(out, "{\"tenants\":{");
    for (size_t i = 0; i < count; i++) {
        ort_buf_puts(out, i > 0 ? "," : "");
        put_tenant(out, &tenants[i], pepper);
    }
    ort_buf_puts(out, "},\"directory\":{");
    for (size_t i = 0; i < count; i++) {
        ort_buf_printf(out, "%s\"%016" PRIx64 "\":{\"home\":\"%016" PRIx64 "\",\"regions\":[]}",
                       i > 0 ? "," : "", tenants[i].id.v, NODE);
    }
    ort_buf_printf(out,
                   "},\"nodes\":{\"%016" PRIx64 "\":{\"region\":\"eu-central\",\"zone\":\"a\","
                   "\"endpoint\":\"http://127.0.0.1:1\",\"forward\":\"\"}}}",
                   NODE);
}

static void
keep_table(int node_fd, const ort_sign_key *control, const ort_buf *body)
{
    ort_diag diag = {{0}};
    const dp_table *table;
    dp_keep *keep;
    ort_buf envelope = {0};
    ort_table_head head = {.hub_id = HUB,
                           .node = {NODE},
                           .at = {.generation = 1, .version = 1},
                           .issued_at_ms = ort_wall_ms()};
    must(dp_table_from_body(&table, head.node, head.at, head.issued_at_ms, body->data, body->len,
                            &diag),
         &diag, "table");
    ort_table_hash(dp_table__peek_content(table), &head.at.hash);
    must(ort_envelope_seal(&head, body->data, body->len, control, &envelope, &diag), &diag, "seal");
    must(dp_keep_open(&keep, node_fd, &diag), &diag, "keep");
    must(dp_keep_put(keep, &head, envelope.data, envelope.len, NULL, &diag), &diag, "keep");
    dp_keep_close(keep);
    dp_table_release(table);
    ort_buf_fini(&envelope);
}

void
density_node_make(const char *dir, density_tenant *tenants, size_t count)
{
    ort_diag diag = {{0}};
    ort_sign_key control, node;
    ort_buf body = {0}, credential = {0};
    ort_hello_reply hello = {.hub_id = HUB, .node = {NODE}, .has_pepper = true};
    const int top = make_dir(AT_FDCWD, dir);
    const int node_fd = make_dir(top, "node");

    ort_sign_key_new(&control);
    ort_sign_key_new(&node);
    must(ort_sign_key_save(&node, node_fd, "node.key", &diag), &diag, "node.key");
    hello.control_key = control.public;
    ort_random_bytes(hello.pepper, sizeof hello.pepper);
    must(ort_hello_reply_encode(&hello, &credential), NULL, "credential");
    must(ort_secret_file_write(node_fd, "credential", credential.data, credential.len, &diag),
         &diag, "credential");
    put_body(&body, tenants, count, hello.pepper);
    must(ort_buf_check(&body), NULL, "table");
    keep_table(node_fd, &control, &body);
    ort_buf_fini(&body);
    ort_buf_fini(&credential);
    close(node_fd);
    close(top);
}

/* --- points ----------------------------------------------------------------------------------- */

void
density_vector(ort_buf *out, uint64_t seed, unsigned dim)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (unsigned i = 0; i < dim; i++) {
        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        ort_buf_printf(out, "%c0.%04u", i == 0 ? '[' : ',', (unsigned)(x >> 33) % 10000);
    }
    ort_buf_puts(out, "]");
}

static ort_json_doc *
parse(const ort_buf *text)
{
    ort_json_doc *doc;
    ort_diag diag = {{0}};
    must(ort_json_parse(&doc, text->data, text->len, (ort_json_limits){0}, &diag), &diag, "JSON");
    return doc;
}

static void
write_points(dp_collection *c, unsigned first, unsigned count, unsigned dim)
{
    ort_diag diag = {{0}};
    ort_buf text = {0};
    dp_op *op;
    dp_op_result result;
    dp_schema *schema = dp_collection_schema(c);
    ort_buf_puts(&text, "{\"points\":[");
    for (unsigned i = 0; i < count; i++) {
        ort_buf_printf(&text,
                       "%s{\"id\":%u,\"payload\":{\"title\":\"note %u\",\"kind\":\"k%u\",\"n\":%u},"
                       "\"vector\":",
                       i > 0 ? "," : "", first + i, first + i, (first + i) % 7, first + i);
        density_vector(&text, first + i, dim);
        ort_buf_puts(&text, "}");
    }
    ort_buf_puts(&text, "]}");
    ort_json_doc *doc = parse(&text);
    must(dp_op_parse(&op, DP_OP_UPSERT, schema, ort_json_root(doc), &diag), &diag, "points");
    must(dp_collection_apply(c, op, 0, &result, &diag), &diag, "write");
    dp_op_free(op);
    ort_json_free(doc);
    dp_schema_unref(schema);
    ort_buf_fini(&text);
}

static void
index_field(dp_tenant *t, const char *field, const char *kind)
{
    ort_diag diag = {{0}};
    ort_buf text = {0};
    ort_buf_puts(&text, kind);
    ort_json_doc *doc = parse(&text);
    must(dp_tenant_set_field(t, DENSITY_COLLECTION, strlen(DENSITY_COLLECTION), field,
                             strlen(field), ort_json_root(doc), &diag),
         &diag, "index");
    ort_json_free(doc);
    ort_buf_fini(&text);
}

/* One tenant through the real path, and closed. */
static void
write_first(int top, ort_tenant_id id, unsigned points, unsigned dim, bool indexes)
{
    ort_diag diag = {{0}};
    dp_tenants *all;
    dp_tenant *t;
    dp_collection *c;
    dp_schema *schema;
    ort_buf text = {0};
    const dp_tenants_config config = {.idle_close_ms = 0};
    const size_t name_len = strlen(DENSITY_COLLECTION);
    must(dp_tenants_open(&all, top, &config, &diag), &diag, "tenants");
    must(dp_tenants_get(all, id, &t, &diag), &diag, "tenant");
    ort_buf_printf(&text, "{\"vectors\":{\"size\":%u,\"distance\":\"Cosine\"}}", dim);
    ort_json_doc *doc = parse(&text);
    must(dp_schema_parse(&schema, ort_json_root(doc), &diag), &diag, "schema");
    must(dp_tenant_create_collection(t, DENSITY_COLLECTION, name_len, schema, &diag), &diag,
         "create");
    if (indexes) {
        index_field(t, "kind", "\"keyword\"");
        index_field(t, "n", "\"integer\"");
    }
    must(dp_tenant_use(t, DENSITY_COLLECTION, name_len, &c, &diag), &diag, "use");
    for (unsigned i = 0; i < points; i += 100) {
        write_points(c, i, points - i < 100 ? points - i : 100, dim);
    }
    dp_tenant_release(t, c);
    dp_tenant_unref(t);
    dp_tenants_close(all);
    dp_schema_unref(schema);
    ort_json_free(doc);
    ort_buf_fini(&text);
}

/* --- copies ----------------------------------------------------------------------------------- */

typedef struct {
    char name[256];
    ort_buf bytes;
} model_file;

typedef struct {
    ort_tenant_id tenant;
    ort_collection_id collection;
    ort_buf catalog;
    model_file files[8]; /* of the collection */
    size_t file_count;
} model;

static void
read_model(model *m, int tenants_fd, ort_tenant_id id)
{
    char path[128], text[ORT_ID_TEXT_BYTES];
    ort_diag diag = {{0}};
    m->tenant = id;
    ort_id_format(id.v, text);
    snprintf(path, sizeof path, "%s/catalog.json", text);
    must(ort_file_read(tenants_fd, path, 1u << 20, &m->catalog, &diag), &diag, "catalog");
    const int fd = must_open(tenants_fd, text, O_RDONLY | O_DIRECTORY);
    ort_tenant_id owner;
    must(dp_storage_owner(fd, &owner, &m->collection, &diag), &diag, "the collection's files");
    DIR *dir = fdopendir(fd);
    must(dir != NULL ? ORT_OK : ORT_EIO, NULL, "list the collection");
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL && m->file_count < 8;) {
        if (dp_storage_has_name(d->d_name)) {
            model_file *f = &m->files[m->file_count++];
            snprintf(f->name, sizeof f->name, "%s", d->d_name);
            must(ort_file_read(fd, d->d_name, 1u << 30, &f->bytes, &diag), &diag, d->d_name);
        }
    }
    closedir(dir);
}

/* See the header: the ids stand at 16 and 24, the checksum over all before it at crc_at. */
static void
rename_owner(model_file *f, ort_tenant_id tenant, ort_collection_id collection)
{
    unsigned char *bytes = (unsigned char *)f->bytes.data;
    const size_t crc_at = strncmp(f->name, "log.", 4) == 0   ? 60
                          : strncmp(f->name, "seg.", 4) == 0 ? 84
                                                             : f->bytes.len - 4;
    ort_put_u64(bytes + 16, tenant.v);
    ort_put_u64(bytes + 24, collection.v);
    ort_put_u32(bytes + crc_at, ort_crc32c(0, bytes, crc_at));
}

static void
put_file(int fd, const char *name, const void *bytes, size_t n)
{
    ort_diag diag = {{0}};
    const int file = must_open(fd, name, O_WRONLY | O_CREAT | O_EXCL);
    must(ort_write_full(file, bytes, n, &diag), &diag, name);
    close(file);
}

static void
put_catalog(int fd, const model *m, ort_tenant_id tenant, ort_collection_id collection)
{
    char from[2][ORT_ID_TEXT_BYTES], to[2][ORT_ID_TEXT_BYTES], crc[9];
    ort_buf text = {0};
    ort_id_format(m->tenant.v, from[0]);
    ort_id_format(m->collection.v, from[1]);
    ort_id_format(tenant.v, to[0]);
    ort_id_format(collection.v, to[1]);
    ort_buf_put(&text, m->catalog.data, m->catalog.len);
    for (size_t i = 0; i < 2; i++) {
        char *at;
        while ((at = memmem(text.data, text.len, from[i], 16)) != NULL) {
            memcpy(at, to[i], 16);
        }
    }
    /* ...,"crc32c":"12345678"} */
    snprintf(crc, sizeof crc, "%08" PRIx32, ort_crc32c(0, text.data, text.len - 21));
    memcpy(text.data + text.len - 10, crc, 8);
    put_file(fd, "catalog.json", text.data, text.len);
    put_file(fd, "catalog.old", text.data, text.len);
    ort_buf_fini(&text);
}

static void
copy_tenant(model *m, int tenants_fd, ort_tenant_id id, bool check)
{
    char name[ORT_ID_TEXT_BYTES];
    const ort_collection_id collection = {ort_id_random()};
    ort_id_format(id.v, name);
    const int dir = make_dir(tenants_fd, name);
    for (size_t i = 0; i < m->file_count; i++) {
        rename_owner(&m->files[i], id, collection);
        put_file(dir, m->files[i].name, m->files[i].bytes.data, m->files[i].bytes.len);
    }
    put_catalog(dir, m, id, collection);
    if (check) {
        ort_diag diag = {{0}};
        dp_verify_report report;
        must(dp_storage_verify(dir, id, collection, &report, &diag), &diag, "verify a copy");
    }
    close(dir);
}

void
density_node_fill(const char *dir, const density_tenant *tenants, size_t count, unsigned points,
                  unsigned dim, bool indexes)
{
    model m = {0};
    const int top = must_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
    write_first(top, tenants[0].id, points, dim, indexes);
    const int tenants_fd = must_open(top, "tenants", O_RDONLY | O_DIRECTORY);
    read_model(&m, tenants_fd, tenants[0].id);
    for (size_t i = 1; i < count; i++) {
        copy_tenant(&m, tenants_fd, tenants[i].id, i % 100 == 1);
    }
    ort_buf_fini(&m.catalog);
    for (size_t i = 0; i < m.file_count; i++) {
        ort_buf_fini(&m.files[i].bytes);
    }
    close(tenants_fd);
    close(top);
}
