/* tests/support/sim_disk.h: a disk that forgets what was not synced.
 *
 * Stands between storage/io.h and a scratch directory. It performs every call and remembers what a
 * crash now could leave: writes since a file's last sync, names since the directory's. A crash
 * makes a new directory out of that: each sector of an unsynced write there or not, each name
 * changed or not, in whatever order. From the moment it is to crash, or was told to, every call
 * fails. Not for threads; one at a time. */
#ifndef TESTS_SUPPORT_SIM_DISK_H
#define TESTS_SUPPORT_SIM_DISK_H
#include <stdint.h>

#include "support/scratch.h"

/* Puts itself before the directory, whose content counts as durable. */
void sim_disk_start(scratch *dir, uint64_t seed);

/* The n-th call from now, and all behind it, fail as if the machine had stopped; 0: none. */
void sim_disk_crash_in(uint32_t n);

/* The n-th call from now fails with this errno, once; a write may do a part of its work. */
void sim_disk_fail_in(uint32_t n, int error);

/* Whether it has stopped, or the failure has happened. */
bool sim_disk_stopped(void);
bool sim_disk_failed(void);

/* Calls so far. */
uint32_t sim_disk_calls(void);

/* Stops, if it has not. */
void sim_disk_stop(void);

/* A directory as the crash may leave it, which replaces *dir (the old one is removed), and goes on
 * with it. */
void sim_disk_restart(scratch *dir);

/* Real calls again. */
void sim_disk_end(void);
#endif /* TESTS_SUPPORT_SIM_DISK_H */
