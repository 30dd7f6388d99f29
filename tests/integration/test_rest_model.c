/* The REST API against a plain model (rest_model.h): random operations on a collection with vectors
 * and payloads of every kind, payload indexes and an alias that come and go, restarts; and after
 * each, random questions, which node and model answer alike, number by number.
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
#define RESTART 50u   /* rounds between two, which take longer than the rounds */

static void
ask_something(void)
{
    static void (*const questions[])(void) = {
        ask_count,   ask_scroll,  ask_scroll,  ask_retrieve,  ask_aliases,  ask_ordered,  ask_facet,
        ask_nearest, ask_nearest, ask_nearest, ask_recommend, ask_examples, ask_examples, ask_steps,
        ask_steps,   ask_spread,  ask_groups,  ask_matrix,    ask_sample};
    questions[model_below(sizeof questions / sizeof *questions)]();
}

/* --- changing ------------------------------------------------------------------------------- */

static void
change_alone(void)
{
    static const char *const routes[][3] = {{"upsert", "PUT", ""},
                                            {"delete", "POST", "/delete"},
                                            {"set_payload", "POST", "/payload"},
                                            {"overwrite_payload", "PUT", "/payload"},
                                            {"delete_payload", "POST", "/payload/delete"},
                                            {"clear_payload", "POST", "/payload/clear"},
                                            {"update_vectors", "PUT", "/vectors"},
                                            {"delete_vectors", "POST", "/vectors/delete"}};
    const char *kind;
    char target[128];
    const bool waits = !model_one_in(6);
    json_t *body = model_random_operation(&asked.points, false, &kind);
    const bool all_here = model_apply(&asked.points, kind, body);
    size_t i = 0;
    while (strcmp(routes[i][0], kind) != 0) {
        i++;
    }
    /* Nothing to take away from a point that is not there is no mistake; a change to it is, for
     * those who wait. */
    const bool lenient =
        strcmp(kind, "delete") == 0 || strcmp(kind, "delete_vectors") == 0 || !waits;
    const int status = all_here || lenient ? 200 : 404;
    snprintf(target, sizeof target, COLLECTION "/points%s%s", routes[i][2],
             waits ? "?wait=true" : "");
    json_decref(ask_call(status, routes[i][1], target, body));
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

static void
drop_index(uint32_t field)
{
    char target[128];
    /* The path's brackets, as an address wants them. */
    size_t len = (size_t)snprintf(target, sizeof target, COLLECTION "/index/");
    for (const char *c = model_fields[field].path; *c != '\0'; c++) {
        const bool bracket = *c == '[' || *c == ']';
        len += (size_t)snprintf(target + len, sizeof target - len, bracket ? "%%%02X" : "%c",
                                (unsigned char)*c);
    }
    snprintf(target + len, sizeof target - len, "%s", model_one_in(2) ? "?wait=true" : "");
    json_decref(ask_call(200, "DELETE", target, NULL));
    asked.indexed[field] = NULL;
    model_declare_text(model_fields[field].path, NULL);
    json_decref(asked.texts[field]);
    asked.texts[field] = NULL;
}

/* In the place of one that may be there. Without `wait` it is built beside the questions. */
static void
declare_index(uint32_t field, const char *type)
{
    const char *path = model_fields[field].path;
    const bool text = strcmp(type, "text") == 0;
    json_t *schema = text && !model_one_in(4) ? model_random_text_index() : json_string(type);
    json_t *body = json_pack("{s:s,s:O}", "field_name", path, "field_schema", schema);
    json_decref(ask_call(
        200, "PUT", model_one_in(2) ? COLLECTION "/index?wait=true" : COLLECTION "/index", body));
    json_decref(body);
    asked.indexed[field] = type;
    json_decref(asked.texts[field]);
    asked.texts[field] = text ? schema : NULL;
    model_declare_text(path, asked.texts[field]);
    if (!text) {
        json_decref(schema);
    }
}

/* An index of any kind on any field: the kind that fits, mostly. */
static void
change_index(void)
{
    static const char *const fitting[] = {"keyword", "integer", "float",   "bool",   "datetime",
                                          "uuid",    "geo",     "keyword", "keyword"};
    static const char *const all[] = {"keyword",  "integer", "float", "bool",
                                      "datetime", "uuid",    "geo",   "text"};
    const uint32_t field = model_below(MODEL_FIELDS);
    const model_kind kind = model_fields[field].kind;
    if (asked.indexed[field] != NULL && model_one_in(2)) {
        drop_index(field);
        return;
    }
    const char *type = kind == MODEL_WORDS && !model_one_in(4) ? "text"
                       : model_one_in(4)                       ? all[model_below(8)]
                                                               : fitting[kind];
    declare_index(field, type);
}

/* Its names come and go, and change in one step. */
static void
change_alias(void)
{
    static const char *const names[] = {"aka", "other"};
    const char *next = model_one_in(3) ? NULL : names[model_below(2)];
    json_t *actions = json_array();
    if (asked.alias != NULL && next != NULL && next != asked.alias && model_one_in(2)) {
        json_array_append_new(actions, json_pack("{s:{s:s,s:s}}", "rename_alias", "old_alias_name",
                                                 asked.alias, "new_alias_name", next));
    } else {
        if (asked.alias != NULL) {
            json_array_append_new(
                actions, json_pack("{s:{s:s}}", "delete_alias", "alias_name", asked.alias));
        }
        if (next != NULL) {
            json_array_append_new(actions,
                                  json_pack("{s:{s:s,s:s}}", "create_alias", "collection_name",
                                            "model", "alias_name", next));
        }
    }
    json_t *body = json_pack("{s:o}", "actions", actions);
    json_decref(ask_call(200, "POST", "/collections/aliases", body));
    json_decref(body);
    asked.alias = next;
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
    asked.alias = NULL;
    ok("PUT", COLLECTION,
       "{\"vectors\":{\"d\":{\"size\":3,\"distance\":\"Dot\"},"
       "\"e\":{\"size\":2,\"distance\":\"Euclid\"},"
       "\"h\":{\"size\":2,\"distance\":\"Manhattan\",\"datatype\":\"float16\"},"
       "\"b\":{\"size\":3,\"distance\":\"Dot\",\"datatype\":\"uint8\"},"
       "\"m\":{\"size\":2,\"distance\":\"Dot\","
       "\"multivector_config\":{\"comparator\":\"max_sim\"}}},\"sparse_vectors\":{\"s\":{},\"i\":{"
       "\"modifier\":\"idf\"}}}",
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
        if (model_one_in(8)) {
            change_alias();
        }
        if (asked.round % RESTART == RESTART / 2) {
            test_node_restart(&node);
        }
        for (unsigned i = 0; i < QUESTIONS; i++) {
            ask_something();
        }
    }
    free(test_call(node.port, KEY, 200, "DELETE", COLLECTION, NULL));
    for (uint32_t field = 0; field < MODEL_FIELDS; field++) {
        model_declare_text(model_fields[field].path, NULL);
        json_decref(asked.texts[field]);
        asked.texts[field] = NULL;
    }
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
