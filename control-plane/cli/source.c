/* Files of points. */
#include "cli/source.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <spawn.h>

#include "base/json_write.h"
#include "base/limits.h"

extern char **environ;

typedef enum { JSONL, FVECS, BVECS, NPY } kind;
typedef enum { F16, F32, F64, U8 } element;

struct cli_source {
    FILE *file;
    pid_t unzip; /* 0: none */
    kind kind;
    element element;
    uint32_t dim;  /* 0: not known yet */
    uint64_t rows; /* npy: rows of the file */
    uint64_t row;  /* the next one, from 0 */
    uint64_t first_id;
    uint64_t total_bytes;
    char *line;
    size_t line_cap;
    unsigned char *raw; /* one row as the file has it */
    float *values;
};

static bool
ends_with(const char *text, size_t len, const char *ending)
{
    const size_t n = strlen(ending);
    return len >= n && memcmp(text + len - n, ending, n) == 0;
}

/* Reads path through `zstd -dc`, without a shell. */
static ort_err
open_zstd(cli_source *s, const char *path, ort_diag *diag)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return ort_fail_errno(diag, ORT_EIO, "pipe");
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    char *const argv[] = {(char[]){"zstd"}, (char[]){"-dcq"}, (char[]){"--"}, (char *)path, NULL};
    const int rc = posix_spawnp(&s->unzip, "zstd", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (rc != 0) {
        s->unzip = 0;
        close(ends[0]);
        return ort_fail(diag, ORT_EIO, "%s: cannot run zstd: %s", path, strerror(rc));
    }
    s->file = fdopen(ends[0], "r");
    return s->file != NULL ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "%s", path);
}

static ort_err
room_for_rows(cli_source *s, uint32_t dim, ort_diag *diag)
{
    if (dim == 0 || dim > ORT_DIM_MAX) {
        return ort_fail(diag, ORT_EFORMAT, "row %llu says it has %u components, 1 to %u are taken",
                        (unsigned long long)s->row, dim, ORT_DIM_MAX);
    }
    if (s->values == NULL) {
        s->values = malloc(dim * sizeof(float));
        s->raw = malloc(dim * (size_t)8); /* the widest element */
        s->dim = dim;
        if (s->values == NULL || s->raw == NULL) {
            return ort_fail(diag, ORT_ENOMEM, "out of memory");
        }
    }
    return dim == s->dim ? ORT_OK
                         : ort_fail(diag, ORT_EFORMAT, "row %llu has %u components, the first %u",
                                    (unsigned long long)s->row, dim, s->dim);
}

/* The value behind 'name': in an npy header. NULL: not there. */
static const char *
npy_member(const char *header, const char *name)
{
    const char *at = strstr(header, name);
    at = at != NULL ? strchr(at, ':') : NULL;
    return at != NULL ? at + 1 + strspn(at + 1, " ") : NULL;
}

/* NPY format 1.0 to 3.0: magic, version, header length, a Python literal
 * {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }. */
static ort_err
read_npy_header(cli_source *s, ort_diag *diag)
{
    static const struct {
        const char *descr;
        element element;
    } kinds[] = {{"'<f2'", F16}, {"'<f4'", F32}, {"'<f8'", F64}, {"'|u1'", U8}};
    unsigned char start[12];
    char header[4096];
    if (fread(start, 1, 10, s->file) != 10 || memcmp(start, "\x93NUMPY", 6) != 0) {
        return ort_fail(diag, ORT_EFORMAT, "not an npy file");
    }
    size_t len = ort_get_u16(start + 8);
    if (start[6] >= 2) {
        if (fread(start + 10, 1, 2, s->file) != 2) {
            return ort_fail(diag, ORT_EFORMAT, "the npy header is cut");
        }
        len = ort_get_u32(start + 8);
    }
    if (len >= sizeof header || fread(header, 1, len, s->file) != len) {
        return ort_fail(diag, ORT_EFORMAT, "the npy header is cut or too long");
    }
    header[len] = '\0';
    const char *descr = npy_member(header, "'descr'"), *shape = npy_member(header, "'shape'");
    const char *order = npy_member(header, "'fortran_order'");
    unsigned long long rows = 0, dim = 0;
    if (descr == NULL || shape == NULL || order == NULL || strncmp(order, "False", 5) != 0 ||
        sscanf(shape, "(%llu, %llu)", &rows, &dim) != 2 || dim > ORT_DIM_MAX) {
        return ort_fail(diag, ORT_EFORMAT, "wanted is a 2-D npy array in C order, not %.200s",
                        header);
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(descr, kinds[i].descr, strlen(kinds[i].descr)) == 0) {
            s->element = kinds[i].element;
            s->rows = rows;
            return room_for_rows(s, (uint32_t)dim, diag);
        }
    }
    return ort_fail(diag, ORT_EFORMAT, "npy values of type %.8s are not taken", descr);
}

