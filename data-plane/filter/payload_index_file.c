/* The file of an index. It can always be made anew, so it is written whole, with one checksum over
 * all of it, and read whole.
 *
 *   offset  size  field        all integers little-endian
 *        0     8  magic        "ORTPIX\0\1"
 *        8     8  tenant       owner, compared on load, as are the next four
 *       16     8  collection
 *       24     8  generation   of the checkpoint that numbers the slots
 *       32     4  slot_end     slots in it are below
 *       36     4  kind         dp_field_kind
 *       40     4  rules        how its words were made: of texts the version of ICU, of UUIDs 1 (in
 *                              one spelling; 0 was as they were written), else 0
 *       44     4  zero
 *       48     8  body bytes
 *       56     4  crc32c       of the body
 *       60     4  crc32c       of bytes 0..59
 *       64        body: LEB128 length and name of the field; LEB128 length and definition; the six
 *                 sets of dp_has; then the numbers (numbers.c) or the words (words.c)
 *
 * Sets, numbers and words are in forms of our own (LEB128 integers): whatever stands in a file with
 * a right checksum, what is read back is sound or refused. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unicode/uversion.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/point.h"
#include "base/siphash.h"
#include "filter/payload_index_internal.h"

#define HEADER_BYTES 64u
#define STEP_BYTES (256u << 10) /* copied with writers held up */
#define FILE_BYTES_MAX (UINT64_C(1) << 32)

static const unsigned char magic[8] = {'O', 'R', 'T', 'P', 'I', 'X', '\0', 1};

void
dp_payload_index_file_name(const dp_declared_field *field, char out[DP_PAYLOAD_INDEX_NAME_BYTES])
{
    snprintf(out, DP_PAYLOAD_INDEX_NAME_BYTES, "payload-%016llx.pidx",
             (unsigned long long)ort_siphash(0, 0, field->name, field->name_len));
}

static uint32_t
rules_of(dp_field_kind kind)
{
    UVersionInfo v;
    if (kind != DP_FIELD_TEXT) {
        return kind == DP_FIELD_UUID;
    }
    u_getVersion(v);
    return ort_get_u32(v);
}

static void
put_header(ort_buf *out, const dp_payload_index *x, const dp_payload_index_stamp *stamp)
{
    ort_buf_put(out, magic, sizeof magic);
    ort_buf_put_u64(out, stamp->tenant.v);
    ort_buf_put_u64(out, stamp->collection.v);
    ort_buf_put_u64(out, stamp->generation);
    ort_buf_put_u32(out, stamp->slot_end);
    ort_buf_put_u32(out, x->field->kind);
    ort_buf_put_u32(out, rules_of(x->field->kind));
    ort_buf_put_u32(out, 0);
    ort_buf_put_u64(out, 0); /* the body's length and checksum come when it is known */
    ort_buf_put_u64(out, 0);
}

struct dp_payload_saving {
    const dp_payload_index *index; /* until the last step */
    uint32_t below;
    char name[DP_PAYLOAD_INDEX_NAME_BYTES];
    ort_buf head;  /* all before the number of words or blocks */
    ort_buf items; /* those */
    uint64_t item_count;
    int64_t number; /* where numbers go on */
    ort_buf word;   /* behind which words go on */
    bool has_word;
};

ort_err
dp_payload_saving_new(dp_payload_saving **out, const dp_payload_index *x,
                      const dp_payload_index_stamp *stamp)
{
    dp_payload_saving *s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL) {
        return ORT_ENOMEM;
    }
    s->index = x;
    s->below = stamp->slot_end;
    s->number = INT64_MIN;
    dp_payload_index_file_name(x->field, s->name);
    put_header(&s->head, x, stamp);
    dp_leb_put(&s->head, x->field->name_len);
    ort_buf_put(&s->head, x->field->name, x->field->name_len);
    dp_leb_put(&s->head, x->field->definition_len);
    ort_buf_put(&s->head, x->field->definition, x->field->definition_len);
    for (int i = 0; i < DP_HAS_COUNT; i++) {
        dp_slots_encode(x->has[i], s->below, &s->head);
    }
    return ORT_OK;
}

void
dp_payload_saving_free(dp_payload_saving *s)
{
    if (s != NULL) {
        ort_buf_fini(&s->head);
        ort_buf_fini(&s->items);
        ort_buf_fini(&s->word);
        free(s);
    }
}

bool
dp_payload_saving_step(dp_payload_saving *s)
{
    const char *last = NULL;
    size_t len = 0;
    if (s->index->words == NULL) {
        return dp_numbers_encode(s->index->numbers, s->below, &s->number, STEP_BYTES, &s->items,
                                 &s->item_count);
    }
    dp_words_encode(s->index->words, s->below, s->has_word ? s->word.data : NULL, s->word.len,
                    STEP_BYTES, &s->items, &s->item_count, &last, &len);
    if (last == NULL) {
        return false;
    }
    ort_buf_clear(&s->word);
    ort_buf_put(&s->word, last, len);
    ort_buf_put_u8(&s->word, 0); /* never without bytes: NULL would mean the beginning */
    s->word.len = len;
    s->has_word = true;
    return !s->word.failed;
}

ort_err
dp_payload_saving_write(dp_payload_saving *s, int dir_fd, ort_diag *diag)
{
    ort_buf *out = &s->head;
    dp_leb_put(out, s->item_count);
    ort_buf_put(out, s->items.data, s->items.len);
    if (out->failed || s->items.failed || s->word.failed) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    ort_put_u64(out->data + 48, out->len - HEADER_BYTES);
    ort_put_u32(out->data + 56, ort_crc32c(0, out->data + HEADER_BYTES, out->len - HEADER_BYTES));
    ort_put_u32(out->data + 60, ort_crc32c(0, out->data, 60));
    const ort_err err = ort_file_switch(dir_fd, s->name, out->data, out->len, 0600, diag);
    ort_point("payload-index.switched");
    return err == ORT_OK ? ort_dir_sync(dir_fd, diag) : err;
}

