/* `orthant import`: many points from a file, by several connections, and again from where it
 * stopped.
 *
 * One reader hands batches to workers in file order; each batch is one upsert with wait=true. What
 * is known to be stored is the longest run of batches from the start that are all acknowledged: its
 * length goes to FILE.orthant-progress now and then, and at the end. Run again, the import passes
 * over that many points; a batch sent twice only overwrites itself. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/source.h"

#define PARALLEL_MAX 64
#define WINDOW 4096 /* batches that may be on their way behind one that is late */
#define SAVE_EVERY_MS 2000

typedef struct {
    const cli_context *context;
    const char *file;
    const char *points_path, *progress_path;
    const char *target; /* what the progress file must agree with */
    uint32_t batch;

    pthread_mutex_t mutex; /* guards all below */
    cli_source *source;
    bool ended;
    uint64_t next_batch;    /* the number of the next batch to be read */
    uint64_t first_open;    /* batches below are all stored */
    uint32_t sizes[WINDOW]; /* points of batch n at n % WINDOW */
    bool stored[WINDOW];
    uint64_t base_points;   /* passed over at the start */
    uint64_t stored_prefix; /* points of the batches below first_open, and base_points */
    uint64_t stored_points; /* acknowledged now, in any order */
    cli_exit failure;
    char message[600];
} import;

static atomic_bool stopped;

static void
on_signal(int number)
{
    (void)number;
    atomic_store(&stopped, true);
}

/* The points known to be stored by an earlier run over the same file into the same collection. */
static uint64_t
load_progress(const import *im)
{
    json_t *json = json_load_file(im->progress_path, 0, NULL);
    const char *target = json_string_value(json_object_get(json, "target"));
    const json_int_t points = json_integer_value(json_object_get(json, "points"));
    const bool ours = target != NULL && strcmp(target, im->target) == 0 && points > 0;
    json_decref(json);
    return ours ? (uint64_t)points : 0;
}

static void
save_progress(const import *im, uint64_t points)
{
    char fresh[1100];
    json_t *json = json_pack("{s:s,s:I}", "target", im->target, "points", (json_int_t)points);
    snprintf(fresh, sizeof fresh, "%s.new", im->progress_path);
    if (json != NULL && json_dump_file(json, fresh, JSON_COMPACT) == 0) {
        rename(fresh, im->progress_path);
    }
    json_decref(json);
}

static bool
going_on(const import *im)
{
    return !im->ended && im->failure == CLI_OK && !atomic_load(&stopped);
}

static void
fail(import *im, cli_exit end, const char *message)
{
    if (im->failure == CLI_OK) {
        im->failure = end;
        snprintf(im->message, sizeof im->message, "%s", message);
    }
}

/* Reads the next batch as an upsert's body. False: there is none, or reading failed. */
static bool
take_batch(import *im, ort_buf *body, uint64_t *number)
{
    uint32_t count = 0;
    ort_diag diag = {""};
    pthread_mutex_lock(&im->mutex);
    while (going_on(im) && im->next_batch - im->first_open == WINDOW) {
        pthread_mutex_unlock(&im->mutex);
        usleep(10000);
        pthread_mutex_lock(&im->mutex);
    }
    if (going_on(im)) {
        ort_buf_clear(body);
        ort_buf_puts(body, "{\"points\":[");
        const ort_err err = cli_source_read(im->source, im->batch, body, &count, &diag);
        ort_buf_puts(body, "]}");
        if (err != ORT_OK || body->failed) {
            ort_diag_prefix(&diag, "%s", im->file);
            fail(im, CLI_INVALID, body->failed ? "out of memory" : diag.text);
            count = 0;
        }
        im->ended = count < im->batch;
    }
    if (count > 0) {
        *number = im->next_batch++;
        im->sizes[*number % WINDOW] = count;
        im->stored[*number % WINDOW] = false;
    }
    pthread_mutex_unlock(&im->mutex);
    return count > 0;
}

