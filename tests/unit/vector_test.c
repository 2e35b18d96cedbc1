#include "base/vector.h"

#include "journal/journal_internal.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(vector, .timeout = 10);

#if defined(__x86_64__)
#include <immintrin.h>

/* What is built here are SSE instructions: nothing between these two touches an upper half by chance. */
static void use_an_upper_half(void)
{
        __asm__ volatile("vcmptrueps %%ymm15, %%ymm15, %%ymm15" ::: "xmm15");
}

static bool an_upper_half_is_in_use(void)
{
        uint64_t upper[2];
        __asm__ volatile("vextractf128 $1, %%ymm15, %0" : "=m"(upper));
        return (upper[0] | upper[1]) != 0;
}

static void skip_without_avx(void)
{
        if (!__builtin_cpu_supports("avx"))
                cr_skip_test("this machine has no AVX");
}

Test(vector, upper_halves_are_cleared)
{
        skip_without_avx();
        use_an_upper_half();
        cr_assert(an_upper_half_is_in_use());
        use_an_upper_half();
        vector_clear_uppers();
        cr_assert_not(an_upper_half_is_in_use());
}

/* A checksum per record: the shard's thread would go on with slow SSE instructions. */
Test(vector, a_checksum_of_the_journal_leaves_no_upper_half_in_use)
{
        uint8_t bytes[1024];
        skip_without_avx();
        memset(bytes, 0xa5, sizeof(bytes));
        use_an_upper_half();
        (void)crc32c(1, bytes, sizeof(bytes));
        cr_assert_not(an_upper_half_is_in_use());
}
#else
Test(vector, is_nothing_elsewhere)
{
        vector_clear_uppers();
}
#endif
