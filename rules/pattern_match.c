/* Matching an event against a compiled pattern. */
#include "rules/pattern.h"

#include "base/assert.h"

/* ---------------------------------------------------------------------------------------------- one value */

static bool match_folded_char(struct slice folded, size_t *at, struct slice text, bool from_end, size_t *used)
{
        /* A character is two spellings, each behind its length; the second is empty when they are the same. */
        size_t first = folded.ptr[*at];
        const uint8_t *spelling = folded.ptr + *at + 1;
        size_t second = spelling[first];
        size_t left = text.len - *used;
        *at += 2 + first + second;
        const uint8_t *place = from_end ? text.ptr + left : text.ptr + *used; /* ends, or begins, there */
        if (first <= left && memcmp(from_end ? place - first : place, spelling, first) == 0) {
                *used += first;
                return true;
        }
        spelling += first + 1;
        if (second > 0 && second <= left && memcmp(from_end ? place - second : place, spelling, second) == 0) {
                *used += second;
                return true;
        }
        return false;
}

/* How much of `text` a folded text takes, from its beginning or its end; SIZE_MAX: it does not fit. */
static size_t match_folded(struct slice folded, struct slice text, bool from_end)
{
        size_t used = 0;
        for (size_t at = 0; at < folded.len;)
                if (!match_folded_char(folded, &at, text, from_end, &used))
                        return SIZE_MAX;
        return used;
}

/* Each piece is taken where it comes first: no later place can be better. */
static bool match_wildcard(const struct slice *pieces, uint32_t count, struct slice text)
{
        if (count == 1)
                return slice_equal(pieces[0], text);
        struct slice first = pieces[0], last = pieces[count - 1];
        if (text.len < first.len + last.len || !slice_has_prefix(text, first) || !slice_has_suffix(text, last))
                return false;
        struct slice rest = slice_of(text.ptr + first.len, text.len - first.len - last.len);
        for (uint32_t i = 1; i + 1 < count; i++) {
                size_t at = slice_find(rest, pieces[i]);
                if (at == rest.len && pieces[i].len > 0)
                        return false;
                rest = slice_of(rest.ptr + at + pieces[i].len, rest.len - at - pieces[i].len);
        }
        return true;
}

static bool match_address(const struct pattern_test *test, struct slice text)
{
        uint8_t address[16];
        if (rules_address_parse(text, address) != test->address_bytes)
                return false;
        uint32_t bytes = test->address_bits / 8u, bits = test->address_bits % 8u;
        if (memcmp(address, test->address, bytes) != 0)
                return false;
        return bits == 0 || ((address[bytes] ^ test->address[bytes]) >> (8 - bits)) == 0;
}

struct match_number {
        bool is_number, is_comparable;
        double number;
};

static struct match_number match_number_of(const struct codec_value *value)
{
        if (value->kind == CODEC_VALUE_UINT)
                return (struct match_number){true, rules_integer_is_comparable(value->uint), (double)value->uint};
        if (value->kind == CODEC_VALUE_NEGATIVE)
                return (struct match_number){true, rules_integer_is_comparable(UINT64_C(0) - (uint64_t)value->negative),
                                             (double)value->negative};
        if (value->kind == CODEC_VALUE_FLOAT)
                return (struct match_number){true, true, value->number};
        return (struct match_number){false, false, 0};
}

/* Whole numbers beyond what a double tells apart: by their digits. */
static bool match_digits(const struct codec_value *value, struct slice digits)
{
        uint8_t text[21] = {'-'};
        if (value->kind == CODEC_VALUE_UINT)
                return slice_equal(digits, slice_of(text, codec_u64_write(value->uint, text)));
        if (value->kind != CODEC_VALUE_NEGATIVE)
                return false;
        return slice_equal(digits,
                           slice_of(text, 1 + codec_u64_write(UINT64_C(0) - (uint64_t)value->negative, text + 1)));
}

