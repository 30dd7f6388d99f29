/* The lines of a repair. By itself: the analyser of clang 14 takes a variadic function that it looks
 * into from a caller in the same file for one without its arguments. */
#include <stdarg.h>
#include <stdio.h>

#include "storage/repair_internal.h"

void
dp_repair__say(dp_repair *r, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    r->say(r->arg, line);
}
