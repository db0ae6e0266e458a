/* The practical limit of an HTTP server on one core: the least that any of them has to do.
 *
 *     limit PORT
 *
 * For every readable socket: one recv, a search for the blank lines that end requests, one send of as many
 * answers. No request is looked at and nothing is kept per connection, so a request split over two segments
 * is not understood. Not a server; a ruler to hold against servers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 512
#define BATCH_MAX 1024

static const char ANSWER[] =
    "HTTP/1.1 200 OK\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 12\r\n"
    "\r\n"
    "Hello World!";
#define ANSWER_SIZE (sizeof ANSWER - 1)

static char answers[BATCH_MAX * ANSWER_SIZE];
static char input[65536];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
}

static int listen_on(int port) {
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        fail("listen");
    return fd;
}

static void welcome(int poller, int listener) {
    int yes = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    watch(poller, fd);
}

static void answer(int fd) {
    ssize_t size = recv(fd, input, sizeof input, 0);
    if (size <= 0) {
        close(fd);
        return;
    }
    size_t requests = 0;
    for (char *at = input, *end = input + size; (at = memmem(at, end - at, "\r\n\r\n", 4)); at += 4)
        requests++;
    if (requests > BATCH_MAX)
        requests = BATCH_MAX;
    if (requests && send(fd, answers, requests * ANSWER_SIZE, MSG_NOSIGNAL) < 0)
        close(fd);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: limit PORT\n");
        return 2;
    }
    for (size_t i = 0; i < BATCH_MAX; i++)
        memcpy(answers + i * ANSWER_SIZE, ANSWER, ANSWER_SIZE);
    int listener = listen_on(atoi(arguments[1])), poller = epoll_create1(0);
    watch(poller, listener);
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                welcome(poller, listener);
            else
                answer(events[i].data.fd);
        }
    }
}
