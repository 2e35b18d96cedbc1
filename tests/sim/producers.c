/* Programs that send mail: their lanes, what they publish, and what those of them that flush are told. */
#include "base/clock.h"
#include "codecs/codec.h"
#include "tests/sim/world.h"

#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

/* ---------------------------------------------------------------------------------------------- lanes */

/* Which shard has it, when there are so many. */
static struct ring_bed *world_bed_of(uint32_t index)
{
        return world.beds[index % (world.router.shards_count > 0 ? world.router.shards_count : 1)];
}

void world_lane_open(uint32_t index)
{
        struct world_lane *own = &world.lanes[index];
        struct err err;
        own->lane_id = random_u64(&sim_random) | 1;
        own->life++;
        if (ring_lane_create(own->lane_id, LIMIT_LANE_BYTES_MIN * 8, world.host, &own->lane, &err) != ERR_OK)
                sim_fail("a lane cannot be made: %s", err.text);
        own->data_fd = dup(own->lane->data_fd);
        own->page_fd = dup(own->lane->page_fd);
        own->lane->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        SIM_CHECK(own->data_fd >= 0 && own->page_fd >= 0 && own->lane->bell_fd >= 0);
        own->producer = (struct ring_producer){
                .head_page = own->lane->map,
                .data = own->lane->data,
                .daemon_page = (const uint8_t *)own->lane->page,
                .bed_page = (const uint8_t *)ring_bed_page_of(world_bed_of(index)),
                .lane_bytes = own->lane->lane_bytes,
                .payload_bytes_max = own->lane->payload_bytes_max,
                .connection_fd = -1,
                .bell_fd = own->lane->bell_fd,
                .bell_identity = ring_identity_of(own->lane->bell_fd),
                .lane_id = own->lane_id,
        };
}

static uint64_t world_lane_journalled(uint64_t lane_id)
{
        uint64_t position = 0;
        for (uint32_t i = 0; i < world.logs_count; i++) {
                uint64_t own = journal_lane_position(world.router.journals[i], lane_id);
                position = own > position ? own : position;
        }
        return position;
}

/* What ring/server.c does at a take-over: the keeper's descriptors, a page of our own, the journal's word on how far
 * the lane was taken. */
void world_lane_adopt(uint32_t index)
{
        struct world_lane *own = &world.lanes[index];
        struct err err;
        int data_fd = dup(own->data_fd);
        uint64_t bytes = own->producer.lane_bytes;
        SIM_CHECK(data_fd >= 0);
        if (ring_lane_adopt(own->lane_id, bytes, world.host, data_fd, own->page_fd, world_lane_journalled(own->lane_id),
                            &own->lane, &err) != ERR_OK)
                sim_fail("a lane cannot be taken over: %s", err.text);
        own->lane->bell_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        own->page_fd = dup(own->lane->page_fd);
        SIM_CHECK(own->page_fd >= 0 && own->lane->bell_fd >= 0);
        /* The producer has its own mapping of the data, as ever; it is sent the new page. */
        own->producer.daemon_page = (const uint8_t *)own->lane->page;
        own->producer.bed_page = (const uint8_t *)ring_bed_page_of(world_bed_of(index));
        own->producer.bell_fd = own->lane->bell_fd;
        own->producer.bell_identity = ring_identity_of(own->lane->bell_fd);
        own->producer.detached = false;
}

/* Text that does not repeat itself: a quarter of it goes when it is compressed. */
static char noise[2 * 64 * 1024];

