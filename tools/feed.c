/* What an MTA or a program writes, line by line, as events into the router.
 *
 * At least once: the checkpoint is written only after everything up to it is in the router's journal, so that a kill at
 * any moment repeats lines and loses none. The joined state of the Postfix feed holds the position that it belongs to:
 * no line is joined into it twice. */
#include "tools/feed.h"
#include "base/clock.h"
#include "base/file.h"
#include "feeds/jsonl.h"
#include "tools/cmd.h"
#include "tools/feed_position.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define FEED_LINES_PER_CLOCK    256u
#define FEED_FLUSH_TIMEOUT_MS   10000u
#define FEED_STATE_BYTES_MAX    ((size_t)4 << 30)
#define FEED_REPORTS_PER_SECOND 5u

static volatile sig_atomic_t feed_stop;
static volatile sig_atomic_t feed_show;

static void feed_on_signal(int signal_number)
{
        if (signal_number == SIGUSR1)
                feed_show = 1;
        else
                feed_stop = 1;
}

static void feed_set_signals(void)
{
        struct sigaction action = {.sa_handler = feed_on_signal}; /* no SA_RESTART: waits end */
        (void)sigemptyset(&action.sa_mask);                       /* cannot fail */
        (void)sigaction(SIGTERM, &action, NULL);                  /* cannot fail: valid signals */
        (void)sigaction(SIGINT, &action, NULL);
        (void)sigaction(SIGUSR1, &action, NULL);
}

/* ---------------------------------------------------------------------------------------------- reports */

static void feed_say(const char *text)
{
        (void)fprintf(stderr, "sendring feed: %s\n", text);
}

/* file:line: reason, at most so many a second; the rest is counted. */
static void feed_report(struct feed *feed, const char *reason)
{
        uint64_t now_ns = clock_monotonic_ns();
        if (now_ns - feed->reports_ns >= CLOCK_NS_PER_S) {
                if (feed->reports_left_out > 0)
                        (void)fprintf(stderr, "sendring feed: %" PRIu64 " more such reports were left out\n",
                                      feed->reports_left_out);
                feed->reports_ns = now_ns;
                feed->reports = feed->reports_left_out = 0;
        }
        if (feed->reports++ >= FEED_REPORTS_PER_SECOND) {
                feed->reports_left_out++;
                return;
        }
        char text[512]; /* what the line had in it may be in the reason: it must not write lines of its own */
        (void)snprintf(text, sizeof(text), "%s", reason);
        for (char *at = text; *at != '\0'; at++)
                if ((unsigned char)*at < 0x20 || *at == 0x7f)
                        *at = '?';
        struct tail_position position;
        tail_get_position(feed->tail, &position);
        (void)fprintf(stderr, "%s:%" PRIu64 ": %s\n", strcmp(feed->path, "-") == 0 ? "(stdin)" : feed->path,
                      position.line, text);
}

static uint64_t feed_bad(const struct feed *feed)
{
        return feed->bad + (feed->postfix == NULL ? 0 : postfix_get_counts(feed->postfix)->unparsed);
}

static uint64_t feed_missed_bytes(const struct feed *feed)
{
        return feed->missed_bytes + (feed->tail == NULL ? 0 : tail_missed_bytes(feed->tail));
}

static void feed_summary_text(const struct feed *feed, FILE *out)
{
        double seconds = (double)(clock_monotonic_ns() - feed->begun_ns) / 1e9;
        (void)fprintf(out,
                      "feed: lines %" PRIu64 " published %" PRIu64 " not understood %" PRIu64 " waited %" PRIu64
                      " ms checkpoints %" PRIu64 " in %.1f s\n",
                      feed->lines, feed->publisher.counts.published, feed_bad(feed), feed->publisher.counts.waited_ms,
                      feed->checkpoints, seconds);
        if (feed_missed_bytes(feed) > 0)
                (void)fprintf(out, "  bytes that were missed, as said above: %" PRIu64 "\n", feed_missed_bytes(feed));
        for (int type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++)
                if (feed->events[type] > 0)
                        (void)fprintf(out, "  %-18s %" PRIu64 "\n",
                                      codec_event_type_name((enum sendring_event_type)type), feed->events[type]);
        if (feed->from == FEED_JSONL) {
                (void)fprintf(out, "  unknown members kept %" PRIu64 ", dropped %" PRIu64 "\n", feed->members_kept,
                              feed->members_dropped);
                return;
        }
        const struct postfix_counts *counts = postfix_get_counts(feed->postfix);
#define FEED_COUNT_TEXT(member, text) \
        if (counts->member > 0)       \
                (void)fprintf(out, "  %-60s %" PRIu64 "\n", text, counts->member);
        POSTFIX_COUNTS(FEED_COUNT_TEXT)
#undef FEED_COUNT_TEXT
        (void)fprintf(out, "  %-60s %u\n", "messages on their way", postfix_messages(feed->postfix));
}

