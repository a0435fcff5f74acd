/*
 * Whether a request is fit to be served, judged by its request line and header alone. Owns what libmicrohttpd 0.9
 * leaves to its user: it takes two Host or Content-Length fields, Content-Length beside Transfer-Encoding, and waits for
 * ever for the end of a coding it does not know (RFC 9112, sections 3.2, 6.1, 6.3). And the checks against pages of
 * other origins in a browser on this machine: Host (rebinding of names), Origin, content type.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/number.h"
#include "base/random.h"
#include "managerd/http_internal.h"

/* What one walk over the header finds. */
struct header_facts {
    const char *host, *origin, *content_type, *length, *encoding, *correlation_id, *fetch_site;
    size_t n_hosts, n_lengths, n_encodings, n_fields, n_origins, n_types, n_authorizations;
    bool is_malformed;
    const char *end; /* of what was seen, without its line end */
    bool is_gapped;  /* there were bytes that belong to no field */
};

static bool is_token(const char *text, size_t n)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_letter && (c == '\0' || !strchr(others, c)))
            return false;
    }
    return n > 0;
}

/* No control characters but the tab: a folded line or a stray CR is among them. */
static bool is_field_value(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
            return false;
    return true;
}

static bool is_named(const char *name, size_t n, const char *wanted)
{
    return strlen(wanted) == n && strncasecmp(name, wanted, n) == 0;
}

static enum MHD_Result see_field(void *context, enum MHD_ValueKind kind, const char *name, size_t n_name,
                                 const char *value, size_t n_value)
{
    struct header_facts *facts = context;
    (void)kind;
    facts->n_fields++;
    if (!value)
        value = "";
    facts->is_gapped |= name != facts->end + 2;
    facts->end = value + n_value;
    if (!is_token(name, n_name) || !is_field_value(value, n_value)) {
        facts->is_malformed = true;
    } else if (is_named(name, n_name, "Host")) {
        facts->host = value;
        facts->n_hosts++;
    } else if (is_named(name, n_name, "Content-Length")) {
        facts->length = value;
        facts->n_lengths++;
    } else if (is_named(name, n_name, "Transfer-Encoding")) {
        facts->encoding = value;
        facts->n_encodings++;
    } else if (is_named(name, n_name, "Origin")) {
        facts->origin = value;
        facts->n_origins++;
    } else if (is_named(name, n_name, "Content-Type")) {
        facts->content_type = value;
        facts->n_types++;
    } else if (is_named(name, n_name, "Sec-Fetch-Site")) {
        facts->fetch_site = value;
    } else if (is_named(name, n_name, "Authorization")) {
        facts->n_authorizations++;
    } else if (is_named(name, n_name, "X-Correlation-Id") && !facts->correlation_id) {
        facts->correlation_id = value;
    }
    return MHD_YES;
}

/* RFC 9562 version 4, as random_uuid() makes them, from bytes that were drawn ahead. */
static bool draw_uuid(struct http_server *server, char text[UUID_TEXT_MAX])
{
    static const size_t ends[] = { 8, 12, 16, 20, 32 };
    char hex[HEX_TEXT_MAX(16)];
    if (server->n_random < 16) {
        if (!random_bytes(server->random, sizeof(server->random)))
            return false;
        server->n_random = sizeof(server->random);
    }
    server->n_random -= 16;
    uint8_t *bytes = server->random + server->n_random;
    bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40);
    bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80);
    hex_encode(bytes, 16, hex);
    for (size_t i = 0, at = 0; i < 5; at = ends[i++]) {
        memcpy(text, hex + at, ends[i] - at);
        text += ends[i] - at;
        *text++ = i < 4 ? '-' : '\0';
    }
    return true;
}

static void set_correlation_id(struct http_request *request, const char *given)
{
    size_t n = given ? strlen(given) : 0;
    bool is_valid = n >= 1 && n < sizeof(request->correlation_id);
    for (size_t i = 0; i < n && is_valid; i++) {
        char c = given[i];
        is_valid = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
    }
    if (is_valid)
        memcpy(request->correlation_id, given, n + 1);
    else if (!draw_uuid(request->server, request->correlation_id))
        snprintf(request->correlation_id, sizeof(request->correlation_id), "%016" PRIx64,
                 (uint64_t)request->arrived_ns);
}

/* --- Host and Origin --------------------------------------------------------------------------------------------- */

#define HOST_MAX 256

/* "name", "name:port", "[v6]:port", without a final dot, in lower case for nobody: names are compared without case. */
static bool read_host(const char *text, char name[HOST_MAX])
{
    size_t n = strcspn(text, ":");
    const char *port = text + n;
    if (*text == '[') {
        n = strcspn(text, "]");
        if (text[n] != ']')
            return false;
        port = text + n + 1;
        text++;
        n--;
    }
    int64_t number;
    if (*port == ':' && port[1] && !parse_int64(port + 1, 0, UINT16_MAX, &number))
        return false;
    if (*port && *port != ':')
        return false;
    if (n > 1 && text[n - 1] == '.')
        n--;
    if (n == 0 || n >= HOST_MAX)
        return false;
    memcpy(name, text, n);
    name[n] = '\0';
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:") == n;
}

