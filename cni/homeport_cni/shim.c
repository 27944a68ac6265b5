/*
 * The CNI executables `homeport` and `homeport-ipam`: one program, told apart by the name it is called by.
 *
 * It hands its CNI_* environment, its stdin and the opened CNI_NETNS to the agent's unix socket, prints the answer and
 * exits with the answer's code. It decides nothing, but for three things that must work without an agent:
 *
 *   VERSION                                    is answered here.
 *   a chained configuration (neither `network` nor `interface`) and a pod without Homeport's annotations:
 *       ADD                                    prints the prevResult, byte for byte, and asks nobody: such pods start
 *                                              at full speed whether the agent is there, absent or hung.
 *       DEL, CHECK                             ask the agent, for the runtime may have lost the annotations, and
 *                                              succeed when it does not answer.
 *       STATUS                                 succeeds: those pods need nothing of us.
 *   no answer otherwise                        is code 11, and for STATUS 50.
 *
 * shim.py has the same rules in the same order, for nodes where this cannot be built; one test suite holds both.
 * The frames are those of frames.py. Reference: CNI SPEC 1.1.0, section 2.
 *
 * Build: cc -static -O2 shim.c. No dependency beyond libc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "scan.h"

#define NEWEST "1.1.0"
static const char *const supported[] = {"0.3.1", "0.4.0", "1.0.0", "1.1.0"};
#define SUPPORTED_JSON "[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]"

#define MAX_STDIN (1u << 20)
#define MAX_ENVIRON (1u << 16)
#define MAX_PAYLOAD (1u << 22)

/* The agent answers a request within its queue's deadline of 60 s, or refuses it; who waits longer waits for nothing.
 * Ordinary pods and STATUS do not depend on the answer, so a hung agent may not hold them. */
#ifndef PATIENCE_MS
#define PATIENCE_MS 120000
#endif
#ifndef SHORT_PATIENCE_MS
#define SHORT_PATIENCE_MS 10000
#endif

/* install-cni writes the run directory behind the mark. Volatile, so that the compiler reads what is there. */
#define MARK "homeport-run-dir="
#define SOCKET_NAME "/agent.sock"
#define RUN_DIR_SIZE (sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof(SOCKET_NAME) + 1)
static const volatile char run_dir_slot[sizeof(MARK) - 1 + RUN_DIR_SIZE] = MARK "/run/homeport";

extern char **environ;

/* ---- answers ------------------------------------------------------------------------------------------------------ */

static struct span spoken_version; /* the configuration's cniVersion as it stands there, where we speak it */

static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EAGAIN) {
            struct pollfd writable = {fd, POLLOUT, 0};
            poll(&writable, 1, -1);
        } else if (written < 0 && errno != EINTR) {
            return 0;
        } else if (written > 0) {
            data += written;
            size -= (size_t)written;
        }
    }
    return 1;
}

/* Prints the answer and ends. A result that could not be printed must not count as success. */
_Noreturn static void answer(int exit_code, const char *data, size_t size)
{
    if (!write_all(STDOUT_FILENO, data, size)) {
        perror("homeport: stdout");
        _exit(exit_code ? exit_code : 1);
    }
    _exit(exit_code);
}

/* Appends text as the inside of a JSON string; what is not UTF-8 becomes '?'. */
static size_t quote(char *out, size_t size, const char *text)
{
    const char *end = text + strlen(text);
    size_t used = 0;
    while (text < end && used + 7 < size) {
        int length = utf8_length(text, end);
        if (length == 0) {
            out[used++] = '?';
            text++;
        } else if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20) {
            used += (size_t)snprintf(out + used, size - used, "\\u%04x", (unsigned char)*text++);
        } else {
            memcpy(out + used, text, (size_t)length);
            used += (size_t)length;
            text += length;
        }
    }
    return used;
}

