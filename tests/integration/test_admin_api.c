/* Every resource of the admin API and every refusal, against a real orthant-control; each answer is
 * checked against docs/reference/admin-api.yaml by control_call(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "support/control.h"
#include "support/sim_node.h"

static control hub;

static int
group_setup(void **state)
{
    static char file[300];
    const char *args[] = {file, NULL};

    (void)state;
    /* The directory is made by control_start(); the file goes beside the log. */
    snprintf(file, sizeof file, "--admin.bootstrap_token_file=/tmp/orthant-test-token-%d",
             (int)getpid());
    control_start(&hub, args);
    json_decref(control_json(&hub, "POST", "/v1/regions", "{\"name\":\"eu\"}", 201));
    return 0;
}

static int
group_teardown(void **state)
{
    (void)state;
    print_message("%u answers checked against the document\n", hub.answers);
    control_remove(&hub);
    return 0;
}

static const char *
text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    assert_non_null(text);
    return text;
}

static void
make_tenant(const char *name)
{
    char body[128];

    snprintf(body, sizeof body, "{\"name\":\"%s\"}", name);
    json_decref(control_json(&hub, "POST", "/v1/tenants", body, 201));
}

/* A token of that role, for a tenant or NULL. */
static void
admin_token(const char *role, const char *tenant, char out[160])
{
    char body[256];

    if (tenant != NULL) {
        snprintf(body, sizeof body, "{\"role\":\"%s\",\"tenant\":\"%s\",\"name\":\"t\"}", role,
                 tenant);
    } else {
        snprintf(body, sizeof body, "{\"role\":\"%s\"}", role);
    }
    json_t *json = control_json(&hub, "POST", "/v1/admin-tokens", body, 201);
    snprintf(out, 160, "%s", text_of(json, "token"));
    json_decref(json);
}

/* ---- the hub ---- */

static void
health_metrics_and_document_need_no_token(void **state)
{
    static const char *const paths[] = {"/healthz", "/livez", "/readyz", "/metrics",
                                        "/openapi.json"};

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        control_reply reply = control_call(&hub, "GET", paths[i], "", NULL, NULL);
        assert_int_equal(reply.status, 200);
        control_reply_free(&reply);
    }
    control_reply reply = control_call(&hub, "GET", "/metrics", "", NULL, NULL);
    assert_non_null(strstr(reply.rest.body, "orthant_store_version "));
    assert_non_null(strstr(reply.rest.body, "orthant_cpu_usage_ratio "));
    assert_non_null(strstr(reply.rest.body, "orthant_nodes{health=\"up\"} "));
    control_reply_free(&reply);
}

static void
the_first_token_is_an_operators_and_is_written_to_the_file(void **state)
{
    char path[64];
    char text[200] = "";
    struct stat st;

    (void)state;
    json_t *json = control_json(&hub, "GET", "/v1/whoami", NULL, 200);
    assert_string_equal(text_of(json, "role"), "operator");
    json_decref(json);
    snprintf(path, sizeof path, "/tmp/orthant-test-token-%d", (int)getpid());
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    FILE *f = fopen(path, "r");
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    unlink(path);
    text[strcspn(text, "\n")] = '\0';
    assert_string_equal(text, hub.token);
}

static void
who_shows_no_token_or_a_wrong_one_gets_401(void **state)
{
    char wrong[160];

    (void)state;
    control_refused(&hub, "GET", "/v1/tenants", "", NULL, 401, "unauthenticated");
    control_refused(&hub, "GET", "/v1/tenants", "nonsense", NULL, 401, "unauthenticated");
    snprintf(wrong, sizeof wrong, "%s", hub.token);
    wrong[40] = wrong[40] == 'a' ? 'b' : 'a';
    control_refused(&hub, "GET", "/v1/tenants", wrong, NULL, 401, "unauthenticated");
    /* Before the body is looked at. */
    control_refused(&hub, "POST", "/v1/tenants", wrong, "{broken", 401, "unauthenticated");
}

static void
the_hub_says_who_it_is(void **state)
{
    (void)state;
    json_t *json = control_json(&hub, "GET", "/v1/hub", NULL, 200);
    assert_int_equal(json_integer_value(json_object_get(json, "generation")), 1);
    json_decref(json);
}

/* ---- regions ---- */

static void
regions_are_made_shown_listed_and_removed(void **state)
{
    (void)state;
    json_decref(control_json(&hub, "POST", "/v1/regions",
                             "{\"name\":\"ap-south\",\"display_name\":\"Süd\"}", 201));
    json_t *json = control_json(&hub, "GET", "/v1/regions/ap-south", NULL, 200);
    assert_string_equal(text_of(json, "display_name"), "Süd");
    json_decref(json);
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":\"ap-south\"}", 409, "exists");
    json_decref(control_json(&hub, "POST", "/v1/tenants",
                             "{\"name\":\"pinned\",\"regions\":[\"ap-south\"]}", 201));
    control_refused(&hub, "DELETE", "/v1/regions/ap-south", NULL, NULL, 409, "conflict");
    const char *any[] = {"If-Match: *", NULL};
    control_reply reply = control_call(&hub, "DELETE", "/v1/tenants/pinned", NULL, any, NULL);
    assert_int_equal(reply.status, 204); /* no node ever held it */
    control_reply_free(&reply);
    json_decref(control_json(&hub, "DELETE", "/v1/regions/ap-south", NULL, 204));
    control_refused(&hub, "GET", "/v1/regions/ap-south", NULL, NULL, 404, "not-found");
    control_refused(&hub, "DELETE", "/v1/regions/ap-south", NULL, NULL, 404, "not-found");
}

