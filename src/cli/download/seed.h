/*
 * A part filled from a copy that is on this machine already, under another name: the Hub's cache keeps contents by what they
 * are, so a file that did not change from one commit to the next is there although the new commit is not.
 */
#ifndef DOWNLOAD_SEED_H
#define DOWNLOAD_SEED_H

#include "cli/download/meter.h"
#include "cli/download/part.h"

/**
 * Copies the pieces that are missing from a file of the same size; what can not be read is left missing. Whether the bytes
 * are right is found out as for those that come over the network.
 * @param cancel_fd readable: give up; -1: none
 * Errors: CANCELLED, those of part_write, INSUFFICIENT_MEMORY.
 */
POOL_MUST_CHECK enum pool_code seed_part(struct part *part, const char *path, int cancel_fd,
                                         struct meter *meter, struct pool_error *err);

#endif
