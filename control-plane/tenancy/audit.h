/* control-plane/tenancy/audit.h: the op log as evidence: `orthant audit verify`. */
#ifndef CP_AUDIT_H
#define CP_AUDIT_H
#include "store/oplog.h"
#include "tenancy/tenancy.h"

/* A head of the chain, signed (ORT_SIGN_AUDIT over "<hub id> <generation> <version> <hash>"), to be
 * kept outside the hub: who can write the database can write a whole new chain, but not one that
 * goes through this. */
#define CP_AUDIT_HEAD_BYTES 512
ORT_NODISCARD ort_err cp_audit_head(cp_tenancy *tenancy, char out[CP_AUDIT_HEAD_BYTES],
                                    ort_diag *diag);

/* Walks the chain in a snapshot of its own; head (NULL: none) is one that was exported before.
 * ORT_OK also when the chain is broken: see the verdict. ORT_EFORMAT, ORT_EAUTH: head is no head of
 * this hub. */
ORT_NODISCARD ort_err cp_audit_verify(cp_tenancy *tenancy, const char *head, cp_oplog_verdict *out,
                                      ort_diag *diag);

/* The same on a database file, whether a hub is running on it or not: nothing is written to it. */
ORT_NODISCARD ort_err cp_audit_verify_file(const char *path, cp_oplog_verdict *out, ort_diag *diag);
#endif /* CP_AUDIT_H */
