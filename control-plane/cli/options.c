/* Command lines. */
#include "cli/options.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The flag called text[0..len) (with its dashes), in any of the tables. */
static const cli_flag *
find(const cli_flag *const tables[], const char *text, size_t len)
{
    for (; *tables != NULL; tables++) {
        for (const cli_flag *f = *tables; f->name != NULL; f++) {
            if (strlen(f->name) == len && memcmp(f->name, text, len) == 0) {
                return f;
            }
        }
    }
    return NULL;
}

ort_err
cli_args_parse(cli_args *args, int argc, char **argv, const cli_flag *const tables[],
               ort_diag *diag)
{
    bool flags_end = false;
    *args = (cli_args){0};
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!flags_end && strcmp(word, "--") == 0) {
            flags_end = true;
            continue;
        }
        if (flags_end || word[0] != '-' || word[1] == '\0') {
            if (args->word_count == CLI_WORDS_MAX) {
                return ort_fail(diag, ORT_EINVAL, "more than %d words", CLI_WORDS_MAX);
            }
            args->words[args->word_count++] = word;
            continue;
        }
        const char *equals = strchr(word, '=');
        const size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
        const cli_flag *flag = find(tables, word, len);
        if (flag == NULL) {
            return ort_fail(diag, ORT_EINVAL, "unknown flag %.*s", (int)len, word);
        }
        const char *value = equals != NULL ? equals + 1 : "";
        if (flag->value != NULL && equals == NULL) {
            if (i + 1 >= argc) {
                return ort_fail(diag, ORT_EINVAL, "%s wants %s", flag->name, flag->value);
            }
            value = argv[++i];
        } else if (flag->value == NULL && equals != NULL) {
            return ort_fail(diag, ORT_EINVAL, "%s takes no value", flag->name);
        }
        if (args->set_count == CLI_FLAGS_MAX) {
            return ort_fail(diag, ORT_EINVAL, "more than %d flags", CLI_FLAGS_MAX);
        }
        args->set[args->set_count].name = flag->name;
        args->set[args->set_count].value = value;
        args->set_count++;
    }
    return ORT_OK;
}

const char *
cli_args_get(const cli_args *args, const char *name)
{
    for (int i = args->set_count - 1; i >= 0; i--) {
        if (strcmp(args->set[i].name, name) == 0) {
            return args->set[i].value;
        }
    }
    return NULL;
}

const char *
cli_args_get_nth(const cli_args *args, const char *name, int i)
{
    for (int at = 0; at < args->set_count; at++) {
        if (strcmp(args->set[at].name, name) == 0 && i-- == 0) {
            return args->set[at].value;
        }
    }
    return NULL;
}

/* The factor of a suffix, or 0 for one that is none. */
static uint64_t
factor(const char *suffix)
{
    static const char letters[] = "kmgt";
    const char *found = *suffix != '\0' ? strchr(letters, tolower((unsigned char)*suffix)) : NULL;
    uint64_t f = 1, step = 1000;
    if (*suffix == '\0') {
        return 1;
    }
    if (found == NULL) {
        return 0;
    }
    if (tolower((unsigned char)suffix[1]) == 'i') {
        step = 1024;
        suffix++;
    }
    for (const char *p = letters; p <= found; p++) {
        f *= step;
    }
    return suffix[1] == '\0' || strcmp(suffix + 1, "B") == 0 ? f : 0;
}

ort_err
cli_args_u64(const cli_args *args, const char *name, uint64_t min, uint64_t max, uint64_t otherwise,
             uint64_t *out, ort_diag *diag)
{
    const char *text = cli_args_get(args, name);
    if (text == NULL) {
        *out = otherwise;
        return ORT_OK;
    }
    uint64_t v = 0;
    const char *p = text;
    bool fits = isdigit((unsigned char)*p) != 0;
    for (; fits && isdigit((unsigned char)*p); p++) {
        fits = !__builtin_mul_overflow(v, 10u, &v) &&
               !__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    }
    const uint64_t f = fits ? factor(p) : 0;
    if (f == 0 || __builtin_mul_overflow(v, f, &v) || v < min || v > max) {
        return ort_fail(diag, ORT_EINVAL, "%s wants a whole number from %llu to %llu, not %s", name,
                        (unsigned long long)min, (unsigned long long)max, text);
    }
    *out = v;
    return ORT_OK;
}
