/* Tables: three sections, and the JSON bodies that carry them whole or in part. */
#include "wire/table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_read.h"
#include "base/limits.h"
#include "wire/table_internal.h"

/* Values in one body: 64 MiB of directory entries, at 7 values and about 75 bytes each. */
#define BODY_VALUES_MAX (8u << 20)

const char *const ort_table__section_names[ORT_TABLE_KINDS] = {"tenants", "directory", "nodes"};

/* Stands for "no section"; static, so its count never reaches 0. */
static ort_section EMPTY[ORT_TABLE_KINDS] = {
    {.refs = 1, .kind = ORT_TABLE_TENANTS},
    {.refs = 1, .kind = ORT_TABLE_DIRECTORY},
    {.refs = 1, .kind = ORT_TABLE_NODES},
};

ort_err
ort_table_new(ort_table **out, const ort_section *tenants, const ort_section *directory,
              const ort_section *nodes)
{
    const ort_section *given[ORT_TABLE_KINDS] = {tenants, directory, nodes};
    ort_table *t = calloc(1, sizeof *t);
    *out = t;
    if (t == NULL) {
        return ORT_ENOMEM;
    }
    atomic_init(&t->refs, 1);
    for (int k = 0; k < ORT_TABLE_KINDS; k++) {
        assert(given[k] == NULL || given[k]->kind == (ort_table_kind)k);
        t->sections[k] = ort_section_ref(given[k] != NULL ? given[k] : &EMPTY[k]);
    }
    return ORT_OK;
}

ort_table *
ort_table_ref(const ort_table *table)
{
    ort_table *t = (ort_table *)(uintptr_t)table;
    if (t != NULL) {
        atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    }
    return t;
}

void
ort_table_unref(const ort_table *table)
{
    ort_table *t = (ort_table *)(uintptr_t)table;
    if (t != NULL && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) {
        for (int k = 0; k < ORT_TABLE_KINDS; k++) {
            ort_section_unref(t->sections[k]);
        }
        free(t);
    }
}

const ort_section *
ort_table_peek(const ort_table *table, ort_table_kind kind)
{
    return table != NULL ? table->sections[kind] : &EMPTY[kind];
}

void
ort_table_hash(const ort_table *table, ort_hash *out)
{
    *out = (ort_hash){{0}};
    for (int k = 0; k < ORT_TABLE_KINDS; k++) {
        ort_hash_xor(out, &ort_table_peek(table, (ort_table_kind)k)->hash);
    }
}

/* ---- writing ---- */

/* Remembers which commas and braces are due. */
typedef struct {
    ort_buf *out;
    bool any_section;
    bool open; /* inside the members of `kind` */
} body_writer;

static void
put_member(body_writer *w, ort_table_kind kind, uint64_t id, const char *text, size_t len)
{
    char key[ORT_ID_TEXT_BYTES];
    if (!w->open) {
        ort_buf_puts(w->out, w->any_section ? ",\"" : "\"");
        ort_buf_puts(w->out, ort_table__section_names[kind]);
        ort_buf_puts(w->out, "\":{");
        w->open = w->any_section = true;
    } else {
        ort_buf_putc(w->out, ',');
    }
    ort_id_format(id, key);
    ort_buf_putc(w->out, '"');
    ort_buf_put(w->out, key, sizeof key - 1);
    ort_buf_puts(w->out, "\":");
    ort_buf_put(w->out, text, len);
}

static void
end_section(body_writer *w)
{
    if (w->open) {
        ort_buf_putc(w->out, '}');
        w->open = false;
    }
}

ort_err
ort_table_write(const ort_table *table, ort_buf *out)
{
    body_writer w = {.out = out};
    ort_buf_putc(out, '{');
    for (int k = 0; k < ORT_TABLE_KINDS; k++) {
        uint64_t at = 0;
        ort_entry e;
        while (ort_section_next(ort_table_peek(table, (ort_table_kind)k), &at, &e)) {
            put_member(&w, (ort_table_kind)k, e.id, e.text, e.len);
        }
        end_section(&w);
    }
    ort_buf_putc(out, '}');
    return ort_buf_check(out);
}

/* Both sides ascend by id: a merge. */
static void
diff_bucket(body_writer *w, ort_table_kind kind, const ort_table__bucket *from,
            const ort_table__bucket *to)
{
    const uint32_t from_count = from != NULL ? from->count : 0,
                   to_count = to != NULL ? to->count : 0;
    uint32_t i = 0, k = 0;
    while (i < from_count || k < to_count) {
        const ort_table__entry *a = i < from_count ? from->entries[i] : NULL;
        const ort_table__entry *b = k < to_count ? to->entries[k] : NULL;
        if (a != NULL && (b == NULL || a->id < b->id)) {
            put_member(w, kind, a->id, "null", 4);
            i++;
        } else if (b != NULL && (a == NULL || b->id < a->id)) {
            put_member(w, kind, b->id, b->text, b->len);
            k++;
        } else { /* both are there: the loop's condition */
            if (a != b && !ort_hash_equal(&a->hash, &b->hash)) {
                put_member(w, kind, b->id, b->text, b->len);
            }
            i++;
            k++;
        }
    }
}