static void feed_summary_json(const struct feed *feed)
{
        printf("{\"lines\":%" PRIu64 ",\"published\":%" PRIu64 ",\"not_understood\":%" PRIu64 ",\"waits\":%" PRIu64
               ",\"waited_ms\":%" PRIu64 ",\"checkpoints\":%" PRIu64 ",\"checkpoints_failed\":%" PRIu64
               ",\"long_lines\":%" PRIu64 ",\"missed_bytes\":%" PRIu64 ",\"members_kept\":%" PRIu64
               ",\"members_dropped\":%" PRIu64 ",\"events\":{",
               feed->lines, feed->publisher.counts.published, feed_bad(feed), feed->publisher.counts.waits,
               feed->publisher.counts.waited_ms, feed->checkpoints, feed->checkpoints_failed, feed->long_lines,
               feed_missed_bytes(feed), feed->members_kept, feed->members_dropped);
        for (int type = 1; type <= CODEC_EVENT_TYPES_COUNT; type++)
                printf("%s\"%s\":%" PRIu64, type == 1 ? "" : ",", codec_event_type_name((enum sendring_event_type)type),
                       feed->events[type]);
        printf("}");
        if (feed->postfix != NULL) {
                const struct postfix_counts *counts = postfix_get_counts(feed->postfix);
                printf(",\"postfix\":{\"on_their_way\":%u", postfix_messages(feed->postfix));
#define FEED_COUNT_JSON(member, text) printf(",\"" #member "\":%" PRIu64, counts->member);
                POSTFIX_COUNTS(FEED_COUNT_JSON)
#undef FEED_COUNT_JSON
                printf("}");
        }
        printf("}\n");
}

static void feed_waiting(void *context, const char *why, uint64_t waited_ms)
{
        const struct feed *feed = context;
        (void)fprintf(stderr, "sendring feed: waiting %" PRIu64 " s: %s (published %" PRIu64 ")\n", waited_ms / 1000,
                      why, feed->publisher.counts.published);
}

/* ---------------------------------------------------------------------------------------------- checkpoint */

/* Held to the end of the run. Beside the checkpoint, which is replaced by each new one; it is never removed, since who
 * opened it before would hold a lock that the next one does not see. */
static enum err_code feed_lock(struct feed *feed, struct err *reterr)
{
        char path[PATH_MAX];
        int used = snprintf(path, sizeof(path), "%s.lock", feed->checkpoint_path);
        if (used < 0 || (size_t)used >= sizeof(path))
                return err_set(reterr, ERR_TOO_BIG, "the path of the checkpoint is too long");
        feed->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (feed->lock_fd < 0)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "open %s", path);
        if (flock(feed->lock_fd, LOCK_EX | LOCK_NB) == 0)
                return ERR_OK;
        if (errno != EWOULDBLOCK)
                return err_set_errno(reterr, ERR_SYSTEM, errno, "lock %s", path);
        return err_set(reterr, ERR_LOCKED,
                       "another sendring feed is at work with this checkpoint (%s): wait for its end or stop it; a "
                       "feed of another log needs a checkpoint of its own",
                       feed->checkpoint_path);
}

static enum err_code feed_checkpoint_read(struct feed *feed, struct err *reterr)
{
        struct arena arena;
        struct slice text;
        arena_init(&arena, 0, 0);
        enum err_code code = file_read(&arena, feed->checkpoint_path, 65536, &text, reterr);
        if (code != ERR_OK) {
                arena_release(&arena);
                return reterr->sys_errno == ENOENT ? ERR_OK : code;
        }
        feed->resumed = feed_position_read(text, &feed->started);
        arena_release(&arena);
        if (!feed->resumed)
                return err_set(reterr, ERR_CONFIG, "%s is no checkpoint of sendring feed; remove it to begin anew",
                               feed->checkpoint_path);
        return ERR_OK;
}

/* Where it has a position of its own, that one holds: a kill between the two files leaves a checkpoint that is behind.
 */