/* The error JSON of the specification (section 5), and exit code 1. */
__attribute__((format(printf, 2, 3))) _Noreturn static void fail(int code, const char *format, ...)
{
    char text[1024], out[6 * sizeof(text) + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);

    size_t used = (size_t)snprintf(out, sizeof(out), "{\"cniVersion\":");
    if (spoken_version.at)
        used += (size_t)snprintf(out + used, sizeof(out) - used, "%.*s", (int)(spoken_version.end - spoken_version.at),
                                 spoken_version.at);
    else
        used += (size_t)snprintf(out + used, sizeof(out) - used, "\"" NEWEST "\"");
    used += (size_t)snprintf(out + used, sizeof(out) - used, ",\"code\":%d,\"msg\":\"", code);
    used += quote(out + used, sizeof(out) - used - 3, text);
    memcpy(out + used, "\"}\n", 3);
    answer(1, out, used + 3);
}

/* ---- the request -------------------------------------------------------------------------------------------------- */

static struct timespec started;

static int milliseconds_left(int patience)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long gone = (now.tv_sec - started.tv_sec) * 1000 + (now.tv_nsec - started.tv_nsec) / 1000000;
    return gone >= patience ? 0 : (int)(patience - gone);
}

/* 1 when fd is ready within the patience; 0 with errno = ETIMEDOUT when not. */
static int wait_for(int fd, short events, int patience)
{
    for (;;) {
        int left = milliseconds_left(patience);
        struct pollfd one = {fd, events, 0};
        int ready = left > 0 ? poll(&one, 1, left) : 0;
        if (ready > 0)
            return 1;
        if (ready == 0) {
            errno = ETIMEDOUT;
            return 0;
        }
        if (errno != EINTR)
            return 0;
    }
}

/* A closed standard stream would become the agent's socket, and the answer would go there. */
static void ensure_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            _exit(1);
}

static size_t read_stdin(char *data)
{
    size_t used = 0;
    for (;;) {
        if (!wait_for(STDIN_FILENO, POLLIN, PATIENCE_MS))
            fail(6, "stdin: the network configuration did not end in time");
        ssize_t got = read(STDIN_FILENO, data + used, MAX_STDIN + 1 - used);
        if (got == 0)
            return used;
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            fail(5, "stdin: %s", strerror(errno));
        if (got > 0)
            used += (size_t)got;
        if (used > MAX_STDIN)
            fail(6, "stdin: the network configuration is over the limit of %u bytes", MAX_STDIN);
    }
}

struct call {
    const char *executable;
    const char *command;
    struct span conf; /* .at is NULL when stdin is no JSON object */
    const char *input;
    size_t input_size;
    int chained;
    int ordinary; /* chained, and the pod has no annotation of ours */
    int patience;
};

/* Whether the pod says anything to Homeport. What is not understood is the agent's to refuse. */
static int is_annotated(struct span conf)
{
    struct span runtime = member(conf, "runtimeConfig");
    if (!says_something(runtime))
        return 0;
    struct span annotations = member(runtime, "io.kubernetes.cri.pod-annotations");
    if (!is_object(runtime) || (says_something(annotations) && !is_object(annotations)))
        return 1;
    return member(annotations, "homeport.dev/interfaces").at != NULL ||
           member(annotations, "networking.gke.io/interfaces").at != NULL;
}

static void read_conf(struct call *call)
{
    const char *end = call->input + call->input_size;
    const char *start = skip_space(call->input, end);
    const char *behind = start < end && *start == '{' ? skip_value(start, end) : NULL;
    if (!behind || skip_space(behind, end) != end)
        return;
    call->conf.at = start;
    call->conf.end = behind;

    char text[16];
    struct span version = member(call->conf, "cniVersion");
    if (is_string(version) && decode_string(version, text, sizeof(text)))
        for (size_t i = 0; i < sizeof(supported) / sizeof(supported[0]); i++)
            if (strcmp(text, supported[i]) == 0)
                spoken_version = version;
    call->chained = spoken_version.at && strcmp(call->executable, "homeport") == 0 &&
                    !says_something(member(call->conf, "network")) && !says_something(member(call->conf, "interface"));
    call->ordinary = call->chained && !is_annotated(call->conf);
    if (call->ordinary || strcmp(call->command, "STATUS") == 0)
        call->patience = SHORT_PATIENCE_MS;
}

