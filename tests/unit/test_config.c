/* One file, the environment and flags become one checked struct. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/control_config.h"
#include "config/node_config.h"

static const char *const no_env[] = {NULL};
static char path[] = "/tmp/ort-config-XXXXXX";

static int
make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int
remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void
file_holds(const char *yaml)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(yaml, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Loads the node's configuration from the file, with this environment and up to two flags. */
static ort_err
load(ort_node_config *out, const char *const *env, const char *flag1, const char *flag2,
     ort_diag *diag)
{
    char config[64];
    const char *argv[] = {"orthant-node", config, flag1, flag2, NULL};
    ort_config_outcome outcome;
    int argc = 2 + (flag1 != NULL) + (flag2 != NULL);

    (void)snprintf(config, sizeof config, "--config=%s", path);
    return ort_config_load(&ort_node_config_schema, argc, argv, env, out, &outcome, stdout, diag);
}

#define GIVEN "data_dir: /d\nregion: eu-central\nhub:\n  urls: [tcp://127.0.0.1:1]\n"

static void
defaults_fill_what_is_not_given(void **state)
{
    ort_node_config c;
    ort_diag diag = {""};

    (void)state;
    file_holds(GIVEN);
    assert_int_equal(load(&c, no_env, NULL, NULL, &diag), ORT_OK);
    assert_string_equal(c.data_dir, "/d");
    assert_string_equal(c.http.listen, "127.0.0.1:6333");
    assert_int_equal(c.http.threads, 2048);
    assert_int_equal(c.http.body_bytes_max, 32u << 20);
    assert_int_equal(c.log_level, ORT_LOG_INFO_);
    assert_false(c.http.allow_plain);
    assert_int_equal(c.hub.urls.count, 1);
    assert_string_equal(c.hub.urls.items[0], "tcp://127.0.0.1:1");
    assert_int_equal(c.http.cors_origins.count, 0);
    assert_string_equal(c.name, "");
    ort_config_fini(&ort_node_config_schema, &c);
}

static void
the_file_gives_every_kind_of_value(void **state)
{
    ort_node_config c;
    ort_diag diag = {""};

    (void)state;
    file_holds("# a comment\n"
               "data_dir: \"/with space\"\n"
               "region: eu-central\n"
               "name:\n"
               "log: {level: warn}\n"
               "http:\n"
               "  threads: 16\n"
               "  allow_plain: yes\n"
               "  body_bytes_max: 64MiB\n"
               "  cors_origins:\n"
               "    - https://a.example\n"
               "    - https://b.example\n"
               "hub:\n"
               "  urls: [tcp://a:1, 'tls+tcp://b:2']\n"
               "  publish: []\n");
    ort_err err = load(&c, no_env, NULL, NULL, &diag);
    if (err != ORT_OK) {
        print_error("%s\n", diag.text);
    }
    assert_int_equal(err, ORT_OK);
    assert_string_equal(c.data_dir, "/with space");
    assert_int_equal(c.log_level, ORT_LOG_WARN_);
    assert_int_equal(c.http.threads, 16);
    assert_true(c.http.allow_plain);
    assert_int_equal(c.http.body_bytes_max, 64u << 20);
    assert_int_equal(c.http.cors_origins.count, 2);
    assert_string_equal(c.http.cors_origins.items[1], "https://b.example");
    assert_int_equal(c.hub.urls.count, 2);
    assert_int_equal(c.hub.publish.count, 0);
    ort_config_fini(&ort_node_config_schema, &c);
}

static void
flags_win_over_environment_over_file(void **state)
{
    static const char *const env[] = {"ORTHANT_HTTP_THREADS=32", "ORTHANT_ZONE=z2",
                                      "ORTHANT_HUB_URLS=tcp://x:1,tcp://y:2",
                                      "ORTHANT_URL=unrelated", NULL};
    ort_node_config c;
    ort_diag diag = {""};

    (void)state;
    file_holds(GIVEN "zone: z1\nname: n1\nhttp: {threads: 16}\n");
    assert_int_equal(load(&c, env, "--http.threads=64", "--http.allow_plain", &diag), ORT_OK);
    assert_int_equal(c.http.threads, 64);
    assert_true(c.http.allow_plain);
    assert_string_equal(c.zone, "z2");
    assert_string_equal(c.name, "n1");
    assert_int_equal(c.hub.urls.count, 2);
    assert_string_equal(c.hub.urls.items[1], "tcp://y:2");
    ort_config_fini(&ort_node_config_schema, &c);
}

