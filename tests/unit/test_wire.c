/* Tables, envelopes and messages: what is encoded reads back, and nothing else is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/x509.h"
#include "wire/messages.h"
#include "wire/table.h"

static ort_table *
apply(const ort_table *base, const char *body)
{
    ort_table *out = NULL;
    ort_diag diag = {""};
    if (ort_table_apply(&out, base, body, strlen(body), NULL, &diag) != ORT_OK) {
        fail_msg("%s: %s", body, diag.text);
    }
    return out;
}

static ort_err
refuse(const char *body, ort_diag *diag)
{
    ort_table *out = NULL;
    const ort_err err = ort_table_apply(&out, NULL, body, strlen(body), NULL, diag);
    assert_null(out);
    return err;
}

#define T1 "0000000000000001"
#define T2 "0000000000000002"
#define N1 "00000000000000a1"

static const char WHOLE[] = "{\"tenants\":{\"" T1 "\":{\"state\":\"active\"},\"" T2
                            "\":{\"state\":\"active\"}},\"directory\":{\"" T1 "\":{\"home\":\"" N1
                            "\",\"regions\":[]}},\"nodes\":{\"" N1 "\":{\"region\":\"eu\"}}}";

static void
a_change_leads_to_the_same_table_as_the_whole(void **state)
{
    (void)state;
    ort_table *base = apply(NULL, WHOLE);
    ort_table *changed = apply(base, "{\"tenants\":{\"" T1 "\":{\"state\":\"suspended\"},\"" T2
                                     "\":null,\"00000000000000ff\":null},\"future\":[1]}");
    ort_table *same = apply(
        NULL, "{\"directory\":{\"" T1 "\":{\"home\":\"" N1 "\",\"regions\":[]}},\"nodes\":{\"" N1
              "\":{\"region\":\"eu\"}},\"tenants\":{\"" T1 "\":{\"state\":\"suspended\"}}}");
    ort_hash a, b, c;
    ort_entry e;
    ort_table_hash(changed, &a);
    ort_table_hash(same, &b);
    ort_table_hash(base, &c);
    assert_true(ort_hash_equal(&a, &b));
    assert_false(ort_hash_equal(&a, &c));
    assert_int_equal(ort_section_count(ort_table_peek(changed, ORT_TABLE_TENANTS)), 1);
    assert_int_equal(ort_section_count(ort_table_peek(base, ORT_TABLE_TENANTS)), 2);
    assert_true(ort_section_get(ort_table_peek(base, ORT_TABLE_TENANTS), 1, &e));
    assert_string_equal(e.text, "{\"state\":\"active\"}"); /* the old table has not moved */
    assert_true(ort_section_get(ort_table_peek(changed, ORT_TABLE_TENANTS), 1, &e));
    assert_string_equal(e.text, "{\"state\":\"suspended\"}");
    assert_false(ort_section_get(ort_table_peek(changed, ORT_TABLE_TENANTS), 2, &e));
    ort_table_unref(base);
    ort_table_unref(changed);
    ort_table_unref(same);
}

/* Both planes must agree on it for ever: computed here by the words of wire/table.h. */
static void
the_state_hash_is_the_documented_one(void **state)
{
    (void)state;
    ort_table *t = apply(NULL, "{\"tenants\":{\"" T1 "\":{\"a\":1}},\"nodes\":{\"" N1 "\":{}}}");
    ort_hash want, other, got;
    ort_hash_of(&want, "t" T1 "{\"a\":1}", strlen("t" T1 "{\"a\":1}"));
    ort_hash_of(&other, "n" N1 "{}", strlen("n" N1 "{}"));
    ort_hash_xor(&want, &other);
    ort_table_hash(t, &got);
    assert_true(ort_hash_equal(&want, &got));
    ort_table_unref(t);
    ort_table_hash(NULL, &got);
    assert_true(ort_hash_is_zero(&got));
}

