/* tests/fault/power.h: what a power cut leaves of a directory whose changes were written down. */
#ifndef TESTS_FAULT_POWER_H
#define TESTS_FAULT_POWER_H
#include <stddef.h>
#include <stdint.h>

/* A model of the directory: what is durable, and what may be lost. */
typedef struct power power;

/* Reads the directory as it is; all of it counts as durable. Ends the process when it cannot, as
 * all of these do. */
power *power_load(const char *dir);
void power_free(power *p);

/* Applies the records of a journal (journal.h), borrowed until power_free(). The last may be cut.
 * Returns how many there were. */
size_t power_replay(power *p, const void *journal, size_t len);

/* Chooses by the seed what of all that was not synced is there after a power cut (nothing, all,
 * what came before some moment, or any part of it; names and contents each for themselves), and
 * puts that into an empty directory. A rename is there wholly or not at all. Returns how many
 * changes were lost. */
size_t power_cut(power *p, uint64_t seed, const char *dir);
#endif /* TESTS_FAULT_POWER_H */
