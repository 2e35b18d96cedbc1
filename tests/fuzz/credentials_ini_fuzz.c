/* Credentials and config files: whatever a person typed. */
#include "base/assert.h"
#include "egress/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct slice text = slice_of(data, size);
        uint32_t lines = 1;
        for (size_t i = 0; i < size; i++)
                lines += data[i] == '\n';
        for (int i = 0; i < 4; i++) {
                struct credentials_profile profile = {.line = 0};
                struct err err = {0};
                enum err_code code = credentials_profile_read(text, "file", i % 2 == 1,
                                                              i < 2 ? SLICE("default") : SLICE("mail"), &profile, &err);
                if (code != ERR_OK) {
                        ASSERT(code == ERR_SYNTAX || code == ERR_DUPLICATE);
                        ASSERT(strncmp(err.text, "file:", 5) == 0);
                        continue;
                }
                ASSERT(profile.line <= lines);
                for (size_t key = 0; key < CREDENTIALS_KEYS_COUNT; key++) {
                        struct slice value = profile.keys[key].value;
                        ASSERT(profile.keys[key].line <= lines);
                        ASSERT(profile.keys[key].line == 0 || profile.keys[key].line > profile.line);
                        if (value.len == 0)
                                continue;
                        ASSERT(profile.keys[key].line != 0);
                        ASSERT(value.ptr >= data);
                        ASSERT(value.ptr + value.len <= data + size);
                        ASSERT(slice_equal(slice_trim(value), value));
                        ASSERT(slice_find_byte(value, '\n') == value.len);
                }
        }
        return 0;
}
