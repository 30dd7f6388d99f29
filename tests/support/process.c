/* tests/support/process.c: see the header. Programs are found beside the tests: build/PRESET/tests
 * and build/PRESET/bin. */
#include "support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX 64

extern char **environ;

static void
die(const char *what)
{
    fprintf(stderr, "tests/support/process: %s: %s\n", what, strerror(errno));
    abort();
}

static void
nap(int ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L};

    nanosleep(&ts, NULL);
}

void
test_dir_make(char *out, size_t out_bytes)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(out, out_bytes, "%s/orthant-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(out) == NULL) {
        die(out);
    }
}

static int
run(const char *const *argv)
{
    pid_t pid;
    int status = -1;

    if (posix_spawnp(&pid, argv[0], NULL, NULL, (char *const *)(size_t)argv, environ) == 0) {
        waitpid(pid, &status, 0);
    }
    return status;
}

void
test_dir_remove(const char *path)
{
    const char *const argv[] = {"rm", "-rf", "--", path, NULL};

    if (strstr(path, "orthant-test-") != NULL) {
        (void)run(argv);
    }
}

static void
program_path(const char *program, char *out, size_t out_bytes)
{
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0) {
        die("/proc/self/exe");
    }
    self[n] = '\0';
    snprintf(out, out_bytes, "%s/../bin/%s", dirname(self), program);
}

pid_t
process_start(const char *program, const char *const *args, const char *out_path,
              const char *err_path)
{
    char path[4200];
    const char *argv[ARGS_MAX] = {path};
    posix_spawn_file_actions_t actions;
    pid_t pid = -1;

    program_path(program, path, sizeof path);
    for (size_t i = 0; args[i] != NULL && i + 2 < ARGS_MAX; i++) {
        argv[i + 1] = args[i];
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, out_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    errno = posix_spawn(&pid, path, &actions, NULL, (char *const *)(size_t)argv, environ);
    if (errno != 0) {
        die(path);
    }
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

int
process_end(pid_t pid, int signal_number, int timeout_ms)
{
    int status = 0;

    kill(pid, signal_number);
    for (int waited = 0; waited <= timeout_ms; waited += 10) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            return status;
        }
        nap(10);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    return -1;
}

bool
process_runs(pid_t pid)
{
    siginfo_t info = {0};

    /* WNOWAIT: its end is left for process_end() to collect. */
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

static bool
find_line(const char *path, const char *text, char *out, size_t out_bytes)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    bool found = false;

    while (f != NULL && !found && getline(&line, &cap, f) > 0) {
        size_t n = strlen(line);
        /* A line still being written is not read yet. */
        found = n > 0 && line[n - 1] == '\n' && strstr(line, text) != NULL;
        if (found) {
            line[n - 1] = '\0';
            snprintf(out, out_bytes, "%s", line);
        }
    }
    free(line);
    if (f != NULL) {
        fclose(f);
    }
    return found;
}

bool
process_wait_line(pid_t pid, const char *path, const char *text, int timeout_ms, char *out,
                  size_t out_bytes)
{
    for (int waited = 0; waited <= timeout_ms; waited += 10) {
        bool runs = process_runs(pid);
        if (find_line(path, text, out, out_bytes)) {
            return true;
        }
        if (!runs) {
            return false;
        }
        nap(10);
    }
    return false;
}
