/*
 * Reading the header of a GGUF file, beside reading the same bytes with read() and looking at none of them.
 * Usage: gguf FILE N
 */
#include <fcntl.h>
#include <unistd.h>

#include <pool/catalog.h>

#include "measure.h"

#define CHUNK_BYTES 65536

static int64_t read_bytes(const char *path, int64_t n)
{
    static char chunk[CHUNK_BYTES];
    int64_t start_ns = clock_boottime_ns();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (int64_t n_read = 0; fd >= 0 && n_read < n;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got <= 0)
            die_errno(path);
        n_read += got;
    }
    if (fd < 0 || close(fd) < 0)
        die_errno(path);
    return clock_boottime_ns() - start_ns;
}

int main(int argc, char **argv)
{
    struct pool_error err = POOL_ERROR_INIT;
    struct samples headers = { 0 };
    struct samples reads = { 0 };
    int64_t n_bytes = 0;
    if (argc != 3)
        die("usage: gguf FILE N");
    for (int64_t i = count_argument(argv[2]); i > 0; i--) {
        struct pool_model_header *header = NULL;
        int64_t start_ns = clock_boottime_ns();
        enum pool_code code = pool_model_header_read(argv[1], &header, &err);
        int64_t end_ns = clock_boottime_ns();
        expect_ok(code, &err);
        n_bytes = header->data_offset_bytes;
        pool_model_header_free(header);
        add_sample(&headers, end_ns - start_ns);
        add_sample(&reads, read_bytes(argv[1], n_bytes));
    }
    report("header", &headers);
    report("read", &reads);
    printf("bytes %" PRId64 " 0 1\n", n_bytes);
    return 0;
}
