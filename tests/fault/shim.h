/* tests/fault/shim.h: what a test and the preloaded shim (shim.c) tell each other.
 *
 * The shim is put in front of libc by LD_PRELOAD. It looks at calls below one directory, counts
 * those of the armed kinds, and makes the n-th fail. It is armed by a file that the test and every
 * process with the shim map: a process that runs already can be armed, and a forked one shares the
 * count. Without such a file the environment arms it once. */
#ifndef TESTS_FAULT_SHIM_H
#define TESTS_FAULT_SHIM_H
#include <stdatomic.h>
#include <stdint.h>

/* Environment. The directory as realpath() gives it; without it the shim does nothing. */
#define SHIM_DIR "ORT_SHIM_DIR"
#define SHIM_CONTROL "ORT_SHIM_CONTROL" /* path of the control file, sizeof(shim_control) bytes */
#define SHIM_CALLS "ORT_SHIM_CALLS"     /* without a control file: its fields, as numbers */
#define SHIM_ERROR "ORT_SHIM_ERROR"
#define SHIM_LEFT "ORT_SHIM_LEFT"
#define SHIM_LASTING "ORT_SHIM_LASTING"

enum {
    SHIM_WRITE = 1,     /* write, writev, pwrite, pwritev, pwritev2 */
    SHIM_SYNC = 2,      /* fsync, fdatasync, sync_file_range */
    SHIM_RENAME = 4,    /* rename, renameat, renameat2 */
    SHIM_OPEN = 8,      /* open, openat, creat, openat2: for writing or creating */
    SHIM_TRUNCATE = 16, /* ftruncate */
    SHIM_UNLINK = 32,   /* unlink, unlinkat */
    SHIM_MAKE = 64,     /* mkdir, mkdirat, linkat */
    SHIM_ALL = 127,
};

typedef struct {
    /* The test's; written while no call is under way. */
    _Atomic(uint32_t) calls;   /* kinds that are counted and fail */
    _Atomic(uint32_t) error;   /* errno. 0: a write takes half and says so. With EIO a write has
                                * taken half as well and does not say so: nobody knows what a disk
                                * that fails has done. */
    _Atomic(uint32_t) lasting; /* from the first failure on every one fails */
    _Atomic(uint64_t) left;    /* the how manieth from now fails, 1 = the next; 0: none */
    /* The shim's. */
    _Atomic(uint64_t) seen;   /* calls of these kinds */
    _Atomic(uint64_t) failed; /* of them */

    /* The newest regular file whose sync failed, until it is removed or emptied: what is written
     * there or synced again since cannot be vouched for. inode 0: none. */
    _Atomic(uint64_t) broken_device, broken_inode;
    _Atomic(uint64_t) broken_writes, broken_syncs;
    _Atomic(uint64_t) broken_renames; /* it was given another name, as if it were whole */
} shim_control;
#endif /* TESTS_FAULT_SHIM_H */
