/* tests/support/rest.h: an HTTP client for tests, on libcurl. */
#ifndef ORT_TEST_REST_H
#define ORT_TEST_REST_H
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    int status; /* 0: no answer (connection refused, cut) */
    char *body; /* NUL-ended, never NULL */
    size_t body_len;
    char *headers; /* "Name: value\r\n" ..., never NULL */
    char content_type[128];
} rest_reply;

/* headers: "Name: value" texts, NULL-ended; NULL = none. body NULL = none; given without a
 * Content-Type it is application/json. */
rest_reply rest_call(const char *method, const char *url, const char *const *headers,
                     const char *body);
void rest_reply_free(rest_reply *reply);

/* The value of a header field of the reply, copied into out; false: not there. */
bool rest_header(const rest_reply *reply, const char *name, char *out, size_t out_bytes);
#endif /* ORT_TEST_REST_H */