static void
bodies_that_are_wrong_are_refused_and_say_why(void **state)
{
    (void)state;
    control_refused(&hub, "POST", "/v1/regions", NULL, "{", 400, "malformed");
    control_refused(&hub, "POST", "/v1/regions", NULL, "", 400, "malformed");
    control_refused(&hub, "POST", "/v1/regions", NULL, "[]", 422, "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{}", 422, "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":7}", 422, "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":\"EU\"}", 422, "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":\"../x\"}", 422, "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":\"a\\u0000b\"}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/regions", NULL, "{\"name\":\"ok\",\"nmae\":1}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL, "{\"name\":\"x\",\"regions\":[\"mars\"]}",
                    422, "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL, "{\"name\":\"x\",\"plan\":\"none\"}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL,
                    "{\"name\":\"x\",\"regions\":[\"eu\",\"eu\"]}", 422, "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL,
                    "{\"name\":\"x\",\"overrides\":{\"max_cats\":1}}", 422, "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL,
                    "{\"name\":\"x\",\"overrides\":{\"max_vectors\":-1}}", 422, "validation");
    control_refused(&hub, "POST", "/v1/tenants", NULL,
                    "{\"name\":\"x\",\"overrides\":{\"max_vectors\":1.5}}", 422, "validation");
    /* It would read as an id. */
    control_refused(&hub, "POST", "/v1/tenants", NULL, "{\"name\":\"00112233aabbccdd\"}", 422,
                    "validation");
}

static void
unknown_paths_and_methods_are_problems_too(void **state)
{
    (void)state;
    char url[256];
    snprintf(url, sizeof url, "%s/v1/nothing", hub.url);
    rest_reply reply = rest_call("GET", url, NULL, NULL);
    assert_int_equal(reply.status, 404);
    assert_non_null(strstr(reply.body, "\"not-found\""));
    assert_string_equal(reply.content_type, "application/problem+json");
    rest_reply_free(&reply);
    snprintf(url, sizeof url, "%s/v1/regions", hub.url);
    reply = rest_call("PUT", url, NULL, "{}");
    assert_int_equal(reply.status, 405);
    assert_non_null(strstr(reply.body, "\"method-not-allowed\""));
    char allow[128];
    assert_true(rest_header(&reply, "Allow", allow, sizeof allow));
    assert_non_null(strstr(allow, "POST"));
    rest_reply_free(&reply);
}

static void
a_body_over_the_bound_is_refused(void **state)
{
    (void)state;
    size_t len = (1u << 20) + 100;
    char *body = malloc(len + 1);

    memset(body, ' ', len);
    body[len] = '\0';
    control_refused(&hub, "POST", "/v1/regions", NULL, body, 413, "too-large");
    free(body);
}

/* ---- plans ---- */

static void
plans_have_etags_and_changes_need_them(void **state)
{
    (void)state;
    json_t *list = control_json(&hub, "GET", "/v1/plans", NULL, 200);
    assert_true(json_array_size(json_object_get(list, "items")) >= 2);
    json_decref(list);
    control_reply made = control_call(&hub, "POST", "/v1/plans", NULL, NULL,
                                      "{\"name\":\"small\",\"limits\":{\"max_vectors\":10}}");
    assert_int_equal(made.status, 201);
    assert_true(made.etag[0] == '"');
    char match[80];
    snprintf(match, sizeof match, "If-Match: %s", made.etag);
    const char *fresh[] = {match, NULL};
    control_refused(&hub, "PATCH", "/v1/plans/small", NULL, "{\"limits\":{\"max_vectors\":20}}",
                    428, "precondition-required");
    control_reply changed = control_call(&hub, "PATCH", "/v1/plans/small", NULL, fresh,
                                         "{\"limits\":{\"max_vectors\":20}}");
    assert_int_equal(changed.status, 200);
    json_t *limits = json_object_get(changed.json, "limits");
    assert_int_equal(json_integer_value(json_object_get(limits, "max_vectors")), 20);
    assert_true(json_is_null(json_object_get(limits, "max_collections")));
    assert_string_not_equal(changed.etag, made.etag);
    control_reply stale = control_call(&hub, "PATCH", "/v1/plans/small", NULL, fresh,
                                       "{\"limits\":{\"max_vectors\":30}}");
    assert_int_equal(stale.status, 412);
    assert_string_equal(stale.code, "stale");
    control_reply gone = control_call(&hub, "DELETE", "/v1/plans/small", NULL, fresh, NULL);
    assert_int_equal(gone.status, 412);
    control_reply_free(&gone);
    control_refused(&hub, "DELETE", "/v1/plans/small", NULL, NULL, 428, "precondition-required");
    const char *any[] = {"If-Match: *", NULL};
    gone = control_call(&hub, "DELETE", "/v1/plans/default", NULL, any, NULL);
    assert_int_equal(gone.status, 409);
    control_reply_free(&gone);
    gone = control_call(&hub, "DELETE", "/v1/plans/small", NULL, any, NULL);
    assert_int_equal(gone.status, 204);
    control_reply_free(&gone);
    control_refused(&hub, "GET", "/v1/plans/small", NULL, NULL, 404, "not-found");
    control_reply_free(&made);
    control_reply_free(&changed);
    control_reply_free(&stale);
}

/* ---- tenants, quotas ---- */

static void
tenants_live_through_update_suspend_resume_and_delete(void **state)
{
    (void)state;
    control_reply made =
        control_call(&hub, "POST", "/v1/tenants", NULL, NULL,
                     "{\"name\":\"life\",\"display_name\":\"Life\",\"plan\":\"enterprise\","
                     "\"regions\":[\"eu\"],\"max_stale_s\":60,"
                     "\"overrides\":{\"max_vectors\":5,\"max_collections\":null}}");
    assert_int_equal(made.status, 201);
    json_t *limits = json_object_get(made.json, "limits");
    assert_int_equal(json_integer_value(json_object_get(limits, "max_vectors")), 5);
    assert_true(json_is_null(json_object_get(limits, "max_collections")));
    assert_true(json_is_null(json_object_get(json_object_get(made.json, "placement"), "node")));
    char by_id[64];
    snprintf(by_id, sizeof by_id, "/v1/tenants/%s", text_of(made.json, "id"));
    json_t *json = control_json(&hub, "GET", by_id, NULL, 200);
    assert_string_equal(text_of(json, "name"), "life");
    json_decref(json);

    char match[80];
    snprintf(match, sizeof match, "If-Match: %s", made.etag);
    const char *fresh[] = {match, NULL};
    control_refused(&hub, "PATCH", "/v1/tenants/life", NULL, "{\"plan\":\"default\"}", 428,
                    "precondition-required");
    control_reply changed = control_call(&hub, "PATCH", "/v1/tenants/life", NULL, fresh,
                                         "{\"plan\":\"default\",\"regions\":[]}");
    assert_int_equal(changed.status, 200);
    assert_string_equal(text_of(changed.json, "plan"), "default");
    control_reply stale = control_call(&hub, "PATCH", "/v1/tenants/life", NULL, fresh, "{}");
    assert_int_equal(stale.status, 412);
    control_reply_free(&stale);
    const char *odd[] = {"If-Match: W/\"1\"", NULL};
    stale = control_call(&hub, "PATCH", "/v1/tenants/life", NULL, odd, "{}");
    assert_int_equal(stale.status, 412);
    control_reply_free(&stale);
    control_reply_free(&changed);

    json = control_json(&hub, "POST", "/v1/tenants/life/suspend", NULL, 200);
    assert_string_equal(text_of(json, "state"), "suspended");
    json_decref(json);
    json_decref(control_json(&hub, "POST", "/v1/tenants/life/suspend", NULL, 200)); /* twice */
    json = control_json(&hub, "POST", "/v1/tenants/life/resume", NULL, 200);
    assert_string_equal(text_of(json, "state"), "active");
    json_decref(json);
    control_refused(&hub, "POST", "/v1/tenants", NULL, "{\"name\":\"life\"}", 409, "exists");
    control_refused(&hub, "DELETE", "/v1/tenants/life", NULL, NULL, 428, "precondition-required");
    const char *any[] = {"If-Match: *", NULL};
    control_reply gone = control_call(&hub, "DELETE", "/v1/tenants/life", NULL, any, NULL);
    assert_int_equal(gone.status, 204);
    control_reply_free(&gone);
    control_refused(&hub, "GET", "/v1/tenants/life", NULL, NULL, 404, "not-found");
    control_refused(&hub, "GET", by_id, NULL, NULL, 404, "not-found");
    control_reply_free(&made);
}

static void
a_quota_is_replaced_whole_and_falls_back_to_the_plan(void **state)
{
    (void)state;
    make_tenant("quo");
    control_reply shown = control_call(&hub, "GET", "/v1/tenants/quo/quota", NULL, NULL, NULL);
    assert_int_equal(shown.status, 200);
    char match[80];
    snprintf(match, sizeof match, "If-Match: %s", shown.etag);
    const char *fresh[] = {match, NULL};
    const char *body = "{\"overrides\":{\"max_vectors\":7,\"max_requests_per_minute\":9}}";
    control_refused(&hub, "PUT", "/v1/tenants/quo/quota", NULL, body, 428, "precondition-required");
    control_reply put = control_call(&hub, "PUT", "/v1/tenants/quo/quota", NULL, fresh, body);
    assert_int_equal(put.status, 200);
    json_t *limits = json_object_get(put.json, "limits");
    assert_int_equal(json_integer_value(json_object_get(limits, "max_vectors")), 7);
    assert_int_equal(json_integer_value(json_object_get(limits, "max_collections")), 100);
    control_reply_free(&put);
    put = control_call(&hub, "PUT", "/v1/tenants/quo/quota", NULL, fresh, body);
    assert_int_equal(put.status, 412);
    control_reply_free(&put);
    const char *any[] = {"If-Match: *", NULL};
    put = control_call(&hub, "PUT", "/v1/tenants/quo/quota", NULL, any, "{\"overrides\":{}}");
    assert_int_equal(json_object_size(json_object_get(put.json, "overrides")), 0);
    control_reply_free(&put);
    control_refused(&hub, "PUT", "/v1/tenants/none/quota", NULL, body, 404, "not-found");
    put = control_call(&hub, "PUT", "/v1/tenants/quo/quota", NULL, any, "{}");
    assert_int_equal(put.status, 422);
    control_reply_free(&put);
    control_reply_free(&shown);
}

/* ---- keys ---- */

static void
keys_are_shown_once_rotated_and_revoked(void **state)
{
    char path[160];
    char token[160];
    char id[32];

    (void)state;
    make_tenant("keys");
    json_t *json = control_json(&hub, "POST", "/v1/tenants/keys/keys",
                                "{\"name\":\"app\",\"env\":\"test\",\"scopes\":[\"data:read\"],"
                                "\"collections\":[\"docs*\"],\"max_requests_per_minute\":60,"
                                "\"expires_at\":\"2099-01-01T00:00:00Z\"}",
                                201);
    snprintf(token, sizeof token, "%s", text_of(json, "token"));
    snprintf(id, sizeof id, "%s", text_of(json_object_get(json, "key"), "id"));
    assert_int_equal(strncmp(token, "orth_test_", 10), 0);
    assert_int_equal(strncmp(token + 10, id, 24), 0);
    json_decref(json);
    snprintf(path, sizeof path, "/v1/tenants/keys/keys/%s", id);
    control_reply shown = control_call(&hub, "GET", path, NULL, NULL, NULL);
    assert_int_equal(shown.status, 200);
    assert_null(strstr(shown.rest.body, token + 36)); /* the secret half */
    assert_string_equal(text_of(shown.json, "expires_at"), "2099-01-01T00:00:00.000Z");
    control_reply_free(&shown);

    snprintf(path, sizeof path, "/v1/tenants/keys/keys/%s/rotate", id);
    json = control_json(&hub, "POST", path, "{\"grace_s\":60}", 201);
    json_t *fresh = json_object_get(json, "key");
    assert_string_not_equal(text_of(fresh, "id"), id);
    assert_int_equal(json_array_size(json_object_get(fresh, "scopes")), 1);
    json_decref(json);
    control_refused(&hub, "POST", path, NULL, "{}", 409, "conflict"); /* rotated before */

    snprintf(path, sizeof path, "/v1/tenants/keys/keys/%s?wait=acked", id);
    json = control_json(&hub, "DELETE", path, NULL, 200);
    assert_true(json_is_true(json_object_get(json, "complete"))); /* no node holds the tenant */
    assert_string_equal(text_of(json_object_get(json, "key"), "state"), "revoked");
    json_decref(json);
    json_decref(control_json(&hub, "DELETE", path, NULL, 200)); /* twice */
    json = control_json(&hub, "GET", "/v1/tenants/keys/keys", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(json, "items")), 2);
    json_decref(json);

    control_refused(&hub, "DELETE", "/v1/tenants/keys/keys/x?wait=soon", NULL, NULL, 422,
                    "validation");
    control_refused(&hub, "GET", "/v1/tenants/keys/keys/000000000000000000000000", NULL, NULL, 404,
                    "not-found");
    control_refused(&hub, "POST", "/v1/tenants/keys/keys", NULL, "{\"scopes\":[\"all\"]}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/tenants/keys/keys", NULL, "{\"scopes\":[]}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/tenants/keys/keys", NULL, "{\"env\":\"prod\"}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/tenants/keys/keys", NULL,
                    "{\"expires_at\":\"2001-01-01T00:00:00Z\"}", 422, "validation");
    control_refused(&hub, "POST", "/v1/tenants/keys/keys", NULL, "{\"expires_at\":\"soon\"}", 422,
                    "validation");
}

