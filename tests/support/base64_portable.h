/* codecs/base64.c as a machine without AVX2 gets it, under other names, to be compared with what this machine runs. */
#ifndef SENDRING_TESTS_BASE64_PORTABLE_H
#define SENDRING_TESTS_BASE64_PORTABLE_H

#include "codecs/codec.h"

#define CODEC_PORTABLE
#define codec_base64_append portable_base64_append
#define codec_base64_finish portable_base64_finish
#define codec_base64_decode portable_base64_decode
size_t portable_base64_append(struct codec_base64 *state, struct slice bytes, uint8_t *out);
size_t portable_base64_finish(struct codec_base64 *state, uint8_t *out);
size_t portable_base64_decode(struct slice text, uint8_t *out, size_t out_bytes);
#include "codecs/base64.c"
#undef codec_base64_append
#undef codec_base64_finish
#undef codec_base64_decode
#undef CODEC_PORTABLE

#endif
