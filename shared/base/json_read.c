/* The JSON view: one pass that checks and notes, then reads from the notes. */
#include "base/json_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/num.h"

#define NOTES_MAX (4u << 20)

/* One value. An object's notes are key, value, key, value ...; a container is followed by what it
 * holds, and `next` leads behind all of that. */
typedef struct {
    uint32_t offset; /* of the first byte of its text */
    uint32_t len;    /* of its text */
    uint32_t next;
    uint32_t info; /* type, flags, count */
} note;

enum { TYPE_BITS = 3, FLAG_PACKED = 1u << 3, FLAG_UNESCAPED = 1u << 3 };
enum { FLAG_ESCAPED = 1u << 4, FLAG_TRUE = 1u << 4, FLAG_FLOATS = 1u << 4 };
#define COUNT_SHIFT 5
#define COUNT_MAX (UINT32_MAX >> COUNT_SHIFT)

/* A string without its escapes, made when asked for (FLAG_UNESCAPED); the `next` of an escaped
 * string's note (always at + 1 for a string) leads to its room, which parsing takes. Were it taken
 * when the string is asked for, a key that memory does not reach for would be a key that is not
 * there: a filter would lose a condition, and a delete by that filter would take more points. */
typedef struct {
    size_t len;
    char text[];
} unescaped;

/* The rooms stand one behind the other; `next` counts these. */
typedef size_t room_unit;
#define ROOM_UNITS(text_len) (1 + ((text_len) + sizeof(room_unit) - 1) / sizeof(room_unit))

/* The `next` (always at + 1 for it as well) of a packed array with FLAG_FLOATS leads to the first
 * of its numbers in `floats`. */
struct ort_json_doc {
    const char *text;
    note *notes;
    uint32_t count, cap;
    room_unit *rooms; /* of escaped strings */
    uint32_t room_units;
    float *floats;
    size_t float_count, float_cap;
};

typedef struct {
    ort_json_doc *doc;
    const char *p, *start, *end;
    uint32_t depth_left, notes_max;
    bool floats;       /* ort_json_limits */
    const char *wrong; /* what is wrong at p */
    ort_err err;
} parser;

static bool
stop(parser *s, ort_err err, const char *wrong)
{
    s->err = err;
    s->wrong = wrong;
    return false;
}

/* Two kinds of wrong: the text ended, or another byte stands there. */
static bool
unexpected(parser *s, const char *at_end, const char *otherwise)
{
    return stop(s, ORT_EFORMAT, s->p >= s->end ? at_end : otherwise);
}

static void
skip_space(parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\r' || *s->p == '\t')) {
        s->p++;
    }
}

static bool
add_note(parser *s, uint32_t *at_out)
{
    ort_json_doc *doc = s->doc;
    if (doc->count == doc->cap) {
        if (doc->count >= s->notes_max) {
            return stop(s, ORT_ETOOBIG, "too many values");
        }
        const uint32_t cap = doc->cap == 0 ? 32 : doc->cap * 2;
        note *grown = realloc(doc->notes, cap * sizeof *grown);
        if (grown == NULL) {
            return stop(s, ORT_ENOMEM, "out of memory");
        }
        doc->notes = grown;
        doc->cap = cap;
    }
    *at_out = doc->count;
    doc->notes[doc->count++] = (note){.offset = (uint32_t)(s->p - s->start)};
    return true;
}

static void
close_note(parser *s, uint32_t at, uint32_t info)
{
    note *n = &s->doc->notes[at];
    n->len = (uint32_t)(s->p - s->start) - n->offset;
    n->next = s->doc->count;
    n->info = info;
}

