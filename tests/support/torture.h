/*
 * Running out of memory on purpose. Test programs are linked with -Wl,--wrap=malloc and its kin, so every
 * allocation that our own objects (and the static libstdc++) make comes through torture.c, which counts it, remembers
 * the block until it is freed, and can fail the n-th one with ENOMEM. What shared libraries allocate is not seen,
 * unless torture_include_jansson() is called.
 *
 * Two ways to use it. From outside, by environment, for any test program (tests/torture/run-torture does this):
 *     POOL_TORTURE_COUNT=FILE   at exit, write the number of allocations made
 *     POOL_TORTURE_N=N          fail the N-th allocation, counted from the start of the program
 * From inside, exactly and with leak detection: torture_scenario(), for programs in tests/torture (a build without
 * wrappers, as the one for ThreadSanitizer, leaves these out).
 */
#ifndef TORTURE_H
#define TORTURE_H

#include <pool/error.h>

/*
 * Runs `run` once as it is (it must return POOL_OK), then with its 1st, 2nd, … allocation failing, until a run
 * gets by without reaching the failing one. Fails the current cmocka test when a run leaves more live blocks than it
 * found, when a run without failure does not return POOL_OK, or when there is no end. A run whose allocation failed
 * may return any error, and POOL_OK too, when it did without. `run` releases everything it makes, on success as
 * well, and must be repeatable: what it left in files or registries is its own business.
 */
void torture_scenario(const char *name, enum pool_code (*run)(void *ctx), void *ctx);

/* The pieces, for tests with a rhythm of their own. */
void torture_arm(long n);       /* fail the n-th allocation from now, n >= 1 */
bool torture_disarm(void);      /* whether it has failed since torture_arm */
long torture_live_blocks(void); /* blocks allocated through the wrappers and not freed */

/* Sends jansson's allocations through the wrappers as well, for the rest of the program. */
void torture_include_jansson(void);

#endif
