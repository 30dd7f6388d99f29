/* Qdrant's snapshot calls as a client meets them: taken, listed, sent, deleted, uploaded; what is
 * refused; and that a second tenant sees nothing of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "crypto/hash.h"
#include "support/snapshot_forge.h"
#include "support/test_node.h"
#include "wire/grant.h"

#define CREATE "{\"vectors\":{\"size\":4,\"distance\":\"Dot\"}}"

static void
fill(const test_node *node, const char *key, const char *name, int first, int count)
{
    char path[128];
    ort_buf body = {0};
    snprintf(path, sizeof path, "/collections/%s", name);
    free(test_call(node->port, key, 200, "PUT", path, CREATE));
    ort_buf_puts(&body, "{\"points\":[");
    for (int i = 0; i < count; i++) {
        ort_buf_printf(&body, "%s{\"id\":%d,\"vector\":[%d,1,2,3],\"payload\":{\"n\":%d}}",
                       i > 0 ? "," : "", first + i, i, first + i);
    }
    ort_buf_puts(&body, "]}");
    snprintf(path, sizeof path, "/collections/%s/points?wait=true", name);
    free(test_call(node->port, key, 200, "PUT", path, ort_buf_peek_cstr(&body)));
    ort_buf_fini(&body);
}

static void
expect_count(const test_node *node, const char *key, const char *name, int count)
{
    char path[128], part[64];
    snprintf(path, sizeof path, "/collections/%s/points/count", name);
    snprintf(part, sizeof part, "\"count\":%d}", count);
    test_expect(node->port, key, 200, part, "POST", path, "{}");
}

static void
text_of(const char *json, const char *key, char *out, size_t cap)
{
    char want[64];
    snprintf(want, sizeof want, "\"%s\":\"", key);
    const char *at = strstr(json, want);
    assert_non_null(at);
    at += strlen(want);
    const size_t n = strcspn(at, "\"");
    assert_true(n < cap);
    memcpy(out, at, n);
    out[n] = '\0';
}

/* Takes a snapshot and downloads it. */
static test_answer
take(const test_node *node, const char *key, const char *name, char snapshot[160],
     char checksum[ORT_HASH_TEXT_BYTES])
{
    char path[400];
    snprintf(path, sizeof path, "/collections/%s/snapshots", name);
    char *made = test_call(node->port, key, 200, "POST", path, NULL);
    text_of(made, "name", snapshot, 160);
    text_of(made, "checksum", checksum, ORT_HASH_TEXT_BYTES);
    free(made);
    snprintf(path, sizeof path, "/collections/%s/snapshots/%s", name, snapshot);
    test_answer file = test_request(node->port, key, "GET", path, NULL);
    assert_int_equal(file.status, 200);
    ort_sha256 h;
    ort_hash hash;
    char got[ORT_HASH_TEXT_BYTES];
    ort_sha256_init(&h);
    ort_sha256_put(&h, file.body, file.body_len);
    ort_sha256_done(&h, &hash);
    ort_hash_format(&hash, got);
    assert_string_equal(got, checksum);
    return file;
}

static char *
upload(const test_node *node, const char *key, int status, const char *target, const void *bytes,
       size_t len)
{
    test_answer a = test_request_n(node->port, key, "POST", target, bytes, len);
    if (a.status != status) {
        fail_msg("%s: %d %s", target, a.status, a.body);
    }
    char *body = strdup(a.body);
    test_answer_fini(&a);
    return body;
}

