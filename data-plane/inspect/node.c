/* The node's own files: who it is, and the table that it serves by. They are few and small, and a
 * node that runs writes them in place: then they are not looked at. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/file.h"
#include "crypto/secret.h"
#include "crypto/x509.h"
#include "inspect/inspect_internal.h"
#include "routing/credential.h"
#include "routing/keep.h"

#define FOLDER "node"
#define TLS_KEY_FILE "tls.key"
#define INCARNATION_FILE "incarnation"
#define SCRUB_FILE "scrub"

static const char *const names[] = {DP_NODE_KEY_FILE, TLS_KEY_FILE, DP_CREDENTIAL_FILE,
                                    INCARNATION_FILE, "table",      "table.log",
                                    "watermark",      NULL};

bool
dp_inspect__node_runs(int root)
{
    const int fd = ort_open_beneath(root, "lock", O_RDONLY, 0);
    const bool runs = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ort_fd_close(fd);
    return runs;
}

/* Says what is wrong with a file. What only its owner may read is no damage. */
static void
say(dp_inspect *i, const char *name, ort_err err, const char *why)
{
    const size_t before = dp_inspect__enter(i, name);
    const bool damage = err != ORT_EDENIED;
    i->report->damaged += damage;
    i->report->notes += !damage;
    dp_inspect__say(i, damage ? "damaged" : "note", "%s", why);
    dp_inspect__leave(i, before);
}

/* The key, or zeroes. */
static ort_err
check_node_key(dp_inspect *i, int dir, ort_sign_public *out, bool *known)
{
    ort_sign_key key;
    ort_diag why = {""};
    const ort_err err = ort_sign_key_load(&key, dir, DP_NODE_KEY_FILE, &why);
    *known = err == ORT_OK;
    *out = key.public;
    ort_sign_key_wipe(&key);
    if (err == ORT_ENOTFOUND || err == ORT_ENOMEM) {
        return err == ORT_ENOMEM ? err : ORT_OK; /* never started */
    }
    dp_inspect__count(i, dir, DP_NODE_KEY_FILE);
    if (err != ORT_OK) {
        say(i, DP_NODE_KEY_FILE, err, why.text);
    }
    return ORT_OK;
}

/* hello: NULL where the node never joined. */
static ort_err
check_tls_key(dp_inspect *i, int dir, const ort_hello_reply *hello)
{
    ort_buf pem = {0};
    ort_diag why = {""};
    char *csr = NULL, name[ORT_X509_NAME_BYTES];
    ort_err err = ort_secret_file_read(dir, TLS_KEY_FILE, ORT_PEM_BYTES_MAX, &pem, &why);
    const char *text = err == ORT_OK ? ort_buf_peek_cstr(&pem) : NULL;
    if (err == ORT_OK) {
        err = text != NULL ? ort_x509_csr_new(text, &csr, &why) : ORT_ENOMEM;
    }
    if (err == ORT_OK && hello != NULL && hello->ca_pem != NULL && hello->cert_pem != NULL) {
        ort_x509_node_name(hello->node, name);
        if (ort_x509_check(hello->ca_pem, hello->cert_pem, text, name, NULL, &why) == ORT_EAUTH) {
            err =
                ort_fail(NULL, ORT_EDENIED, "certificate"); /* a note: the node asks for another */
        }
    }
    ort_pem_free(csr);
    ort_secret_wipe_buf(&pem);
    if (err == ORT_ENOTFOUND || err == ORT_ENOMEM) {
        return err == ORT_ENOMEM ? err : ORT_OK;
    }
    dp_inspect__count(i, dir, TLS_KEY_FILE);
    if (err != ORT_OK) {
        say(i, TLS_KEY_FILE, err, why.text);
    }
    return ORT_OK;
}

