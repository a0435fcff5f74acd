#include "core/lifecycle/catalogs.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "core/catalog/proof.h"

/*
 * One that is missing looks like none that is there: all zero. One that was changed so lately that its next change may leave
 * the same times gets a size of -1, so that it is read once more the next time.
 */
static void look(const struct pool_config *config, struct stat *now)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    for (size_t i = 0; i < config->n_catalogs; i++) {
        if (stat(config->catalogs[i], &now[i]) != 0)
            now[i] = (struct stat){ 0 };
        else if (!proof_is_settled(&now[i], &at))
            now[i].st_size = -1;
    }
}

static bool is_changed(const struct pool_config *config, const struct stat *before, const struct stat *now)
{
    for (size_t i = 0; i < config->n_catalogs; i++) {
        if (before[i].st_size < 0 || !file_is_unchanged(&before[i], &now[i]))
            return true;
    }
    return false;
}

enum pool_code catalogs_read(struct catalogs *catalogs, const struct pool_config *config,
                             struct pool_error *err)
{
    struct pool_error why = POOL_ERROR_INIT;
    struct pool_model_catalog *read = NULL;
    CLEANUP_FREE struct stat *now = calloc(config->n_catalogs + 1, sizeof *now);
    if (!now)
        return pool_error_no_memory(err);
    look(config, now); /* before it is read: a change in between is seen by the next look */
    if (catalogs->in_force && !is_changed(config, catalogs->seen, now))
        return POOL_OK;
    enum pool_code code = pool_config_open_catalog(config, &read, &why);
    if (code != POOL_OK && !catalogs->in_force) {
        if (err)
            *err = why;
        return code;
    }
    if (code == POOL_OK) {
        pool_model_catalog_close(catalogs->in_force);
        catalogs->in_force = read;
    }
    catalogs->fault[0] = '\0';
    if (code != POOL_OK)
        snprintf(catalogs->fault, sizeof catalogs->fault,
                 "a catalog was changed and cannot be read, what it said before is in force (%.*s)",
                 POOL_ERROR_MESSAGE_MAX / 2, why.message);
    if (code == POOL_OK || code == POOL_INVALID_CONFIG) { /* anything else may be over the next time */
        free(catalogs->seen);
        catalogs->seen = take_ptr(&now);
    }
    return POOL_OK;
}

void catalogs_done(struct catalogs *catalogs)
{
    pool_model_catalog_close(catalogs->in_force);
    free(catalogs->seen);
}
