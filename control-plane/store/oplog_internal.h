/* control-plane/store/oplog_internal.h: a record from a row of op_log. */
#ifndef CP_OPLOG_INTERNAL_H
#define CP_OPLOG_INTERNAL_H
#include "store/oplog.h"
#include "store/store_internal.h"

#define CP__OPLOG_COLUMNS \
    "version, prev_hash, hash, at_ms, actor, op, tenant, denial, before, after, request_id"

/* Texts are borrowed until the query steps on. */
void cp__oplog_read(cp__query *q, cp_oplog_record *out);
#endif /* CP_OPLOG_INTERNAL_H */