/* The table, its log, the watermark. */
static ort_err
check_table(dp_inspect *i, int dir, const ort_hello_reply *hello, ort_diag *diag)
{
    dp_keep_report seen;
    dp_keep_owner owner = {0};
    ort_diag why = {""};
    if (hello != NULL) {
        owner = (dp_keep_owner){hello->hub_id, hello->node, hello->control_key};
    }
    ort_err err = dp_keep_verify(dir, hello != NULL ? &owner : NULL, &seen, &why);
    i->report->files += seen.files;
    i->report->bytes += seen.bytes;
    if (err == ORT_ENOMEM || err == ORT_EBUSY) {
        return ort_fail(diag, err, "%s", why.text);
    }
    if (err != ORT_OK) {
        say(i, "table", err, why.text);
        if (i->repair && err != ORT_EVERSION && err != ORT_EIO && err != ORT_EDENIED) {
            err = dp_keep_remove(dir, false, diag);
            if (err != ORT_OK) {
                return err;
            }
            i->report->damaged--;
            i->report->repaired++;
            dp_inspect__say(i, "repaired", "table and table.log removed: the node fetches them");
        }
    }
    if (err == ORT_OK && hello != NULL && seen.table.version == 0 && seen.mark.version != 0) {
        const size_t before = dp_inspect__enter(i, "table");
        i->report->notes++;
        dp_inspect__say(i, "note", "it is missing: the node fetches it");
        dp_inspect__leave(i, before);
    }
    if (!seen.mark_damaged) {
        return ORT_OK;
    }
    say(i, "watermark", ORT_ECORRUPT, "neither of its slots is whole");
    if (i->repair) {
        err = dp_keep_remove(dir, true, diag);
        if (err != ORT_OK) {
            return err;
        }
        i->report->damaged--;
        i->report->repaired++;
        dp_inspect__say(i, "repaired", "watermark removed: the node goes by its table's position");
    }
    return ORT_OK;
}

/* A few words of text; a node that finds something else begins anew. */
static void
check_text(dp_inspect *i, int dir, const char *name, const char *allowed)
{
    ort_buf text = {0};
    const ort_err err = ort_file_read(dir, name, 256, &text, NULL);
    const char *line = err == ORT_OK ? ort_buf_peek_cstr(&text) : NULL;
    if (err != ORT_ENOTFOUND) {
        dp_inspect__count(i, dir, name);
    }
    if (err == ORT_OK && line != NULL && (text.len == 0 || line[strspn(line, allowed)] != '\0')) {
        const size_t before = dp_inspect__enter(i, name);
        i->report->notes++;
        dp_inspect__say(i, "note", "it is not as it is written: the node begins it anew");
        dp_inspect__leave(i, before);
    }
    ort_buf_fini(&text);
}

static ort_err
check_all(dp_inspect *i, int dir, ort_diag *diag)
{
    ort_hello_reply hello = {0};
    ort_sign_public key;
    ort_diag why = {""};
    bool known = false;
    ort_err err = check_node_key(i, dir, &key, &known);
    if (err != ORT_OK) {
        return ort_fail(diag, err, "out of memory");
    }
    const ort_err joined = dp_credential_load(dir, known ? &key : NULL, &hello, &why);
    if (joined != ORT_ENOTFOUND) {
        dp_inspect__count(i, dir, DP_CREDENTIAL_FILE);
    }
    if (joined != ORT_OK && joined != ORT_ENOTFOUND) {
        say(i, DP_CREDENTIAL_FILE, joined, why.text);
    }
    err = check_tls_key(i, dir, joined == ORT_OK ? &hello : NULL);
    if (err == ORT_OK) {
        err = check_table(i, dir, joined == ORT_OK ? &hello : NULL, diag);
    }
    ort_hello_reply_fini(&hello);
    check_text(i, dir, INCARNATION_FILE, "0123456789\n");
    return err;
}

ort_err
dp_inspect__node(dp_inspect *i, int root, ort_diag *diag)
{
    const int dir = ort_open_beneath(root, FOLDER, O_RDONLY | O_DIRECTORY, 0);
    if (dir < 0) {
        return errno == ENOENT ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "open " FOLDER);
    }
    const size_t before = dp_inspect__enter(i, FOLDER);
    ort_err err = ORT_OK;
    if (i->node_runs) {
        i->report->notes++;
        dp_inspect__say(i, "open", "a node runs on them: its own files are not looked at");
    } else {
        err = check_all(i, dir, diag);
    }
    if (err == ORT_OK) {
        err =
            dp_inspect__strays(i, dir, NULL, dp_inspect__is_listed, (void *)(uintptr_t)names,
                               "no file of this program: what it is, who put it there knows", diag);
    }
    dp_inspect__leave(i, before);
    ort_fd_close(dir);
    if (!i->node_runs) {
        check_text(i, root, SCRUB_FILE, "0123456789abcdef \n");
    }
    return err;
}
