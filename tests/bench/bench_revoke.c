/* bench_revoke: how long a change of keys takes to reach the node that answers.
 *
 *   --admin-url U --admin-token T --tenant NAME --url DATA [--rounds N]
 *
 * Each round makes a key, asks the node with it until it is answered, revokes it, asks until it is
 * refused. Both times count from the moment the request of the change was sent. Prints one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "http_client.h"

#define GIVE_UP_NS 10000000000u

typedef struct {
    bench_http admin;
    const char *tenant, *url;
    char key_path[512], token[256];
} bench;

static void
die(const char *what, const bench_http *http, int status)
{
    fprintf(stderr, "%s: %d %.*s\n", what, status, (int)http->body_len,
            http->in.data != NULL ? http->in.data + http->body_at : "");
    exit(1);
}

/* Copies a string member out of the last answer. */
static void
copy_member(ort_json v, char *out, size_t cap)
{
    size_t n = 0;
    const char *text = ort_json_str(v, &n);
    snprintf(out, cap, "%.*s", (int)n, text != NULL ? text : "");
}

static void
make_key(bench *b)
{
    char path[256], id[64];
    static const char body[] = "{\"name\":\"bench\",\"scopes\":[\"data:read\"]}";
    ort_json_doc *doc = NULL;
    snprintf(path, sizeof path, "/v1/tenants/%s/keys", b->tenant);
    const int status = bench_http_call(&b->admin, "POST", path, body, sizeof body - 1);
    if (status != 201 || ort_json_parse(&doc, b->admin.in.data + b->admin.body_at,
                                        b->admin.body_len, (ort_json_limits){0}, NULL) != ORT_OK) {
        die("create a key", &b->admin, status);
    }
    ort_json root = ort_json_root(doc);
    copy_member(ort_json_get(root, "token"), b->token, sizeof b->token);
    copy_member(ort_json_get(ort_json_get(root, "key"), "id"), id, sizeof id);
    snprintf(b->key_path, sizeof b->key_path, "%s/%s", path, id);
    ort_json_free(doc);
}

/* Asks until the answer is 200 (or is not, when `usable` is false); microseconds since start_ns. */
static uint64_t
until(const bench *b, bool usable, uint64_t start_ns)
{
    bench_http node;
    bench_http_init(&node, b->url, b->token);
    for (;;) {
        const int status = bench_http_call(&node, "GET", "/collections", NULL, 0);
        const uint64_t now = ort_mono_ns();
        if ((status == 200) == usable && status != 0) {
            bench_http_fini(&node);
            return (now - start_ns) / 1000;
        }
        if (now - start_ns > GIVE_UP_NS) {
            die(usable ? "the key was never answered" : "the key was never refused", &node, status);
        }
    }
}

static int
by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void
print(const char *name, uint64_t *us, size_t n)
{
    qsort(us, n, sizeof *us, by_value);
    const size_t middle = n / 2, high = (n * 99 - 1) / 100;
    printf(" %s_p50_ms=%.1f %s_p99_ms=%.1f %s_max_ms=%.1f", name, (double)us[middle] / 1000, name,
           (double)us[high] / 1000, name, (double)us[n - 1] / 1000);
}

int
main(int argc, char **argv)
{
    const char *admin_url = NULL, *admin_token = NULL;
    size_t rounds = 100;
    static bench b;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--admin-url") == 0) {
            admin_url = argv[i + 1];
        } else if (strcmp(argv[i], "--admin-token") == 0) {
            admin_token = argv[i + 1];
        } else if (strcmp(argv[i], "--tenant") == 0) {
            b.tenant = argv[i + 1];
        } else if (strcmp(argv[i], "--url") == 0) {
            b.url = argv[i + 1];
        } else if (strcmp(argv[i], "--rounds") == 0) {
            rounds = strtoul(argv[i + 1], NULL, 10);
        }
    }
    if (admin_url == NULL || admin_token == NULL || b.tenant == NULL || b.url == NULL ||
        rounds == 0) {
        fputs("usage: bench_revoke --admin-url U --admin-token T --tenant NAME --url DATA "
              "[--rounds N]\n",
              stderr);
        return 2;
    }
    uint64_t *usable = calloc(rounds, sizeof *usable), *refused = calloc(rounds, sizeof *refused);
    if (usable == NULL || refused == NULL) {
        free(usable);
        free(refused);
        return 1;
    }
    bench_http_init(&b.admin, admin_url, admin_token);
    for (size_t i = 0; i < rounds; i++) {
        uint64_t start = ort_mono_ns();
        make_key(&b);
        usable[i] = until(&b, true, start);
        start = ort_mono_ns();
        const int status = bench_http_call(&b.admin, "DELETE", b.key_path, NULL, 0);
        if (status != 200 && status != 204) {
            die("revoke", &b.admin, status);
        }
        refused[i] = until(&b, false, start);
    }
    printf("keys rounds=%zu", rounds);
    print("usable", usable, rounds);
    print("refused", refused, rounds);
    putchar('\n');
    bench_http_fini(&b.admin);
    free(usable);
    free(refused);
    return 0;
}
