/* The op log as evidence. */
#include "tenancy/audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/hub.h"
#include "tenancy/tenancy_internal.h"

/* An exported head is one line of text:
 *   orthant-head-1 <hub id> <generation> <version> <hash> <signature, 128 hex digits> */
#define HEAD_WORD "orthant-head-1"

/* What is signed: "<hub id> <generation> <version> <hash>". */
static void
head_message(const cp_hub *hub, char *out, size_t cap)
{
    char id[ORT_ID_TEXT_BYTES], hash[ORT_HASH_TEXT_BYTES];
    ort_id_format(hub->hub_id, id);
    ort_hash_format(&hub->head, hash);
    snprintf(out, cap, "%s %llu %llu %s", id, (unsigned long long)hub->generation,
             (unsigned long long)hub->version, hash);
}

ort_err
cp_audit_head(cp_tenancy *tenancy, char out[CP_AUDIT_HEAD_BYTES], ort_diag *diag)
{
    cp_tx *tx;
    cp_hub hub;
    char message[256], hex[2 * ORT_SIGN_BYTES + 1];
    ort_signature signature;
    ort_err err = cp_store_begin_read(tenancy->o.store, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_hub_get(tx, &hub, diag);
    cp_tx_end(tx);
    if (err == ORT_OK) {
        head_message(&hub, message, sizeof message);
        ort_sign(&tenancy->o.secrets->signing, ORT_SIGN_AUDIT, message, strlen(message),
                 &signature);
        ort_hex_format(signature.b, sizeof signature.b, hex);
        snprintf(out, CP_AUDIT_HEAD_BYTES, HEAD_WORD " %s %s", message, hex);
    }
    return err;
}

/* Reads and checks an exported head of this hub. */
static ort_err
read_head(cp_tenancy *tenancy, const cp_hub *hub, const char *text, uint64_t *version,
          ort_hash *hash, ort_diag *diag)
{
    char id[17], hash_text[65], hex[129], own[ORT_ID_TEXT_BYTES], message[256];
    unsigned long long generation, at;
    ort_signature signature;
    if (strlen(text) >= CP_AUDIT_HEAD_BYTES ||
        sscanf(text, HEAD_WORD " %16s %llu %llu %64s %128s", id, &generation, &at, hash_text,
               hex) != 5 ||
        ort_hash_parse(hash_text, strlen(hash_text), hash) != ORT_OK ||
        ort_hex_parse(hex, strlen(hex), signature.b, sizeof signature.b) != ORT_OK) {
        return ort_fail(diag, ORT_EFORMAT, "this is no exported audit head");
    }
    ort_id_format(hub->hub_id, own);
    snprintf(message, sizeof message, "%s %llu %llu %s", id, generation, at, hash_text);
    if (strcmp(id, own) != 0 ||
        !ort_sign_verify(&tenancy->o.secrets->signing.public, ORT_SIGN_AUDIT, message,
                         strlen(message), &signature)) {
        return ort_fail(diag, ORT_EAUTH, "this head was not exported by this hub");
    }
    *version = at;
    return ORT_OK;
}

ort_err
cp_audit_verify(cp_tenancy *tenancy, const char *head, cp_oplog_verdict *out, ort_diag *diag)
{
    cp_tx *tx;
    cp_hub hub;
    uint64_t version = 0;
    ort_hash hash = {{0}};
    ort_err err = cp_store_begin_read(tenancy->o.store, &tx, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_hub_get(tx, &hub, diag);
    if (err == ORT_OK && head != NULL) {
        err = read_head(tenancy, &hub, head, &version, &hash, diag);
    }
    if (err == ORT_OK) {
        err = cp_oplog_verify(tx, version, head != NULL ? &hash : NULL, out, diag);
    }
    cp_tx_end(tx);
    return err;
}

ort_err
cp_audit_verify_file(const char *path, cp_oplog_verdict *out, ort_diag *diag)
{
    cp_store *store;
    cp_tx *tx;
    const cp_store_options options = {
        .path = path, .readers = 1, .wait_ms = 1000, .read_only = true};
    ort_err err = cp_store_open(&store, &options, diag);
    if (err != ORT_OK) {
        return err;
    }
    err = cp_store_begin_read(store, &tx, diag);
    if (err == ORT_OK) {
        err = cp_oplog_verify(tx, 0, NULL, out, diag);
        cp_tx_end(tx);
    }
    cp_store_close(store);
    return err;
}
