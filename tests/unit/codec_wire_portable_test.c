/* The tests of the wire format again, against the codecs built without SSE2. */
#include "tests/unit/codec_wire_test.c"
