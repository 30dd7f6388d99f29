/* tests/support/preload.h: a library put in front of a program that this process starts: the test
 * itself, as `--server DIR`, which works off requests in processes of its own. */
#ifndef TESTS_SUPPORT_PRELOAD_H
#define TESTS_SUPPORT_PRELOAD_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

typedef struct {
    pid_t pid;
    int to, from; /* its descriptors 0 and 1; the caller's to close */
} preload_server;

/* One variable of its environment. */
typedef struct {
    const char *name, *value;
} preload_variable;

/* Starts `self --server dir [argument]` behind the library.
 *
 * set       its environment beside ours, ended by a name that is NULL
 * argument  may be NULL
 *
 * false: there is no process for it, errno says why. One that cannot be executed ends with 127. */
bool preload_start(preload_server *out, const char *self, const char *library,
                   const preload_variable *set, const char *dir, const char *argument);

/* What such a server does: takes requests of that many bytes on descriptor 0, calls work() for each
 * in a process of its own, and says on 1 how that ended, as waitpid() does. 0 when no more come. */
int preload_serve(const char *dir, void *request, size_t request_bytes,
                  void (*work)(const char *dir, void *request));
#endif /* TESTS_SUPPORT_PRELOAD_H */
