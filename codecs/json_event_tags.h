/* Part of json_event.c, and of it alone: tags, made by the router or given by the sender. */

/* ---------------------------------------------------------------------------------------------- tags */

/* Tags in order, those of one name gathered into the array of the first. */
struct json_tag {
        struct slice name, value;
        uint16_t next; /* of the same name; 0: the last */
        bool gathered; /* belongs to an earlier one */
};

#define JSON_TAGS_FEW 24

static inline bool json_tag_dropped(const struct json_event *event, struct slice name)
{
        return JSON_EVENT_REDACTED && event->message_tags && redact_names_have(&event->redaction->tags, name);
}

static inline uint8_t *json_tag_value(struct json_event *event, uint8_t *at, struct slice value)
{
        if (JSON_EVENT_REDACTED)
                return redact_text(event->redaction, &event->out, at, value, CODEC_REDACT_TEXT, &event->tokens_left,
                                   event->readable);
        return json_bytes(&event->out, at, value.ptr, value.len);
}

/* Names and values hold nothing that must be escaped: they were checked. */
static uint8_t *json_tags_write(struct json_event *event, uint8_t *at, const struct json_tag *tags, uint32_t count)
{
        struct json_out *out = &event->out;
        for (uint32_t i = 0; i < count; i++) {
                const struct json_tag *tag = &tags[i];
                if (tag->gathered || json_tag_dropped(event, tag->name))
                        continue;
                at = JSON_LITERAL(out, at, ",\"");
                at = json_bytes(out, at, tag->name.ptr, tag->name.len);
                at = JSON_LITERAL(out, at, "\":[\"");
                at = json_tag_value(event, at, tag->value);
                for (uint32_t j = tag->next; j != 0; j = tags[j].next) {
                        at = JSON_LITERAL(out, at, "\",\"");
                        at = json_tag_value(event, at, tags[j].value);
                }
                at = JSON_LITERAL(out, at, "\"]");
        }
        return at;
}

static void json_tags_read(const uint8_t **p, struct json_tag *tags, uint32_t count)
{
        for (uint32_t i = 0; i < count; i++) {
                tags[i].name = codec_trusted_text(p);
                tags[i].value = codec_trusted_text(p);
                tags[i].next = 0;
                tags[i].gathered = false;
        }
}

