/* `orthant collection`, `orthant query`, `orthant export`: the data API by hand. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "cli/commands.h"
#include "cli/output.h"

#define EXPORT_PAGE 256

static int
usage(const char *text)
{
    fprintf(stderr, "usage: orthant %s\n", text);
    return CLI_USAGE;
}

/* "/collections/NAME" and what follows it. */
static const char *
collection_path(ort_buf *out, const char *name, const char *rest)
{
    ort_buf_clear(out);
    ort_buf_puts(out, "/collections/");
    cli_path_segment(out, name);
    ort_buf_puts(out, rest);
    return ort_buf_peek_cstr(out);
}

/* Sends, prints `result` of the answer, ends everything. */
static int
call_and_print(cli_client *client, cli_request request, cli_format format)
{
    cli_reply reply;
    const int end = cli_client_call_loud(client, request, &reply);
    if (end == CLI_OK) {
        cli_print_object(format, json_object_get(reply.json, "result"));
    }
    cli_reply_fini(&reply);
    return end;
}

static int
list(cli_client *client, cli_format format)
{
    static const cli_column columns[] = {{"name", "NAME"}};
    cli_reply reply;
    const int end = cli_client_call_loud(
        client, (cli_request){.method = "GET", .path = "/collections"}, &reply);
    if (end == CLI_OK) {
        cli_print_list(format, cli_json_at(reply.json, "result.collections"), columns, 1);
    }
    cli_reply_fini(&reply);
    return end;
}

