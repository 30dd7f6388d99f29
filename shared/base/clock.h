/* shared/base/clock.h: the two clocks, and RFC 3339 text. */
#ifndef ORT_CLOCK_H
#define ORT_CLOCK_H
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Monotonic time: for every interval, deadline and rate; never shown, never stored. */
uint64_t ort_mono_ns(void);
uint64_t ort_mono_ms(void);

/* Wall time since 1970 UTC: for what people and files see; may jump either way. */
int64_t ort_wall_ms(void);

/* Writes "2026-11-21T10:55:00.123Z" (24 characters and a NUL) for wall time in ms; years outside
 * 0000..9999 are written as the nearest of those. */
#define ORT_RFC3339_BYTES 25
void ort_rfc3339_format(int64_t wall_ms, char out[ORT_RFC3339_BYTES]);

/* Reads RFC 3339, also a date alone, a space for T, and no zone (= UTC), as Qdrant does.
 * ORT_OK: *micros_out since 1970 UTC. ORT_EFORMAT: not such text; *micros_out untouched. */
ORT_NODISCARD ort_err ort_rfc3339_parse(const char *text, size_t len, int64_t *micros_out);
#endif /* ORT_CLOCK_H */