static void
batch_done(import *im, uint64_t number, cli_exit end, const char *message)
{
    pthread_mutex_lock(&im->mutex);
    if (end != CLI_OK) {
        fail(im, end, message);
    } else {
        im->stored[number % WINDOW] = true;
        im->stored_points += im->sizes[number % WINDOW];
        while (im->first_open < im->next_batch && im->stored[im->first_open % WINDOW]) {
            im->stored_prefix += im->sizes[im->first_open % WINDOW];
            im->stored[im->first_open % WINDOW] = false;
            im->first_open++;
        }
    }
    pthread_mutex_unlock(&im->mutex);
}

static void *
worker(void *arg)
{
    import *im = arg;
    uint64_t number;
    ort_buf body = {0};
    cli_client *client = cli_client_new(im->context, CLI_DATA);
    if (client == NULL) {
        batch_done(im, 0, CLI_USAGE, "no connection could be made");
    }
    while (client != NULL && take_batch(im, &body, &number)) {
        cli_reply reply;
        const cli_request request = {
            .method = "PUT", .path = im->points_path, .text = body.data, .text_len = body.len};
        const cli_exit end = cli_client_call(client, request, &reply);
        batch_done(im, number, end, reply.message);
        cli_reply_fini(&reply);
    }
    cli_client_free(client);
    ort_buf_fini(&body);
    return NULL;
}

static void
show_progress(import *im, uint64_t started_ms, bool last)
{
    uint64_t done, total;
    char count[32], rate[32];
    pthread_mutex_lock(&im->mutex);
    cli_source_progress(im->source, &done, &total);
    const uint64_t points = im->stored_points;
    pthread_mutex_unlock(&im->mutex);
    const double seconds = (double)(ort_mono_ms() - started_ms + 1) / 1000;
    cli_human_count((double)points, count, sizeof count);
    cli_human_count((double)points / seconds, rate, sizeof rate);
    if (total > 0) {
        const double share = (double)done / (double)total;
        const int filled = (int)(share * 30);
        fprintf(stderr, "\r[%.*s%*s] %3.0f %%  %s points, %s/s \033[K", filled,
                "##############################", 30 - filled, "", share * 100, count, rate);
    } else {
        fprintf(stderr, "\r%s points, %s/s \033[K", count, rate);
    }
    if (last) {
        fputc('\n', stderr);
    }
}