/* Length of the well-formed UTF-8 sequence at p (Unicode 15, table 3-7), or 0. */
static size_t
utf8_len(const unsigned char *p, const unsigned char *end)
{
    const size_t left = (size_t)(end - p);
    const unsigned char c = p[0];
    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        return left >= 2 && (p[1] & 0xc0) == 0x80 ? 2 : 0;
    }
    if (c >= 0xe0 && c <= 0xef) {
        const unsigned char lo = c == 0xe0 ? 0xa0 : 0x80, hi = c == 0xed ? 0x9f : 0xbf;
        return left >= 3 && p[1] >= lo && p[1] <= hi && (p[2] & 0xc0) == 0x80 ? 3 : 0;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        const unsigned char lo = c == 0xf0 ? 0x90 : 0x80, hi = c == 0xf4 ? 0x8f : 0xbf;
        return left >= 4 && p[1] >= lo && p[1] <= hi && (p[2] & 0xc0) == 0x80 &&
                       (p[3] & 0xc0) == 0x80
                   ? 4
                   : 0;
    }
    return 0;
}

/* Four hex digits at p, or -1. */
static int
hex4(const char *p, const char *end)
{
    int v = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        const char c = p[i];
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) {
            return -1;
        }
        v = v << 4 | digit;
    }
    return v;
}

/* The escape behind a backslash at p: its code point, and where it ends; -1 for a bad one. */
static int32_t
read_escape(const char **p, const char *end)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (*p >= end) {
        return -1;
    }
    const char c = *(*p)++;
    if (c != 'u') {
        const char *found = c != '\0' ? strchr(from, c) : NULL;
        return found != NULL ? to[found - from] : -1;
    }
    const int first = hex4(*p, end);
    if (first < 0 || (first >= 0xdc00 && first <= 0xdfff)) {
        return -1;
    }
    *p += 4;
    if (first < 0xd800 || first > 0xdbff) {
        return first;
    }
    if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u') {
        return -1;
    }
    const int second = hex4(*p + 2, end);
    if (second < 0xdc00 || second > 0xdfff) {
        return -1;
    }
    *p += 6;
    return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
}

static bool
parse_string(parser *s)
{
    uint32_t at, info = ORT_JSON_STRING;
    if (!add_note(s, &at)) {
        return false;
    }
    s->p++;
    while (s->p < s->end && *s->p != '"') {
        const unsigned char c = (unsigned char)*s->p;
        if (c == '\\') {
            info |= FLAG_ESCAPED;
            s->p++;
            if (read_escape(&s->p, s->end) < 0) {
                return unexpected(s, "EOF while parsing a string", "invalid escape");
            }
        } else if (c < 0x20) {
            return stop(s, ORT_EFORMAT,
                        "control character (\\u0000-\\u001F) found while parsing a string");
        } else if (c < 0x80) {
            s->p++;
        } else {
            const size_t n = utf8_len((const unsigned char *)s->p, (const unsigned char *)s->end);
            if (n == 0) {
                return stop(s, ORT_EFORMAT, "invalid unicode code point");
            }
            s->p += n;
        }
    }
    if (s->p >= s->end) {
        return stop(s, ORT_EFORMAT, "EOF while parsing a string");
    }
    s->p++;
    close_note(s, at, info);
    if ((info & FLAG_ESCAPED) != 0) { /* notes and text are bounded: the sum stays below 2^30 */
        note *n = &s->doc->notes[at];
        n->next = s->doc->room_units;
        s->doc->room_units += (uint32_t)ROOM_UNITS(n->len - 2);
    }
    return true;
}

static bool
parse_word(parser *s, const char *word, uint32_t info)
{
    uint32_t at;
    const size_t n = strlen(word);
    if (!add_note(s, &at)) {
        return false;
    }
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0) {
        return stop(s, ORT_EFORMAT, "expected ident");
    }
    s->p += n;
    close_note(s, at, info);
    return true;
}

static bool
parse_number(parser *s)
{
    uint32_t at;
    bool integer;
    if (!add_note(s, &at)) {
        return false;
    }
    const char *end = ort_num_scan(s->p, s->end, &integer);
    if (end == NULL) {
        return stop(s, ORT_EFORMAT, "invalid number");
    }
    s->p = end;
    close_note(s, at, ORT_JSON_NUMBER);
    return true;
}

