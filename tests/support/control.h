/* tests/support/control.h: a real orthant-control for a test, and calls of its admin API, each
 * answer of which is checked against docs/reference/admin-api.yaml (as the program serves it). */
#ifndef ORT_TEST_CONTROL_H
#define ORT_TEST_CONTROL_H
#include <jansson.h>
#include <sys/types.h>

#include "support/rest.h"

typedef struct {
    char dir[256];
    pid_t pid;
    char url[128];
    char token[160]; /* the bootstrap operator's */
    char join_url[256];
    char control_url[256];
    char hint_url[256];
    json_t *openapi;
    unsigned answers; /* checked so far */
    unsigned starts;
} control;

/* Starts one in a new directory (or, when control->dir is set, again in that one) on free ports.
 * args: more flags, NULL-ended; NULL = none. Asserts that it comes up. */
void control_start(control *c, const char *const *args);
/* SIGTERM; asserts that it ends by itself with status 0. */
void control_stop(control *c);
void control_kill(control *c);   /* SIGKILL */
void control_remove(control *c); /* stops it when it runs, and removes the directory */

typedef struct {
    int status;
    json_t *json;  /* NULL: no body, or no JSON */
    char code[64]; /* of a problem */
    char etag[64];
    rest_reply rest;
} control_reply;

/* path with the query. token NULL: the operator's; "": none. body NULL: none. headers as in
 * rest_call(). Fails the test when the answer does not fit the document. */
control_reply control_call(control *c, const char *method, const char *path, const char *token,
                           const char *const *headers, const char *body);
void control_reply_free(control_reply *reply);

/* The same, asserting the status, and giving the body (to be decref'ed by the caller). */
json_t *control_json(control *c, const char *method, const char *path, const char *body,
                     int status);
/* Asserts status and problem code. */
void control_refused(control *c, const char *method, const char *path, const char *token,
                     const char *body, int status, const char *code);
#endif /* ORT_TEST_CONTROL_H */
