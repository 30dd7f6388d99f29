/* control-plane/api/api.h: the admin REST interface, as docs/reference/admin-api.yaml has it. */
#ifndef CP_API_H
#define CP_API_H
#include "base/err.h"
#include "fleet/fleet.h"
#include "http/http.h"
#include "metrics/metrics.h"
#include "routing/feed.h"
#include "routing/push.h"
#include "store/store.h"
#include "tenancy/tenancy.h"

/* Opaque. From cp_api_new() to cp_api_free(); free(NULL) is allowed. */
typedef struct cp_api cp_api;

/* All borrowed, and outliving the API. */
typedef struct {
    cp_store *store;
    cp_tenancy *tenancy;
    cp_push *push;
    cp_feed *feed;
    cp_fleet *fleet;
    ort_metrics *metrics;
    const char *software;  /* "0.1.0" */
    ort_http_options http; /* listeners, threads, times; routes and hooks are the API's */
} cp_api_options;

/* ORT_EINVAL, ORT_EIO, ORT_EFORMAT: as ort_http_server_new(); *out is NULL. */
ORT_NODISCARD ort_err cp_api_new(cp_api **out, const cp_api_options *options, ort_diag *diag);
ort_http_server *cp_api_peek_server(cp_api *api); /* to start, drain, reload and stop it */
void cp_api_free(cp_api *api);                    /* stops it when it runs */
#endif                                            /* CP_API_H */