static void
bodies_of_another_shape_are_refused(void **state)
{
    (void)state;
    ort_diag diag = {""};
    assert_int_equal(refuse("", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("[]", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":[]}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":null}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":{\"1\":{}}}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":{\"0000000000000000\":{}}}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":{\"" T1 "\":1}}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"tenants\":{\"" T1 "\":{}}", &diag), ORT_EFORMAT);
    assert_int_equal(refuse("{\"nodes\":{},\"tenants\":{\"000000000000000G\":{}}}", &diag),
                     ORT_EFORMAT);
}

static uint64_t
next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 16;
}

/* Random histories: the diff between any two tables, applied to the first, gives the second, and
 * removing everything gives the empty table's hash. */
static void
a_diff_applied_gives_the_other_table(void **state)
{
    (void)state;
    uint64_t seed = 20261121;
    ort_section *section = NULL;
    ort_table *tables[40] = {NULL};
    const size_t count = sizeof tables / sizeof *tables;
    for (size_t i = 0; i < count; i++) {
        ort_section_edit *edit;
        assert_int_equal(ort_section_edit_begin(&edit, ORT_TABLE_DIRECTORY, section, NULL), ORT_OK);
        for (int k = 0; k < 400; k++) {
            char text[32];
            const uint64_t id = 1 + next_random(&seed) % 3000;
            snprintf(text, sizeof text, "{\"v\":%d}", (int)(next_random(&seed) % 5));
            if (next_random(&seed) % 3 == 0) {
                assert_int_equal(ort_section_edit_remove(edit, id), ORT_OK);
            } else {
                assert_int_equal(ort_section_edit_put(edit, id, text, strlen(text), NULL), ORT_OK);
            }
        }
        ort_section_unref(section);
        section = ort_section_edit_done(edit);
        assert_int_equal(ort_table_new(&tables[i], NULL, section, NULL), ORT_OK);
    }
    for (size_t i = 0; i < count; i++) {
        const size_t k = next_random(&seed) % count;
        ort_buf body = {0}, again = {0};
        ort_table *got, *whole;
        ort_hash want, have;
        assert_int_equal(ort_table_diff(tables[i], tables[k], &body), ORT_OK);
        got = apply(tables[i], ort_buf_peek_cstr(&body));
        ort_table_hash(tables[k], &want);
        ort_table_hash(got, &have);
        assert_true(ort_hash_equal(&want, &have));
        assert_int_equal(ort_table_write(tables[k], &again), ORT_OK);
        whole = apply(NULL, ort_buf_peek_cstr(&again));
        ort_table_hash(whole, &have);
        assert_true(ort_hash_equal(&want, &have));
        assert_int_equal(ort_section_count(ort_table_peek(whole, ORT_TABLE_DIRECTORY)),
                         ort_section_count(ort_table_peek(tables[k], ORT_TABLE_DIRECTORY)));
        ort_buf_clear(&body);
        assert_int_equal(ort_table_diff(got, whole, &body), ORT_OK);
        assert_string_equal(ort_buf_peek_cstr(&body), "{}");
        ort_buf_fini(&body);
        ort_buf_fini(&again);
        ort_table_unref(got);
        ort_table_unref(whole);
    }
    for (size_t i = 0; i < count; i++) {
        ort_table_unref(tables[i]);
    }
    ort_section_unref(section);
}

static int decoded_alive;

static ort_err
decode_state(ort_table_kind kind, uint64_t id, const char *text, size_t len, void **out,
             ort_diag *diag)
{
    (void)kind, (void)id, (void)len;
    if (strstr(text, "bad") != NULL) {
        return ort_fail(diag, ORT_EVALIDATE, "bad");
    }
    *out = strdup(text);
    decoded_alive++;
    return *out != NULL ? ORT_OK : ORT_ENOMEM;
}

static void
free_state(ort_table_kind kind, void *decoded)
{
    (void)kind;
    decoded_alive--;
    free(decoded);
}

/* One bad entry among good ones refuses the whole change; nothing of it stays, and what the old
 * table shares with it is freed once. */
static void
one_bad_entry_refuses_the_whole_change(void **state)
{
    (void)state;
    static const ort_table_codec codec = {decode_state, free_state};
    ort_table *base = NULL, *out = NULL;
    ort_diag diag = {""};
    const char *bad = "{\"tenants\":{\"" T1 "\":{\"new\":1},\"" T2 "\":{\"bad\":1}}}";
    assert_int_equal(ort_table_apply(&base, NULL, WHOLE, strlen(WHOLE), &codec, &diag), ORT_OK);
    assert_int_equal(decoded_alive, 4);
    assert_int_equal(ort_table_apply(&out, base, bad, strlen(bad), &codec, &diag), ORT_EVALIDATE);
    assert_null(out);
    assert_string_equal(diag.text, "tenants." T2 ": bad");
    assert_int_equal(decoded_alive, 4);
    ort_table_unref(base);
    assert_int_equal(decoded_alive, 0);
}

/* ---- envelopes ---- */

static void
seal(const ort_sign_key *key, ort_buf *out)
{
    ort_table_head head = {.hub_id = 1,
                           .node = {2},
                           .at = {.generation = 3, .version = 4},
                           .base = 5,
                           .issued_at_ms = 6};
    head.at.hash.b[0] = 7;
    head.base_hash.b[31] = 8;
    assert_int_equal(ort_envelope_seal(&head, WHOLE, strlen(WHOLE), key, out, NULL), ORT_OK);
}

static void
an_envelope_opens_as_it_was_sealed(void **state)
{
    (void)state;
    ort_sign_key key, other;
    ort_buf bytes = {0}, body = {0};
    ort_table_head head;
    ort_sign_key_new(&key);
    ort_sign_key_new(&other);
    seal(&key, &bytes);
    assert_int_equal(ort_envelope_open(bytes.data, bytes.len, &other.public, &head, NULL),
                     ORT_EAUTH);
    assert_int_equal(ort_envelope_open(bytes.data, bytes.len, &key.public, &head, NULL), ORT_OK);
    assert_true(head.hub_id == 1 && head.node.v == 2 && head.at.generation == 3);
    assert_true(head.at.version == 4 && head.base == 5 && head.issued_at_ms == 6);
    assert_true(head.at.hash.b[0] == 7 && head.base_hash.b[31] == 8);
    assert_int_equal(ort_envelope_body(bytes.data, bytes.len, &body, NULL), ORT_OK);
    assert_string_equal(ort_buf_peek_cstr(&body), WHOLE);
    ort_buf_fini(&body);
    ort_buf_fini(&bytes);
}

/* Every byte is under the signature, the signature itself included. */
static void
an_envelope_with_any_bit_flipped_or_cut_is_refused(void **state)
{
    (void)state;
    ort_sign_key key;
    ort_buf bytes = {0}, body = {0};
    ort_table_head head;
    ort_sign_key_new(&key);
    seal(&key, &bytes);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ 1 << bit % 8);
        assert_int_not_equal(ort_envelope_open(bytes.data, bytes.len, &key.public, &head, NULL),
                             ORT_OK);
        /* Unpacking alone must be safe too: a stranger's signature may be good. */
        ort_buf_clear(&body);
        (void)!ort_envelope_body(bytes.data, bytes.len, &body, NULL);
        bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t n = 0; n < bytes.len; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, bytes.data, n);
        assert_int_equal(ort_envelope_open(cut, n, &key.public, &head, NULL), ORT_EFORMAT);
        assert_int_equal(ort_envelope_body(cut, n, &body, NULL), ORT_EFORMAT);
        free(cut);
    }
    ort_buf_putc(&bytes, 0);
    assert_int_equal(ort_envelope_open(bytes.data, bytes.len, &key.public, &head, NULL),
                     ORT_EFORMAT);
    ort_buf_fini(&body);
    ort_buf_fini(&bytes);
}

