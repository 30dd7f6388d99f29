/* control-plane/cli/options.h: the words of a command line, read by tables. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H
#include <stdint.h>

#include "base/err.h"

/* One flag: "--name VALUE" or "--name=VALUE", or "--name" alone when `value` is NULL. */
typedef struct {
    const char *name;
    const char *value; /* what the value is called in the help, NULL: a switch */
    const char *help;
} cli_flag;

#define CLI_FLAGS_MAX 48
#define CLI_WORDS_MAX 32

/* What stands on the command line, sorted out. Texts are borrowed from argv. */
typedef struct {
    const char *words[CLI_WORDS_MAX]; /* neither flags nor their values */
    int word_count;
    struct {
        const char *name, *value; /* value "" for a switch */
    } set[CLI_FLAGS_MAX];
    int set_count;
} cli_args;

/* Sorts argv (without the program's name) by the flags of `tables` (NULL-ended arrays of arrays
 * that end with name NULL). "--" ends flags. ORT_EINVAL: an unknown flag, a value missing or too
 * many words; diag says which. */
ORT_NODISCARD ort_err cli_args_parse(cli_args *args, int argc, char **argv,
                                     const cli_flag *const tables[], ort_diag *diag);

/* The value of a flag, or NULL when it was not given. The last one wins. */
const char *cli_args_get(const cli_args *args, const char *name);

/* All values of a flag that may be given several times: the i-th, or NULL. */
const char *cli_args_get_nth(const cli_args *args, const char *name, int i);

/* A whole number from min to max, or `otherwise` when the flag was not given. Numbers may end in k,
 * m, g, t (powers of 1,000) or ki, mi, gi, ti. */
ORT_NODISCARD ort_err cli_args_u64(const cli_args *args, const char *name, uint64_t min,
                                   uint64_t max, uint64_t otherwise, uint64_t *out, ort_diag *diag);
#endif /* CLI_OPTIONS_H */
