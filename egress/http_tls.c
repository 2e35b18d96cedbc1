/* TLS by OpenSSL between buffers of ours: ciphertext comes from and goes to memory that io_uring reads and writes.
 *
 * OpenSSL sees a BIO whose read takes from `in` and whose write appends to the out buffer in filling. Nothing here does
 * I/O. The context verifies every peer; there is no way to switch that off.
 */
#include "base/assert.h"
#include "egress/http_internal.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one record adds to its 16 KiB at most, rounded up: header 5, content type 1, tag or MAC and padding, nonce. */
#define HTTP_TLS_RECORD_BYTES   ((size_t)16384)
#define HTTP_TLS_OVERHEAD_BYTES ((size_t)512)

struct http_tls {
        SSL_CTX *context;
        BIO_METHOD *method;
        bool own_bundle;
};

/* ---- BIO */

static int http_tls_bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_written)
{
        struct http_tls_session *session = BIO_get_data(bio);
        struct http_tls_buffer *out = &session->out[session->fill];
        BIO_clear_retry_flags(bio);
        size_t room = HTTP_TLS_OUT_BYTES - out->len;
        if (room == 0) {
                BIO_set_retry_write(bio);
                return 0;
        }
        size_t take = len < room ? len : room;
        memcpy(out->bytes + out->len, bytes, take);
        out->len += take;
        *ret_written = take;
        return 1;
}

static int http_tls_bio_read(BIO *bio, char *bytes, size_t len, size_t *ret_read)
{
        struct http_tls_session *session = BIO_get_data(bio);
        BIO_clear_retry_flags(bio);
        size_t there = session->in_len - session->in_at;
        if (there == 0) {
                BIO_set_retry_read(bio);
                return 0;
        }
        size_t take = len < there ? len : there;
        memcpy(bytes, session->in + session->in_at, take);
        session->in_at += take;
        *ret_read = take;
        return 1;
}

static long http_tls_bio_control(BIO *bio, int command, long number, void *pointer)
{
        (void)bio;
        (void)number;
        (void)pointer;
        /* Flushing is the client's: it sends whatever the buffers hold. */
        return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int http_tls_bio_create(BIO *bio)
{
        BIO_set_init(bio, 1);
        return 1;
}

/* ---- context */

/* Remembers what was wrong with which certificate, while OpenSSL still has it at hand. */
static int http_tls_verify(int ok, X509_STORE_CTX *store)
{
        if (ok)
                return 1;
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct http_tls_session *session = SSL_get_app_data(ssl);
        X509 *certificate = X509_STORE_CTX_get_current_cert(store);
        session->verify_error = X509_STORE_CTX_get_error(store);
        session->verify_text[0] = '\0';
        if (certificate == NULL)
                return 0;
        BIO *text = BIO_new(BIO_s_mem());
        if (text == NULL)
                return 0;
        if (session->verify_error == X509_V_ERR_CERT_HAS_EXPIRED) {
                (void)BIO_puts(text, "it ended on ");
                (void)ASN1_TIME_print(text, X509_get0_notAfter(certificate));
        } else if (session->verify_error == X509_V_ERR_CERT_NOT_YET_VALID) {
                (void)BIO_puts(text, "it begins on ");
                (void)ASN1_TIME_print(text, X509_get0_notBefore(certificate));
        } else if (session->verify_error == X509_V_ERR_HOSTNAME_MISMATCH ||
                   session->verify_error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
                int index = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1);
                if (index < 0)
                        (void)BIO_puts(text, "no subjectAltName at all");
                else
                        (void)X509V3_EXT_print(text, X509_get_ext(certificate, index), 0, 0);
        } else {
                (void)X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0,
                                         XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
        }
        int got = BIO_read(text, session->verify_text, (int)sizeof(session->verify_text) - 1);
        session->verify_text[got > 0 ? got : 0] = '\0';
        (void)BIO_free(text);
        /* The peer wrote it: nothing in it may look like a new log line. */
        for (char *at = session->verify_text; *at != '\0'; at++) {
                if ((unsigned char)*at < 0x20 || *at == 0x7f)
                        *at = ' ';
        }
        return 0;
}

