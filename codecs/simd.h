/* Which vector instructions the codecs use: asked of the processor once, at run time. Every path beside the scalar one
 * writes and accepts the same bytes; tests/fuzz/codec_simd_fuzz.c holds them to it, level by level. Inside
 * codecs/ only. */
#ifndef SENDRING_CODECS_SIMD_H
#define SENDRING_CODECS_SIMD_H

#include <stdatomic.h>

#if defined(__x86_64__) && !defined(CODEC_PORTABLE)
#include <immintrin.h>
#define CODEC_SIMD_X86 1
#else
#define CODEC_SIMD_X86 0
#endif

enum codec_simd {
        CODEC_SIMD_UNKNOWN = 0,
        CODEC_SIMD_NONE = 1,   /* what every machine of the architecture has */
        CODEC_SIMD_AVX2 = 2,   /* and BMI2: from Haswell and Excavator on */
        CODEC_SIMD_AVX512 = 3, /* F, BW, VL, VBMI: from Ice Lake and Zen 4 on */
};

extern _Atomic int codec_simd_chosen;
enum codec_simd codec_simd_choose(void);

/* Any thread. Relaxed: whoever asks first writes what anybody else would. */
static inline enum codec_simd codec_simd(void)
{
        int level = atomic_load_explicit(&codec_simd_chosen, memory_order_relaxed);
        return __builtin_expect(level != CODEC_SIMD_UNKNOWN, 1) ? (enum codec_simd)level : codec_simd_choose();
}

/* For tests: at most this level from now on. Returns the one in use, which may be lower. */
enum codec_simd codec_simd_limit(enum codec_simd level);

#define CODEC_TARGET_AVX2   __attribute__((target("avx2")))
#define CODEC_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi")))

#endif
