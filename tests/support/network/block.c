/* Preloaded into a test's process: notes and refuses every connection to an IPv4 or IPv6 address,
 * and every look-up of a name. The log's path is in BLOCK_LOG. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *call, const char *what) {
    const char *path = getenv("BLOCK_LOG");
    char line[512];
    int file = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file < 0) return;
    int size = snprintf(line, sizeof line, "%s %s\n", call, what ? what : "");
    if (write(file, line, size < 511 ? size : 511) < 0) abort();
    close(file);
}

static int is_inet(const struct sockaddr *address) {
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

static int refuse(const char *call) {
    note(call, "");
    errno = EACCES;
    return -1;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    note("getaddrinfo", node);
    return EAI_FAIL;
}

int connect(int fd, const struct sockaddr *address, socklen_t size) {
    static int (*next)(int, const struct sockaddr *, socklen_t);
    if (is_inet(address)) return refuse("connect");
    if (!next) next = dlsym(RTLD_NEXT, "connect");
    return next(fd, address, size);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *address,
               socklen_t length) {
    static ssize_t (*next)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    if (is_inet(address)) return refuse("sendto");
    if (!next) next = dlsym(RTLD_NEXT, "sendto");
    return next(fd, data, size, flags, address, length);
}

int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    static int (*next)(int, struct mmsghdr *, unsigned int, int);
    if (count && is_inet(messages[0].msg_hdr.msg_name)) return refuse("sendmmsg");
    if (!next) next = dlsym(RTLD_NEXT, "sendmmsg");
    return next(fd, messages, count, flags);
}
