/* Codecs: the event on the wire (msgpack, docs/formats/event.md), its validation, and its JSON as SES publishes it.
 *
 * The event is a msgpack map with small integer keys in ascending order, so that the router meets type, configuration
 * set and tags first. `struct sendring_event` (include/sendring/sendring.h) is the way in, SES's JSON the way out.
 * Unknown string keys at the top level and in `mail` are kept and published. Nothing here allocates, locks, or keeps
 * state; every function may be called from any thread. Input is hostile unless a function says otherwise.
 *
 * base64, JSON reading and number writing live here too: they are the codecs of the egress side.
 *
 * The format is docs/formats/event.md. encode.c, encode_size.c, tag.c, header.c and message_id.c are what libsendring
 * compiles into itself (`codecs_producer_sources` in meson): libc only, no allocation, no log, no assert.
 */
#ifndef SENDRING_CODECS_CODEC_H
#define SENDRING_CODECS_CODEC_H

#include "base/err.h"
#include "base/slice.h"
#include "sendring/sendring.h"

#include <stdbool.h>
#include <stdint.h>

/* ---------------------------------------------------------------------------------------------- types */

#define CODEC_EVENT_TYPES_COUNT 10
/* "Rendering Failure": the eventType of the record. NULL for a number out of range. */
const char *codec_event_type_name(enum sendring_event_type type);
/* "RENDERING_FAILURE": the SESv2 enum. */
const char *codec_event_type_sesv2(enum sendring_event_type type);
/* "renderingFailure": SES v1's and CloudFormation's. */
const char *codec_event_type_v1(enum sendring_event_type type);
/* "RenderingFailure": the CloudWatch metric. */
const char *codec_event_type_metric(enum sendring_event_type type);
/* "Email Rendering Failed": EventBridge's detail-type. */
const char *codec_event_type_detail(enum sendring_event_type type);
/* The type of an encoded event, by its first bytes and nothing else: 0 where they are no event's. The bytes may be
 * shared with whoever writes them. */
enum sendring_event_type codec_event_peek_type(struct slice event);
/* Accepts the record's spelling, SESv2's and v1's ("Rendering Failure", "RENDERING_FAILURE", "renderingFailure").
 * 0 when unknown. */
enum sendring_event_type codec_event_type_parse(struct slice text);

/* ---------------------------------------------------------------------------------------------- encode (producer side)
 */

/* An upper bound of the encoded size, cheap: for ring_reserve(). SIZE_MAX when lengths overflow. */
size_t codec_event_size_max(const struct sendring_event *event);
/* Everything "not given": what sendring_event_init() promises. */
void codec_event_init(struct sendring_event *event, enum sendring_event_type type);
/* Checks every field (required ones present, list sizes, tag names and values, times in years 1970-9999, enumerations
 * left open) and writes the event. ERR_TOO_BIG when `out_bytes` is short; ERR_MISSING, ERR_NAME, ERR_RANGE, ERR_TYPE
 * with a sentence in *reterr that names the field ("mail.tags[3].name: ..."; SES's own text where it has
 * one). Headers beyond 10 KB are cut, whole headers from the end, and headersTruncated is set. Bytes of `out` behind
 * *ret_bytes may hold garbage; `out` is garbage on failure. ERR_VERSION: event->size is smaller than any header's. */
enum err_code codec_event_encode(const struct sendring_event *event, uint8_t *out, size_t out_bytes, size_t *ret_bytes,
                                 struct err *reterr);
/* The same for an event that was read from others' records: tag names and values may have 256 bytes, one more than may
 * be set, as SES's documentation has it. codec_view_decode() takes them, too. */
enum err_code codec_event_encode_read(const struct sendring_event *event, uint8_t *out, size_t out_bytes,
                                      size_t *ret_bytes, struct err *reterr);

/* ---------------------------------------------------------------------------------------------- decode (router side)
 */

/* What one validating pass finds. Slices point into the event's bytes. */
struct codec_view {
        enum sendring_event_type type;
        struct slice configuration_set; /* text; empty when the producer gave none */
        struct slice event;             /* the whole msgpack map */
        struct slice tags;              /* the msgpack of the message tags (array: name, value, ...), or empty */
        struct slice session;           /* the msgpack of the facts behind the auto-tags, or empty */
        struct slice mail;              /* the msgpack of the rest of mail */
        struct slice object;            /* the msgpack of the event object, or empty */
        struct slice extra;             /* first unknown string key up to the end of the map, or empty */
        uint32_t extra_count;           /* pairs in it */
        struct slice message_id;        /* text */
        int64_t timestamp_ms;           /* mail.timestamp */
};

