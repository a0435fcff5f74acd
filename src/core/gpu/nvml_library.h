/*
 * The driver's library: found, loaded and its functions looked up. Loading is not initialising: nothing of the
 * driver is touched before nvml->init() is called, by nvml.c.
 */
#ifndef GPU_NVML_LIBRARY_H
#define GPU_NVML_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

#include "core/gpu/nvml_abi.h"

struct nvml_library {
    void *handle; /* of dlopen; NULL when nothing is loaded */
#define NVML_POINTER(field, parameters, ...) int(*field) parameters;
    NVML_FUNCTIONS(NVML_POINTER)
#undef NVML_POINTER
};

/*
 * Loads the library at `path`, or the one of this host when path is "". Returns false and says why in `reason`
 * when there is none that can be used.
 */
bool nvml_library_load(struct nvml_library *nvml, const char *path, char *reason, size_t n_reason);
/* Takes it out of the process; only when init has never succeeded: drivers leave threads and exit handlers behind. */
void nvml_library_unload(struct nvml_library *nvml);

/* What a return code means, in words of our own: the text of a library is not to be trusted. Static. */
const char *nvml_code_text(int code);
/* Makes a text of the library safe to print and to put into JSON: printable ASCII, the rest becomes '?'. */
void nvml_text_clean(char *text);

#endif
