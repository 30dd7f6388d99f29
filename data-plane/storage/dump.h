/* data-plane/storage/dump.h: the files of a shard in words, for people who look for what is wrong.
 */
#ifndef DP_DUMP_H
#define DP_DUMP_H
#include "storage/repair.h"

/* Appends what a record says to out, as members of a JSON object: ',"op":"upsert",..'. */
typedef void (*dp_describe_fn)(ort_buf *out, const dp_log_record *record);

/* Says what stands in one file of a shard, a JSON object a line: of a log each record, of a
 * manifest the segments and chunks, of a segment its sections. What is good in front of the damage
 * is said before the damage is reported. Nothing is changed.
 *
 * name      "manifest", "seg.<id>", "log.<lsn>"
 * describe  may be NULL
 *
 * ORT_EINVAL: no such kind of file. ORT_ENOTFOUND, ORT_ECORRUPT, ORT_EVERSION, ORT_EIO, ORT_ENOMEM
 */
ORT_NODISCARD ort_err dp_storage_dump(int dir_fd, const char *name, dp_describe_fn describe,
                                      dp_say_fn say, void *arg, ort_diag *diag);

/* Whose files these are, as the first file says that has a good head. ORT_ENOTFOUND: none has. */
ORT_NODISCARD ort_err dp_storage_owner(int dir_fd, ort_tenant_id *tenant, ort_collection_id *shard,
                                       ort_diag *diag);
#endif /* DP_DUMP_H */
