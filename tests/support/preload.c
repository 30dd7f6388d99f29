/* A library in front of a program. */
#include "support/preload.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* LD_PRELOAD parts its names at spaces, and a path may hold some: it gets the name, and
 * LD_LIBRARY_PATH, which does not, the directory. */
static bool
put_in_front(const char *library)
{
    char dir[4096];
    const char *slash = strrchr(library, '/');
    const int n = snprintf(dir, sizeof dir, "%.*s", (int)(slash - library), library);
    return n > 0 && (size_t)n < sizeof dir && setenv("LD_LIBRARY_PATH", dir, 1) == 0 &&
           setenv("LD_PRELOAD", slash + 1, 1) == 0;
}

/* The library stands before the sanitizer, which wants to be the first: the sanitizer's own calls
 * go through the library, and that is fine. */
static bool
let_it_stand_first(void)
{
    char options[4096];
    const char *given = getenv("ASAN_OPTIONS");
    snprintf(options, sizeof options, "%s%sverify_asan_link_order=0", given != NULL ? given : "",
             given != NULL ? ":" : "");
    return setenv("ASAN_OPTIONS", options, 1) == 0;
}

bool
preload_start(preload_server *out, const char *self, const char *library,
              const preload_variable *set, const char *dir, const char *argument)
{
    int in[2], back[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(back, O_CLOEXEC) != 0) {
        return false; /* the test ends with this: what is open goes with it */
    }
    const pid_t child = fork();
    if (child == 0) {
        bool ready = dup2(in[0], 0) == 0 && dup2(back[1], 1) == 1 && let_it_stand_first() &&
                     put_in_front(library);
        for (; ready && set->name != NULL; set++) {
            ready = setenv(set->name, set->value, 1) == 0;
        }
        if (ready) {
            execl(self, self, "--server", dir, argument, (char *)NULL);
        }
        perror(self);
        _exit(127);
    }
    close(in[0]);
    close(back[1]);
    *out = (preload_server){.pid = child, .to = in[1], .from = back[0]};
    return child > 0;
}

int
preload_serve(const char *dir, void *request, size_t request_bytes,
              void (*work)(const char *dir, void *request))
{
    while (read(0, request, request_bytes) == (ssize_t)request_bytes) {
        const pid_t child = fork();
        if (child == 0) {
            work(dir, request);
        }
        int status = -1;
        if (waitpid(child, &status, 0) != child ||
            write(1, &status, sizeof status) != (ssize_t)sizeof status) {
            return 1;
        }
    }
    return 0;
}
