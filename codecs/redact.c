/* SHA-256 as in egress/sigv4.c: OpenSSL's EVP allocates for every message, and a worker may not
 * (docs/adr/0008-sha-256-without-evp.md). */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "codecs/redact.h"

#include "codecs/codec_internal.h"
#include "codecs/redact_text.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(((struct codec_redaction *)NULL)->inner) == sizeof(SHA256_CTX), "a state fits");

void codec_redaction_init(struct codec_redaction *redaction)
{
        memset(redaction, 0, sizeof(*redaction)); /* padding, too: the fingerprint is made of all bytes */
}

void codec_redaction_clear(struct codec_redaction *redaction)
{
        OPENSSL_cleanse(redaction, sizeof(*redaction));
}

/* ---------------------------------------------------------------------------------------------- names */

static enum err_code redaction_add(struct codec_redaction_names *names, struct slice name, const char *what,
                                   struct err *reterr)
{
        if (name.len == 0 || name.len > CODEC_REDACTION_NAME_BYTES_MAX)
                return err_set(reterr, ERR_NAME, "the name of a %s must have 1 to %u bytes", what,
                               CODEC_REDACTION_NAME_BYTES_MAX);
        if (names->count == CODEC_REDACTION_NAMES_MAX)
                return err_set(reterr, ERR_LIMIT, "more than %u %ss", CODEC_REDACTION_NAMES_MAX, what);
        if (name.len > CODEC_REDACTION_NAMES_BYTES_MAX - names->used)
                return err_set(reterr, ERR_LIMIT, "the names of the %ss have more than %u bytes together", what,
                               CODEC_REDACTION_NAMES_BYTES_MAX);
        names->lens[names->count++] = (uint16_t)name.len;
        memcpy(names->texts + names->used, name.ptr, name.len);
        names->used += (uint32_t)name.len;
        return ERR_OK;
}

enum err_code codec_redaction_allow_header(struct codec_redaction *redaction, struct slice name, struct err *reterr)
{
        redaction->headers_limited = true;
        return redaction_add(&redaction->headers, name, "header", reterr);
}

/* The key of the member that is published under this name; 0: there is none. */
static unsigned redaction_key(const struct codec_schema *schema, struct slice name)
{
        for (unsigned key = 1; key < schema->keys_end; key++) {
                const struct codec_member *member = &schema->members[key];
                if (slice_equal(slice_of(member->json + 2, member->json_bytes - 4u), name))
                        return key;
        }
        return 0;
}

static enum err_code redaction_drop_tag(struct codec_redaction *redaction, struct slice name, struct err *reterr)
{
        unsigned key = redaction_key(&codec_schema_session, name);
        if (slice_equal(name, SLICE("ses:configuration-set")))
                redaction->set_dropped = true;
        else if (key != 0)
                redaction->session_dropped |= 1u << key;
        else
                return redaction_add(&redaction->tags, name, "message tag", reterr);
        return ERR_OK;
}

static enum err_code redaction_unknown(struct slice path, struct err *reterr)
{
        return err_set(reterr, ERR_NAME,
                       "no member %.*s to drop; it should be like mail.headers, mail.commonHeaders.subject, "
                       "mail.tags.NAME, click.ipAddress or bounce.bouncedRecipients.diagnosticCode",
                       SLICE_PRINTF(path));
}

static enum err_code redaction_drop_mail(struct codec_redaction *redaction, struct slice path, struct slice rest,
                                         struct err *reterr)
{
        struct slice name = slice_cut(&rest, '.');
        unsigned key = redaction_key(&codec_schema_mail, name);
        if (slice_equal(name, SLICE("tags")) && rest.ptr != NULL)
                return redaction_drop_tag(redaction, rest, reterr);
        if (key == CODEC_MAIL_COMMON_HEADERS && rest.ptr != NULL) {
                unsigned common = redaction_key(&codec_schema_common_headers, rest);
                if (slice_equal(rest, SLICE("messageId")))
                        redaction->common_id_dropped = true;
                else if (common == 0)
                        return redaction_unknown(path, reterr);
                else
                        redaction->common_dropped |= 1u << common;
                return ERR_OK;
        }
        if (rest.ptr != NULL)
                return redaction_unknown(path, reterr);
        if (slice_equal(name, SLICE("tags")))
                redaction->tags_dropped = true;
        else if (slice_equal(name, SLICE("*")))
                redaction->unknown_mail_dropped = true;
        else if (key == 0 || key == CODEC_MAIL_MESSAGE_ID)
                return redaction_unknown(path, reterr);
        else
                redaction->mail_dropped |= 1u << key;
        return ERR_OK;
}