json_t *
cli_collection_body(const cli_args *args, uint64_t dim_otherwise)
{
    ort_diag diag = {""};
    uint64_t dim;
    const char *distance = cli_args_get(args, "--distance");
    const char *datatype = cli_args_get(args, "--datatype");
    const char *text = cli_args_get(args, "--text-vector");
    if (cli_args_u64(args, "--dim", 1, ORT_DIM_MAX, dim_otherwise, &dim, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return NULL;
    }
    if (dim == 0 && text == NULL) {
        fputs("orthant: a collection needs --dim N, --text-vector NAME or both\n", stderr);
        return NULL;
    }
    json_t *body = json_object();
    if (dim > 0) {
        json_t *vectors = json_pack("{s:I,s:s}", "size", (json_int_t)dim, "distance",
                                    distance != NULL ? distance : "Cosine");
        if (datatype != NULL) {
            json_object_set_new(vectors, "datatype", json_string(datatype));
        }
        json_object_set_new(body, "vectors", vectors);
    }
    if (text != NULL) {
        json_object_set_new(body, "sparse_vectors",
                            json_pack("{s:{s:s}}", text, "modifier", "idf"));
    }
    return body;
}

static int
create(cli_client *client, const cli_args *args, const char *path, cli_format format)
{
    json_t *body = cli_collection_body(args, 0);
    if (body == NULL) {
        return usage("collection create NAME [--dim N] [--text-vector NAME] "
                     "[--distance Cosine|Dot|Euclid|Manhattan] "
                     "[--datatype float32|float16|uint8]");
    }
    const int end =
        call_and_print(client, (cli_request){.method = "PUT", .path = path, .json = body}, format);
    json_decref(body);
    return end;
}

int
cli_collection_command(const cli_args *args, const cli_context *context)
{
    ort_diag diag = {""};
    cli_format format;
    const char *verb = args->word_count > 1 ? args->words[1] : "list";
    const char *name = args->word_count > 2 ? args->words[2] : NULL;
    if (cli_format_of(args, &format, &diag) != ORT_OK) {
        return usage(diag.text);
    }
    cli_client *client = cli_client_new(context, CLI_DATA);
    if (client == NULL) {
        return CLI_USAGE;
    }
    ort_buf path = {0};
    int end;
    if (strcmp(verb, "list") == 0) {
        end = list(client, format);
    } else if (name == NULL) {
        end = usage("collection list | get NAME | create NAME --dim N | count NAME | delete NAME");
    } else if (strcmp(verb, "create") == 0) {
        end = create(client, args, collection_path(&path, name, ""), format);
    } else if (strcmp(verb, "get") == 0) {
        const char *p = collection_path(&path, name, "");
        end = call_and_print(client, (cli_request){.method = "GET", .path = p}, format);
    } else if (strcmp(verb, "count") == 0) {
        const char *p = collection_path(&path, name, "/points/count");
        const cli_request r = {.method = "POST", .path = p, .text = "{}", .text_len = 2};
        end = call_and_print(client, r, format);
    } else if (strcmp(verb, "delete") == 0) {
        char question[400];
        snprintf(question, sizeof question, "Delete collection %.200s with all its points?", name);
        const char *p = collection_path(&path, name, "");
        end = cli_confirm(args, question)
                  ? call_and_print(client, (cli_request){.method = "DELETE", .path = p}, format)
                  : CLI_FAILED;
    } else {
        end = usage("collection list|get|create|count|delete");
    }
    ort_buf_fini(&path);
    cli_client_free(client);
    return end;
}

/* --vector '[..]', --vector @FILE, --vector - (standard input), or --id: the query as JSON. NULL
 * with a message when it is neither. */
static json_t *
query_of(const cli_args *args)
{
    const char *vector = cli_args_get(args, "--vector"), *id = cli_args_get(args, "--id");
    json_error_t error;
    json_t *query;
    if (vector == NULL && id == NULL) {
        return json_null();
    }
    if (vector == NULL) {
        query = json_loads(id, JSON_DECODE_ANY, NULL);
        return json_is_integer(query) ? query : (json_decref(query), json_string(id));
    }
    if (strcmp(vector, "-") == 0) {
        query = json_loadf(stdin, 0, &error);
    } else if (vector[0] == '@') {
        query = json_load_file(vector + 1, 0, &error);
    } else {
        query = json_loads(vector, 0, &error);
    }
    if (query == NULL) {
        fprintf(stderr, "orthant: --vector: %s\n", error.text);
    }
    return query;
}

/* What is asked put into body: --vector or --id, --text, or both, fused by their ranks. False with
 * a message when they cannot be read. */
static bool
set_query(json_t *body, const cli_args *args)
{
    const char *text = cli_args_get(args, "--text"), *using = cli_args_get(args, "--using");
    const char *text_vector = cli_args_get(args, "--text-vector");
    json_t *vector = query_of(args);
    if (vector == NULL) {
        return false;
    }
    json_t *words =
        text == NULL ? NULL
                     : json_pack("{s:{s:s,s:s},s:s}", "query", "text", text, "model", "qdrant/bm25",
                                 "using", text_vector != NULL ? text_vector : "text");
    if (words != NULL && json_is_null(vector)) {
        json_object_update(body, words);
        json_decref(words);
        json_decref(vector);
        return true;
    }
    json_t *near = json_is_null(vector) ? json_object() : json_pack("{s:O}", "query", vector);
    if (using != NULL) {
        json_object_set_new(near, "using", json_string(using));
    }
    if (words != NULL) {
        json_object_set_new(body, "prefetch", json_pack("[o,o]", near, words));
        json_object_set_new(body, "query", json_pack("{s:s}", "fusion", "rrf"));
    } else {
        json_object_update(body, near);
        json_decref(near);
    }
    json_decref(vector);
    return true;
}

/* A JSON flag of the command line put into body; false with a message when it is no JSON. */
static bool
set_json_flag(json_t *body, const char *member, const cli_args *args, const char *flag)
{
    const char *text = cli_args_get(args, flag);
    json_error_t error;
    if (text == NULL) {
        return true;
    }
    json_t *value = json_loads(text, 0, &error);
    if (value == NULL) {
        fprintf(stderr, "orthant: %s: %s\n", flag, error.text);
        return false;
    }
    json_object_set_new(body, member, value);
    return true;
}

static void
print_hits(const json_t *points)
{
    size_t i;
    const json_t *point;
    json_array_foreach(points, i, point)
    {
        const json_t *id = json_object_get(point, "id"), *score = json_object_get(point, "score");
        char *payload = json_dumps(json_object_get(point, "payload"), JSON_COMPACT);
        char *id_text = json_dumps(id, JSON_ENCODE_ANY);
        printf("%2zu.  id %s", i + 1, id_text != NULL ? id_text : "?");
        if (score != NULL) {
            printf("  score %.4f", json_number_value(score));
        }
        printf("\n");
        if (payload != NULL && strcmp(payload, "{}") != 0) {
            printf("     %.300s%s\n", payload, strlen(payload) > 300 ? "…" : "");
        }
        free(payload);
        free(id_text);
    }
    if (json_array_size(points) == 0) {
        fputs("nothing found\n", stderr);
    }
}

int
cli_query_command(const cli_args *args, const cli_context *context)
{
    ort_diag diag = {""};
    cli_format format;
    uint64_t limit, ef;
    if (args->word_count < 2) {
        return usage("query COLLECTION [--vector JSON|@FILE|-] [--id ID] [--text WORDS] "
                     "[--filter JSON] [--limit N] [--ef N] [--exact]");
    }
    if (cli_format_of(args, &format, &diag) != ORT_OK ||
        cli_args_u64(args, "--limit", 1, 65536, 10, &limit, &diag) != ORT_OK ||
        cli_args_u64(args, "--ef", 1, 65536, 0, &ef, &diag) != ORT_OK) {
        fprintf(stderr, "orthant: %s\n", diag.text);
        return CLI_USAGE;
    }
    json_t *body = json_pack("{s:I,s:b}", "limit", (json_int_t)limit, "with_payload", 1);
    if (!set_query(body, args)) {
        json_decref(body);
        return CLI_USAGE;
    }
    json_t *params = json_object();
    if (ef > 0) {
        json_object_set_new(params, "hnsw_ef", json_integer((json_int_t)ef));
    }
    if (cli_args_get(args, "--exact") != NULL) {
        json_object_set_new(params, "exact", json_true());
    }
    json_object_set_new(body, "params", params);
    int end = CLI_USAGE;
    cli_client *client = NULL;
    if (set_json_flag(body, "filter", args, "--filter") &&
        (client = cli_client_new(context, CLI_DATA)) != NULL) {
        ort_buf path = {0};
        cli_reply reply;
        const cli_request request = {
            .method = "POST",
            .path = collection_path(&path, args->words[1], "/points/query"),
            .json = body,
        };
        end = cli_client_call_loud(client, request, &reply);
        const json_t *points = cli_json_at(reply.json, "result.points");
        if (end == CLI_OK && format == CLI_JSON) {
            cli_print_object(format, points);
        } else if (end == CLI_OK) {
            print_hits(points);
        }
        cli_reply_fini(&reply);
        ort_buf_fini(&path);
    }
    cli_client_free(client);
    json_decref(body);
    return end;
}

/* One page of a scroll; *offset is replaced by the next page's, or NULL. Prints one line a point.
 */
static cli_exit
export_page(cli_client *client, const char *path, const cli_args *args, FILE *out, json_t **offset,
            uint64_t *count)
{
    cli_reply reply;
    size_t i;
    const json_t *point;
    json_t *body = json_pack("{s:i,s:b,s:b}", "limit", EXPORT_PAGE, "with_payload", 1,
                             "with_vector", cli_args_get(args, "--no-vectors") == NULL);
    if (*offset != NULL) {
        json_object_set_new(body, "offset", *offset);
        *offset = NULL;
    }
    cli_exit end = set_json_flag(body, "filter", args, "--filter") ? CLI_OK : CLI_USAGE;
    if (end == CLI_OK) {
        end = cli_client_call_loud(
            client, (cli_request){.method = "POST", .path = path, .json = body}, &reply);
        json_array_foreach(cli_json_at(reply.json, "result.points"), i, point)
        {
            /* Nine digits give every float back; jansson's 17 would only make the file larger. */
            if (json_dumpf(point, out, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0 ||
                fputc('\n', out) == EOF) {
                fputs("orthant: the file cannot be written\n", stderr);
                end = CLI_FAILED;
                break;
            }
            (*count)++;
        }
        const json_t *next = cli_json_at(reply.json, "result.next_page_offset");
        *offset = next != NULL && !json_is_null(next) ? json_deep_copy(next) : NULL;
        cli_reply_fini(&reply);
    }
    json_decref(body);
    return end;
}

int
cli_export_command(const cli_args *args, const cli_context *context)
{
    if (args->word_count < 2) {
        return usage("export COLLECTION [FILE] [--filter JSON] [--no-vectors]");
    }
    const char *file = args->word_count > 2 ? args->words[2] : "-";
    cli_client *client = cli_client_new(context, CLI_DATA);
    if (client == NULL) {
        return CLI_USAGE;
    }
    FILE *out = strcmp(file, "-") == 0 ? stdout : fopen(file, "w");
    if (out == NULL) {
        perror(file);
        cli_client_free(client);
        return CLI_FAILED;
    }
    ort_buf path = {0};
    json_t *offset = NULL;
    uint64_t count = 0;
    cli_exit end;
    const char *scroll = collection_path(&path, args->words[1], "/points/scroll");
    do {
        end = export_page(client, scroll, args, out, &offset, &count);
    } while (end == CLI_OK && offset != NULL);
    json_decref(offset);
    if (fflush(out) != 0) {
        perror(file);
        end = CLI_FAILED;
    }
    if (out != stdout) {
        fclose(out);
    }
    if (end == CLI_OK) {
        fprintf(stderr, "%llu points\n", (unsigned long long)count);
    }
    ort_buf_fini(&path);
    cli_client_free(client);
    return end;
}