/* The address the client connected to, or loopback: an address cannot be rebound, and it got here by it. */
static bool is_our_address(const struct sockaddr_storage *local, const char *name)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, name, &v4) == 1) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)local)->sin6_addr;
        if ((ntohl(v4.s_addr) >> 24) == 127)
            return true;
        if (local->ss_family == AF_INET)
            return ((const struct sockaddr_in *)local)->sin_addr.s_addr == v4.s_addr;
        return local->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six) &&
               memcmp(six->s6_addr + 12, &v4, sizeof(v4)) == 0;
    }
    if (inet_pton(AF_INET6, name, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) ||
           (local->ss_family == AF_INET6 &&
            memcmp(&v6, &((const struct sockaddr_in6 *)local)->sin6_addr, sizeof(v6)) == 0);
}

static bool is_our_name(const struct http_request *request, const char *name)
{
    const struct http_server *server = request->server;
    if (strcasecmp(name, "localhost") == 0)
        return true;
    for (size_t i = 0; i < server->n_host_names; i++)
        if (strcasecmp(name, server->host_names[i]) == 0)
            return true;
    return is_our_address(&request->peer->local, name);
}

static bool deny(struct pool_error *error, enum pool_code code, const char *field, const char *message)
{
    pool_error_set(error, code, "%s", message);
    pool_error_set_field(error, "%s", field);
    return false;
}

static bool check_host(const struct http_request *request, const struct header_facts *facts,
                       struct pool_error *error)
{
    char name[HOST_MAX];
    /* The target's authority goes before the field (RFC 9112, section 3.2.2). */
    const char *host = request->target.authority ? request->target.authority : facts->host;
    if (request->transport == HTTP_UNIX)
        return true;
    if (!host || !read_host(host, name))
        return deny(error, POOL_INVALID_REQUEST, "Host", "the Host field is missing or malformed");
    if (!is_our_name(request, name))
        return deny(error, POOL_PERMISSION_DENIED, "Host",
                    "this host is not known by the name in the Host field");
    /* A browser sends no Origin with what a page of another origin embeds; the newer ones say so in this field. */
    if (facts->fetch_site && strcmp(facts->fetch_site, "same-origin") != 0 &&
        strcmp(facts->fetch_site, "none") != 0)
        return deny(error, POOL_PERMISSION_DENIED, "Sec-Fetch-Site",
                    "requests from pages of another origin are refused");
    if (!facts->origin)
        return true;
    const char *origin = strstr(facts->origin, "://");
    if (facts->n_origins != 1 || !origin || strcasecmp(origin + 3, host) != 0)
        return deny(error, POOL_PERMISSION_DENIED, "Origin",
                    "requests from pages of another origin are refused");
    return true;
}

/*
 * Whether every byte of the request line and the header is accounted for. The parser of libmicrohttpd 0.9 cuts a text
 * at a NUL, takes a bare LF for the end of a line, unfolds folded ones, and takes a line that begins with a colon for
 * the end of the header; another parser in front of us would go on. It works in place and in order, which is what lets
 * us see it: a space of the request line is one byte, a line end two, and the empty line ends where the header does.
 * Version 1.0 has another parser, which refuses these itself.
 */
static bool is_gapless(const struct http_request *request, const struct header_facts *facts,
                       const char *method, const char *version, size_t n_header)
{
    if (strncmp(MHD_get_version(), "0.9.", 4) != 0)
        return true;
    return method + strlen(method) + 1 + request->n_target + 1 == version && !facts->is_gapped &&
           facts->end + 4 == method + n_header;
}

/* --- framing and size -------------------------------------------------------------------------------------------- */

static bool check_framing(const struct header_facts *facts, const char *version, struct pool_error *error)
{
    if (facts->is_malformed)
        return deny(error, POOL_INVALID_REQUEST, "", "the header has a malformed field");
    if (facts->n_hosts > 1)
        return deny(error, POOL_INVALID_REQUEST, "Host", "more than one Host field");
    if (facts->n_lengths > 1)
        return deny(error, POOL_INVALID_REQUEST, "Content-Length", "more than one Content-Length field");
    if (facts->n_authorizations > 1)
        return deny(error, POOL_INVALID_REQUEST, "Authorization", "more than one Authorization field");
    if (facts->encoding && facts->length)
        return deny(error, POOL_INVALID_REQUEST, "Transfer-Encoding",
                    "Content-Length and Transfer-Encoding do not go together");
    if (facts->encoding && (facts->n_encodings != 1 || strcasecmp(facts->encoding, "chunked") != 0))
        return deny(error, POOL_INVALID_REQUEST, "Transfer-Encoding",
                    "the only transfer coding known is 'chunked'");
    if (facts->encoding && strcmp(version, MHD_HTTP_VERSION_1_1) != 0)
        return deny(error, POOL_INVALID_REQUEST, "Transfer-Encoding", "transfer codings came with HTTP/1.1");
    if (!facts->host && strcmp(version, MHD_HTTP_VERSION_1_1) == 0)
        return deny(error, POOL_INVALID_REQUEST, "Host", "HTTP/1.1 asks for a Host field");
    return true;
}

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    if (strncasecmp(type, json, sizeof(json) - 1) != 0)
        return false;
    const char *rest = type + sizeof(json) - 1;
    rest += strspn(rest, " \t");
    if (!*rest)
        return true;
    if (*rest++ != ';')
        return false;
    rest += strspn(rest, " \t");
    return !*rest || strcasecmp(rest, "charset=utf-8") == 0 || strcasecmp(rest, "charset=\"utf-8\"") == 0;
}

