/* Secrets: random, wiped, compared in constant time, kept in files that only their owner reads. */
#include "crypto/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "crypto/crypto_internal.h"

static void
init_once(void)
{
    if (sodium_init() < 0) {
        abort();
    }
}

void
ort_crypto__init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
}

void
ort_secret_random(void *out, size_t n)
{
    ort_crypto__init();
    randombytes_buf(out, n);
}

void
ort_secret_wipe(void *bytes, size_t n)
{
    if (bytes != NULL) {
        sodium_memzero(bytes, n);
    }
}

void
ort_secret_wipe_buf(ort_buf *buf)
{
    ort_secret_wipe(buf->data, buf->cap);
    ort_buf_fini(buf);
}

bool
ort_secret_equal(const void *a, const void *b, size_t n)
{
    return sodium_memcmp(a, b, n) == 0;
}

void
ort_hex_format(const void *bytes, size_t n, char *out)
{
    sodium_bin2hex(out, 2 * n + 1, bytes, n);
}

ort_err
ort_hex_parse(const char *text, size_t len, void *out, size_t n)
{
    unsigned char *to = out;
    if (len != 2 * n) {
        return ORT_EFORMAT;
    }
    for (size_t i = 0; i < len; i++) {
        /* sodium_hex2bin() would take upper case too: one value, one text. */
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) {
            return ORT_EFORMAT;
        }
    }
    size_t did = 0;
    if (sodium_hex2bin(to, n, text, len, NULL, &did, NULL) != 0 || did != n) {
        return ORT_EFORMAT;
    }
    return ORT_OK;
}

ort_err
ort_secret_file_write(int dir_fd, const char *name, const void *bytes, size_t n, ort_diag *diag)
{
    return ort_file_replace(dir_fd, name, bytes, n, 0600, diag);
}

ort_err
ort_secret_file_read(int dir_fd, const char *name, size_t max_bytes, ort_buf *out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    struct stat st;
    const int fd = ort_open_beneath(dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "open %s", name);
    }
    if (fstat(fd, &st) != 0) {
        err = ort_fail_errno(diag, ORT_EIO, "stat %s", name);
    } else if (!S_ISREG(st.st_mode)) {
        err = ort_fail(diag, ORT_EIO, "%s is not a regular file", name);
    } else if (st.st_uid != geteuid()) {
        err = ort_fail(diag, ORT_EDENIED, "%s belongs to user %u, this process runs as %u", name,
                       st.st_uid, geteuid());
    } else if ((st.st_mode & 077) != 0) {
        err = ort_fail(diag, ORT_EDENIED,
                       "%s has mode %03o: others could read the secret in it. Replace the secret, "
                       "or if nobody did read it: chmod 600",
                       name, (unsigned)st.st_mode & 0777);
    } else if ((uint64_t)st.st_size > max_bytes) {
        err = ort_fail(diag, ORT_ETOOBIG, "%s has %lld bytes, at most %zu are read", name,
                       (long long)st.st_size, max_bytes);
    } else {
        char *at = ort_buf_reserve(out, (size_t)st.st_size + 1);
        err = at == NULL ? ort_fail(diag, ORT_ENOMEM, "read %s", name)
                         : ort_pread_full(fd, at, (size_t)st.st_size, 0, diag);
        if (err == ORT_OK) {
            ort_buf_commit(out, (size_t)st.st_size);
        }
    }
    ort_fd_close(fd);
    return err;
}
