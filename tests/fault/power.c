/* What a power cut leaves. Files have what was written to them up to the last sync, and then any
 * part of what came later; directories likewise have names. Sectors are not torn here: the
 * simulation of storage does that (support/sim_disk.c). */
#include "fault/power.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "fault/journal.h"

#define MUST(cond)                                                            \
    do {                                                                      \
        if (!(cond)) {                                                        \
            fprintf(stderr, "power: %s:%d: %s\n", __func__, __LINE__, #cond); \
            abort();                                                          \
        }                                                                     \
    } while (0)

typedef struct object object;

typedef struct {
    char name[256];
    object *what;
} entry;

typedef struct {
    entry *items;
    size_t count, cap;
} entries;

typedef struct {
    bool truncate;
    uint64_t at;
    const char *data;
    size_t len;
} change;

struct object {
    object *next; /* all there are */
    uint64_t inode;
    bool is_dir, is_live; /* the inode is this one's */
    /* Of a file. */
    ort_buf durable;
    change *changes;
    size_t change_count, change_cap;
    const char *written; /* where it was put, while it is put somewhere */
    /* Of a directory. */
    entries now, kept;
};

/* A change of names that is not durable yet. */
typedef struct {
    journal_type type;
    object *dir, *to_dir, *what;
    char name[256], to_name[256];
    bool done;
} renaming;

struct power {
    object *objects, *root;
    renaming *names;
    size_t name_count, name_cap;
    uint64_t random;
    size_t lost;
};

static uint32_t
dice(power *p, uint32_t of)
{
    p->random = p->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(p->random >> 33) % of;
}

static void *
grow(void *items, size_t count, size_t *cap, size_t size)
{
    if (count < *cap) {
        return items;
    }
    *cap = *cap == 0 ? 16 : 2 * *cap;
    void *grown = realloc(items, *cap * size);
    MUST(grown != NULL);
    return grown;
}

/* --- objects ---------------------------------------------------------------------------------- */

static object *
object_new(power *p, uint64_t inode, bool is_dir)
{
    object *o = calloc(1, sizeof *o);
    MUST(o != NULL);
    o->inode = inode;
    o->is_dir = is_dir;
    o->is_live = true;
    o->next = p->objects;
    p->objects = o;
    return o;
}

static object *
find(power *p, uint64_t inode)
{
    object *o = p->objects;
    while (o != NULL && !(o->is_live && o->inode == inode)) {
        o = o->next;
    }
    return o;
}

/* The number is another's from now on. */
static object *
made(power *p, uint64_t inode, bool is_dir)
{
    object *before = find(p, inode);
    if (before != NULL) {
        before->is_live = false;
    }
    return object_new(p, inode, is_dir);
}

static entry *
find_name(entries *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].name, name) == 0) {
            return &list->items[i];
        }
    }
    return NULL;
}

static void
set_name(entries *list, const char *name, object *what)
{
    entry *e = find_name(list, name);
    if (e == NULL) {
        list->items = grow(list->items, list->count, &list->cap, sizeof *list->items);
        e = &list->items[list->count++];
        snprintf(e->name, sizeof e->name, "%s", name);
    }
    e->what = what;
}

static void
remove_name(entries *list, const char *name)
{
    entry *e = find_name(list, name);
    if (e != NULL) {
        *e = list->items[--list->count];
    }
}

/* --- loading ---------------------------------------------------------------------------------- */

static void
read_file(object *o, int fd, size_t bytes)
{
    char *to = bytes > 0 ? ort_buf_reserve(&o->durable, bytes) : NULL;
    if (bytes > 0) {
        MUST(to != NULL && read(fd, to, bytes) == (ssize_t)bytes);
        ort_buf_commit(&o->durable, bytes);
    }
}