static bool check_body(struct http_request *request, const struct header_facts *facts,
                       struct pool_error *error)
{
    int64_t n_body = 0;
    size_t limit = request->server->options.max_body_bytes;
    if (facts->length && !parse_int64(facts->length, 0, INT64_MAX, &n_body))
        return deny(error, POOL_INVALID_REQUEST, "Content-Length", "Content-Length is no number");
    if ((uint64_t)n_body > limit) {
        pool_error_set(error, POOL_PAYLOAD_TOO_LARGE, "the body has %" PRId64 " bytes, %zu are allowed",
                       n_body, limit);
        pool_error_add_number(error, "max_body_bytes", (int64_t)limit);
        return false;
    }
    if (n_body == 0 && !facts->encoding)
        return true;
    bool is_json = facts->n_types == 1 && is_json_type(facts->content_type);
    if (!is_json)
        return deny(error, POOL_UNSUPPORTED_MEDIA_TYPE, "Content-Type",
                    "a body must be application/json in UTF-8");
    return true;
}

static bool check_size(const struct http_request *request, const struct header_facts *facts, size_t n_header,
                       struct pool_error *error, unsigned *ret_status)
{
    if (request->n_target > HTTP_TARGET_MAX_BYTES) {
        *ret_status = MHD_HTTP_URI_TOO_LONG;
        pool_error_set(error, POOL_INVALID_REQUEST, "the target has more than %d bytes",
                       HTTP_TARGET_MAX_BYTES);
        return false;
    }
    if (facts->n_fields > HTTP_HEADERS_MAX || n_header > HTTP_HEADERS_MAX_BYTES) {
        *ret_status = MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
        pool_error_set(error, POOL_INVALID_REQUEST, "the header has more than %d bytes or %d fields",
                       HTTP_HEADERS_MAX_BYTES, HTTP_HEADERS_MAX);
        return false;
    }
    return true;
}

static bool check_method(struct http_request *request, const char *method, struct pool_error *error)
{
    size_t n = strlen(method);
    if (!is_token(method, n) || n > HTTP_METHOD_MAX)
        return deny(error, POOL_INVALID_REQUEST, "", "the method is malformed");
    memcpy(request->method, method, n + 1);
    request->is_head = strcmp(method, "HEAD") == 0;
    return true;
}

static bool check_target(struct http_request *request, struct pool_error *error)
{
    char *segments = request->target_text + request->n_target + 2;
    const char *wrong = http_target_parse(request->target_text, segments, &request->target);
    return !wrong || deny(error, POOL_INVALID_REQUEST, "", wrong);
}

bool http_admit(struct http_request *request, const char *method, const char *version,
                struct pool_error *error, unsigned *ret_status)
{
    struct header_facts facts = { .end = version + strlen(version) };
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t n_header = info ? info->header_size : 0;
    (void)MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, see_field, &facts);
    set_correlation_id(request, facts.correlation_id);
    request->has_body = facts.encoding || (facts.length && strspn(facts.length, "0") != strlen(facts.length));
    if (request->peer->refusal != POOL_OK) {
        request->must_close = true;
        pool_error_set(error, request->peer->refusal, "too many connections%s",
                       request->peer->refusal == POOL_RATE_LIMITED ? " from this address" : "");
        return false;
    }
    /* What is wrong with the framing or the size says that the two sides do not agree where a request ends. */
    request->must_close = true;
    facts.is_malformed |= !is_gapless(request, &facts, method, version, n_header);
    if (!check_size(request, &facts, n_header, error, ret_status) || !check_framing(&facts, version, error))
        return false;
    /* How chunks end is read in more than one way: libmicrohttpd takes a bare LF for the end of a chunk's line, and what is
     * an extension to one parser is data to another. Whatever follows such a body is never read as a request. */
    request->must_close = facts.encoding != NULL;
    return check_method(request, method, error) && check_target(request, error) &&
           check_host(request, &facts, error) && check_body(request, &facts, error);
}
