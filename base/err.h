/* Errors: one enum of codes, each in a class that tells its owner what to do, and one record that carries a text.
 *
 * Fallible functions return `enum err_code`; ERR_OK is 0. Cold functions also take `struct err *reterr` as their last
 * parameter (it may be NULL) and leave there a sentence for a person: what was attempted, on what, what came back, what
 * to do next. Each layer may extend it outward with err_wrap(). Nothing here allocates, locks or keeps thread-local
 * state. The caller acts on the class, never on one code out of many:
 *
 *   AGAIN    full, busy, would block        next turn, or the caller's drop policy
 *   RETRY    network, throttling, 5xx       back off with jitter; the event stays in the journal
 *   REFUSED  the peer says no for good      dead-letter with the peer's reason, count
 *   INPUT    malformed bytes from outside   reject that record only, count
 *   CONFIG   the operator must act          refuse to start, or keep the old configuration
 *   SYSTEM   disk, memory, kernel           degrade as documented, log once
 *   CORRUPT  our own bytes fail their check quarantine, keep going, log
 *   BUG      an invariant of ours is broken the handle is disabled (only libsendring returns it; the daemon asserts)
 */
#ifndef SENDRING_BASE_ERR_H
#define SENDRING_BASE_ERR_H

#include <stddef.h>

enum err_class {
        ERR_CLASS_NONE = 0,
        ERR_CLASS_AGAIN = 1,
        ERR_CLASS_RETRY = 2,
        ERR_CLASS_REFUSED = 3,
        ERR_CLASS_INPUT = 4,
        ERR_CLASS_CONFIG = 5,
        ERR_CLASS_SYSTEM = 6,
        ERR_CLASS_CORRUPT = 7,
        ERR_CLASS_BUG = 8,
};

#define ERR_CODE(class_, number) (((class_) << 8) | (number))

/* Name, class, number within the class, text. The table is the only place where a code is added. */
#define ERR_TABLE(X)                                                                                \
        X(ERR_FULL, ERR_CLASS_AGAIN, 1, "no room now")                                              \
        X(ERR_BUSY, ERR_CLASS_AGAIN, 2, "busy")                                                     \
        X(ERR_EMPTY, ERR_CLASS_AGAIN, 3, "nothing to take")                                         \
        X(ERR_INCOMPLETE, ERR_CLASS_AGAIN, 4, "more bytes are needed")                              \
        X(ERR_TIMEOUT, ERR_CLASS_RETRY, 1, "timed out")                                             \
        X(ERR_CONNECT, ERR_CLASS_RETRY, 2, "cannot connect")                                        \
        X(ERR_RESET, ERR_CLASS_RETRY, 3, "connection lost")                                         \
        X(ERR_RESOLVE, ERR_CLASS_RETRY, 4, "cannot resolve host name")                              \
        X(ERR_TLS, ERR_CLASS_RETRY, 5, "TLS failed")                                                \
        X(ERR_THROTTLED, ERR_CLASS_RETRY, 6, "throttled by the peer")                               \
        X(ERR_UNAVAILABLE, ERR_CLASS_RETRY, 7, "peer temporarily unavailable")                      \
        X(ERR_CLOCK_SKEW, ERR_CLASS_RETRY, 8, "clock differs from the peer's")                      \
        X(ERR_CREDENTIALS_EXPIRED, ERR_CLASS_RETRY, 9, "credentials refused as expired")            \
        X(ERR_PROTOCOL, ERR_CLASS_RETRY, 10, "peer broke the protocol")                             \
        X(ERR_DETACHED, ERR_CLASS_RETRY, 11, "the router has gone")                                 \
        X(ERR_CREDENTIALS_UNKNOWN, ERR_CLASS_RETRY, 12, "credentials refused, unknown to the peer") \
        X(ERR_REFUSED, ERR_CLASS_REFUSED, 1, "refused by the peer")                                 \
        X(ERR_ACCESS_DENIED, ERR_CLASS_REFUSED, 2, "access denied")                                 \
        X(ERR_NOT_FOUND, ERR_CLASS_REFUSED, 3, "not found")                                         \
        X(ERR_TOO_BIG, ERR_CLASS_INPUT, 1, "too big")                                               \
        X(ERR_SYNTAX, ERR_CLASS_INPUT, 2, "malformed")                                              \
        X(ERR_TYPE, ERR_CLASS_INPUT, 3, "wrong type")                                               \
        X(ERR_RANGE, ERR_CLASS_INPUT, 4, "out of range")                                            \
        X(ERR_UTF8, ERR_CLASS_INPUT, 5, "not valid UTF-8")                                          \
        X(ERR_MISSING, ERR_CLASS_INPUT, 6, "required field is missing")                             \
        X(ERR_DUPLICATE, ERR_CLASS_INPUT, 7, "given twice")                                         \
        X(ERR_NAME, ERR_CLASS_INPUT, 8, "name not allowed")                                         \
        X(ERR_VERSION, ERR_CLASS_INPUT, 9, "unknown version")                                       \
        X(ERR_CONFIG, ERR_CLASS_CONFIG, 1, "configuration refused")                                 \
        X(ERR_CREDENTIALS, ERR_CLASS_CONFIG, 2, "no usable credentials")                            \
        X(ERR_PERMISSION, ERR_CLASS_CONFIG, 3, "permission denied")                                 \
        X(ERR_LOCKED, ERR_CLASS_CONFIG, 4, "in use by another process")                             \
        X(ERR_SYSTEM, ERR_CLASS_SYSTEM, 1, "system call failed")                                    \
        X(ERR_MEMORY, ERR_CLASS_SYSTEM, 2, "out of memory")                                         \
        X(ERR_DISK_FULL, ERR_CLASS_SYSTEM, 3, "no space left on the device")                        \
        X(ERR_LIMIT, ERR_CLASS_SYSTEM, 4, "a limit was reached")                                    \
        X(ERR_CORRUPT, ERR_CLASS_CORRUPT, 1, "checksum or structure is wrong")                      \
        X(ERR_BUG, ERR_CLASS_BUG, 1, "internal invariant broken")

