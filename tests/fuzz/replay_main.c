/*
 * Runs a fuzz target over stored inputs without libFuzzer, so that every compiler and every test run replays the
 * corpora: `fuzz_x DIRECTORY-OR-FILE...`. Hidden files are left out. Nothing replayed is a failure: a corpus that went
 * missing must be noticed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(int directory_fd, const char *name)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        perror(name);
        exit(2);
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    size_t size = (size_t)st.st_size;
    /* A block of exactly this size, so that a sanitizer sees a read behind its end. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    size_t n_read = 0;
    while (data && n_read < size) {
        ssize_t n = read(fd, data + n_read, size - n_read);
        if (n <= 0)
            break;
        n_read += (size_t)n;
    }
    close(fd);
    if (!data || n_read != size) {
        fprintf(stderr, "%s: cannot read it whole\n", name);
        exit(2);
    }
    /* Written before the run: the last line names the input that crashed it. */
    printf("%s\n", name);
    fflush(stdout);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 1;
}

static int replay_directory(DIR *directory)
{
    int n_replayed = 0;
    for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        if (entry->d_name[0] != '.')
            n_replayed += replay_file(dirfd(directory), entry->d_name);
    }
    return n_replayed;
}

int main(int argc, char **argv)
{
    int n_replayed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        if (directory) {
            n_replayed += replay_directory(directory);
            closedir(directory);
        } else {
            n_replayed += replay_file(AT_FDCWD, argv[i]);
        }
    }
    printf("%d inputs replayed\n", n_replayed);
    return n_replayed > 0 ? 0 : 1;
}
