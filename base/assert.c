#include "base/assert.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void assert_failed(const char *condition, const char *file, int line, const char *function)
{
        char text[1024];
        (void)snprintf(text, sizeof(text),
                       "level=error msg=\"assertion failed\" condition=\"%.600s\" at=%s:%d function=%s\n", condition,
                       file, line, function); /* cut, if need be */
        log_text(text);
        (void)log_flush(LOG_FLUSH_NS); /* who does not read stderr learns it from our end */
        abort();
}