static enum err_code feed_state_read(struct feed *feed, struct err *reterr)
{
        struct arena arena;
        struct slice bytes, place = SLICE_EMPTY;
        if (feed->state_path == NULL || feed->postfix == NULL)
                return ERR_OK;
        arena_init(&arena, 0, 0);
        enum err_code code = file_read(&arena, feed->state_path, FEED_STATE_BYTES_MAX, &bytes, reterr);
        if (code != ERR_OK && reterr->sys_errno == ENOENT) {
                code = ERR_OK;
        } else if (code == ERR_OK && !feed->resumed) {
                feed_say("a state without a checkpoint is not used: the lines are read from the beginning");
        } else if (code == ERR_OK) {
                code = postfix_state_load(feed->postfix, bytes, &place, reterr);
                if (code == ERR_OK && place.len > 0 && !feed_position_read(place, &feed->started))
                        code = err_set(reterr, ERR_SYNTAX, "the saved state has a position that is none");
                struct err cause = *reterr;
                if (code == ERR_SYNTAX)
                        code = err_set(
                                reterr, ERR_CONFIG,
                                "%s: %s; without that file the feed goes on from the checkpoint, and messages on "
                                "their way lose what was known of them",
                                feed->state_path, cause.text);
                else if (code != ERR_OK)
                        (void)err_wrap(reterr, "%s", feed->state_path); /* the code is kept */
        }
        arena_release(&arena);
        return code;
}

/* Flushed first, then the state, then the position alone: a kill in between leaves a checkpoint that is behind the
 * state's own. */
static enum err_code feed_checkpoint(struct feed *feed, uint32_t timeout_ms, struct err *reterr)
{
        enum err_code code = publisher_flush(&feed->publisher, timeout_ms, reterr);
        if (code != ERR_OK || feed->checkpoint_path == NULL)
                return code;
        struct tail_position position;
        char text[FEED_POSITION_BYTES_MAX];
        tail_get_position(feed->tail, &position);
        struct slice place = feed_position_write(&position, text);
        if (feed->postfix != NULL && feed->state_path != NULL) {
                struct slice bytes;
                code = postfix_state_save(feed->postfix, place, &bytes);
                if (code != ERR_OK)
                        return err_set(reterr, code, "save the state: out of memory");
                code = file_replace(feed->state_path, bytes, reterr);
                free((void *)(uintptr_t)bytes.ptr);
                if (code != ERR_OK)
                        return code;
        }
        code = file_replace(feed->checkpoint_path, place, reterr);
        if (code == ERR_OK) {
                feed->checkpoints++;
                feed->checkpoint_inode = position.inode;
                feed->dirty = false;
        }
        return code;
}

/* What is to be done now and then. */
static void feed_turn(struct feed *feed, uint64_t now_ns)
{
        if (feed_show != 0 || (feed->progress && now_ns - feed->told_ns >= CLOCK_NS_PER_S)) {
                if (feed_show != 0)
                        feed_summary_text(feed, stderr);
                else
                        (void)fprintf(stderr,
                                      "feed: lines %" PRIu64 " published %" PRIu64 " not understood %" PRIu64 "\n",
                                      feed->lines, feed->publisher.counts.published, feed_bad(feed));
                feed_show = 0;
                feed->told_ns = now_ns;
        }
        /* A large state takes long to write: it gets a twentieth of the time at most. */
        uint64_t interval_ns = feed->checkpoint_interval_ns;
        if (interval_ns < 20 * feed->check_cost_ns)
                interval_ns = 20 * feed->check_cost_ns;
        if (feed->checkpoint_path == NULL)
                return;
        /* At once in another file: else a kill before the first checkpoint and a rotation behind it would hide lines.
         */
        struct tail_position position;
        tail_get_position(feed->tail, &position);
        if (position.inode == feed->checkpoint_inode && (!feed->dirty || now_ns - feed->checked_ns < interval_ns))
                return;
        struct err err = {.text = ""};
        if (feed_checkpoint(feed, FEED_FLUSH_TIMEOUT_MS, &err) != ERR_OK && feed->checkpoints_failed++ % 16 == 0)
                (void)fprintf(stderr, "sendring feed: no checkpoint: %s\n", err.text);
        feed->checked_ns = clock_monotonic_ns();
        feed->check_cost_ns = feed->checked_ns - now_ns;
}

/* ---------------------------------------------------------------------------------------------- lines */

