/* The Postfix feed's state: saved, loaded, and gone on with. */
#include "base/arena.h"
#include "base/file.h"
#include "tests/support/postfix_log.h"

#include <stdio.h>

static void restart_behind_any_line(const char *path)
{
        struct arena arena;
        struct slice log;
        arena_init(&arena, 0, 0);
        cr_assert_eq(file_read(&arena, path, 1 << 20, &log, NULL), ERR_OK);
        struct seen whole;
        struct postfix *postfix = open_feed(&whole, (struct postfix_options){.profile = CLASSIFY_SES});
        uint32_t lines = 0;
        for (struct slice rest = log; rest.len > 0; lines++)
                cr_assert_eq(postfix_line(postfix, slice_cut(&rest, '\n'), NOW), ERR_OK);
        postfix_free(postfix);
        cr_assert_geq(whole.count, 6);
        for (uint32_t cut = 0; cut <= lines; cut++) {
                struct seen seen;
                uint32_t line = 0;
                postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                for (struct slice rest = log; rest.len > 0; line++) {
                        if (line == cut) {
                                struct slice state, place;
                                struct postfix_options options = {
                                        .context = &seen, .event = seen_event, .unparsed = seen_unparsed};
                                cr_assert_eq(postfix_state_save(postfix, SLICE("line 3"), &state), ERR_OK);
                                postfix_free(postfix);
                                postfix = postfix_create(&options);
                                cr_assert_eq(postfix_state_load(postfix, guard_page_copy(state), &place, NULL), ERR_OK);
                                free((void *)(uintptr_t)state.ptr);
                        }
                        cr_assert_eq(postfix_line(postfix, slice_cut(&rest, '\n'), NOW), ERR_OK);
                }
                cr_assert_eq(seen.count, whole.count, "cut behind line %u", cut);
                for (uint32_t i = 0; i < seen.count; i++)
                        cr_assert_str_eq(seen.json[i], whole.json[i], "cut behind line %u", cut);
                close_feed(postfix, &seen);
        }
        forget(&whole);
        arena_release(&arena);
}

Test(feed_postfix_state, a_restart_behind_any_line_changes_nothing, .timeout = 120)
{
        restart_behind_any_line(TEST_DATA_DIRECTORY "/fuzz/postfix_log/life.log");
        restart_behind_any_line(TEST_DATA_DIRECTORY "/fuzz/postfix_log/again.log");
}

Test(feed_postfix_state, a_damaged_state_is_refused_whole, .timeout = 60)
{
        struct seen seen;
        struct slice state, place = SLICE("as it was");
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        say(postfix, BEGIN_TAGGED ACTIVE("2") TRIED("ana@b.example", MX, "4.2.2", "deferred", FULL));
        cr_assert_eq(postfix_state_save(postfix, SLICE("line 3"), &state), ERR_OK);
        close_feed(postfix, &seen);
        postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        struct err err;
        uint8_t *bytes = malloc(state.len);
        for (size_t i = 0; i < state.len; i++) {
                memcpy(bytes, state.ptr, state.len);
                bytes[i] ^= 0x10;
                cr_assert_eq(postfix_state_load(postfix, slice_of(bytes, state.len), &place, &err), ERR_SYNTAX);
                cr_assert_eq(postfix_state_load(postfix, slice_head(state, i), &place, &err), ERR_SYNTAX);
                cr_assert_eq(postfix_messages(postfix), 0);
                cr_assert(slice_equal(place, SLICE("as it was")));
        }
        cr_assert_eq(postfix_state_load(postfix, state, &place, &err), ERR_OK);
        cr_assert_eq(postfix_messages(postfix), 1);
        cr_assert(slice_equal(place, SLICE("line 3")));
        free(bytes);
        free((void *)(uintptr_t)state.ptr);
        close_feed(postfix, &seen);
}

/* A message's texts are bounded together. What just fitted must also fit when it comes in the order of the file. */
Test(feed_postfix_state, a_full_message_can_be_loaded_again, .timeout = 60)
{
        for (unsigned len = 150; len < 180; len++) {
                struct seen seen;
                struct slice first, second, place;
                struct err err = {.text = ""};
                struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                say(postfix, LINE("smtpd", QID ": client=a[192.0.2.9]") CLEANUP("info: header From: a@b.c")
                                     LINE("cleanup", QID ": message-id=<a@b>") ACTIVE("1100"));
                seen.skip = true;
                for (unsigned i = 0; i < 1024; i++) {
                        char address[256], line[1024];
                        (void)snprintf(address, sizeof(address), "u%04u%0*d@b.example", i, (int)len, 0);
                        (void)snprintf(line, sizeof(line), TRIED("%s", "none", "4.4.1", "deferred", REFUSED), address);
                        cr_assert_eq(postfix_line(postfix, slice_head(slice_of_text(line), strlen(line) - 1), NOW),
                                     ERR_OK);
                }
                cr_assert_eq(postfix_state_save(postfix, SLICE_EMPTY, &first), ERR_OK);
                close_feed(postfix, &seen);
                postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
                cr_assert_eq(postfix_state_load(postfix, first, &place, &err), ERR_OK, "%u: %s", len, err.text);
                cr_assert_eq(postfix_state_save(postfix, place, &second), ERR_OK);
                cr_assert(slice_equal(first, second));
                seen.skip = true;
                say(postfix, EXPIRED REMOVED); /* and bounces, each */
                cr_assert_gt(postfix_get_counts(postfix)->events[SENDRING_BOUNCE], 500);
                free((void *)(uintptr_t)first.ptr);
                free((void *)(uintptr_t)second.ptr);
                close_feed(postfix, &seen);
        }
}

/* tests/data/postfix/state-1 was saved before there were places and times of last lines. */
Test(feed_postfix_state, one_of_the_first_version_is_read, .timeout = 20)
{
        struct arena arena;
        struct slice bytes, place = SLICE("as it was");
        struct seen seen;
        struct err err = {.text = ""};
        arena_init(&arena, 0, 0);
        cr_assert_eq(file_read(&arena, TEST_DATA_DIRECTORY "/postfix/state-1", 1 << 20, &bytes, NULL), ERR_OK);
        struct postfix *postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        cr_assert_eq(postfix_state_load(postfix, guard_page_copy(bytes), &place, &err), ERR_OK, "%s", err.text);
        cr_assert_eq(place.len, 0);
        say(postfix, TRIED("ana@b.example", MX, "2.0.0", "sent", SENT) REMOVED);
        cr_assert_eq(seen.count, 2);
        has(&seen, 0, SENDRING_SEND, "\"destination\":[\"eva@c.example\",\"ana@b.example\"]");
        has(&seen, 1, SENDRING_DELIVERY, "\"campaign\":[\"book\"]");
        close_feed(postfix, &seen);
        uint8_t *later = malloc(bytes.len);
        memcpy(later, bytes.ptr, bytes.len);
        later[7] = '4';
        postfix = open_feed(&seen, (struct postfix_options){.profile = CLASSIFY_SES});
        cr_assert_eq(postfix_state_load(postfix, slice_of(later, bytes.len), &place, &err), ERR_SYNTAX);
        cr_assert_not_null(strstr(err.text, "another version of sendring feed (4; 3 is known)"), "%s", err.text);
        free(later);
        close_feed(postfix, &seen);
        arena_release(&arena);
}
