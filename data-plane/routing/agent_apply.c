/* One table after the other: verify, check whole, keep, swap, tell. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "routing/agent_internal.h"
#include "routing/table_internal.h"

const char *
dp_refused_word(dp_refused why)
{
    static const char *const words[DP_REFUSED_KINDS] = {
#define X(name, word) word,
        DP_REFUSED_TABLE(X)
#undef X
    };
    return why < DP_REFUSED_KINDS ? words[why] : "unknown";
}

/* Where an offer stands on its way. */
typedef struct {
    dp_agent *agent;
    dp_keep_owner owner;
    ort_table_at applied;
    ort_table_at mark;
    bool split;
    ort_table_head head;
    dp_refused why;
    ort_diag *diag;
} offer;

static ort_err
refuse(offer *o, dp_refused why, ort_err err)
{
    o->why = why;
    return err;
}

/* All that can be said without looking at the body. *duplicate: it is what we have. */
static ort_err
judge_head(offer *o, const void *envelope, size_t n, bool *duplicate)
{
    const ort_table_head *h = &o->head;
    *duplicate = false;
    ort_err err = ort_envelope_open(envelope, n, &o->owner.control_key, &o->head, o->diag);
    if (err != ORT_OK) {
        return refuse(o, err == ORT_EAUTH ? DP_REFUSED_SIGNATURE : DP_REFUSED_MALFORMED, err);
    }
    if (h->hub_id != o->owner.hub_id) {
        return refuse(o, DP_REFUSED_HUB,
                      ort_fail(o->diag, ORT_EAUTH, "the table is of hub %016" PRIx64, h->hub_id));
    }
    if (h->node.v != o->owner.node.v) {
        return refuse(o, DP_REFUSED_NODE,
                      ort_fail(o->diag, ORT_EAUTH, "the table is for node %016" PRIx64, h->node.v));
    }
    const int order = ort_table_at_cmp(&h->at, &o->mark);
    if (order == 0 && !ort_hash_equal(&h->at.hash, &o->mark.hash)) {
        return refuse(o, DP_REFUSED_SPLIT,
                      ort_fail(o->diag, ORT_ECONFLICT,
                               "version %" PRIu64 " has two contents: two control planes?",
                               h->at.version));
    }
    if (o->split && h->at.generation <= o->applied.generation) {
        return refuse(o, DP_REFUSED_SPLIT,
                      ort_fail(o->diag, ORT_ECONFLICT,
                               "no table of generation %" PRIu64 " is taken since two contents of "
                               "one version were seen",
                               h->at.generation));
    }
    if (order < 0) {
        return refuse(o, DP_REFUSED_OLDER,
                      ort_fail(o->diag, ORT_ESTALE,
                               "the table is version %" PRIu64 " of generation %" PRIu64
                               ", version %" PRIu64 " of generation %" PRIu64 " was applied",
                               h->at.version, h->at.generation, o->mark.version,
                               o->mark.generation));
    }
    if (order == 0 && ort_table_at_cmp(&o->applied, &o->mark) == 0) {
        *duplicate = true;
        return ORT_OK;
    }
    if (h->base != 0 &&
        (h->at.generation != o->applied.generation || h->base != o->applied.version ||
         !ort_hash_equal(&h->base_hash, &o->applied.hash))) {
        return refuse(o, DP_REFUSED_BASE,
                      ort_fail(o->diag, ORT_ESTALE,
                               "the table is a change of version %" PRIu64
                               ", this node has %" PRIu64,
                               h->base, o->applied.version));
    }
    return ORT_OK;
}

/* The table that follows, checked to its last entry and against its hash. */
static ort_err
build(offer *o, const void *envelope, size_t n, const dp_table *current, ort_table **out)
{
    ort_buf body = {0};
    ort_hash hash;
    ort_err err = ort_envelope_body(envelope, n, &body, o->diag);
    if (err != ORT_OK) {
        ort_buf_fini(&body);
        return refuse(o, DP_REFUSED_MALFORMED, err);
    }
    err = ort_table_apply(out, o->head.base != 0 ? dp_table__peek_content(current) : NULL,
                          body.data, body.len, &dp_table__codec, o->diag);
    ort_buf_fini(&body);
    if (err != ORT_OK) {
        return refuse(o,
                      err == ORT_ENOMEM    ? DP_REFUSED_STORAGE
                      : err == ORT_EFORMAT ? DP_REFUSED_MALFORMED
                                           : DP_REFUSED_INVALID,
                      err);
    }
    ort_table_hash(*out, &hash);
    if (!ort_hash_equal(&hash, &o->head.at.hash)) {
        ort_table_unref(*out);
        *out = NULL;
        return refuse(o, DP_REFUSED_HASH,
                      ort_fail(o->diag, ORT_ECORRUPT,
                               "applied, version %" PRIu64 " is not what it says it would be",
                               o->head.at.version));
    }
    return ORT_OK;
}

/* Makes next current. `applying` is held. */
static void
take_over(dp_agent *agent, const dp_table *old, const dp_table *next)
{
    const ort_table_at at = dp_table_at(next);
    dp_routes_set(agent->routes, dp_table_ref(next));
    pthread_mutex_lock(&agent->lock);
    agent->stats.applied = at;
    agent->stats.split = false;
    agent->issued_at_ms = dp_table_issued_at_ms(next);
    agent->has_nack = false;
    pthread_mutex_unlock(&agent->lock);
    if (agent->options.owner.on_table != NULL) {
        agent->options.owner.on_table(agent->options.owner.arg, old, next);
    }
}

