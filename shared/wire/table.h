/* shared/wire/table.h: routing tables: what they hold, how they change, how they are signed.
 *
 * A table is three sections of entries, id -> JSON text (the text is defined in wire/README.md):
 *     tenants    those homed on the node, in full
 *     directory  every tenant of the hub: its home node and allowed regions
 *     nodes      every node: region and addresses
 *
 * Tables are immutable and counted. A changed table shares all it did not change with the one it
 * came from (1,024 buckets a section, copied on write), so one key among 100,000 tenants costs the
 * control plane and the node one bucket each, and the control plane holds one directory for all
 * nodes. The state hash is the exclusive or over all entries of
 *     BLAKE2b-256(kind byte, 16 hex digits of the id, entry text)
 * so it too follows a change without a walk. */
#ifndef ORT_TABLE_H
#define ORT_TABLE_H
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"
#include "crypto/hash.h"
#include "crypto/sign.h"

typedef enum {
    ORT_TABLE_TENANTS,   /* hashed under 't' */
    ORT_TABLE_DIRECTORY, /* 'd' */
    ORT_TABLE_NODES,     /* 'n' */
    ORT_TABLE_KINDS,
} ort_table_kind;

/* One entry's text: a compact JSON object with sorted keys, as json_dumps(JSON_COMPACT |
 * JSON_SORT_KEYS) writes it. */
#define ORT_TABLE_ENTRY_BYTES_MAX (8u << 20)

/* ---- sections ---- */

/* Immutable, counted, shared between tables and threads. */
typedef struct ort_section ort_section;

/* What the owner wants beside each entry's text: a decoded form, made once when the entry is put
 * and freed with it. Also the place to refuse an entry that means nothing. All NULL: texts alone.
 *
 * decode  ORT_OK: *out, which may stay NULL, belongs to the entry. Else the edit fails with that
 *         error, and with diag. text is not NUL-ended.
 * free    may run on any thread */
typedef struct {
    ort_err (*decode)(ort_table_kind kind, uint64_t id, const char *text, size_t len, void **out,
                      ort_diag *diag);
    void (*free)(ort_table_kind kind, void *decoded);
} ort_table_codec;

typedef struct ort_section_edit ort_section_edit;

/* Begins a change of base (NULL = the empty section), which stays as it is. codec lives as long as
 * the section and all that follow from it (a static const); NULL = none. */
ORT_NODISCARD ort_err ort_section_edit_begin(ort_section_edit **out, ort_table_kind kind,
                                             const ort_section *base, const ort_table_codec *codec);

/* Puts an entry (replacing one that is there), or removes it (also when it is not there).
 * After a failure the edit can only be freed. put: ORT_EVALIDATE on id 0 or a text too long;
 * ORT_ETOOBIG; errors of codec; ORT_ENOMEM. */
ORT_NODISCARD ort_err ort_section_edit_put(ort_section_edit *edit, uint64_t id, const char *text,
                                           size_t len, ort_diag *diag);
ORT_NODISCARD ort_err ort_section_edit_remove(ort_section_edit *edit, uint64_t id);

/* Ends the edit (which is freed) and gives the new section. */
ort_section *ort_section_edit_done(ort_section_edit *edit);
void ort_section_edit_free(ort_section_edit *edit); /* drops it */

ort_section *ort_section_ref(const ort_section *section);
void ort_section_unref(const ort_section *section); /* NULL is fine */
size_t ort_section_count(const ort_section *section);
void ort_section_hash(const ort_section *section, ort_hash *out);

/* Borrowed while the section is held. */
typedef struct {
    uint64_t id;
    const char *text; /* NUL-ended */
    size_t len;
    void *decoded;
} ort_entry;

/* false: no such entry, *out untouched. Lock-free; any number of threads. */
bool ort_section_get(const ort_section *section, uint64_t id, ort_entry *out);
/* Every entry, in an order that depends on the ids alone: start with *at = 0, until false. */
bool ort_section_next(const ort_section *section, uint64_t *at, ort_entry *out);

/* ---- tables ---- */

typedef struct ort_table ort_table;

/* A table of three sections, each referenced (NULL = empty). */
ORT_NODISCARD ort_err ort_table_new(ort_table **out, const ort_section *tenants,
                                    const ort_section *directory, const ort_section *nodes);
ort_table *ort_table_ref(const ort_table *table);
void ort_table_unref(const ort_table *table); /* NULL is fine */

const ort_section *ort_table_peek(const ort_table *table, ort_table_kind kind); /* never NULL */
void ort_table_hash(const ort_table *table, ort_hash *out); /* the state hash; 0s when empty */

/* Appends the body of the whole table, or of the change from one to another (removed entries are
 * null members), to out: {"tenants":{..},"directory":{..},"nodes":{..}}, empty sections left out.
 */
ORT_NODISCARD ort_err ort_table_write(const ort_table *table, ort_buf *out);
ORT_NODISCARD ort_err ort_table_diff(const ort_table *from, const ort_table *to, ort_buf *out);

/* The table that follows from base (NULL = empty) when body is applied. Bytes are outside bytes.
 *
 * ORT_OK         *out is a new table
 * ORT_EFORMAT    not JSON, or not of this shape; unknown sections are ignored
 * ORT_EVALIDATE  or whatever codec says of an entry: nothing has changed; diag names the entry */
ORT_NODISCARD ort_err ort_table_apply(ort_table **out, const ort_table *base, const char *body,
                                      size_t len, const ort_table_codec *codec, ort_diag *diag);

/* ---- the envelope ---- */

/* Where a node stands. Zeroes: it has no table. */
typedef struct {
    uint64_t generation; /* grows when a control plane is restored from a backup */
    uint64_t version;    /* grows with each table of a node; its order is (generation, version) */
    ort_hash hash;       /* state hash */
} ort_table_at;

/* Below, equal to, above zero as a is older than, as old as, newer than b; hashes do not count. */
int ort_table_at_cmp(const ort_table_at *a, const ort_table_at *b);

/* All a table says besides its body. */
typedef struct {
    uint64_t hub_id;
    ort_node_id node;
    ort_table_at at;    /* after applying */
    uint64_t base;      /* version this is a change from, in the same generation; 0 = whole */
    ort_hash base_hash; /* state hash of that base; 0s when whole */
    int64_t issued_at_ms;
} ort_table_head;

/* Appends the signed envelope of body to out.
 * ORT_ETOOBIG: body or envelope over ORT_WIRE_BYTES_MAX. */
ORT_NODISCARD ort_err ort_envelope_seal(const ort_table_head *head, const char *body, size_t len,
                                        const ort_sign_key *key, ort_buf *out, ort_diag *diag);

/* Checks the shape and the signature and reads the head; the body is not unpacked yet.
 * ORT_EFORMAT: not an envelope, or bytes missing or left over. ORT_EAUTH: not signed by that key.
 */
ORT_NODISCARD ort_err ort_envelope_open(const void *bytes, size_t n, const ort_sign_public *by,
                                        ort_table_head *out, ort_diag *diag);

/* Unpacks the body of an envelope that has been opened, appending to out.
 * ORT_EFORMAT: does not unpack, or not to the length it claims (which is bounded). */
ORT_NODISCARD ort_err ort_envelope_body(const void *bytes, size_t n, ort_buf *out, ort_diag *diag);
#endif /* ORT_TABLE_H */