/* The same as a browser or an official client sends it. */
static test_answer
upload_form(const test_node *node, const char *key, const char *target, const char *part,
            const void *bytes, size_t len, bool whole)
{
    ort_buf body = {0}, out = {0};
    ort_buf_puts(&body,
                 "preamble\r\n--xYz\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n"
                 "of no interest\r\n--xY\r\n--xYz\r\nContent-Type: application/octet-stream"
                 "\r\n");
    ort_buf_printf(&body, "content-disposition: form-data; filename=\"a b\"; name=\"%s\"\r\n\r\n",
                   part);
    ort_buf_put(&body, bytes, len);
    ort_buf_puts(&body, whole ? "\r\n--xYz--\r\nepilogue" : "\r\n--xY");
    ort_buf_printf(&out,
                   "POST %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\napi-key: %s\r\n"
                   "Content-Type: multipart/form-data; boundary=\"xYz\"\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   target, key, body.len);
    const int fd = test_connect(node->port);
    ort_buf_put(&out, body.data, body.len);
    test_send(fd, out.data, out.len);
    const test_answer a = test_receive(fd, 60000);
    close(fd);
    ort_buf_fini(&body);
    ort_buf_fini(&out);
    return a;
}

/* Files in the tenant's directory of snapshots. */
static int
files_left(const test_node *node, const test_tenant *t)
{
    char path[200], id[ORT_ID_TEXT_BYTES];
    int count = 0;
    ort_id_format(t->id.v, id);
    snprintf(path, sizeof path, "%s/tenants/%s/snapshots", node->dir, id);
    DIR *dir = opendir(path);
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;) {
        count += d->d_name[0] != '.';
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

static void
a_snapshot_is_taken_listed_sent_and_deleted(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES], path[400], field[200];
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 100);
    test_expect(node.port, key, 200, "\"result\":[]", "GET", "/collections/docs/snapshots", NULL);
    test_answer file = take(&node, key, "docs", snapshot, checksum);
    assert_int_equal(strncmp(snapshot, "docs-20", 7), 0);
    snprintf(field, sizeof field, "\"size\":%zu", file.body_len);
    test_expect(node.port, key, 200, field, "GET", "/collections/docs/snapshots", NULL);
    test_answer_field(&file, "content-length", field, sizeof field);
    assert_int_equal(atoi(field), file.body_len);
    test_answer_field(&file, "content-disposition", field, sizeof field);
    assert_non_null(strstr(field, snapshot));

    /* By an alias, and after a restart. */
    free(test_call(node.port, key, 200, "POST", "/collections/aliases",
                   "{\"actions\":[{\"create_alias\":{\"collection_name\":\"docs\",\"alias_name\":"
                   "\"live\"}}]}"));
    test_node_restart(&node);
    test_expect(node.port, key, 200, checksum, "GET", "/collections/live/snapshots", NULL);
    snprintf(path, sizeof path, "/collections/live/snapshots/%s", snapshot);
    test_answer again = test_request(node.port, key, "GET", path, NULL);
    assert_int_equal(again.status, 200);
    assert_int_equal(again.body_len, file.body_len);
    assert_memory_equal(again.body, file.body, file.body_len);
    test_answer_fini(&again);

    free(test_call(node.port, key, 404, "GET", "/collections/docs/snapshots/..%2f..%2fcatalog.json",
                   NULL));
    free(test_call(node.port, key, 404, "GET", "/collections/none/snapshots", NULL));
    test_expect(node.port, key, 200, "true", "DELETE", path, NULL);
    free(test_call(node.port, key, 404, "DELETE", path, NULL));
    free(test_call(node.port, key, 404, "GET", path, NULL));
    assert_int_equal(files_left(&node, &tenants[0]), 0);

    /* A collection's snapshots go with it. */
    free(test_call(node.port, key, 200, "POST", "/collections/docs/snapshots", NULL));
    assert_int_equal(files_left(&node, &tenants[0]), 1);
    free(test_call(node.port, key, 200, "DELETE", "/collections/docs", NULL));
    assert_int_equal(files_left(&node, &tenants[0]), 0);
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
an_upload_replaces_the_collection_or_makes_a_new_one(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES], path[300];
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 100);
    test_answer file = take(&node, key, "docs", snapshot, checksum);

    /* Under the same name: what came later is gone, aliases and snapshots stay. */
    free(test_call(node.port, key, 200, "POST", "/collections/aliases",
                   "{\"actions\":[{\"create_alias\":{\"collection_name\":\"docs\",\"alias_name\":"
                   "\"live\"}}]}"));
    fill(&node, key, "other", 1, 3);
    free(test_call(node.port, key, 200, "POST", "/collections/docs/points/delete?wait=true",
                   "{\"points\":[1,2,3]}"));
    expect_count(&node, key, "docs", 97);
    snprintf(path, sizeof path, "/collections/docs/snapshots/upload?priority=snapshot&checksum=%s",
             checksum);
    free(upload(&node, key, 200, path, file.body, file.body_len));
    expect_count(&node, key, "docs", 100);
    expect_count(&node, key, "live", 100);
    test_expect(node.port, key, 200, snapshot, "GET", "/collections/docs/snapshots", NULL);
    test_expect(node.port, key, 200, "\"n\":7", "GET", "/collections/docs/points/7", NULL);

    /* It is written to as any other, and survives a restart. */
    free(test_call(node.port, key, 200, "PUT", "/collections/docs/points?wait=true",
                   "{\"points\":[{\"id\":1000,\"vector\":[1,2,3,4]}]}"));
    test_node_restart(&node);
    expect_count(&node, key, "live", 101);

    /* By an alias it is the alias's collection. */
    free(upload(&node, key, 200, "/collections/live/snapshots/upload", file.body, file.body_len));
    expect_count(&node, key, "docs", 100);
    test_expect(node.port, key, 200, "\"alias_name\":\"live\"", "GET", "/aliases", NULL);

    /* As a form, under a new name. */
    test_answer a = upload_form(&node, key, "/collections/copy/snapshots/upload?wait=true",
                                "snapshot", file.body, file.body_len, true);
    assert_int_equal(a.status, 200);
    test_answer_fini(&a);
    expect_count(&node, key, "copy", 100);
    expect_count(&node, key, "other", 3);
    assert_int_equal(files_left(&node, &tenants[0]), 1); /* uploads leave nothing */
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
a_bad_upload_changes_nothing(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES];
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 50);
    test_answer file = take(&node, key, "docs", snapshot, checksum);
    free(test_call(node.port, key, 200, "POST", "/collections/docs/points/delete?wait=true",
                   "{\"points\":[1]}"));
    const char *target = "/collections/docs/snapshots/upload";

    char *said = upload(&node, key, 400, target, "not a snapshot at all", 21);
    assert_non_null(strstr(said, "Wrong input: snapshot: the file is none of ours"));
    free(said);
    free(upload(&node, key, 400, target, "", 0));
    free(upload(&node, key, 400, target, file.body, file.body_len - 1));
    file.body[file.body_len / 2] ^= 1;
    free(upload(&node, key, 400, target, file.body, file.body_len));
    file.body[file.body_len / 2] ^= 1;
    said = upload(&node, key, 400,
                  "/collections/docs/snapshots/upload?checksum="
                  "0000000000000000000000000000000000000000000000000000000000000000",
                  file.body, file.body_len);
    assert_non_null(strstr(said, "checksum mismatch"));
    free(said);
    free(upload(&node, key, 400, "/collections/docs/snapshots/upload?checksum=zz", file.body,
                file.body_len));
    free(upload(&node, key, 400, "/collections/docs/snapshots/upload?priority=mine", file.body,
                file.body_len));
    free(upload(&node, key, 422, "/collections/a%2Fb/snapshots/upload", file.body, file.body_len));
    test_answer a = upload_form(&node, key, target, "file", file.body, file.body_len, true);
    assert_int_equal(a.status, 400);
    test_answer_fini(&a);
    a = upload_form(&node, key, target, "snapshot", file.body, file.body_len, false);
    assert_int_equal(a.status, 400);
    test_answer_fini(&a);

    const char *locations[] = {"{\"location\":\"http://10.0.0.1/x\"}",
                               "{\"location\":\"file:///etc/passwd\"}"};
    for (size_t i = 0; i < 2; i++) {
        test_expect(node.port, key, 400, "fetches no URL", "PUT",
                    "/collections/docs/snapshots/recover", locations[i]);
    }
    test_expect(node.port, key, 400, "other tenants", "POST", "/snapshots", NULL);

    expect_count(&node, key, "docs", 49);
    assert_int_equal(files_left(&node, &tenants[0]), 1);
    test_node_restart(&node);
    expect_count(&node, key, "docs", 49);
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
another_tenant_sees_and_reaches_nothing(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[2] = {{.name = "a"}, {.name = "b"}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES], path[400];
    test_node_start(&node, tenants, 2);
    const char *a = tenants[0].keys[0].token, *b = tenants[1].keys[0].token;
    fill(&node, a, "docs", 1, 10);
    fill(&node, b, "docs", 500, 2);
    test_answer file = take(&node, a, "docs", snapshot, checksum);
    snprintf(path, sizeof path, "/collections/docs/snapshots/%s", snapshot);
    test_expect(node.port, b, 200, "\"result\":[]", "GET", "/collections/docs/snapshots", NULL);
    free(test_call(node.port, b, 404, "GET", path, NULL));
    free(test_call(node.port, b, 404, "DELETE", path, NULL));
    free(test_call(node.port, NULL, 401, "GET", path, NULL));
    expect_count(&node, b, "docs", 2);
    test_expect(node.port, a, 200, checksum, "GET", "/collections/docs/snapshots", NULL);

    /* The file itself is portable: whoever was given it may restore it as his own. */
    free(upload(&node, b, 200, "/collections/mine/snapshots/upload", file.body, file.body_len));
    expect_count(&node, b, "mine", 10);
    free(test_call(node.port, a, 404, "GET", "/collections/mine", NULL));
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
scopes_and_globs_hold_for_snapshots(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a",
                               .key_count = 5,
                               .keys = {{.per_minute = 0},
                                        {.scopes = "[\"data:read\"]"},
                                        {.scopes = "[\"collections:manage\"]"},
                                        {.scopes = "[\"data:write\"]"},
                                        {.collections = "[\"public-*\"]"}}}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES], path[400];
    test_node_start(&node, tenants, 1);
    const test_key *keys = tenants[0].keys;
    fill(&node, keys[0].token, "docs", 1, 10);
    test_answer file = take(&node, keys[0].token, "docs", snapshot, checksum);
    snprintf(path, sizeof path, "/collections/docs/snapshots/%s", snapshot);
    free(test_call(node.port, keys[1].token, 403, "POST", "/collections/docs/snapshots", NULL));
    free(test_call(node.port, keys[1].token, 200, "GET", "/collections/docs/snapshots", NULL));
    free(test_call(node.port, keys[1].token, 200, "GET", path, NULL));
    free(test_call(node.port, keys[1].token, 403, "DELETE", path, NULL));
    free(test_call(node.port, keys[2].token, 403, "GET", path, NULL));
    free(test_call(node.port, keys[2].token, 200, "POST", "/collections/docs/snapshots", NULL));
    free(test_call(node.port, keys[3].token, 403, "GET", "/collections/docs/snapshots", NULL));
    free(upload(&node, keys[2].token, 403, "/collections/docs/snapshots/upload", file.body,
                file.body_len));
    free(upload(&node, keys[3].token, 403, "/collections/docs/snapshots/upload", file.body,
                file.body_len));
    free(test_call(node.port, keys[4].token, 403, "GET", path, NULL));
    free(upload(&node, keys[4].token, 403, "/collections/docs/snapshots/upload", file.body,
                file.body_len));
    free(upload(&node, keys[4].token, 200, "/collections/public-docs/snapshots/upload", file.body,
                file.body_len));
    test_answer_fini(&file);
    test_node_stop(&node);
}