static bool parse_value(parser *s);

/* Room for some more floats; false: none, and the array goes without. */
#define FLOATS_AHEAD 64u
static bool
room_for_floats(ort_json_doc *doc)
{
    if (doc->float_count + FLOATS_AHEAD <= doc->float_cap) {
        return true;
    }
    const size_t cap = doc->float_cap == 0 ? 1024 : doc->float_cap * 2;
    float *grown = cap <= UINT32_MAX ? realloc(doc->floats, cap * sizeof *grown) : NULL;
    if (grown == NULL) {
        return false;
    }
    doc->floats = grown;
    doc->float_cap = cap;
    return true;
}

/* Tries the array at p, behind its bracket and space, as numbers alone. Leaves p untouched and
 * returns false when it is something else, which the general way will judge. */
static bool
parse_packed(parser *s, uint32_t at)
{
    ort_json_doc *doc = s->doc;
    const char *start = s->p;
    const size_t floats_before = doc->float_count;
    bool floats = s->floats;
    uint32_t n = 0;
    bool integer;
    for (;;) {
        floats = floats && room_for_floats(doc);
        if (floats) {
            const size_t taken =
                ort_num_take_f32s(&s->p, s->start, s->end, &doc->floats[doc->float_count],
                                  doc->float_cap - doc->float_count - 1);
            doc->float_count += taken;
            n += (uint32_t)taken;
            skip_space(s);
        }
        const char *end =
            floats ? ort_num_take_f32(s->p, s->end, &doc->floats[doc->float_count++], &floats)
                   : ort_num_scan(s->p, s->end, &integer);
        if (end == NULL) {
            break;
        }
        s->p = end;
        skip_space(s);
        n++;
        if (s->p < s->end && *s->p == ']' && n <= COUNT_MAX) {
            s->p++;
            close_note(s, at, ORT_JSON_ARRAY | FLAG_PACKED | n << COUNT_SHIFT);
            if (floats) {
                doc->notes[at].info |= FLAG_FLOATS;
                doc->notes[at].next = (uint32_t)floats_before;
            } else {
                doc->float_count = floats_before;
            }
            return true;
        }
        if (s->p >= s->end || *s->p != ',') {
            break;
        }
        s->p++;
        skip_space(s);
    }
    s->p = start;
    doc->float_count = floats_before;
    return false;
}

static bool
parse_array(parser *s)
{
    uint32_t at, n = 0;
    if (!add_note(s, &at)) {
        return false;
    }
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == ']') {
        s->p++;
        close_note(s, at, ORT_JSON_ARRAY | FLAG_PACKED);
        return true;
    }
    if (parse_packed(s, at)) {
        return true;
    }
    for (;;) {
        if (!parse_value(s)) {
            return false;
        }
        n++;
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
            skip_space(s);
            if (s->p < s->end && *s->p == ']') {
                return stop(s, ORT_EFORMAT, "trailing comma");
            }
        } else if (s->p < s->end && *s->p == ']') {
            s->p++;
            close_note(s, at, ORT_JSON_ARRAY | n << COUNT_SHIFT);
            return true;
        } else {
            return unexpected(s, "EOF while parsing a list", "expected `,` or `]`");
        }
    }
}

static bool
parse_member(parser *s)
{
    skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        return stop(s, ORT_EFORMAT, "trailing comma");
    }
    if (s->p >= s->end || *s->p != '"') {
        return unexpected(s, "EOF while parsing an object", "key must be a string");
    }
    if (!parse_string(s)) {
        return false;
    }
    skip_space(s);
    if (s->p >= s->end || *s->p != ':') {
        return unexpected(s, "EOF while parsing an object", "expected `:`");
    }
    s->p++;
    return parse_value(s);
}