ort_err
cli_source_open(cli_source **out, const char *path, uint64_t first_id, ort_diag *diag)
{
    ort_err err = ORT_OK;
    size_t len = strlen(path);
    struct stat st;
    cli_source *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL) {
        return ort_fail(diag, ORT_ENOMEM, "out of memory");
    }
    s->first_id = first_id;
    if (ends_with(path, len, ".zst")) {
        err = open_zstd(s, path, diag);
        len -= 4;
    } else if (strcmp(path, "-") == 0) {
        s->file = stdin;
    } else {
        s->file = fopen(path, "re");
        err = s->file != NULL ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "%s", path);
        if (err == ORT_OK && fstat(fileno(s->file), &st) == 0 && S_ISREG(st.st_mode)) {
            s->total_bytes = (uint64_t)st.st_size;
        }
    }
    if (err == ORT_OK) {
        if (ends_with(path, len, ".fvecs")) {
            s->kind = FVECS;
            s->element = F32;
        } else if (ends_with(path, len, ".bvecs")) {
            s->kind = BVECS;
            s->element = U8;
        } else if (ends_with(path, len, ".npy")) {
            s->kind = NPY;
            err = read_npy_header(s, diag);
        }
    }
    if (err != ORT_OK) {
        cli_source_close(s);
        return err;
    }
    *out = s;
    return ORT_OK;
}

void
cli_source_close(cli_source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->file != NULL && s->file != stdin) {
        fclose(s->file);
    }
    if (s->unzip > 0) {
        waitpid(s->unzip, NULL, 0);
    }
    free(s->line);
    free(s->raw);
    free(s->values);
    free(s);
}

void
cli_source_progress(const cli_source *s, uint64_t *done, uint64_t *total)
{
    const long at = s->total_bytes > 0 ? ftell(s->file) : 0;
    *done = at > 0 ? (uint64_t)at : 0;
    *total = s->total_bytes;
}

uint32_t
cli_source_dim(const cli_source *s)
{
    return s->dim;
}

static float
half_to_float(uint16_t h)
{
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    const float sign = h >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) {
        return fraction != 0 ? NAN : sign * INFINITY;
    }
    return sign * (exponent == 0 ? ldexpf((float)fraction, -24)
                                 : ldexpf((float)(fraction + 1024), exponent - 25));
}

static const size_t element_bytes[] = {[F16] = 2, [F32] = 4, [F64] = 8, [U8] = 1};

static float
value_at(const cli_source *s, uint32_t i)
{
    const unsigned char *p = s->raw + i * element_bytes[s->element];
    uint32_t bits;
    uint64_t wide;
    float f;
    double d;
    switch (s->element) {
    case F16:
        return half_to_float(ort_get_u16(p));
    case F32:
        bits = ort_get_u32(p);
        memcpy(&f, &bits, sizeof f);
        return f;
    case F64:
        wide = ort_get_u64(p);
        memcpy(&d, &wide, sizeof d);
        return (float)d;
    case U8:
        return (float)*p;
    }
    return 0;
}

