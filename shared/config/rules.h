/* shared/config/rules.h: words and rules that both programs' tables share. */
#ifndef ORT_CONFIG_RULES_H
#define ORT_CONFIG_RULES_H
#include "config/config.h"

#define ORT_CONFIG_PATH_BYTES_MAX 4096u
#define ORT_CONFIG_URL_BYTES_MAX 512u

extern const char *const ort_config__log_levels[];

/* Certificate and key come together or not at all. */
ORT_NODISCARD ort_err ort_config__tls_pair(const char *group, const char *cert, const char *key,
                                           ort_diag *diag);

/* [a-z0-9-]{1,63}: names of regions, zones, nodes. */
ORT_NODISCARD ort_err ort_config__name(const char *path, const char *text, ort_diag *diag);

/* tcp://, tls+tcp://, ipc:// or inproc://; "" passes. */
ORT_NODISCARD ort_err ort_config__nng_url(const char *path, const char *text, ort_diag *diag);
#endif /* ORT_CONFIG_RULES_H */