/* Validates the whole event in one pass without allocating: structure, types and order of known fields, required
 * fields, list and depth limits, no trailing bytes. Invalid UTF-8 is not an error. On failure the bare code and, where
 * `reterr` is given, offset and reason; *ret_view is untouched. Never reads beyond the slice. */
enum err_code codec_view_decode(struct slice event, struct codec_view *ret_view, struct err *reterr);

/* A view as plain bytes, for the journal: the router validates an event once, and whoever reads it from the journal
 * loads what was found instead of looking for it again. What is stored there is `stored`, the event, and, for an event
 * that names no configuration set, the name of the one that the router took, up to the end; store wants
 * view->configuration_set to point at it there then. Load checks that every part lies where it may (ERR_CORRUPT), not
 * what it is: the two must come from codec_view_store() of the same event, under a checksum. */
#define CODEC_VIEW_STORED_BYTES 80
void codec_view_store(const struct codec_view *view, uint8_t out[CODEC_VIEW_STORED_BYTES]);
enum err_code codec_view_load(const uint8_t stored[CODEC_VIEW_STORED_BYTES], struct slice behind,
                              struct codec_view *ret_view);
/* Only where the parts lie, for those who want to look at the event themselves. */
enum err_code codec_view_split(struct slice payload, struct slice *ret_event, struct slice *ret_set);

/* The domain that a default configuration set is chosen by: the one published as ses:from-domain (the session's, else
 * that of the From header, else, of an event without headers, that of mail.source); empty when there is none. `view` as
 * for codec_json_encode(). */
struct slice codec_view_from_domain(const struct codec_view *view);
/* The domain of the first address that has one in the value of a From header, or of any header with addresses: a part
 * of it, at most 255 bytes; empty when there is none. Takes time in proportion to the text. */
struct slice codec_address_domain(struct slice addresses);

/* Reads an event back into the public struct, with lists in the arena: for tools (decode, feeds' tests), never on the
 * hot path. */
struct arena;
enum err_code codec_event_decode(struct slice event, struct arena *arena, struct sendring_event *ret_event,
                                 struct err *reterr);

/* ---------------------------------------------------------------------------------------------- JSON out */

struct codec_redaction;

/* What the router knows and producers may leave out. Slices must outlive the call. */
struct codec_json_options {
        struct slice account_id; /* for sendingAccountId and sourceArn when absent; empty: the member is left out */
        struct slice region;     /* for sourceArn */
        struct slice partition;  /* "aws" when empty */
        struct slice configuration_set;          /* the default one: ses:configuration-set of events that name none */
        const struct codec_redaction *redaction; /* codecs/redact.h; NULL: everything is published */
        bool event_id; /* for the caller, who knows the event's place: codec_json_add_event_id() behind the encoding */
};

/* Writes the event as SES publishes it: compact, member order per type (SES developer guide, "Contents of event data
 * that Amazon SES publishes"), auto-tags, ms timestamps, no newline. `view` must come from codec_view_decode() over the
 * same, unchanged bytes (the journal's copy: trusted then). Returns the bytes written, or 0 when `out_bytes` is short.
 * codec_json_size_max() is a safe bound for `out_bytes`. */
size_t codec_json_encode(const struct codec_view *view, const struct codec_json_options *options, uint8_t *out,
                         size_t out_bytes);
size_t codec_json_size_max(const struct codec_view *view, const struct codec_json_options *options);

/* Adds `,"sendring":{"eventId":"16 hex digits-hex digits","sequence":N}` as the last member of an encoded event of
 * `bytes`: the lane's random id and the event's place in the lane, which no other event has and this one keeps
 * over resends, restarts and new journals; and its number in the shard's journal. Returns the bytes of the whole, 0
 * when `out_bytes` is short; CODEC_JSON_EVENT_ID_BYTES more than before always suffice. */
