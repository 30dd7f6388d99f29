/* orthant-sample: the sample data of the quickstart. Reads Markdown files, cuts them into passages
 * (a paragraph or a few, with the heading above them), and writes one JSON line a passage for
 * `orthant import`: an id, a vector computed from its words (embed.h), the text itself, which the
 * server makes a sparse vector of, and where it stands.
 *
 *     orthant-sample FILE...              the points
 *     orthant-sample --query TEXT FILE... the vector of TEXT, weighed by the same files
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json_write.h"
#include "embed.h"

#define FILE_BYTES_MAX (4u << 20)
#define PASSAGE_BYTES_MIN 60   /* shorter ones tell nothing */
#define PASSAGE_BYTES_FULL 500 /* the first blank line behind this ends a passage */

typedef struct {
    const char *file;
    char *heading;
    char *text;
} passage;

typedef struct {
    passage *items;
    size_t count, cap;
} passage_list;

static char *
copy_bytes(const char *bytes, size_t n)
{
    char *copy = malloc(n + 1);
    if (copy != NULL) {
        memcpy(copy, bytes, n);
        copy[n] = '\0';
    }
    return copy;
}

/* A span of a file, borrowed from its text. */
typedef struct {
    const char *at;
    size_t len;
} span;

static ort_err
add_passage(passage_list *list, const char *file, span heading, span text)
{
    if (text.len < PASSAGE_BYTES_MIN) {
        return ORT_OK;
    }
    if (list->count == list->cap) {
        const size_t cap = list->cap == 0 ? 64 : list->cap * 2;
        passage *grown = realloc(list->items, cap * sizeof *grown);
        if (grown == NULL) {
            return ORT_ENOMEM;
        }
        list->items = grown;
        list->cap = cap;
    }
    const passage p = {.file = file,
                       .heading = copy_bytes(heading.at, heading.len),
                       .text = copy_bytes(text.at, text.len)};
    if (p.heading == NULL || p.text == NULL) {
        free(p.heading);
        free(p.text);
        return ORT_ENOMEM;
    }
    list->items[list->count++] = p;
    return ORT_OK;
}

/* Cuts a file at its headings, and at blank lines where a passage is long enough; what stands in a
 * fence (```) is text, also where it starts with #. */
static ort_err
split(passage_list *list, const char *file, const char *text, size_t len)
{
    const char *end = text + len, *start = text;
    span heading = {.at = text};
    bool fenced = false;
    ort_err err = ORT_OK;
    for (const char *line = text; line < end && err == ORT_OK;) {
        const char *eol = memchr(line, '\n', (size_t)(end - line));
        eol = eol != NULL ? eol : end;
        const size_t n = (size_t)(eol - line), so_far = (size_t)(line - start);
        const bool title = !fenced && n > 1 && line[0] == '#';
        if (n >= 3 && memcmp(line, "```", 3) == 0) {
            fenced = !fenced;
        } else if (title || (n == 0 && so_far >= PASSAGE_BYTES_FULL)) {
            err = add_passage(list, file, heading, (span){start, so_far});
            start = eol < end ? eol + 1 : end;
        }
        if (title) {
            for (heading.at = line; heading.at < eol && strchr("# ", *heading.at) != NULL;) {
                heading.at++;
            }
            heading.len = (size_t)(eol - heading.at);
        }
        line = eol < end ? eol + 1 : end;
    }
    if (err == ORT_OK) {
        err = add_passage(list, file, heading, (span){start, (size_t)(end - start)});
    }
    return err;
}

static ort_err
read_files(passage_list *list, int count, char **files, ort_diag *diag)
{
    ort_buf text = {0};
    ort_err err = ORT_OK;
    for (int i = 0; i < count && err == ORT_OK; i++) {
        ort_buf_clear(&text);
        const int fd = open(files[i], O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            err = ort_fail_errno(diag, ORT_EIO, "open %s", files[i]);
            break;
        }
        ssize_t got = 1;
        while (err == ORT_OK && got > 0) {
            char *at = ort_buf_reserve(&text, 65536);
            got = at != NULL ? read(fd, at, 65536) : -1;
            if (got < 0 || text.len > FILE_BYTES_MAX) {
                err = ort_fail_errno(diag, ORT_EIO, "read %s", files[i]);
            } else {
                ort_buf_commit(&text, (size_t)got);
            }
        }
        ort_fd_close(fd);
        if (err == ORT_OK) {
            err = split(list, files[i], text.data, text.len);
        }
    }
    ort_buf_fini(&text);
    return err;
}