/* Exactly as much as the quota has room for, the room of the replaced collection included. */
static void
quotas_hold_for_restored_points(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a", .max_points = 100, .max_collections = 2}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES];
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 60);
    test_answer file = take(&node, key, "docs", snapshot, checksum);
    char *said =
        upload(&node, key, 507, "/collections/copy/snapshots/upload", file.body, file.body_len);
    assert_non_null(strstr(said, "60 of 100 points are used, 60 more do not fit"));
    free(said);
    fill(&node, key, "rest", 1, 40);
    free(upload(&node, key, 200, "/collections/docs/snapshots/upload", file.body, file.body_len));
    expect_count(&node, key, "docs", 60);
    free(upload(&node, key, 507, "/collections/rest/snapshots/upload", file.body, file.body_len));
    expect_count(&node, key, "rest", 40);
    free(test_call(node.port, key, 200, "POST", "/collections/rest/points/delete?wait=true",
                   "{\"filter\":{}}"));
    /* A third collection is one too many. Nothing is held by what was refused: forty more fit. */
    free(upload(&node, key, 507, "/collections/third/snapshots/upload", file.body, file.body_len));
    free(test_call(node.port, key, 200, "DELETE", "/collections/rest", NULL));
    fill(&node, key, "rest", 1, 40);
    free(test_call(node.port, key, 507, "PUT", "/collections/rest/points?wait=true",
                   "{\"points\":[{\"id\":1000,\"vector\":[1,2,3,4]}]}"));
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
without_waiting_it_is_202_and_done_soon(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[1] = {{.name = "a"}};
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES];
    test_node_start(&node, tenants, 1);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 30);
    test_expect(node.port, key, 202, "\"status\":\"accepted\"", "POST",
                "/collections/docs/snapshots?wait=false", NULL);
    free(test_call(node.port, key, 404, "POST", "/collections/none/snapshots?wait=false", NULL));
    free(test_call(node.port, key, 400, "POST", "/collections/docs/snapshots?wait=maybe", NULL));
    const uint64_t until = ort_mono_ms() + 60000;
    for (bool there = false; !there;) {
        char *list = test_call(node.port, key, 200, "GET", "/collections/docs/snapshots", NULL);
        there = strstr(list, "checksum") != NULL;
        free(list);
        assert_true(ort_mono_ms() < until);
        usleep(5000);
    }
    test_answer file = take(&node, key, "docs", snapshot, checksum);
    free(upload(&node, key, 202, "/collections/later/snapshots/upload?wait=false", file.body,
                file.body_len));
    for (bool there = false; !there;) {
        char *answer = test_call(node.port, key, 200, "GET", "/collections/later/exists", NULL);
        there = strstr(answer, "\"exists\":true") != NULL;
        free(answer);
        assert_true(ort_mono_ms() < until);
        usleep(5000);
    }
    expect_count(&node, key, "later", 30);
    test_answer_fini(&file);
    test_node_stop(&node); /* waits for what is in the background */
}