static enum err_code redaction_drop_object(struct codec_redaction *redaction, struct slice path, struct slice object,
                                           struct slice rest, struct err *reterr)
{
        for (unsigned number = 1; number <= CODEC_EVENT_TYPES_COUNT; number++) {
                const struct codec_type *type = &codec_types[number];
                if (!slice_equal(slice_of(type->object + 2, type->object_bytes - 4u), object))
                        continue;
                unsigned key = redaction_key(&type->schema, slice_cut(&rest, '.'));
                if (key == 0)
                        break;
                if (rest.ptr == NULL) {
                        redaction->object_dropped[number] |= 1u << key;
                        return ERR_OK;
                }
                unsigned of_recipient = type->schema.members[key].kind == CODEC_KIND_RECIPIENTS
                                                ? redaction_key(&codec_schema_recipient, rest)
                                                : 0;
                if (of_recipient <= 1) /* nothing, or emailAddress */
                        break;
                redaction->recipient_dropped[number] |= 1u << of_recipient;
                return ERR_OK;
        }
        return redaction_unknown(path, reterr);
}

enum err_code codec_redaction_drop(struct codec_redaction *redaction, struct slice path, struct err *reterr)
{
        struct slice rest = path, first = slice_cut(&rest, '.');
        if (slice_equal(path, SLICE("*"))) {
                redaction->unknown_dropped = true;
                return ERR_OK;
        }
        if (rest.ptr == NULL)
                return redaction_unknown(path, reterr);
        if (slice_equal(first, SLICE("mail")))
                return redaction_drop_mail(redaction, path, rest, reterr);
        return redaction_drop_object(redaction, path, first, rest, reterr);
}

/* ---------------------------------------------------------------------------------------------- key and token */

enum err_code codec_redaction_set_key(struct codec_redaction *redaction, struct slice key, struct err *reterr)
{
        if (key.len < CODEC_REDACTION_KEY_BYTES_MIN || key.len > CODEC_REDACTION_KEY_BYTES_MAX)
                return err_set(reterr, ERR_RANGE, "the key must have %u to %u bytes, not %zu",
                               CODEC_REDACTION_KEY_BYTES_MIN, CODEC_REDACTION_KEY_BYTES_MAX, key.len);
        /* RFC 2104. All calls of SHA-256 are arithmetic and return 1. */
        uint8_t pad[SHA256_CBLOCK] = {0};
        SHA256_CTX context;
        if (key.len > sizeof(pad)) {
                (void)SHA256_Init(&context);
                (void)SHA256_Update(&context, key.ptr, key.len);
                (void)SHA256_Final(pad, &context);
        } else {
                memcpy(pad, key.ptr, key.len);
        }
        for (int side = 0; side < 2; side++) {
                for (size_t i = 0; i < sizeof(pad); i++)
                        pad[i] ^= side == 0 ? 0x36 : 0x36 ^ 0x5c;
                memset(&context, 0, sizeof(context));
                (void)SHA256_Init(&context);
                (void)SHA256_Update(&context, pad, sizeof(pad));
                memcpy(side == 0 ? redaction->inner : redaction->outer, &context, sizeof(context));
        }
        OPENSSL_cleanse(pad, sizeof(pad));
        OPENSSL_cleanse(&context, sizeof(context));
        return ERR_OK;
}

static void redaction_outer(const struct codec_redaction *redaction, SHA256_CTX *inner, uint8_t ret_mac[32])
{
        SHA256_CTX context;
        uint8_t hash[SHA256_DIGEST_LENGTH];
        (void)SHA256_Final(hash, inner);
        memcpy(&context, redaction->outer, sizeof(context));
        (void)SHA256_Update(&context, hash, sizeof(hash));
        (void)SHA256_Final(ret_mac, &context);
}

void codec_redaction_token(const struct codec_redaction *redaction, struct slice address,
                           char ret_token[CODEC_REDACTION_TOKEN_BYTES])
{
        SHA256_CTX context;
        uint8_t small[64], mac[SHA256_DIGEST_LENGTH];
        size_t used = 0;
        memcpy(&context, redaction->inner, sizeof(context));
        for (size_t i = 0; i < address.len; i++) {
                uint8_t byte = address.ptr[i];
                size_t spelled = redact_spelled_sign(address.ptr + i, address.ptr + address.len);
                if (spelled > 0) {
                        byte = '@'; /* one token, however a link or a keyboard spells the sign */
                        i += spelled - 1;
                }
                small[used++] = byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
                if (used == sizeof(small)) {
                        (void)SHA256_Update(&context, small, used);
                        used = 0;
                }
        }
        (void)SHA256_Update(&context, small, used);
        redaction_outer(redaction, &context, mac);
        codec_hex_write(slice_of(mac, CODEC_REDACTION_TOKEN_BYTES / 2), ret_token);
}

void codec_redaction_finish(struct codec_redaction *redaction)
{
        SHA256_CTX context;
        uint8_t hash[SHA256_DIGEST_LENGTH];
        char token[CODEC_REDACTION_TOKEN_BYTES] = {0};
        /* Of the key, a token that no address has: it is no address. */
        if (redaction->addresses == CODEC_ADDRESSES_HMAC)
                codec_redaction_token(redaction, SLICE("sendring policy"), token);
        (void)SHA256_Init(&context);
        (void)SHA256_Update(&context, redaction, offsetof(struct codec_redaction, inner));
        (void)SHA256_Update(&context, token, sizeof(token));
        (void)SHA256_Final(hash, &context);
        codec_hex_write(slice_of(hash, 8), redaction->fingerprint);
        redaction->fingerprint[16] = '\0';
}
