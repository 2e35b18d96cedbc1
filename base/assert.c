#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void assert_failed(const char *condition, const char *file, int line, const char *function)
{
        (void)fprintf(stderr, "level=error msg=\"assertion failed\" condition=\"%s\" at=%s:%d function=%s\n", condition,
                      file, line, function);
        abort();
}
