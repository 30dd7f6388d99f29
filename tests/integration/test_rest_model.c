/* The REST API against a plain model (rest_model.h): random operations on a collection with dense
 * and sparse vectors and payloads of every kind, payload indexes that come and go, restarts; then
 * random questions, which node and model answer alike, number by number.
 *
 * ORT_MODEL_SEEDS: how many runs (1), from ORT_MODEL_SEED (1) on; ORT_MODEL_ROUNDS: how long each
 * is (160). A failure names its seed and round, with which it comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rest_model_ask.h"

#define ROUNDS 160u
#define QUESTIONS 12u /* after each round */
#define RESTART 160u  /* rounds between two, which take longer than the rounds */

static void
ask_something(void)
{
    switch (model_below(9)) {
    case 0:
        ask_count();
        break;
    case 1:
    case 2:
        ask_scroll();
        break;
    case 3:
        ask_retrieve();
        break;
    case 4:
        ask_ordered();
        break;
    case 5:
        ask_facet();
        break;
    case 6:
        ask_nearest("d");
        break;
    case 7:
        ask_nearest("s");
        break;
    default:
        ask_recommend();
        break;
    }
}

/* --- changing ------------------------------------------------------------------------------- */

static void
change_alone(void)
{
    static const char *const routes[][3] = {
        {"upsert", "PUT", COLLECTION "/points?wait=true"},
        {"delete", "POST", COLLECTION "/points/delete?wait=true"},
        {"set_payload", "POST", COLLECTION "/points/payload?wait=true"},
        {"overwrite_payload", "PUT", COLLECTION "/points/payload?wait=true"},
        {"delete_payload", "POST", COLLECTION "/points/payload/delete?wait=true"},
        {"clear_payload", "POST", COLLECTION "/points/payload/clear?wait=true"},
        {"update_vectors", "PUT", COLLECTION "/points/vectors?wait=true"},
        {"delete_vectors", "POST", COLLECTION "/points/vectors/delete?wait=true"}};
    const char *kind;
    json_t *body = model_random_operation(&asked.points, false, &kind);
    const bool all_here = model_apply(&asked.points, kind, body);
    size_t i = 0;
    while (strcmp(routes[i][0], kind) != 0) {
        i++;
    }
    /* Nothing to take away from a point that is not there is no mistake; a change to it is. */
    const bool lenient = strcmp(kind, "delete") == 0 || strcmp(kind, "delete_vectors") == 0;
    const int status = all_here || lenient ? 200 : 404;
    json_decref(ask_call(status, routes[i][1], routes[i][2], body));
    json_decref(body);
}

/* Several at once; the dice look at the model as the ones before have left it. */
static void
change_batch(void)
{
    json_t *operations = json_array();
    for (uint32_t n = 1 + model_below(4); n > 0; n--) {
        const char *kind;
        json_t *body = model_random_operation(&asked.points, true, &kind);
        model_apply(&asked.points, kind, body);
        json_array_append_new(operations, json_pack("{s:o}", kind, body));
    }
    json_t *whole = json_pack("{s:o}", "operations", operations);
    json_decref(ask_call(200, "POST", COLLECTION "/points/batch?wait=true", whole));
    json_decref(whole);
}

/* An index of any kind on any field: the kind that fits, mostly. */
static void
change_index(void)
{
    static const char *const fitting[] = {"keyword", "integer", "float",   "bool",   "datetime",
                                          "uuid",    "geo",     "keyword", "keyword"};
    static const char *const all[] = {"keyword",  "integer", "float", "bool",
                                      "datetime", "uuid",    "geo",   "text"};
    char target[128];
    const uint32_t field = model_below(MODEL_FIELDS);
    const char *path = model_fields[field].path;
    const model_kind kind = model_fields[field].kind;
    if (asked.indexed[field] != NULL && model_one_in(2)) {
        /* The path's brackets, as an address wants them. */
        size_t len = (size_t)snprintf(target, sizeof target, COLLECTION "/index/");
        for (const char *c = path; *c != '\0'; c++) {
            const bool bracket = *c == '[' || *c == ']';
            len += (size_t)snprintf(target + len, sizeof target - len, bracket ? "%%%02X" : "%c",
                                    (unsigned char)*c);
        }
        snprintf(target + len, sizeof target - len, "?wait=true");
        json_decref(ask_call(200, "DELETE", target, NULL));
        asked.indexed[field] = NULL;
        return;
    }
    /* A text index changes what a text condition means: none where those are asked. */
    asked.indexed[field] =
        model_one_in(4) ? all[model_below(kind == MODEL_WORDS ? 7 : 8)] : fitting[kind];
    json_t *body = json_pack("{s:s,s:s}", "field_name", path, "field_schema", asked.indexed[field]);
    json_decref(ask_call(200, "PUT", COLLECTION "/index?wait=true", body));
    json_decref(body);
}

static unsigned
from_env(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static void
run(unsigned rounds)
{
    model_seed(asked.seed);
    model_init(&asked.points);
    memset(asked.indexed, 0, sizeof asked.indexed);
    ok("PUT", COLLECTION,
       "{\"vectors\":{\"d\":{\"size\":3,\"distance\":\"Dot\"}},\"sparse_vectors\":{\"s\":{}}}",
       "\"result\":true");
    for (asked.round = 0; asked.round < rounds; asked.round++) {
        for (uint32_t n = 1 + model_below(4); n > 0; n--) {
            if (model_one_in(5)) {
                change_batch();
            } else {
                change_alone();
            }
        }
        if (model_one_in(3)) {
            change_index();
        }
        if (asked.round % RESTART == RESTART / 2) {
            test_node_restart(&node);
        }
        for (unsigned i = 0; i < QUESTIONS; i++) {
            ask_something();
        }
    }
    free(test_call(node.port, KEY, 200, "DELETE", COLLECTION, NULL));
    model_fini(&asked.points);
}

/* Where it was, for whatever has stopped it. */
static bool finished;

static int
tell_where(void **state)
{
    if (!finished) {
        fprintf(stderr, "stopped at ORT_MODEL_SEED=%llu, round %u\n",
                (unsigned long long)asked.seed, asked.round);
    }
    return api_stop(state);
}

static void
node_and_model_answer_alike(void **state)
{
    const unsigned rounds = from_env("ORT_MODEL_ROUNDS", ROUNDS);
    const unsigned seeds = from_env("ORT_MODEL_SEEDS", 1);
    (void)state;
    asked.seed = from_env("ORT_MODEL_SEED", 1);
    for (unsigned i = 0; i < seeds; i++, asked.seed++) {
        run(rounds);
    }
    finished = true;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(node_and_model_answer_alike, api_start, tell_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
