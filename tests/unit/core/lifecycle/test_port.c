/*
 * Ports: what the kernel says of real listeners, whether a port can be bound, and whose a listener is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "core/lifecycle/port.h"
#include "core/lifecycle/process.h"

/* ---- sockets of our own ---- */

#define REUSEPORT true

/* A socket that listens; *port 0: the kernel chooses, and says. */
static int listen_at(const char *host, uint16_t *port, bool is_shared)
{
    struct bind_address address;
    int yes = 1;
    assert_true(bind_address_parse(host, *port, &address));
    int fd = socket(address.bind.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), 0);
    if (is_shared)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address.bind, address.length), 0);
    assert_int_equal(listen(fd, 4), 0);
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &n), 0);
    *port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                             : ((struct sockaddr_in6 *)&bound)->sin6_port);
    return fd;
}

static uint64_t inode_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_ino;
}

static bool has_ipv6(void)
{
    CLEANUP_CLOSE int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
    return fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
}

static void test_listeners_of_this_host(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool is_ipv6;
        uint8_t address[16];
    } cases[] = {
        { "127.0.0.1", false, { 127, 0, 0, 1 } },
        { "127.0.0.2", false, { 127, 0, 0, 2 } },
        { "0.0.0.0", false, { 0 } },
        { "localhost", false, { 127, 0, 0, 1 } },
        { "::1", true, { [15] = 1 } },
        { "::", true, { 0 } },
    };
    bool is_ipv6_there = has_ipv6();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].is_ipv6 && !is_ipv6_there)
            continue;
        uint16_t port = 0;
        CLEANUP_CLOSE int fd = listen_at(cases[i].host, &port, false);
        CLEANUP(listeners_done) struct listeners list = { 0 };
        assert_int_equal(listeners_read(&list), 0);
        size_t n_found = 0;
        for (size_t k = 0; k < list.n; k++) {
            if (list.at[k].port != port)
                continue;
            n_found++;
            assert_int_equal(list.at[k].socket_inode, inode_of(fd));
            assert_int_equal(list.at[k].uid, geteuid());
            assert_int_equal(list.at[k].is_ipv6, cases[i].is_ipv6);
            assert_memory_equal(list.at[k].address, cases[i].address, 16);
        }
        assert_int_equal(n_found, 1);
        close(take_fd(&fd));
        assert_int_equal(listeners_read(&list), 0); /* reads anew into the same list */
        for (size_t k = 0; k < list.n; k++)
            assert_int_not_equal(list.at[k].port, port);
    }
}

static void test_many_listeners(void **state)
{
    (void)state;
    enum { N = 300 }; /* more than one datagram of the kernel's answer holds */
    int fds[N];
    uint16_t ports[N];
    for (size_t i = 0; i < N; i++) {
        ports[i] = 0;
        fds[i] = listen_at("127.0.0.1", &ports[i], false);
    }
    CLEANUP(listeners_done) struct listeners list = { 0 };
    int failure = listeners_read(&list);
    size_t n_found = 0;
    for (size_t i = 0; i < N; i++) {
        for (size_t k = 0; k < list.n; k++)
            n_found += list.at[k].port == ports[i] && list.at[k].socket_inode == inode_of(fds[i]);
        close(fds[i]);
    }
    assert_int_equal(failure, 0);
    assert_int_equal(n_found, N);
}

/* ---- port_test ---- */

static void test_a_free_and_a_held_port(void **state)
{
    (void)state;
    uint16_t port = 0;
    CLEANUP_CLOSE int fd = listen_at("127.0.0.1", &port, false);
    assert_int_equal(port_test("127.0.0.1", port), EADDRINUSE);
    assert_int_equal(port_test("localhost", port), EADDRINUSE);
    assert_int_equal(port_test("0.0.0.0", port), EADDRINUSE);
    assert_int_equal(port_test("127.0.0.2", port), 0);
    close(take_fd(&fd));
    assert_int_equal(port_test("127.0.0.1", port), 0);
    assert_int_equal(port_test("127.0.0.1", port), 0); /* the test itself leaves nothing behind */
    assert_int_equal(port_test("example.org", port), EADDRNOTAVAIL);
    assert_int_equal(port_test("192.0.2.1", port), EADDRNOTAVAIL); /* TEST-NET-1: no address of this host */
    CLEANUP_CLOSE int shared = listen_at("127.0.0.1", &port, REUSEPORT);
    assert_true(shared >= 0);
    assert_int_equal(port_test("127.0.0.1", port), EADDRINUSE);
}

