/* data-plane/routing/table_internal.h: what the files of this folder share about tables. */
#ifndef DP_TABLE_INTERNAL_H
#define DP_TABLE_INTERNAL_H
#include "routing/table.h"

/* Decodes and checks entries: the decoded forms are dp_tenant_entry, dp_home, dp_node. */
extern const ort_table_codec dp_table__codec;

/* A snapshot over an ort_table made with dp_table__codec, which it references. */
ORT_NODISCARD ort_err dp_table__new(const dp_table **out, ort_node_id self, ort_table_at at,
                                    int64_t issued_at_ms, const ort_table *content);

const ort_table *dp_table__peek_content(const dp_table *table);
#endif /* DP_TABLE_INTERNAL_H */