ort_err
dp_payload_index_save(const dp_payload_index *x, int dir_fd, const dp_payload_index_stamp *stamp,
                      ort_diag *diag)
{
    dp_payload_saving *saving;
    if (dp_payload_saving_new(&saving, x, stamp) != ORT_OK) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    while (dp_payload_saving_step(saving)) {
    }
    const ort_err err = dp_payload_saving_write(saving, dir_fd, diag);
    dp_payload_saving_free(saving);
    return err;
}

static ort_err
check_header(ort_cursor *c, const dp_declared_field *field, const dp_payload_index_stamp *stamp,
             ort_diag *diag)
{
    const unsigned char *head = ort_cursor_take(c, HEADER_BYTES);
    if (head == NULL || memcmp(head, magic, 7) != 0) {
        return ort_fail(diag, ORT_ECORRUPT, "payload index `%s`: no such file", field->name);
    }
    if (head[7] > magic[7]) {
        return ort_fail(diag, ORT_EVERSION, "payload index `%s`: version %u, this program reads %u",
                        field->name, head[7], magic[7]);
    }
    if (head[7] != magic[7]) {
        return ort_fail(diag, ORT_ECORRUPT, "payload index `%s`: no such file", field->name);
    }
    if (ort_get_u32(head + 60) != ort_crc32c(0, head, 60) ||
        ort_get_u64(head + 48) != ort_cursor_left(c) ||
        ort_get_u32(head + 56) != ort_crc32c(0, c->at, ort_cursor_left(c))) {
        return ort_fail(diag, ORT_ECORRUPT, "payload index `%s`: checksum", field->name);
    }
    if (ort_get_u64(head + 8) != stamp->tenant.v || ort_get_u64(head + 16) != stamp->collection.v ||
        ort_get_u64(head + 24) != stamp->generation || ort_get_u32(head + 32) != stamp->slot_end ||
        ort_get_u32(head + 36) != (uint32_t)field->kind) {
        return ort_fail(diag, ORT_ESTALE, "payload index `%s`: of another state", field->name);
    }
    if (ort_get_u32(head + 40) != rules_of(field->kind)) {
        return ort_fail(diag, ORT_EVERSION, "payload index `%s`: made by other rules", field->name);
    }
    return ORT_OK;
}

static bool
is_next(ort_cursor *c, const char *text, size_t len)
{
    const uint64_t n = dp_leb_take(c);
    const void *at = n == len ? ort_cursor_take(c, len) : NULL;
    return at != NULL && memcmp(at, text, len) == 0;
}

static ort_err
read_body(dp_payload_index *x, ort_cursor *c, uint32_t slot_end)
{
    ort_err err = ORT_OK;
    for (int i = 0; err == ORT_OK && i < DP_HAS_COUNT; i++) {
        dp_slots_free(x->has[i]);
        err = dp_slots_decode(&x->has[i], c, slot_end);
    }
    if (err == ORT_OK && x->words != NULL) {
        dp_words_free(x->words);
        err = dp_words_decode(&x->words, c, slot_end);
    } else if (err == ORT_OK) {
        dp_numbers_free(x->numbers);
        err = dp_numbers_decode(&x->numbers, c, slot_end);
    }
    return err == ORT_OK && ort_cursor_left(c) > 0 ? ORT_ECORRUPT : err;
}

ort_err
dp_payload_index_decode(dp_payload_index **out, dp_fields *fields, size_t field_index,
                        const void *bytes, size_t len, const dp_payload_index_stamp *stamp,
                        ort_diag *diag)
{
    const dp_declared_field *field = dp_fields_peek(fields, field_index);
    ort_cursor c = ort_cursor_of(bytes, len);
    dp_payload_index *x = NULL;
    *out = NULL;
    ort_err err = check_header(&c, field, stamp, diag);
    if (err == ORT_OK && (!is_next(&c, field->name, field->name_len) ||
                          !is_next(&c, field->definition, field->definition_len))) {
        err = ort_fail(diag, ORT_ESTALE, "payload index `%s`: declared otherwise", field->name);
    }
    err = err == ORT_OK ? dp_payload_index_new(&x, fields, field_index) : err;
    if (err == ORT_OK) {
        err = read_body(x, &c, stamp->slot_end);
        if (err != ORT_OK) {
            (void)ort_fail(diag, err, "payload index `%s`: its body is damaged", field->name);
        }
    }
    if (err != ORT_OK) {
        dp_payload_index_free(x);
        return err;
    }
    *out = x;
    return ORT_OK;
}

ort_err
dp_payload_index_load(dp_payload_index **out, dp_fields *fields, size_t field_index, int dir_fd,
                      const dp_payload_index_stamp *stamp, ort_diag *diag)
{
    char name[DP_PAYLOAD_INDEX_NAME_BYTES];
    ort_buf bytes = {0};
    *out = NULL;
    dp_payload_index_file_name(dp_fields_peek(fields, field_index), name);
    ort_err err = ort_file_read(dir_fd, name, FILE_BYTES_MAX, &bytes, diag);
    if (err == ORT_OK) {
        err = dp_payload_index_decode(out, fields, field_index, bytes.data, bytes.len, stamp, diag);
    }
    ort_buf_fini(&bytes);
    return err;
}
