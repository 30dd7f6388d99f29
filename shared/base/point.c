/* Named points. */
#include "base/point.h"

#include <stddef.h>

#if ORT_CHECK
static void (*on_point)(const char *name);

void
ort_point_set(void (*fn)(const char *name))
{
    on_point = fn;
}

void
ort_point(const char *name)
{
    if (on_point != NULL) {
        on_point(name);
    }
}
#endif
