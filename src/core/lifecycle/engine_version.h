/*
 * Which engine a program is: its version as it says it, remembered per binary.
 */
#ifndef LIFECYCLE_ENGINE_VERSION_H
#define LIFECYCLE_ENGINE_VERSION_H

#include <pool/lifecycle.h>

#define ENGINE_VERSION_MAX 128

struct engine_version {
    char text[ENGINE_VERSION_MAX]; /* "11669 (Debian)", or the size and time of the binary; never "" */
    int64_t build;                 /* of llama.cpp; 0: not known */
};

/* Asks llama-server with --version, and any other program not at all. Never fails: what can not be asked is told from others
 * by its binary. Blocks: for as long as the program runs, once per binary. */
void engine_version_read(const struct pool_backend *backend, const char *program,
                         const char *const *environment, const char *state_dir,
                         struct engine_version *ret_version);
/* Reads "version: 11669 (Debian)" out of an output; false when there is none. */
bool engine_version_parse(const char *output, struct engine_version *ret_version);

#endif
