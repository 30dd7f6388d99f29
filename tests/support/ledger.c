/* The ledger. */
#include "support/ledger.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/id.h"
#include "tenant/snapshots.h"

#define PAD 160 /* bytes of payload that say nothing: the log shall grow */

/* The points of `wide` that stay when it is thinned. */
enum { WIDE_LEFT = LEDGER_WIDE / 10 };
#define WIDE_PAD 440 /* a restore folds what takes 2 MiB in memory */

#define MUST(c, cond, ...)                                                                   \
    do {                                                                                     \
        if (!(cond)) {                                                                       \
            fprintf(stderr, "%s:%d: %s, tenant %u: %s: ", __func__, __LINE__, (c)->l->where, \
                    (c)->tenant, #cond);                                                     \
            fprintf(stderr, __VA_ARGS__);                                                    \
            fputc('\n', stderr);                                                             \
            abort();                                                                         \
        }                                                                                    \
    } while (0)

uint64_t
ledger_seed(void)
{
    const char *text = getenv("ORT_FAULT_SEED");
    return text == NULL               ? 1
           : strcmp(text, "new") == 0 ? ort_mono_ns() % 1000000
                                      : strtoull(text, NULL, 10);
}

ledger *
ledger_of(int fd)
{
    ledger *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (l == MAP_FAILED) {
        abort();
    }
    return l;
}

ledger *
ledger_new(int *fd_out)
{
    const int fd = memfd_create("ledger", 0);
    if (fd < 0 || ftruncate(fd, sizeof(ledger)) != 0) {
        abort();
    }
    ledger *l = ledger_of(fd);
    if (fd_out != NULL) {
        *fd_out = fd;
    } else {
        close(fd);
    }
    for (unsigned i = 0; i < LEDGER_TENANTS; i++) {
        l->table[i].id.v = UINT64_C(0x1111111111111111) * (i + 1);
    }
    return l;
}

void
ledger_free(ledger *l)
{
    munmap(l, sizeof *l);
}

static ledger_tenant *
mine(const ledger_client *c)
{
    return &c->l->tenants[c->tenant];
}

/* --- asking ----------------------------------------------------------------------------------- */

/* What became of a request. */
typedef enum { DONE, REFUSED, UNKNOWN } outcome;

/* An error says in JSON what is wrong, and is one that the disk explains. */
static void
check_refusal(const ledger_client *c, const char *method, const char *target, const test_answer *a)
{
    MUST(c, a->status != 0, "no answer to %s %s", method, target);
    MUST(c,
         (c->faults != LEDGER_NO_FAULTS && a->status == 507) ||
             (c->faults == LEDGER_BROKEN && (a->status == 500 || a->status == 503)),
         "%s %s: %d %s", method, target, a->status, a->body);
    json_t *doc = json_loads(a->body, 0, NULL);
    const char *why = json_string_value(json_object_get(json_object_get(doc, "status"), "error"));
    MUST(c, why != NULL && strlen(why) > 10, "%s %s: %d %s", method, target, a->status, a->body);
    json_decref(doc);
}

/* body_out may be NULL; the caller's to free, when DONE. */
static outcome
ask_n(const ledger_client *c, const char *method, const char *target, const char *body, size_t len,
      test_answer *out)
{
    test_answer a = test_request_n(c->node->port, c->l->table[c->tenant].keys[0].token, method,
                                   target, body, len);
    outcome o = DONE;
    if (a.status != 200) {
        check_refusal(c, method, target, &a);
        o = a.status == 500 ? UNKNOWN : REFUSED;
        (*(o == UNKNOWN ? &c->l->failed : &c->l->refused))++;
    } else {
        c->l->answered++;
    }
    if (out != NULL && o == DONE) {
        *out = a;
    } else {
        test_answer_fini(&a);
    }
    return o;
}

static outcome
ask(const ledger_client *c, const char *method, const char *target, const char *body)
{
    return ask_n(c, method, target, body, body != NULL ? strlen(body) : 0, NULL);
}

/* A read: reads go on, whatever the disk does. */
static json_t *
get(const ledger_client *c, const char *method, const char *target, const char *body)
{
    test_answer a =
        test_request(c->node->port, c->l->table[c->tenant].keys[0].token, method, target, body);
    MUST(c, a.status == 200, "%s %s: %d %s", method, target, a.status, a.body);
    json_t *doc = json_loadb(a.body, a.body_len, 0, NULL);
    MUST(c, doc != NULL, "%s %s: %s", method, target, a.body);
    json_t *result = json_incref(json_object_get(doc, "result"));
    MUST(c, result != NULL, "%s %s: %s", method, target, a.body);
    json_decref(doc);
    test_answer_fini(&a);
    return result;
}

/* Whoever dies between the two has left what he was at. */
static void
begin(ledger_item *item, uint64_t maybe)
{
    item->maybe = maybe;
    item->open = true;
}

static void
end(ledger_item *item, outcome o)
{
    if (o == DONE) {
        item->sure = item->maybe;
    }
    item->open = o == UNKNOWN;
}

/* --- groups ----------------------------------------------------------------------------------- */

static uint64_t
state_of(uint32_t mark, uint32_t seed)
{
    return (uint64_t)mark << 32 | seed;
}

static uint32_t
seed_of(uint64_t state)
{
    return (uint32_t)state;
}

/* Values that text keeps exactly. */
static double
component(unsigned tenant, uint32_t seed, unsigned i)
{
    uint64_t x = ((uint64_t)seed << 16 | tenant << 8 | i) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    return (double)(x * UINT64_C(0xbf58476d1ce4e5b9) >> 48) / 64.0;
}

static void
put_vector(ort_buf *out, unsigned tenant, uint32_t seed)
{
    for (unsigned i = 0; i < LEDGER_DIM; i++) {
        ort_buf_printf(out, "%s%.6f", i > 0 ? "," : "[", component(tenant, seed, i));
    }
    ort_buf_puts(out, "]");
}

static void
put_payload(ort_buf *out, const ledger_client *c, unsigned group, uint64_t state)
{
    ort_buf_printf(out, "{\"t\":%u,\"g\":%u,\"mark\":%u,\"seed\":%u,\"pad\":\"%0*d\"}", c->tenant,
                   group, (unsigned)(state >> 32), seed_of(state), PAD, 7);
}

static void
put_ids(ort_buf *out, unsigned group)
{
    for (unsigned i = 0; i < LEDGER_MEMBERS; i++) {
        ort_buf_printf(out, "%s%u", i > 0 ? "," : "\"points\":[", group * LEDGER_MEMBERS + i + 1);
    }
    ort_buf_puts(out, "]");
}

static void
put_points(ort_buf *out, const ledger_client *c, unsigned group, uint64_t state)
{
    for (unsigned i = 0; i < LEDGER_MEMBERS; i++) {
        ort_buf_printf(out, "%s{\"id\":%u,\"vector\":", i > 0 ? "," : "\"points\":[",
                       group * LEDGER_MEMBERS + i + 1);
        put_vector(out, c->tenant, seed_of(state));
        ort_buf_puts(out, ",\"payload\":");
        put_payload(out, c, group, state);
        ort_buf_puts(out, "}");
    }
    ort_buf_puts(out, "]");
}

static void
put_filter(ort_buf *out, const char *name, unsigned group)
{
    ort_buf_printf(out, "\"%s\":{\"must\":[{\"key\":\"g\",\"match\":{\"value\":%u}}]}", name,
                   group);
}

/* The request of a kind: its method, the end of its path, its body. */
static const char *
put_request(ort_buf *body, const ledger_client *c, unsigned group, ledger_kind kind, uint64_t state,
            const char **path)
{
    *path = "";
    ort_buf_puts(body, "{");
    switch (kind) {
    case LEDGER_BATCH:
        *path = "/batch";
        ort_buf_puts(body, "\"operations\":[{\"upsert\":{");
        put_points(body, c, group, state);
        ort_buf_puts(body, "}}]}");
        return "POST";
    case LEDGER_UPDATE_FILTER:
        put_points(body, c, group, state);
        ort_buf_puts(body, ",");
        put_filter(body, "update_filter", group);
        ort_buf_puts(body, "}");
        return "PUT";
    case LEDGER_PAYLOAD:
    case LEDGER_PAYLOAD_FILTER:
        *path = "/payload";
        ort_buf_printf(body, "\"payload\":{\"mark\":%u},", (unsigned)(state >> 32));
        if (kind == LEDGER_PAYLOAD) {
            put_ids(body, group);
        } else {
            put_filter(body, "filter", group);
        }
        ort_buf_puts(body, "}");
        return "POST";
    case LEDGER_OVERWRITE:
        *path = "/payload";
        ort_buf_puts(body, "\"payload\":");
        put_payload(body, c, group, state);
        ort_buf_puts(body, ",");
        put_ids(body, group);
        ort_buf_puts(body, "}");
        return "PUT";
    case LEDGER_DELETE:
    case LEDGER_DELETE_FILTER:
        *path = "/delete";
        if (kind == LEDGER_DELETE) {
            put_ids(body, group);
        } else {
            put_filter(body, "filter", group);
        }
        ort_buf_puts(body, "}");
        return "POST";
    default:
        put_points(body, c, group, state);
        ort_buf_puts(body, "}");
        return "PUT";
    }
}

static void
write_group(const ledger_client *c, ledger_item *item, const char *collection, unsigned group,
            ledger_kind kind)
{
    ort_buf body = {0};
    char target[96];
    const char *path;
    const uint64_t old = item->sure;
    const uint32_t mark = ++c->l->mark;
    if (item->open) {
        return;
    }
    kind = old == 0 && kind >= LEDGER_FOR_ALL ? LEDGER_UPSERT : kind;
    const uint64_t state = kind == LEDGER_DELETE || kind == LEDGER_DELETE_FILTER
                               ? 0
                               : state_of(mark, kind < LEDGER_FOR_ALL ? mark : seed_of(old));
    const char *method = put_request(&body, c, group, kind, state, &path);
    snprintf(target, sizeof target, "/collections/%s/points%s?wait=true", collection, path);
    begin(item, state);
    end(item, ask(c, method, target, ort_buf_peek_cstr(&body)));
    ort_buf_fini(&body);
}

void
ledger_write(const ledger_client *c, unsigned group, ledger_kind kind)
{
    write_group(c, &mine(c)->groups[group], "main", group, kind);
}

/* --- the rest --------------------------------------------------------------------------------- */

/* Graphs from a few kilobytes on. */
#define SCHEMA                                                                              \
    "{\"vectors\":{\"size\":16,\"distance\":\"Euclid\"},\"optimizers_config\":{\"indexing_" \
    "threshold\":1}}"

/* One that was killed here before has left a part. */
static void
make(const ledger_client *c, const char *target, const char *body)
{
    test_answer a =
        test_request(c->node->port, c->l->table[c->tenant].keys[0].token, "PUT", target, body);
    MUST(c, a.status == 200 || a.status == 409, "%s: %d %s", target, a.status, a.body);
    test_answer_fini(&a);
}

void
ledger_begin(const ledger_client *c)
{
    begin(&mine(c)->exists, 1);
    make(c, "/collections/main", SCHEMA);
    make(c, "/collections/kept", SCHEMA);
    make(c, "/collections/wide", SCHEMA);
    make(c, "/collections/wide/index?wait=true",
         "{\"field_name\":\"g\",\"field_schema\":\"integer\"}");
    end(&mine(c)->exists, DONE);
}

void
ledger_side(const ledger_client *c, unsigned side)
{
    ledger_item *item = &mine(c)->sides[side], *group = &mine(c)->side_groups[side];
    char name[16], target[64];
    snprintf(name, sizeof name, "side-%u", side);
    snprintf(target, sizeof target, "/collections/%s", name);
    if (item->open) {
        return;
    }
    if (item->sure == 0) {
        begin(item, 1);
        end(item, ask(c, "PUT", target, SCHEMA));
    } else if (group->sure == 0) {
        write_group(c, group, name, 0, LEDGER_UPSERT);
    } else if (!group->open) {
        begin(item, 0);
        const outcome o = ask(c, "DELETE", target, NULL);
        if (o == DONE) {
            group->sure = 0; /* before the collection: a check then knows less, never wrong */
        }
        end(item, o);
    }
}

void
ledger_index(const ledger_client *c)
{
    ledger_item *item = &mine(c)->index;
    if (item->open) {
        return;
    }
    const bool make = item->sure == 0;
    begin(item, make);
    end(item, make ? ask(c, "PUT", "/collections/main/index?wait=true",
                         "{\"field_name\":\"g\",\"field_schema\":\"integer\"}")
                   : ask(c, "DELETE", "/collections/main/index/g?wait=true", NULL));
}

void
ledger_snapshot(const ledger_client *c, unsigned n)
{
    ledger_item *item = &mine(c)->snapshots[n];
    char *name = mine(c)->snapshot_names[n], target[256];
    test_answer a;
    if (item->open) {
        return;
    }
    if (item->sure != 0) {
        snprintf(target, sizeof target, "/collections/main/snapshots/%s", name);
        begin(item, 0);
        end(item, ask(c, "DELETE", target, NULL));
        return;
    }
    begin(item, 1);
    const outcome o = ask_n(c, "POST", "/collections/main/snapshots", NULL, 0, &a);
    if (o == DONE) {
        json_t *doc = json_loads(a.body, 0, NULL);
        const char *said =
            json_string_value(json_object_get(json_object_get(doc, "result"), "name"));
        MUST(c, said != NULL, "%s", a.body);
        snprintf(name, sizeof mine(c)->snapshot_names[n], "%s", said);
        json_decref(doc);
        test_answer_fini(&a);
    }
    end(item, o);
}

/* Takes a snapshot, changes the collection, and restores it. */
void
ledger_restore(const ledger_client *c)
{
    ledger_item *item = &mine(c)->kept;
    char target[256];
    test_answer made, file;
    if (item->sure == 0) {
        write_group(c, item, "kept", 0, LEDGER_UPSERT);
    }
    const uint64_t state = item->sure;
    if (item->open || state == 0 ||
        ask_n(c, "POST", "/collections/kept/snapshots", NULL, 0, &made) != DONE) {
        return;
    }
    json_t *doc = json_loads(made.body, 0, NULL);
    const char *name = json_string_value(json_object_get(json_object_get(doc, "result"), "name"));
    MUST(c, name != NULL, "%s", made.body);
    snprintf(target, sizeof target, "/collections/kept/snapshots/%s", name);
    json_decref(doc);
    test_answer_fini(&made);
    outcome o = ask_n(c, "GET", target, NULL, 0, &file);
    if (o == DONE) {
        write_group(c, item, "kept", 0, LEDGER_UPSERT);
        if (!item->open) {
            begin(item, state);
            end(item, ask_n(c, "POST", "/collections/kept/snapshots/upload?wait=true", file.body,
                            file.body_len, NULL));
        }
        test_answer_fini(&file);
    }
    (void)ask(c, "DELETE", target, NULL);
}

void
ledger_wide(const ledger_client *c)
{
    ledger_item *item = &mine(c)->wide;
    ort_buf body = {0};
    if (item->open) {
        return;
    }
    if (item->sure == LEDGER_WIDE_FULL) { /* what stays is in a chunk that is mostly dead */
        ort_buf_printf(&body, "{\"filter\":{\"must\":[{\"key\":\"g\",\"range\":{\"gte\":%u}}]}}",
                       WIDE_LEFT);
        begin(item, LEDGER_WIDE_THINNED);
        end(item,
            ask(c, "POST", "/collections/wide/points/delete?wait=true", ort_buf_peek_cstr(&body)));
        ort_buf_fini(&body);
        return;
    }
    for (unsigned i = 0; i < LEDGER_WIDE; i++) {
        ort_buf_printf(&body,
                       "%s{\"id\":%u,\"vector\":[%u,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15],"
                       "\"payload\":{\"t\":%u,\"g\":%u,\"pad\":\"%0*d\"}}",
                       i > 0 ? "," : "{\"points\":[", i, i, c->tenant, i, WIDE_PAD, 7);
    }
    ort_buf_puts(&body, "]}");
    begin(item, LEDGER_WIDE_FULL);
    end(item, ask_n(c, "PUT", "/collections/wide/points?wait=true", body.data, body.len, NULL));
    ort_buf_fini(&body);
}

/* --- the tenant ------------------------------------------------------------------------------- */

/* What the disk may answer to calls that are not made over HTTP. */
static outcome
outcome_of(const ledger_client *c, ort_err err, const ort_diag *diag)
{
    MUST(c, err == ORT_OK || c->faults != LEDGER_NO_FAULTS, "%s: %s", ort_err_code(err),
         diag->text);
    MUST(c, err == ORT_OK || err == ORT_EIO || err == ORT_ENOSPC || err == ORT_EBUSY, "%s: %s",
         ort_err_code(err), diag->text);
    return err == ORT_OK ? DONE : UNKNOWN;
}

/* A backup, and at once its restore in the place of all there is: nothing changes. */
void
ledger_backup(const ledger_client *c)
{
    const dp_snapshot_pin pin = {.region_count = 0};
    ort_diag diag = {""};
    dp_snapshot_totals totals;
    dp_tenant_file *file = NULL;
    dp_tenant *t = NULL;
    ort_err err = dp_tenants_get(c->node->tenants, c->l->table[c->tenant].id, &t, &diag);
    if (outcome_of(c, err, &diag) != DONE) {
        return;
    }
    err = dp_tenant_backup(t, &pin, &file, &totals, &diag);
    if (outcome_of(c, err, &diag) == DONE) {
        err = dp_tenant_restore(t, dp_tenant_file_peek_fd(file), "", true, &totals, &diag);
        (void)outcome_of(c, err, &diag);
    }
    dp_tenant_file_free(file);
    dp_tenant_unref(t);
}

/* All it had is gone: `main` and the others have to be made again. */
static void
forget(ledger_tenant *t)
{
    memset(t, 0, sizeof *t);
}

void
ledger_delete_tenant(const ledger_client *c)
{
    ort_diag diag = {""};
    ledger_item *item = &mine(c)->exists;
    begin(item, 0);
    const ort_err err = dp_tenants_delete(c->node->tenants, c->l->table[c->tenant].id, &diag);
    if (outcome_of(c, err, &diag) == DONE) {
        forget(mine(c));
    }
}

void
ledger_checkpoint(const ledger_client *c, const char *collection)
{
    ort_diag diag = {""};
    dp_tenant *t = NULL;
    dp_collection *own = NULL;
    ort_err err = dp_tenants_get(c->node->tenants, c->l->table[c->tenant].id, &t, &diag);
    if (err == ORT_OK) {
        err = dp_tenant_use(t, collection, strlen(collection), &own, &diag);
    }
    if (err == ORT_OK) {
        err = dp_collection_wait_indexed(own, ort_mono_ns() + UINT64_C(1000000000));
        err = err == ORT_OK || err == ORT_ETIMEOUT ? dp_collection_checkpoint(own, &diag) : err;
        dp_tenant_release(t, own);
    }
    (void)outcome_of(c, err, &diag);
    dp_tenant_unref(t);
}

/* --- searches --------------------------------------------------------------------------------- */

/* A walk through the graph, where there is one: what it finds is there. */
void
ledger_search(const ledger_client *c)
{
    ort_buf body = {0};
    ort_buf_puts(&body, "{\"with_payload\":true,\"limit\":10,\"query\":");
    put_vector(&body, c->tenant, c->l->mark);
    ort_buf_puts(&body, "}");
    json_t *result = get(c, "POST", "/collections/main/points/query", ort_buf_peek_cstr(&body));
    json_t *points = json_object_get(result, "points");
    for (size_t i = 0; i < json_array_size(points); i++) {
        json_t *payload = json_object_get(json_array_get(points, i), "payload");
        MUST(c, json_integer_value(json_object_get(payload, "t")) == c->tenant, "a stranger");
    }
    json_decref(result);
    ort_buf_fini(&body);
}

/* --- the check -------------------------------------------------------------------------------- */

/* What is seen of an item is what was answered, or what is open. */
static void
check_item(const ledger_client *c, ledger_item *item, uint64_t seen, bool settle, const char *what,
           unsigned n)
{
    MUST(c, seen == item->sure || (item->open && seen == item->maybe),
         "%s %u: %llx, answered %llx, %s %llx", what, n, (unsigned long long)seen,
         (unsigned long long)item->sure, item->open ? "open" : "not open",
         (unsigned long long)item->maybe);
    if (settle) {
        item->sure = seen;
        item->open = false;
    }
}

static void
check_vector(const ledger_client *c, const json_t *vector, uint32_t seed)
{
    MUST(c, json_array_size(vector) == LEDGER_DIM, "%zu components", json_array_size(vector));
    for (unsigned i = 0; i < LEDGER_DIM; i++) {
        const double v = json_number_value(json_array_get(vector, i));
        MUST(c, (float)v == (float)component(c->tenant, seed, i), "component %u is %f", i, v);
    }
}

/* The states of a collection's groups; each is whole, and nothing else is there. */
static void
read_groups(const ledger_client *c, const char *collection, unsigned groups, uint64_t *states)
{
    unsigned members[LEDGER_GROUPS] = {0};
    char target[96];
    memset(states, 0, groups * sizeof *states);
    snprintf(target, sizeof target, "/collections/%s/points/scroll", collection);
    json_t *result = get(c, "POST", target, "{\"limit\":1000,\"with_vector\":true}");
    json_t *points = json_object_get(result, "points");
    for (size_t i = 0; i < json_array_size(points); i++) {
        const json_t *point = json_array_get(points, i), *p = json_object_get(point, "payload");
        const unsigned id = (unsigned)json_integer_value(json_object_get(point, "id")),
                       g = (id - 1) / LEDGER_MEMBERS;
        const uint64_t state = state_of((uint32_t)json_integer_value(json_object_get(p, "mark")),
                                        (uint32_t)json_integer_value(json_object_get(p, "seed")));
        MUST(c, id > 0 && g < groups, "%s: point %u", collection, id);
        MUST(c,
             json_integer_value(json_object_get(p, "t")) == c->tenant &&
                 json_integer_value(json_object_get(p, "g")) == g &&
                 json_string_length(json_object_get(p, "pad")) == PAD,
             "%s: the payload of point %u", collection, id);
        MUST(c, members[g]++ == 0 || state == states[g], "%s: half of group %u", collection, g);
        states[g] = state;
        check_vector(c, json_object_get(point, "vector"), seed_of(state));
    }
    for (unsigned g = 0; g < groups; g++) {
        MUST(c, members[g] == 0 || members[g] == LEDGER_MEMBERS, "%s: %u points of group %u",
             collection, members[g], g);
    }
    json_decref(result);
}

/* What derived data says agrees with the points: counts, a filter (perhaps by an index), the
 * nearest. */
static void
check_derived(const ledger_client *c, const uint64_t *states)
{
    ort_buf body = {0};
    json_int_t there = 0;
    for (unsigned g = 0; g < LEDGER_GROUPS; g++) {
        there += states[g] != 0 ? LEDGER_MEMBERS : 0;
    }
    json_t *result = get(c, "POST", "/collections/main/points/count", "{}");
    MUST(c, json_integer_value(json_object_get(result, "count")) == there, "the count");
    json_decref(result);
    const unsigned g = c->l->mark % LEDGER_GROUPS;
    ort_buf_puts(&body, "{");
    put_filter(&body, "filter", g);
    ort_buf_puts(&body, "}");
    result = get(c, "POST", "/collections/main/points/count", ort_buf_peek_cstr(&body));
    MUST(c,
         json_integer_value(json_object_get(result, "count")) ==
             (states[g] != 0 ? LEDGER_MEMBERS : 0),
         "points of group %u by a filter", g);
    json_decref(result);
    if (states[g] != 0) {
        ort_buf_clear(&body);
        ort_buf_printf(&body,
                       "{\"params\":{\"exact\":true},\"limit\":%d,\"query\":", LEDGER_MEMBERS);
        put_vector(&body, c->tenant, seed_of(states[g]));
        ort_buf_puts(&body, "}");
        result = get(c, "POST", "/collections/main/points/query", ort_buf_peek_cstr(&body));
        json_t *points = json_object_get(result, "points");
        MUST(c, json_array_size(points) == LEDGER_MEMBERS, "hits");
        for (size_t i = 0; i < LEDGER_MEMBERS; i++) {
            const json_int_t id =
                json_integer_value(json_object_get(json_array_get(points, i), "id"));
            MUST(c, (id - 1) / LEDGER_MEMBERS == g, "the nearest to group %u is %d", g, (int)id);
        }
        json_decref(result);
    }
    ort_buf_fini(&body);
    ledger_search(c);
}

/* Which of the names are there; and no other is. */
static void
read_names(const ledger_client *c, bool sides[LEDGER_SIDES])
{
    json_t *result = get(c, "GET", "/collections", NULL);
    json_t *list = json_object_get(result, "collections");
    unsigned fixed = 0;
    memset(sides, 0, LEDGER_SIDES * sizeof *sides);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
        const bool side = name != NULL && strncmp(name, "side-", 5) == 0;
        MUST(c, name != NULL && (!side || name[5] - '0' < LEDGER_SIDES), "collection %s", name);
        if (side) {
            sides[name[5] - '0'] = true;
        } else {
            fixed +=
                strcmp(name, "main") == 0 || strcmp(name, "kept") == 0 || strcmp(name, "wide") == 0;
        }
    }
    MUST(c, fixed == 3, "%u of three collections", fixed);
    json_decref(result);
}