/* A key of one tenant through the path of another. */
static void
a_key_is_found_under_its_own_tenant_only(void **state)
{
    char path[160];

    (void)state;
    make_tenant("mine");
    make_tenant("theirs");
    json_t *json = control_json(&hub, "POST", "/v1/tenants/theirs/keys", "{}", 201);
    snprintf(path, sizeof path, "/v1/tenants/mine/keys/%s",
             text_of(json_object_get(json, "key"), "id"));
    control_refused(&hub, "GET", path, NULL, NULL, 404, "not-found");
    control_refused(&hub, "DELETE", path, NULL, NULL, 404, "not-found");
    json_decref(json);
}

/* ---- roles ---- */

static void
a_viewer_reads_everything_and_changes_nothing(void **state)
{
    static const char *const reads[] = {"/v1/whoami",
                                        "/v1/hub",
                                        "/v1/regions",
                                        "/v1/nodes",
                                        "/v1/plans",
                                        "/v1/tenants",
                                        "/v1/tenants/view",
                                        "/v1/tenants/view/quota",
                                        "/v1/tenants/view/keys",
                                        "/v1/tenants/view/usage",
                                        "/v1/tenants/view/placement",
                                        "/v1/audit",
                                        "/v1/audit/verify",
                                        "/v1/join-tokens"};
    static const char *const changes[][2] = {{"POST", "/v1/regions"},
                                             {"DELETE", "/v1/regions/eu"},
                                             {"POST", "/v1/join-tokens"},
                                             {"PATCH", "/v1/nodes/0000000000000001"},
                                             {"DELETE", "/v1/nodes/0000000000000001"},
                                             {"POST", "/v1/nodes/0000000000000001/cordon"},
                                             {"POST", "/v1/plans"},
                                             {"PATCH", "/v1/plans/default"},
                                             {"POST", "/v1/tenants"},
                                             {"PATCH", "/v1/tenants/view"},
                                             {"DELETE", "/v1/tenants/view"},
                                             {"POST", "/v1/tenants/view/suspend"},
                                             {"PUT", "/v1/tenants/view/quota"},
                                             {"POST", "/v1/tenants/view/keys"},
                                             {"GET", "/v1/admin-tokens"},
                                             {"POST", "/v1/admin-tokens"}};
    char token[160];

    (void)state;
    make_tenant("view");
    admin_token("viewer", NULL, token);
    for (size_t i = 0; i < sizeof reads / sizeof *reads; i++) {
        control_reply reply = control_call(&hub, "GET", reads[i], token, NULL, NULL);
        assert_int_equal(reply.status, 200);
        control_reply_free(&reply);
    }
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        control_refused(&hub, changes[i][0], changes[i][1], token, "{}", 403, "forbidden");
    }
}

