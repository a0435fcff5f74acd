/*
 * What the files of the HTTP server know of each other. Not for anybody else.
 *
 * Two sides hold a request: libmicrohttpd from its request line to the completion callback (`connection` is set), and
 * the owner from on_request to the answer (`is_held`). It is freed when both have let go.
 */
#ifndef MANAGERD_HTTP_INTERNAL_H
#define MANAGERD_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <sys/socket.h>

#include "managerd/http_server.h"
#include "managerd/http_target.h"

#define HTTP_ADDRESS_TEXT_MAX 64

/* A socket in the server's second epoll set: connections, for when they end, and refused uploads that drain. */
struct http_watch {
    void (*on_event)(struct http_watch *watch, uint32_t events);
};

struct http_address_key {
    uint8_t bytes[16];
};

struct http_peer {
    struct http_watch watch; /* first */
    struct http_server *server;
    struct http_peer *next, *previous;
    int fd;
    enum http_transport transport;
    uid_t uid;
    struct sockaddr_storage local;
    char address[HTTP_ADDRESS_TEXT_MAX];
    bool is_counted; /* under `key` */
    struct http_address_key key;
    bool has_hung_up;       /* the client sends no more */
    enum pool_code refusal; /* POOL_OK: a connection within the limits */
    int64_t waiting_since_ns;
    struct http_request *request; /* the one being received or answered */
};

enum http_phase {
    HTTP_PHASE_LINE,      /* request line seen, header not checked */
    HTTP_PHASE_RECEIVING, /* header checked, body to come */
    HTTP_PHASE_HANDED,    /* complete; the owner thinks */
    HTTP_PHASE_ANSWERED
};

struct http_field {
    const char *name;
    char *value;
};

struct http_backlog {
    char *data;
    size_t start, n, capacity;
};

struct http_request {
    struct http_server *server;
    struct MHD_Connection *connection;
    struct http_peer *peer;
    struct http_request *next, *previous; /* of those with a connection */
    enum http_phase phase;
    bool is_held, is_suspended, is_gone, is_gone_told, is_counted, is_ending;
    bool is_head, has_body, is_stream, is_ended, has_ping, must_linger, must_close;
    bool is_borrowed; /* the response is the server's, for when memory is out */
    enum http_transport transport;
    uid_t uid;
    int64_t arrived_ns;
    int64_t answered_ns; /* for a stream: last time something was sent */
    size_t n_answer;
    unsigned status;
    struct MHD_Response *response;
    http_on_gone *on_gone;
    void *gone_context;
    void *context;
    const char *route;
    struct http_caller caller;
    size_t n_fields;
    struct http_field fields[HTTP_ANSWER_FIELDS_MAX];
    char *body;
    size_t n_body, body_capacity;
    struct http_backlog backlog;
    struct http_target target;
    size_t n_target;
    char method[HTTP_METHOD_MAX + 1];
    char correlation_id[65];
    char address[HTTP_ADDRESS_TEXT_MAX];
    char target_text[]; /* twice the target: decoded in place, and cut into segments */
};

struct http_listener {
    struct http_server *server;
    uv_poll_t poll;
    uv_timer_t pause;
    int fd;
    enum http_transport transport;
    uint16_t port;
    bool is_open;
    char *path; /* to be unlinked; NULL when not ours */
    dev_t device;
    ino_t inode;
};

struct http_address_count {
    struct http_address_key key;
    size_t n;
};

struct http_linger {
    struct http_watch watch; /* first */
    struct http_server *server;
    struct http_linger *next, *previous;
    int fd;
    size_t n_read;
    int64_t deadline_ns;
};

struct http_server {
    uv_loop_t *loop;
    struct http_server_options options; /* limits filled in; lists are not kept */
    size_t n_host_names;
    char **host_names;

    struct MHD_Daemon *daemon;
    struct MHD_Response *no_memory; /* made ahead of the need */
    uv_poll_t daemon_poll;
    uv_timer_t daemon_timer;
    uint64_t daemon_due_ms; /* loop time; UINT64_MAX: no timer */
    int watch_fd;
    uv_poll_t watch_poll;
    uv_timer_t sweep_timer;
    bool is_sweeping;
    size_t n_handles;
    bool has_closed_handles;

