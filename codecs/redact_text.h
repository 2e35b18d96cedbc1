/* Finding addresses in texts and writing what stands for them; the encoder with redaction is its only user. */
#ifndef SENDRING_CODECS_REDACT_TEXT_H
#define SENDRING_CODECS_REDACT_TEXT_H

#include "codecs/json_text.h"
#include "codecs/redact.h"

/* The inside of a JSON string. *tokens_left counts down. `readable` as for json_text(). */
uint8_t *redact_text(const struct codec_redaction *redaction, struct json_out *out, uint8_t *at, struct slice text,
                     enum codec_redact_kind kind, uint32_t *tokens_left, const uint8_t *readable);
/* Whether redact_text() would replace something in it: names of members with addresses are not published. */
bool redact_has_address(struct slice text);
/* Bytes of an '@' that is spelled otherwise: "%40", "%2540" and so on in links, U+FF20, U+FE6B. 0: there is none. */
size_t redact_spelled_sign(const uint8_t *at, const uint8_t *end);
/* codec_json_encode() for options with a policy. */
size_t json_encode_redacted(const struct codec_view *view, const struct codec_json_options *options, uint8_t *out,
                            size_t out_bytes);
bool redact_names_have(const struct codec_redaction_names *names, struct slice name);

#endif