_Noreturn static void answer_version(const struct call *call)
{
    const char *end = call->input + call->input_size;
    struct span version = member(call->conf, "cniVersion");
    if (!call->conf.at && skip_space(call->input, end) != end)
        fail(6, "stdin: not a JSON object");
    if (!is_string(version)) {
        version.at = "\"" NEWEST "\"";
        version.end = version.at + strlen(version.at);
    }
    const char head[] = "{\"cniVersion\":", tail[] = ",\"supportedVersions\":" SUPPORTED_JSON "}\n";
    size_t size = (size_t)(version.end - version.at);
    char *out = malloc(sizeof(head) + size + sizeof(tail));
    if (!out)
        fail(5, "out of memory");
    memcpy(out, head, sizeof(head) - 1);
    memcpy(out + sizeof(head) - 1, version.at, size);
    memcpy(out + sizeof(head) - 1 + size, tail, sizeof(tail) - 1);
    answer(0, out, sizeof(head) + size + sizeof(tail) - 2);
}

_Noreturn static void answer_without_agent(const struct call *call, const char *path, const char *reason)
{
    if (!call->conf.at)
        fail(6, "stdin: not a JSON object");
    if (call->ordinary && (strcmp(call->command, "DEL") == 0 || strcmp(call->command, "CHECK") == 0))
        _exit(0);
    fail(strcmp(call->command, "STATUS") == 0 ? 50 : 11,
         "the Homeport agent does not answer at %s: %s; see whether `homeport agent` runs on this node", path, reason);
}

/* The socket's path: the configuration's runDir, else the one written in at installation. */
static void find_socket(const struct call *call, struct sockaddr_un *address)
{
    char run_dir[2 * RUN_DIR_SIZE];
    struct span section = strcmp(call->executable, "homeport-ipam") == 0 ? member(call->conf, "ipam") : call->conf;
    struct span said = member(section, "runDir");
    if (is_string(said) && says_something(said)) {
        if (!decode_string(said, run_dir, sizeof(run_dir)) || strlen(run_dir) >= RUN_DIR_SIZE)
            fail(7, "runDir: must be a path of at most %zu bytes", RUN_DIR_SIZE - 1);
    } else {
        for (size_t i = 0; i < RUN_DIR_SIZE; i++)
            run_dir[i] = run_dir_slot[sizeof(MARK) - 1 + i];
        run_dir[RUN_DIR_SIZE - 1] = '\0';
    }
    address->sun_family = AF_UNIX;
    snprintf(address->sun_path, sizeof(address->sun_path), "%s" SOCKET_NAME, run_dir);
}

/* The frame: length, kind, executable, CNI_* variables, an empty string, stdin (frames.py). */
static char *build_frame(const struct call *call, size_t *size)
{
    size_t variables = 0;
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0 && strchr(*entry, '='))
            variables += strlen(*entry) + 1;
    if (variables > MAX_ENVIRON)
        fail(4, "the CNI_* variables together are over the limit of %u bytes", MAX_ENVIRON);

    size_t payload = strlen(call->executable) + 1 + variables + 1 + call->input_size;
    char *frame = malloc(5 + payload), *p = frame;
    if (!frame)
        fail(5, "out of memory");
    uint32_t length = (uint32_t)payload + 1;
    for (int shift = 24; shift >= 0; shift -= 8)
        *p++ = (char)(length >> shift & 0xff);
    *p++ = 'C';
    p = stpcpy(p, call->executable) + 1;
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0 && strchr(*entry, '='))
            p = stpcpy(p, *entry) + 1;
    *p++ = '\0';
    if (call->input_size)
        memcpy(p, call->input, call->input_size);
    *size = 5 + payload;
    return frame;
}