/* TLS 1.3 sends tickets after the handshake: the latest is the one to resume. Returns 1: the reference is ours. */
static int http_tls_new_session(SSL *ssl, SSL_SESSION *new_session)
{
        struct http_tls_session *session = SSL_get_app_data(ssl);
        SSL_SESSION_free(*session->resume);
        *session->resume = new_session;
        return 1;
}

static const char *http_tls_reason(unsigned long error)
{
        /* What the system has refused has no text of OpenSSL's. */
        const char *reason =
                ERR_SYSTEM_ERROR(error) ? strerrordesc_np(ERR_GET_REASON(error)) : ERR_reason_error_string(error);
        return reason == NULL ? "unknown reason" : reason;
}

enum err_code http_tls_create(const char *ca_bundle, struct http_tls **ret_tls, struct err *reterr)
{
        static const unsigned char protocols[] = "\x08http/1.1";
        enum err_code code = ERR_OK;
        ERR_clear_error();
        struct http_tls *tls = calloc(1, sizeof(*tls));
        if (tls == NULL)
                return err_set(reterr, ERR_MEMORY, "out of memory for TLS");
        tls->own_bundle = ca_bundle != NULL;
        tls->context = SSL_CTX_new(TLS_client_method());
        tls->method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sendring buffers");
        if (tls->context == NULL || tls->method == NULL ||
            BIO_meth_set_write_ex(tls->method, http_tls_bio_write) != 1 ||
            BIO_meth_set_read_ex(tls->method, http_tls_bio_read) != 1 ||
            BIO_meth_set_ctrl(tls->method, http_tls_bio_control) != 1 ||
            BIO_meth_set_create(tls->method, http_tls_bio_create) != 1) {
                code = err_set(reterr, ERR_MEMORY, "cannot set up OpenSSL: %s", http_tls_reason(ERR_peek_error()));
                goto out;
        }
        /* AES-128-GCM first: as safe here, and a quarter cheaper than AES-256-GCM. */
        if (SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION) != 1 ||
            SSL_CTX_set_ciphersuites(tls->context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
                                                   "TLS_CHACHA20_POLY1305_SHA256") != 1 ||
            SSL_CTX_set_cipher_list(tls->context, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
            SSL_CTX_set_alpn_protos(tls->context, protocols, sizeof(protocols) - 1) != 0) {
                code = err_set(reterr, ERR_SYSTEM, "OpenSSL lacks TLS 1.2 with AES-GCM: %s",
                               http_tls_reason(ERR_peek_error()));
                goto out;
        }
        (void)SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
        /* Releasing buffers would cost an allocation per request. */
        (void)SSL_CTX_clear_mode(tls->context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
        SSL_CTX_set_read_ahead(tls->context, 1);
        SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, http_tls_verify);
        (void)SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(tls->context, http_tls_new_session);
        if (ca_bundle == NULL && SSL_CTX_set_default_verify_paths(tls->context) != 1) {
                code = err_set(reterr, ERR_SYSTEM, "cannot use the system's certificates: %s",
                               http_tls_reason(ERR_peek_error()));
        } else if (ca_bundle != NULL && SSL_CTX_load_verify_file(tls->context, ca_bundle) != 1) {
                code = err_set(reterr, ERR_CONFIG,
                               "cannot use CA bundle %s: %s; it must be a readable file of PEM certificates", ca_bundle,
                               http_tls_reason(ERR_peek_error()));
        }
out:
        ERR_clear_error();
        if (code != ERR_OK) {
                http_tls_free(tls);
                return code;
        }
        *ret_tls = tls;
        return ERR_OK;
}

void http_tls_free(struct http_tls *tls)
{
        if (tls == NULL)
                return;
        SSL_CTX_free(tls->context);
        BIO_meth_free(tls->method);
        free(tls);
}

/* ---- one connection */

