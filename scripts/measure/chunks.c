/* Streams of chunks, each with the moment at which it was sent: a provider, and clients that read how late each chunk is.
 *
 * chunks provider PORT CHUNKS PACE_US
 *     Answers every request with a stream of CHUNKS events of OpenAI's shape, a usage and [DONE], each event an HTTP chunk and a
 *     write of its own; one every PACE_US microseconds, or with 0 as fast as they are taken.
 * chunks clients PORT STREAMS SECONDS HEADER
 *     So many streams at once, each followed by another on the same connection. Prints
 *     CHUNKS STREAMS_DONE SECONDS P50_NS P90_NS P99_NS of the chunks that came in that time.
 *
 * One thread, one epoll; both take 1 to 4 us a chunk. Built by `throughput --streams`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024
#define ROOM 65536
#define MARK "\"t\":\""
#define DIGITS 18

struct connection {
    int fd;
    int is_streaming;    /* the provider: a request has come whole */
    int sent;            /* chunks of this answer */
    int64_t next;        /* when the next one is due, in ns */
    int kept;            /* bytes in room */
    int got_end;
    char room[ROOM];
};

static struct connection *connections[MOST * 4];
static int highest;
/* By powers of two, each cut into 32. */
static uint64_t histogram[64 * 32];

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static struct connection *keep(int fd) {
    int one = 1;
    if (fd >= MOST * 4) die("too many connections");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    struct connection *made = calloc(1, sizeof *made);
    made->fd = fd;
    connections[fd] = made;
    if (fd > highest) highest = fd;
    return made;
}

static void drop(struct connection *one) {
    connections[one->fd] = NULL;
    close(one->fd);
    free(one);
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return address;
}

/* The provider. */

static int chunk(char *to, int number, int chunks) {
    char event[512];
    int length;
    if (number < chunks)
        length = sprintf(event,
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\","
            "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]," MARK "%0*lld\"}\n\n", DIGITS, (long long)now());
    else
        length = sprintf(event,
            "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-4o-mini\","
            "\"choices\":[],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\ndata: [DONE]\n\n", chunks, chunks + 17);
    int whole = sprintf(to, "%x\r\n%s\r\n", length, event);
    if (number == chunks) whole += sprintf(to + whole, "0\r\n\r\n");
    return whole;
}

/* Whether a whole request is in the room; it is taken out. */
static int is_asked(struct connection *one) {
    one->room[one->kept] = 0;
    char *end = strstr(one->room, "\r\n\r\n");
    if (!end) return 0;
    char *told = strcasestr(one->room, "content-length:");
    int length = told && told < end ? atoi(told + 15) : 0;
    int whole = end + 4 - one->room + length;
    if (one->kept < whole) return 0;
    memmove(one->room, one->room + whole, one->kept - whole);
    one->kept -= whole;
    return 1;
}

static void answer(struct connection *one, int chunks) {
    char text[1024];
    int length = 0;
    if (one->sent == 0)
        length = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    length += chunk(text + length, one->sent, chunks);
    ssize_t done = send(one->fd, text, length, MSG_NOSIGNAL);
    if (done < 0 && errno == EAGAIN) return;
    /* Half a chunk would have to be kept: the kernel has room for it soon. */
    while (done >= 0 && done < length) {
        ssize_t more = send(one->fd, text + done, length - done, MSG_NOSIGNAL);
        if (more < 0 && errno != EAGAIN) return;
        if (more > 0) done += more;
    }
    if (one->sent++ == chunks) one->is_streaming = one->sent = 0;
}

static void provide(int port, int chunks, int64_t pace) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1, epoll = epoll_create1(0);
    struct sockaddr_in address = loopback(port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) die("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int64_t at = now(), first = INT64_MAX;
        for (int fd = 0; fd <= highest; fd++) {
            struct connection *one = connections[fd];
            if (!one || !one->is_streaming) continue;
            if (one->next <= at) {
                answer(one, chunks);
                one->next += pace;
            }
            if (one->is_streaming && one->next < first) first = one->next;
        }
        int64_t wait = first == INT64_MAX ? 1000000000 : first - now();
        if (wait < 0) wait = 0;
        struct timespec patience = {wait / 1000000000, wait % 1000000000};
        int count = epoll_pwait2(epoll, events, 256, &patience, NULL);
        for (int number = 0; number < count; number++) {
            int fd = events[number].data.fd;
            if (fd == listener) {
                int made = accept(listener, NULL, NULL);
                if (made < 0) continue;
                keep(made);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = made};
                epoll_ctl(epoll, EPOLL_CTL_ADD, made, &event);
                continue;
            }
            struct connection *one = connections[fd];
            ssize_t got = recv(fd, one->room + one->kept, ROOM - 1 - one->kept, 0);
            if (got <= 0) {
                if (got == 0 || errno != EAGAIN) drop(one);
                continue;
            }
            one->kept += got;
            if (!one->is_streaming && is_asked(one)) {
                one->is_streaming = 1;
                /* Not all of them at the same moment. */
                one->next = now() + (pace ? random() % pace : 0);
            }
        }
    }
}

