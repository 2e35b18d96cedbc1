/* What the codecs share among themselves: the schema of the event as tables, and readers of msgpack that was validated
 * before. The tables drive the validation, the JSON and the way back into the struct; the encoder is written out by
 * hand for speed (and because libsendring compiles it without these tables). docs/formats/event.md says the same in
 * words: a change here is a change there. */
#ifndef SENDRING_CODECS_CODEC_INTERNAL_H
#define SENDRING_CODECS_CODEC_INTERNAL_H

#include "codecs/codec.h"

#include <stddef.h>

/* ---------------------------------------------------------------------------------------------- numbers of the format
 */

#define CODEC_EVENT_VERSION 1

enum codec_top_key {
        CODEC_TOP_VERSION = 0,
        CODEC_TOP_TYPE = 1,
        CODEC_TOP_CONFIGURATION_SET = 2,
        CODEC_TOP_TAGS = 3,
        CODEC_TOP_SESSION = 4,
        CODEC_TOP_MAIL = 5,
        CODEC_TOP_OBJECT = 6,
        CODEC_TOP_KEYS = 7,
};

/* In the order SES publishes them, so that JSON is written in one pass. */
enum codec_mail_key {
        CODEC_MAIL_TIMESTAMP = 1,
        CODEC_MAIL_SOURCE = 2,
        CODEC_MAIL_SOURCE_ARN = 3,
        CODEC_MAIL_SENDING_ACCOUNT_ID = 4,
        CODEC_MAIL_MESSAGE_ID = 5,
        CODEC_MAIL_DESTINATION = 6,
        CODEC_MAIL_HEADERS_TRUNCATED = 7,
        CODEC_MAIL_HEADERS = 8,
        CODEC_MAIL_COMMON_HEADERS = 9,
};

/* In the order of the auto-tags in SES's records: those before the message tags, then those behind them. */
enum codec_session_key {
        CODEC_SESSION_OPERATION = 1,
        CODEC_SESSION_SOURCE_IP = 2,
        CODEC_SESSION_FROM_DOMAIN = 3,
        CODEC_SESSION_CALLER_IDENTITY = 4,
        CODEC_SESSION_SOURCE_TLS_VERSION = 5,
        CODEC_SESSION_OUTGOING_IP = 6,
        CODEC_SESSION_OUTGOING_TLS_VERSION = 7,
        CODEC_SESSION_KEYS = 8,
};

/* commonHeaders.messageId, which has no key of its own, is published between `bcc` and `subject`. */
enum codec_common_key {
        CODEC_COMMON_FROM = 1,
        CODEC_COMMON_REPLY_TO = 2,
        CODEC_COMMON_DATE = 3,
        CODEC_COMMON_TO = 4,
        CODEC_COMMON_CC = 5,
        CODEC_COMMON_BCC = 6,
        CODEC_COMMON_SUBJECT = 7,
};

#define CODEC_CLICK_LINK_TAGS 5

/* Times of the years 1970..9999. */
#define CODEC_TIME_MS_MAX INT64_C(253402300799999)
/* mail.messageId is published twice; SES's have 60 bytes, an RFC 5322 id fits too. */
#define CODEC_MESSAGE_ID_BYTES_MAX 512u
/* Members of one unknown map, or unknown members of one known map: names are compared pair by pair. */
#define CODEC_EXTRA_MEMBERS_MAX 64u
/* Unknown members of one event, all levels together: bounds the time of those comparisons to tens of microseconds. */
#define CODEC_EXTRA_TOTAL_MAX 1024u
/* A derived domain (from-domain, sourceArn) that is longer is no domain. */
#define CODEC_DOMAIN_BYTES_MAX 255u

/* Bytes that one header counts towards SES's 10 KB: "name: value\r\n". */
#define CODEC_HEADER_BYTES(name_len, value_len) ((name_len) + (value_len) + 4)

