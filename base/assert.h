/* ASSERT() is on in every build of the daemon and its tools: a broken invariant stops the process, the keeper starts a
 * new router, and the journal and the lanes keep every accepted event. ASSERT_SLOW() only with -DSENDRING_ASSERT_SLOW
 * (debug, fuzz and sanitizer builds). One condition each. Input from outside is checked, never asserted, and
 * libsendring uses neither: it returns SENDRING_E_BUG. */
#ifndef SENDRING_BASE_ASSERT_H
#define SENDRING_BASE_ASSERT_H

_Noreturn void assert_failed(const char *condition, const char *file, int line, const char *function);

#define ASSERT(condition)                                                        \
        do {                                                                     \
                if (__builtin_expect(!(condition), 0))                           \
                        assert_failed(#condition, __FILE__, __LINE__, __func__); \
        } while (0)

#ifdef SENDRING_ASSERT_SLOW
#define ASSERT_SLOW(condition) ASSERT(condition)
#else
#define ASSERT_SLOW(condition)           \
        do {                             \
                (void)sizeof(condition); \
        } while (0)
#endif

/* A fact that clang's analyzer cannot see (scripts/tidy); nothing in any build. */
#ifdef __clang_analyzer__
#define ASSERT_KNOWN(condition)                  \
        do {                                     \
                if (!(condition))                \
                        __builtin_unreachable(); \
        } while (0)
#else
#define ASSERT_KNOWN(condition)          \
        do {                             \
                (void)sizeof(condition); \
        } while (0)
#endif

#endif