static void
a_tenant_admin_reaches_its_own_tenant_and_nothing_else(void **state)
{
    static const char *const own[] = {"/v1/whoami",
                                      "/v1/plans",
                                      "/v1/tenants/inside",
                                      "/v1/tenants/inside/quota",
                                      "/v1/tenants/inside/keys",
                                      "/v1/tenants/inside/usage",
                                      "/v1/tenants/inside/placement"};
    static const char *const hidden[] = {"/v1/tenants/outside", "/v1/tenants/outside/quota",
                                         "/v1/tenants/outside/keys", "/v1/tenants/outside/usage",
                                         "/v1/tenants/outside/placement"};
    static const char *const denied[] = {"/v1/hub",        "/v1/regions", "/v1/nodes",
                                         "/v1/tenants",    "/v1/audit",   "/v1/admin-tokens",
                                         "/v1/join-tokens"};
    char token[160];
    char path[160];

    (void)state;
    make_tenant("inside");
    make_tenant("outside");
    admin_token("tenant-admin", "inside", token);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        control_reply reply = control_call(&hub, "GET", own[i], token, NULL, NULL);
        assert_int_equal(reply.status, 200);
        control_reply_free(&reply);
    }
    /* Another's tenant looks, word for word, like one that does not exist. */
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        control_refused(&hub, "GET", hidden[i], token, NULL, 404, "not-found");
    }
    control_reply there = control_call(&hub, "GET", "/v1/tenants/outside", token, NULL, NULL);
    control_reply nowhere = control_call(&hub, "GET", "/v1/tenants/nowhere", token, NULL, NULL);
    assert_string_equal(text_of(there.json, "detail"), "no tenant 'outside'");
    assert_string_equal(text_of(nowhere.json, "detail"), "no tenant 'nowhere'");
    control_reply_free(&there);
    control_reply_free(&nowhere);
    for (size_t i = 0; i < sizeof denied / sizeof *denied; i++) {
        control_refused(&hub, "GET", denied[i], token, NULL, 403, "forbidden");
    }
    control_refused(&hub, "PATCH", "/v1/tenants/inside", token, "{}", 403, "forbidden");
    control_refused(&hub, "PUT", "/v1/tenants/inside/quota", token, "{}", 403, "forbidden");
    control_refused(&hub, "POST", "/v1/tenants/outside/keys", token, "{}", 404, "not-found");
    control_reply made =
        control_call(&hub, "POST", "/v1/tenants/inside/keys", token, NULL, "{\"name\":\"own\"}");
    assert_int_equal(made.status, 201);
    snprintf(path, sizeof path, "/v1/tenants/inside/keys/%s",
             text_of(json_object_get(made.json, "key"), "id"));
    control_reply revoked = control_call(&hub, "DELETE", path, token, NULL, NULL);
    assert_int_equal(revoked.status, 200);
    control_reply_free(&revoked);
    control_reply_free(&made);
}