void world_producers_prepare(void)
{
        static const char letters[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        struct random_state random;
        random_init(&random, 1);
        for (size_t i = 0; i < sizeof(noise); i++)
                noise[i] = letters[random_below(&random, sizeof(letters))];
}

static size_t world_encode(uint32_t id, const struct world_event *event, uint32_t padding, uint8_t *out, size_t room)
{
        static char subject[64 * 1024];
        struct sendring_event sent;
        struct sendring_str to = SENDRING_STR("rcpt@example.com");
        char message_id[32], set_name[32];
        struct err err;
        size_t bytes = 0;
        if (event->set == SET_MALFORMED) {
                memset(out, 0xc1, 64); /* a byte that msgpack never uses */
                return 8 + sim_below(56);
        }
        codec_event_init(&sent, event->open ? SENDRING_OPEN : SENDRING_SEND);
        sent.open.timestamp_ms = event->open ? 1767323045999 : 0;
        (void)snprintf(message_id, sizeof(message_id), "id-%08u", id);
        (void)snprintf(set_name, sizeof(set_name), "set-%u", (unsigned)event->set);
        sent.mail.configuration_set = sendring_strn(set_name, strlen(set_name));
        sent.mail.timestamp_ms = 1767323045678;
        sent.mail.message_id = sendring_strn(message_id, strlen(message_id));
        sent.mail.source = SENDRING_STR("sender@example.com");
        sent.mail.destination.items = &to;
        sent.mail.destination.count = 1;
        if (padding > 0) {
                if (world.gzip != SINKS_COUNT && sim_chance(0.5))
                        memcpy(subject, noise + sim_below(sizeof(noise) - padding), padding);
                else
                        memset(subject, 'x', padding);
                sent.mail.headers_present = 1;
                sent.mail.common_headers.subject = sendring_strn(subject, padding);
        }
        if (codec_event_encode(&sent, out, room, &bytes, &err) != ERR_OK)
                sim_fail("an event cannot be encoded: %s", err.text);
        return bytes;
}

void world_route(struct world_event *event, uint32_t plans)
{
        for (uint32_t plan = 0; plan < SIM_PLANS_COUNT; plan++) {
                if ((plans >> plan & 1) == 0)
                        continue;
                uint8_t sinks = sim_plan_sinks(plan, event->set, event->open);
                event->must &= sinks;
                event->may |= sinks;
        }
}

bool world_publish(void)
{
        static uint8_t bytes[128 * 1024];
        uint32_t index = (uint32_t)sim_below(world.lanes_count);
        struct world_lane *own = &world.lanes[index];
        SIM_CHECK(world.events_count < WORLD_EVENTS_MAX);
        uint32_t id = world.events_count;
        struct world_event *event = &world.events[id];
        *event = (struct world_event){.set = (enum world_set)sim_below(SETS_COUNT + 4), .lane = (uint8_t)index};
        if (event->set >= SETS_COUNT)
                event->set = (enum world_set)sim_below(SET_ALL + 1);
        event->open = event->set != SET_MALFORMED && sim_chance(world.hardship == HARDSHIP_HUNG_FILE ? 0.7 : 0.4);
        uint32_t padding = sim_below(100) < world.big_percent
                                   ? world.big_bytes_min + (uint32_t)sim_below(60000 - world.big_bytes_min)
                                   : (uint32_t)sim_below(800);
        size_t len = world_encode(id, event, padding, bytes, sizeof(bytes));
        uint8_t *payload = NULL;
        enum err_code code = ring_reserve(&own->producer, (uint32_t)len, &payload);
        if (code == ERR_FULL) {
                own->full_since_ns = own->full_since_ns == 0 ? sim_now_ns() : own->full_since_ns;
                return false;
        }
        own->full_since_ns = 0;
        SIM_CHECK(code == ERR_OK);
        memcpy(payload, bytes, len);
        if (sim_chance(0.02)) {
                ring_discard(&own->producer); /* the producer has thought better of it, or died here */
                return true;
        }
        SIM_CHECK(ring_commit(&own->producer, (uint32_t)len) == ERR_OK);
        event->bytes = (uint32_t)len;
        event->must = UINT8_MAX;
        world_route(event, world.plans);
        event->published_ns = sim_now_ns();
        event->requests_before = sim_endpoints[1].requests;
        event->end_position = own->producer.head;
        event->lane_life = own->life;
        world.events_count++;
        return true;
}

void world_look_at_durable(void)
{
        for (uint32_t i = 0; i < world.lanes_count && world.host; i++) {
                const struct ring_daemon_page *page =
                        (const struct ring_daemon_page *)(const void *)world.lanes[i].producer.daemon_page;
                uint64_t durable = atomic_load_explicit(&page->durable, memory_order_acquire);
                for (uint32_t id = world.events_count; id-- > 0;) {
                        struct world_event *event = &world.events[id];
                        if (event->lane != i || event->lane_life != world.lanes[i].life)
                                continue;
                        if (event->flushed)
                                break;
                        event->flushed = (int64_t)(durable - event->end_position) >= 0;
                }
        }
}
