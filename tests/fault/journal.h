/* tests/fault/journal.h: what changed below a directory, in order, and what was synced.
 *
 * Written by a library that is preloaded (journal.c) behind each call, read by the test that makes
 * of it what a power cut would have left. A file is its inode's number, from the record that makes
 * it on; a number can be given to another one later. */
#ifndef TESTS_FAULT_JOURNAL_H
#define TESTS_FAULT_JOURNAL_H
#include <stdint.h>

/* Environment. */
#define JOURNAL_DIR "ORT_JOURNAL_DIR"   /* as realpath() gives it */
#define JOURNAL_FILE "ORT_JOURNAL_FILE" /* appended to; whoever reads it may cut it to nothing */

typedef enum {
    JOURNAL_WRITE,    /* file, at, data */
    JOURNAL_TRUNCATE, /* file, at: its length */
    JOURNAL_SYNC,     /* file: or a directory */
    JOURNAL_CREATE,   /* dir, name: a new file */
    JOURNAL_MKDIR,    /* dir, name: file is the new directory */
    JOURNAL_LINK,     /* dir, name: file has this name as well */
    JOURNAL_RENAME,   /* dir, name; to_dir, to_name in data */
    JOURNAL_UNLINK,   /* dir, name; of a directory too */
} journal_type;

/* Then name_bytes of name, then data_bytes; neither is ended by a NUL. */
typedef struct {
    uint32_t type;
    uint32_t name_bytes, data_bytes;
    uint32_t zero;
    uint64_t file, dir, to_dir, at;
} journal_record;
#endif /* TESTS_FAULT_JOURNAL_H */