enum err_code http_tls_session_init(struct http_tls_session *session, struct http_tls *tls, const struct http_url *url,
                                    SSL_SESSION **resume)
{
        *session = (struct http_tls_session){.tls = tls, .url = url, .resume = resume};
        session->in = malloc(HTTP_TLS_IN_BYTES);
        session->out[0].bytes = malloc(HTTP_TLS_OUT_BYTES);
        session->out[1].bytes = malloc(HTTP_TLS_OUT_BYTES);
        if (session->in != NULL && session->out[0].bytes != NULL && session->out[1].bytes != NULL)
                return ERR_OK;
        http_tls_session_release(session);
        return ERR_MEMORY;
}

void http_tls_session_release(struct http_tls_session *session)
{
        http_tls_session_close(session);
        free(session->in);
        free(session->out[0].bytes);
        free(session->out[1].bytes);
        *session = (struct http_tls_session){0};
}

/* The peer must prove to be `url`'s host. */
static bool http_tls_expect(SSL *ssl, const struct http_url *url)
{
        if (url->ip_literal)
                return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), url->host) == 1;
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        return SSL_set1_host(ssl, url->host) == 1 && SSL_set_tlsext_host_name(ssl, url->host) == 1;
}

enum err_code http_tls_session_open(struct http_tls_session *session, struct err *reterr)
{
        ASSERT(session->ssl == NULL);
        session->in_len = session->in_at = 0;
        session->fill = 0;
        for (int i = 0; i < 2; i++)
                session->out[i].len = session->out[i].sent = 0;
        session->verify_error = X509_V_OK;
        session->verify_text[0] = '\0';
        ERR_clear_error();
        SSL *ssl = SSL_new(session->tls->context);
        BIO *bio = ssl == NULL ? NULL : BIO_new(session->tls->method);
        if (bio == NULL) {
                SSL_free(ssl);
                return err_set(reterr, ERR_MEMORY, "out of memory for a TLS connection");
        }
        BIO_set_data(bio, session);
        SSL_set_bio(ssl, bio, bio); /* the connection owns it from here */
        (void)SSL_set_app_data(ssl, session);
        if (!http_tls_expect(ssl, session->url)) {
                SSL_free(ssl);
                return err_set(reterr, ERR_TLS, "cannot verify a peer named %s", session->url->host);
        }
        if (*session->resume != NULL && SSL_SESSION_is_resumable(*session->resume))
                (void)SSL_set_session(ssl, *session->resume); /* without it the handshake is only longer */
        SSL_set_connect_state(ssl);
        session->ssl = ssl;
        return ERR_OK;
}