#define CODEC_JSON_EVENT_ID_BYTES 96
size_t codec_json_add_event_id(uint8_t *json, size_t bytes, size_t out_bytes, uint64_t lane_id, uint64_t lane_position,
                               uint64_t sequence);

/* Writes `text` as a JSON string with quotes: escapes ", \ and control bytes, keeps valid UTF-8, replaces invalid bytes
 * by U+FFFD. Returns bytes written, 0 when short; 6 * len + 2 always suffices. */
size_t codec_json_string(struct slice text, uint8_t *out, size_t out_bytes);

/* ---------------------------------------------------------------------------------------------- look-up */

/* One text of the event by the name under which it is published. */
enum codec_source {
        CODEC_SOURCE_TAG,      /* mail.tags, auto-tags included */
        CODEC_SOURCE_HEADER,   /* mail.headers, whatever the case of the name's letters; also those cut off in JSON */
        CODEC_SOURCE_LINK_TAG, /* click.linkTags */
};

struct codec_wanted {
        struct slice name; /* must outlive it */
        enum codec_source source;
        uint8_t auto_tag; /* private */
};
/* `name` may be any; what no event has is not found. */
void codec_wanted_init(struct codec_wanted *wanted, enum codec_source source, struct slice name);

struct codec_found {
        struct slice value; /* the first, raw; ptr NULL: there is none. Points into the event or the options */
        uint32_t count;     /* values under this name */
};
/* Looks all of them up in one pass over each list. `view` and `options` as for codec_json_encode(); at most 32 wanted.
 */
void codec_view_find(const struct codec_view *view, const struct codec_json_options *options,
                     const struct codec_wanted *wanted, size_t wanted_count, struct codec_found *ret_found);

/* ---------------------------------------------------------------------------------------------- JSON in */

/* A pull reader over one complete JSON text (service answers, sink requests): validates as it goes (UTF-8, too),
 * allocates nothing, depth-bounded (64). Strings come raw; codec_json_unescape() decodes them. */
enum codec_json_token {
        CODEC_JSON_END = 0, /* the text is complete and valid */
        CODEC_JSON_ERROR,   /* malformed; sticky */
        CODEC_JSON_OBJECT_BEGIN,
        CODEC_JSON_OBJECT_END,
        CODEC_JSON_ARRAY_BEGIN,
        CODEC_JSON_ARRAY_END,
        CODEC_JSON_KEY,
        CODEC_JSON_STRING,
        CODEC_JSON_NUMBER,
        CODEC_JSON_TRUE,
        CODEC_JSON_FALSE,
        CODEC_JSON_NULL,
};

struct codec_json_reader {
        struct slice text;
        size_t at;          /* offset of the next byte: names the place of an error */
        struct slice value; /* of KEY, STRING (between the quotes, still escaped) and NUMBER */
        bool escaped;       /* the last KEY or STRING holds a backslash */
        uint32_t depth;
        uint64_t objects; /* private: bit per level */
        uint8_t state;    /* private */
};

void codec_json_reader_init(struct codec_json_reader *reader, struct slice text);
enum codec_json_token codec_json_next(struct codec_json_reader *reader);
/* After a KEY or in an array: skips the whole next value. False on malformed text. */
bool codec_json_skip(struct codec_json_reader *reader);
/* Decodes the escapes of a raw string; lone surrogates become U+FFFD. Returns bytes, SIZE_MAX when short. `out` may be
 * the raw string's own memory. */
size_t codec_json_unescape(struct slice raw, uint8_t *out, size_t out_bytes);

/* ---------------------------------------------------------------------------------------------- CBOR in (RFC 8949) */

enum codec_cbor_kind {
        CODEC_CBOR_ERROR = 0, /* malformed, cut off, or nothing left */
        CODEC_CBOR_UINT,      /* number */
        CODEC_CBOR_NEGATIVE,  /* -1 - number */
        CODEC_CBOR_BYTES,     /* text */
        CODEC_CBOR_TEXT,      /* text; not checked for UTF-8 */
        CODEC_CBOR_ARRAY,     /* number of items, or indefinite */
        CODEC_CBOR_MAP,       /* number of pairs, or indefinite */
        CODEC_CBOR_TAG,       /* number; the tagged item follows */
        CODEC_CBOR_FLOAT,     /* real: of 16, 32 or 64 bits */
        CODEC_CBOR_SIMPLE,    /* number: 20 false, 21 true, 22 null, 23 undefined */
        CODEC_CBOR_BREAK,     /* ends what is indefinite */
};

