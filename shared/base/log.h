/* shared/base/log.h: one JSON object a line on standard error. */
#ifndef ORT_LOG_H
#define ORT_LOG_H
#include "base/err.h"

typedef enum { ORT_LOG_DEBUG_, ORT_LOG_INFO_, ORT_LOG_WARN_, ORT_LOG_ERROR_ } ort_log_level;

/* Who speaks: a name ("gate", "storage") that each module keeps in a static const. */
typedef struct {
    const char *module;
} ort_log;

/* Lines below this level are dropped; INFO to begin with. */
void ort_log_set_level(ort_log_level level);
bool ort_log_enabled(ort_log_level level);

/* "debug", "info", "warn", "error". ORT_EINVAL: another word. */
ORT_NODISCARD ort_err ort_log_level_parse(const char *text, ort_log_level *out);

/* event: a stable name ("segment.quarantined"). fmt: key=value pairs, which become members of the
 * line; a value runs to the next " word=". Bytes that JSON does not take are escaped. A line is at
 * most 2 KiB and written with one write(). */
void ort_log_write(const ort_log *log, ort_log_level level, const char *event, const char *fmt, ...)
    ORT_PRINTF(4, 5);

#define ORT_LOG_AT(log, level, ...)                 \
    do {                                            \
        if (ort_log_enabled(level)) {               \
            ort_log_write(log, level, __VA_ARGS__); \
        }                                           \
    } while (0)
#define ORT_LOG_DEBUG(log, ...) ORT_LOG_AT(log, ORT_LOG_DEBUG_, __VA_ARGS__)
#define ORT_LOG_INFO(log, ...) ORT_LOG_AT(log, ORT_LOG_INFO_, __VA_ARGS__)
#define ORT_LOG_WARN(log, ...) ORT_LOG_AT(log, ORT_LOG_WARN_, __VA_ARGS__)
#define ORT_LOG_ERROR(log, ...) ORT_LOG_AT(log, ORT_LOG_ERROR_, __VA_ARGS__)
#endif /* ORT_LOG_H */
