/* tests/support/sim_disk.h: a disk in memory that forgets what was not synced.
 *
 * Stands in the place of storage/io.h's calls: one directory, files of bytes. It remembers what a
 * crash now could leave: writes since a file's last sync, names since the directory's. A crash
 * leaves each sector of an unsynced write there or not, each name changed or not, in whatever
 * order. From the moment it is to crash, or was told to, every call fails. Not for threads; one at
 * a time. */
#ifndef TESTS_SUPPORT_SIM_DISK_H
#define TESTS_SUPPORT_SIM_DISK_H
#include <stdbool.h>
#include <stdint.h>

/* Begins with an empty directory, and takes the place of the real calls. */
void sim_disk_start(uint64_t seed);

/* The directory, for as long as the disk runs. */
int sim_disk_dir(void);

/* The n-th call that changes something from now, and all behind it, fail as if the machine had
 * stopped; 0: none. */
void sim_disk_crash_in(uint32_t n);

/* The n-th call from now, reads among them, fails with this errno, once; a write may do a part of
 * its work. */
void sim_disk_fail_in(uint32_t n, int error);

/* Whether it has stopped, or the failure has happened. */
bool sim_disk_stopped(void);
bool sim_disk_failed(void);

/* Calls so far that change something. */
uint32_t sim_disk_calls(void);

/* Stops, if it has not. */
void sim_disk_stop(void);

/* Goes on with what the crash may have left. Nothing may be open or mapped. */
void sim_disk_restart(void);

/* Real calls again. */
void sim_disk_end(void);
#endif /* TESTS_SUPPORT_SIM_DISK_H */