/* ---------------------------------------------------------------------------------------------- schema */

enum codec_kind {
        CODEC_KIND_TEXT,       /* str                                sendring_str */
        CODEC_KIND_TIME,       /* integer, ms since 1970             int64_t      */
        CODEC_KIND_COUNT,      /* integer >= 0                       int64_t      */
        CODEC_KIND_FLAG,       /* bool                               int          */
        CODEC_KIND_TEXTS,      /* array of str                       sendring_strs */
        CODEC_KIND_ADDRESSES,  /* array of str, [{"emailAddress"}]   sendring_strs */
        CODEC_KIND_HEADERS,    /* array: name, value, name, ...      sendring_pairs */
        CODEC_KIND_TAGS,       /* the same, names and values checked sendring_pairs */
        CODEC_KIND_TOPICS,     /* array: topic, status, topic, ...   sendring_topics */
        CODEC_KIND_RECIPIENTS, /* array of maps                      sendring_recipients */
        CODEC_KIND_MAP,        /* map by `schema`                    a struct */
};

#define CODEC_MEMBER_REQUIRED  1u /* and, for lists, at least one element */
#define CODEC_MEMBER_NOT_EMPTY 2u /* of texts */
/* What redaction must know of a text. Lists of texts are addresses. */
#define CODEC_MEMBER_ADDRESS 4u  /* nothing but an address, maybe with a name */
#define CODEC_MEMBER_URL     8u  /* addresses may stand in it between '/', '?', '&' */
#define CODEC_MEMBER_ID      16u /* no address, although it may look like one */

struct codec_member {
        uint8_t kind;
        uint8_t flags;
        uint8_t json_bytes;
        char json[40];                     /* ,"name": padded, so that a copy of fixed size serves */
        const char *absent;                /* the JSON value published when the member is not there; NULL: left out */
        const struct codec_schema *schema; /* of MAP */
        size_t offset;                     /* in its struct of sendring.h */
};

#define CODEC_SCHEMA_KEYS_MAX 10

struct codec_schema {
        const char *name;       /* for messages */
        uint32_t required_mask; /* bit per key */
        uint8_t keys_end;       /* keys are 1 .. keys_end - 1 */
        bool extra;             /* unknown string keys are kept */
        struct codec_member members[CODEC_SCHEMA_KEYS_MAX];
};

extern const struct codec_schema codec_schema_mail;
extern const struct codec_schema codec_schema_session;
extern const struct codec_schema codec_schema_common_headers;
extern const struct codec_schema codec_schema_recipient;

struct codec_type {
        const char *name, *sesv2, *v1;
        char head[40]; /* {"eventType":"Bounce" */
        uint8_t head_bytes;
        char object[24]; /* ,"bounce": */
        uint8_t object_bytes;
        bool object_first; /* before `mail` */
        bool short_tags;   /* only ses:configuration-set */
        bool source_arn;   /* published at all */
        struct codec_schema schema;
};

/* By number; [0] is unused. */
extern const struct codec_type codec_types[CODEC_EVENT_TYPES_COUNT + 1];

/* Names that the published JSON has already: an unknown member of such a name would make a second one. */
bool codec_name_is_taken(const struct codec_schema *schema, struct slice name); /* schema NULL: the top level */

/* ---------------------------------------------------------------------------------------------- bytes */

static inline uint16_t codec_load_be16(const uint8_t *at)
{
        uint16_t value;
        memcpy(&value, at, sizeof(value));
        return __builtin_bswap16(value);
}

static inline uint32_t codec_load_be32(const uint8_t *at)
{
        uint32_t value;
        memcpy(&value, at, sizeof(value));
        return __builtin_bswap32(value);
}

static inline uint64_t codec_load_be64(const uint8_t *at)
{
        uint64_t value;
        memcpy(&value, at, sizeof(value));
        return __builtin_bswap64(value);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "loads and stores swap: only little-endian machines");

