/*
 * Disk usage of folders; see folder_usage.h.
 */
#include "cli/folder_usage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/number.h"
#include "cli/disk_models.h"

#define DEPTH_MAX 10

static void add_folder(struct folder_usage *usage, const char *dir, bool is_unfinished, unsigned depth)
{
    CLEANUP(close_directory) DIR *stream = opendir(dir);
    for (const struct dirent *entry = stream ? readdir(stream) : NULL; entry; entry = readdir(stream)) {
        struct stat st;
        CLEANUP_FREE char *path = NULL;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (asprintf(&path, "%s/%s", dir, entry->d_name) < 0) {
            path = NULL;
            return;
        }
        if (lstat(path, &st) < 0) /* a link has no blocks worth the name, and what it leads to is elsewhere */
            continue;
        if (S_ISREG(st.st_mode) && st.st_nlink > 0) {
            int64_t bytes = (int64_t)st.st_blocks * 512;
            usage->used_bytes = add_bytes(usage->used_bytes, bytes);
            usage->unfinished_bytes = add_bytes(usage->unfinished_bytes, is_unfinished ? bytes : 0);
        } else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
            add_folder(usage, path, is_unfinished || strcmp(entry->d_name, ".downloads") == 0, depth + 1);
        }
    }
}

void folder_usage_add(struct folder_usage *usage, const char *dir)
{
    add_folder(usage, dir, false, 0);
}

struct folder_usage folder_usage_of_models(const struct pool_config *config)
{
    struct folder_usage usage = { 0 };
    for (size_t i = 0; i < config->n_models_dirs; i++)
        folder_usage_add(&usage, config->models_dirs[i]);
    return usage;
}