/* Whether the feed can go on behind a failed publish. */
static bool feed_published(struct feed *feed, enum err_code code, const struct err *err)
{
        if (code == ERR_OK)
                return true;
        if (code == ERR_RANGE || code == ERR_TOO_BIG) {
                feed->bad++;
                feed_report(feed, err->text);
                return true;
        }
        if (code != ERR_BUSY) {
                feed->fatal = true;
                feed->err = *err;
        }
        return false;
}

static bool feed_postfix_event(void *context, const struct sendring_event *event)
{
        struct feed *feed = context;
        struct err err = {.text = ""};
        enum err_code code = publisher_event(&feed->publisher, event, &err);
        if (code == ERR_OK)
                feed->events[event->type]++;
        return feed_published(feed, code, &err);
}

static void feed_postfix_unparsed(void *context, struct slice line, const char *reason)
{
        struct feed *feed = context;
        if (feed->samples++ >= feed->samples_max)
                return;
        char text[512];
        (void)snprintf(text, sizeof(text), "%s: %.*s", reason, SLICE_PRINTF(slice_head(line, 300)));
        feed_report(feed, text);
}

/* False: stop; the line is not done. */
static bool feed_line(struct feed *feed, struct slice line)
{
        struct err err = {.text = ""};
        if (feed->from == FEED_POSTFIX) {
                enum err_code code = postfix_line(feed->postfix, line, tail_reference_ms(feed->tail));
                if (code == ERR_MEMORY) {
                        feed->fatal = true;
                        (void)err_set(&feed->err, ERR_MEMORY, "out of memory"); /* told by fatal */
                }
                return code == ERR_OK;
        }
        if (slice_trim(line).len == 0)
                return true;
        struct jsonl_event event;
        arena_clear(&feed->arena);
        enum err_code code = jsonl_parse(line, &feed->arena, &event, &err);
        if (code == ERR_MEMORY) {
                feed->fatal = true;
                feed->err = err;
                return false;
        }
        if (code != ERR_OK) {
                feed->bad++;
                feed_report(feed, err.text);
                return true;
        }
        feed->members_kept += event.members_kept;
        feed->members_dropped += event.members_dropped;
        code = publisher_encoded(&feed->publisher, event.encoded, &err);
        if (code == ERR_OK)
                feed->events[event.type]++;
        return feed_published(feed, code, &err);
}

/* One file to its end. False: stopped or failed. */
static bool feed_file(struct feed *feed)
{
        struct slice line;
        uint32_t since_clock = 0;
        feed_turn(feed, clock_monotonic_ns());
        for (;;) {
                enum tail_result result = tail_next(feed->tail, &line, &feed->err);
                const char *notice = tail_take_notice(feed->tail);
                if (notice != NULL)
                        feed_say(notice);
                if (result == TAIL_END)
                        return true;
                if (result == TAIL_ERROR) {
                        feed->fatal = true;
                        return false;
                }
                if (result == TAIL_LONG) {
                        feed->long_lines++;
                        feed->bad++;
                        feed_report(feed, "the line is too long, and left out");
                }
                if (result == TAIL_LINE) {
                        feed->lines++;
                        feed->dirty = true;
                        if (!feed_line(feed, line))
                                return false;
                }
                if (feed_stop != 0)
                        return true;
                if (result == TAIL_WAIT || ++since_clock >= FEED_LINES_PER_CLOCK) {
                        since_clock = 0;
                        feed_turn(feed, clock_monotonic_ns());
                }
        }
}

static int feed_status(enum err_code code)
{
        switch (err_class(code)) {
        case ERR_CLASS_RETRY:
                return CMD_EXIT_UNAVAILABLE;
        case ERR_CLASS_CONFIG:
                return code == ERR_PERMISSION ? CMD_EXIT_UNAVAILABLE : CMD_EXIT_CONFIG;
        case ERR_CLASS_NONE:
                return CMD_EXIT_OK;
        case ERR_CLASS_AGAIN:
                return CMD_EXIT_FAILED;
        case ERR_CLASS_REFUSED:
        case ERR_CLASS_INPUT:
        case ERR_CLASS_SYSTEM:
        case ERR_CLASS_CORRUPT:
        case ERR_CLASS_BUG:
                break;
        }
        return CMD_EXIT_IO;
}

static int feed_fail(const struct err *err, int status)
{
        feed_say(err->text);
        return status;
}