static void
check_sides(const ledger_client *c, bool settle)
{
    bool sides[LEDGER_SIDES];
    read_names(c, sides);
    for (unsigned i = 0; i < LEDGER_SIDES; i++) {
        ledger_item *group = &mine(c)->side_groups[i];
        char name[16];
        uint64_t state = 0;
        check_item(c, &mine(c)->sides[i], sides[i], settle, "side", i);
        snprintf(name, sizeof name, "side-%u", i);
        if (sides[i] && (c->faults == LEDGER_NO_FAULTS || group->sure != 0)) {
            read_groups(c, name, 1, &state);
        } else if (sides[i]) {
            continue; /* it is new: it may want room for a log that it does not have yet */
        }
        if (sides[i] || !settle) {
            check_item(c, group, state, settle, "the group of side", i);
        } else { /* it went with it */
            group->sure = 0;
            group->open = false;
        }
    }
}

static void
check_snapshots(const ledger_client *c, bool settle)
{
    json_t *list = get(c, "GET", "/collections/main/snapshots", NULL);
    unsigned unnamed = 0;
    bool seen[LEDGER_SNAPSHOTS] = {false};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
        unsigned n = 0;
        while (n < LEDGER_SNAPSHOTS && strcmp(name, mine(c)->snapshot_names[n]) != 0) {
            n++;
        }
        if (n < LEDGER_SNAPSHOTS && mine(c)->snapshots[n].sure != 0) {
            seen[n] = true;
            continue;
        }
        /* Of a request that has no answer: there, so it is whole. */
        char target[256];
        snprintf(target, sizeof target, "/collections/main/snapshots/%s", name);
        test_answer a =
            test_request(c->node->port, c->l->table[c->tenant].keys[0].token, "GET", target, NULL);
        MUST(c,
             a.status == 200 && a.body_len == (size_t)json_integer_value(
                                                  json_object_get(json_array_get(list, i), "size")),
             "snapshot %s: %d", name, a.status);
        test_answer_fini(&a);
        unnamed++;
        if (settle) { /* nobody knows it: it goes, so that the next check has none */
            MUST(c, ask(c, "DELETE", target, NULL) == DONE, "%s", target);
        }
    }
    unsigned open = 0;
    for (unsigned n = 0; n < LEDGER_SNAPSHOTS; n++) {
        ledger_item *item = &mine(c)->snapshots[n];
        open += item->open && item->maybe != 0;
        if (item->open && item->maybe != 0) {
            item->open = !settle;
        } else {
            check_item(c, item, seen[n], settle, "snapshot", n);
        }
    }
    MUST(c, unnamed <= open, "%u snapshots that nobody asked for", unnamed - open);
    json_decref(list);
}

