// A worker that really takes memory of a GPU: allocates and writes so many bytes by the CUDA driver, then answers every HTTP
// request with 200. Needs no CUDA toolkit: libcuda.so.1 is part of the driver. One line on stdout says what came of it.
//
//   cuda-worker --port N [--host ADDRESS] --device-bytes N
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Prototypes of the CUDA driver API, from its public documentation. A CUdeviceptr has 64 bits on the machines that we know.
typedef int cuda_result;
typedef unsigned long long cuda_pointer;
struct cuda_context;

static struct {
    cuda_result (*init)(unsigned flags);
    cuda_result (*driver_version)(int *version);
    cuda_result (*device_get)(int *device, int ordinal);
    cuda_result (*context_retain)(struct cuda_context **context, int device);
    cuda_result (*context_set)(struct cuda_context *context);
    cuda_result (*memory_info)(size_t *free_bytes, size_t *total_bytes);
    cuda_result (*allocate)(cuda_pointer *pointer, size_t n);
    cuda_result (*fill)(cuda_pointer pointer, unsigned char value, size_t n);
    cuda_result (*synchronize)(void);
    cuda_result (*error_name)(cuda_result result, const char **name);
} cuda;

static const struct {
    const char *name;
    void *slot;
} symbols[] = {
    { "cuInit", &cuda.init },
    { "cuDriverGetVersion", &cuda.driver_version },
    { "cuDeviceGet", &cuda.device_get },
    { "cuDevicePrimaryCtxRetain", &cuda.context_retain },
    { "cuCtxSetCurrent", &cuda.context_set },
    { "cuMemGetInfo_v2", &cuda.memory_info },
    { "cuMemAlloc_v2", &cuda.allocate },
    { "cuMemsetD8_v2", &cuda.fill },
    { "cuCtxSynchronize", &cuda.synchronize },
    { "cuGetErrorName", &cuda.error_name },
};

static void open_cuda(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "cuda-worker: %s\n", dlerror());
        exit(3);
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *symbol = dlsym(library, symbols[i].name);
        if (!symbol) {
            fprintf(stderr, "cuda-worker: libcuda.so.1 lacks %s\n", symbols[i].name);
            exit(3);
        }
        memcpy(symbols[i].slot, &symbol,
               sizeof symbol); // as dlsym(3) has it, without a cast that C does not know
    }
}

static void expect(cuda_result result, const char *what)
{
    const char *name = "unknown";
    if (result == 0)
        return;
    cuda.error_name(result, &name);
    fprintf(stderr, "cuda-worker: %s: %s (%d)\n", what, name, result);
    exit(4);
}

static void take_memory(size_t n)
{
    int version = 0;
    int device;
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    cuda_pointer pointer = 0;
    struct cuda_context *context;
    open_cuda();
    expect(cuda.init(0), "cuInit");
    expect(cuda.driver_version(&version), "cuDriverGetVersion");
    expect(cuda.device_get(&device, 0), "cuDeviceGet"); // the one that the manager made visible
    expect(cuda.context_retain(&context, device), "cuDevicePrimaryCtxRetain");
    expect(cuda.context_set(context), "cuCtxSetCurrent");
    expect(cuda.allocate(&pointer, n), "cuMemAlloc");
    expect(cuda.fill(pointer, 0x5a, n), "cuMemsetD8");
    expect(cuda.synchronize(), "cuCtxSynchronize");
    expect(cuda.memory_info(&free_bytes, &total_bytes), "cuMemGetInfo");
    printf("cuda-worker: took %zu bytes, free %zu of %zu, CUDA %d\n", n, free_bytes, total_bytes, version);
    fflush(stdout);
}

static int listen_at(const char *host, int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1 ||
        bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 64) != 0) {
        perror("cuda-worker: listen");
        exit(5);
    }
    return fd;
}

static void answer(int fd)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
    char request[4096];
    (void)!read(fd, request, sizeof request);
    (void)!write(fd, text, sizeof text - 1);
    close(fd);
}

int main(int argc, char **argv)
{
    const char *host = "127.0.0.1";
    int port = 0;
    size_t n = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--host") == 0)
            host = argv[i + 1];
        else if (strcmp(argv[i], "--port") == 0)
            port = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--device-bytes") == 0)
            n = strtoull(argv[i + 1], NULL, 10);
    }
    if (port <= 0 || n == 0) {
        fprintf(stderr, "usage: cuda-worker --port N [--host ADDRESS] --device-bytes N\n");
        return 2;
    }
    take_memory(n);
    for (int fd = listen_at(host, port);;) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0)
            answer(client);
    }
}
