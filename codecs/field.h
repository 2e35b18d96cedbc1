/* Members of the published event by their path ("mail.tags.campaign", "bounce.bouncedRecipients.status"), read out of
 * the msgpack bytes: what codec_json_encode() would write there, without writing it. Filters ask for them.
 *
 * A path is resolved once, when a configuration is loaded, and then read of any number of events. What the router
 * derives is there as well: eventType, auto-tags, sourceArn, sendingAccountId, headersTruncated,
 * commonHeaders.messageId, times as their text. Unknown members at the top level and in `mail` are searched by name; a
 * name may hold dots, as in EventBridge ("a.b" is the member b of a, and the member "a.b").
 *
 * Only single values are visited, never maps and lists: a list of texts is visited text by text. A list whose elements
 * are maps or lists leaves a mark in the reader's trail while one of its elements is looked at, so that several paths
 * can be held to the same element (EventBridge's array consistency).
 *
 * Nothing here allocates or fails; views must come from codec_view_decode(). One thread for each reader.
 */
#ifndef SENDRING_CODECS_FIELD_H
#define SENDRING_CODECS_FIELD_H

#include "codecs/codec.h"

/* ---------------------------------------------------------------------------------------------- paths */

enum codec_field_place {
        CODEC_FIELD_NOWHERE = 0, /* only unknown members can have it */
        CODEC_FIELD_EVENT_TYPE,
        CODEC_FIELD_MAIL,              /* mail, by `keys` */
        CODEC_FIELD_TAG,               /* mail.tags, `rest` is the tag's name */
        CODEC_FIELD_COMMON_MESSAGE_ID, /* mail.commonHeaders.messageId */
        CODEC_FIELD_OBJECT,            /* the object of `type`, by `keys` */
};

#define CODEC_FIELD_STEPS_MAX 3u

struct codec_field {
        struct slice path;                   /* as given: belongs to the caller */
        struct slice rest;                   /* of `path`: the name of a tag */
        uint8_t place;                       /* enum codec_field_place */
        uint8_t type;                        /* enum sendring_event_type: only its events have it; 0: all */
        uint8_t keys[CODEC_FIELD_STEPS_MAX]; /* of mail or the object, then of what lies below */
        bool is_text;                        /* its values are texts, when it is known */
        uint8_t list_bytes; /* of `path`: up to the list of maps that it goes through; 0: through none that is known */
};

enum codec_field_kind {
        CODEC_FIELD_IS_VALUE = 0,   /* events have values there */
        CODEC_FIELD_IS_GROUP,       /* a map, or a list of maps: its members have the values */
        CODEC_FIELD_IS_BELOW_VALUE, /* a part of the path is a value already, and has no members */
        CODEC_FIELD_IS_NO_MEMBER,   /* a known map has no such member, and takes no unknown ones */
        CODEC_FIELD_IS_UNKNOWN,     /* an unknown member may have the name */
};

/* What to tell a person about a path that is no value. */
struct codec_field_hint {
        struct slice parent;   /* of the path: the part that is known, without the dot behind it; may be empty */
        struct slice part;     /* behind it: the name that is not known, or that has no members */
        const char *names[32]; /* members that `parent` (or the path, of a group) has; each ends with a NUL */
        uint32_t names_count;
        char room[32][40]; /* private: what `names` points to */
};

/* Resolves a path that is not empty. *ret_field is usable whatever it is: unknown members are found by any path.
 * `ret_hint` may be NULL. Cold. */
enum codec_field_kind codec_field_find(struct slice path, struct codec_field *ret_field,
                                       struct codec_field_hint *ret_hint);

/* ---------------------------------------------------------------------------------------------- values */

enum codec_value_kind {
        CODEC_VALUE_TEXT = 0,
        CODEC_VALUE_UINT,
        CODEC_VALUE_NEGATIVE,
        CODEC_VALUE_FLOAT,
        CODEC_VALUE_TRUE,
        CODEC_VALUE_FALSE,
        CODEC_VALUE_NULL,
};

struct codec_value {
        enum codec_value_kind kind;
        struct slice text; /* TEXT: as the producer wrote it: bytes that are no UTF-8 are not yet replaced */
        union {
                uint64_t uint;    /* UINT */
                int64_t negative; /* NEGATIVE */
                double number;    /* FLOAT: finite */
        };
};

/* ---------------------------------------------------------------------------------------------- reading one event */

/* An element that is being looked at. Lists are told apart by where they begin. */
struct codec_field_mark {
        const uint8_t *list, *element;
        uint32_t index;
};

#define CODEC_FIELD_TRAIL_MAX 48u
#define CODEC_FIELD_KEYS_MAX  16u
/* Elements and values looked at for one event, and each 32 bytes of what is stepped over: bounds what a filter over
 * large lists inside large lists may cost (some milliseconds). */
#define CODEC_FIELD_LOOKS_MAX 65536u

/* Private but for `exhausted`. Lives on the stack of whoever asks; what was found about an event on the way to one
 * field serves the next. */
struct codec_field_reader {
        const struct codec_view *view;
        const struct codec_json_options *options;
        bool exhausted; /* CODEC_FIELD_LOOKS_MAX or CODEC_FIELD_TRAIL_MAX was reached: verdicts since are none */
        bool mail_known, object_known, session_known;
        uint32_t looks_left;
        uint32_t mail_extra_count, trail_count;
        const uint8_t *mail_extra;
        const uint8_t *mail[CODEC_FIELD_KEYS_MAX]; /* values by key; NULL: not there */
        const uint8_t *object[CODEC_FIELD_KEYS_MAX];
        struct slice session[CODEC_FIELD_KEYS_MAX];
        struct codec_field_mark trail[CODEC_FIELD_TRAIL_MAX];
        uint8_t room[640]; /* texts that are made: times, sourceArn */
};

/* `options` may be NULL. Both must outlive the reader. Cheap: nothing is looked at yet. */
void codec_field_reader_init(struct codec_field_reader *reader, const struct codec_view *view,
                             const struct codec_json_options *options);
/* Another one asks about the same event: it may look as much as the one before. */
void codec_field_reader_renew(struct codec_field_reader *reader);

/* Calls `visit` with each value of the field in the order of the JSON, until it returns true. Elements of lists that
 * have a mark in the trail already are passed over, save the marked one; while `visit` runs, the trail has the marks of
 * the value as well, so calls made from inside it see only what lies in the same elements. The value's text is good
 * until the next call. Returns true when `visit` did, or when the reader is exhausted. */
typedef bool codec_field_visit(void *context, const struct codec_value *value);
bool codec_field_each(struct codec_field_reader *reader, const struct codec_field *field, codec_field_visit *visit,
                      void *context);

#endif