static void test_time_wait_is_no_owner(void **state)
{
    (void)state;
    uint16_t port = 0;
    char byte;
    struct bind_address address;
    CLEANUP_CLOSE int fd = listen_at("127.0.0.1", &port, false);
    assert_true(bind_address_parse("127.0.0.1", port, &address));
    CLEANUP_CLOSE int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address.reach, address.length), 0);
    CLEANUP_CLOSE int server = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(server >= 0);
    close(take_fd(&server)); /* who closes first keeps the TIME_WAIT, here the side of the port */
    assert_int_equal(read(client, &byte, 1), 0);
    close(take_fd(&client));
    close(take_fd(&fd));
    CLEANUP_CLOSE int plain = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(plain, (struct sockaddr *)&address.bind, address.length), -1);
    assert_int_equal(errno, EADDRINUSE); /* so it is there */
    assert_int_equal(port_test("127.0.0.1", port), 0);
}

static void test_a_privileged_port(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
            _exit(99);
        _exit(port_test("127.0.0.1", 81));
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "re");
    char line[32] = "";
    if (file && !fgets(line, sizeof line, file))
        line[0] = '\0';
    if (file)
        fclose(file);
    if (strtol(line, NULL, 10) <= 81)
        print_message("[  SKIPPED ] every user may bind port 81 here\n");
    else
        assert_int_equal(WEXITSTATUS(status), EACCES);
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        bool is_good, is_loopback, is_wildcard;
    } cases[] = {
        { "127.0.0.1", true, true, false },   { "127.9.9.9", true, true, false },
        { "localhost", true, true, false },   { "::1", true, true, false },
        { "0.0.0.0", true, false, true },     { "::", true, false, true },
        { "10.1.2.3", true, false, false },   { "2001:db8::1", true, false, false },
        { "", false, false, false },          { "127.1", false, false, false },
        { "LOCALHOST", false, false, false }, { "1.2.3.4 ", false, false, false },
        { "[::1]", false, false, false },     { "fe80::1%lo", false, false, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bind_address address;
        assert_int_equal(bind_address_parse(cases[i].host, 8001, &address), cases[i].is_good);
        if (!cases[i].is_good)
            continue;
        assert_int_equal(address.is_loopback, cases[i].is_loopback);
        assert_int_equal(memcmp(&address.bind, &address.reach, sizeof address.bind) != 0,
                         cases[i].is_wildcard);
    }
}

/* ---- whose it is ---- */

static int make_reaper(void **state)
{
    (void)state;
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* Another process, which holds what it inherits; its pid. */
static pid_t hold(bool is_of_own_session)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (is_of_own_session)
            setsid();
        close(ready[0]);
        close(ready[1]);
        pause();
        _exit(0);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 0);
    close(ready[0]);
    return pid;
}