static int json_tag_order(const struct json_tag *a, const struct json_tag *b)
{
        size_t len = a->name.len < b->name.len ? a->name.len : b->name.len;
        int order = memcmp(a->name.ptr, b->name.ptr, len);
        return order != 0 ? order : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

/* Many tags: a stable merge sort of their numbers brings equal names together in n log n whatever a producer thinks of.
 */
static __attribute__((noinline)) uint8_t *json_tags_many(struct json_event *event, uint8_t *at, const uint8_t **p,
                                                         uint32_t count)
{
        struct json_tag tags[LIMIT_LIST_ITEMS_MAX];
        uint16_t numbers[2][LIMIT_LIST_ITEMS_MAX];
        uint16_t *from = numbers[0], *to = numbers[1];
        json_tags_read(p, tags, count);
        for (uint32_t i = 0; i < count; i++)
                from[i] = (uint16_t)i;
        for (uint32_t width = 1; width < count; width *= 2) {
                for (uint32_t low = 0; low < count; low += 2 * width) {
                        uint32_t middle = low + width < count ? low + width : count;
                        uint32_t high = middle + width < count ? middle + width : count;
                        uint32_t a = low, b = middle;
                        for (uint32_t i = low; i < high; i++) {
                                bool first = a < middle &&
                                             (b >= high || json_tag_order(&tags[from[a]], &tags[from[b]]) <= 0);
                                to[i] = first ? from[a++] : from[b++];
                        }
                }
                uint16_t *swap = from;
                from = to;
                to = swap;
        }
        for (uint32_t i = 1; i < count; i++) {
                if (slice_equal(tags[from[i - 1]].name, tags[from[i]].name)) {
                        tags[from[i - 1]].next = from[i]; /* never 0: a later number than the one before it */
                        tags[from[i]].gathered = true;
                }
        }
        return json_tags_write(event, at, tags, count);
}

/* Names that occur twice are brought together. */
static __attribute__((noinline)) uint8_t *json_tags_few(struct json_event *event, uint8_t *at, const uint8_t **p,
                                                        uint32_t count)
{
        struct json_tag tags[JSON_TAGS_FEW];
        json_tags_read(p, tags, count);
        for (uint32_t i = 0; i < count; i++) {
                for (uint32_t j = i; j-- > 0;) {
                        if (slice_equal(tags[j].name, tags[i].name)) {
                                tags[j].next = (uint16_t)i;
                                tags[i].gathered = true;
                                break;
                        }
                }
        }
        return json_tags_write(event, at, tags, count);
}

#if JSON_TEXT_SSE2 && !JSON_EVENT_REDACTED
static inline uint8_t *json_tag_copy(uint8_t *at, struct slice text, const uint8_t *readable)
{
        if (__builtin_expect(text.len <= 16 && readable - text.ptr >= 16, 1))
                json_store(at, json_load(text.ptr));
        else
                memcpy(at, text.ptr, text.len);
        return at + text.len;
}

static bool json_tag_is_new(const struct slice *names, uint32_t count, struct slice name)
{
        for (uint32_t i = 0; i < count; i++)
                if (slice_equal(names[i], name))
                        return false;
        return true;
}

/* Few tags, each of another name, as mostly: written while they are read. NULL, and *p where it was, when a name comes
 * again. Names and values hold nothing that must be escaped: they were checked. */
static uint8_t *json_tags_plain(struct json_event *event, uint8_t *at, const uint8_t **p, uint32_t count)
{
        struct slice names[JSON_TAGS_FEW];
        const uint8_t *from = *p, *readable = event->readable;
        uint64_t seen = 0; /* a bit per hash of a name */
        for (uint32_t i = 0; i < count; i++) {
                struct slice name = codec_trusted_text(&from);
                struct slice value = codec_trusted_text(&from);
                uint32_t hash = (uint32_t)name.len * 7u + name.ptr[0] * 3u + name.ptr[name.len - 1] * 5u +
                                name.ptr[name.len / 2];
                uint64_t bit = UINT64_C(1) << (hash & 63);
                if ((seen & bit) != 0 && !json_tag_is_new(names, i, name))
                        return NULL;
                seen |= bit;
                names[i] = name;
                memcpy(at, ",\"", 2);
                at = json_tag_copy(at + 2, name, readable);
                memcpy(at, "\":[\"", 4);
                at = json_tag_copy(at + 4, value, readable);
                memcpy(at, "\"]", 2);
                at += 2;
        }
        *p = from;
        return at;
}
#endif

/* The members of the object, each with a comma before it. */
static uint8_t *json_tags(struct json_event *event, uint8_t *at, const uint8_t **p)
{
        uint32_t count = codec_trusted_count(p) / 2;
        if (count > JSON_TAGS_FEW)
                return json_tags_many(event, at, p, count);
#if JSON_TEXT_SSE2 && !JSON_EVENT_REDACTED
        /* A tag takes 8 bytes more than its texts; the last store may reach 16 beyond. */
        if (__builtin_expect(json_room(&event->out, at) >= (size_t)(event->readable - *p) + 8 * count + 16, 1)) {
                uint8_t *end = json_tags_plain(event, at, p, count);
                if (__builtin_expect(end != NULL, 1))
                        return end;
        }
#endif
        return json_tags_few(event, at, p, count);
}

/* Names with their punctuation, padded, so that a copy of fixed size serves. */
struct json_auto_name {
        char text[31];
        uint8_t bytes;
};
#define JSON_AUTO_NAME(name)                                     \
        {                                                        \
                ",\"" name "\":[", sizeof(",\"" name "\":[") - 1 \
        }

static const struct json_auto_name json_auto_names[CODEC_SESSION_KEYS] = {
        [CODEC_SESSION_OPERATION] = JSON_AUTO_NAME("ses:operation"),
        [CODEC_SESSION_SOURCE_IP] = JSON_AUTO_NAME("ses:source-ip"),
        [CODEC_SESSION_FROM_DOMAIN] = JSON_AUTO_NAME("ses:from-domain"),
        [CODEC_SESSION_CALLER_IDENTITY] = JSON_AUTO_NAME("ses:caller-identity"),
        [CODEC_SESSION_SOURCE_TLS_VERSION] = JSON_AUTO_NAME("ses:source-tls-version"),
        [CODEC_SESSION_OUTGOING_IP] = JSON_AUTO_NAME("ses:outgoing-ip"),
        [CODEC_SESSION_OUTGOING_TLS_VERSION] = JSON_AUTO_NAME("ses:outgoing-tls-version"),
};

static __attribute__((noinline)) uint8_t *json_auto_tag_any(struct json_event *event, uint8_t *at,
                                                            const struct json_auto_name *name, struct slice text)
{
        at = json_bytes(&event->out, at, name->text, name->bytes);
        at = JSON_EVENT_REDACTED ? json_event_string(event, at, text)
                                 : json_string_any(&event->out, at, text, event->readable);
        return json_byte(&event->out, at, ']');
}

static inline uint8_t *json_auto_tag(struct json_event *event, uint8_t *at, const struct slice *session, unsigned key)
{
        struct slice text = session[key];
        const struct json_auto_name *name = &json_auto_names[key];
        if (text.len == 0 || (JSON_EVENT_REDACTED && (event->redaction->session_dropped >> key & 1) != 0))
                return at;
        if (JSON_EVENT_REDACTED)
                return json_auto_tag_any(event, at, name, text);
        if (__builtin_expect(json_room(&event->out, at) >= sizeof(*name) + text.len + 16, 1)) {
                memcpy(at, name, sizeof(*name));
                uint8_t *begin = at + name->bytes, *end = json_text_plain(begin + 1, text, event->readable);
                if (__builtin_expect(end != NULL, 1)) {
                        *begin = *end = '"';
                        end[1] = ']';
                        return end + 2;
                }
        }
        return json_auto_tag_any(event, at, name, text);
}

/* mail.tags: auto-tags and message tags in the order of SES's records. */
static uint8_t *json_mail_tags(struct json_event *event, uint8_t *at)
{
        const struct codec_view *view = event->view;
        const struct codec_type *type = &codec_types[view->type];
        struct slice session[CODEC_SESSION_KEYS] = {{NULL, 0}};
        if (JSON_EVENT_REDACTED && event->redaction->tags_dropped)
                return at;
        at = JSON_LITERAL(&event->out, at, ",\"tags\":");
        uint8_t *start = at;
        if (view->session.len > 0 && !type->short_tags) {
                const uint8_t *p = view->session.ptr;
                for (uint32_t count = codec_trusted_count(&p); count > 0; count--) {
                        uint8_t key = *p++;
                        session[key] = codec_trusted_text(&p);
                }
        }
        at = json_auto_tag(event, at, session, CODEC_SESSION_OPERATION);
        bool named = view->configuration_set.len > 0;
        struct slice set = named ? view->configuration_set : event->options->configuration_set;
        if (set.len > 0 && !(JSON_EVENT_REDACTED && event->redaction->set_dropped)) {
                at = JSON_LITERAL(&event->out, at, ",\"ses:configuration-set\":[");
                at = json_string(&event->out, at, set, named ? event->readable : set.ptr + set.len);
                at = json_byte(&event->out, at, ']');
        }
        if (!type->short_tags) {
                if (session[CODEC_SESSION_FROM_DOMAIN].len == 0)
                        session[CODEC_SESSION_FROM_DOMAIN] =
                                codec_from_domain(event->headers, event->common_headers, event->domain);
                at = json_auto_tag(event, at, session, CODEC_SESSION_SOURCE_IP);
                at = json_auto_tag(event, at, session, CODEC_SESSION_FROM_DOMAIN);
                at = json_auto_tag(event, at, session, CODEC_SESSION_CALLER_IDENTITY);
                at = json_auto_tag(event, at, session, CODEC_SESSION_SOURCE_TLS_VERSION);
                if (view->tags.len > 0) {
                        const uint8_t *p = view->tags.ptr;
                        event->message_tags = true;
                        at = json_tags(event, at, &p);
                        event->message_tags = false;
                }
                if (view->type == SENDRING_DELIVERY) {
                        at = json_auto_tag(event, at, session, CODEC_SESSION_OUTGOING_IP);
                        at = json_auto_tag(event, at, session, CODEC_SESSION_OUTGOING_TLS_VERSION);
                }
        }
        return json_close(&event->out, start, at, '{', '}');
}