static bool
parse_object(parser *s)
{
    uint32_t at, n = 0;
    if (!add_note(s, &at)) {
        return false;
    }
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == '}') {
        s->p++;
        close_note(s, at, ORT_JSON_OBJECT);
        return true;
    }
    for (;;) {
        if (!parse_member(s)) {
            return false;
        }
        n++;
        skip_space(s);
        if (s->p < s->end && *s->p == ',') {
            s->p++;
        } else if (s->p < s->end && *s->p == '}') {
            s->p++;
            close_note(s, at, ORT_JSON_OBJECT | n << COUNT_SHIFT);
            return true;
        } else {
            return unexpected(s, "EOF while parsing an object", "expected `,` or `}`");
        }
    }
}

static bool
parse_value(parser *s)
{
    bool ok;
    skip_space(s);
    if (s->p >= s->end) {
        return stop(s, ORT_EFORMAT, "EOF while parsing a value");
    }
    if (s->depth_left == 0) {
        return stop(s, ORT_EFORMAT, "recursion limit exceeded");
    }
    s->depth_left--;
    switch (*s->p) {
    case '{':
        ok = parse_object(s);
        break;
    case '[':
        ok = parse_array(s);
        break;
    case '"':
        ok = parse_string(s);
        break;
    case 't':
        ok = parse_word(s, "true", ORT_JSON_BOOL | FLAG_TRUE);
        break;
    case 'f':
        ok = parse_word(s, "false", ORT_JSON_BOOL);
        break;
    case 'n':
        ok = parse_word(s, "null", ORT_JSON_NULL);
        break;
    default:
        ok = *s->p == '-' || (*s->p >= '0' && *s->p <= '9')
                 ? parse_number(s)
                 : stop(s, ORT_EFORMAT, "expected value");
    }
    s->depth_left++;
    return ok;
}

static ort_err
report(const parser *s, ort_diag *diag)
{
    size_t line = 1, column = 1;
    for (const char *p = s->start; p < s->p && p < s->end; p++) {
        column++;
        if (*p == '\n') {
            line++;
            column = 1;
        }
    }
    return ort_fail(diag, s->err, "%s at line %zu column %zu", s->wrong, line, column);
}

