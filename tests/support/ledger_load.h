/* tests/support/ledger_load.h: mixed load of all tenants of a ledger, until the process is killed.
 */
#ifndef TESTS_SUPPORT_LEDGER_LOAD_H
#define TESTS_SUPPORT_LEDGER_LOAD_H
#include "support/ledger.h"

/* Starts its threads: writers of points, and keepers, who do everything else. Once a process. */
void ledger_load_start(ledger *book, const test_node *node, uint64_t seed);
#endif /* TESTS_SUPPORT_LEDGER_LOAD_H */
