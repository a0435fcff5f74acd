// Memory that live worker processes say they hold: one file a process in the directory of the configuration.
// The fake driver believes them as long as the process lives, and for the configured time after.
#ifndef FAKE_NVML_CLAIMS_H
#define FAKE_NVML_CLAIMS_H

#include "world.h"

#pragma GCC visibility push(hidden)

struct claim {
    unsigned pid;
    nvml_u64 bytes;
    bool is_alive; // false: dead, its memory not yet returned
};

// The claims on a device, of a GPU with those on its MIG devices. Called with the driver's lock held; the
// array belongs to this module and is good until the next call. Returns the number of claims.
unsigned claims_on(const struct world *world, const struct device *device, const struct claim **ret_claims);

#pragma GCC visibility pop

#endif