/* `wide` is filled, or a tenth of it is left, or it was never filled. */
static void
check_wide(const ledger_client *c, bool settle)
{
    json_t *result = get(c, "POST", "/collections/wide/points/count", "{}");
    const json_int_t count = json_integer_value(json_object_get(result, "count"));
    const uint64_t state = count == LEDGER_WIDE ? LEDGER_WIDE_FULL
                           : count == WIDE_LEFT ? LEDGER_WIDE_THINNED
                           : count == 0         ? 0
                                                : 9;
    check_item(c, &mine(c)->wide, state, settle, "wide", (unsigned)count);
    json_decref(result);
    result = get(c, "POST", "/collections/wide/points/count",
                 "{\"filter\":{\"must\":[{\"key\":\"g\",\"range\":{\"lt\":500}}]}}");
    MUST(c, json_integer_value(json_object_get(result, "count")) == (state == 0 ? 0 : WIDE_LEFT),
         "wide by a filter");
    json_decref(result);
}

static void
check_index(const ledger_client *c, bool settle)
{
    json_t *result = get(c, "GET", "/collections/main", NULL);
    json_t *schema = json_object_get(result, "payload_schema");
    check_item(c, &mine(c)->index, json_object_get(schema, "g") != NULL, settle, "the index", 0);
    json_decref(result);
}