/* The namespace's descriptor, or -1 where none is given. DEL goes on without one: the namespace may be gone. */
static int open_netns(const struct call *call)
{
    const char *path = getenv("CNI_NETNS");
    if (!path || !*path)
        return -1;
    /* O_NONBLOCK: a path that is a FIFO must not hold us. Whether it is a namespace is for the agent to see. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && (strcmp(call->command, "ADD") == 0 || strcmp(call->command, "CHECK") == 0))
        fail(4, "CNI_NETNS: %s: %s", path, strerror(errno));
    return fd;
}

/* ---- the exchange ------------------------------------------------------------------------------------------------- */

/* Sends the frame, the descriptor with its first bytes. 0 with errno when the agent went away or does not read. */
static int send_frame(int connection, const char *data, size_t size, int netns, int patience)
{
    char control[CMSG_SPACE(sizeof(int))] = {0};
    while (size > 0) {
        struct iovec bytes = {(void *)(uintptr_t)data, size};
        struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
        if (netns >= 0) {
            message.msg_control = control;
            message.msg_controllen = sizeof(control);
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(header), &netns, sizeof(int));
        }
        ssize_t sent = sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            data += sent;
            size -= (size_t)sent;
            netns = -1;
        } else if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!wait_for(connection, POLLOUT, patience))
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

/* Exactly `size` bytes. 0 with errno when they do not come. */
static int receive(int connection, char *data, size_t size, int patience)
{
    while (size > 0) {
        ssize_t got = recv(connection, data, size, MSG_DONTWAIT);
        if (got > 0) {
            data += got;
            size -= (size_t)got;
        } else if (got == 0) {
            errno = ECONNRESET;
            return 0;
        } else if (errno == EAGAIN || errno == EINTR) {
            if (!wait_for(connection, POLLIN, patience))
                return 0;
        } else {
            return 0;
        }
    }
    return 1;
}

static int connect_to(const struct sockaddr_un *address, int patience)
{
    int left = milliseconds_left(patience);
    struct timeval limit = {left / 1000, left % 1000 * 1000 + 1}; /* holds connect() when the agent's queue is full */
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
        return -1;
    while (connect(connection, (const struct sockaddr *)address, sizeof(*address)) < 0)
        if (errno != EINTR) {
            errno = errno == EAGAIN ? ETIMEDOUT : errno;
            return -1;
        }
    return connection;
}

int main(int argc, char **argv)
{
    clock_gettime(CLOCK_MONOTONIC, &started);
    ensure_standard_streams();
    signal(SIGPIPE, SIG_IGN);

    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *called = slash ? slash + 1 : argc > 0 ? argv[0] : "";
    struct call call = {.patience = PATIENCE_MS};
    call.executable = strcmp(called, "homeport-ipam") == 0 ? "homeport-ipam" : "homeport";
    call.command = getenv("CNI_COMMAND");
    if (!call.command || !*call.command)
        fail(4, "CNI_COMMAND is not set: %s is a CNI plugin, to be run by a container runtime", call.executable);

    char *input = malloc(MAX_STDIN + 1);
    if (!input)
        fail(5, "out of memory");
    call.input = input;
    call.input_size = read_stdin(input);
    read_conf(&call);

    if (strcmp(call.command, "VERSION") == 0)
        answer_version(&call);
    if (call.chained && strcmp(call.command, "STATUS") == 0)
        _exit(0);
    struct span previous = member(call.conf, "prevResult");
    if (call.ordinary && is_object(previous) && strcmp(call.command, "ADD") == 0)
        answer(0, previous.at, (size_t)(previous.end - previous.at));

    struct sockaddr_un address = {0};
    find_socket(&call, &address);
    size_t size;
    char *frame = build_frame(&call, &size);
    int netns = open_netns(&call);
    int connection = connect_to(&address, call.patience);
    if (connection < 0)
        answer_without_agent(&call, address.sun_path, strerror(errno));

    /* An agent that refuses early stops reading, and its answer is there all the same. */
    int sent = send_frame(connection, frame, size, netns, call.patience);
    int send_error = errno;
    unsigned char header[6];
    if (!receive(connection, (char *)header, sizeof(header), call.patience))
        answer_without_agent(&call, address.sun_path, strerror(sent ? errno : send_error));
    size_t length = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
    if (header[4] != 'R' || length < 2 || length > MAX_PAYLOAD + 1)
        answer_without_agent(&call, address.sun_path, "what it sent is no answer");
    char *output = malloc(length - 1);
    if (!output)
        fail(5, "out of memory");
    if (!receive(connection, output, length - 2, call.patience))
        answer_without_agent(&call, address.sun_path, strerror(errno));
    answer(header[5], output, length - 2);
}