void http_tls_session_close(struct http_tls_session *session)
{
        if (session->ssl == NULL)
                return;
        /* OpenSSL takes a connection that ends without a goodbye for a broken one and forgets its session; ours ends
         * when the exchange is whole, so what was negotiated stays good. */
        SSL_set_shutdown(session->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
        SSL_free(session->ssl);
        session->ssl = NULL;
}

static enum err_code http_tls_verify_failed(struct http_tls_session *session, struct err *reterr)
{
        const char *text = session->verify_text;
        const char *host = session->url->host;
        switch (session->verify_error) {
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH:
                return err_set(reterr, ERR_TLS,
                               "certificate verify failed: the certificate is not for %s (it names: %s); use a name it "
                               "covers as the endpoint, or give the server a certificate for this one",
                               host, text);
        case X509_V_ERR_CERT_HAS_EXPIRED:
                return err_set(
                        reterr, ERR_TLS,
                        "certificate verify failed: the certificate has expired (%s); renew it on the server, or "
                        "set this host's clock",
                        text);
        case X509_V_ERR_CERT_NOT_YET_VALID:
                return err_set(
                        reterr, ERR_TLS,
                        "certificate verify failed: the certificate is not valid yet (%s); set this host's clock",
                        text);
        case X509_V_ERR_CERT_SIGNATURE_FAILURE: /* another authority of the same name */
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
                return err_set(reterr, ERR_TLS, "certificate verify failed: %s (%s): %s",
                               X509_verify_cert_error_string(session->verify_error), text,
                               session->tls->own_bundle
                                       ? "egress.ca_bundle does not hold the authority that signed it"
                                       : "set egress.ca_bundle to a PEM file with the authority that signed it, or "
                                         "install the ca-certificates package");
        default:
                return err_set(reterr, ERR_TLS, "certificate verify failed: %s (%s)",
                               X509_verify_cert_error_string(session->verify_error), text);
        }
}

static enum err_code http_tls_failed(struct http_tls_session *session, const char *what, struct err *reterr)
{
        unsigned long error = ERR_peek_error();
        enum err_code code = ERR_TLS;
        if (session->verify_error != X509_V_OK) {
                code = http_tls_verify_failed(session, reterr);
        } else if (ERR_GET_LIB(error) == ERR_LIB_SSL && (ERR_GET_REASON(error) == SSL_R_WRONG_VERSION_NUMBER ||
                                                         ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST)) {
                code = err_set(
                        reterr, ERR_TLS,
                        "TLS %s failed: the peer does not speak TLS on port %s; check the port, or write http:// "
                        "if that is meant",
                        what, session->url->port);
        } else if (ERR_GET_LIB(error) == ERR_LIB_SSL && (ERR_GET_REASON(error) == SSL_R_UNSUPPORTED_PROTOCOL ||
                                                         ERR_GET_REASON(error) == SSL_R_TLSV1_ALERT_PROTOCOL_VERSION)) {
                code = err_set(reterr, ERR_TLS, "TLS %s failed: the peer offers no TLS 1.2 or later", what);
        } else {
                code = err_set(reterr, ERR_TLS, "TLS %s failed: %s", what, http_tls_reason(error));
        }
        ERR_clear_error();
        return code;
}

enum err_code http_tls_session_handshake(struct http_tls_session *session, struct err *reterr)
{
        ERR_clear_error();
        int result = SSL_do_handshake(session->ssl);
        if (result == 1)
                return ERR_OK;
        int error = SSL_get_error(session->ssl, result);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
                return ERR_INCOMPLETE;
        /* Perhaps it was the ticket; the next connection begins afresh. */
        SSL_SESSION_free(*session->resume);
        *session->resume = NULL;
        return http_tls_failed(session, "handshake", reterr);
}

bool http_tls_session_resumed(const struct http_tls_session *session)
{
        return SSL_session_reused(session->ssl) == 1;
}

enum err_code http_tls_session_read(struct http_tls_session *session, uint8_t *out, size_t out_bytes, size_t *ret_len,
                                    struct err *reterr)
{
        ERR_clear_error();
        if (SSL_read_ex(session->ssl, out, out_bytes, ret_len) == 1)
                return ERR_OK;
        int error = SSL_get_error(session->ssl, 0);
        if ((error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) && session->in_at == session->in_len)
                return ERR_INCOMPLETE;
        if (error == SSL_ERROR_ZERO_RETURN)
                return ERR_EMPTY;
        return http_tls_failed(session, "receive", reterr);
}

enum err_code http_tls_session_write(struct http_tls_session *session, struct slice *rest, struct err *reterr)
{
        const struct http_tls_buffer *out = &session->out[session->fill];
        size_t records = (HTTP_TLS_OUT_BYTES - out->len) / (HTTP_TLS_RECORD_BYTES + HTTP_TLS_OVERHEAD_BYTES);
        size_t take = rest->len < records * HTTP_TLS_RECORD_BYTES ? rest->len : records * HTTP_TLS_RECORD_BYTES;
        if (take == 0)
                return ERR_OK;
        size_t written = 0;
        ERR_clear_error();
        /* There is room for all of it, and a partial write is off: it is whole, or an error. */
        if (SSL_write_ex(session->ssl, rest->ptr, take, &written) != 1)
                return http_tls_failed(session, "send", reterr);
        *rest = slice_from(*rest, written);
        return ERR_OK;
}
