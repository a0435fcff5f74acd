/*
 * Opening a catalog: the file read, parsed, checked and sorted.
 * Usage: catalog FILE N
 */
#include <pool/catalog.h>

#include "measure.h"

int main(int argc, char **argv)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct samples samples = { 0 };
    if (argc != 3)
        die("usage: catalog FILE N");
    const char *const paths[] = { argv[1] };
    for (int64_t i = count_argument(argv[2]); i > 0; i--) {
        struct pool_model_catalog *catalog = NULL;
        int64_t start_ns = clock_boottime_ns();
        enum pool_code code = pool_model_catalog_open(paths, 1, &catalog, NULL, NULL, &err);
        int64_t end_ns = clock_boottime_ns();
        expect_ok(code, &err);
        add_sample(&samples, end_ns - start_ns);
        pool_model_catalog_close(catalog);
    }
    report("open", &samples);
    return 0;
}
