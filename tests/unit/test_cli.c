/* The command line's own parts: flags, and files of points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "cli/admin.h"
#include "cli/commands.h"
#include "cli/source.h"

static const cli_flag *const tables[] = {cli_flags_global, cli_flags_admin, cli_flags_data, NULL};

static void
flags_and_words_are_told_apart(void **state)
{
    (void)state;
    char *argv[] = {"tenant", "create", "--plan=default", "--region",
                    "eu",     "acme",   "--yes",          "--region",
                    "us",     "--",     "--plan"};
    cli_args args;
    ort_diag diag;
    assert_int_equal(cli_args_parse(&args, 11, argv, tables, &diag), ORT_OK);
    assert_int_equal(args.word_count, 4);
    assert_string_equal(args.words[2], "acme");
    assert_string_equal(args.words[3], "--plan");
    assert_string_equal(cli_args_get(&args, "--plan"), "default");
    assert_string_equal(cli_args_get(&args, "--region"), "us");
    assert_string_equal(cli_args_get_nth(&args, "--region", 0), "eu");
    assert_null(cli_args_get_nth(&args, "--region", 2));
    assert_non_null(cli_args_get(&args, "--yes"));
    assert_null(cli_args_get(&args, "--wait"));
}

static void
wrong_command_lines_are_refused(void **state)
{
    (void)state;
    static char *const wrong[][2] = {{"--nope", NULL}, {"--plan", NULL}, {"--yes=1", NULL}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cli_args args;
        ort_diag diag;
        char *argv[] = {wrong[i][0]};
        assert_int_equal(cli_args_parse(&args, 1, argv, tables, &diag), ORT_EINVAL);
    }
}

static void
numbers_take_units_and_bounds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t want; /* UINT64_MAX: refused */
    } cases[] = {{"7", 7},
                 {"2k", 2000},
                 {"1ki", 1024},
                 {"3GiB", 3ull << 30},
                 {"", UINT64_MAX},
                 {"-1", UINT64_MAX},
                 {"1x", UINT64_MAX},
                 {"1kk", UINT64_MAX},
                 {"99999999999999999999", UINT64_MAX},
                 {"1t", UINT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--limit=%s", cases[i].text);
        char *argv[] = {flag};
        cli_args args;
        uint64_t got = 0;
        assert_int_equal(cli_args_parse(&args, 1, argv, tables, NULL), ORT_OK);
        const ort_err err = cli_args_u64(&args, "--limit", 1, 1ull << 38, 5, &got, NULL);
        assert_int_equal(err, cases[i].want == UINT64_MAX ? ORT_EINVAL : ORT_OK);
        assert_true(err != ORT_OK || got == cases[i].want);
    }
}

/* A column or member table that lacks its end would be read past it. */
static void
every_verb_is_complete(void **state)
{
    (void)state;
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        assert_non_null(v->verb);
        assert_non_null(v->path);
        assert_non_null(v->help);
        assert_true((v->show == CLI_SHOW_LIST) == (v->columns != NULL));
        for (const cli_member *m = v->members; m != NULL && m->flag != NULL; m++) {
            bool known = false;
            for (const cli_flag *f = cli_flags_admin; f->name != NULL; f++) {
                known = known || strcmp(f->name, m->flag) == 0;
            }
            assert_true(known);
        }
    }
}

static void
write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Reads a whole file in batches of two; the error that ended it. */
static ort_err
read_all(const char *path, uint64_t skip, ort_buf *out, uint32_t *count)
{
    cli_source *source;
    uint32_t n = 1;
    ort_diag diag;
    ort_buf_clear(out);
    *count = 0;
    ort_err err = cli_source_open(&source, path, 100, &diag);
    if (err == ORT_OK) {
        err = cli_source_skip(source, skip, &diag);
    }
    while (err == ORT_OK && n > 0) {
        ort_buf_putc(out, '|');
        err = cli_source_read(source, 2, out, &n, &diag);
        *count += n;
    }
    if (source != NULL) {
        cli_source_close(source);
    }
    return err;
}

static void
rows_of_every_format_are_read(void **state)
{
    (void)state;
    char dir[] = "/tmp/ort-cli-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    ort_buf out = {0};
    uint32_t count;

    static const unsigned char bvecs[] = {2, 0, 0, 0, 1, 2, 2, 0, 0, 0, 3, 255};
    snprintf(path, sizeof path, "%s/a.bvecs", dir);
    write_file(path, bvecs, sizeof bvecs);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&out), "|{\"id\":100,\"vector\":[1.0,2.0]},"
                                                 "{\"id\":101,\"vector\":[3.0,255.0]}|");
    assert_int_equal(read_all(path, 1, &out, &count), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&out), "|{\"id\":101,\"vector\":[3.0,255.0]}|");
    for (size_t cut = 1; cut < sizeof bvecs; cut++) {
        write_file(path, bvecs, cut);
        assert_int_equal(read_all(path, 0, &out, &count), cut == 6 ? ORT_OK : ORT_EFORMAT);
    }
    static const unsigned char vast[] = {0xff, 0xff, 0xff, 0xff, 1};
    write_file(path, vast, sizeof vast);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_EFORMAT);
    unlink(path);

    static const char npy[] = "\x93NUMPY\x01\x00\x76\x00"
                              "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2), }"
                              "                                                          \n"
                              "\x00\x3c\x00\xc0\x00\x38\x00\x00";
    snprintf(path, sizeof path, "%s/a.npy", dir);
    write_file(path, npy, sizeof npy - 1);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&out), "|{\"id\":100,\"vector\":[1.0,-2.0]},"
                                                 "{\"id\":101,\"vector\":[0.5,0.0]}|");
    write_file(path, npy, sizeof npy - 3);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_EFORMAT);
    unlink(path);

    static const char jsonl[] = "{\"id\":1,\"vector\":[1]}\n\n{\"id\":\"x\"}\r\n{\"id\":3}";
    snprintf(path, sizeof path, "%s/a.jsonl", dir);
    write_file(path, jsonl, sizeof jsonl - 1);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_OK);
    assert_int_equal(count, 3);
    assert_string_equal(ort_buf_peek_cstr(&out),
                        "|{\"id\":1,\"vector\":[1]},{\"id\":\"x\"}|{\"id\":3}|");
    write_file(path, "{\"vector\":[1]}", 14);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_EFORMAT);
    write_file(path, "{\"id\":1", 7);
    assert_int_equal(read_all(path, 0, &out, &count), ORT_EFORMAT);
    unlink(path);
    ort_buf_fini(&out);
    rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_and_words_are_told_apart),
        cmocka_unit_test(wrong_command_lines_are_refused),
        cmocka_unit_test(numbers_take_units_and_bounds),
        cmocka_unit_test(every_verb_is_complete),
        cmocka_unit_test(rows_of_every_format_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