ort_err
ort_json_parse(ort_json_doc **out, const char *text, size_t len, ort_json_limits limits,
               ort_diag *diag)
{
    *out = NULL;
    if (len >= UINT32_MAX) {
        return ort_fail(diag, ORT_ETOOBIG, "a JSON text of %zu bytes", len);
    }
    ort_json_doc *doc = calloc(1, sizeof *doc);
    if (doc == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    doc->text = text;
    parser s = {
        .doc = doc,
        .p = text,
        .start = text,
        .end = text + len,
        .depth_left = limits.depth_max != 0 ? limits.depth_max : ORT_JSON_DEPTH_MAX,
        .notes_max = limits.notes_max != 0 ? limits.notes_max : NOTES_MAX,
        .floats = limits.floats,
    };
    bool ok = parse_value(&s);
    if (ok) {
        skip_space(&s);
        ok = s.p == s.end || stop(&s, ORT_EFORMAT, "trailing characters");
    }
    if (ok && doc->room_units > 0) {
        doc->rooms = malloc(doc->room_units * sizeof *doc->rooms);
        ok = doc->rooms != NULL || stop(&s, ORT_ENOMEM, "out of memory");
    }
    if (!ok) {
        ort_json_free(doc);
        return report(&s, diag);
    }
    *out = doc;
    return ORT_OK;
}

void
ort_json_free(ort_json_doc *doc)
{
    if (doc == NULL) {
        return;
    }
    free(doc->rooms);
    free(doc->floats);
    free(doc->notes);
    free(doc);
}

ort_json
ort_json_root(ort_json_doc *doc)
{
    return (ort_json){.doc = doc};
}

static const note *
note_of(ort_json v)
{
    return &v.doc->notes[v.at];
}

ort_json_type
ort_json_type_of(ort_json v)
{
    if (v.doc == NULL) {
        return ORT_JSON_NONE;
    }
    return v.number != 0 ? ORT_JSON_NUMBER : note_of(v)->info & ((1u << TYPE_BITS) - 1);
}

bool
ort_json_given(ort_json v)
{
    return ort_json_type_of(v) > ORT_JSON_NULL;
}

uint32_t
ort_json_count(ort_json v)
{
    return ort_json_type_of(v) >= ORT_JSON_ARRAY ? note_of(v)->info >> COUNT_SHIFT : 0;
}

const char *
ort_json_raw(ort_json v, size_t *len_out)
{
    if (v.doc == NULL) {
        *len_out = 0;
        return NULL;
    }
    const note *n = note_of(v);
    if (v.number != 0) {
        const char *start = v.doc->text + v.number - 1;
        bool integer;
        *len_out =
            (size_t)(ort_num_scan(start, v.doc->text + n->offset + n->len, &integer) - start);
        return start;
    }
    *len_out = n->len;
    return v.doc->text + n->offset;
}

/* Appends a code point as UTF-8; returns the new end. */
static char *
put_utf8(char *p, int32_t c)
{
    if (c < 0x80) {
        *p++ = (char)c;
    } else if (c < 0x800) {
        *p++ = (char)(0xc0 | c >> 6);
        *p++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *p++ = (char)(0xe0 | c >> 12);
        *p++ = (char)(0x80 | (c >> 6 & 0x3f));
        *p++ = (char)(0x80 | (c & 0x3f));
    } else {
        *p++ = (char)(0xf0 | c >> 18);
        *p++ = (char)(0x80 | (c >> 12 & 0x3f));
        *p++ = (char)(0x80 | (c >> 6 & 0x3f));
        *p++ = (char)(0x80 | (c & 0x3f));
    }
    return p;
}

/* Writes the content of an escaped string, whose text is longer than what it means. */
static size_t
unescape(const ort_json_doc *doc, const note *n, char *out)
{
    const char *p = doc->text + n->offset + 1, *end = p + n->len - 2;
    char *to = out;
    while (p < end) {
        if (*p == '\\') {
            p++;
            to = put_utf8(to, read_escape(&p, end));
        } else {
            *to++ = *p++;
        }
    }
    return (size_t)(to - out);
}

static const unescaped *
keep_unescaped(ort_json_doc *doc, note *n)
{
    unescaped *u = (unescaped *)(doc->rooms + n->next);
    if ((n->info & FLAG_UNESCAPED) == 0) {
        u->len = unescape(doc, n, u->text);
        n->info |= FLAG_UNESCAPED;
    }
    return u;
}

const char *
ort_json_str(ort_json v, size_t *len_out)
{
    if (ort_json_type_of(v) != ORT_JSON_STRING) {
        return NULL;
    }
    note *n = &v.doc->notes[v.at];
    if (n->info & FLAG_ESCAPED) {
        const unescaped *u = keep_unescaped(v.doc, n);
        *len_out = u->len;
        return u->text;
    }
    *len_out = n->len - 2;
    return v.doc->text + n->offset + 1;
}

bool
ort_json_str_is(ort_json v, const char *text)
{
    size_t len;
    const char *s = ort_json_str(v, &len);
    return s != NULL && len == strlen(text) && memcmp(s, text, len) == 0;
}

ort_json
ort_json_get(ort_json object, const char *key)
{
    ort_json found = {0};
    if (ort_json_type_of(object) != ORT_JSON_OBJECT) {
        return found;
    }
    for (ort_json_iter it = ort_json_each(object); ort_json_step(&it);) {
        if (ort_json_str_is(it.key, key)) {
            found = it.value;
        }
    }
    return found;
}

ort_err
ort_json_bool(ort_json v, bool *out)
{
    if (ort_json_type_of(v) != ORT_JSON_BOOL) {
        return ORT_EINVAL;
    }
    *out = (note_of(v)->info & FLAG_TRUE) != 0;
    return ORT_OK;
}

/* The text of a number; NULL for another type. */
static const char *
number_text(ort_json v, size_t *len)
{
    return ort_json_type_of(v) == ORT_JSON_NUMBER ? ort_json_raw(v, len) : NULL;
}

ort_err
ort_json_u64(ort_json v, uint64_t *out)
{
    size_t len;
    const char *text = number_text(v, &len);
    return text != NULL ? ort_num_u64(text, len, out) : ORT_EINVAL;
}

ort_err
ort_json_i64(ort_json v, int64_t *out)
{
    size_t len;
    const char *text = number_text(v, &len);
    return text != NULL ? ort_num_i64(text, len, out) : ORT_EINVAL;
}

ort_err
ort_json_f32(ort_json v, float *out)
{
    size_t len;
    const char *text = number_text(v, &len);
    return text != NULL ? ort_num_f32(text, len, out) : ORT_EINVAL;
}

ort_err
ort_json_f64(ort_json v, double *out)
{
    size_t len;
    const char *text = number_text(v, &len);
    return text != NULL ? ort_num_f64(text, len, out) : ORT_EINVAL;
}

bool
ort_json_is_integer(ort_json v)
{
    size_t len;
    bool integer = false;
    const char *text = number_text(v, &len);
    return text != NULL && ort_num_scan(text, text + len, &integer) != NULL && integer;
}

bool
ort_json_is_numbers(ort_json v)
{
    return ort_json_type_of(v) == ORT_JSON_ARRAY && (note_of(v)->info & FLAG_PACKED) != 0;
}

/* Behind the number that ends at p: the start of the next one in a packed array. */
static const char *
next_number(const char *p)
{
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t' || *p == ',') {
        p++;
    }
    return p;
}

