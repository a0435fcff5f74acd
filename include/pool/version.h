/*
 * The version of the headers one compiles against. The build reads it from here. The soname is .so.0 until 1.0.
 */
#ifndef POOL_VERSION_H
#define POOL_VERSION_H

#define POOL_VERSION       "0.1.0"
#define POOL_VERSION_MAJOR 0
#define POOL_VERSION_MINOR 1
#define POOL_VERSION_PATCH 0

#endif