/* ---- frames and messages ---- */

static void
a_signed_frame_with_any_bit_flipped_is_refused(void **state)
{
    (void)state;
    ort_sign_key key;
    ort_buf bytes = {0};
    ort_frame read;
    const ort_frame frame = {.type = ORT_MSG_HEARTBEAT,
                             .node = {1},
                             .incarnation = 2,
                             .sequence = 3,
                             .body = "{}",
                             .body_len = 2};
    ort_sign_key_new(&key);
    assert_int_equal(ort_frame_write(&frame, &key, &bytes), ORT_OK);
    assert_int_equal(ort_frame_read(bytes.data, bytes.len, &read, NULL), ORT_OK);
    assert_true(ort_frame_verify(bytes.data, bytes.len, &key.public));
    assert_true(read.node.v == 1 && read.incarnation == 2 && read.sequence == 3 && read.is_signed);
    assert_true(read.type == ORT_MSG_HEARTBEAT && read.body_len == 2);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ 1 << bit % 8);
        assert_false(ort_frame_verify(bytes.data, bytes.len, &key.public));
        bytes.data[bit / 8] = (char)(bytes.data[bit / 8] ^ 1 << bit % 8);
    }
    for (size_t n = 0; n < bytes.len; n++) {
        assert_int_equal(ort_frame_read(bytes.data, n, &read, NULL), ORT_EFORMAT);
    }
    ort_buf_fini(&bytes);
    assert_int_equal(ort_frame_write(&frame, NULL, &bytes), ORT_OK);
    assert_false(ort_frame_verify(bytes.data, bytes.len, &key.public)); /* unsigned is not signed */
    ort_buf_fini(&bytes);
}

