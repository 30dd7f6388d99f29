/* Loading: defaults, then file, then environment, then flags, each over the one before; then the
 * rules that tie keys together. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "config_internal.h"

extern char **environ;

void
ort_config_env_name(const ort_config_key *key, char out[ORT_CONFIG_ENV_BYTES])
{
    size_t n = (size_t)snprintf(out, ORT_CONFIG_ENV_BYTES, "ORTHANT_");

    for (const char *p = key->path; *p != '\0' && n < ORT_CONFIG_ENV_BYTES - 1; p++) {
        out[n++] = *p == '.' ? '_' : (char)toupper((unsigned char)*p);
    }
    out[n] = '\0';
}

static const char *
env_get(const char *const *envp, const char *name)
{
    size_t len = strlen(name);

    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, name, len) == 0 && (*envp)[len] == '=') {
            return *envp + len + 1;
        }
    }
    return NULL;
}

static const ort_config_key *
key_find(const ort_config_schema *schema, const char *path, size_t len)
{
    for (size_t i = 0; i < schema->key_count; i++) {
        if (strlen(schema->keys[i].path) == len && memcmp(schema->keys[i].path, path, len) == 0) {
            return &schema->keys[i];
        }
    }
    return NULL;
}

/* What the flags say, one entry a key; texts are argv's. */
typedef struct {
    const char **values; /* [key_count] */
    const char *file;
    bool help;
    bool version;
} flags;

static ort_err
flags_read(const ort_config_schema *schema, int argc, const char *const *argv, flags *out,
           ort_diag *diag)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            out->help = true;
            continue;
        }
        if (strcmp(arg, "--version") == 0) {
            out->version = true;
            continue;
        }
        if (strncmp(arg, "--", 2) != 0) {
            return ort_fail(diag, ORT_EINVAL, "\"%.64s\" is no flag; see --help", arg);
        }
        const char *name = arg + 2;
        size_t len = strcspn(name, "=");
        const char *value = name[len] == '=' ? name + len + 1 : NULL;
        if (len == 6 && memcmp(name, "config", 6) == 0) {
            if (value == NULL && i + 1 < argc) {
                value = argv[++i];
            }
            if (value == NULL || value[0] == '\0') {
                return ort_fail(diag, ORT_EINVAL, "--config needs a file: --config=PATH");
            }
            out->file = value;
            continue;
        }
        const ort_config_key *key = key_find(schema, name, len);
        if (key == NULL) {
            return ort_fail(diag, ORT_EINVAL, "unknown flag --%.*s; see --help", (int)len, name);
        }
        if (value == NULL && key->type == ORT_CONFIG_BOOL) {
            value = "true";
        }
        if (value == NULL) {
            return ort_fail(diag, ORT_EINVAL, "--%s needs a value: --%s=...", key->path, key->path);
        }
        out->values[key - schema->keys] = value;
    }
    return ORT_OK;
}

/* One key from the strongest source that has it. */
static ort_err
key_load(const ort_config_schema *schema, size_t i, const char *const *envp, const flags *f,
         const char *file, const ort_config__values *values, void *out, ort_diag *diag)
{
    const ort_config_key *key = &schema->keys[i];
    char env[ORT_CONFIG_ENV_BYTES];
    ort_err err;

    ort_config_env_name(key, env);
    const char *from_env = env_get(envp, env);
    if (f->values[i] != NULL) {
        err = ort_config__set(key, out, f->values[i], diag);
        if (err != ORT_OK) {
            ort_diag_prefix(diag, "--%s", key->path);
        }
        return err;
    }
    if (from_env != NULL) {
        err = ort_config__set(key, out, from_env, diag);
        if (err != ORT_OK) {
            ort_diag_prefix(diag, "%s", env);
        }
        return err;
    }
    if (values->text != NULL && (values->text[i] != NULL || values->lists[i].items != NULL)) {
        err = values->text[i] != NULL ? ort_config__set(key, out, values->text[i], diag)
                                      : ort_config__set_list(key, out, values->lists[i].items,
                                                             values->lists[i].count, diag);
        if (err != ORT_OK) {
            ort_diag_prefix(diag, "%s:%u", file, values->lines[i]);
        }
        return err;
    }
    if (key->otherwise == NULL) {
        return ort_fail(diag, ORT_EINVAL,
                        "%s must be given: in the file, as %s or as --%s=", key->path, env,
                        key->path);
    }
    return ort_config__set(key, out, key->otherwise, diag);
}

ort_err
ort_config_load(const ort_config_schema *schema, int argc, const char *const *argv,
                const char *const *envp, void *out, ort_config_outcome *outcome, FILE *out_stream,
                ort_diag *diag)
{
    flags f = {0};
    ort_config__values values = {0};
    const char *file;
    ort_err err;

    memset(out, 0, schema->struct_bytes);
    *outcome = ORT_CONFIG_RUN;
    if (envp == NULL) {
        envp = (const char *const *)environ;
    }
    f.values = calloc(schema->key_count, sizeof *f.values);
    if (f.values == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "configuration");
    }
    err = flags_read(schema, argc, argv, &f, diag);
    if (err == ORT_OK && (f.help || f.version)) {
        if (f.help) {
            ort_config__help(schema, out_stream);
        } else {
            (void)fprintf(out_stream, "%s %s\n", schema->program, ORT_VERSION);
        }
        *outcome = ORT_CONFIG_SHOWN;
        free(f.values);
        return ORT_OK;
    }
    file = f.file != NULL ? f.file : env_get(envp, "ORTHANT_CONFIG");
    if (err == ORT_OK && file != NULL && file[0] != '\0') {
        err = ort_config__file_read(schema, file, &values, diag);
    }
    for (size_t i = 0; err == ORT_OK && i < schema->key_count; i++) {
        err = key_load(schema, i, envp, &f, file, &values, out, diag);
    }
    if (err == ORT_OK && schema->check != NULL) {
        err = schema->check(out, diag);
    }
    ort_config__values_fini(schema, &values);
    free(f.values);
    return err;
}

void
ort_config_fini(const ort_config_schema *schema, void *config)
{
    for (size_t i = 0; i < schema->key_count; i++) {
        ort_config__clear(&schema->keys[i], config);
    }
}
