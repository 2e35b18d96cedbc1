#include "tools/loadgen.h"

#include "base/clock.h"
#include "sendring/sendring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Sleeping costs microseconds of CPU, so a fast producer sleeps until some events are due and then publishes them all.
 * Its lateness shows that. */
#define LOADGEN_NAP_EVENTS   50
#define LOADGEN_NAP_MIN_NS   (50 * CLOCK_NS_PER_US)
#define LOADGEN_NAP_BUNCH_NS (500 * CLOCK_NS_PER_US)
#define LOADGEN_NAP_MAX_NS   (100 * CLOCK_NS_PER_MS)
/* A lane that is full for a moment, and one whose journal is: each nap in a row is twice as long. */
#define LOADGEN_FULL_NAP_NS     (50 * CLOCK_NS_PER_US)
#define LOADGEN_FULL_NAP_NS_MAX (5 * CLOCK_NS_PER_MS)
#define LOADGEN_DETACHED_NAP_NS (10 * CLOCK_NS_PER_MS)

uint64_t loadgen_due_ns(const struct loadgen_options *options, double interval_ns, uint64_t index)
{
        double even_ns = (double)index * interval_ns;
        if (options->burst_on_ns == 0)
                return (uint64_t)even_ns;
        double period_ns = (double)(options->burst_on_ns + options->burst_off_ns);
        uint64_t period = (uint64_t)(even_ns / period_ns);
        double within_ns = even_ns - (double)period * period_ns;
        return (uint64_t)((double)period * period_ns + within_ns * (double)options->burst_on_ns / period_ns);
}

static void producer_fail(struct loadgen_slot *slot, enum loadgen_end end, const char *what, int result,
                          const char *text)
{
        (void)snprintf(slot->error, sizeof(slot->error), "%s: %s (%s)", what, text, sendring_result_text(result));
        atomic_store_explicit(&slot->end, end, memory_order_release);
}

