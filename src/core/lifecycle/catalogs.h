/*
 * The catalogs of a configuration as they are now: read at the first call, and again when one of the files was changed.
 */
#ifndef LIFECYCLE_CATALOGS_H
#define LIFECYCLE_CATALOGS_H

#include <pool/lifecycle.h>
#include <sys/stat.h>

struct catalogs {
    struct pool_model_catalog *in_force; /* NULL until asked for */
    struct stat *seen;                   /* of each file, when it was read last */
    char fault[POOL_ERROR_MESSAGE_MAX];  /* why what is on the disk is not in force, "": it is */
};

/*
 * Costs a stat per file where nothing was changed. A change that can not be read leaves the catalogs before it in force, and
 * `fault` says so. Errors: those of pool_config_open_catalog, at the first call alone.
 */
POOL_MUST_CHECK enum pool_code catalogs_read(struct catalogs *catalogs, const struct pool_config *config,
                                             struct pool_error *err);
void catalogs_done(struct catalogs *catalogs);

#endif