/* Those of a restore that did not come to its end. */
static void
drop_kept_snapshots(const ledger_client *c)
{
    json_t *list = get(c, "GET", "/collections/kept/snapshots", NULL);
    for (size_t i = 0; i < json_array_size(list); i++) {
        char target[256];
        snprintf(target, sizeof target, "/collections/kept/snapshots/%s",
                 json_string_value(json_object_get(json_array_get(list, i), "name")));
        MUST(c, ask(c, "DELETE", target, NULL) == DONE, "%s", target);
    }
    json_decref(list);
}

void
ledger_check(const ledger_client *c, bool settle)
{
    uint64_t states[LEDGER_GROUPS];
    ledger_item *exists = &mine(c)->exists;
    if (exists->sure == 0 && exists->open) {
        return; /* it is not made yet, or in part */
    }
    if (exists->open && !dp_tenants_exists(c->node->tenants, c->l->table[c->tenant].id)) {
        forget(mine(c));
    }
    if (exists->sure == 0) {
        MUST(c, !dp_tenants_exists(c->node->tenants, c->l->table[c->tenant].id), "it was deleted");
        return;
    }
    exists->open = exists->open && !settle;
    check_sides(c, settle);
    read_groups(c, "main", LEDGER_GROUPS, states);
    for (unsigned g = 0; g < LEDGER_GROUPS; g++) {
        check_item(c, &mine(c)->groups[g], states[g], settle, "group", g);
    }
    check_derived(c, states);
    read_groups(c, "kept", 1, states);
    check_item(c, &mine(c)->kept, states[0], settle, "kept", 0);
    check_wide(c, settle);
    check_index(c, settle);
    check_snapshots(c, settle);
    if (settle) {
        drop_kept_snapshots(c);
    }
}