ort_err
ort_table_diff(const ort_table *from, const ort_table *to, ort_buf *out)
{
    body_writer w = {.out = out};
    ort_buf_putc(out, '{');
    for (int k = 0; k < ORT_TABLE_KINDS; k++) {
        const ort_section *a = ort_table_peek(from, (ort_table_kind)k);
        const ort_section *b = ort_table_peek(to, (ort_table_kind)k);
        for (uint32_t i = 0; a != b && i < ORT_TABLE_BUCKETS; i++) {
            if (a->buckets[i] != b->buckets[i]) {
                diff_bucket(&w, (ort_table_kind)k, a->buckets[i], b->buckets[i]);
            }
        }
        end_section(&w);
    }
    ort_buf_putc(out, '}');
    return ort_buf_check(out);
}

/* ---- applying ---- */

static ort_err
apply_members(ort_section_edit *edit, ort_table_kind kind, ort_json members, ort_diag *diag)
{
    ort_err err = ORT_OK;
    for (ort_json_iter it = ort_json_each(members); err == ORT_OK && ort_json_step(&it);) {
        uint64_t id = 0;
        size_t key_len = 0, len = 0;
        const char *text = ort_json_raw(it.value, &len); /* before the key is looked at */
        const char *key = ort_json_str(it.key, &key_len);
        if (key == NULL || ort_id_parse(key, key_len, &id) != ORT_OK) {
            return ort_fail(diag, ORT_EFORMAT, "a member of %s is named by no id",
                            ort_table__section_names[kind]);
        }
        switch (ort_json_type_of(it.value)) {
        case ORT_JSON_OBJECT:
            err = ort_section_edit_put(edit, id, text, len, diag);
            break;
        case ORT_JSON_NULL:
            err = ort_section_edit_remove(edit, id);
            break;
        default:
            err = ort_fail(diag, ORT_EFORMAT, "%s.%.*s is neither an object nor null",
                           ort_table__section_names[kind], (int)key_len, key);
        }
    }
    return err;
}

ort_err
ort_table_apply(ort_table **out, const ort_table *base, const char *body, size_t len,
                const ort_table_codec *codec, ort_diag *diag)
{
    ort_err err;
    ort_json_doc *doc = NULL;
    ort_section *made[ORT_TABLE_KINDS] = {NULL};
    const ort_section *sections[ORT_TABLE_KINDS] = {NULL};

    *out = NULL;
    err = ort_json_parse(&doc, body, len, (ort_json_limits){.notes_max = BODY_VALUES_MAX}, diag);
    if (err != ORT_OK) {
        return err;
    }
    const ort_json root = ort_json_root(doc);
    if (ort_json_type_of(root) != ORT_JSON_OBJECT) {
        err = ort_fail(diag, ORT_EFORMAT, "the table's body is no object");
    }
    for (int k = 0; err == ORT_OK && k < ORT_TABLE_KINDS; k++) {
        const ort_table_kind kind = (ort_table_kind)k;
        const ort_json members = ort_json_get(root, ort_table__section_names[k]);
        ort_section_edit *edit = NULL;
        sections[k] = ort_table_peek(base, kind);
        if (ort_json_type_of(members) == ORT_JSON_NONE) {
            continue;
        }
        if (ort_json_type_of(members) != ORT_JSON_OBJECT) {
            err = ort_fail(diag, ORT_EFORMAT, "%s is no object", ort_table__section_names[k]);
            break;
        }
        err = ort_section_edit_begin(&edit, kind, sections[k], codec);
        if (err == ORT_OK) {
            err = apply_members(edit, kind, members, diag);
        }
        if (err == ORT_OK) {
            sections[k] = made[k] = ort_section_edit_done(edit);
        } else {
            ort_section_edit_free(edit);
        }
    }
    if (err == ORT_OK) {
        err = ort_table_new(out, sections[0], sections[1], sections[2]);
    }
    for (int k = 0; k < ORT_TABLE_KINDS; k++) {
        ort_section_unref(made[k]);
    }
    ort_json_free(doc);
    return err;
}

int
ort_table_at_cmp(const ort_table_at *a, const ort_table_at *b)
{
    if (a->generation != b->generation) {
        return a->generation < b->generation ? -1 : 1;
    }
    return a->version == b->version ? 0 : a->version < b->version ? -1 : 1;
}