/* Each message through one mould: encode, decode, encode again, the same bytes; then every cut of
 * it is refused and every single changed byte is refused or read without harm. */
#define MOULD(NAME, TYPE, FINI)                                           \
    static ort_err again_##NAME(const char *body, size_t n, ort_buf *out) \
    {                                                                     \
        TYPE m;                                                           \
        ort_err err = NAME##_decode(body, n, &m, NULL);                   \
        if (err == ORT_OK) {                                              \
            err = NAME##_encode(&m, out);                                 \
            FINI;                                                         \
        }                                                                 \
        return err;                                                       \
    }

MOULD(ort_wire_error, ort_wire_error, (void)0)
MOULD(ort_hello, ort_hello, ort_hello_fini(&m))
MOULD(ort_hello_reply, ort_hello_reply, ort_hello_reply_fini(&m))
MOULD(ort_heartbeat, ort_heartbeat, ort_heartbeat_fini(&m))
MOULD(ort_heartbeat_reply, ort_heartbeat_reply, (void)0)
MOULD(ort_fetch, ort_fetch, (void)0)
MOULD(ort_forward_request, ort_forward_request, ort_forward_request_fini(&m))
MOULD(ort_forward_reply, ort_forward_reply, ort_forward_reply_fini(&m))

static void
press(const char *name, ort_err (*again)(const char *, size_t, ort_buf *), const ort_buf *bytes)
{
    ort_buf out = {0};
    if (again(bytes->data, bytes->len, &out) != ORT_OK) {
        fail_msg("%s: %.*s", name, (int)bytes->len, bytes->data);
    }
    assert_int_equal(out.len, bytes->len);
    assert_memory_equal(out.data, bytes->data, out.len);
    for (size_t n = 0; n < bytes->len; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, bytes->data, n);
        ort_buf_clear(&out);
        if (again(cut, n, &out) == ORT_OK) {
            fail_msg("%s: %zu of %zu bytes were taken", name, n, bytes->len);
        }
        free(cut);
    }
    char *changed = malloc(bytes->len + 1);
    memcpy(changed, bytes->data, bytes->len);
    for (size_t i = 0; i < bytes->len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            changed[i] = (char)(bytes->data[i] ^ 1 << bit);
            ort_buf_clear(&out);
            (void)!again(changed, bytes->len, &out);
        }
        changed[i] = bytes->data[i];
    }
    free(changed);
    ort_buf_fini(&out);
}

