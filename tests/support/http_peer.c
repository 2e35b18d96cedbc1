#include "tests/support/http_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUIRE(condition)                                                                               \
        do {                                                                                             \
                if (!(condition)) {                                                                      \
                        (void)fprintf(stderr, "http_peer: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        ERR_print_errors_fp(stderr);                                                     \
                        abort();                                                                         \
                }                                                                                        \
        } while (0)

static void http_peer_extension(X509 *certificate, const X509 *issuer, int nid, const char *value)
{
        X509V3_CTX context;
        X509V3_set_ctx_nodb(&context);
        X509V3_set_ctx(&context, (X509 *)(uintptr_t)issuer, certificate, NULL, NULL, 0);
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        REQUIRE(extension != NULL);
        REQUIRE(X509_add_ext(certificate, extension, -1) == 1);
        X509_EXTENSION_free(extension);
}

struct http_peer_identity http_peer_identity_make(const char *names, const struct http_peer_identity *issuer,
                                                  int from_days, int to_days)
{
        static _Atomic long serial = 1;
        struct http_peer_identity identity = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
        REQUIRE(identity.key != NULL && identity.certificate != NULL);
        X509 *certificate = identity.certificate;
        const struct http_peer_identity *signer = issuer == NULL ? &identity : issuer;
        REQUIRE(X509_set_version(certificate, 2) == 1);
        REQUIRE(ASN1_INTEGER_set(X509_get_serialNumber(certificate), atomic_fetch_add(&serial, 1)) == 1);
        (void)X509_gmtime_adj(X509_getm_notBefore(certificate), from_days * 86400L - 3600);
        (void)X509_gmtime_adj(X509_getm_notAfter(certificate), to_days * 86400L);
        X509_NAME *name = X509_get_subject_name(certificate);
        const char *common = names == NULL ? "sendring test authority" : "sendring test server";
        REQUIRE(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)common, -1, -1, 0) == 1);
        REQUIRE(X509_set_issuer_name(certificate, X509_get_subject_name(signer->certificate)) == 1);
        REQUIRE(X509_set_pubkey(certificate, identity.key) == 1);
        http_peer_extension(certificate, signer->certificate, NID_basic_constraints,
                            names == NULL ? "critical,CA:TRUE" : "CA:FALSE");
        if (names != NULL)
                http_peer_extension(certificate, signer->certificate, NID_subject_alt_name, names);
        REQUIRE(X509_sign(certificate, signer->key, EVP_sha256()) > 0);
        return identity;
}

void http_peer_identity_release(struct http_peer_identity *identity)
{
        X509_free(identity->certificate);
        EVP_PKEY_free(identity->key);
}

void http_peer_identity_write(const struct http_peer_identity *identity, const char *path)
{
        FILE *file = fopen(path, "w");
        REQUIRE(file != NULL);
        REQUIRE(PEM_write_X509(file, identity->certificate) == 1);
        REQUIRE(fclose(file) == 0);
}

void http_peer_identity_write_key(const struct http_peer_identity *identity, const char *path)
{
        FILE *file = fopen(path, "w");
        REQUIRE(file != NULL);
        REQUIRE(PEM_write_PrivateKey(file, identity->key, NULL, NULL, 0, NULL, NULL) == 1);
        REQUIRE(fclose(file) == 0);
}

static void *http_peer_connection_main(void *argument)
{
        struct http_peer_connection *connection = argument;
        (void)pthread_setname_np(pthread_self(), "peer"); /* only a name, for profiles */
        struct http_peer *peer = connection->peer;
        if (peer->context != NULL) {
                connection->ssl = SSL_new(peer->context);
                REQUIRE(connection->ssl != NULL && SSL_set_fd(connection->ssl, connection->fd) == 1);
                if (SSL_accept(connection->ssl) != 1) {
                        (void)atomic_fetch_add(&peer->handshakes_failed, 1);
                        ERR_clear_error();
                        goto out;
                }
                if (SSL_session_reused(connection->ssl))
                        (void)atomic_fetch_add(&peer->resumed, 1);
        }
        peer->serve(connection);
        if (connection->ssl != NULL && connection->fd >= 0)
                (void)SSL_shutdown(connection->ssl);
out:
        ERR_clear_error();
        SSL_free(connection->ssl);
        connection->ssl = NULL;
        if (connection->fd >= 0)
                (void)shutdown(connection->fd,
                               SHUT_RDWR); /* closed by http_peer_stop(), so that its number stays ours */
        return NULL;
}

static void *http_peer_main(void *argument)
{
        struct http_peer *peer = argument;
        for (;;) {
                int fd = accept(peer->listener, NULL, NULL);
                if (fd < 0 && errno == EINTR)
                        continue;
                if (fd < 0 || atomic_load(&peer->stopping)) {
                        if (fd >= 0)
                                (void)close(fd);
                        return NULL;
                }
                int yes = 1;
                (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
                uint32_t index = atomic_load(&peer->connections);
                REQUIRE(index < HTTP_PEER_CONNECTIONS_MAX);
                struct http_peer_connection *connection = calloc(1, sizeof(*connection));
                REQUIRE(connection != NULL);
                connection->peer = peer;
                connection->fd = fd;
                connection->index = index;
                peer->served[index] = connection;
                REQUIRE(pthread_create(&peer->threads[index], NULL, http_peer_connection_main, connection) == 0);
                (void)atomic_fetch_add(&peer->connections, 1);
        }
}

void http_peer_start(struct http_peer *peer)
{
        (void)signal(SIGPIPE, SIG_IGN); /* SSL_write has no MSG_NOSIGNAL */
        if (peer->identity != NULL) {
                peer->context = SSL_CTX_new(TLS_server_method());
                REQUIRE(peer->context != NULL);
                REQUIRE(SSL_CTX_use_certificate(peer->context, peer->identity->certificate) == 1);
                REQUIRE(SSL_CTX_use_PrivateKey(peer->context, peer->identity->key) == 1);
                REQUIRE(SSL_CTX_set_session_id_context(peer->context, (const unsigned char *)"peer", 4) == 1);
        }
        peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(peer->listener >= 0);
        int yes = 1;
        REQUIRE(setsockopt(peer->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0);
        if (peer->receive_buffer_bytes > 0) {
                int bytes = (int)peer->receive_buffer_bytes;
                REQUIRE(setsockopt(peer->listener, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) == 0);
        }
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_port = htons(peer->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t address_bytes = sizeof(address);
        REQUIRE(bind(peer->listener, (struct sockaddr *)&address, sizeof(address)) == 0);
        REQUIRE(listen(peer->listener, 64) == 0);
        REQUIRE(getsockname(peer->listener, (struct sockaddr *)&address, &address_bytes) == 0);
        peer->port = ntohs(address.sin_port);
        REQUIRE(pthread_create(&peer->thread, NULL, http_peer_main, peer) == 0);
}

void http_peer_stop(struct http_peer *peer)
{
        atomic_store(&peer->stopping, true);
        (void)shutdown(peer->listener, SHUT_RDWR);
        REQUIRE(pthread_join(peer->thread, NULL) == 0);
        (void)close(peer->listener);
        uint32_t connections = atomic_load(&peer->connections);
        for (uint32_t i = 0; i < connections; i++) {
                if (peer->served[i]->fd >= 0)
                        (void)shutdown(peer->served[i]->fd, SHUT_RDWR);
        }
        for (uint32_t i = 0; i < connections; i++) {
                REQUIRE(pthread_join(peer->threads[i], NULL) == 0);
                if (peer->served[i]->fd >= 0)
                        (void)close(peer->served[i]->fd);
                free(peer->served[i]);
        }
        SSL_CTX_free(peer->context);
}

static size_t http_peer_read(struct http_peer_connection *connection, void *bytes, size_t len)
{
        if (connection->ssl != NULL) {
                size_t got = 0;
                ERR_clear_error();
                return SSL_read_ex(connection->ssl, bytes, len, &got) == 1 ? got : 0;
        }
        ssize_t got = read(connection->fd, bytes, len);
        return got > 0 ? (size_t)got : 0;
}

bool http_peer_write(struct http_peer_connection *connection, const void *bytes, size_t len)
{
        if (connection->ssl != NULL) {
                size_t wrote = 0;
                ERR_clear_error();
                return len == 0 || SSL_write_ex(connection->ssl, bytes, len, &wrote) == 1;
        }
        for (size_t done = 0; done < len;) {
                ssize_t wrote = send(connection->fd, (const char *)bytes + done, len - done, MSG_NOSIGNAL);
                if (wrote <= 0)
                        return false;
                done += (size_t)wrote;
        }
        return true;
}

bool http_peer_write_text(struct http_peer_connection *connection, const char *text)
{
        return http_peer_write(connection, text, strlen(text));
}

bool http_peer_read_head(struct http_peer_connection *connection)
{
        size_t len = 0;
        while (len < sizeof(connection->head) - 1) {
                if (http_peer_read(connection, connection->head + len, 1) != 1)
                        return false;
                len++;
                connection->head[len] = '\0';
                if (len >= 4 && memcmp(connection->head + len - 4, "\r\n\r\n", 4) == 0)
                        return true;
        }
        return false;
}

bool http_peer_read_request(struct http_peer_connection *connection)
{
        static const char field[] = "\r\nContent-Length: ";
        uint8_t bytes[65536];
        if (!http_peer_read_head(connection))
                return false;
        const char *at = strstr(connection->head, field);
        size_t left = at == NULL ? 0 : strtoul(at + sizeof(field) - 1, NULL, 10);
        connection->body_bytes = left;
        connection->body_sum = 0;
        while (left > 0) {
                size_t got = http_peer_read(connection, bytes, left < sizeof(bytes) ? left : sizeof(bytes));
                if (got == 0)
                        return false;
                for (size_t i = 0; i < got; i++)
                        connection->body_sum += bytes[i];
                left -= got;
        }
        (void)atomic_fetch_add(&connection->peer->requests, 1);
        return true;
}

void http_peer_reset(struct http_peer_connection *connection)
{
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        REQUIRE(setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
        int fd = connection->fd;
        connection->fd = -1;
        (void)close(fd);
}
