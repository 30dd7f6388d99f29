/* The files of secrets/. */
#include "tenancy/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "crypto/x509.h"

#define FOLDER "secrets"

/* A file of 64 hex digits; made when it is missing and may be. */
static ort_err
open_hex(int dir, const char *name, bool may_create, unsigned char out[32], ort_diag *diag)
{
    char text[66];
    ort_buf buf = {0};
    ort_err err = ort_secret_file_read(dir, name, 128, &buf, diag);
    if (err == ORT_OK) {
        const size_t len = buf.len > 0 && buf.data[buf.len - 1] == '\n' ? buf.len - 1 : buf.len;
        if (ort_hex_parse(buf.data, len, out, 32) != ORT_OK) {
            err = ort_fail(diag, ORT_ECORRUPT, FOLDER "/%s is not 64 hex digits", name);
        }
    } else if (err == ORT_ENOTFOUND && may_create) {
        ort_secret_random(out, 32);
        ort_hex_format(out, 32, text);
        text[64] = '\n';
        err = ort_secret_file_write(dir, name, text, 65, diag);
        ort_secret_wipe(text, sizeof text);
    }
    ort_secret_wipe_buf(&buf);
    return err;
}

static ort_err
open_signing(int dir, bool may_create, ort_sign_key *out, ort_diag *diag)
{
    const ort_err err = ort_sign_key_load(out, dir, "signing", diag);
    if (err != ORT_ENOTFOUND || !may_create) {
        return err;
    }
    ort_sign_key_new(out);
    return ort_sign_key_save(out, dir, "signing", diag);
}

/* Reads a PEM file into a heap string. */
static ort_err
read_pem(int dir, const char *name, char **out, ort_diag *diag)
{
    ort_buf buf = {0};
    ort_err err = ort_secret_file_read(dir, name, ORT_PEM_BYTES_MAX, &buf, diag);
    if (err == ORT_OK) {
        *out = strndup(buf.data, buf.len);
        err = *out != NULL ? ORT_OK : ORT_ENOMEM;
    }
    ort_secret_wipe_buf(&buf);
    return err;
}

/* The key is written first: a certificate on disk always has its key beside it. */
static ort_err
open_ca(int dir, bool may_create, const char *hub_name, cp_secrets *out, ort_diag *diag)
{
    ort_err err = read_pem(dir, "ca.pem", &out->ca_pem, diag);
    if (err == ORT_OK) {
        err = read_pem(dir, "ca.key", &out->ca_key_pem, diag);
    } else if (err == ORT_ENOTFOUND && may_create) {
        err = ort_x509_ca_new(hub_name, CP_CA_DAYS, &out->ca_pem, &out->ca_key_pem, diag);
        if (err == ORT_OK) {
            err = ort_secret_file_write(dir, "ca.key", out->ca_key_pem, strlen(out->ca_key_pem),
                                        diag);
        }
        if (err == ORT_OK) {
            err = ort_secret_file_write(dir, "ca.pem", out->ca_pem, strlen(out->ca_pem), diag);
        }
    }
    if (err == ORT_OK) {
        err = ort_x509_fingerprint(out->ca_pem, out->ca_print, diag);
        err = err == ORT_EFORMAT ? ORT_ECORRUPT : err;
    }
    return err;
}

ort_err
cp_secrets_open(cp_secrets *out, int data_fd, bool may_create, const char *hub_name, ort_diag *diag)
{
    ort_err err = may_create ? ort_dir_make(data_fd, FOLDER, diag) : ORT_OK;
    *out = (cp_secrets){0};
    if (err != ORT_OK) {
        return err;
    }
    const int dir = ort_open_beneath(data_fd, FOLDER, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return ort_fail_errno(diag, errno == ENOENT ? ORT_ENOTFOUND : ORT_EIO, "open " FOLDER "/");
    }
    err = open_hex(dir, "pepper", may_create, out->pepper, diag);
    if (err == ORT_OK) {
        err = open_hex(dir, "seal", may_create, out->seal, diag);
    }
    if (err == ORT_OK) {
        err = open_signing(dir, may_create, &out->signing, diag);
    }
    if (err == ORT_OK) {
        err = open_ca(dir, may_create, hub_name, out, diag);
    }
    ort_fd_close(dir);
    if (err != ORT_OK) {
        cp_secrets_fini(out);
    }
    return err;
}

void
cp_secrets_fini(cp_secrets *secrets)
{
    ort_pem_free(secrets->ca_pem);
    ort_pem_free(secrets->ca_key_pem);
    ort_secret_wipe(secrets, sizeof *secrets);
}
