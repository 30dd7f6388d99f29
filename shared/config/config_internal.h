/* shared/config/config_internal.h: what the files of this folder share. */
#ifndef ORT_CONFIG_INTERNAL_H
#define ORT_CONFIG_INTERNAL_H
#include "config/config.h"

#define ORT_CONFIG_FILE_BYTES_MAX (1u << 20)

/* A file's values as text, one entry a key of the schema: exactly one of the two is not NULL where
 * the file gives the key. */
typedef struct {
    char **text;               /* [key_count] */
    ort_config_strings *lists; /* [key_count]; items NULL: not given */
    uint32_t *lines;           /* [key_count]; 1-based, 0: not given */
} ort_config__values;

/* Reads the file (file.c). ORT_EINVAL: unknown key, a map where a value belongs ...; ORT_EFORMAT:
 * not YAML; both with path and line. *out holds nothing after an error. */
ORT_NODISCARD ort_err ort_config__file_read(const ort_config_schema *schema, const char *path,
                                            ort_config__values *out, ort_diag *diag);
void ort_config__values_fini(const ort_config_schema *schema, ort_config__values *values);

/* Writes one value into the program's struct (value.c): parsed, checked against the key's range.
 * Takes nothing, copies. ORT_EINVAL with a diag that names the key, not the source. */
ORT_NODISCARD ort_err ort_config__set(const ort_config_key *key, void *config, const char *text,
                                      ort_diag *diag);
ORT_NODISCARD ort_err ort_config__set_list(const ort_config_key *key, void *config,
                                           char *const *items, uint64_t count, ort_diag *diag);
void ort_config__clear(const ort_config_key *key, void *config);

/* Help and reference (show.c). */
void ort_config__help(const ort_config_schema *schema, FILE *stream);
#endif /* ORT_CONFIG_INTERNAL_H */