/* Starts the workers, waits for them, and keeps bar and progress file up to date meanwhile. */
static void
run_workers(import *im, uint32_t parallel, bool bar)
{
    pthread_t threads[PARALLEL_MAX];
    uint32_t started = 0;
    const uint64_t started_ms = ort_mono_ms();
    uint64_t saved_ms = started_ms;
    while (started < parallel &&
           ort_thread_start(&threads[started], "import", worker, im, NULL) == ORT_OK) {
        started++;
    }
    for (bool going = started > 0; going;) {
        usleep(100000);
        pthread_mutex_lock(&im->mutex);
        going = im->failure == CLI_OK && !atomic_load(&stopped) &&
                !(im->ended && im->first_open == im->next_batch);
        const uint64_t prefix = im->stored_prefix;
        pthread_mutex_unlock(&im->mutex);
        if (bar) {
            show_progress(im, started_ms, !going);
        }
        if (ort_mono_ms() - saved_ms > SAVE_EVERY_MS) {
            save_progress(im, prefix);
            saved_ms = ort_mono_ms();
        }
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (started == 0) {
        fail(im, CLI_FAILED, "no thread could be started");
    }
}

/* Makes the collection when --create asks for it; one that is there is fine. */
static cli_exit
create_collection(const import *im, const cli_args *args, const char *path)
{
    cli_reply reply;
    json_t *body = cli_collection_body(args, cli_source_dim(im->source));
    if (body == NULL) {
        return CLI_USAGE;
    }
    cli_client *client = cli_client_new(im->context, CLI_DATA);
    if (client == NULL) {
        json_decref(body);
        return CLI_USAGE;
    }
    cli_exit end =
        cli_client_call(client, (cli_request){.method = "PUT", .path = path, .json = body}, &reply);
    if (end == CLI_CONFLICT) {
        end = CLI_OK;
    } else if (end != CLI_OK) {
        fprintf(stderr, "orthant: %s\n", reply.message);
    }
    json_decref(body);
    cli_reply_fini(&reply);
    cli_client_free(client);
    return end;
}

static cli_exit
report(const import *im, uint64_t started_ms)
{
    const double seconds = (double)(ort_mono_ms() - started_ms + 1) / 1000;
    if (im->failure != CLI_OK) {
        fprintf(stderr, "orthant: %s\n", im->message);
    }
    if (im->failure != CLI_OK || atomic_load(&stopped)) {
        save_progress(im, im->stored_prefix);
        fprintf(stderr, "%llu points are stored; the same command goes on from there.\n",
                (unsigned long long)im->stored_prefix);
        return im->failure != CLI_OK ? im->failure : CLI_STOPPED;
    }
    unlink(im->progress_path);
    printf("%llu points in %.1f s (%.0f/s)%s\n", (unsigned long long)im->stored_points, seconds,
           (double)im->stored_points / seconds, im->base_points > 0 ? ", the rest was there" : "");
    return CLI_OK;
}

static cli_exit
prepare(import *im, const cli_args *args, const char *collection_path, uint64_t first_id)
{
    ort_diag diag = {""};
    if (cli_source_open(&im->source, im->file, first_id, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_INVALID;
    }
    if (cli_args_get(args, "--create") != NULL) {
        const cli_exit end = create_collection(im, args, collection_path);
        if (end != CLI_OK) {
            return end;
        }
    }
    im->base_points = cli_args_get(args, "--restart") != NULL ? 0 : load_progress(im);
    im->stored_prefix = im->base_points;
    if (im->base_points > 0) {
        fprintf(stderr, "Going on behind %llu points.\n", (unsigned long long)im->base_points);
    }
    if (cli_source_skip(im->source, im->base_points, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_INVALID;
    }
    return CLI_OK;
}

int
cli_import_command(const cli_args *args, const cli_context *context)
{
    ort_diag diag = {""};
    uint64_t batch, parallel, first_id;
    if (args->word_count < 3) {
        fputs("usage: orthant import COLLECTION FILE [--create [--dim N] [--distance D] "
              "[--text-vector NAME]] [--batch N] [--parallel N] [--first-id N] [--restart]\n",
              stderr);
        return CLI_USAGE;
    }
    if (cli_args_u64(args, "--batch", 1, 10000, 200, &batch, &diag) != ORT_OK ||
        cli_args_u64(args, "--parallel", 1, PARALLEL_MAX, 4, &parallel, &diag) != ORT_OK ||
        cli_args_u64(args, "--first-id", 0, UINT64_MAX, 0, &first_id, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_USAGE;
    }
    char progress[1024], target[2048];
    ort_buf path = {0}, points = {0};
    struct stat st = {0};
    stat(args->words[2], &st);
    snprintf(progress, sizeof progress, "%s.orthant-progress",
             strcmp(args->words[2], "-") == 0 ? "stdin" : args->words[2]);
    snprintf(target, sizeof target, "%s %s %lld %lld %llu",
             context->url != NULL ? context->url : "", args->words[1], (long long)st.st_size,
             (long long)st.st_mtime, (unsigned long long)first_id);
    ort_buf_puts(&path, "/collections/");
    cli_path_segment(&path, args->words[1]);
    ort_buf_printf(&points, "%s/points?wait=true", ort_buf_peek_cstr(&path));

    import *im = calloc(1, sizeof *im);
    if (im == NULL) {
        fputs("orthant: out of memory\n", stderr);
        return CLI_FAILED;
    }
    im->context = context;
    im->file = args->words[2];
    im->points_path = ort_buf_peek_cstr(&points);
    im->progress_path = progress;
    im->target = target;
    im->batch = (uint32_t)batch;
    pthread_mutex_init(&im->mutex, NULL);
    cli_exit end = prepare(im, args, ort_buf_peek_cstr(&path), first_id);
    if (end == CLI_OK) {
        const struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        const uint64_t started_ms = ort_mono_ms();
        run_workers(im, (uint32_t)parallel, isatty(STDERR_FILENO) != 0);
        end = report(im, started_ms);
    }
    cli_source_close(im->source);
    pthread_mutex_destroy(&im->mutex);
    free(im);
    ort_buf_fini(&path);
    ort_buf_fini(&points);
    return end;
}