enum err_code {
        ERR_OK = 0,
#define ERR_ENUM(name, class_, number, text) name = ERR_CODE(class_, number),
        ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

#define ERR_TEXT_BYTES_MAX 512

/* What went wrong, for a person. `text` is always terminated; it is cut, never overrun. */
struct err {
        enum err_code code;
        int sys_errno; /* errno of the failed call, or 0 */
        char text[ERR_TEXT_BYTES_MAX];
};

static inline enum err_class err_class(enum err_code code)
{
        return (enum err_class)((unsigned)code >> 8);
}

/* Stores code and text in *reterr (when it is not NULL) and returns `code`, so that `return err_set(...)` reads well.
 */
enum err_code err_set(struct err *reterr, enum err_code code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* The same, with ": strerror(sys_errno)" appended. ENOSPC/EDQUOT/EFBIG turn ERR_SYSTEM into ERR_DISK_FULL, ENOMEM into
 * ERR_MEMORY, EACCES/EPERM into ERR_PERMISSION; any other code is kept. */
enum err_code err_set_errno(struct err *reterr, enum err_code code, int sys_errno, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " before the text that is there; returns the code that is there. */
enum err_code err_wrap(struct err *reterr, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__
/* The analyzer does not look into err.c: here it learns what comes back. */
static inline enum err_code err_failed(enum err_code code)
{
        if (code == ERR_OK)
                __builtin_unreachable();
        return code;
}
#define err_set(reterr, code, ...)       ((void)(err_set)(reterr, code, __VA_ARGS__), (code))
#define err_set_errno(reterr, code, ...) err_failed((err_set_errno)(reterr, code, __VA_ARGS__))
#define err_wrap(reterr, ...)            err_failed((err_wrap)(reterr, __VA_ARGS__))
#endif

/* The code's name ("ERR_FULL") and its fixed text ("no room now"). Never NULL; unknown codes say so. */
const char *err_name(enum err_code code);
const char *err_text(enum err_code code);
const char *err_class_name(enum err_class class_);

#endif