static void let_go(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static enum port_owner owner_of(const char *host, uint16_t port, pid_t pid, const struct stat *log,
                                enum pool_port_proof *ret_proof)
{
    CLEANUP(listeners_done) struct listeners list = { 0 };
    uint32_t uid = 12345;
    struct port_claim claim = { .host = host,
                                .port = port,
                                .pid = pid,
                                .log_device = log ? log->st_dev : 0,
                                .log_inode = log ? log->st_ino : 0 };
    assert_int_equal(listeners_read(&list), 0);
    *ret_proof = POOL_PORT_PROOF_UID;
    enum port_owner owner = port_owner_find(&list, &claim, ret_proof, &uid);
    if (owner == PORT_FOREIGN)
        assert_int_equal(uid, geteuid());
    return owner;
}

static void test_ours_foreign_and_nobodys(void **state)
{
    (void)state;
    enum pool_port_proof proof;
    uint16_t port = 0;
    CLEANUP_CLOSE int fd = listen_at("127.0.0.1", &port, false);
    pid_t holder = hold(true);
    close(take_fd(&fd)); /* only the holder has it now */
    pid_t stranger = hold(true);
    assert_int_equal(owner_of("127.0.0.1", port, holder, NULL, &proof), PORT_OURS);
    assert_int_equal(proof, POOL_PORT_PROOF_PROCESS_TREE);
    assert_int_equal(owner_of("127.0.0.1", port, stranger, NULL, &proof), PORT_FOREIGN);
    assert_int_equal(owner_of("0.0.0.0", port, holder, NULL, &proof), PORT_OURS);
    assert_int_equal(owner_of("127.0.0.2", port, holder, NULL, &proof), PORT_NOBODY);
    assert_int_equal(proof, POOL_PORT_PROOF_NONE);
    assert_int_equal(owner_of("nonsense", port, holder, NULL, &proof), PORT_NOBODY);
    let_go(holder);
    assert_int_equal(owner_of("127.0.0.1", port, stranger, NULL, &proof), PORT_NOBODY);
    let_go(stranger);
}

static void test_shared_with_a_stranger(void **state)
{
    (void)state;
    enum pool_port_proof proof;
    uint16_t port = 0;
    int first = listen_at("127.0.0.1", &port, REUSEPORT);
    pid_t ours = hold(true);
    close(first);
    assert_int_equal(owner_of("127.0.0.1", port, ours, NULL, &proof), PORT_OURS);
    int second = listen_at("127.0.0.1", &port, REUSEPORT); /* ours of the test, a stranger's to the worker */
    assert_int_equal(owner_of("127.0.0.1", port, ours, NULL, &proof), PORT_FOREIGN);
    close(second);
    second = listen_at("0.0.0.0", &port, REUSEPORT); /* the wildcard gets what nobody nearer takes */
    assert_int_equal(owner_of("127.0.0.1", port, ours, NULL, &proof), PORT_FOREIGN);
    close(second);
    second = listen_at("127.0.0.2", &port, false); /* another address is another port */
    assert_int_equal(owner_of("127.0.0.1", port, ours, NULL, &proof), PORT_OURS);
    close(second);
    let_go(ours);
}

/* The worker's main process does not listen itself: its child does, or one that left the session with its log. */
static void test_held_by_the_tree(void **state)
{
    (void)state;
    enum { IN_SESSION, LEFT_SESSION, ORPHAN_WITH_LOG, ORPHAN_WITHOUT_LOG };
    static const enum port_owner wanted[] = { PORT_OURS, PORT_OURS, PORT_OURS, PORT_FOREIGN };
    char name[] = "/tmp/test_port.XXXXXX";
    CLEANUP_CLOSE int log = mkostemp(name, O_CLOEXEC);
    assert_true(log >= 0);
    unlink(name);
    struct stat st;
    assert_int_equal(fstat(log, &st), 0);
    assert_int_equal(flock(log, LOCK_EX | LOCK_NB), 0); /* who shares this open file shares its lock */
    for (int kind = IN_SESSION; kind <= ORPHAN_WITHOUT_LOG; kind++) {
        enum pool_port_proof proof;
        uint16_t port = 0;
        int report[2];
        pid_t main_process = hold(true);
        int fd = listen_at("127.0.0.1", &port, false);
        assert_int_equal(pipe2(report, O_CLOEXEC), 0);
        pid_t middle = fork();
        assert_true(middle >= 0);
        if (middle == 0) { /* stands for the worker where the child must descend from it */
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setsid();
            pid_t child = fork();
            if (child == 0) {
                prctl(PR_SET_PDEATHSIG, kind >= ORPHAN_WITH_LOG ? 0 : SIGKILL);
                if (kind != IN_SESSION)
                    setsid();
                if (kind == ORPHAN_WITHOUT_LOG)
                    close(log);
                pid_t self = getpid();
                (void)!write(report[1], &self, sizeof self);
                pause();
            }
            close(fd);
            close(log);
            if (kind >= ORPHAN_WITH_LOG)
                _exit(0);
            pause();
        }
        close(fd);
        pid_t child = 0;
        assert_int_equal(read(report[0], &child, sizeof child), sizeof child);
        if (kind >= ORPHAN_WITH_LOG)
            assert_int_equal(waitpid(middle, NULL, 0), middle);
        pid_t claimed = kind >= ORPHAN_WITH_LOG ? main_process : middle;
        /* The test's own copy of the log is open as well; it does not look at itself. */
        assert_int_equal(owner_of("127.0.0.1", port, claimed, &st, &proof), wanted[kind]);
        kill(child, SIGKILL);
        if (kind < ORPHAN_WITH_LOG) {
            kill(middle, SIGKILL);
            waitpid(middle, NULL, 0);
        }
        waitpid(child, NULL, 0);
        let_go(main_process);
        close(report[0]);
        close(report[1]);
    }
}

/* ---- datagrams ---- */

struct datagram {
    _Alignas(8) uint8_t bytes[1024];
    size_t n;
};

static void add_message(struct datagram *d, uint16_t type, const void *body, size_t n)
{
    struct nlmsghdr header = { .nlmsg_len = (uint32_t)(NLMSG_HDRLEN + n), .nlmsg_type = type };
    assert_true(d->n + NLMSG_SPACE(n) <= sizeof d->bytes);
    memcpy(d->bytes + d->n, &header, sizeof header);
    if (n > 0)
        memcpy(d->bytes + d->n + NLMSG_HDRLEN, body, n);
    d->n += NLMSG_SPACE(n);
}

static void add_socket(struct datagram *d, uint8_t family, uint8_t tcp_state, uint16_t port)
{
    struct inet_diag_msg message = { .idiag_family = family,
                                     .idiag_state = tcp_state,
                                     .idiag_inode = port + 1000U };
    message.id.idiag_sport = htons(port);
    message.id.idiag_src[0] = htonl(INADDR_LOOPBACK);
    add_message(d, SOCK_DIAG_BY_FAMILY, &message, sizeof message);
}

static void test_made_datagrams(void **state)
{
    (void)state;
    CLEANUP(listeners_done) struct listeners list = { 0 };
    struct datagram d = { .n = 0 };
    add_socket(&d, AF_INET, TCP_LISTEN, 8001);
    add_socket(&d, AF_INET6, TCP_LISTEN, 8002);
    add_socket(&d, AF_INET, TCP_ESTABLISHED, 8003);
    add_socket(&d, AF_UNIX, TCP_LISTEN, 8004);
    add_message(&d, 0x77, "other", 5);
    size_t n_sockets = d.n;
    assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_MORE);
    assert_int_equal(list.n, 2);
    assert_int_equal(list.at[0].port, 8001);
    assert_int_equal(list.at[0].socket_inode, 9001);
    assert_memory_equal(list.at[0].address, ((uint8_t[]){ 127, 0, 0, 1, 0, 0 }), 6);
    assert_true(list.at[1].is_ipv6);
    int32_t zero = 0;
    add_message(&d, NLMSG_DONE, &zero, sizeof zero);
    add_socket(&d, AF_INET, TCP_LISTEN, 8005); /* behind the end: not looked at */
    list.n = 0;
    assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_DONE);
    assert_int_equal(list.n, 2);
    assert_int_equal(sock_diag_parse(d.bytes, 0, &list), SOCK_DIAG_MORE);
    for (size_t n = 1; n < NLMSG_HDRLEN + sizeof(struct inet_diag_msg); n++) /* cut off anywhere */
        assert_int_equal(sock_diag_parse(d.bytes, n, &list), SOCK_DIAG_BAD);
    assert_int_equal(sock_diag_parse(d.bytes, n_sockets - 4, &list), SOCK_DIAG_BAD);
    /* At any address of memory. */
    uint8_t shifted[sizeof d.bytes + 1];
    memcpy(shifted + 1, d.bytes, d.n);
    list.n = 0;
    assert_int_equal(sock_diag_parse(shifted + 1, d.n, &list), SOCK_DIAG_DONE);
    assert_int_equal(list.n, 2);
}

