/* Rules that both programs' tables share. */
#include <string.h>

#include "rules.h"

const char *const ort_config__log_levels[] = {"debug", "info", "warn", "error", NULL};

ort_err
ort_config__tls_pair(const char *group, const char *cert, const char *key, ort_diag *diag)
{
    if ((cert[0] != '\0') != (key[0] != '\0')) {
        return ort_fail(diag, ORT_EINVAL, "%s.tls_cert and %s.tls_key: one of them is missing",
                        group, group);
    }
    return ORT_OK;
}

ort_err
ort_config__name(const char *path, const char *text, ort_diag *diag)
{
    size_t len = strlen(text);

    if (len < 1 || len > 63 || strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != len) {
        return ort_fail(diag, ORT_EINVAL,
                        "%s: \"%.64s\" is not a name of 1 .. 63 of a-z, 0-9 and -", path, text);
    }
    return ORT_OK;
}

ort_err
ort_config__nng_url(const char *path, const char *text, ort_diag *diag)
{
    static const char *const schemes[] = {"tls+tcp://", "tcp://", "ipc://", "inproc://"};

    if (text[0] == '\0') {
        return ORT_OK;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i]);
        if (strncmp(text, schemes[i], n) == 0 && text[n] != '\0') {
            return ORT_OK;
        }
    }
    return ort_fail(diag, ORT_EINVAL,
                    "%s: \"%.128s\" is not a URL of tls+tcp://, tcp://, ipc:// or inproc://", path,
                    text);
}
