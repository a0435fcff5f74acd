/*
 * Loading libcurl; see curl_library.h.
 */
#include "cli/curl_library.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define LIBRARY "libcurl.so.4" /* the version of its interface since 2006 */

/* POSIX wants that a function's address fits into the void * of dlsym; C has no cast for it. */
static bool find_function(void *library, const char *name, void *ret_function)
{
    void *address = dlsym(library, name);
    memcpy(ret_function, &address, sizeof address);
    return address != NULL;
}

static const char *find_functions(void *library, struct curl_library *curl)
{
#define FUNCTION_FIND(name)                          \
    if (!find_function(library, #name, &curl->name)) \
        return #name;
    CURL_LIBRARY_FUNCTIONS(FUNCTION_FIND)
#undef FUNCTION_FIND
    return NULL;
}

enum pool_code curl_library_load(struct curl_library *ret_curl, const char *purpose, struct pool_error *err)
{
    void *library = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        return pool_error_set(err, POOL_UNIMPLEMENTED, "%s needs libcurl: %s", purpose, dlerror());
    const char *missing = find_functions(library, ret_curl);
    if (missing)
        return pool_error_set(err, POOL_UNIMPLEMENTED, "%s needs libcurl: %s has no %s", purpose, LIBRARY,
                              missing);
    /* TLS needs no flag: since 7.57 it is set up when it is first used. */
    return ret_curl->curl_global_init(CURL_GLOBAL_NOTHING) == CURLE_OK ? POOL_OK : pool_error_no_memory(err);
}
