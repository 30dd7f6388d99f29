/* tests/support/process.h: the project's own programs, started and stopped by tests. */
#ifndef ORT_TEST_PROCESS_H
#define ORT_TEST_PROCESS_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A new directory under $TMPDIR (or /tmp) of mode 0700, its path in out. */
void test_dir_make(char *out, size_t out_bytes);
void test_dir_remove(const char *path);

/* Starts a program of this build ("orthant-control") with these arguments (NULL-ended, without
 * argv[0]); its standard output and error go to the files out_path and err_path. Asserts that it
 * could be started. */
pid_t process_start(const char *program, const char *const *args, const char *out_path,
                    const char *err_path);

/* Sends the signal and waits for its end, at most timeout_ms; then SIGKILL. Returns what waitpid()
 * said, or -1 when it had to be killed. */
int process_end(pid_t pid, int signal_number, int timeout_ms);
bool process_runs(pid_t pid);

/* Waits until the file has a line with that text in it and copies the line to out. false: not in
 * time, or the process ended. */
bool process_wait_line(pid_t pid, const char *path, const char *text, int timeout_ms, char *out,
                       size_t out_bytes);
#endif /* ORT_TEST_PROCESS_H */
