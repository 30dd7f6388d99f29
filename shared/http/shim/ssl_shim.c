/* libssl.so for libcivetweb 1.15: the one function of OpenSSL 1.1 that it calls and OpenSSL 3 has
 * renamed. Everything else it finds in libssl.so.3, which this library needs. */
struct ssl_st;
struct x509_st;

struct x509_st *SSL_get1_peer_certificate(const struct ssl_st *ssl);
struct x509_st *SSL_get_peer_certificate(const struct ssl_st *ssl);

struct x509_st *
SSL_get_peer_certificate(const struct ssl_st *ssl)
{
    return SSL_get1_peer_certificate(ssl);
}