static void
admin_tokens_expire_are_revoked_and_the_last_operator_stays(void **state)
{
    char token[160];
    char path[160];

    (void)state;
    json_t *json = control_json(&hub, "POST", "/v1/admin-tokens",
                                "{\"role\":\"operator\",\"name\":\"second\"}", 201);
    snprintf(token, sizeof token, "%s", text_of(json, "token"));
    snprintf(path, sizeof path, "/v1/admin-tokens/%s",
             text_of(json_object_get(json, "admin_token"), "id"));
    json_decref(json);
    json_decref(control_json(&hub, "DELETE", path, NULL, 204));
    control_refused(&hub, "GET", "/v1/whoami", token, NULL, 401, "unauthenticated");
    json = control_json(&hub, "GET", "/v1/whoami", NULL, 200);
    snprintf(path, sizeof path, "/v1/admin-tokens/%s", text_of(json, "token"));
    json_decref(json);
    control_refused(&hub, "DELETE", path, NULL, NULL, 409, "conflict");
    json_decref(control_json(&hub, "GET", "/v1/admin-tokens", NULL, 200));
    control_refused(&hub, "POST", "/v1/admin-tokens", NULL, "{\"role\":\"king\"}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/admin-tokens", NULL, "{\"role\":\"tenant-admin\"}", 422,
                    "validation");
    control_refused(&hub, "POST", "/v1/admin-tokens", NULL,
                    "{\"role\":\"viewer\",\"tenant\":\"x\"}", 422, "validation");
}