static void test_bad_datagrams(void **state)
{
    (void)state;
    CLEANUP(listeners_done) struct listeners list = { 0 };
    static const uint32_t lengths[] = { 0, 1, 15, 4096, 0x7fffffff, 0xffffffff };
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct datagram d = { .n = 0 };
        add_socket(&d, AF_INET, TCP_LISTEN, 8001);
        memcpy(d.bytes, &lengths[i], sizeof lengths[i]);
        assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_BAD);
    }
    struct datagram d = { .n = 0 };
    add_message(&d, SOCK_DIAG_BY_FAMILY, "short", 5);
    assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_BAD);
    struct nlmsgerr refusal = { .error = -EPERM };
    d.n = 0;
    add_message(&d, NLMSG_ERROR, &refusal, sizeof refusal);
    assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_REFUSED);
    d.n = 0;
    add_message(&d, NLMSG_ERROR, "", 0);
    assert_int_equal(sock_diag_parse(d.bytes, d.n, &list), SOCK_DIAG_REFUSED);
    assert_int_equal(list.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listeners_of_this_host),
        cmocka_unit_test(test_many_listeners),
        cmocka_unit_test(test_a_free_and_a_held_port),
        cmocka_unit_test(test_time_wait_is_no_owner),
        cmocka_unit_test(test_a_privileged_port),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_ours_foreign_and_nobodys),
        cmocka_unit_test(test_shared_with_a_stranger),
        cmocka_unit_test(test_held_by_the_tree),
        cmocka_unit_test(test_made_datagrams),
        cmocka_unit_test(test_bad_datagrams),
    };
    return cmocka_run_group_tests(tests, make_reaper, NULL);
}
