/* `orthant completion bash`: the words that bash offers, from the same tables as the parser. */
#include <stdio.h>
#include <string.h>

#include "cli/admin.h"
#include "cli/commands.h"

static const char *const plain_nouns[] = {"collection", "query",     "import",  "export",
                                          "top",        "doctor",    "context", "help",
                                          "version",    "completion"};

static void
print_flags(const cli_flag *flags)
{
    for (; flags->name != NULL; flags++) {
        printf(" %s", flags->name);
    }
}

/* The verbs of a noun, and whether this line of the table is the first of its noun. */
static bool
first_of_noun(const cli_verb *verb)
{
    return verb == cli_verbs || strcmp(verb[-1].noun, verb->noun) != 0;
}

int
cli_completion_command(const cli_args *args)
{
    if (args->word_count < 2 || strcmp(args->words[1], "bash") != 0) {
        fputs("usage: orthant completion bash    (source <(orthant completion bash))\n", stderr);
        return CLI_USAGE;
    }
    fputs("_orthant() {\n"
          "    local word=${COMP_WORDS[COMP_CWORD]} noun=${COMP_WORDS[1]} words\n"
          "    if [[ $word == -* ]]; then\n        words=\"",
          stdout);
    print_flags(cli_flags_global);
    print_flags(cli_flags_admin);
    print_flags(cli_flags_data);
    fputs("\"\n    elif [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"", stdout);
    for (size_t i = 0; i < sizeof plain_nouns / sizeof plain_nouns[0]; i++) {
        printf(" %s", plain_nouns[i]);
    }
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (first_of_noun(v)) {
            printf(" %s", v->noun);
        }
    }
    fputs("\"\n    elif [ \"$COMP_CWORD\" -eq 2 ]; then\n        case $noun in\n", stdout);
    for (const cli_verb *v = cli_verbs; v->noun != NULL; v++) {
        if (first_of_noun(v)) {
            printf("%s        %s) words=\"", v == cli_verbs ? "" : "\" ;;\n", v->noun);
        }
        printf(" %s", v->verb);
    }
    fputs("\" ;;\n"
          "        collection) words=\"list get create count delete\" ;;\n"
          "        context) words=\"list show set use delete\" ;;\n"
          "        completion) words=\"bash\" ;;\n"
          "        esac\n"
          "    else\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
          "        return\n"
          "    fi\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
          "}\n"
          "complete -F _orthant orthant\n",
          stdout);
    return CLI_OK;
}