/* ---- idempotency, pages ---- */

static void
a_post_with_an_idempotency_key_is_done_once(void **state)
{
    const char *once[] = {"Idempotency-Key: 7f3c-1", NULL};
    char replayed[16] = "";

    (void)state;
    make_tenant("idem");
    control_reply first =
        control_call(&hub, "POST", "/v1/tenants/idem/keys", NULL, once, "{\"name\":\"a\"}");
    control_reply again =
        control_call(&hub, "POST", "/v1/tenants/idem/keys", NULL, once, "{\"name\":\"a\"}");
    assert_int_equal(first.status, 201);
    assert_int_equal(again.status, 201);
    assert_string_equal(first.rest.body, again.rest.body); /* the token, too */
    assert_true(rest_header(&again.rest, "Idempotency-Replayed", replayed, sizeof replayed));
    assert_false(rest_header(&first.rest, "Idempotency-Replayed", replayed, sizeof replayed));
    control_reply other =
        control_call(&hub, "POST", "/v1/tenants/idem/keys", NULL, once, "{\"name\":\"b\"}");
    assert_int_equal(other.status, 422);
    assert_string_equal(other.code, "idempotency-mismatch");
    json_t *list = control_json(&hub, "GET", "/v1/tenants/idem/keys", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(list, "items")), 1);
    json_decref(list);
    /* A refusal is not kept: the same request may succeed later. */
    const char *retry[] = {"Idempotency-Key: 7f3c-2", NULL};
    control_reply refused =
        control_call(&hub, "POST", "/v1/tenants", NULL, retry, "{\"name\":\"idem\"}");
    assert_int_equal(refused.status, 409);
    control_reply_free(&refused);
    /* Another's key of the same name is another key. */
    char token[160];
    admin_token("tenant-admin", "idem", token);
    control_reply own =
        control_call(&hub, "POST", "/v1/tenants/idem/keys", token, once, "{\"name\":\"b\"}");
    assert_int_equal(own.status, 201);
    control_reply_free(&own);
    control_reply_free(&first);
    control_reply_free(&again);
    control_reply_free(&other);
}

static void
pages_walk_over_everything_once(void **state)
{
    char path[700] = "/v1/tenants?limit=3";
    char name[32];
    unsigned seen = 0;
    unsigned pages = 0;

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "page-%u", i);
        make_tenant(name);
    }
    for (;;) {
        json_t *json = control_json(&hub, "GET", path, NULL, 200);
        json_t *items = json_object_get(json, "items");
        assert_true(json_array_size(items) <= 3);
        for (size_t i = 0; i < json_array_size(items); i++) {
            seen += strncmp(text_of(json_array_get(items, i), "name"), "page-", 5) == 0;
        }
        pages++;
        const char *next = json_string_value(json_object_get(json, "next_cursor"));
        if (next == NULL) {
            json_decref(json);
            break;
        }
        snprintf(path, sizeof path, "/v1/tenants?limit=3&cursor=%s", next);
        json_decref(json);
    }
    assert_int_equal(seen, 10);
    assert_true(pages > 3);
    control_refused(&hub, "GET", "/v1/tenants?limit=0", NULL, NULL, 422, "validation");
    control_refused(&hub, "GET", "/v1/tenants?limit=1001", NULL, NULL, 422, "validation");
    control_refused(&hub, "GET", "/v1/tenants?limit=x", NULL, NULL, 422, "validation");
    control_refused(&hub, "GET", "/v1/tenants?cursor=xyz", NULL, NULL, 400, "invalid");
    /* A cursor of another list. */
    json_t *json = control_json(&hub, "GET", "/v1/audit?limit=1", NULL, 200);
    snprintf(path, sizeof path, "/v1/tenants?cursor=%s", text_of(json, "next_cursor"));
    json_decref(json);
    control_refused(&hub, "GET", path, NULL, NULL, 400, "invalid");
}

/* ---- audit ---- */