static void
load_dir(power *p, object *dir, int fd)
{
    DIR *d = fdopendir(fd);
    MUST(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        const int at = openat(fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        MUST(at >= 0 && fstat(at, &st) == 0);
        object *o = find(p, st.st_ino);
        if (o == NULL) { /* else it is another name of a file */
            o = object_new(p, st.st_ino, S_ISDIR(st.st_mode));
            if (!o->is_dir) {
                read_file(o, at, (size_t)st.st_size);
            }
        }
        set_name(&dir->now, e->d_name, o);
        set_name(&dir->kept, e->d_name, o);
        if (o->is_dir) {
            load_dir(p, o, at);
        } else {
            close(at);
        }
    }
    closedir(d);
}

power *
power_load(const char *dir)
{
    power *p = calloc(1, sizeof *p);
    struct stat st;
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    MUST(p != NULL && fd >= 0 && fstat(fd, &st) == 0);
    p->root = object_new(p, st.st_ino, true);
    load_dir(p, p->root, fd);
    return p;
}

void
power_free(power *p)
{
    while (p->objects != NULL) {
        object *o = p->objects;
        p->objects = o->next;
        ort_buf_fini(&o->durable);
        free(o->changes);
        free(o->now.items);
        free(o->kept.items);
        free(o);
    }
    free(p->names);
    free(p);
}

/* --- replaying -------------------------------------------------------------------------------- */

static void
apply_change(object *o, const change *c)
{
    static const char zeros[4096];
    const size_t end = (size_t)c->at + c->len;
    while (o->durable.len < end) {
        const size_t n = end - o->durable.len;
        ort_buf_put(&o->durable, zeros, n < sizeof zeros ? n : sizeof zeros);
    }
    if (c->truncate) {
        o->durable.len = (size_t)c->at;
    } else {
        memcpy(o->durable.data + c->at, c->data, c->len);
    }
    MUST(!o->durable.failed);
}

static void
apply_name(renaming *n)
{
    if (n->type == JOURNAL_RENAME) {
        remove_name(&n->dir->kept, n->name);
        set_name(&n->to_dir->kept, n->to_name, n->what);
    } else if (n->type == JOURNAL_UNLINK) {
        remove_name(&n->dir->kept, n->name);
    } else {
        set_name(&n->dir->kept, n->name, n->what);
    }
    n->done = true;
}

static void
sync_object(power *p, object *o)
{
    for (size_t i = 0; i < o->change_count; i++) {
        apply_change(o, &o->changes[i]);
    }
    o->change_count = 0;
    for (size_t i = 0; o->is_dir && i < p->name_count; i++) {
        renaming *n = &p->names[i];
        if (!n->done && (n->dir == o || n->to_dir == o)) {
            apply_name(n);
        }
    }
}

static void
change_file(power *p, const journal_record *r, const char *data)
{
    object *o = find(p, r->file);
    MUST(o != NULL && !o->is_dir);
    o->changes = grow(o->changes, o->change_count, &o->change_cap, sizeof *o->changes);
    o->changes[o->change_count++] = (change){
        .truncate = r->type == JOURNAL_TRUNCATE, .at = r->at, .data = data, .len = r->data_bytes};
}

static void
change_name(power *p, const journal_record *r, const char *name, const char *data)
{
    p->names = grow(p->names, p->name_count, &p->name_cap, sizeof *p->names);
    renaming *n = &p->names[p->name_count++];
    *n = (renaming){.type = (journal_type)r->type, .dir = find(p, r->dir)};
    MUST(n->dir != NULL && r->name_bytes < sizeof n->name && r->data_bytes < sizeof n->to_name);
    memcpy(n->name, name, r->name_bytes);
    memcpy(n->to_name, data, r->data_bytes);
    switch (n->type) {
    case JOURNAL_CREATE:
    case JOURNAL_MKDIR:
        n->what = made(p, r->file, n->type == JOURNAL_MKDIR);
        set_name(&n->dir->now, n->name, n->what);
        break;
    case JOURNAL_LINK:
        n->what = find(p, r->file);
        MUST(n->what != NULL);
        set_name(&n->dir->now, n->name, n->what);
        break;
    case JOURNAL_RENAME: {
        const entry *e = find_name(&n->dir->now, n->name);
        n->to_dir = find(p, r->to_dir);
        MUST(e != NULL && n->to_dir != NULL);
        n->what = e->what;
        remove_name(&n->dir->now, n->name);
        set_name(&n->to_dir->now, n->to_name, n->what);
        break;
    }
    default:
        remove_name(&n->dir->now, n->name);
    }
}

size_t
power_replay(power *p, const void *journal, size_t len)
{
    const char *at = journal, *end = at + len;
    size_t count = 0;
    for (;;) {
        journal_record r;
        if ((size_t)(end - at) < sizeof r) {
            return count;
        }
        memcpy(&r, at, sizeof r);
        const char *name = at + sizeof r, *data = name + r.name_bytes;
        if ((size_t)(end - name) < (size_t)r.name_bytes + r.data_bytes) {
            return count;
        }
        if (r.type == JOURNAL_SYNC) {
            object *o = find(p, r.file);
            MUST(o != NULL);
            sync_object(p, o);
        } else if (r.type == JOURNAL_WRITE || r.type == JOURNAL_TRUNCATE) {
            change_file(p, &r, data);
        } else {
            change_name(p, &r, name, data);
        }
        at = data + r.data_bytes;
        count++;
    }
}

/* --- cutting ---------------------------------------------------------------------------------- */

/* Which of n changes are there: none, all, those before some moment, or any. */
typedef struct {
    uint32_t mode;
    size_t before;
} choice;

static choice
choose(power *p, uint32_t mode, size_t n)
{
    return (choice){.mode = mode, .before = n > 0 ? dice(p, (uint32_t)n + 1) : 0};
}

static bool
is_there(power *p, const choice *c, size_t i)
{
    const bool is =
        c->mode == 1 || (c->mode == 2 && i < c->before) || (c->mode == 3 && dice(p, 2) == 0);
    p->lost += !is;
    return is;
}

static void
put_dir(object *dir, const char *path)
{
    for (size_t i = 0; i < dir->kept.count; i++) {
        char at[1024];
        object *o = dir->kept.items[i].what;
        MUST(snprintf(at, sizeof at, "%s/%s", path, dir->kept.items[i].name) < (int)sizeof at);
        if (o->is_dir) {
            MUST(mkdir(at, 0700) == 0);
            put_dir(o, at);
            continue;
        }
        if (o->written != NULL) {
            MUST(link(o->written, at) == 0);
            continue;
        }
        const int fd = open(at, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        MUST(fd >= 0 && write(fd, o->durable.data, o->durable.len) == (ssize_t)o->durable.len);
        close(fd);
        o->written = strdup(at);
        MUST(o->written != NULL);
    }
}

size_t
power_cut(power *p, uint64_t seed, const char *dir)
{
    p->random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    dice(p, 2);
    const choice names = choose(p, dice(p, 4), p->name_count);
    const uint32_t mode = dice(p, 4);
    for (size_t i = 0; i < p->name_count; i++) {
        if (!p->names[i].done && is_there(p, &names, i)) {
            apply_name(&p->names[i]);
        }
    }
    for (object *o = p->objects; o != NULL; o = o->next) {
        const choice c = choose(p, mode, o->change_count);
        for (size_t i = 0; i < o->change_count; i++) {
            if (is_there(p, &c, i)) {
                apply_change(o, &o->changes[i]);
            }
        }
    }
    put_dir(p->root, dir);
    for (object *o = p->objects; o != NULL; o = o->next) {
        free((void *)(uintptr_t)o->written);
        o->written = NULL;
    }
    return p->lost;
}
