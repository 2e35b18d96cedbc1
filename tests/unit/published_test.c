/* One journal record, several destinations: each gets the record that it asked for. */
#include "base/file.h"
#include "codecs/redact.h"
#include "tests/support/egress_rig.h"

#include <criterion/criterion.h>

enum { EVENTS = 300 };

static struct egress_rig rig;

static uint32_t add(const char *name, bool event_id, const struct codec_redaction *redaction)
{
        struct egress_rig_target *target = &rig.targets[rig.targets_count];
        struct rules_target spec = {.service = RULES_SERVICE_FILE, .event_id = event_id, .redaction = redaction};
        (void)snprintf(target->resource, sizeof(target->resource), "%s/%s", rig.directory, name);
        (void)snprintf(target->key, sizeof(target->key), "file %s", name);
        return egress_rig_add(&rig, &spec, 0);
}

static struct slice file_of(struct arena *arena, const char *name)
{
        char path[512];
        struct slice text = SLICE_EMPTY;
        (void)snprintf(path, sizeof(path), "%s/%s", rig.directory, name);
        cr_assert_eq(file_read(arena, path, 1 << 22, &text, NULL), ERR_OK);
        return text;
}

static bool has(struct slice line, struct slice what)
{
        return slice_find(line, what) < line.len;
}

Test(published, each_destination_gets_what_it_asked_for, .timeout = 60)
{
        struct codec_redaction mask, hmac;
        struct arena arena;
        arena_init(&arena, 0, 0);
        codec_redaction_init(&mask);
        mask.addresses = CODEC_ADDRESSES_MASK;
        codec_redaction_finish(&mask);
        codec_redaction_init(&hmac);
        hmac.addresses = CODEC_ADDRESSES_HMAC;
        cr_assert_eq(codec_redaction_set_key(&hmac, SLICE("0123456789abcdef"), NULL), ERR_OK);
        codec_redaction_finish(&hmac);
        egress_rig_defaults(&rig);
        egress_rig_open(&rig);
        uint32_t targets[] = {add("plain", false, NULL), add("masked", false, &mask), add("ids", true, NULL),
                              add("masked-too", false, &mask), add("tokens", true, &hmac)};
        char plain_token[CODEC_REDACTION_TOKEN_BYTES];
        codec_redaction_token(&hmac, SLICE("rcpt@example.com"), plain_token);
        codec_redaction_clear(&mask); /* as when a plan goes */
        codec_redaction_clear(&hmac);
        egress_rig_run(&rig);
        const uint32_t routes[] = {targets[0], targets[1], targets[2], targets[3], targets[4], targets[2]};
        for (uint32_t id = 0; id < EVENTS; id++) {
                size_t bytes = egress_rig_encode(id, 20, rig.event, sizeof(rig.event));
                egress_rig_append(&rig, 0, rig.event, bytes, routes, 6, clock_realtime_ms());
                egress_rig_offer(&rig, 0, false);
        }
        egress_rig_offer(&rig, 0, true);
        for (size_t i = 0; i < 5; i++)
                cr_assert(egress_rig_wait_delivered(&rig, targets[i], i == 2 ? 2 * EVENTS : EVENTS, 40000));
        struct slice plain = file_of(&arena, "plain"), masked = file_of(&arena, "masked"), ids = file_of(&arena, "ids"),
                     too = file_of(&arena, "masked-too"), tokens = file_of(&arena, "tokens");
        cr_assert(slice_equal(masked, too), "one policy, one record");
        struct slice before = SLICE_EMPTY;
        for (uint32_t i = 0; i < EVENTS; i++) {
                struct slice line = slice_cut(&plain, '\n');
                cr_expect(has(line, SLICE("rcpt@example.com")) && !has(line, SLICE("\"sendring\"")));
                struct slice hidden = slice_cut(&masked, '\n'), token = slice_cut(&tokens, '\n');
                cr_expect(has(hidden, SLICE("\"***@example.com\"")) && !has(hidden, SLICE("rcpt")));
                cr_expect(has(token, slice_of(plain_token, sizeof(plain_token))) && !has(token, SLICE("rcpt")));
                /* A copy has the same id, another event another; both destinations agree. */
                struct slice first = slice_cut(&ids, '\n'), second = slice_cut(&ids, '\n');
                cr_expect(slice_equal(first, second));
                struct slice member = slice_from(first, slice_find(first, SLICE(",\"sendring\":{\"eventId\":\"")));
                cr_expect_eq(member.len, first.len - line.len + 1, "the record, and one member behind it");
                cr_expect(has(token, slice_head(member, 57)));
                cr_expect_not(slice_equal(slice_head(member, 57), before));
                before = slice_head(member, 57);
        }
        arena_release(&arena);
        egress_rig_stop(&rig, 2000);
        egress_rig_close(&rig);
        egress_rig_remove(&rig);
}
