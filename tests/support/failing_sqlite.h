/*
 * An SQLite whose disk and memory fail when asked to: a file system layer of ours over the real one, and an
 * allocator over the real one. Both enter where SQLite lets programs put their own. Included by one file of a program.
 */
#ifndef FAILING_SQLITE_H
#define FAILING_SQLITE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

/* What fails from now on: the n-th write (or truncation, or sync) and all after it; the n-th allocation alone. */
static long writes_until_failure = -1;
static int write_failure;
static bool has_write_failed;
static long allocations_until_failure = -1;
static bool has_allocation_failed;

static sqlite3_vfs *real_vfs;
static sqlite3_mem_methods real_memory;

struct failing_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static sqlite3_file *real_file(sqlite3_file *file)
{
    return ((struct failing_file *)file)->real;
}

static bool is_write_to_fail(void)
{
    if (writes_until_failure < 0)
        return false;
    if (writes_until_failure > 1) {
        writes_until_failure--;
        return false;
    }
    has_write_failed = true;
    return true;
}

static int file_close(sqlite3_file *file)
{
    return real_file(file)->pMethods->xClose(real_file(file));
}

static int file_read_block(sqlite3_file *file, void *data, int n, sqlite3_int64 offset)
{
    return real_file(file)->pMethods->xRead(real_file(file), data, n, offset);
}

static int file_write_block(sqlite3_file *file, const void *data, int n, sqlite3_int64 offset)
{
    if (is_write_to_fail())
        return write_failure;
    return real_file(file)->pMethods->xWrite(real_file(file), data, n, offset);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (is_write_to_fail())
        return SQLITE_IOERR_TRUNCATE;
    return real_file(file)->pMethods->xTruncate(real_file(file), size);
}

/* Counts, and does not sync: what the disk has after a power cut is not looked at. */
static int file_sync(sqlite3_file *file, int flags)
{
    (void)file;
    (void)flags;
    return is_write_to_fail() ? SQLITE_IOERR_FSYNC : SQLITE_OK;
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_file(file)->pMethods->xFileSize(real_file(file), size);
}

static int file_lock(sqlite3_file *file, int level)
{
    return real_file(file)->pMethods->xLock(real_file(file), level);
}

static int file_unlock(sqlite3_file *file, int level)
{
    return real_file(file)->pMethods->xUnlock(real_file(file), level);
}

static int file_check_lock(sqlite3_file *file, int *is_locked)
{
    return real_file(file)->pMethods->xCheckReservedLock(real_file(file), is_locked);
}

static int file_control(sqlite3_file *file, int op, void *argument)
{
    return real_file(file)->pMethods->xFileControl(real_file(file), op, argument);
}

static int file_sector_size(sqlite3_file *file)
{
    return real_file(file)->pMethods->xSectorSize(real_file(file));
}

static int file_characteristics(sqlite3_file *file)
{
    return real_file(file)->pMethods->xDeviceCharacteristics(real_file(file));
}

static int file_shm_map(sqlite3_file *file, int page, int n, int is_extended, void volatile **memory)
{
    return real_file(file)->pMethods->xShmMap(real_file(file), page, n, is_extended, memory);
}

static int file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
    return real_file(file)->pMethods->xShmLock(real_file(file), offset, n, flags);
}

static void file_shm_barrier(sqlite3_file *file)
{
    real_file(file)->pMethods->xShmBarrier(real_file(file));
}

static int file_shm_unmap(sqlite3_file *file, int is_deleted)
{
    return real_file(file)->pMethods->xShmUnmap(real_file(file), is_deleted);
}

static const sqlite3_io_methods failing_methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read_block,
    .xWrite = file_write_block,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    (void)vfs;
    struct failing_file *failing = (struct failing_file *)file;
    failing->real = (sqlite3_file *)(failing + 1);
    int rc = real_vfs->xOpen(real_vfs, name, failing->real, flags, ret_flags);
    failing->base.pMethods = failing->real->pMethods ? &failing_methods : NULL;
    return rc;
}

/* A wait for a lock is over at once, so that its whole length can be tested. */
static int vfs_sleep(sqlite3_vfs *vfs, int microseconds)
{
    (void)vfs;
    return microseconds;
}

static void *memory_allocate(int n)
{
    if (allocations_until_failure > 0 && --allocations_until_failure == 0) {
        has_allocation_failed = true;
        return NULL;
    }
    return real_memory.xMalloc(n);
}

static void *memory_reallocate(void *memory, int n)
{
    if (allocations_until_failure > 0 && --allocations_until_failure == 0) {
        has_allocation_failed = true;
        return NULL;
    }
    return real_memory.xRealloc(memory, n);
}

/* Before anything else of SQLite. */
static bool make_sqlite_fail(void)
{
    static sqlite3_vfs failing_vfs;
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory) != SQLITE_OK)
        return false;
    sqlite3_mem_methods memory = real_memory;
    memory.xMalloc = memory_allocate;
    memory.xRealloc = memory_reallocate;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &memory) != SQLITE_OK)
        return false;
    real_vfs = sqlite3_vfs_find(NULL);
    if (!real_vfs)
        return false;
    failing_vfs = *real_vfs;
    failing_vfs.zName = "failing";
    failing_vfs.szOsFile = (int)sizeof(struct failing_file) + real_vfs->szOsFile;
    failing_vfs.xOpen = vfs_open;
    failing_vfs.xSleep = vfs_sleep;
    return sqlite3_vfs_register(&failing_vfs, 1) == SQLITE_OK;
}

#endif