/* What a passage's vector is made of: its heading, and its text. */
static ort_err
words_of(const passage *p, ort_buf *out)
{
    ort_buf_clear(out);
    ort_buf_printf(out, "%s\n%s", p->heading, p->text);
    return ort_buf_check(out);
}

static ort_err
print_point(const embed_corpus *corpus, const passage *p, size_t id)
{
    float vector[EMBED_DIM];
    ort_buf words = {0}, out = {0};
    ort_jw w = {.buf = &out};
    ort_err err = words_of(p, &words);
    if (err == ORT_OK) {
        err = embed_text(corpus, words.data, words.len, vector);
    }
    if (err != ORT_OK) {
        goto done;
    }
    ort_jw_object(&w);
    ort_jw_key(&w, "id");
    ort_jw_u64(&w, id);
    ort_jw_key(&w, "vector");
    ort_jw_object(&w);
    ort_jw_key(&w, ""); /* the unnamed one */
    ort_jw_floats(&w, vector, EMBED_DIM);
    ort_jw_key(&w, "text");
    ort_jw_object(&w);
    ort_jw_key(&w, "text");
    ort_jw_str(&w, ort_buf_peek_cstr(&words));
    ort_jw_key(&w, "model");
    ort_jw_str(&w, "qdrant/bm25");
    ort_jw_object_end(&w);
    ort_jw_object_end(&w);
    ort_jw_key(&w, "payload");
    ort_jw_object(&w);
    ort_jw_key(&w, "file");
    ort_jw_str(&w, p->file);
    ort_jw_key(&w, "heading");
    ort_jw_str(&w, p->heading);
    ort_jw_key(&w, "bytes");
    ort_jw_u64(&w, strlen(p->text));
    ort_jw_key(&w, "text");
    ort_jw_str(&w, p->text);
    ort_jw_object_end(&w);
    ort_jw_object_end(&w);
    ort_buf_putc(&out, '\n');
    err = ort_buf_check(&out);
    if (err == ORT_OK && fwrite(out.data, 1, out.len, stdout) != out.len) {
        err = ORT_EIO;
    }
done:
    ort_buf_fini(&words);
    ort_buf_fini(&out);
    return err;
}

static ort_err
print_query(const embed_corpus *corpus, const char *text)
{
    float vector[EMBED_DIM];
    ort_buf out = {0};
    ort_jw w = {.buf = &out};
    ort_err err = embed_text(corpus, text, strlen(text), vector);
    if (err == ORT_OK) {
        ort_jw_floats(&w, vector, EMBED_DIM);
        const char *json = ort_buf_peek_cstr(&out);
        err = json == NULL ? ORT_ENOMEM : puts(json) == EOF ? ORT_EIO : ORT_OK;
    }
    ort_buf_fini(&out);
    return err;
}

static ort_err
run(const char *query, const passage_list *list)
{
    embed_corpus *corpus;
    ort_buf words = {0};
    ort_err err = embed_corpus_new(&corpus);
    for (size_t i = 0; err == ORT_OK && i < list->count; i++) {
        err = words_of(&list->items[i], &words);
        if (err == ORT_OK) {
            err = embed_corpus_add(corpus, words.data, words.len);
        }
    }
    ort_buf_fini(&words);
    if (err == ORT_OK && query != NULL) {
        err = print_query(corpus, query);
    }
    for (size_t i = 0; err == ORT_OK && query == NULL && i < list->count; i++) {
        err = print_point(corpus, &list->items[i], i + 1);
    }
    embed_corpus_free(corpus);
    return err;
}

int
main(int argc, char **argv)
{
    const char *query = NULL;
    int first = 1;
    ort_diag diag = {""};
    passage_list list = {0};
    if (argc > 2 && strcmp(argv[1], "--query") == 0) {
        query = argv[2];
        first = 3;
    }
    if (first >= argc) {
        fputs("usage: orthant-sample [--query TEXT] FILE...\n", stderr);
        return 2;
    }
    ort_err err = read_files(&list, argc - first, argv + first, &diag);
    if (err == ORT_OK) {
        err = run(query, &list);
    }
    if (err == ORT_OK && fflush(stdout) != 0) {
        err = ort_fail_errno(&diag, ORT_EIO, "write");
    }
    for (size_t i = 0; i < list.count; i++) {
        free(list.items[i].heading);
        free(list.items[i].text);
    }
    free(list.items);
    if (err != ORT_OK) {
        fprintf(stderr, "orthant-sample: %s %s\n", ort_err_code(err), diag.text);
        return 1;
    }
    return 0;
}
