/* Graphs and payload indexes can be made anew, and a damaged one is only time lost: it is named,
 * and removed by repair. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "collection/layout.h"
#include "filter/payload_index.h"
#include "inspect/inspect_internal.h"

static ort_err
open_points(dp_derived_files *d, ort_diag *diag)
{
    const dp_catalog_entry *e = d->entry;
    dp_column columns[ORT_VECTORS_PER_POINT_MAX];
    dp_points_config config;
    dp_collection_points_config(e->schema, d->tenant, e->id, columns, &config);
    config.read_only = true;
    return dp_points_open(&d->points, d->dir, &config, diag);
}

/* What a file is of; NOTHING: of no vector and no field that there is now. */
typedef enum { NOTHING, A_GRAPH, A_PAYLOAD_INDEX } kind;

static kind
kind_of(const dp_derived_files *d, const char *name, uint32_t *place)
{
    const dp_schema *schema = d->entry->schema;
    dp_fields *fields = dp_schema_fields(schema);
    char own[DP_PAYLOAD_INDEX_NAME_BYTES];
    for (uint32_t c = 0; c < dp_schema_vector_count(schema); c++) {
        const dp_vector_schema *v = dp_schema_peek_vector(schema, c);
        snprintf(own, sizeof own, "vector-%" PRIu32 ".hnsw", c);
        if (!v->sparse && !v->multi && !v->dropped && strcmp(name, own) == 0) {
            *place = c;
            return A_GRAPH;
        }
    }
    for (size_t f = 0; fields != NULL && f < dp_fields_count(fields); f++) {
        dp_payload_index_file_name(dp_fields_peek(fields, f), own);
        if (strcmp(name, own) == 0) {
            *place = (uint32_t)f;
            return A_PAYLOAD_INDEX;
        }
    }
    return NOTHING;
}

static ort_err
take_away(dp_derived_files *d, const char *name, const char *why, ort_diag *diag)
{
    dp_inspect *i = d->inspect;
    if (unlinkat(d->index_dir, name, 0) != 0) {
        return ort_fail_errno(diag, ORT_EIO, "remove %s", name);
    }
    i->report->repaired++;
    dp_inspect__say(i, "repaired", "removed, a node makes it anew: %s", why);
    return ORT_OK;
}

static ort_err
check_one(dp_derived_files *d, const char *name, kind what, uint32_t place, ort_diag *diag)
{
    dp_inspect *i = d->inspect;
    ort_diag why = {""};
    ort_err err = d->points == NULL ? open_points(d, diag) : ORT_OK;
    if (err != ORT_OK) {
        return err;
    }
    const ort_err found = what == A_GRAPH ? dp_inspect__graph(d, name, place, &why)
                                          : dp_inspect__payload_index(d, place, &why);
    dp_inspect__count(i, d->index_dir, name);
    if (found == ORT_ENOMEM) {
        return ort_fail(diag, found, "%s", why.text[0] != '\0' ? why.text : "out of memory");
    }
    if (found == ORT_ESTALE || found == ORT_EVERSION) {
        i->report->notes++;
        dp_inspect__say(i, "note", "a node makes it anew: %s", why.text);
    } else if (found != ORT_OK && !i->repair) {
        i->report->damaged++;
        dp_inspect__say(i, "damaged", "%s (a node makes it anew)", why.text);
    } else if (found != ORT_OK) {
        err = take_away(d, name, why.text, diag);
    }
    return err;
}

static bool
is_new(const char *name)
{
    const size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, ".new") == 0;
}

ort_err
dp_inspect__derived(dp_inspect *i, int tenant_dir, int dir, ort_tenant_id tenant,
                    const dp_catalog_entry *entry, bool folded, ort_diag *diag)
{
    char path[64], id[ORT_ID_TEXT_BYTES];
    struct dirent **names = NULL;
    dp_derived_files d = {
        .inspect = i, .dir = dir, .tenant = tenant, .entry = entry, .folded = folded};
    ort_err err = ORT_OK;
    ort_id_format(entry->id.v, id);
    snprintf(path, sizeof path, "indexes/%s", id);
    d.index_dir = ort_open_beneath(tenant_dir, path, O_RDONLY | O_DIRECTORY, 0);
    if (d.index_dir < 0) {
        return errno == ENOENT ? ORT_OK : ort_fail_errno(diag, ORT_EIO, "open %s", path);
    }
    const int count = scandirat(d.index_dir, ".", &names, NULL, alphasort);
    if (count < 0) {
        err = ort_fail_errno(diag, ORT_EIO, "list %s", path);
    }
    for (int k = 0; k < count; k++) {
        const char *name = names[k]->d_name;
        uint32_t place = 0;
        if (err == ORT_OK && name[0] != '.') {
            const size_t before = dp_inspect__enter(i, name);
            const kind what = kind_of(&d, name, &place);
            if (what != NOTHING) {
                err = check_one(&d, name, what, place, diag);
            } else if (!is_new(name)) {
                i->report->notes++;
                dp_inspect__say(i, "note", "it belongs to no vector and no indexed field");
            }
            dp_inspect__leave(i, before);
        }
        free(names[k]);
    }
    free(names);
    dp_points_close(d.points);
    ort_fd_close(d.index_dir);
    return err;
}
