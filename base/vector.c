#include "base/vector.h"

#if defined(__x86_64__)
#include <immintrin.h>

static __attribute__((target("avx"))) void vector_zero_uppers(void)
{
        _mm256_zeroupper();
}
#endif

void vector_clear_uppers(void)
{
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx"))
                vector_zero_uppers();
#endif
}