/* Counters that one process writes and the parent reads now and then: a plain add, stored whole. */
static inline void counter_add(_Atomic uint64_t *counter)
{
        /* Relaxed: single writer, a number for people. */
        atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

struct producer_clock {
        uint64_t start_ns;
        uint64_t end_ns; /* UINT64_MAX: none */
        uint64_t last_success_ns;
        int64_t realtime_offset_us; /* real time - monotonic */
};

/* An event to publish: as a struct, or encoded. */
struct producer_event {
        const struct sendring_event *event; /* NULL: `encoded` is it */
        struct slice encoded;
        enum sendring_event_type type;
        uint32_t set;
};

/* One event until it is in, or, of a capture, known to be too big for a lane. Returns the time after it, or 0 when the
 * producer has to end. */
static uint64_t producer_publish(const struct loadgen_options *options, struct sendring *ring,
                                 const struct producer_event *event, struct producer_clock *clock,
                                 struct loadgen_slot *slot, const _Atomic bool *stop, bool *ret_too_big)
{
        uint64_t now_ns = clock_monotonic_ns(); /* the event is made by now */
        uint64_t full_nap_ns = LOADGEN_FULL_NAP_NS;
        for (;;) {
                int result = event->event != NULL
                                     ? sendring_publish(ring, event->event)
                                     : sendring_publish_encoded(ring, event->encoded.ptr, event->encoded.len);
                uint64_t after_ns = clock_monotonic_ns();
                if (__builtin_expect(result == SENDRING_OK, 1)) {
                        loadgen_histogram_add(&slot->publish_ns, after_ns - now_ns);
                        clock->last_success_ns = after_ns;
                        return after_ns;
                }
                if (result == SENDRING_E_TOO_BIG && event->event == NULL) {
                        counter_add(&slot->too_big);
                        *ret_too_big = true;
                        return after_ns;
                }
                if (result == SENDRING_E_FULL) {
                        counter_add(&slot->full);
                        clock_nap_ns(full_nap_ns);
                        full_nap_ns =
                                2 * full_nap_ns < LOADGEN_FULL_NAP_NS_MAX ? 2 * full_nap_ns : LOADGEN_FULL_NAP_NS_MAX;
                } else if (result == SENDRING_E_DETACHED) {
                        counter_add(&slot->detached);
                        clock_nap_ns(LOADGEN_DETACHED_NAP_NS);
                } else {
                        producer_fail(slot, LOADGEN_END_PUBLISH_FAILED, "publish", result, sendring_error(ring));
                        return 0;
                }
                now_ns = clock_monotonic_ns();
                if (now_ns - clock->last_success_ns > options->stall_timeout_ns) {
                        producer_fail(slot, LOADGEN_END_STALLED, "nothing was taken for too long", result,
                                      sendring_error(ring));
                        return 0;
                }
                /* Relaxed: it is seen soon enough. */
                if (atomic_load_explicit(stop, memory_order_relaxed) || now_ns >= clock->end_ns)
                        return 0;
        }
}

/* Where the events come from: evenly or in bursts, as fast as they are taken, by a profile, or from a capture. */
struct producer_source {
        const struct loadgen_options *options;
        struct loadgen_events *events; /* NULL: of a capture */
        uint32_t number;               /* of the producer, in the ids */
        uint64_t start_ns, events_max, index;
        double interval_ns; /* on average; 0: as fast as they are taken */
        struct loadgen_profile_cursor profile;
        struct loadgen_replay_cursor replay;
        uint8_t *replayed; /* room for an event with another id */
};

struct producer_turn {
        uint64_t due_ns; /* 0: now */
        uint64_t index;
        enum sendring_event_type type; /* 0: as the mix has it */
        uint64_t number;               /* in the capture */
};

/* False: there are no more. */
static bool producer_next(struct producer_source *source, struct producer_turn *ret_turn)
{
        struct producer_turn turn = {.index = source->index};
        if (source->index >= source->events_max)
                return false;
        if (source->options->profile != NULL) {
                if (!loadgen_profile_next(&source->profile, &turn.due_ns, &turn.type))
                        return false;
                turn.due_ns += source->start_ns;
        } else if (source->options->replay != NULL) {
                if (!loadgen_replay_next(&source->replay, &turn.due_ns, &turn.number))
                        return false;
                turn.due_ns = source->interval_ns > 0 ? turn.due_ns + source->start_ns : 0;
        } else if (source->interval_ns > 0) {
                turn.due_ns = source->start_ns + loadgen_due_ns(source->options, source->interval_ns, source->index);
        }
        source->index++;
        *ret_turn = turn;
        return true;
}

/* How many of the events from `turn` on were due before `end_ns`: what an end has left undone. */
static uint64_t producer_overdue(struct producer_source *source, const struct producer_turn *turn, uint64_t end_ns)
{
        struct producer_turn next = *turn;
        uint64_t overdue = 0;
        if (turn->due_ns == 0 || turn->due_ns >= end_ns)
                return 0;
        if (source->options->profile != NULL || source->options->replay != NULL) {
                do {
                        overdue += next.due_ns < end_ns;
                } while (next.due_ns < end_ns && producer_next(source, &next));
                return overdue;
        }
        uint64_t low = turn->index,
                 high = source->events_max; /* due before `end_ns`: all below low, none from high on */
        if (high == UINT64_MAX)
                high = turn->index + 1 + (uint64_t)((double)(end_ns - source->start_ns) / source->interval_ns);
        while (low < high) {
                uint64_t middle = low + (high - low) / 2;
                if (source->start_ns + loadgen_due_ns(source->options, source->interval_ns, middle) < end_ns)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low - turn->index;
}

/* Sleeps until the turn is due. Returns the time then; earlier than that when the producer has to end. */
static uint64_t producer_wait(const struct producer_turn *turn, uint64_t now_ns, uint64_t bunch_ns,
                              struct producer_clock *clock, const _Atomic bool *stop)
{
        while (turn->due_ns > now_ns && now_ns < clock->end_ns && !atomic_load_explicit(stop, memory_order_relaxed)) {
                uint64_t wait_ns = turn->due_ns - now_ns;
                if (wait_ns < bunch_ns)
                        wait_ns = bunch_ns;
                if (wait_ns > LOADGEN_NAP_MAX_NS)
                        wait_ns = LOADGEN_NAP_MAX_NS; /* to see `stop` and the end */
                clock_nap_ns(wait_ns);
                now_ns = clock_monotonic_ns();
                clock->last_success_ns = now_ns;
        }
        return now_ns;
}

/* False: a capture that was changed while it was replayed. */
static bool producer_make(struct producer_source *source, const struct producer_turn *turn, int64_t now_us,
                          struct producer_event *ret_event)
{
        const int64_t now_ms = now_us / 1000;
        const uint16_t behind_us = (uint16_t)(now_us % 1000);
        struct producer_event event = {.set = 0};
        if (source->options->replay != NULL) {
                struct loadgen_id id = {.timestamp_ms = (uint64_t)now_ms,
                                        .behind_us = behind_us,
                                        .run_id = source->options->events.run_id,
                                        .producer = (uint16_t)source->number,
                                        .index = turn->index};
                if (!loadgen_replay_event(source->options->replay, turn->number, &id, source->replayed, &event.encoded,
                                          &event.type))
                        return false;
        } else {
                loadgen_events_set_behind_us(source->events, behind_us);
                event.event = turn->type != 0 ? loadgen_events_make_type(source->events, turn->index, turn->type,
                                                                         now_ms, &event.set)
                                              : loadgen_events_make(source->events, turn->index, now_ms, &event.set);
                event.type = event.event->type;
        }
        *ret_event = event;
        return true;
}

/* How the producer of `slot` walks what is to be published. */
static void producer_begin(struct producer_source *source, const struct loadgen_options *options,
                           const struct loadgen_slot *slot)
{
        uint32_t place = slot->number - options->producer_first;
        double all_ns = (double)options->producers_count * (double)CLOCK_NS_PER_S;
        source->options = options;
        source->number = slot->number;
        source->events_max = slot->events_max;
        if (options->rate > 0)
                source->interval_ns = all_ns / options->rate;
        if (options->profile != NULL)
                loadgen_profile_begin(&source->profile, options->plan, place);
        const struct loadgen_replay *replay = options->replay;
        if (replay == NULL)
                return;
        source->replay = (struct loadgen_replay_cursor){.replay = replay, .producer = place};
        if (replay->options.speed > 0) /* at least 1 ns: 0 means no times */
                source->interval_ns =
                        1 + (double)replay->length_ns * options->producers_count / (double)replay->capture.events;
}

static void producer_loop(struct producer_source *source, struct sendring *ring, struct loadgen_slot *slot,
                          struct producer_clock *clock, const _Atomic bool *stop, _Atomic uint64_t *count)
{
        const struct loadgen_options *options = source->options;
        uint64_t turn_ns = 0; /* until another producer's event is due */
        if (options->rate > 0 && options->profile == NULL)
                turn_ns = (uint64_t)((double)CLOCK_NS_PER_S / options->rate);
        source->start_ns = clock->start_ns;
        uint64_t bunch_ns = (uint64_t)(source->interval_ns * LOADGEN_NAP_EVENTS);
        bunch_ns = bunch_ns < LOADGEN_NAP_MIN_NS ? LOADGEN_NAP_MIN_NS : bunch_ns;
        bunch_ns = bunch_ns > LOADGEN_NAP_BUNCH_NS ? LOADGEN_NAP_BUNCH_NS : bunch_ns;
        uint64_t now_ns = clock_monotonic_ns();
        clock->last_success_ns = now_ns;
        struct producer_turn turn;
        while (producer_next(source, &turn)) {
                now_ns = producer_wait(&turn, now_ns, bunch_ns, clock, stop);
                uint64_t after_ns = 0, due_ns = turn.due_ns == 0 ? now_ns : turn.due_ns;
                struct producer_event event = {.set = 0};
                bool too_big = false;
                if (now_ns < clock->end_ns && !atomic_load_explicit(stop, memory_order_relaxed)) {
                        int64_t now_us = (int64_t)(now_ns / CLOCK_NS_PER_US) + clock->realtime_offset_us;
                        if (producer_make(source, &turn, now_us, &event))
                                after_ns = producer_publish(options, ring, &event, clock, slot, stop, &too_big);
                        else
                                producer_fail(slot, LOADGEN_END_PUBLISH_FAILED, "replay", SENDRING_E_INVALID,
                                              "the file was changed while it was read");
                }
                if (after_ns == 0) {
                        now_ns = clock_monotonic_ns();
                        slot->stopped = atomic_load_explicit(stop, memory_order_relaxed);
                        slot->overdue =
                                producer_overdue(source, &turn, now_ns < clock->end_ns ? now_ns : clock->end_ns);
                        return;
                }
                now_ns = after_ns;
                if (too_big) {
                        source->index = turn.index; /* ids have no holes */
                        continue;
                }
                if (turn.index == 0)
                        atomic_store_explicit(&slot->begun_ns, due_ns, memory_order_relaxed);
                atomic_store_explicit(&slot->ended_ns, after_ns > due_ns + turn_ns ? after_ns : due_ns + turn_ns,
                                      memory_order_relaxed);
                /* Relaxed: written after the publish returned; a kill in between leaves one event more than told. */
                atomic_store_explicit(&slot->published, turn.index + 1, memory_order_relaxed);
                if (count != NULL)
                        atomic_store_explicit(count, turn.index + 1, memory_order_relaxed);
                slot->types[event.type - 1]++;
                slot->sets[event.set]++;
                if (turn.due_ns > 0) {
                        loadgen_histogram_add(&slot->lateness_ns, after_ns - due_ns);
                        if (after_ns - due_ns > atomic_load_explicit(&slot->lateness_max_ns, memory_order_relaxed))
                                atomic_store_explicit(&slot->lateness_max_ns, after_ns - due_ns, memory_order_relaxed);
                }
        }
}

static void producer_end(struct producer_source *source)
{
        if (source->events != NULL)
                loadgen_events_free(source->events);
        free(source->replayed);
}

void loadgen_producer_run(const struct loadgen_options *options, struct loadgen_slot *slot, uint64_t start_ns,
                          uint64_t end_ns, const _Atomic bool *stop, _Atomic uint64_t *count)
{
        struct loadgen_events_options events_options = options->events;
        events_options.producer = (uint16_t)slot->number;
        struct producer_source source = {.events = NULL};
        struct sendring *ring = NULL;
        producer_begin(&source, options, slot);
        if (options->replay != NULL)
                source.replayed = malloc(LOADGEN_REPLAY_EVENT_BYTES);
        else
                source.events = loadgen_events_create(&events_options);
        if (source.events == NULL && source.replayed == NULL) {
                producer_fail(slot, LOADGEN_END_OPEN_FAILED, "memory", SENDRING_E_MEMORY, "malloc failed");
                return;
        }
        char name[32];
        (void)snprintf(name, sizeof(name), "loadgen-%u", slot->number);
        struct sendring_options open_options = {
                .size = sizeof(open_options), .socket_path = options->socket_path, .name = name, .timeout_ms = 5000};
        uint64_t asked_ns = clock_monotonic_ns();
        int result = sendring_open(&open_options, &ring);
        /* Somebody listens, and nobody answers: a router that is being started again. A stall like any other, as is a
         * whole service that is, where it may be. Relaxed: seen soon enough. */
        while ((result == SENDRING_E_TIMEOUT || (result == SENDRING_E_DETACHED && options->patient)) &&
               !atomic_load_explicit(stop, memory_order_relaxed) &&
               clock_monotonic_ns() - asked_ns < options->stall_timeout_ns && clock_monotonic_ns() < end_ns) {
                if (result == SENDRING_E_DETACHED)
                        clock_nap_ns(LOADGEN_DETACHED_NAP_NS);
                result = sendring_open(&open_options, &ring);
        }
        if ((result == SENDRING_E_TIMEOUT || (result == SENDRING_E_DETACHED && options->patient)) &&
            atomic_load_explicit(stop, memory_order_relaxed)) {
                slot->stopped = true;
                atomic_store_explicit(&slot->end, LOADGEN_END_DONE, memory_order_release); /* it published nothing */
                producer_end(&source);
                return;
        }
        if (result != SENDRING_OK) {
                producer_fail(slot, LOADGEN_END_OPEN_FAILED, "open", result, sendring_error(NULL));
                producer_end(&source);
                return;
        }
        struct producer_clock clock = {
                .start_ns = start_ns,
                .end_ns = end_ns,
                .realtime_offset_us = clock_realtime_us() - (int64_t)(clock_monotonic_ns() / CLOCK_NS_PER_US),
        };
        uint64_t cpu_ns = clock_thread_cpu_ns();
        producer_loop(&source, ring, slot, &clock, stop, count);
        slot->cpu_ns = clock_thread_cpu_ns() - cpu_ns;
        enum loadgen_end end = LOADGEN_END_DONE;
        if (atomic_load_explicit(&slot->end, memory_order_relaxed) == LOADGEN_END_RUNNING &&
            options->flush_timeout_ms > 0) {
                result = sendring_flush(ring, options->flush_timeout_ms);
                if (result != SENDRING_OK) {
                        producer_fail(slot, LOADGEN_END_FLUSH_FAILED, "flush", result, sendring_error(ring));
                        end = LOADGEN_END_FLUSH_FAILED;
                }
        }
        struct sendring_stats stats = {.size = sizeof(stats)};
        sendring_get_stats(ring, &stats);
        slot->wakeups = stats.wakeups;
        slot->reattached = stats.reattached;
        sendring_close(ring);
        producer_end(&source);
        if (atomic_load_explicit(&slot->end, memory_order_relaxed) == LOADGEN_END_RUNNING)
                atomic_store_explicit(&slot->end, end, memory_order_release);
}
