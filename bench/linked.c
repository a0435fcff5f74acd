/*
 * A program that only links the same libraries as pool-managerd, and answers every request with the same bytes: what the
 * daemon's start, its memory and GET /health are compared with.
 * Usage: linked PORT
 */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sqlite3.h>
#include <uv.h>

#include "measure.h"

static const char body[] = "{\"status\":\"ok\",\"uptime_ms\":1}\n";

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload, size_t *n_upload,
                              void **state)
{
    (void)url, (void)method, (void)version, (void)upload, (void)n_upload;
    if (!*state) {
        *state = context;
        return MHD_YES;
    }
    return MHD_queue_response(connection, 200, context);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        die("usage: linked PORT");
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)count_argument(argv[1])),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    /* So that each of them is really needed. */
    if (!curl_version() || !jansson_version_str() || !sqlite3_libversion() || !uv_version_string())
        return 1;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof body - 1, (void *)(uintptr_t)body, MHD_RESPMEM_PERSISTENT);
    if (!response || MHD_add_response_header(response, "Content-Type", "application/json") == MHD_NO)
        die("libmicrohttpd has no memory");
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, response,
                                                 MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_END);
    if (!daemon)
        die("libmicrohttpd does not start");
    for (;;)
        MHD_run_wait(daemon, -1);
}
