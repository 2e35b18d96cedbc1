/* Posts and wakes from several threads into two sleeping loops, while clients of both resolve a host name through the
 * shared resolver thread, are refused, stopped and freed. Checks: every post runs once and in its poster's order, every
 * exchange ends, nothing hangs. Meant for the thread sanitizer. usage: io_stress SECONDS */
#include "base/assert.h"
#include "base/clock.h"
#include "egress/http.h"
#include "io/io.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOPS   2u
#define POSTERS 3u
#define SLOTS   64u

struct stress_loop;

struct stress_post {
        struct io_op op; /* first: callbacks cast */
        struct stress_loop *loop;
        uint32_t poster;
        uint64_t number;
        _Atomic bool posted; /* set by the poster, cleared by the loop: the slot's owner */
};

struct stress_loop {
        struct io_loop *io;
        pthread_t thread;
        uint64_t last[POSTERS];
        uint64_t posts, exchanges;
        struct stress_post slots[POSTERS][SLOTS];
};

static struct stress_loop loops[LOOPS];
static _Atomic bool posters_stop, loops_stop;

static void stress_post_done(struct io_op *op, int32_t result, bool more)
{
        struct stress_post *post = (struct stress_post *)op;
        ASSERT(result == 0 && !more);
        ASSERT(post->number == post->loop->last[post->poster] + 1);
        post->loop->last[post->poster] = post->number;
        post->loop->posts++;
        atomic_store_explicit(&post->posted, false, memory_order_release);
}

static void *stress_poster(void *argument)
{
        uint32_t poster = *(const uint32_t *)argument;
        uint64_t numbers[LOOPS] = {0};
        for (uint64_t i = 0; !atomic_load(&posters_stop); i++) {
                uint32_t at = (uint32_t)(i % LOOPS);
                struct stress_post *post = &loops[at].slots[poster][i / LOOPS % SLOTS];
                while (atomic_load_explicit(&post->posted, memory_order_acquire))
                        clock_sleep_ns(CLOCK_NS_PER_US);
                post->number = ++numbers[at];
                atomic_store_explicit(&post->posted, true, memory_order_relaxed);
                io_post(loops[at].io, &post->op);
                if (i % 97 == 0)
                        clock_sleep_ns(50 * CLOCK_NS_PER_US);
                if (i % 31 == 0)
                        io_loop_wake(loops[(at + 1) % LOOPS].io);
        }
        return NULL;
}

static void stress_exchange_done(struct http_exchange *exchange, enum err_code code,
                                 const struct http_response *response, bool maybe_sent, const struct err *why)
{
        (void)response;
        (void)why;
        ASSERT(code == ERR_CONNECT || code == ERR_RESET || code == ERR_RESOLVE);
        ASSERT(!maybe_sent);
        *(bool *)exchange->context = true;
}

static void *stress_loop_main(void *argument)
{
        struct stress_loop *loop = argument;
        struct http_client_options options = {.loop = loop->io,
                                              .connections_max = 2,
                                              .connect_timeout_ms = 2000,
                                              .request_timeout_ms = 2000,
                                              .idle_timeout_ms = 2000,
                                              .response_body_bytes_max = 1024};
        /* Nobody listens on port 1. */
        ASSERT(http_url_parse(SLICE("http://localhost:1/"), &options.url, NULL) == ERR_OK);
        while (!atomic_load(&loops_stop)) {
                bool over = false;
                struct http_client *client = NULL;
                ASSERT(http_client_create(&options, &client, NULL) == ERR_OK);
                struct http_exchange exchange = {
                        .head = SLICE("GET / HTTP/1.1\r\n\r\n"), .done = stress_exchange_done, .context = &over};
                ASSERT(http_client_send(client, &exchange) == ERR_OK);
                /* Every other one is stopped while it resolves or connects. */
                while (loop->exchanges % 2 == 0 && !over)
                        (void)io_loop_turn(loop->io, IO_FOREVER);
                while (!http_client_stop(client))
                        (void)io_loop_turn(loop->io, IO_FOREVER);
                ASSERT(over);
                http_client_free(client);
                loop->exchanges++;
        }
        /* The posters are gone; what they left runs now. */
        for (bool waiting = true; waiting;) {
                waiting = false;
                for (uint32_t poster = 0; poster < POSTERS; poster++) {
                        for (uint32_t slot = 0; slot < SLOTS; slot++)
                                waiting |= atomic_load(&loop->slots[poster][slot].posted);
                }
                (void)io_loop_turn(loop->io, 0);
        }
        return NULL;
}

int main(int argc, char **argv)
{
        double seconds = argc > 1 ? strtod(argv[1], NULL) : 3;
        pthread_t posters[POSTERS];
        uint32_t numbers[POSTERS];
        struct io_options options = {.entries = 16};
        for (uint32_t i = 0; i < LOOPS; i++) {
                ASSERT(io_loop_create(&options, &loops[i].io, NULL) == ERR_OK);
                for (uint32_t poster = 0; poster < POSTERS; poster++) {
                        for (uint32_t slot = 0; slot < SLOTS; slot++) {
                                struct stress_post *post = &loops[i].slots[poster][slot];
                                post->op.done = stress_post_done;
                                post->loop = &loops[i];
                                post->poster = poster;
                        }
                }
        }
        for (uint32_t i = 0; i < LOOPS; i++)
                ASSERT(pthread_create(&loops[i].thread, NULL, stress_loop_main, &loops[i]) == 0);
        for (uint32_t i = 0; i < POSTERS; i++) {
                numbers[i] = i;
                ASSERT(pthread_create(&posters[i], NULL, stress_poster, &numbers[i]) == 0);
        }
        clock_sleep_ns((uint64_t)(seconds * 1e9));
        atomic_store(&posters_stop, true);
        for (uint32_t i = 0; i < POSTERS; i++)
                ASSERT(pthread_join(posters[i], NULL) == 0);
        atomic_store(&loops_stop, true);
        for (uint32_t i = 0; i < LOOPS; i++) {
                io_loop_wake(loops[i].io);
                ASSERT(pthread_join(loops[i].thread, NULL) == 0);
        }
        for (uint32_t i = 0; i < LOOPS; i++) {
                uint64_t posted = 0;
                for (uint32_t poster = 0; poster < POSTERS; poster++)
                        posted += loops[i].last[poster];
                ASSERT(loops[i].posts == posted);
                ASSERT(posted > 0 && loops[i].exchanges > 0);
                (void)printf("loop %u: %llu posts, %llu exchanges\n", i, (unsigned long long)loops[i].posts,
                             (unsigned long long)loops[i].exchanges);
                io_loop_free(loops[i].io);
        }
        return 0;
}
