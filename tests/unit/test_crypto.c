/* Hashes, tokens, signatures, secret files and the hub's CA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/id.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "crypto/sign.h"
#include "crypto/token.h"
#include "crypto/x509.h"

static int
scratch(char path[64])
{
    strcpy(path, "/tmp/ort-crypto-XXXXXX");
    assert_non_null(mkdtemp(path));
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void
drop(const char *path, int fd)
{
    const int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(ort_tree_remove(tmp, path + strlen("/tmp/"), NULL), ORT_OK);
    close(tmp);
    close(fd);
}

/* The vector of RFC 7693's algorithm at 32 bytes ("abc", from `b2sum -l 256`). */
static void
blake2b_agrees_with_b2sum(void **state)
{
    (void)state;
    ort_hash whole, parts;
    ort_hasher h;
    char text[ORT_HASH_TEXT_BYTES];
    ort_hash_of(&whole, "abc", 3);
    ort_hash_format(&whole, text);
    assert_string_equal(text, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    ort_hasher_init(&h);
    ort_hasher_put(&h, "a", 1);
    ort_hasher_put(&h, "bc", 2);
    ort_hasher_done(&h, &parts);
    assert_true(ort_hash_equal(&whole, &parts));
    assert_int_equal(ort_hash_parse(text, 64, &parts), ORT_OK);
    text[3] = 'D'; /* upper case would give one hash two texts */
    assert_int_equal(ort_hash_parse(text, 64, &parts), ORT_EFORMAT);
    ort_hash_xor(&parts, &whole);
    assert_true(ort_hash_is_zero(&parts));
}

static void
a_token_reads_back_as_it_was_made(void **state)
{
    (void)state;
    const unsigned char ca[ORT_TOKEN_CA_BYTES] = "0123456789abcdefghi";
    for (int kind = ORT_TOKEN_LIVE; kind <= ORT_TOKEN_JOIN; kind++) {
        ort_token made, read;
        char text[ORT_TOKEN_TEXT_BYTES], id[ORT_TOKEN_ID_TEXT_BYTES];
        ort_key_id id_read;
        const ort_tenant_id tenant = {kind < ORT_TOKEN_ADMIN ? 0xfedcba9876543210u : 0};
        ort_token_make(&made, (ort_token_kind)kind, tenant, kind == ORT_TOKEN_JOIN ? ca : NULL);
        ort_token_format(&made, text);
        assert_int_equal(ort_token_parse(text, strlen(text), &read), ORT_OK);
        assert_memory_equal(&made, &read, sizeof made);
        ort_key_id_format(made.id, id);
        assert_int_equal(strlen(id), 24);
        assert_non_null(strstr(text, id));
        assert_int_equal(ort_key_id_parse(id, 24, &id_read), ORT_OK);
        assert_true(id_read.tenant.v == tenant.v && id_read.serial == made.id.serial);
    }
}

/* The text is fixed for ever by the keys people hold: a token made by hand from its parts. */
static void
the_token_format_is_the_documented_one(void **state)
{
    (void)state;
    ort_token token = {.kind = ORT_TOKEN_LIVE, .id = {{0x0102030405060708u}, 0x090a0b0c0d0e0fu}};
    char text[ORT_TOKEN_TEXT_BYTES];
    for (size_t i = 0; i < sizeof token.secret; i++) {
        token.secret[i] = (unsigned char)i;
    }
    ort_token_format(&token, text);
    /* base32 as by Python's base64.b32encode with the alphabet replaced; CRC-32C of the rest. */
    assert_string_equal(text, "orth_live_041061050r3gg28a1c60t3gf_000g40r40m30e209185gr38e1w8124gk"
                              "03kcswt");
}

/* A checksum over all of it: no single wrong character, cut or addition passes. */
static void
every_changed_or_cut_token_is_refused(void **state)
{
    (void)state;
    ort_token token, read;
    char text[ORT_TOKEN_TEXT_BYTES];
    ort_token_make(&token, ORT_TOKEN_TEST, (ort_tenant_id){7}, NULL);
    ort_token_format(&token, text);
    const size_t len = strlen(text);
    for (size_t n = 0; n < len; n++) {
        char *cut = malloc(n + 1); /* its own block, so that reading past it shows */
        memcpy(cut, text, n);
        assert_int_equal(ort_token_parse(cut, n, &read), ORT_EFORMAT);
        free(cut);
    }
    for (size_t i = 0; i < len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            assert_int_equal(ort_token_parse(text, len, &read), ORT_EFORMAT);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    }
    text[len] = '0';
    assert_int_equal(ort_token_parse(text, len + 1, &read), ORT_EFORMAT);
}

static void
a_token_matches_its_own_hash_under_its_pepper_only(void **state)
{
    (void)state;
    unsigned char pepper[ORT_PEPPER_BYTES], other[ORT_PEPPER_BYTES];
    ort_token a, b;
    ort_hash stored;
    ort_secret_random(pepper, sizeof pepper);
    ort_secret_random(other, sizeof other);
    ort_token_make(&a, ORT_TOKEN_LIVE, (ort_tenant_id){7}, NULL);
    b = a;
    b.secret[19] ^= 1;
    ort_token_hash(&a, pepper, &stored);
    assert_true(ort_token_matches(&a, pepper, &stored));
    assert_false(ort_token_matches(&b, pepper, &stored));
    assert_false(ort_token_matches(&a, other, &stored));
    b = a;
    b.id.tenant.v = 8; /* the same secret in another tenant's name */
    assert_false(ort_token_matches(&b, pepper, &stored));
}

static void
a_signature_holds_for_its_message_key_and_domain_only(void **state)
{
    (void)state;
    ort_sign_key key, other;
    ort_signature sig;
    char message[] = "what is signed";
    ort_sign_key_new(&key);
    ort_sign_key_new(&other);
    ort_sign(&key, ORT_SIGN_TABLE, message, sizeof message, &sig);
    assert_true(ort_sign_verify(&key.public, ORT_SIGN_TABLE, message, sizeof message, &sig));
    assert_false(ort_sign_verify(&key.public, ORT_SIGN_MESSAGE, message, sizeof message, &sig));
    assert_false(ort_sign_verify(&other.public, ORT_SIGN_TABLE, message, sizeof message, &sig));
    assert_false(ort_sign_verify(&key.public, ORT_SIGN_TABLE, message, sizeof message - 1, &sig));
    for (size_t bit = 0; bit < 8 * sizeof sig.b; bit++) {
        sig.b[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(ort_sign_verify(&key.public, ORT_SIGN_TABLE, message, sizeof message, &sig));
        sig.b[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
}

static void
a_key_file_that_others_can_read_is_refused(void **state)
{
    (void)state;
    char dir[64];
    const int fd = scratch(dir);
    ort_sign_key key, read;
    ort_diag diag;
    struct stat st;
    ort_sign_key_new(&key);
    assert_int_equal(ort_sign_key_load(&read, fd, "key", &diag), ORT_ENOTFOUND);
    assert_int_equal(ort_sign_key_save(&key, fd, "key", &diag), ORT_OK);
    assert_int_equal(fstatat(fd, "key", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(ort_sign_key_load(&read, fd, "key", &diag), ORT_OK);
    assert_memory_equal(&key, &read, sizeof key);
    assert_int_equal(fchmodat(fd, "key", 0640, 0), 0);
    assert_int_equal(ort_sign_key_load(&read, fd, "key", &diag), ORT_EDENIED);
    assert_int_equal(ort_secret_file_write(fd, "key", "orthant-ed25519-1 00", 20, &diag), ORT_OK);
    assert_int_equal(ort_sign_key_load(&read, fd, "key", &diag), ORT_ECORRUPT);
    drop(dir, fd);
}

typedef struct {
    char *ca, *ca_key, *key, *csr, *cert;
} pki;

static pki
pki_new(void)
{
    pki p = {0};
    ort_diag diag;
    assert_int_equal(ort_x509_ca_new("test hub", 3650, &p.ca, &p.ca_key, &diag), ORT_OK);
    assert_int_equal(ort_x509_key_new(&p.key, &diag), ORT_OK);
    assert_int_equal(ort_x509_csr_new(p.key, &p.csr, &diag), ORT_OK);
    assert_int_equal(ort_x509_issue(p.ca, p.ca_key, p.csr, "node-1.x", 30, &p.cert, &diag), ORT_OK);
    return p;
}

static void
pki_free(pki *p)
{
    ort_pem_free(p->ca);
    ort_pem_free(p->ca_key);
    ort_pem_free(p->key);
    ort_pem_free(p->csr);
    ort_pem_free(p->cert);
}

static void
an_issued_certificate_is_good_for_its_ca_name_and_key_only(void **state)
{
    (void)state;
    pki a = pki_new(), b = pki_new();
    int64_t left = 0;
    ort_diag diag;
    unsigned char fa[ORT_TOKEN_CA_BYTES], fb[ORT_TOKEN_CA_BYTES];
    assert_int_equal(ort_x509_check(a.ca, a.cert, a.key, "node-1.x", &left, &diag), ORT_OK);
    assert_in_range(left, 29, 30);
    assert_int_equal(ort_x509_check(b.ca, a.cert, a.key, "node-1.x", NULL, &diag), ORT_EAUTH);
    assert_int_equal(ort_x509_check(a.ca, a.cert, b.key, "node-1.x", NULL, &diag), ORT_EAUTH);
    assert_int_equal(ort_x509_check(a.ca, a.cert, a.key, "node-2.x", NULL, &diag), ORT_EAUTH);
    assert_int_equal(ort_x509_fingerprint(a.ca, fa, &diag), ORT_OK);
    assert_int_equal(ort_x509_fingerprint(b.ca, fb, &diag), ORT_OK);
    assert_memory_not_equal(fa, fb, sizeof fa);
    assert_int_equal(ort_x509_fingerprint("no pem", fa, &diag), ORT_EFORMAT);
    pki_free(&a);
    pki_free(&b);
}

/* The request comes from whoever has a join token: cut, changed, or for a name of its own choosing.
 */
static void
a_bad_signing_request_gets_no_certificate(void **state)
{
    (void)state;
    pki p = pki_new();
    char *cert = NULL;
    ort_diag diag;
    assert_int_equal(ort_x509_issue(p.ca, p.ca_key, "", "n.x", 30, &cert, &diag), ORT_EFORMAT);
    assert_int_equal(ort_x509_issue(p.ca, p.ca_key, p.cert, "n.x", 30, &cert, &diag), ORT_EFORMAT);
    char *bad = strdup(p.csr);
    char *middle = bad + strlen(bad) / 2;
    *middle = *middle == 'A' ? 'B' : 'A';
    assert_int_not_equal(ort_x509_issue(p.ca, p.ca_key, bad, "n.x", 30, &cert, &diag), ORT_OK);
    assert_null(cert);
    assert_int_equal(ort_x509_issue(p.ca, p.ca_key, p.csr, "n.x,DNS:control", 30, &cert, &diag),
                     ORT_EINVAL);
    free(bad);
    pki_free(&p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blake2b_agrees_with_b2sum),
        cmocka_unit_test(a_token_reads_back_as_it_was_made),
        cmocka_unit_test(the_token_format_is_the_documented_one),
        cmocka_unit_test(every_changed_or_cut_token_is_refused),
        cmocka_unit_test(a_token_matches_its_own_hash_under_its_pepper_only),
        cmocka_unit_test(a_signature_holds_for_its_message_key_and_domain_only),
        cmocka_unit_test(a_key_file_that_others_can_read_is_refused),
        cmocka_unit_test(an_issued_certificate_is_good_for_its_ca_name_and_key_only),
        cmocka_unit_test(a_bad_signing_request_gets_no_certificate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
