/*
 * The version of the library.
 */
#include <pool/pool.h>

const char *pool_version(void)
{
    return POOL_VERSION;
}