/* Reads one row of numbers into s->raw. *more is false at the end of the file. */
static ort_err
read_row(cli_source *s, bool *more, ort_diag *diag)
{
    unsigned char head[4];
    *more = false;
    if (s->kind == NPY) {
        if (s->row == s->rows) {
            return ORT_OK;
        }
    } else {
        const size_t got = fread(head, 1, 4, s->file);
        if (got == 0 && feof(s->file)) {
            return ORT_OK;
        }
        const ort_err err =
            got == 4 ? room_for_rows(s, ort_get_u32(head), diag)
                     : ort_fail(diag, ORT_EFORMAT, "row %llu is cut", (unsigned long long)s->row);
        if (err != ORT_OK) {
            return err;
        }
    }
    if (fread(s->raw, element_bytes[s->element], s->dim, s->file) != s->dim) {
        return ort_fail(diag, ORT_EFORMAT, "row %llu is cut", (unsigned long long)s->row);
    }
    *more = true;
    return ORT_OK;
}

static ort_err
put_row(cli_source *s, ort_buf *out, bool first, ort_diag *diag)
{
    ort_jw w = {.buf = out, .comma = !first};
    for (uint32_t i = 0; i < s->dim; i++) {
        s->values[i] = value_at(s, i);
        if (!isfinite(s->values[i])) {
            return ort_fail(diag, ORT_EFORMAT, "row %llu, component %u is not a finite number",
                            (unsigned long long)s->row, i);
        }
    }
    ort_jw_object(&w);
    ort_jw_key(&w, "id");
    ort_jw_u64(&w, s->first_id + s->row);
    ort_jw_key(&w, "vector");
    ort_jw_floats(&w, s->values, s->dim);
    ort_jw_object_end(&w);
    return ORT_OK;
}

/* The next line that is not blank; its length, or -1 at the end. */
static ssize_t
next_line(cli_source *s)
{
    ssize_t n;
    while ((n = getline(&s->line, &s->line_cap, s->file)) >= 0) {
        while (n > 0 && isspace((unsigned char)s->line[n - 1])) {
            n--;
        }
        if (n > 0) {
            return n;
        }
    }
    return -1;
}

static ort_err
put_line(cli_source *s, size_t len, ort_buf *out, bool first, ort_diag *diag)
{
    ort_json_doc *doc;
    ort_diag why = {""};
    ort_err err = ort_json_parse(&doc, s->line, len, (ort_json_limits){0}, &why);
    if (err == ORT_OK && !ort_json_given(ort_json_get(ort_json_root(doc), "id"))) {
        err = ort_fail(&why, ORT_EFORMAT, "a point needs an id");
    }
    ort_json_free(doc);
    if (err != ORT_OK) {
        return ort_fail(diag, ORT_EFORMAT, "line %llu: %s", (unsigned long long)s->row + 1,
                        why.text);
    }
    ort_buf_puts(out, first ? "" : ",");
    ort_buf_put(out, s->line, len);
    return ORT_OK;
}

ort_err
cli_source_read(cli_source *s, uint32_t max, ort_buf *out, uint32_t *count_out, ort_diag *diag)
{
    ort_err err = ORT_OK;
    *count_out = 0;
    while (*count_out < max) {
        bool more = true;
        if (s->kind == JSONL) {
            const ssize_t n = next_line(s);
            more = n >= 0;
            err = more ? put_line(s, (size_t)n, out, *count_out == 0, diag) : ORT_OK;
        } else {
            err = read_row(s, &more, diag);
            if (err == ORT_OK && more) {
                err = put_row(s, out, *count_out == 0, diag);
            }
        }
        if (err != ORT_OK || !more) {
            break;
        }
        s->row++;
        (*count_out)++;
    }
    return err != ORT_OK ? err : ort_buf_check(out);
}

ort_err
cli_source_skip(cli_source *s, uint64_t count, ort_diag *diag)
{
    ort_err err = ORT_OK;
    bool more = true;
    for (; count > 0 && err == ORT_OK && more; count--) {
        if (s->kind == JSONL) {
            more = next_line(s) >= 0;
        } else {
            err = read_row(s, &more, diag);
        }
        s->row += more;
    }
    return err;
}