ort_err
ort_json_floats(ort_json v, float *out, size_t cap)
{
    if (!ort_json_is_numbers(v) || ort_json_count(v) > cap) {
        return ORT_EINVAL;
    }
    const note *n = note_of(v);
    const char *p = v.doc->text + n->offset + 1, *end = v.doc->text + n->offset + n->len;
    const uint32_t count = ort_json_count(v);
    if ((n->info & FLAG_FLOATS) != 0) {
        memcpy(out, v.doc->floats + n->next, count * sizeof *out);
        return ORT_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool integer;
        p = next_number(p);
        const char *stop_at = ort_num_scan(p, end, &integer);
        const ort_err err = ort_num_f32(p, (size_t)(stop_at - p), &out[i]);
        if (err != ORT_OK) {
            return err;
        }
        p = stop_at;
    }
    return ORT_OK;
}

ort_json_iter
ort_json_each(ort_json container)
{
    ort_json_iter it = {.container = container, .left = ort_json_count(container)};
    if (it.left > 0) {
        it.next =
            ort_json_is_numbers(container) ? note_of(container)->offset + 1 : container.at + 1;
    }
    return it;
}

bool
ort_json_step(ort_json_iter *it)
{
    if (it->left == 0) {
        return false;
    }
    it->left--;
    ort_json_doc *doc = it->container.doc;
    if (ort_json_is_numbers(it->container)) {
        const char *p = next_number(doc->text + it->next);
        size_t len;
        it->value = it->container;
        it->value.number = (uint32_t)(p - doc->text) + 1;
        ort_json_raw(it->value, &len);
        it->next = (uint32_t)(p - doc->text + (ptrdiff_t)len);
        return true;
    }
    if (ort_json_type_of(it->container) == ORT_JSON_OBJECT) {
        it->key = (ort_json){.doc = doc, .at = it->next};
        it->next++;
    }
    it->value = (ort_json){.doc = doc, .at = it->next};
    const bool single = ort_json_type_of(it->value) == ORT_JSON_STRING || /* `next` may be taken */
                        ort_json_is_numbers(it->value);
    it->next = single ? it->next + 1 : doc->notes[it->next].next;
    return true;
}