struct codec_cbor_item {
        enum codec_cbor_kind kind;
        bool indefinite;
        uint64_t number;
        double real;
        struct slice text; /* empty for a string in pieces, which is stepped over */
};

/* Takes one item from the front of *rest: a string with its bytes, of an array, a map or a tag only the head. Allocates
 * nothing; lengths beyond what is there are errors, so a count says nothing about memory. */
enum codec_cbor_kind codec_cbor_next(struct slice *rest, struct codec_cbor_item *ret_item);
/* Takes one whole item, nested at most 32 deep. */
bool codec_cbor_skip(struct slice *rest);
/* True while an array or map, whose head was `list`, has another item or pair; list->number counts down. Takes the
 * break. Check `rest` for being used up or wrong by reading the item: an error ends the loop there. */
bool codec_cbor_more(struct slice *rest, struct codec_cbor_item *list);

/* ---------------------------------------------------------------------------------------------- base64, numbers, time
 */

/* Appends base64 in pieces: bytes that do not fill a group of three wait in the state. Zero-initialise it. */
struct codec_base64 {
        uint8_t waiting[3];
        uint8_t waiting_count;
};
#define CODEC_BASE64_SIZE(bytes) (((bytes) + 2) / 3 * 4)
/* Writes at most CODEC_BASE64_SIZE(waiting + bytes.len) characters to `out` and returns how many. May write up to 32
 * bytes of garbage behind them (SIMD stores): `out` must have that slack. */
size_t codec_base64_append(struct codec_base64 *state, struct slice bytes, uint8_t *out);
/* Writes the last group with its padding: 0 or 4 characters. */
size_t codec_base64_finish(struct codec_base64 *state, uint8_t *out);
/* Strict decode (padding required, no other characters, the bits that padding leaves over are zero). Returns bytes,
 * SIZE_MAX when malformed or short. */
size_t codec_base64_decode(struct slice text, uint8_t *out, size_t out_bytes);

/* Writes decimal digits (at most 20) and returns their count. */
size_t codec_u64_write(uint64_t value, uint8_t *out);
/* Writes "2026-01-02T03:04:05.678Z" (24 bytes). Years 0000-9999. */
size_t codec_time_write(int64_t realtime_ms, uint8_t *out);
/* Reads RFC 3339 / ISO 8601 with "T" or a space, 0-9 fraction digits, "Z" or +hh:mm. */
bool codec_time_parse(struct slice text, int64_t *ret_realtime_ms);
void codec_hex_write(struct slice bytes, char *out); /* lower case, 2 * len characters, no NUL */

/* ---------------------------------------------------------------------------------------------- helpers for producers
 */

/* Checks one message tag by the SES API reference (MessageTag); SES's own sentence in *reterr. */
enum err_code codec_tag_check(struct slice name, struct slice value, struct err *reterr);
/* "a=b, c=d": see sendring_parse_message_tags(). */
enum err_code codec_message_tags_parse(struct slice header, struct sendring_pair *items, size_t items_max,
                                       size_t *ret_count, struct err *reterr);
/* "NAME": see sendring_parse_configuration_set(). */
enum err_code codec_configuration_set_parse(struct slice header, struct slice *ret_name, struct err *reterr);
/* "a:b;c:d;": see sendring_parse_link_tags(). */
enum err_code codec_link_tags_parse(struct slice attribute, struct sendring_pair *items, size_t items_max,
                                    size_t *ret_count, struct err *reterr);
/* "a:b:INTERNAL:SENDER" and a NUL: see sendring_feedback_id(). ERR_TOO_BIG when `out_bytes` is short. */
enum err_code codec_feedback_id_write(struct sendring_pairs tags, struct slice internal_id, struct slice sender_id,
                                      char *out, size_t out_bytes, size_t *ret_bytes, struct err *reterr);
/* SES-shaped id: "0100" + 12 hex ms + "-8-4-4-4-12-000000", 60 characters and a NUL, from 128 random bits. */
void codec_message_id_write(int64_t timestamp_ms, uint64_t random_high, uint64_t random_low, char ret_id[61]);

#endif