static void
every_message_reads_back_and_no_part_of_it_does(void **state)
{
    (void)state;
    ort_buf b = {0};

    const ort_wire_error error = {.err = ORT_ERATE, .message = "slow \"down\" \\ é"};
    assert_int_equal(ort_wire_error_encode(&error, &b), ORT_OK);
    press("error", again_ort_wire_error, &b);
    ort_buf_clear(&b);

    ort_hello hello = {.join_token = "orthjoin_x",
                       .name = "node-a",
                       .region = "eu-central",
                       .zone = "a",
                       .endpoint = "http://127.0.0.1:6333",
                       .forward = "tls+tcp://127.0.0.1:7401",
                       .software = "0.1.0",
                       .capacity_bytes = UINT64_MAX,
                       .csr_pem = "-----BEGIN\nx\n",
                       .applied = {.generation = 1, .version = UINT64_MAX}};
    assert_int_equal(ort_hello_encode(&hello, &b), ORT_OK);
    press("hello", again_ort_hello, &b);
    ort_buf_clear(&b);

    ort_hello_reply reply = {.hub_id = 9,
                             .node = {8},
                             .ca_pem = "CA\n",
                             .cert_pem = "CERT\n",
                             .has_pepper = true,
                             .control_url = "tls+tcp://c:1",
                             .hint_url = "tls+tcp://c:2"};
    assert_int_equal(ort_hello_reply_encode(&reply, &b), ORT_OK);
    press("hello reply", again_ort_hello_reply, &b);
    ort_buf_clear(&b);

    ort_usage usage[2] = {{.tenant = {1}, .points = 5, .bytes_out = 7}, {.tenant = {2}}};
    ort_tenant_id gone[1] = {{3}};
    ort_key_used used[1] = {{.key = {{4}, 5}, .at_ms = -6}};
    ort_heartbeat beat = {.applied = {.version = 2},
                          .has_nack = true,
                          .nack = {.version = 3, .err = ORT_EVALIDATE, .reason = "invalid"},
                          .load = {.cpu_ratio = 0.25, .disk_total_bytes = 100},
                          .usage = usage,
                          .usage_count = 2,
                          .gone = gone,
                          .gone_count = 1,
                          .key_used = used,
                          .key_used_count = 1};
    assert_int_equal(ort_heartbeat_encode(&beat, &b), ORT_OK);
    press("heartbeat", again_ort_heartbeat, &b);
    ort_buf_clear(&b);

    const ort_heartbeat_reply beat_reply = {.newest = {.version = 4}, .fetch = true};
    assert_int_equal(ort_heartbeat_reply_encode(&beat_reply, &b), ORT_OK);
    press("heartbeat reply", again_ort_heartbeat_reply, &b);
    ort_buf_clear(&b);

    const ort_fetch fetch = {.applied = {.generation = 2}, .whole = true};
    assert_int_equal(ort_fetch_encode(&fetch, &b), ORT_OK);
    press("fetch", again_ort_fetch, &b);
    ort_buf_clear(&b);

    const ort_forward_header headers[2] = {{"api-key", "secret"}, {"content-type", ""}};
    const ort_forward_request request = {.hops = 1,
                                         .timeout_ms = 1000,
                                         .method = "POST",
                                         .target = "/collections/a?b=c",
                                         .request_id = "r1",
                                         .remote = "10.0.0.1:5",
                                         .headers = headers,
                                         .header_count = 2,
                                         .body = "\0body",
                                         .body_len = 5};
    assert_int_equal(ort_forward_request_encode(&request, &b), ORT_OK);
    press("forward", again_ort_forward_request, &b);
    ort_buf_clear(&b);

    const ort_forward_reply answer = {
        .status = 200, .headers = headers, .header_count = 1, .body = "{}", .body_len = 2};
    assert_int_equal(ort_forward_reply_encode(&answer, &b), ORT_OK);
    press("forward reply", again_ort_forward_reply, &b);
    ort_buf_fini(&b);
}

static void
texts_that_break_a_bound_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"code\":1}",
        "{\"code\":\"ok\",\"message\":\"a\\nb\"}",
        "{\"code\":\"ok\",\"message\":\"a\\u0000b\"}",
        "{\"code\":\"ok\",\"message\":\"\\u007f\"}",
        "[]",
        "{}",
    };
    ort_wire_error e;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(ort_wire_error_decode(bad[i], strlen(bad[i]), &e, NULL), ORT_EFORMAT);
    }
    const char *good = "{\"message\":\"x\",\"code\":\"from-the-future\",\"more\":{}}";
    assert_int_equal(ort_wire_error_decode(good, strlen(good), &e, NULL), ORT_OK);
    assert_int_equal(e.err, ORT_EINTERNAL);
}

