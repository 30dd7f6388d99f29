/* The load client. */
#include "http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void
bench_http_init(bench_http *http, const char *url, const char *api_key)
{
    *http = (bench_http){.fd = -1};
    if (sscanf(url, "http://%127[^:/]:%d", http->host, &http->port) != 2) {
        fprintf(stderr, "%s is not http://HOST:PORT\n", url);
        exit(2);
    }
    snprintf(http->key, sizeof http->key, "%s", api_key);
}

static void
disconnect(bench_http *http)
{
    if (http->fd >= 0) {
        close(http->fd);
    }
    http->fd = -1;
}

void
bench_http_fini(bench_http *http)
{
    disconnect(http);
    ort_buf_fini(&http->out);
    ort_buf_fini(&http->in);
}

static bool
reconnect(bench_http *http)
{
    const int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http->port)};
    if (inet_pton(AF_INET, http->host, &address.sin_addr) != 1) {
        return false;
    }
    http->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (http->fd < 0) {
        return false;
    }
    setsockopt(http->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(http->fd, (struct sockaddr *)&address, sizeof address) != 0) {
        disconnect(http);
        return false;
    }
    return true;
}

static bool
send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t did = send(fd, bytes, n, MSG_NOSIGNAL);
        if (did <= 0) {
            return false;
        }
        bytes += did;
        n -= (size_t)did;
    }
    return true;
}

/* Reads more; false at the end or on failure. */
static bool
receive(bench_http *http)
{
    char *at = ort_buf_reserve(&http->in, 65536);
    const ssize_t got = at != NULL ? recv(http->fd, at, 65536, 0) : -1;
    if (got <= 0) {
        return false;
    }
    ort_buf_commit(&http->in, (size_t)got);
    return true;
}

/* The value of a header in the head, or NULL. */
static const char *
header(const char *head, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':') {
            return line + 3 + n + strspn(line + 3 + n, " ");
        }
    }
    return NULL;
}

static int
read_answer(bench_http *http)
{
    ort_buf_clear(&http->in);
    size_t head_len = 0;
    while (head_len == 0) {
        if (!receive(http)) {
            return 0;
        }
        const char *end = memmem(http->in.data, http->in.len, "\r\n\r\n", 4);
        head_len = end != NULL ? (size_t)(end - http->in.data) + 4 : 0;
    }
    http->in.data[head_len - 2] = '\0';
    const int status = atoi(http->in.data + 9);
    const char *length = header(http->in.data, "content-length");
    const char *connection = header(http->in.data, "connection");
    const bool closing = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    http->body_at = head_len;
    if (length != NULL) {
        http->body_len = strtoul(length, NULL, 10);
        while (http->in.len < head_len + http->body_len) {
            if (!receive(http)) {
                return 0;
            }
        }
    } else {
        while (receive(http)) { /* to the end of the connection */
        }
        http->body_len = http->in.len - head_len;
    }
    if (closing || length == NULL) {
        disconnect(http);
    }
    return status;
}

int
bench_http_call(bench_http *http, const char *method, const char *path, const char *body,
                size_t body_len)
{
    ort_buf_clear(&http->out);
    ort_buf_printf(&http->out,
                   "%s %s HTTP/1.1\r\nHost: %s:%d\r\napi-key: %s\r\n"
                   "Authorization: Bearer %s\r\n",
                   method, path, http->host, http->port, http->key, http->key);
    if (body != NULL) {
        ort_buf_printf(&http->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                       body_len);
    }
    ort_buf_puts(&http->out, "\r\n");
    ort_buf_put(&http->out, body != NULL ? body : "", body_len);
    for (int i = 0; i < 2; i++) {
        if (http->fd < 0 && !reconnect(http)) {
            return 0;
        }
        if (send_all(http->fd, http->out.data, http->out.len)) {
            const int status = read_answer(http);
            if (status != 0) {
                return status;
            }
        }
        disconnect(http); /* an idle connection that the server had closed: once more */
    }
    return 0;
}
