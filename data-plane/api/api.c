/* The API object: what it borrows, and how a server is told to serve it. */
#include "api/api.h"

#include <stdlib.h>

#include "api/api_internal.h"

ort_err
dp_api_new(dp_api **out, const dp_api_config *config)
{
    *out = NULL;
    dp_api *api = calloc(1, sizeof *api);
    if (api == NULL) {
        return ORT_ENOMEM;
    }
    api->config = *config;
    pthread_mutex_init(&api->grants_lock, NULL);
    const ort_err err = dp_api__observe_init(api);
    if (err != ORT_OK) {
        dp_api_free(api);
        return err;
    }
    *out = api;
    return ORT_OK;
}

void
dp_api_free(dp_api *api)
{
    if (api == NULL) {
        return;
    }
    pthread_mutex_destroy(&api->grants_lock);
    free(api);
}

void
dp_api_serve(dp_api *api, ort_http_options *options)
{
    options->routes = dp_api__routes;
    options->route_count = dp_api__route_count;
    options->hooks = (ort_http_hooks){
        .user = api,
        .admit = dp_api__admit,
        .refuse = dp_api__refuse,
        .done = dp_api__done,
    };
}

void
dp_api_set_ready(dp_api *api, bool ready)
{
    atomic_store(&api->ready, ready);
}
