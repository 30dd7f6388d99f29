/* control-plane/cli/source.h: files of points, read in batches that can be skipped to. */
#ifndef CLI_SOURCE_H
#define CLI_SOURCE_H
#include <stdint.h>

#include "base/buf.h"

/* An open file of points: JSONL (one {"id","vector","payload"} a line), fvecs or bvecs (records of
 * int32 dimension and values), npy (a 2-D array of float16, float32, float64 or uint8, C order).
 * Rows of the last three get their row number as id, counted from first_id. The kind follows the
 * name's ending; a file that ends in .zst is read through `zstd -dc`. For one thread. */
typedef struct cli_source cli_source;

ORT_NODISCARD ort_err cli_source_open(cli_source **out, const char *path, uint64_t first_id,
                                      ort_diag *diag);
void cli_source_close(cli_source *source);

/* Bytes of the file, and how many of them are read: 0 and 0 where it cannot be told. */
void cli_source_progress(const cli_source *source, uint64_t *done, uint64_t *total);

/* Components of a vector, where the file says so before its first row; else 0. */
uint32_t cli_source_dim(const cli_source *source);

/* Appends up to `max` points to out as the elements of a JSON array, without its brackets, and
 * counts them; 0 at the end of the file. ORT_EFORMAT: the file is damaged; diag names the row. */
ORT_NODISCARD ort_err cli_source_read(cli_source *source, uint32_t max, ort_buf *out,
                                      uint32_t *count_out, ort_diag *diag);

/* Passes over points; fewer when the file ends. */
ORT_NODISCARD ort_err cli_source_skip(cli_source *source, uint64_t count, ort_diag *diag);
#endif /* CLI_SOURCE_H */
