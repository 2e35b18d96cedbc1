/* Text and blobs travel as a slice, by value: a pointer and a length, never NUL-terminated, never owning. The bytes
 * belong to whoever the function that handed it out says. An empty slice may have a NULL pointer. */
#ifndef SENDRING_BASE_SLICE_H
#define SENDRING_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
        const uint8_t *ptr;
        size_t len;
};

#define SLICE_EMPTY ((struct slice){NULL, 0})
/* A slice over a string literal, without its NUL. */
#define SLICE(literal) ((struct slice){(const uint8_t *)("" literal), sizeof(literal) - 1})
/* For printf("%.*s"): two arguments; lengths over INT_MAX are cut. */
#define SLICE_PRINTF(s) \
        (int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len), (const char *)((s).ptr ? (s).ptr : (const uint8_t *)"")

static inline struct slice slice_of(const void *ptr, size_t len)
{
        return (struct slice){(const uint8_t *)ptr, len};
}

static inline struct slice slice_of_text(const char *text)
{
        return text == NULL ? SLICE_EMPTY : slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
        return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII only: A-Z equal a-z, every other byte equals itself. */
bool slice_equal_ignore_case(struct slice a, struct slice b);

static inline bool slice_has_prefix(struct slice s, struct slice prefix)
{
        return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline bool slice_has_suffix(struct slice s, struct slice suffix)
{
        return s.len >= suffix.len &&
               (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}

/* The part from `from` on; past the end it is empty. */
static inline struct slice slice_from(struct slice s, size_t from)
{
        return from >= s.len ? SLICE_EMPTY : slice_of(s.ptr + from, s.len - from);
}

/* The first `len` bytes; a longer length is the whole. */
static inline struct slice slice_head(struct slice s, size_t len)
{
        return slice_of(s.ptr, len < s.len ? len : s.len);
}

/* Without leading and trailing spaces, tabs, CR and LF. */
struct slice slice_trim(struct slice s);

/* Index of the first `byte`, or s.len when there is none. */
static inline size_t slice_find_byte(struct slice s, uint8_t byte)
{
        const uint8_t *at = s.len == 0 ? NULL : (const uint8_t *)memchr(s.ptr, byte, s.len);
        return at == NULL ? s.len : (size_t)(at - s.ptr);
}

/* Index of the first `needle`, or s.len when there is none. An empty needle is found at 0. */
size_t slice_find(struct slice s, struct slice needle);

/* Cuts *rest at the first `separator`: returns what lay before it and leaves in *rest what lies behind it. Without a
 * separator it returns everything and leaves *rest empty with a NULL pointer, which tells the end from an empty part.
 */
struct slice slice_cut(struct slice *rest, uint8_t separator);

/* Decimal digits only, no sign, no spaces; false for an empty slice, another byte, or a value over `max`. */
bool slice_to_u64(struct slice s, uint64_t max, uint64_t *ret_value);

/* Copies into `out` with a NUL; false, with `out` empty, when it does not fit or holds a NUL. */
bool slice_to_text(struct slice s, char *out, size_t out_bytes);

#endif