/* --- a whole tenant --------------------------------------------------------------------------- */

static void
grant_text(const test_node *node, ort_grant_op op, const test_tenant *t, const test_tenant *from,
           int64_t ttl_ms, char out[ORT_GRANT_TEXT_BYTES])
{
    const ort_grant grant = {.op = op,
                             .hub_id = TEST_HUB,
                             .node = {TEST_SELF},
                             .tenant = t->id,
                             .from = from != NULL ? from->id : (ort_tenant_id){0},
                             .expires_ms = ort_wall_ms() + ttl_ms,
                             .nonce = ort_id_random()};
    ort_grant_format(&grant, &node->hub_key, out);
}

/* A request with a grant in the place of a key. */
static test_answer
granted(const test_node *node, const char *grant, const char *method, const char *target,
        const void *body, size_t len)
{
    ort_buf out = {0};
    const int fd = test_connect(node->port);
    ort_buf_printf(&out,
                   "%s %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                   "Authorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n",
                   method, target, grant, len);
    if (len > 0) {
        ort_buf_put(&out, body, len);
    }
    test_send(fd, out.data, out.len);
    const test_answer a = test_receive(fd, 60000);
    close(fd);
    ort_buf_fini(&out);
    return a;
}

static test_answer
move(const test_node *node, ort_grant_op op, const test_tenant *t, const test_tenant *from,
     const char *target, const test_answer *file, int status)
{
    char grant[ORT_GRANT_TEXT_BYTES];
    grant_text(node, op, t, from, 60000, grant);
    const test_answer a =
        granted(node, grant, op == ORT_GRANT_BACKUP ? "GET" : "POST", target,
                file != NULL ? file->body : NULL, file != NULL ? file->body_len : 0);
    if (a.status != status) {
        fail_msg("%s: %d %s", target, a.status, a.body);
    }
    return a;
}