    size_t n_binds; /* the first listeners are those of the binds */
    size_t n_listeners;
    struct http_listener listeners[HTTP_LISTENERS_MAX];

    uint8_t random[HTTP_RANDOM_BYTES]; /* drawn ahead for correlation ids, used from the end */
    size_t n_random;

    struct http_peer *accepting;
    struct http_peer *peers;
    size_t n_peers;
    bool has_hang_ups; /* to be looked at */
    size_t n_addresses;
    struct http_address_count *addresses;
    struct http_linger *lingers;
    size_t n_lingers;

    struct http_request *requests;
    size_t n_counted; /* of those, past the limit's check; streams included */
    size_t n_streams;
    size_t n_body_bytes;
    size_t n_alive; /* requests that exist */

    struct pool_error refusal; /* scratch */

    bool is_running; /* inside libmicrohttpd */
    bool is_quiescing, is_closing, is_closed;
    http_server_callback *on_quiet;
    void *quiet_context;
    http_server_callback *on_closed;
    void *closed_context;
};

/* http_server.c */
void http_server_run(struct http_server *server);
void http_server_sweep_soon(struct http_server *server);
bool http_server_watch(struct http_server *server, struct http_watch *watch, int fd, uint32_t events);
void http_server_unwatch(struct http_server *server, int fd);
void http_server_free_if_done(struct http_server *server);
/* Comes back to the server from the loop, for what must not happen deeper in the stack. */
void http_server_kick(struct http_server *server);
void http_server_close_handle(struct http_server *server, uv_handle_t *handle);

/* http_listener.c */
enum pool_code http_listeners_open(struct http_server *server, const struct http_server_options *options,
                                   struct pool_error *err);
/* Polling begins; the handles are initialised and counted. 0 or a libuv error. */
int http_listeners_start(struct http_server *server);
void http_listeners_close(struct http_server *server);

/* http_peer.c */
void http_peer_accept(struct http_server *server, int fd, enum http_transport transport,
                      const struct sockaddr_storage *address, socklen_t n_address);
void http_peer_notify(void *context, struct MHD_Connection *connection, void **socket_context,
                      enum MHD_ConnectionNotificationCode code);
void http_peers_close_idle(struct http_server *server);
/* After libmicrohttpd has read what there was: what becomes of clients that send no more. */
void http_peers_check_hang_ups(struct http_server *server);
void http_peers_sweep(struct http_server *server, int64_t now_ns);
struct http_peer *http_peer_of(struct MHD_Connection *connection);

/* http_linger.c */
/* Takes a copy of fd and reads on for a while after the library has closed its own. */
void http_linger_begin(struct http_server *server, int fd);
void http_lingers_sweep(struct http_server *server, int64_t now_ns);
void http_lingers_close(struct http_server *server);

/* http_request.c */
void *http_request_line(void *context, const char *target, struct MHD_Connection *connection);
enum MHD_Result http_request_handle(void *context, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *upload,
                                    size_t *n_upload, void **request_context);
void http_request_completed(void *context, struct MHD_Connection *connection, void **request_context,
                            enum MHD_RequestTerminationCode code);
void http_request_end(struct http_request *request, bool is_sent);
void http_request_free_if_done(struct http_request *request);
/* Cuts the connection off: what waits is told, what is being sent stops. */
void http_request_drop(struct http_request *request);
void http_request_resume(struct http_request *request);
void http_request_tell_gone(struct http_request *request);

/* http_admission.c */
/* Framing, Host, Origin, sizes, content type, overload, correlation id. false: *error says why, *ret_status how. */
bool http_admit(struct http_request *request, const char *method, const char *version,
                struct pool_error *error, unsigned *ret_status);

/* http_response.c */
/* An answer of the server itself, not of the owner. */
void http_refuse(struct http_request *request, unsigned status, const struct pool_error *error);
/* A whole refusal as bytes, past libmicrohttpd, for where it takes none. */
void http_send_refusal(int fd, unsigned status, const struct pool_error *error, const char *correlation_id);
bool http_response_finish(struct http_request *request, struct MHD_Response *response,
                          const char *content_type);

/* http_stream.c */
void http_streams_sweep(struct http_server *server, int64_t now_ns);

#endif
