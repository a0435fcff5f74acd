/*
 * Scope-bound release of resources, and handing ownership over. `CLEANUP(f) T x = …;` calls f(&x)
 * when x leaves its scope; take_ptr and take_fd move the value out so that nothing is released.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(f) __attribute__((cleanup(f)))

/* Moves a pointer out of *p and leaves NULL behind. */
#define take_ptr(p)                          \
    __extension__({                          \
        __typeof__(p) take_p_ = (p);         \
        __typeof__(*(p)) take_v_ = *take_p_; \
        *take_p_ = NULL;                     \
        take_v_;                             \
    })

static inline int take_fd(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}

static inline void free_ptr(void *p)
{
    free(*(void **)p);
}

static inline void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void close_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void close_directory(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

#define CLEANUP_FREE  CLEANUP(free_ptr)
#define CLEANUP_CLOSE CLEANUP(close_fd)

#endif
