/* orthant: the command line of the hub. */
#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/admin.h"
#include "cli/commands.h"

static int
with_no_context(const cli_args *args, const cli_context *context)
{
    (void)context;
    return cli_completion_command(args);
}

static int
context_command(const cli_args *args, const cli_context *context)
{
    (void)context;
    return cli_context_command(args);
}

/* Nouns that are no part of the admin table. */
static const struct {
    const char *noun;
    int (*run)(const cli_args *, const cli_context *);
    bool needs_context;
    const char *help;
} commands[] = {
    {"tenant", cli_backup_command, true,
     "tenant backup TENANT [FILE] | restore TENANT FILE [--replace] | clone FROM TO [--replace]"},
    {"collection", cli_collection_command, true,
     "collection list | get NAME | create NAME --dim N [--distance D] | count NAME | delete NAME"},
    {"query", cli_query_command, true,
     "query COLLECTION [--vector JSON|@FILE|-] [--id ID] [--text WORDS] [--filter JSON] [--limit "
     "N] "
     "[--exact]"},
    {"import", cli_import_command, true,
     "import COLLECTION FILE (.jsonl .fvecs .bvecs .npy, also .zst) [--create] [--parallel N]"},
    {"export", cli_export_command, true, "export COLLECTION [FILE] [--filter JSON]"},
    {"top", cli_top_command, true, "top [--interval S] [--rounds N]: nodes and tenants, live"},
    {"doctor", cli_doctor_command, true,
     "doctor: checks what stands between you and a working hub"},
    {"context", context_command, false,
     "context list | show NAME | set NAME --admin-url U --admin-token T ... | use NAME | delete "
     "NAME"},
    {"completion", with_no_context, false, "completion bash: source <(orthant completion bash)"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void
print_flags(const char *title, const cli_flag *flags)
{
    printf("\n%s\n", title);
    for (; flags->name != NULL; flags++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", flags->name, flags->value != NULL ? flags->value : "");
        printf("  %-36s %s\n", left, flags->help);
    }
}

static int
help(const char *noun)
{
    bool found = noun == NULL;
    if (noun == NULL) {
        puts("orthant: the command line of an Orthant hub\n\n"
             "usage: orthant NOUN VERB [WORDS] [FLAGS]\n\n"
             "A first day, with the environment that the quickstart writes:\n"
             "  . run/quickstart.env\n"
             "  orthant doctor\n"
             "  orthant tenant list\n"
             "  orthant key create acme --name app --scope data:read\n"
             "  orthant import docs points.jsonl --create --dim 768\n"
             "  orthant query docs --id 1 --limit 3\n");
    }
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (noun == NULL || strcmp(noun, v->noun) == 0) {
            char left[96];
            snprintf(left, sizeof left, "%s %s %s", v->noun, v->verb, v->words);
            printf("  %-58s %s\n", left, v->help);
            found = true;
        }
    }
    for (int i = 0; i < COMMANDS; i++) {
        if (noun == NULL || strcmp(noun, commands[i].noun) == 0) {
            printf("  %s\n", commands[i].help);
            found = true;
        }
    }
    if (!found) {
        fprintf(stderr, "orthant: there is no %s; orthant help lists what there is\n", noun);
        return CLI_USAGE;
    }
    if (noun == NULL) {
        print_flags("Flags of every command:", cli_flags_global);
        print_flags("Flags of the admin API:", cli_flags_admin);
        print_flags("Flags of the data API:", cli_flags_data);
        puts("\nExit codes: 0 done, 1 failed, 2 wrong command line, 3 denied, 4 not found, 5 "
             "conflict,\n"
             "6 rate limit or quota, 7 no answer, 8 refused as invalid, 130 interrupted.");
    }
    return CLI_OK;
}

static bool
is_admin_noun(const char *noun)
{
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (strcmp(v->noun, noun) == 0) {
            return true;
        }
    }
    return false;
}

static int
run(const cli_args *args)
{
    ort_diag diag = {""};
    cli_context context = {0};
    const char *noun = args->words[0];
    int (*command)(const cli_args *, const cli_context *) = NULL;
    bool needs_context = true;
    if (cli_is_backup_command(args)) {
        command = cli_backup_command;
    } else if (is_admin_noun(noun)) {
        command = cli_admin_command;
    }
    for (int i = 0; i < COMMANDS && command == NULL; i++) {
        if (strcmp(commands[i].noun, noun) == 0) {
            command = commands[i].run;
            needs_context = commands[i].needs_context;
        }
    }
    if (command == NULL) {
        fprintf(stderr, "orthant: there is no %s; orthant help lists what there is\n", noun);
        return CLI_USAGE;
    }
    if (needs_context && cli_context_load(&context, args, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_USAGE;
    }
    const int end = command(args, &context);
    cli_context_fini(&context);
    return end;
}

bool
cli_confirm(const cli_args *args, const char *question)
{
    char answer[16] = "";
    if (cli_args_get(args, "--yes") != NULL) {
        return true;
    }
    if (!isatty(STDIN_FILENO)) {
        fprintf(stderr, "orthant: %s Nobody is here to ask: give --yes.\n", question);
        return false;
    }
    fprintf(stderr, "%s [y/N] ", question);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

int
main(int argc, char **argv)
{
    static const cli_flag *const tables[] = {cli_flags_global, cli_flags_admin, cli_flags_data,
                                             NULL};
    ort_diag diag = {""};
    cli_args args;
    if (cli_args_parse(&args, argc - 1, argv + 1, tables, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s; orthant help lists what there is\n", diag.text);
        return CLI_USAGE;
    }
    if (cli_args_get(&args, "--version") != NULL ||
        (args.word_count > 0 && strcmp(args.words[0], "version") == 0)) {
        puts("orthant " ORT_VERSION);
        return CLI_OK;
    }
    if (args.word_count == 0 || strcmp(args.words[0], "help") == 0 ||
        cli_args_get(&args, "--help") != NULL) {
        const int first = args.word_count > 0 && strcmp(args.words[0], "help") == 0;
        return help(args.word_count > first ? args.words[first] : NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    const int end = run(&args);
    curl_global_cleanup();
    return fflush(stdout) != 0 && end == CLI_OK ? CLI_FAILED : end;
}
