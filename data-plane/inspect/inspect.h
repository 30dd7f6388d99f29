/* data-plane/inspect/inspect.h: what is on disk, looked at without a node: verify, repair, dump. */
#ifndef DP_INSPECT_H
#define DP_INSPECT_H
#include <stdio.h>

#include "base/err.h"
#include "base/id.h"

/* What a directory is. */
typedef enum {
    DP_PLACE_ROOT,       /* a node's data directory: tenants/ stands in it */
    DP_PLACE_TENANT,     /* tenants/<id>; a collection's files may stand in it, too */
    DP_PLACE_COLLECTION, /* tenants/<id>/collections/<id> */
} dp_place_kind;

typedef struct {
    uint64_t collections, damaged, repaired, notes;
    uint64_t files, bytes, points;
} dp_inspect_report;

/* Reads everything beneath the directory and says, a line each, what is wrong: the checksum of
 * every file, what must hold in it and between them, every record of every log, every graph.
 * Changes nothing. A collection that a node has open is passed over, saying so: its files move.
 *
 * ORT_OK        *report: damaged 0 is all good
 * ORT_EINVAL    not one of the three kinds of directory
 * ORT_ENOTFOUND, ORT_EIO, ORT_ENOMEM */
ORT_NODISCARD ort_err dp_inspect_verify(const char *path, FILE *out, dp_inspect_report *report,
                                        ort_diag *diag);

/* The same, and what is damaged is repaired: storage from what is good of it
 * (storage/repair.h), graphs by removing them (the node builds them anew), a catalog from the one
 * before it. Says what is lost. Works beside a running node: a collection that it could not open is
 * closed, and the next use finds it repaired. Errors as above. */
ORT_NODISCARD ort_err dp_inspect_repair(const char *path, FILE *out, dp_inspect_report *report,
                                        ort_diag *diag);

/* What stands in a file of a collection, or in all files of a collection's directory, a JSON object
 * a line. Errors as of dp_storage_dump(). */
ORT_NODISCARD ort_err dp_inspect_dump(const char *path, FILE *out, ort_diag *diag);

/* `verify DIR`, `repair DIR`, `dump FILE|DIR` of the command line; argv[1] is one of these words
 * when dp_inspect_is_command() says so. Returns the exit status: 0 all good (or repaired), 1
 * damage, 2 wrong usage, 3 it could not be looked at. */
bool dp_inspect_is_command(const char *word);
int dp_inspect_main(int argc, char *const *argv, FILE *out);
#endif /* DP_INSPECT_H */