int feed_run(struct feed *feed, char *const *paths, int paths_count)
{
        struct err err = {.text = ""};
        enum err_code code = ERR_OK;
        feed_set_signals();
        if (feed->from == FEED_POSTFIX) {
                feed->postfix_options.context = feed;
                feed->postfix_options.event = feed_postfix_event;
                feed->postfix_options.unparsed = feed_postfix_unparsed;
                feed->postfix = postfix_create(&feed->postfix_options);
                if (feed->postfix == NULL)
                        return feed_fail(&(struct err){.text = "out of memory"}, CMD_EXIT_IO);
        }
        if (feed->checkpoint_path != NULL) {
                code = feed_lock(feed, &err);
                if (code != ERR_OK)
                        return feed_fail(&err, code == ERR_LOCKED ? CMD_EXIT_UNAVAILABLE : CMD_EXIT_IO);
                code = feed_checkpoint_read(feed, &err);
        }
        if (code == ERR_OK)
                code = feed_state_read(feed, &err);
        if (code != ERR_OK)
                return feed_fail(&err, code == ERR_CONFIG ? CMD_EXIT_CONFIG : CMD_EXIT_IO);
        struct publisher_options publisher = {
                .socket_path = feed->socket_path,
                .name = feed->from == FEED_POSTFIX ? "feed-postfix" : "feed-jsonl",
                .wait = feed->follow,
                .stop = &feed_stop,
                .context = feed,
                .waiting = feed_waiting,
        };
        code = publisher_open(&feed->publisher, &publisher, &err);
        if (code != ERR_OK)
                return feed_fail(&err, feed_status(code));
        feed->begun_ns = feed->checked_ns = feed->told_ns = clock_monotonic_ns();
        bool whole = true;
        for (int i = 0; i < paths_count && whole && feed_stop == 0; i++) {
                struct tail_options tail = {
                        .path = paths[i],
                        .follow = feed->follow,
                        .resumable = !feed->follow && feed->checkpoint_path != NULL,
                        .from_end = feed->from_end,
                        .line_bytes_max = feed->from == FEED_POSTFIX ? POSTFIX_LINE_BYTES_MAX : JSONL_LINE_BYTES_MAX,
                        .position = feed->resumed ? &feed->started : NULL,
                };
                feed->missed_bytes = feed_missed_bytes(feed);
                tail_close(feed->tail);
                feed->tail = NULL;
                feed->path = paths[i];
                code = tail_open(&tail, &feed->tail, &err);
                if (code != ERR_OK)
                        return feed_fail(&err, CMD_EXIT_IO);
                whole = feed_file(feed);
        }
        int status = feed_bad(feed) > 0 || feed_missed_bytes(feed) > 0 || (feed_stop != 0 && !feed->follow)
                             ? CMD_EXIT_FAILED
                             : CMD_EXIT_OK;
        if (feed->fatal) {
                status = feed_fail(&feed->err, feed_status(feed->err.code));
        } else if (!whole) {
                /* Stopped within a line: what the state has taken of it is not saved, the line comes again. */
                feed_say("stopped while waiting: the last checkpoint holds");
                (void)publisher_flush(&feed->publisher, 1000, &err); /* it comes again */
                status = CMD_EXIT_FAILED;
        } else {
                code = feed_checkpoint(feed, 3 * FEED_FLUSH_TIMEOUT_MS, &err);
                if (code != ERR_OK) {
                        (void)err_wrap(&err, "wait for the router's journal"); /* the code is in `code` */
                        status = feed_fail(&err, feed_status(code));
                }
        }
        if (feed->json)
                feed_summary_json(feed);
        else
                feed_summary_text(feed, stderr);
        return status;
}

struct feed *feed_create(void)
{
        struct feed *feed = calloc(1, sizeof(*feed));
        if (feed == NULL)
                return NULL;
        feed->checkpoint_interval_ns = CLOCK_NS_PER_S;
        feed->samples_max = 3;
        feed->lock_fd = -1;
        feed->postfix_options.queue_lifetime_ms = INT64_C(432000000);
        arena_init(&feed->arena, (size_t)1 << 20, (size_t)256 << 20);
        return feed;
}

void feed_free(struct feed *feed)
{
        tail_close(feed->tail);
        publisher_close(&feed->publisher);
        postfix_free(feed->postfix);
        arena_release(&feed->arena);
        if (feed->lock_fd >= 0)
                (void)close(feed->lock_fd); /* releases the lock */
        free(feed);
}
