#include "codecs/simd.h"

_Atomic int codec_simd_chosen;

static enum codec_simd simd_detect(void)
{
#if CODEC_SIMD_X86
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi"))
                return CODEC_SIMD_AVX512;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
                return CODEC_SIMD_AVX2;
#endif
        return CODEC_SIMD_NONE;
}

enum codec_simd codec_simd_choose(void)
{
        return codec_simd_limit(CODEC_SIMD_AVX512);
}

enum codec_simd codec_simd_limit(enum codec_simd level)
{
        enum codec_simd best = simd_detect();
        level = level < best ? level : best;
        atomic_store_explicit(&codec_simd_chosen, (int)level, memory_order_relaxed); /* one word says it all */
        return level;
}
