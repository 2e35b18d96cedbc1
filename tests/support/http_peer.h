/* A blocking HTTP server over OpenSSL (or plain) for tests and benches of the client: one thread per connection, whose
 * behaviour is a function of the test. Certificates are made on the spot. Everything aborts on failure. */
#ifndef SENDRING_TESTS_SUPPORT_HTTP_PEER_H
#define SENDRING_TESTS_SUPPORT_HTTP_PEER_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_peer_identity {
        EVP_PKEY *key;
        X509 *certificate;
};

/* `names`: subjectAltName, for example "DNS:localhost,IP:127.0.0.1"; NULL for an authority. Valid from now +
 * `from_days` to now + `to_days`. `issuer` NULL: self-signed. */
struct http_peer_identity http_peer_identity_make(const char *names, const struct http_peer_identity *issuer,
                                                  int from_days, int to_days);
void http_peer_identity_release(struct http_peer_identity *identity);
/* Writes the certificate as PEM. */
void http_peer_identity_write(const struct http_peer_identity *identity, const char *path);
/* Writes the private key as PEM. */
void http_peer_identity_write_key(const struct http_peer_identity *identity, const char *path);

#define HTTP_PEER_CONNECTIONS_MAX 64

struct http_peer;

struct http_peer_connection {
        struct http_peer *peer;
        int fd;
        SSL *ssl;       /* NULL in plain */
        uint32_t index; /* 0 for the peer's first connection */
        char head[16384];
        size_t body_bytes; /* of the last request */
        uint64_t body_sum; /* sum of its bytes */
};

struct http_peer {
        int listener;
        uint16_t port;
        SSL_CTX *context; /* NULL in plain */
        void (*serve)(struct http_peer_connection *connection);
        const struct http_peer_identity *identity;
        void *argument;              /* the test's */
        size_t receive_buffer_bytes; /* SO_RCVBUF of what is accepted; 0: the system's */
        _Atomic uint32_t connections, requests, resumed, handshakes_failed;
        pthread_t thread, threads[HTTP_PEER_CONNECTIONS_MAX];
        struct http_peer_connection *served[HTTP_PEER_CONNECTIONS_MAX];
        _Atomic bool stopping;
};

/* Listens on 127.0.0.1, any port (or `port` when it is set), and serves. `identity` NULL: plain. */
void http_peer_start(struct http_peer *peer);
void http_peer_stop(struct http_peer *peer);

/* Reads one request whole; false at the end of the connection. */
bool http_peer_read_request(struct http_peer_connection *connection);
/* Reads only the head. */
bool http_peer_read_head(struct http_peer_connection *connection);
/* false when the client is gone. */
bool http_peer_write(struct http_peer_connection *connection, const void *bytes, size_t len);
bool http_peer_write_text(struct http_peer_connection *connection, const char *text);
/* Ends the connection with RST. */
void http_peer_reset(struct http_peer_connection *connection);

#endif
