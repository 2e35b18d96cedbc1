/* What the parts of the HTTP client share: the resolver thread and one connection's TLS. Not for other rooms. */
#ifndef SENDRING_EGRESS_HTTP_INTERNAL_H
#define SENDRING_EGRESS_HTTP_INTERNAL_H

#include "egress/http.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

/* ---- host names (http_resolve.c) */

#define HTTP_ADDRESSES_MAX 8u

struct http_addresses {
        uint32_t count;
        struct sockaddr_storage storage[HTTP_ADDRESSES_MAX];
        socklen_t bytes[HTTP_ADDRESSES_MAX];
};

/* One host and port; the same for every client that asks for them. Guarded by the resolver's lock. */
struct http_resolver_entry;

/* Embedded in a client. `op.done` runs on `loop`, posted by the resolver thread, when the look-up has ended. */
struct http_resolve_waiter {
        struct io_op op;
        struct io_loop *loop;
        struct http_resolve_waiter *next; /* guarded by the resolver's lock */
};

/* The address that `host` spells; false when it is a name. No look-up. */
bool http_resolve_literal(const char *host, const char *port, struct http_addresses *ret_addresses);
/* Starts the process's resolver thread when there is none. ERR_MEMORY, ERR_SYSTEM. */
enum err_code http_resolve_attach(const char *host, const char *port, struct http_resolver_entry **ret_entry,
                                  struct err *reterr);
void http_resolve_detach(struct http_resolver_entry *entry); /* NULL is fine */
/* ERR_OK: addresses looked up not long ago (they are refreshed behind the scenes when they grow old).
 * ERR_INCOMPLETE: a look-up was started; `waiter`, which must not be waiting already, will be posted. */
enum err_code http_resolve_get(struct http_resolver_entry *entry, struct http_resolve_waiter *waiter,
                               struct http_addresses *ret_addresses);
/* After the waiter was posted: what is known now, which may be older than wished when the look-up failed. ERR_RESOLVE
 * with a sentence when nothing is. */
enum err_code http_resolve_result(struct http_resolver_entry *entry, struct http_addresses *ret_addresses,
                                  struct err *reterr);
/* True when the waiter will not be posted any more; false when it has been and its callback is still to come. */
bool http_resolve_cancel(struct http_resolver_entry *entry, struct http_resolve_waiter *waiter);

/* ---- one connection's TLS (http_tls.c) */

/* Ciphertext on its way out: two buffers, so that the next is filled while the kernel sends the other. 256 KiB is 15
 * full records, which makes a 4 MiB body about 16 sends. */
#define HTTP_TLS_OUT_BYTES ((size_t)256 * 1024)
/* Ciphertext received by one operation: three full records. */
#define HTTP_TLS_IN_BYTES ((size_t)64 * 1024)

struct http_tls_buffer {
        uint8_t *bytes;
        size_t len;  /* filled */
        size_t sent; /* of these, handed to the kernel */
};

/* Memory BIOs would grow and shrink; these buffers are allocated once per connection slot. */
struct http_tls_session {
        struct http_tls *tls;
        const struct http_url *url;
        SSL_SESSION **resume;          /* the endpoint's last session, shared by the client's connections */
        SSL *ssl;                      /* NULL while closed */
        uint8_t *in;                   /* HTTP_TLS_IN_BYTES */
        size_t in_len, in_at;          /* received, and taken by OpenSSL */
        struct http_tls_buffer out[2]; /* HTTP_TLS_OUT_BYTES each */
        unsigned fill;                 /* index of the one OpenSSL writes into; the other may be the kernel's */
        char verify_text[256];         /* what verification found, in words */
        long verify_error;             /* X509_V_OK when nothing */
};

/* Allocates the buffers. ERR_MEMORY. */
enum err_code http_tls_session_init(struct http_tls_session *session, struct http_tls *tls, const struct http_url *url,
                                    SSL_SESSION **resume);
void http_tls_session_release(struct http_tls_session *session);
/* A new connection begins: buffers empty, session to resume offered. ERR_MEMORY, ERR_TLS. */
enum err_code http_tls_session_open(struct http_tls_session *session, struct err *reterr);
void http_tls_session_close(struct http_tls_session *session);

/* ERR_OK: done; ERR_INCOMPLETE: send what is in the buffers, receive more; ERR_TLS with a sentence. */
enum err_code http_tls_session_handshake(struct http_tls_session *session, struct err *reterr);
bool http_tls_session_resumed(const struct http_tls_session *session);
/* Decrypts into `out`. ERR_OK with *ret_len > 0; ERR_INCOMPLETE: all input is used; ERR_EMPTY: the peer said goodbye
 * (close_notify); ERR_TLS with a sentence. */
enum err_code http_tls_session_read(struct http_tls_session *session, uint8_t *out, size_t out_bytes, size_t *ret_len,
                                    struct err *reterr);
/* Encrypts from the front of *rest as much as the buffer in filling holds. ERR_OK, ERR_TLS. */
enum err_code http_tls_session_write(struct http_tls_session *session, struct slice *rest, struct err *reterr);

#endif