static bool match_numeric(const struct pattern_test *test, const struct codec_value *value)
{
        struct match_number number = match_number_of(value);
        if (!number.is_number)
                return false;
        if (test->op == PATTERN_NUMBER && !(number.is_comparable && test->is_comparable))
                return match_digits(value, test->text);
        if (test->op == PATTERN_NUMBER)
                return number.number == test->number;
        return number.is_comparable && (test->low_is_open ? number.number > test->low : number.number >= test->low) &&
               (test->high_is_open ? number.number < test->high : number.number <= test->high);
}

static bool match_values(const struct pattern_values *values, const struct codec_value *value);

static bool match_test(const struct pattern_test *test, const struct codec_value *value)
{
        bool is_text = value->kind == CODEC_VALUE_TEXT;
        switch ((enum pattern_op)test->op) {
        case PATTERN_EXISTS:
                return true;
        case PATTERN_TRUE:
                return value->kind == CODEC_VALUE_TRUE;
        case PATTERN_FALSE:
                return value->kind == CODEC_VALUE_FALSE;
        case PATTERN_NULL:
                return value->kind == CODEC_VALUE_NULL;
        case PATTERN_NUMBER:
        case PATTERN_RANGE:
                return match_numeric(test, value);
        case PATTERN_PREFIX:
                return is_text && slice_has_prefix(value->text, test->text);
        case PATTERN_SUFFIX:
                return is_text && slice_has_suffix(value->text, test->text);
        case PATTERN_FOLDED:
                return is_text && match_folded(test->text, value->text, false) == value->text.len;
        case PATTERN_FOLDED_PREFIX:
                return is_text && match_folded(test->text, value->text, false) != SIZE_MAX;
        case PATTERN_FOLDED_SUFFIX:
                return is_text && match_folded(test->text, value->text, true) != SIZE_MAX;
        case PATTERN_WILDCARD:
                return is_text && match_wildcard(test->pieces, test->pieces_count, value->text);
        case PATTERN_ADDRESS:
                return is_text && match_address(test, value->text);
        case PATTERN_NOT:
                return !match_values(test->values, value);
        }
        return false;
}

/* By length, then by bytes: the order of `texts`. */
static bool match_texts(const struct slice *texts, uint32_t count, struct slice text)
{
        while (count > 0) {
                uint32_t middle = count / 2;
                struct slice at = texts[middle];
                int order = at.len != text.len ? (at.len < text.len ? -1 : 1) : 0;
                if (order == 0)
                        order = text.len == 0 ? 0 : memcmp(at.ptr, text.ptr, text.len);
                if (order == 0)
                        return true;
                if (order < 0) {
                        texts += middle + 1;
                        count -= middle + 1;
                } else {
                        count = middle;
                }
        }
        return false;
}

static bool match_values(const struct pattern_values *values, const struct codec_value *value)
{
        if (value->kind == CODEC_VALUE_TEXT && match_texts(values->texts, values->texts_count, value->text))
                return true;
        for (uint32_t i = 0; i < values->tests_count; i++)
                if (match_test(&values->tests[i], value))
                        return true;
        return false;
}

/* ---------------------------------------------------------------------------------------------- paths */

/* A key on its own: any value of the event will do. */
struct match_alone {
        const struct pattern_key *key;
        bool seen;
};

static bool match_alone_visit(void *context, const struct codec_value *value)
{
        struct match_alone *alone = context;
        alone->seen = true;
        return match_values(&alone->key->values, value);
}

static bool match_alone(const struct pattern_key *key, struct codec_field_reader *reader)
{
        struct match_alone alone = {.key = key};
        if (codec_field_each(reader, &key->field, match_alone_visit, &alone))
                return true;
        return key->or_absent && !alone.seen;
}

/* Keys that may have to be found in the same element: each value that fits one is tried with the next ones. */
struct match_run {
        struct codec_field_reader *reader;
        const struct pattern_key **keys;
        uint32_t count; /* of this key and those behind it */
};

static bool match_run(const struct match_run *run);

static bool match_any_visit(void *context, const struct codec_value *value)
{
        (void)context;
        (void)value;
        return true;
}