static void
note_refusal(dp_agent *agent, const offer *o, ort_err err)
{
    static const ort_diag none = {""};
    const char *detail = o->diag != NULL ? o->diag->text : none.text;
    pthread_mutex_lock(&agent->lock);
    agent->stats.refused_total[o->why]++;
    const bool alarm = o->why == DP_REFUSED_SPLIT && !agent->stats.split;
    agent->stats.split = agent->stats.split || o->why == DP_REFUSED_SPLIT;
    agent->has_nack = true;
    agent->nack_version = o->head.at.version;
    agent->nack_err = err;
    agent->nack_why = o->why;
    snprintf(agent->nack_path, sizeof agent->nack_path, "%.*s", (int)strcspn(detail, ": "), detail);
    if (o->why != DP_REFUSED_INVALID) {
        agent->nack_path[0] = '\0'; /* only that one begins with the place */
    }
    pthread_mutex_unlock(&agent->lock);
    if (alarm) {
        ORT_LOG_ERROR(&dp_agent__log, "table.split", "version=%" PRIu64 " generation=%" PRIu64,
                      o->head.at.version, o->head.at.generation);
    }
    ORT_LOG_WARN(&dp_agent__log, "table.refused", "reason=%s version=%" PRIu64 " err=%s detail=%s",
                 dp_refused_word(o->why), o->head.at.version, ort_err_code(err), detail);
}

/* `applying` is held; o->agent has an identity. */
static ort_err
take(offer *o, const void *envelope, size_t n)
{
    dp_agent *agent = o->agent;
    ort_table *content = NULL;
    const dp_table *next = NULL;
    bool duplicate;
    ort_err err = judge_head(o, envelope, n, &duplicate);
    if (err != ORT_OK || duplicate) {
        if (duplicate) {
            pthread_mutex_lock(&agent->lock);
            agent->stats.duplicate_total++;
            pthread_mutex_unlock(&agent->lock);
        }
        return err;
    }
    const dp_table *current = dp_routes_acquire(agent->routes);
    err = build(o, envelope, n, current, &content);
    if (err == ORT_OK) {
        err = dp_table__new(&next, o->owner.node, o->head.at, o->head.issued_at_ms, content);
        if (err == ORT_OK) {
            err = dp_keep_put(agent->keep, &o->head, envelope, n, content, o->diag);
        }
        o->why = DP_REFUSED_STORAGE;
    }
    if (err == ORT_OK) {
        take_over(agent, current, next);
        pthread_mutex_lock(&agent->lock);
        agent->stats.applied_total++;
        pthread_mutex_unlock(&agent->lock);
        ORT_LOG_DEBUG(&dp_agent__log, "table.applied", "version=%" PRIu64 " base=%" PRIu64,
                      o->head.at.version, o->head.base);
    }
    dp_table_release(next);
    ort_table_unref(content);
    dp_table_release(current);
    return err;
}

ort_err
dp_agent_offer(dp_agent *agent, const void *envelope, size_t n, dp_refused *why_out, ort_diag *diag)
{
    ort_diag own = {""};
    offer o = {.agent = agent, .diag = diag != NULL ? diag : &own};
    pthread_mutex_lock(&agent->applying);
    pthread_mutex_lock(&agent->lock);
    const bool joined = agent->id.joined && agent->keep != NULL;
    o.owner =
        (dp_keep_owner){agent->id.hello.hub_id, agent->id.hello.node, agent->id.hello.control_key};
    o.applied = agent->stats.applied;
    o.split = agent->stats.split;
    pthread_mutex_unlock(&agent->lock);
    ort_err err;
    if (!joined) {
        pthread_mutex_unlock(&agent->applying);
        return ort_fail(diag, ORT_EBUSY, "this node has not joined a hub yet");
    }
    o.mark = dp_keep_watermark(agent->keep);
    err = take(&o, envelope, n);
    if (err != ORT_OK) {
        note_refusal(agent, &o, err);
        if (why_out != NULL) {
            *why_out = o.why;
        }
    }
    pthread_mutex_unlock(&agent->applying);
    return err;
}

ort_err
dp_agent__keep_open(dp_agent *agent, ort_diag *diag)
{
    const dp_table *kept = NULL;
    const dp_keep_owner owner = {agent->id.hello.hub_id, agent->id.hello.node,
                                 agent->id.hello.control_key};
    pthread_mutex_lock(&agent->applying);
    ort_err err =
        agent->keep == NULL ? dp_keep_open(&agent->keep, agent->options.dir_fd, diag) : ORT_OK;
    if (err != ORT_OK) {
        pthread_mutex_unlock(&agent->applying);
        return err;
    }
    err = dp_keep_load(agent->keep, &owner, &kept, diag);
    if (err == ORT_OK) {
        const dp_table *empty = dp_routes_acquire(agent->routes);
        take_over(agent, empty, kept);
        ORT_LOG_INFO(&dp_agent__log, "table.loaded", "version=%" PRIu64 " tenants=%zu",
                     dp_table_at(kept).version, dp_table_tenant_count(kept));
        dp_table_release(empty);
        dp_table_release(kept);
    } else if (err == ORT_ECORRUPT || err == ORT_ESTALE || err == ORT_EVERSION) {
        /* Nothing is served from it: a table set back by hand could let revoked keys in. One of a
         * newer program is fetched anew as well: it is no more than a copy. */
        ORT_LOG_ERROR(&dp_agent__log, "table.unusable", "err=%s detail=%s", ort_err_code(err),
                      diag != NULL ? diag->text : "");
        err = ORT_OK;
    } else if (err == ORT_ENOTFOUND) {
        err = ORT_OK;
    }
    pthread_mutex_unlock(&agent->applying);
    return err;
}
