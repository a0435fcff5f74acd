/*
 * Two processes that start, load and end workers of their own on the same two GPUs at the same time, each with a manager. What is
 * promised, by whomever, and what strangers hold is never more than there is. The driver lies only in ways that leave this
 * promise standing: a list that is missing, bytes that are unsaid, free bytes that are too few, a device that is lost.
 */
#ifndef LEDGER_MODEL_TWO_H
#define LEDGER_MODEL_TWO_H

#include "manager_ground.h"

/* first, second: where their managers have their state; the same, or two with one lock_dir. */
void two_run(const struct ground *first, const struct ground *second);

#endif
