/* Redaction: what a destination gets to see of the people in an event. A policy drops members of the record, limits the
 * headers to a list, and replaces every e-mail address: its local part by "***", or all of it by a keyed token. It is
 * applied while the JSON is written (codec_json_options.redaction): every text of the record is looked through, because
 * addresses also stand in headers, tags, links, and what remote servers answer. Events without a policy pass through
 * code that knows nothing of it.
 *
 * What is an address: an '@' with a local part before it, quoted or not, ASCII or UTF-8. The sign may also be spelled
 * "%40", "%2540" and so on (links in links), U+FF20 or U+FE6B (before a domain with a dot: they stand in prose, too).
 * In links all of a part before the sign is hidden, save for well-known names of fields.
 * Members that hold nothing but an address are replaced as a whole when there is no '@' in them. Not found:
 * configuration-sets.yaml(5) says what; leave those members and headers out.
 *
 * A policy is filled in once, then read by any number of threads. It is plain bytes: copying it copies all, the key's
 * state too, so whoever owns a copy wipes it with codec_redaction_clear(). Nothing here allocates. */
#ifndef SENDRING_CODECS_REDACT_H
#define SENDRING_CODECS_REDACT_H

#include "base/err.h"
#include "base/limits.h"
#include "base/slice.h"
#include "codecs/codec.h"

#include <stdbool.h>
#include <stdint.h>

enum codec_redact_addresses {
        CODEC_ADDRESSES_KEEP = 0,
        CODEC_ADDRESSES_MASK = 1, /* "***@recipient.example.com" */
        CODEC_ADDRESSES_HMAC = 2, /* 32 hex digits, with "@recipient.example.com" behind them or without */
};

#define CODEC_REDACTION_NAMES_MAX       64u                      /* headers of the list; message tags to drop */
#define CODEC_REDACTION_NAME_BYTES_MAX  LIMIT_TAG_READ_BYTES_MAX /* a message tag's name may be as long */
#define CODEC_REDACTION_NAMES_BYTES_MAX 4096u                    /* of one list together */
#define CODEC_REDACTION_KEY_BYTES_MIN   16u
#define CODEC_REDACTION_KEY_BYTES_MAX   4096u
/* Addresses of one event that get a token of their own: bounds time and growth. What lies behind them is masked. Each
 * costs two blocks of SHA-256. */
#define CODEC_REDACTION_TOKENS_MAX  4096u
#define CODEC_REDACTION_TOKEN_BYTES 32u /* of a token: the first 16 bytes of the HMAC as hexadecimal */

struct codec_redaction_names {
        uint32_t count, used;
        uint16_t lens[CODEC_REDACTION_NAMES_MAX];
        uint8_t texts[CODEC_REDACTION_NAMES_BYTES_MAX]; /* one behind the other */
};

struct codec_redaction {
        enum codec_redact_addresses addresses;
        bool domain_dropped;  /* of HMAC: the token stands alone */
        bool headers_limited; /* only `headers` are published, and only their commonHeaders */
        bool tags_dropped;    /* the whole of mail.tags */
        bool common_id_dropped, set_dropped;
        bool unknown_dropped, unknown_mail_dropped;
        uint32_t mail_dropped, common_dropped, session_dropped; /* a bit per key of the schema */
        uint32_t object_dropped[CODEC_EVENT_TYPES_COUNT + 1], recipient_dropped[CODEC_EVENT_TYPES_COUNT + 1];
        struct codec_redaction_names headers, tags;
        _Alignas(8) uint8_t inner[112], outer[112]; /* SHA-256 behind the two pads of the key */
        char fingerprint[17]; /* by codec_redaction_finish(): sixteen hex digits that differ when the policy does, the
                                 key included, which they do not tell */
};

/* Nothing is redacted. */
void codec_redaction_init(struct codec_redaction *redaction);
/* Drops the member at a path of the published record: "mail.headers", "mail.commonHeaders.subject", "mail.tags",
 * "mail.tags.NAME" (auto-tags too), "click.ipAddress", "bounce.bouncedRecipients.diagnosticCode"; "*" and "mail.*" are
 * the members that only the producer knows. ERR_NAME with what is wrong; ERR_LIMIT: too many tags. `eventType`, `mail`
 * and whole event objects stay, and so does what a record is found by: the message id and emailAddress members. */
enum err_code codec_redaction_drop(struct codec_redaction *redaction, struct slice path, struct err *reterr);
/* Allows a header, whatever its case; the first call forbids all others. ERR_LIMIT, ERR_NAME (empty or too long). */
enum err_code codec_redaction_allow_header(struct codec_redaction *redaction, struct slice name, struct err *reterr);
/* Takes the key for CODEC_ADDRESSES_HMAC. ERR_RANGE: its length. */
enum err_code codec_redaction_set_key(struct codec_redaction *redaction, struct slice key, struct err *reterr);
/* After the last change: makes the fingerprint. */
void codec_redaction_finish(struct codec_redaction *redaction);
/* Wipes it. */
void codec_redaction_clear(struct codec_redaction *redaction);

enum codec_redact_kind {
        CODEC_REDACT_TEXT,    /* any text: addresses anywhere in it */
        CODEC_REDACT_ADDRESS, /* nothing but an address, maybe with a name before it */
        CODEC_REDACT_URL, /* hidden from the '/', '?', '&', ';' or '#' before it; in the query '/' and '?' are data */
};

/* Writes `text` as a JSON string with quotes, as codec_json_string() does, with its addresses replaced; `tokens_max` of
 * them by tokens. Returns bytes, 0 when short. */
size_t codec_redact_string(const struct codec_redaction *redaction, struct slice text, enum codec_redact_kind kind,
                           uint32_t tokens_max, uint8_t *out, size_t out_bytes);

/* HMAC-SHA-256 of an address, its ASCII letters made small: the token that stands for it. */
void codec_redaction_token(const struct codec_redaction *redaction, struct slice address,
                           char ret_token[CODEC_REDACTION_TOKEN_BYTES]);

#endif