/* Each mistake is refused, and the message says where it is. */
static void
mistakes_are_named_with_their_line(void **state)
{
    static const struct {
        const char *yaml;
        ort_err err;
        const char *line; /* ":LINE: " */
        const char *text;
    } bad[] = {
        {GIVEN "http:\n  threads: 0\n", ORT_EINVAL,
         ":6: ", "http.threads: 0 is outside 8 .. 65000"},
        {GIVEN "http:\n  threads: many\n", ORT_EINVAL, ":6: ", "\"many\" is not a whole number"},
        {GIVEN "http:\n  threads: -1\n", ORT_EINVAL, ":6: ", "whole number"},
        {GIVEN "http:\n  threads: 1e3\n", ORT_EINVAL, ":6: ", "whole number"},
        {GIVEN "http:\n  threads: 99999999999999999999\n", ORT_EINVAL, ":6: ", "whole number"},
        {GIVEN "http:\n  body_bytes_max: 1GB\n", ORT_EINVAL, ":6: ", "KiB"},
        {GIVEN "http:\n  allow_plain: maybe\n", ORT_EINVAL, ":6: ", "neither true nor false"},
        {GIVEN "log: {level: loud}\n", ORT_EINVAL, ":5: ", "none of debug, info, warn, error"},
        {GIVEN "\nhttp:\n  thread: 5\n", ORT_EINVAL, ":7: ", "unknown key http.thread"},
        {GIVEN "colour: blue\n", ORT_EINVAL, ":5: ", "unknown key colour"},
        {GIVEN "http: 5\n", ORT_EINVAL, ":5: ", ""},
        {GIVEN "zone: {a: b}\n", ORT_EINVAL, ":5: ", ""},
        {GIVEN "zone: [a]\n", ORT_EINVAL, ":5: ", ""},
        {GIVEN "http:\n  cors_origins: x\n", ORT_EINVAL, ":6: ", ""},
        {GIVEN "zone: a\nzone: b\n", ORT_EINVAL, ":6: ", "zone stands here a second time"},
        {GIVEN "http:\n  tls_cert: /c\n", ORT_EINVAL, "http.tls_key", "one of them is missing"},
        {"region: Eu\ndata_dir: /d\nhub: {urls: [tcp://a:1]}\n", ORT_EINVAL, "region",
         "not a name"},
        {"region: eu\ndata_dir: /d\nhub: {urls: [http://a:1]}\n", ORT_EINVAL, "hub.urls", "URL"},
        {"region: eu\ndata_dir: /d\nhub: {urls: []}\n", ORT_EINVAL, ":3: ", "0 items are outside"},
        {"region: eu\n", ORT_EINVAL, "ORTHANT_DATA_DIR", "data_dir must be given"},
        {"", ORT_EINVAL, "data_dir", "must be given"},
        {"# nothing\n", ORT_EINVAL, "data_dir", "must be given"},
        {"just text\n", ORT_EINVAL, ":1: ", "not a map"},
        {"- a\n", ORT_EINVAL, ":1: ", "not a map"},
        {GIVEN "a: [\n", ORT_EFORMAT, ":6: ", ""},
        {GIVEN "\ta: b\n", ORT_EFORMAT, ":5: ", ""},
        {GIVEN "a: &x [*x]\n", ORT_EINVAL, ":5: ", ""},
        {GIVEN "[a, b]: c\n", ORT_EINVAL, ":5: ", "unknown key"},
        {GIVEN "http: {tls_cert: {listen: x}}\n", ORT_EINVAL, ":5: ", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ort_node_config c;
        ort_diag diag = {""};
        file_holds(bad[i].yaml);
        ort_err err = load(&c, no_env, NULL, NULL, &diag);
        if (err != bad[i].err || strstr(diag.text, bad[i].line) == NULL ||
            strstr(diag.text, bad[i].text) == NULL) {
            print_error("%zu: err %d: %s\nof:\n%s", i, (int)err, diag.text, bad[i].yaml);
        }
        assert_int_equal(err, bad[i].err);
        assert_non_null(strstr(diag.text, bad[i].line));
        assert_non_null(strstr(diag.text, bad[i].text));
        ort_config_fini(&ort_node_config_schema, &c);
    }
}

static void
bad_flags_and_variables_are_named(void **state)
{
    static const char *const env[] = {"ORTHANT_HTTP_THREADS=x", NULL};
    static const char *const flags[] = {"--nonsense=1", "--http.threads", "threads=5",
                                        "--http.threads=0", "--http=5"};
    ort_node_config c;
    ort_diag diag = {""};

    (void)state;
    file_holds(GIVEN);
    assert_int_equal(load(&c, env, NULL, NULL, &diag), ORT_EINVAL);
    assert_non_null(strstr(diag.text, "ORTHANT_HTTP_THREADS: "));
    ort_config_fini(&ort_node_config_schema, &c);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        assert_int_equal(load(&c, no_env, flags[i], NULL, &diag), ORT_EINVAL);
        ort_config_fini(&ort_node_config_schema, &c);
    }
    const char *argv[] = {"orthant-node", "--config=/nonexistent/x.yaml", NULL};
    ort_config_outcome outcome;
    assert_int_equal(
        ort_config_load(&ort_node_config_schema, 2, argv, no_env, &c, &outcome, stdout, &diag),
        ORT_ENOTFOUND);
    assert_non_null(strstr(diag.text, "/nonexistent/x.yaml"));
    ort_config_fini(&ort_node_config_schema, &c);
}

