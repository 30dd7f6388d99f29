/* shared/config/config.h: one YAML file, ORTHANT_* environment and --key=value flags become one
 * typed, checked struct.
 *
 * A program describes its keys in one table; file, environment, flags, --help and the reference
 * page all follow from it. Flags win over the environment, that over the file, that over the
 * defaults. The programs' own tables: control_config.h, node_config.h. */
#ifndef ORT_CONFIG_H
#define ORT_CONFIG_H
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

typedef enum {
    ORT_CONFIG_STRING,  /* char * in the struct, never NULL */
    ORT_CONFIG_STRINGS, /* ort_config_strings */
    ORT_CONFIG_U32,     /* uint32_t */
    ORT_CONFIG_U64,     /* uint64_t */
    ORT_CONFIG_BOOL,    /* bool: true, false (yes, no, on, off) */
    ORT_CONFIG_CHOICE,  /* uint32_t: index into `choices` */
} ort_config_type;

/* A list; in the environment and in flags its items are separated by commas. */
typedef struct {
    char **items;
    uint64_t count;
} ort_config_strings;

typedef struct {
    const char *path; /* "http.threads": in the file `http:` with `threads:` below it; in the
                         environment ORTHANT_HTTP_THREADS; as a flag --http.threads= */
    ort_config_type type;
    size_t offset;         /* in the program's struct */
    const char *otherwise; /* the default, as a flag would write it; NULL: it must be given */
    uint64_t min, max;     /* numbers: their range; strings: their length in bytes; lists: items */
    const char *unit;      /* "ms", "bytes", "threads"; "" where there is none */
    const char *const *choices; /* CHOICE: its words, NULL-ended */
    const char *help;           /* one sentence */
} ort_config_key;

typedef struct {
    const char *program; /* "orthant-node" */
    const char *about;   /* one sentence for --help */
    const ort_config_key *keys;
    size_t key_count;
    size_t struct_bytes;
    /* Rules that tie keys together; after each key has been checked alone. May be NULL. */
    ort_err (*check)(const void *config, ort_diag *diag);
} ort_config_schema;

typedef enum {
    ORT_CONFIG_RUN,   /* go on with *out */
    ORT_CONFIG_SHOWN, /* --help or --version was asked for and printed to out_stream: exit 0 */
} ort_config_outcome;

/* Loads the configuration of argv. The file is --config=PATH, else ORTHANT_CONFIG, else none.
 *
 * out      the program's struct, schema->struct_bytes of it, overwritten; ort_config_fini() frees
 *          what it points to, also after an error
 * envp     NULL = the process's environment
 *
 * ORT_EINVAL    an unknown key or flag, a wrong type, a value out of range, a key that must be
 *               given and is not; diag names the source: "node.yaml:12: http.threads: 0 is outside
 *               1 .. 16384", "ORTHANT_HTTP_THREADS: ..."
 * ORT_EFORMAT   not YAML; ORT_ENOTFOUND, ORT_EIO: the file */
ORT_NODISCARD ort_err ort_config_load(const ort_config_schema *schema, int argc,
                                      const char *const *argv, const char *const *envp, void *out,
                                      ort_config_outcome *outcome, FILE *out_stream,
                                      ort_diag *diag);
void ort_config_fini(const ort_config_schema *schema, void *config);

/* Writes the effective values as YAML, for logs and support; file paths yes, secrets never (they
 * live in files that keys point to). */
void ort_config_dump(const ort_config_schema *schema, const void *config, FILE *stream);

/* Writes the table of keys as Markdown: what docs/reference/config.md holds, word for word. */
void ort_config_reference(const ort_config_schema *schema, FILE *stream);

/* "ORTHANT_HTTP_THREADS" of a key. */
#define ORT_CONFIG_ENV_BYTES 96
void ort_config_env_name(const ort_config_key *key, char out[ORT_CONFIG_ENV_BYTES]);
#endif /* ORT_CONFIG_H */
