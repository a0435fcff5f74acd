/*
 * libpool-core: everything at once. See the headers below, one for each noun.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <pool/api.h>
#include <pool/catalog.h>
#include <pool/config.h>
#include <pool/crash.h>
#include <pool/error.h>
#include <pool/gpu.h>
#include <pool/gpu_event.h>
#include <pool/lifecycle.h>
#include <pool/presence.h>
#include <pool/registry.h>
#include <pool/version.h>
#include <pool/worker.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Version of the library in use, for example "0.1.0"; POOL_VERSION is that of the headers. Static. */
POOL_EXPORT const char *pool_version(void);

#ifdef __cplusplus
}
#endif
#endif
