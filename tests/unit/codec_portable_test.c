/* The tests of texts and JSON again, against the codecs built without SSE2 and AVX2. */
#include "tests/unit/codec_json_event_test.c"
#include "tests/unit/codec_text_test.c"