/* Length of the valid UTF-8 sequence at `at` (1..4), or 0; then *ret_bad is how many bytes one U+FFFD replaces (the
 * maximal subpart, at least 1). `end` > `at`. */
static inline size_t codec_utf8_sequence(const uint8_t *at, const uint8_t *end, size_t *ret_bad)
{
        uint8_t lead = at[0];
        size_t left = (size_t)(end - at);
        uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
        size_t need;
        *ret_bad = 1;
        if (lead < 0x80)
                return 1;
        if (lead < 0xc2)
                return 0;
        if (lead < 0xe0) {
                need = 2;
        } else if (lead < 0xf0) {
                need = 3;
                if (lead == 0xe0)
                        low = 0xa0;
                else if (lead == 0xed)
                        high = 0x9f;
        } else if (lead < 0xf5) {
                need = 4;
                if (lead == 0xf0)
                        low = 0x90;
                else if (lead == 0xf4)
                        high = 0x8f;
        } else {
                return 0;
        }
        if (left < 2 || at[1] < low || at[1] > high)
                return 0;
        for (size_t i = 2; i < need; i++) {
                if (left <= i || (at[i] & 0xc0) != 0x80) {
                        *ret_bad = i;
                        return 0;
                }
        }
        return need;
}

/* ---------------------------------------------------------------------------------------------- msgpack, trusted
 * These read what codec_view_decode() has accepted: no bounds are checked. */

static inline struct slice codec_trusted_text(const uint8_t **at)
{
        const uint8_t *p = *at;
        size_t head, len;
        if (p[0] == 0xd9) {
                head = 2;
                len = p[1];
        } else if (p[0] < 0xc0) {
                head = 1;
                len = p[0] & 0x1f;
        } else if (p[0] == 0xda) {
                head = 3;
                len = codec_load_be16(p + 1);
        } else {
                head = 5;
                len = codec_load_be32(p + 1);
        }
        *at = p + head + len;
        return slice_of(p + head, len);
}

static inline uint32_t codec_trusted_count(const uint8_t **at) /* of an array or a map */
{
        const uint8_t *p = *at;
        if (p[0] < 0xc0) {
                *at = p + 1;
                return p[0] & 0x0f;
        }
        if (p[0] == 0xdc || p[0] == 0xde) {
                *at = p + 3;
                return codec_load_be16(p + 1);
        }
        *at = p + 5;
        return codec_load_be32(p + 1);
}

static inline uint64_t codec_trusted_uint(const uint8_t **at) /* of a value that is not negative, in any width */
{
        const uint8_t *p = *at;
        switch (p[0]) {
        case 0xcc:
        case 0xd0:
                *at = p + 2;
                return p[1];
        case 0xcd:
        case 0xd1:
                *at = p + 3;
                return codec_load_be16(p + 1);
        case 0xce:
        case 0xd2:
                *at = p + 5;
                return codec_load_be32(p + 1);
        case 0xcf:
        case 0xd3:
                *at = p + 9;
                return codec_load_be64(p + 1);
        default:
                *at = p + 1;
                return p[0];
        }
}

/* Skips one value of any kind, known or unknown. */
void codec_trusted_skip(const uint8_t **at);

/* How many of the headers at `p` (the list in mail) are published: those that stay within SES's 10 KB. */
uint32_t codec_headers_kept(const struct codec_view *view, const uint8_t *p);

/* The domain of an address or of "Name <address>"; empty when there is none. */
struct slice codec_domain_of(struct slice source);

/* ses:from-domain of an event whose session gives none, by the one rule that all who publish, filter or choose by it
 * share: the domain of the From header, of commonHeaders first; only without either of them (NULL, else as they lie in
 * mail) that of mail.source, which bulk senders make an address of their bounces. Empty: there is none. */
struct slice codec_from_domain(const uint8_t *headers, const uint8_t *common_headers, struct slice source_domain);

#endif