static void
a_tenant_goes_into_one_file_and_comes_back_as_another(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[4] = {{.name = "a"},
                              {.name = "b"},
                              {.name = "c", .max_points = 20},
                              {.name = "d", .regions = "[\"eu-central\"]"}};
    test_node_start(&node, tenants, 4);
    const char *a = tenants[0].keys[0].token, *b = tenants[1].keys[0].token;
    const char *c = tenants[2].keys[0].token;
    fill(&node, a, "docs", 1, 30);
    fill(&node, a, "images", 1, 12);
    free(test_call(node.port, a, 200, "POST", "/collections/aliases",
                   "{\"actions\":[{\"create_alias\":{\"collection_name\":\"docs\",\"alias_name\":"
                   "\"live\"}}]}"));
    test_node_restart(&node); /* everything is closed: a backup opens what it needs */
    test_answer file =
        move(&node, ORT_GRANT_BACKUP, &tenants[0], NULL, "/tenant/backup", NULL, 200);
    char field[100];
    test_answer_field(&file, "x-orthant-points", field, sizeof field);
    assert_string_equal(field, "42");
    /* The file goes when it is sent, which may be a moment after we have it. */
    for (int i = 0; i < 12000 && files_left(&node, &tenants[0]) > 0; i++) {
        usleep(5000);
    }
    assert_int_equal(files_left(&node, &tenants[0]), 0);

    test_answer said =
        move(&node, ORT_GRANT_RESTORE, &tenants[1], NULL, "/tenant/restore", &file, 200);
    assert_non_null(strstr(said.body, "\"collections\":2,\"points\":42"));
    test_answer_fini(&said);
    expect_count(&node, b, "live", 30);
    expect_count(&node, b, "images", 12);
    expect_count(&node, a, "docs", 30);

    /* Not over what is there, unless it is said; and then all of it is replaced. */
    fill(&node, b, "extra", 1, 5);
    said = move(&node, ORT_GRANT_RESTORE, &tenants[1], NULL, "/tenant/restore", &file, 409);
    test_answer_fini(&said);
    expect_count(&node, b, "extra", 5);
    said = move(&node, ORT_GRANT_RESTORE, &tenants[1], NULL, "/tenant/restore?replace=true", &file,
                200);
    test_answer_fini(&said);
    free(test_call(node.port, b, 404, "GET", "/collections/extra", NULL));
    expect_count(&node, b, "live", 30);
    test_node_restart(&node);
    expect_count(&node, b, "live", 30);
    expect_count(&node, b, "images", 12);

    /* It does not fit: nothing of it is there. A snapshot is no backup, nor the other way. */
    said = move(&node, ORT_GRANT_RESTORE, &tenants[2], NULL, "/tenant/restore", &file, 507);
    test_answer_fini(&said);
    test_expect(node.port, c, 200, "\"collections\":[]", "GET", "/collections", NULL);
    free(upload(&node, b, 400, "/collections/x/snapshots/upload", file.body, file.body_len));
    char snapshot[160], checksum[ORT_HASH_TEXT_BYTES];
    test_answer one = take(&node, a, "docs", snapshot, checksum);
    said = move(&node, ORT_GRANT_RESTORE, &tenants[2], NULL, "/tenant/restore", &one, 400);
    test_answer_fini(&said);
    test_answer_fini(&one);

    /* On the node itself. */
    said = move(&node, ORT_GRANT_CLONE, &tenants[3], &tenants[0], "/tenant/clone", NULL, 200);
    test_answer_fini(&said);
    expect_count(&node, tenants[3].keys[0].token, "live", 30);

    /* What was pinned stays in its regions: the same node, in another one. */
    test_answer pinned =
        move(&node, ORT_GRANT_BACKUP, &tenants[3], NULL, "/tenant/backup", NULL, 200);
    said = move(&node, ORT_GRANT_RESTORE, &tenants[1], NULL, "/tenant/restore?replace=true",
                &pinned, 200);
    test_answer_fini(&said);
    forgery f;
    ort_buf elsewhere = {0};
    assert_true(forge_open(&f, pinned.body, pinned.body_len));
    assert_non_null(f.blocks[0].plain.data);
    char *at = NULL;
    if (f.blocks[0].plain.data != NULL) {
        at = memmem(f.blocks[0].plain.data, f.blocks[0].plain.len, "eu-central", 10);
    }
    assert_non_null(at);
    if (at != NULL) {
        memcpy(at, "ap-central", 10);
    }
    forge_write(&f, &elsewhere);
    const test_answer moved = {.body = elsewhere.data, .body_len = elsewhere.len};
    said = move(&node, ORT_GRANT_RESTORE, &tenants[1], NULL, "/tenant/restore?replace=true", &moved,
                421);
    test_answer_fini(&said);
    expect_count(&node, b, "live", 30);
    ort_buf_fini(&elsewhere);
    forge_fini(&f);
    test_answer_fini(&pinned);
    test_answer_fini(&file);
    test_node_stop(&node);
}