static bool match_run_visit(void *context, const struct codec_value *value)
{
        const struct match_run *run = context;
        if (!match_values(&run->keys[0]->values, value))
                return false;
        struct match_run rest = {.reader = run->reader, .keys = run->keys + 1, .count = run->count - 1};
        return match_run(&rest);
}

static bool match_run(const struct match_run *run)
{
        if (run->count == 0)
                return true;
        const struct pattern_key *key = run->keys[0];
        if (key->or_absent && !codec_field_each(run->reader, &key->field, match_any_visit, NULL)) {
                struct match_run rest = {.reader = run->reader, .keys = run->keys + 1, .count = run->count - 1};
                return match_run(&rest); /* there is no value to try */
        }
        return codec_field_each(run->reader, &key->field, match_run_visit, (void *)(uintptr_t)run);
}

static uint32_t match_run_length(const struct pattern_alternative *alternative, uint32_t from)
{
        uint32_t end = from + 1;
        while (end < alternative->keys_count &&
               slice_equal(alternative->keys[end]->list_path, alternative->keys[from]->list_path))
                end++;
        return end - from;
}

/* ---------------------------------------------------------------------------------------------- patterns */

/* What is known about keys on their own: alternatives share them. */
struct match_known {
        uint64_t asked, good;
};

/* keys_count when all are met; else the number of the first that is not, of a run the first of it. */
static uint32_t match_alternative(const struct pattern_alternative *alternative, struct codec_field_reader *reader,
                                  struct match_known *known)
{
        for (uint32_t i = 0; i < alternative->alone_count; i++) {
                const struct pattern_key *key = alternative->keys[i];
                uint64_t bit = UINT64_C(1) << key->index;
                if ((known->asked & bit) == 0) {
                        known->asked |= bit;
                        if (match_alone(key, reader))
                                known->good |= bit;
                }
                if ((known->good & bit) == 0)
                        return i;
        }
        for (uint32_t i = alternative->alone_count; i < alternative->keys_count;) {
                struct match_run run = {
                        .reader = reader, .keys = alternative->keys + i, .count = match_run_length(alternative, i)};
                if (!match_run(&run))
                        return i;
                i += run.count;
        }
        return alternative->keys_count;
}

bool rules_pattern_match(const struct rules_pattern *pattern, struct codec_field_reader *reader)
{
        struct match_known known = {0, 0};
        codec_field_reader_renew(reader);
        for (uint32_t i = 0; i < pattern->alternatives_count && !reader->exhausted; i++) {
                const struct pattern_alternative *alternative = &pattern->alternatives[i];
                if (match_alternative(alternative, reader, &known) == alternative->keys_count)
                        return !reader->exhausted;
        }
        return false;
}

/* Of a run that is not met: the last key that the keys before it leave without an element. */
static const struct pattern_key *match_failed_key(const struct pattern_alternative *alternative, uint32_t from,
                                                  struct codec_field_reader *reader)
{
        if (from < alternative->alone_count)
                return alternative->keys[from];
        struct match_run run = {.reader = reader, .keys = alternative->keys + from, .count = 1};
        uint32_t length = match_run_length(alternative, from);
        while (run.count < length && match_run(&run))
                run.count++;
        return alternative->keys[from + run.count - 1];
}

struct slice rules_pattern_failed(const struct rules_pattern *pattern, struct codec_field_reader *reader)
{
        struct match_known known = {0, 0};
        struct slice failed = SLICE_EMPTY;
        uint32_t furthest = 0;
        codec_field_reader_renew(reader);
        for (uint32_t i = 0; i < pattern->alternatives_count; i++) {
                const struct pattern_alternative *alternative = &pattern->alternatives[i];
                uint32_t met = match_alternative(alternative, reader, &known);
                if (met == alternative->keys_count)
                        return SLICE_EMPTY;
                if (failed.ptr != NULL && met <= furthest)
                        continue;
                furthest = met;
                failed = match_failed_key(alternative, met, reader)->field.path;
        }
        return failed;
}
