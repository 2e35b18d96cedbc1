/* Any bytes as the keys beside a copy of the sets: refused, or keys that are the same when they are written again. */
#include "base/assert.h"
#include "rules/rules.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint8_t *text = NULL;
        size_t bytes = 0;
        struct rules_keys *keys = rules_keys_create(false), *again = rules_keys_create(false);
        ASSERT(keys != NULL && again != NULL);
        const bool good = rules_keys_scan(slice_of(data, size), keys) == ERR_OK;
        ASSERT(rules_keys_print(keys, &text, &bytes));
        ASSERT(good || text == NULL);
        if (text != NULL) {
                ASSERT(bytes == size);
                ASSERT(rules_keys_scan(slice_of(text, bytes), again) == ERR_OK);
                ASSERT(rules_keys_are_same(keys, again));
        }
        free(text);
        rules_keys_free(keys);
        rules_keys_free(again);
        return 0;
}
