/*
 * Clients that mean no good: requests that two parsers read in two ways, names that are not ours, bytes without
 * meaning, too many of everything, and those who take for ever.
 */
#include "http_ground.h"

#define GET  "GET /now HTTP/1.1\r\n"
#define HOST "Host: localhost\r\n"
#define POST "POST /echo HTTP/1.1\r\n" HOST
#define JSON "Content-Type: application/json\r\n"
#define END  "\r\n"

struct hostile {
    const char *text;
    int status;       /* 0: closed without an answer, as libmicrohttpd does with what is no HTTP */
    const char *code; /* of the error; NULL: libmicrohttpd's own answer, or none */
};

static const struct hostile framing[] = {
    { GET HOST END, 200, NULL },
    { "GET /now HTTP/1.0\r\n" HOST END, 200, NULL },
    { GET END, 400, "INVALID_REQUEST" },
    { "GET /now HTTP/1.0\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST HOST END, 400, "INVALID_REQUEST" },
    { GET HOST "host: localhost\r\n" END, 400, "INVALID_REQUEST" },
    { POST JSON "Content-Length: 2\r\nContent-Length: 2\r\n" END "{}", 400, "INVALID_REQUEST" },
    { POST JSON "Content-Length: 2\r\nContent-Length: 20\r\n" END "{}", 400, "INVALID_REQUEST" },
    { POST JSON "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n", 400,
      "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n" END "{}", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: gzip, chunked\r\n" END "0\r\n\r\n", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: xchunked\r\n" END "0\r\n\r\n", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: identity\r\n" END "{}", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: chunked, chunked\r\n" END "0\r\n\r\n", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" END "0\r\n\r\n", 400,
      "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding : chunked\r\n" END "0\r\n\r\n", 400, "INVALID_REQUEST" },
    { POST JSON "Transfer-Encoding:\x0b"
                "chunked\r\n" END "0\r\n\r\n",
      400, "INVALID_REQUEST" },
    { "POST /echo HTTP/1.0\r\n" HOST JSON "Transfer-Encoding: chunked\r\n" END "0\r\n\r\n", 400,
      "INVALID_REQUEST" },
    { POST JSON "Content-Length: -2\r\n" END, 400, NULL },
    { POST JSON "Content-Length: +2\r\n" END "{}", 400, NULL },
    { POST JSON "Content-Length: 0x2\r\n" END "{}", 400, NULL },
    { POST JSON "Content-Length: 2, 2\r\n" END "{}", 400, NULL },
    { POST JSON "Content-Length: 18446744073709551618\r\n" END "{}", 413, NULL },
    { POST JSON "Transfer-Encoding: chunked\r\n" END "+2\r\n{}\r\n0\r\n\r\n", 400, NULL },
    { POST JSON "Transfer-Encoding: chunked\r\n" END "-1\r\n{}\r\n0\r\n\r\n", 400, NULL },
    { POST JSON "Transfer-Encoding: chunked\r\n" END "2\r\n{}XX0\r\n\r\n", 400, NULL },
    { POST JSON "Transfer-Encoding: chunked\r\n" END "fffffffffffffffff\r\n{}", 413, NULL },
    { GET HOST "Bad Name: 1\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "Bad\x01: 1\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST ": no name\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST ":\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "X-Folded: a\r\n b\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "X-Bare: a\nX-Lf: b\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "X-Bare: a\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "\n", 400, "INVALID_REQUEST" },
    { "GET /now HTTP/1.1\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /now HTTP/1.1 \r\n" HOST END, 400, NULL },
    { GET HOST "X-Empty:\r\nX-Blank:  \r\nX-Spaces: a b \t \r\nX-Tight:a\r\n" END, 200, NULL },
    { GET HOST "Cookie: a=b; c=d\r\nCookie: e\r\n" END, 200, NULL },
    { GET HOST "X-Control: a\x08z\r\n" END, 400, "INVALID_REQUEST" },
    { GET HOST "no colon\r\n" END, 400, NULL },
    { "GET /now HTTP/9.9\r\n" HOST END, 505, NULL },
    { "G(T /now HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "AVERYVERYLONGMETHOD /now HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /a%2Fb HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /%00 HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /%ff HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /\xff HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /a/../b HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /now?q=1&q=2 HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET now HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "GET /a b HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "OPTIONS * HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "CONNECT localhost:80 HTTP/1.1\r\n" HOST END, 400, "INVALID_REQUEST" },
    { "\r\n\r\n" GET HOST END, 200, NULL },
};

static const struct hostile origins[] = {
    { GET "Host: 127.0.0.1\r\n" END, 200, NULL },
    { GET "Host: 127.0.0.1:9200\r\n" END, 200, NULL },
    { GET "Host: 127.8.8.8\r\n" END, 200, NULL },
    { GET "Host: [::1]:1\r\n" END, 200, NULL },
    { GET "Host: LocalHost.\r\n" END, 200, NULL },
    { GET "Host: gpu-7.example:80\r\n" END, 200, NULL },
    { "GET http://gpu-7.example/now HTTP/1.1\r\nHost: evil.example\r\n" END, 200, NULL },
    { "GET http://evil.example/now HTTP/1.1\r\n" HOST END, 403, "PERMISSION_DENIED" },
    { GET "Host: evil.example\r\n" END, 403, "PERMISSION_DENIED" },
    { GET "Host: localhost.evil.example\r\n" END, 403, "PERMISSION_DENIED" },
    { GET "Host: 10.1.2.3\r\n" END, 403, "PERMISSION_DENIED" },
    { GET "Host: [fe80::1]\r\n" END, 403, "PERMISSION_DENIED" },
    { GET "Host: \r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: localhost:port\r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: localhost:99999\r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: user@localhost\r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: [::1\r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: ::1\r\n" END, 400, "INVALID_REQUEST" },
    { GET "Host: localhost:9\r\nOrigin: http://localhost:9\r\n" END, 200, NULL },
    { GET HOST "Origin: http://evil.example\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Origin: http://localhost:3000\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Origin: null\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Origin: http://localhost\r\nOrigin: http://localhost\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Sec-Fetch-Site: cross-site\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Sec-Fetch-Site: same-site\r\n" END, 403, "PERMISSION_DENIED" },
    { GET HOST "Sec-Fetch-Site: same-origin\r\n" END, 200, NULL },
    { GET HOST "Sec-Fetch-Site: none\r\n" END, 200, NULL },
    { GET HOST "Authorization: Bearer a\r\n" END, 200, NULL },
    { GET HOST "Authorization: Bearer a\r\nauthorization: Bearer b\r\n" END, 400, "INVALID_REQUEST" },
    { POST "Content-Length: 2\r\n" END "{}", 415, "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: text/plain\r\nContent-Length: 2\r\n" END "{}", 415, "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n" END "{}", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: application/jsonx\r\nContent-Length: 2\r\n" END "{}", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: application/json charset=utf-8\r\nContent-Length: 2\r\n" END "{}", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: application/json; charset=latin1\r\nContent-Length: 2\r\n" END "{}", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { POST JSON JSON "Content-Length: 2\r\n" END "{}", 415, "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n", 415,
      "UNSUPPORTED_MEDIA_TYPE" },
    { POST "Content-Type: Application/JSON ; Charset=UTF-8\r\nContent-Length: 2\r\n" END "{}", 200, NULL },
    { POST "Content-Length: 0\r\n" END, 200, NULL },
    { POST END, 200, NULL },
};

static void ask_all(struct ground *ground, const struct hostile *rows, size_t n_rows)
{
    struct answer answer = { 0 };
    for (size_t i = 0; i < n_rows; i++) {
        int status = ask(ground, rows[i].text, strlen(rows[i].text), &answer);
        char code[64];
        snprintf(code, sizeof(code), "\"code\":\"%s\"", rows[i].code ? rows[i].code : "");
        if (status != rows[i].status || (rows[i].code && !strstr(strbuf_text(&answer.body), code)))
            fail_msg("%d, not %d %s: %s\n%s", status, rows[i].status, rows[i].code ? rows[i].code : "",
                     rows[i].text, strbuf_text(&answer.body));
        if (rows[i].code)
            assert_string_not_equal(answer_field(&answer, "X-Correlation-Id"), "");
    }
    strbuf_done(&answer.body);
}

static void test_requests_that_can_be_read_in_two_ways(void **state)
{
    (void)state;
    struct ground ground;
    ground_open(&ground);
    ask_all(&ground, framing, sizeof(framing) / sizeof(framing[0]));
    wait_connections(&ground, 0);
    ground_close(&ground);
}

static void test_names_and_origins_that_are_not_ours(void **state)
{
    (void)state;
    static const char *const names[] = { "gpu-7.example" };
    struct ground ground;
    struct http_server_options options;
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.host_names = names;
    options.n_host_names = 1;
    ground_open_with(&ground, &options);
    ask_all(&ground, origins, sizeof(origins) / sizeof(origins[0]));
    ground_close(&ground);
}

/* A NUL, which ends the text for some. */
static void test_nul_bytes(void **state)
{
    (void)state;
    static const char *const texts[] = { GET HOST "X: a@b\r\n" END,
                                         GET HOST "X@: a\r\n" END,
                                         "GET /now@x HTTP/1.1\r\n" HOST END,
                                         GET HOST "X: a@\r\n" END,
                                         "GET /now?q=1@x HTTP/1.1\r\n" HOST END,
                                         "G@T /now HTTP/1.1\r\n" HOST END };
    struct ground ground;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char text[128];
        size_t n = strlen(texts[i]);
        memcpy(text, texts[i], n);
        *(char *)memchr(text, '@', n) = '\0';
        assert_int_equal(ask(&ground, text, n, &answer), 400);
    }
    assert_int_equal(ground.n_handled, 0);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* Byte by byte, wherever the pieces end: the same requests, the same answers. */
static void test_requests_in_pieces(void **state)
{
    (void)state;
    static const char text[] = GET HOST "X-Empty:\r\nCookie: a=b\r\n" END POST JSON
                                        "Transfer-Encoding: chunked\r\n" END "2\r\n{}\r\n0\r\n\r\n";
    struct ground ground;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t n_piece = 1; n_piece < sizeof(text); n_piece += 1 + n_piece / 3) {
        struct client client;
        client_open(&ground, &client);
        for (size_t at = 0; at < sizeof(text) - 1; at += n_piece) {
            size_t n_left = sizeof(text) - 1 - at;
            client_send_n(&ground, &client, text + at, n_left < n_piece ? n_left : n_piece);
            uv_run(&ground.loop, UV_RUN_NOWAIT);
        }
        client_answer(&ground, &client, &answer);
        assert_int_equal(answer.status, 200);
        client_answer(&ground, &client, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(strbuf_text(&answer.body), "{}");
        client_close(&client);
    }
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* What follows a refused framing on the same connection is never read as a request. */
static void test_nothing_is_smuggled(void **state)
{
    (void)state;
    static const char *const texts[] = {
        POST JSON "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n" END "0\r\n\r\n" GET HOST END,
        POST JSON "Content-Length: 5\r\nContent-Length: 0\r\n" END GET HOST END,
        POST JSON "Transfer-Encoding: x\r\n" END GET HOST END,
        GET HOST HOST END GET HOST END,
    };
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        client_open(&ground, &client);
        client_send(&ground, &client, texts[i]);
        client_answer(&ground, &client, &answer);
        assert_int_equal(answer.status, 400);
        assert_true(run_until(&ground, is_client_closed, &client));
        assert_int_equal(client.in.n, 0);
        client_close(&client);
    }
    assert_int_equal(ground.n_handled, 0);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* How chunks are cut is read in more than one way: a chunked request is the last one of its connection. */
static void test_nothing_hides_behind_chunks(void **state)
{
    (void)state;
    static const struct {
        const char *chunks;
        int status; /* 0: any */
    } rows[] = {
        { "2\r\n{}\r\n0\r\n\r\n", 200 },
        { "2\n{}\n0\n\n", 0 },
        { "2\r\n{}\n0\r\n\r\n", 0 },
        { "2;a\nb\r\n{}\r\n0\r\n\r\n", 0 },
        { "2;a\rb\r\n{}\r\n0\r\n\r\n", 0 },
        { "2;a=\"\r\n\"\r\n{}\r\n0\r\n\r\n", 0 },
        { "2 \r\n{}\r\n0\r\n\r\n", 400 },
        { " 2\r\n{}\r\n0\r\n\r\n", 400 },
        { "0x2\r\n{}\r\n0\r\n\r\n", 400 },
        { "2_0\r\n{}\r\n0\r\n\r\n", 400 },
        { "\r\n{}\r\n0\r\n\r\n", 400 },
        { "00000000000000000000000002\r\n{}\r\n0\r\n\r\n", 0 },
        { "2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n", 0 },
        { "2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", 0 },
        { "0\r\n\r\n", 200 },
    };
    struct ground ground;
    struct client client;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024];
        snprintf(text, sizeof(text), POST JSON "Transfer-Encoding: chunked\r\n" END "%s" GET HOST END,
                 rows[i].chunks);
        client_open(&ground, &client);
        client_send(&ground, &client, text);
        client_answer(&ground, &client, &answer);
        if (rows[i].status)
            assert_int_equal(answer.status, rows[i].status);
        assert_string_equal(answer_field(&answer, "Connection"), "close");
        assert_true(run_until(&ground, is_client_closed, &client));
        assert_string_not_equal(ground.last_path, "/now");
        client_close(&client);
    }
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_oversize_everything(void **state)
{
    (void)state;
    struct ground ground;
    struct answer answer = { 0 };
    static char text[128 << 10], filler[64 << 10];
    memset(filler, 'a', sizeof(filler) - 1);
    ground_open(&ground);
    const struct {
        int n_target, n_header, status;
    } rows[] = {
        { 8000, 10, 404 },  { 8300, 10, 414 },  { 15000, 10, 414 }, { 60000, 10, 414 },
        { 10, 15000, 404 }, { 10, 17000, 431 }, { 10, 60000, 431 }, { 8000, 8000, 404 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int n = snprintf(text, sizeof(text), "GET /%.*s HTTP/1.1\r\n" HOST "X-Filler: %.*s\r\n\r\n",
                         rows[i].n_target, filler, rows[i].n_header, filler);
        assert_int_equal(ask(&ground, text, (size_t)n, &answer), rows[i].status);
    }
    /* Many small fields. */
    struct strbuf many = STRBUF_INIT(sizeof(text));
    strbuf_add_text(&many, GET HOST);
    for (int i = 0; i < 70; i++)
        strbuf_printf(&many, "X-%d: 1\r\n", i);
    strbuf_add_text(&many, END);
    assert_int_equal(ask(&ground, strbuf_text(&many), many.n, &answer), 431);
    strbuf_done(&many);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* --- streams of chance --------------------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define N_STREAMS 10000
#else
#define N_STREAMS 600
#endif
#define STREAM_MAX 2048

static uint64_t chance_seed = 20240607;

/* 0 to n - 1; the same in every run. */
static size_t chance(size_t n)
{
    chance_seed = chance_seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (size_t)(chance_seed >> 33) % n;
}

static const char *const stream_patterns[] = {
    GET HOST "X-Empty:\r\nCookie: a=b\r\n" END,
    GET HOST "Origin: http://localhost\r\nIf-None-Match: \"a-1\"\r\n" END,
    "GET /echo/%e2%82%ac?q=%20a&r HTTP/1.1\r\n" HOST "X-Correlation-Id: abc-1\r\n" END,
    "GET http://localhost/now HTTP/1.1\r\n" HOST END,
    "GET /now HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n" END,
    "HEAD /stream HTTP/1.1\r\n" HOST END,
    "GET /stream HTTP/1.1\r\n" HOST END,
    "DELETE /now HTTP/1.1\r\n" HOST END,
    POST JSON "Content-Length: 2\r\n" END "{}",
    POST JSON "Expect: 100-continue\r\nContent-Length: 2\r\n" END "{}",
    POST JSON "Transfer-Encoding: chunked\r\n" END "2\r\n{}\r\n0\r\n\r\n",
    POST JSON "Transfer-Encoding: chunked\r\n" END "1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n",
};
static const char *const stream_pieces[] = {
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "%00",
    "%",
    "\"",
    "0\r\n\r\n",
    "ffffffff",
    "-1",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: localhost\r\n",
    "HTTP/1.1",
    "\xff\xfe",
    "\xc0\x80",
};

/* One or two requests, bent a few times; every fourth is bytes of chance alone. */
static size_t make_stream(char text[STREAM_MAX])
{
    size_t n = 0;
    if (chance(4) == 0) {
        n = 1 + chance(400);
        for (size_t i = 0; i < n; i++)
            text[i] = (char)chance(256);
        return n;
    }
    for (size_t i = 0; i < 1 + chance(2); i++) {
        const char *pattern = stream_patterns[chance(sizeof(stream_patterns) / sizeof(stream_patterns[0]))];
        memcpy(text + n, pattern, strlen(pattern));
        n += strlen(pattern);
    }
    for (size_t i = chance(6); i > 0; i--) {
        const char *piece = stream_pieces[chance(sizeof(stream_pieces) / sizeof(stream_pieces[0]))];
        size_t at = chance(n), n_piece = strlen(piece), n_cut = chance(8);
        switch (chance(4)) {
        case 0: text[at] = (char)chance(256); break;
        case 1: /* something in between */
            memmove(text + at + n_piece, text + at, n - at);
            memcpy(text + at, piece, n_piece);
            n += n_piece;
            break;
        case 2: /* something is missing */
            n_cut = n_cut < n - at ? n_cut : n - at - 1;
            memmove(text + at, text + at + n_cut, n - at - n_cut);
            n -= n_cut;
            break;
        default: text[at] ^= (char)(1 << chance(8)); break;
        }
    }
    return n;
}

/* Whatever comes: an answer or none, never a crash, and the next client is served. Under ASan 10,000 of them. */
static void test_streams_of_chance(void **state)
{
    (void)state;
    struct ground ground;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (int i = 0; i < N_STREAMS; i++) {
        struct client client;
        char text[STREAM_MAX];
        size_t n = make_stream(text);
        client_open(&ground, &client);
        for (size_t at = 0, n_piece; at < n; at += n_piece) {
            n_piece = chance(4) == 0 ? 1 + chance(n - at) : n - at;
            client_send_n(&ground, &client, text + at, n_piece);
            if (at + n_piece < n)
                uv_run(&ground.loop, UV_RUN_NOWAIT);
        }
        (void)shutdown(client.fd, SHUT_WR);
        assert_true(run_until(&ground, is_client_closed, &client));
        if (client.in.n > 0 && strncmp(strbuf_text(&client.in), "HTTP/1.", 7) != 0)
            fail_msg("stream %d: %s", i, strbuf_text(&client.in));
        while (ground.n_held > 0) /* streams, whose client is gone by now */
            http_stream_end(take_held(&ground));
        client_close(&client);
    }
    assert_int_equal(ask(&ground, GET HOST END, strlen(GET HOST END), &answer), 200);
    wait_connections(&ground, 0);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* --- numbers ----------------------------------------------------------------------------------------------------- */

static void test_too_many_connections(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client clients[4 + HTTP_CONNECTIONS_SPARE + 1];
    const size_t n_all = sizeof(clients) / sizeof(clients[0]);
    struct answer answer = { 0 };
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.max_connections = 4;
    ground_open_with(&ground, &options);
    for (size_t i = 0; i < n_all - 1; i++)
        client_open(&ground, &clients[i]);
    wait_connections(&ground, n_all - 1);
    /* Beyond the limit: refused when it asks; beyond the places for that: at once, without having asked. */
    client_get(&ground, &clients[4], "/now");
    client_open(&ground, &clients[n_all - 1]);
    for (size_t i = 4; i < n_all; i += n_all - 5) {
        client_answer(&ground, &clients[i], &answer);
        assert_int_equal(answer.status, 503);
        assert_string_equal(answer_field(&answer, "Retry-After"), HTTP_RETRY_AFTER);
        assert_string_equal(answer_field(&answer, "Connection"), "close");
        assert_string_not_equal(answer_field(&answer, "X-Correlation-Id"), "");
        assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"OVERLOADED\""));
        assert_true(run_until(&ground, is_client_closed, &clients[i]));
    }
    /* Those within it are served as ever, and places become free again. */
    client_get(&ground, &clients[0], "/now");
    client_answer(&ground, &clients[0], &answer);
    assert_int_equal(answer.status, 200);
    for (size_t i = 0; i < n_all; i++)
        client_close(&clients[i]);
    wait_connections(&ground, 0);
    assert_int_equal(ask(&ground, GET HOST END, strlen(GET HOST END), &answer), 200);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_too_many_connections_of_one_address(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client clients[3];
    struct answer answer = { 0 };
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.max_connections_per_loopback_address = 2;
    ground_open_with(&ground, &options);
    for (size_t i = 0; i < 3; i++)
        client_open(&ground, &clients[i]);
    wait_connections(&ground, 3);
    client_get(&ground, &clients[2], "/now");
    client_answer(&ground, &clients[2], &answer);
    assert_int_equal(answer.status, 429);
    assert_non_null(strstr(strbuf_text(&answer.body), "\"code\":\"RATE_LIMITED\""));
    client_close(&clients[0]);
    client_close(&clients[2]);
    wait_connections(&ground, 1);
    assert_int_equal(ask(&ground, GET HOST END, strlen(GET HOST END), &answer), 200);
    client_close(&clients[1]);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_too_many_requests(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client clients[3];
    struct answer answer = { 0 };
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.max_requests = 2;
    ground_open_with(&ground, &options);
    for (size_t i = 0; i < 2; i++) {
        client_open(&ground, &clients[i]);
        client_get(&ground, &clients[i], "/later");
    }
    wait_held(&ground, 2);
    client_open(&ground, &clients[2]);
    client_get(&ground, &clients[2], "/now");
    client_answer(&ground, &clients[2], &answer);
    assert_int_equal(answer.status, 503);
    assert_string_equal(answer_field(&answer, "Retry-After"), HTTP_RETRY_AFTER);
    /* The connection stays, for the retry. */
    http_respond(take_held(&ground), 200, NULL, NULL, 0, HTTP_STATIC);
    client_answer(&ground, &clients[0], &answer);
    client_get(&ground, &clients[2], "/now");
    client_answer(&ground, &clients[2], &answer);
    assert_int_equal(answer.status, 200);
    for (size_t i = 0; i < 3; i++)
        client_close(&clients[i]);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_a_thousand_connections(void **state)
{
    (void)state;
    enum { N = 1000 };
    static struct client clients[N];
    struct ground ground;
    struct answer answer = { 0 };
    ground_open(&ground);
    for (size_t i = 0; i < N; i++) {
        client_open(&ground, &clients[i]);
        if (i % 100 == 99)
            wait_connections(&ground, i + 1);
    }
    for (size_t i = 0; i < N; i++)
        client_get(&ground, &clients[i], i % 2 ? "/now" : "/later");
    wait_held(&ground, N / 2);
    while (ground.n_held > 0)
        http_respond(take_held(&ground), 200, NULL, "later", 5, HTTP_STATIC);
    for (size_t i = 0; i < N; i++) {
        client_answer(&ground, &clients[i], &answer);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body.n, i % 2 ? 11 : 5);
    }
    for (size_t i = 0; i < N; i++)
        client_close(&clients[i]);
    wait_connections(&ground, 0);
    assert_int_equal(ground.n_answered, N);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

/* --- time -------------------------------------------------------------------------------------------------------- */

/* A byte now and then, for ever: never silent, never done. */
static void test_slow_senders_are_cut_off(void **state)
{
    (void)state;
    static const char *const starts[] = { "GET /now HTTP/1.1\r\nX-Slow: ",
                                          POST JSON "Content-Length: 100000\r\n" END };
    struct ground ground;
    struct http_server_options options;
    struct client clients[2], waiting;
    struct answer answer = { 0 };
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.receive_timeout_ms = 200;
    options.idle_timeout_ms = 1000;
    ground_open_with(&ground, &options);
    client_open(&ground, &waiting);
    client_get(&ground, &waiting, "/later");
    wait_held(&ground, 1);
    for (size_t i = 0; i < 2; i++) {
        client_open(&ground, &clients[i]);
        client_send(&ground, &clients[i], starts[i]);
    }
    for (size_t i = 0; i < 2; i++) {
        int64_t deadline_ns = clock_boottime_ns() + GROUND_DEADLINE_MS * NS_PER_MS;
        while (!clients[i].is_closed && clock_boottime_ns() < deadline_ns) {
            (void)!send(clients[i].fd, "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            uv_run(&ground.loop, UV_RUN_NOWAIT);
            client_receive(&clients[i]);
        }
        assert_true(clients[i].is_closed);
        client_close(&clients[i]);
    }
    /* One that waits for us is not slow, however long we take. */
    int64_t patience_ns = clock_boottime_ns() + 1300 * NS_PER_MS;
    while (clock_boottime_ns() < patience_ns)
        uv_run(&ground.loop, UV_RUN_NOWAIT);
    assert_int_equal(ground.n_gone, 0);
    http_respond(take_held(&ground), 200, NULL, "patience", 8, HTTP_STATIC);
    client_answer(&ground, &waiting, &answer);
    assert_string_equal(strbuf_text(&answer.body), "patience");
    /* Idle then, it is closed. */
    assert_true(run_until(&ground, is_client_closed, &waiting));
    client_close(&waiting);
    strbuf_done(&answer.body);
    ground_close(&ground);
}

static void test_slow_readers_are_cut_off(void **state)
{
    (void)state;
    struct ground ground;
    struct http_server_options options;
    struct client client;
    ground_open_loop(&ground);
    ground_defaults(&ground, &options);
    options.receive_timeout_ms = 200;
    options.idle_timeout_ms = 1000;
    ground_open_with(&ground, &options);
    client_open(&ground, &client);
    client_get(&ground, &client, "/later");
    wait_held(&ground, 1);
    /* More than the kernel takes in for it. */
    const size_t n = 32 << 20;
    char *body = calloc(1, n);
    assert_non_null(body);
    http_respond(take_held(&ground), 200, NULL, body, n, HTTP_TAKE);
    wait_connections(&ground, 0);
    assert_int_equal(ground.n_answered, 1);
    client_close(&client);
    ground_close(&ground);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_that_can_be_read_in_two_ways),
        cmocka_unit_test(test_names_and_origins_that_are_not_ours),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_requests_in_pieces),
        cmocka_unit_test(test_nothing_is_smuggled),
        cmocka_unit_test(test_nothing_hides_behind_chunks),
        cmocka_unit_test(test_oversize_everything),
        cmocka_unit_test(test_streams_of_chance),
        cmocka_unit_test(test_too_many_connections),
        cmocka_unit_test(test_too_many_connections_of_one_address),
        cmocka_unit_test(test_too_many_requests),
        cmocka_unit_test(test_a_thousand_connections),
        cmocka_unit_test(test_slow_senders_are_cut_off),
        cmocka_unit_test(test_slow_readers_are_cut_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