static void
every_change_is_in_the_audit_with_who_and_what(void **state)
{
    const char *id_field[] = {"X-Request-Id: my-request-1", NULL};

    (void)state;
    control_reply made =
        control_call(&hub, "POST", "/v1/tenants", NULL, id_field, "{\"name\":\"seen\"}");
    assert_int_equal(made.status, 201);
    char echoed[64];
    assert_true(rest_header(&made.rest, "X-Request-Id", echoed, sizeof echoed));
    assert_string_equal(echoed, "my-request-1");
    json_t *json = control_json(&hub, "GET", "/v1/audit?tenant=seen&op=tenant.create", NULL, 200);
    json_t *record = json_array_get(json_object_get(json, "items"), 0);
    assert_string_equal(text_of(record, "request_id"), "my-request-1");
    assert_int_equal(strncmp(text_of(record, "actor"), "operator:", 9), 0);
    assert_true(json_object_size(json_object_get(record, "after")) >= 1);
    json_decref(json);
    json = control_json(&hub, "GET", "/v1/audit/verify", NULL, 200);
    assert_true(json_is_true(json_object_get(json, "intact")));
    json_decref(json);
    /* No token's hash is shown. */
    control_reply keys =
        control_call(&hub, "GET", "/v1/audit?op=admin-token.&limit=5", NULL, NULL, NULL);
    assert_null(strstr(keys.rest.body, "\"hash\":\"(not"));
    assert_non_null(strstr(keys.rest.body, "(hidden)"));
    control_reply_free(&keys);
    control_reply_free(&made);
}

/* ---- nodes ---- */

static void
join_tokens_and_nodes_are_managed(void **state)
{
    char path[128];
    char token[160];
    sim_node n;

    (void)state;
    control_refused(&hub, "POST", "/v1/join-tokens", NULL, "{\"region\":\"mars\"}", 404,
                    "not-found");
    control_refused(&hub, "POST", "/v1/join-tokens", NULL, "{\"region\":\"eu\",\"ttl_s\":0}", 422,
                    "validation");
    json_t *json = control_json(&hub, "POST", "/v1/join-tokens", "{\"region\":\"eu\"}", 201);
    snprintf(path, sizeof path, "/v1/join-tokens/%s", text_of(json, "id"));
    snprintf(token, sizeof token, "%s", text_of(json, "token"));
    json_decref(json);
    json_decref(control_json(&hub, "DELETE", path, NULL, 204));
    sim_node_init(&n, "node-api", "eu");
    assert_int_equal(sim_node_join(&n, hub.join_url, token), ORT_EAUTH);
    json = control_json(&hub, "POST", "/v1/join-tokens", "{\"region\":\"eu\",\"ttl_s\":60}", 201);
    assert_int_equal(sim_node_join(&n, hub.join_url, text_of(json, "token")), ORT_OK);
    json_decref(json);
    sim_node_sync(&n);
    json_decref(control_json(&hub, "GET", "/v1/join-tokens", NULL, 200));
    json = control_json(&hub, "GET", "/v1/nodes?region=eu", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(json, "items")), 1);
    json_decref(json);
    json = control_json(&hub, "GET", "/v1/nodes?region=us", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(json, "items")), 0);
    json_decref(json);

    char id[ORT_ID_TEXT_BYTES];
    ort_id_format(n.id.v, id);
    char action[160];
    snprintf(action, sizeof action, "/v1/nodes/%s/cordon", id);
    json = control_json(&hub, "POST", action, NULL, 200);
    assert_string_equal(text_of(json, "state"), "cordoned");
    json_decref(json);
    snprintf(action, sizeof action, "/v1/nodes/%s/uncordon", id);
    json = control_json(&hub, "POST", action, NULL, 200);
    assert_string_equal(text_of(json, "state"), "ready");
    json_decref(json);
    snprintf(path, sizeof path, "/v1/nodes/%s", id);
    json = control_json(&hub, "PATCH", path, "{\"weight\":200}", 200);
    assert_int_equal(json_integer_value(json_object_get(json, "weight")), 200);
    json_decref(json);
    control_refused(&hub, "PATCH", path, NULL, "{\"weight\":0}", 422, "validation");
    control_refused(&hub, "GET", "/v1/nodes/nope", NULL, NULL, 404, "not-found");
    control_refused(&hub, "POST", "/v1/nodes/00000000000000aa/cordon", NULL, NULL, 404,
                    "not-found");

    /* Tenants of the tests before were placed on it by now, or this one is. */
    make_tenant("here");
    control_refused(&hub, "DELETE", path, NULL, NULL, 409, "conflict");
    sim_node_fini(&n);
}

/* Runs after the one above: tenant "here" has a node. Who may move a tenant's data, and what the
 * leave says. */