static void
a_grant_opens_one_call_once(void **state)
{
    (void)state;
    test_node node = {0};
    test_tenant tenants[2] = {{.name = "a"}, {.name = "b", .elsewhere = true}};
    char grant[ORT_GRANT_TEXT_BYTES];
    test_node_start(&node, tenants, 2);
    const char *key = tenants[0].keys[0].token;
    fill(&node, key, "docs", 1, 3);

    grant_text(&node, ORT_GRANT_BACKUP, &tenants[0], NULL, 60000, grant);
    free(test_call(node.port, NULL, 401, "GET", "/tenant/backup", NULL));
    free(test_call(node.port, key, 401, "GET", "/tenant/backup", NULL));
    free(test_call(node.port, grant, 401, "GET", "/collections", NULL));
    test_answer a = granted(&node, grant, "POST", "/tenant/restore", "", 0); /* another op */
    assert_int_equal(a.status, 401);
    test_answer_fini(&a);
    grant[30] = grant[30] == '0' ? '1' : '0';
    a = granted(&node, grant, "GET", "/tenant/backup", NULL, 0);
    assert_int_equal(a.status, 401);
    test_answer_fini(&a);
    grant_text(&node, ORT_GRANT_BACKUP, &tenants[0], NULL, 60000, grant);
    for (int i = 0; i < 2; i++) {
        a = granted(&node, grant, "GET", "/tenant/backup", NULL, 0);
        assert_int_equal(a.status, i == 0 ? 200 : 401);
        test_answer_fini(&a);
    }
    grant_text(&node, ORT_GRANT_BACKUP, &tenants[0], NULL, -1, grant);
    a = granted(&node, grant, "GET", "/tenant/backup", NULL, 0);
    assert_int_equal(a.status, 401);
    test_answer_fini(&a);
    ort_sign_key other = node.hub_key, mine = node.hub_key;
    ort_sign_key_new(&other);
    node.hub_key = other;
    grant_text(&node, ORT_GRANT_BACKUP, &tenants[0], NULL, 60000, grant);
    node.hub_key = mine;
    a = granted(&node, grant, "GET", "/tenant/backup", NULL, 0);
    assert_int_equal(a.status, 401);
    test_answer_fini(&a);
    /* A tenant of another node: not here, whatever the hub signed. */
    grant_text(&node, ORT_GRANT_BACKUP, &tenants[1], NULL, 60000, grant);
    a = granted(&node, grant, "GET", "/tenant/backup", NULL, 0);
    assert_int_equal(a.status, 503);
    test_answer_fini(&a);
    test_node_stop(&node);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_is_taken_listed_sent_and_deleted),
        cmocka_unit_test(an_upload_replaces_the_collection_or_makes_a_new_one),
        cmocka_unit_test(a_bad_upload_changes_nothing),
        cmocka_unit_test(another_tenant_sees_and_reaches_nothing),
        cmocka_unit_test(scopes_and_globs_hold_for_snapshots),
        cmocka_unit_test(quotas_hold_for_restored_points),
        cmocka_unit_test(without_waiting_it_is_202_and_done_soon),
        cmocka_unit_test(a_tenant_goes_into_one_file_and_comes_back_as_another),
        cmocka_unit_test(a_grant_opens_one_call_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
