/*
 * Finding a helper program; see helper_path.h. The place of the running program is the kernel's word, not argv[0].
 */
#include "base/helper_path.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool helper_path_find(const char *name, char path[PATH_MAX])
{
    static const char *const places[] = { "", "/../libexec/pool-core" };
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return false;
    self[n] = '\0';
    char *slash = strrchr(self, '/');
    if (!slash)
        return false;
    *slash = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int length = snprintf(path, PATH_MAX, "%s%s/%s", self, places[i], name);
        if (length > 0 && length < PATH_MAX && access(path, X_OK) == 0)
            return true;
    }
    return false;
}