static void
a_grant_is_for_one_tenant_at_its_node(void **state)
{
    static const char *const wrong[] = {"{}",
                                        "{\"op\":\"steal\"}",
                                        "{\"op\":\"clone\"}",
                                        "{\"op\":\"backup\",\"from\":\"inside\"}",
                                        "{\"op\":\"clone\",\"from\":\"here\"}",
                                        "{\"op\":\"backup\",\"node\":\"mine\"}"};
    char token[160];

    (void)state;
    json_t *first =
        control_json(&hub, "POST", "/v1/tenants/here/grants", "{\"op\":\"backup\"}", 201);
    json_t *again =
        control_json(&hub, "POST", "/v1/tenants/here/grants", "{\"op\":\"backup\"}", 201);
    json_t *home = control_json(&hub, "GET", "/v1/tenants/here/placement", NULL, 200);
    assert_string_equal(text_of(first, "node"), text_of(home, "node"));
    assert_string_equal(text_of(first, "endpoint"), text_of(home, "endpoint"));
    assert_string_equal(text_of(first, "tenant"), text_of(home, "tenant"));
    assert_string_not_equal(text_of(first, "grant"), text_of(again, "grant"));
    json_decref(first);
    json_decref(again);
    json_decref(home);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        control_refused(&hub, "POST", "/v1/tenants/here/grants", NULL, wrong[i], 422, "validation");
    }
    control_refused(&hub, "POST", "/v1/tenants/here/grants", NULL,
                    "{\"op\":\"clone\",\"from\":\"nowhere\"}", 404, "not-found");
    control_refused(&hub, "POST", "/v1/tenants/nowhere/grants", NULL, "{\"op\":\"backup\"}", 404,
                    "not-found");
    admin_token("viewer", NULL, token);
    control_refused(&hub, "POST", "/v1/tenants/here/grants", token, "{\"op\":\"backup\"}", 403,
                    "forbidden");
    admin_token("tenant-admin", "here", token);
    control_reply own =
        control_call(&hub, "POST", "/v1/tenants/here/grants", token, NULL, "{\"op\":\"restore\"}");
    assert_int_equal(own.status, 201);
    control_reply_free(&own);
    control_refused(&hub, "POST", "/v1/tenants/outside/grants", token, "{\"op\":\"backup\"}", 404,
                    "not-found");
    control_refused(&hub, "POST", "/v1/tenants/here/grants", token,
                    "{\"op\":\"clone\",\"from\":\"outside\"}", 404, "not-found");

    /* Each that was given stands in the audit, with who asked; what was refused does not. */
    json_t *audit = control_json(&hub, "GET", "/v1/audit?tenant=here", NULL, 200);
    unsigned issued = 0;
    size_t k;
    json_t *record;
    json_array_foreach(json_object_get(audit, "items"), k, record)
    {
        if (strcmp(text_of(record, "op"), "grant.issue") == 0) {
            const char *who = text_of(record, "actor");
            json_t *after = json_object_get(record, "after");
            const char *member;
            json_t *row;
            json_object_foreach(after, member, row)
            {
                assert_non_null(strstr(member, "grants/"));
                assert_string_equal(text_of(row, "op"), issued < 2 ? "backup" : "restore");
                assert_string_equal(text_of(row, "issued_to"), who);
                assert_null(json_object_get(row, "grant"));
            }
            issued++;
        }
    }
    assert_int_equal(issued, 3);
    json_decref(audit);

    /* No node fits: there is nothing to move, and nobody to ask. */
    json_decref(control_json(&hub, "POST", "/v1/regions", "{\"name\":\"moon\"}", 201));
    json_decref(control_json(&hub, "POST", "/v1/tenants",
                             "{\"name\":\"homeless\",\"regions\":[\"moon\"]}", 201));
    control_refused(&hub, "POST", "/v1/tenants/homeless/grants", NULL, "{\"op\":\"backup\"}", 409,
                    "conflict");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_metrics_and_document_need_no_token),
        cmocka_unit_test(the_first_token_is_an_operators_and_is_written_to_the_file),
        cmocka_unit_test(who_shows_no_token_or_a_wrong_one_gets_401),
        cmocka_unit_test(the_hub_says_who_it_is),
        cmocka_unit_test(regions_are_made_shown_listed_and_removed),
        cmocka_unit_test(bodies_that_are_wrong_are_refused_and_say_why),
        cmocka_unit_test(unknown_paths_and_methods_are_problems_too),
        cmocka_unit_test(a_body_over_the_bound_is_refused),
        cmocka_unit_test(plans_have_etags_and_changes_need_them),
        cmocka_unit_test(tenants_live_through_update_suspend_resume_and_delete),
        cmocka_unit_test(a_quota_is_replaced_whole_and_falls_back_to_the_plan),
        cmocka_unit_test(keys_are_shown_once_rotated_and_revoked),
        cmocka_unit_test(a_key_is_found_under_its_own_tenant_only),
        cmocka_unit_test(a_viewer_reads_everything_and_changes_nothing),
        cmocka_unit_test(a_tenant_admin_reaches_its_own_tenant_and_nothing_else),
        cmocka_unit_test(admin_tokens_expire_are_revoked_and_the_last_operator_stays),
        cmocka_unit_test(a_post_with_an_idempotency_key_is_done_once),
        cmocka_unit_test(pages_walk_over_everything_once),
        cmocka_unit_test(every_change_is_in_the_audit_with_who_and_what),
        cmocka_unit_test(join_tokens_and_nodes_are_managed),
        cmocka_unit_test(a_grant_is_for_one_tenant_at_its_node),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