/* The clients. */

static void count(int64_t delay) {
    if (delay < 1) delay = 1;
    int power = 63 - __builtin_clzll(delay);
    int part = power >= 5 ? (delay >> (power - 5)) & 31 : 0;
    histogram[power * 32 + part]++;
}

static double quantile(uint64_t all, double of) {
    uint64_t seen = 0;
    for (int slot = 0; slot < 64 * 32; slot++) {
        seen += histogram[slot];
        if (seen && seen >= all * of) {
            int power = slot / 32;
            return power >= 5 ? (double)((32LL + slot % 32) << (power - 5)) : (double)(1LL << power);
        }
    }
    return 0;
}

static void ask(struct connection *one, const char *request) {
    if (send(one->fd, request, strlen(request), MSG_NOSIGNAL) < 0) die("send");
}

static void load(int port, int streams, double seconds, const char *header) {
    static const char body[] = "{\"model\":\"gpt-4o-mini\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                               "\"messages\":[{\"role\":\"user\",\"content\":\"Say hello to all of us here, please.\"}]}";
    char request[2048];
    snprintf(request, sizeof request, "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n%s\r\nContent-Length: %zu\r\n\r\n%s",
             header, sizeof body - 1, body);
    int epoll = epoll_create1(0);
    struct sockaddr_in address = loopback(port);
    for (int number = 0; number < streams; number++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address)) die("connect");
        struct connection *one = keep(fd);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        ask(one, request);
    }
    /* What is warm counts. */
    int64_t from = now() + 300000000LL, until = from + (int64_t)(seconds * 1e9);
    uint64_t chunks = 0, done = 0;
    struct epoll_event events[256];
    for (int64_t at; (at = now()) < until;) {
        int ready = epoll_wait(epoll, events, 256, 100);
        for (int number = 0; number < ready; number++) {
            struct connection *one = connections[events[number].data.fd];
            ssize_t got = recv(one->fd, one->room + one->kept, ROOM - 1 - one->kept, 0);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN) continue;
                fprintf(stderr, "a stream was closed\n");
                exit(1);
            }
            at = now();
            one->kept += got;
            one->room[one->kept] = 0;
            if (done == 0 && chunks == 0 && !strncmp(one->room, "HTTP/1.1 ", 9) && strncmp(one->room + 9, "200", 3)) {
                fprintf(stderr, "%s\n", one->room);
                exit(1);
            }
            char *from_here = one->room, *end = one->room + one->kept, *found;
            while ((found = memmem(from_here, end - from_here, MARK, sizeof MARK - 1)) && found + sizeof MARK - 1 + DIGITS <= end) {
                if (at >= from) {
                    count(at - atoll(found + sizeof MARK - 1));
                    chunks++;
                }
                from_here = found + sizeof MARK - 1 + DIGITS;
            }
            if ((found = memmem(from_here, end - from_here, "[DONE]", 6))) {
                one->got_end = 1;
                from_here = found + 6;
            }
            if (one->got_end && (found = memmem(from_here, end - from_here, "0\r\n\r\n", 5))) {
                one->got_end = 0;
                from_here = found + 5;
                done += at >= from;
                ask(one, request);
            }
            /* What may be the begin of something. */
            int left = end - from_here;
            if (left > 64 && !one->got_end) {
                from_here = end - 64;
                left = 64;
            }
            memmove(one->room, from_here, left);
            one->kept = left;
        }
    }
    printf("%llu %llu %.3f %.0f %.0f %.0f\n", (unsigned long long)chunks, (unsigned long long)done, seconds, quantile(chunks, 0.5),
           quantile(chunks, 0.9), quantile(chunks, 0.99));
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    if (count == 5 && !strcmp(words[1], "provider"))
        provide(atoi(words[2]), atoi(words[3]), atoll(words[4]) * 1000);
    else if (count == 6 && !strcmp(words[1], "clients") && atoi(words[3]) < MOST)
        load(atoi(words[2]), atoi(words[3]), atof(words[4]), words[5]);
    else
        return fprintf(stderr, "chunks provider PORT CHUNKS PACE_US | chunks clients PORT STREAMS SECONDS HEADER\n"), 2;
    return 0;
}