/* A header or a target that ends a line would let a peer write into the request of another. */
static void
a_forward_with_line_breaks_or_a_second_hop_is_refused(void **state)
{
    (void)state;
    const ort_forward_header split = {"x", "a\r\nb"}, empty = {"", "a"}, spaced = {"a b", "c"};
    const ort_forward_header *const headers[] = {&split, &empty, &spaced, NULL, NULL, NULL};
    const char *const targets[] = {"/", "/", "/", "/a b", "x", "/"};
    const uint32_t hops[] = {1, 1, 1, 1, 1, 2};
    for (size_t i = 0; i < 6; i++) {
        ort_buf b = {0};
        ort_forward_request out;
        const ort_forward_request m = {.hops = hops[i],
                                       .method = "GET",
                                       .target = targets[i],
                                       .headers = headers[i],
                                       .header_count = headers[i] != NULL};
        assert_int_equal(ort_forward_request_encode(&m, &b), ORT_OK);
        assert_int_equal(ort_forward_request_decode(b.data, b.len, &out, NULL), ORT_EFORMAT);
        ort_buf_fini(&b);
    }
}

static void
a_hint_reaches_whom_it_names(void **state)
{
    (void)state;
    const ort_hint_entry some[2] = {{{1}, 10}, {{2}, 20}};
    ort_buf b = {0};
    uint64_t generation = 0, version = 0;
    assert_int_equal(ort_hint_encode(3, some, 2, &b), ORT_OK);
    assert_int_equal(ort_hint_decode(b.data, b.len, (ort_node_id){2}, &generation, &version),
                     ORT_OK);
    assert_true(generation == 3 && version == 20);
    assert_int_equal(ort_hint_decode(b.data, b.len, (ort_node_id){3}, &generation, &version),
                     ORT_ENOTFOUND);
    for (size_t n = 0; n < b.len; n++) {
        assert_int_equal(ort_hint_decode(b.data, n, (ort_node_id){2}, &generation, &version),
                         ORT_EFORMAT);
    }
    ort_buf_clear(&b);
    assert_int_equal(ort_hint_encode(3, NULL, 0, &b), ORT_OK);
    assert_int_equal(ort_hint_decode(b.data, b.len, (ort_node_id){9}, &generation, &version),
                     ORT_OK);
    ort_buf_fini(&b);
}

static void
tables_in_a_row_come_out_in_order(void **state)
{
    (void)state;
    ort_buf b = {0};
    const void *one;
    size_t n;
    ort_tables_put(&b, "first", 5);
    ort_tables_put(&b, "", 0);
    ort_tables_put(&b, "third", 5);
    ort_cursor c = ort_cursor_of(b.data, b.len);
    assert_true(ort_tables_next(&c, &one, &n) && n == 5 && memcmp(one, "first", 5) == 0);
    assert_true(ort_tables_next(&c, &one, &n) && n == 0);
    assert_true(ort_tables_next(&c, &one, &n) && n == 5 && memcmp(one, "third", 5) == 0);
    assert_false(ort_tables_next(&c, &one, &n) || c.failed);
    c = ort_cursor_of(b.data, 7);
    assert_false(ort_tables_next(&c, &one, &n));
    assert_true(c.failed);
    ort_buf_fini(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_change_leads_to_the_same_table_as_the_whole),
        cmocka_unit_test(the_state_hash_is_the_documented_one),
        cmocka_unit_test(bodies_of_another_shape_are_refused),
        cmocka_unit_test(a_diff_applied_gives_the_other_table),
        cmocka_unit_test(one_bad_entry_refuses_the_whole_change),
        cmocka_unit_test(an_envelope_opens_as_it_was_sealed),
        cmocka_unit_test(an_envelope_with_any_bit_flipped_or_cut_is_refused),
        cmocka_unit_test(a_signed_frame_with_any_bit_flipped_is_refused),
        cmocka_unit_test(every_message_reads_back_and_no_part_of_it_does),
        cmocka_unit_test(texts_that_break_a_bound_are_refused),
        cmocka_unit_test(a_forward_with_line_breaks_or_a_second_hop_is_refused),
        cmocka_unit_test(a_hint_reaches_whom_it_names),
        cmocka_unit_test(tables_in_a_row_come_out_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