/* What dump writes is a file that loads to the same values. */
static void
a_dump_loads_again(void **state)
{
    ort_node_config c;
    ort_diag diag = {""};
    char *text = NULL;
    char *again = NULL;
    size_t len = 0;

    (void)state;
    file_holds(GIVEN "name: 'with \"quotes\" and \\'\nhttp: {cors_origins: [https://a.example]}\n");
    assert_int_equal(load(&c, no_env, NULL, NULL, &diag), ORT_OK);
    for (int round = 0; round < 2; round++) {
        char **into = round == 0 ? &text : &again;
        FILE *stream = open_memstream(into, &len);
        ort_config_dump(&ort_node_config_schema, &c, stream);
        assert_int_equal(fclose(stream), 0);
        ort_config_fini(&ort_node_config_schema, &c);
        file_holds(*into);
        assert_int_equal(load(&c, no_env, NULL, NULL, &diag), ORT_OK);
    }
    assert_string_equal(text, again);
    assert_string_equal(c.name, "with \"quotes\" and \\");
    free(text);
    free(again);
    ort_config_fini(&ort_node_config_schema, &c);
}

static void
help_shows_every_key(void **state)
{
    const char *argv[] = {"orthant-control", "--help", NULL};
    ort_control_config c;
    ort_config_outcome outcome = ORT_CONFIG_RUN;
    char *text = NULL;
    size_t len = 0;

    (void)state;
    FILE *stream = open_memstream(&text, &len);
    assert_int_equal(
        ort_config_load(&ort_control_config_schema, 2, argv, no_env, &c, &outcome, stream, NULL),
        ORT_OK);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(outcome, ORT_CONFIG_SHOWN);
    for (size_t i = 0; i < ort_control_config_schema.key_count; i++) {
        char flag[96];
        (void)snprintf(flag, sizeof flag, "--%s=", ort_control_config_schema.keys[i].path);
        assert_non_null(strstr(text, flag));
    }
    free(text);
    ort_config_fini(&ort_control_config_schema, &c);
}

/* Two keys must not share a variable ("a.b_c" and "a_b.c" would), groups stand together (dump
 * counts on it), and every default is a value its key takes. */
static void
tables_are_sound(void **state)
{
    static const ort_config_schema *const schemas[] = {&ort_node_config_schema,
                                                       &ort_control_config_schema};

    (void)state;
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < schemas[s]->key_count; i++) {
            const ort_config_key *key = &schemas[s]->keys[i];
            char a[ORT_CONFIG_ENV_BYTES], b[ORT_CONFIG_ENV_BYTES];
            ort_config_env_name(key, a);
            for (size_t k = 0; k < i; k++) {
                ort_config_env_name(&schemas[s]->keys[k], b);
                assert_string_not_equal(a, b);
            }
            assert_true(key->help[strlen(key->help) - 1] == '.');
        }
    }
    ort_control_config c;
    ort_config_outcome outcome;
    ort_diag diag = {""};
    const char *argv[] = {"orthant-control", "--data_dir=/d", NULL};
    assert_int_equal(
        ort_config_load(&ort_control_config_schema, 2, argv, no_env, &c, &outcome, stdout, &diag),
        ORT_OK);
    assert_int_equal(c.hub.names.count, 2);
    ort_config_fini(&ort_control_config_schema, &c);
}

/* The reference page holds each program's table word for word: run
 * ORTHANT_TEST_PRINT_REFERENCE=1 build/check/tests/test_config to get the new ones. */
static void
the_reference_page_lists_every_key(void **state)
{
    static const ort_config_schema *const schemas[] = {&ort_node_config_schema,
                                                       &ort_control_config_schema};
    char *page = calloc(1, 1u << 20);

    (void)state;
    FILE *file = fopen("docs/reference/config.md", "r");
    if (file != NULL) {
        size_t n = fread(page, 1, (1u << 20) - 1, file);
        page[n] = '\0';
        (void)fclose(file);
    }
    for (size_t s = 0; s < 2; s++) {
        char *table = NULL;
        size_t len = 0;
        FILE *stream = open_memstream(&table, &len);
        ort_config_reference(schemas[s], stream);
        assert_int_equal(fclose(stream), 0);
        if (getenv("ORTHANT_TEST_PRINT_REFERENCE") != NULL) {
            (void)printf("## %s\n\n%s\n", schemas[s]->program, table);
        } else {
            assert_non_null(strstr(page, table));
        }
        free(table);
    }
    free(page);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_what_is_not_given),
        cmocka_unit_test(the_file_gives_every_kind_of_value),
        cmocka_unit_test(flags_win_over_environment_over_file),
        cmocka_unit_test(mistakes_are_named_with_their_line),
        cmocka_unit_test(bad_flags_and_variables_are_named),
        cmocka_unit_test(a_dump_loads_again),
        cmocka_unit_test(help_shows_every_key),
        cmocka_unit_test(tables_are_sound),
        cmocka_unit_test(the_reference_page_lists_every_key),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
