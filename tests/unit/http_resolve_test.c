/* The resolver, with a getaddrinfo() and a clock of the test's own: what is asked, when, and who is told. */
#include "base/clock.h"
#include "egress/http_internal.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------------------------- the outside */

static _Atomic uint32_t lookups;      /* of names, begun */
static _Atomic uint32_t lookups_held; /* 1: all; 2: those of slow.example */
static _Atomic int lookup_result;     /* EAI_*; 0: one address, 192.0.2.N with N the number of the look-up */
static _Atomic int64_t clock_ahead_ns;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *ret_now)
{
        int result = (int)syscall(SYS_clock_gettime, id, ret_now);
        if (id == CLOCK_MONOTONIC)
                ret_now->tv_sec += atomic_load(&clock_ahead_ns) / (int64_t)CLOCK_NS_PER_S;
        return result;
}

static struct addrinfo *address_make(uint32_t number, const char *port)
{
        struct {
                struct addrinfo info;
                struct sockaddr_in address;
        } *one = calloc(1, sizeof(*one));
        cr_assert_not_null(one);
        one->address = (struct sockaddr_in){.sin_family = AF_INET,
                                            .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                            .sin_addr = {htonl(0xc0000200u + number)}};
        one->info = (struct addrinfo){
                .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&one->address, .ai_addrlen = sizeof(one->address)};
        return &one->info;
}

__attribute__((visibility("default"))) int getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
                                                       struct addrinfo **ret_list)
{
        if ((hints->ai_flags & AI_NUMERICHOST) != 0) {
                bool literal = strcmp(host, "192.0.2.99") == 0;
                *ret_list = literal ? address_make(99, port) : NULL;
                return literal ? 0 : EAI_NONAME;
        }
        uint32_t number = atomic_fetch_add(&lookups, 1) + 1;
        bool slow = strcmp(host, "slow.example") == 0;
        while (atomic_load(&lookups_held) == 1 || (slow && atomic_load(&lookups_held) == 2))
                clock_nap_ns(CLOCK_NS_PER_MS);
        int result = atomic_load(&lookup_result);
        if (result == 0)
                *ret_list = address_make(number, port);
        errno = result == EAI_SYSTEM ? ENFILE : 0;
        return result;
}

__attribute__((visibility("default"))) void freeaddrinfo(struct addrinfo *list)
{
        free(list);
}

/* ---------------------------------------------------------------------------------------------- one that asks */

struct asker {
        struct http_resolve_waiter waiter;
        struct http_resolver_entry *entry;
        struct http_addresses addresses;
        bool told;
};

static struct io_loop *loop;

static void asker_told(struct io_op *op, int32_t result, bool more)
{
        (void)result;
        (void)more;
        IO_OWNER(op, struct asker, waiter.op)->told = true;
}

static void asker_open(struct asker *asker, const char *host)
{
        if (loop == NULL)
                cr_assert_eq(io_loop_create(&(struct io_options){.entries = 16}, &loop, NULL), ERR_OK);
        *asker = (struct asker){.waiter = {.op = {.done = asker_told}, .loop = loop}};
        cr_assert_eq(http_resolve_attach(host, "443", &asker->entry, NULL), ERR_OK);
}

static enum err_code asker_get(struct asker *asker)
{
        asker->told = false;
        return http_resolve_get(asker->entry, &asker->waiter, &asker->addresses);
}

static void asker_wait(struct asker *asker)
{
        while (!asker->told)
                io_loop_turn(loop, 10 * CLOCK_NS_PER_MS);
}

/* Asks and waits if need be. */
static enum err_code asker_resolve(struct asker *asker, struct err *err)
{
        if (asker_get(asker) == ERR_OK)
                return ERR_OK;
        asker_wait(asker);
        return http_resolve_result(asker->entry, &asker->addresses, err);
}

/* N of 192.0.2.N. */
static uint32_t asker_number(const struct asker *asker)
{
        struct sockaddr_in address;
        cr_assert_eq(asker->addresses.count, 1);
        memcpy(&address, &asker->addresses.storage[0], sizeof(address));
        cr_assert_eq(ntohs(address.sin_port), 443);
        return ntohl(address.sin_addr.s_addr) - 0xc0000200u;
}

static void lookups_wait(uint32_t wanted)
{
        while (atomic_load(&lookups) < wanted)
                clock_nap_ns(CLOCK_NS_PER_MS);
}

static void later(int64_t seconds)
{
        atomic_fetch_add(&clock_ahead_ns, seconds * (int64_t)CLOCK_NS_PER_S);
}

/* ---------------------------------------------------------------------------------------------- the tests */

Test(http_resolve, an_address_needs_no_look_up, .timeout = 20)
{
        struct http_addresses addresses;
        cr_assert(http_resolve_literal("192.0.2.99", "443", &addresses));
        cr_assert_eq(addresses.count, 1);
        cr_assert_not(http_resolve_literal("mail.example", "443", &addresses));
        cr_assert_eq(atomic_load(&lookups), 0);
}

Test(http_resolve, young_addresses_are_used_old_ones_refreshed_very_old_ones_waited_for, .timeout = 20)
{
        struct asker asker;
        asker_open(&asker, "mail.example");
        cr_assert_eq(asker_get(&asker), ERR_INCOMPLETE, "nothing is known yet");
        asker_wait(&asker);
        cr_assert_eq(http_resolve_result(asker.entry, &asker.addresses, NULL), ERR_OK);
        cr_assert_eq(asker_number(&asker), 1);

        later(29);
        cr_assert_eq(asker_get(&asker), ERR_OK);
        cr_assert_eq(asker_number(&asker), 1);
        clock_nap_ns(20 * CLOCK_NS_PER_MS);
        cr_assert_eq(atomic_load(&lookups), 1, "fresh: not asked again");

        later(2);
        cr_assert_eq(asker_get(&asker), ERR_OK, "usable: not waited for");
        cr_assert_eq(asker_number(&asker), 1);
        lookups_wait(2);
        while (asker_get(&asker) == ERR_OK && asker_number(&asker) == 1)
                clock_nap_ns(CLOCK_NS_PER_MS);
        cr_assert_eq(asker_number(&asker), 2, "refreshed behind the scenes");

        later(301);
        cr_assert_eq(asker_get(&asker), ERR_INCOMPLETE, "too old to be believed");
        asker_wait(&asker);
        cr_assert_eq(http_resolve_result(asker.entry, &asker.addresses, NULL), ERR_OK);
        cr_assert_eq(asker_number(&asker), 3);
        cr_assert_eq(atomic_load(&lookups), 3);
        http_resolve_detach(asker.entry);
        io_loop_free(loop);
}

Test(http_resolve, a_failure_says_what_and_keeps_what_was_known, .timeout = 20)
{
        struct asker asker;
        struct err err;
        asker_open(&asker, "mail.example");
        atomic_store(&lookup_result, EAI_NONAME);
        cr_assert_eq(asker_resolve(&asker, &err), ERR_RESOLVE);
        cr_assert_not_null(strstr(err.text, "cannot resolve host name mail.example: "), "%s", err.text);
        cr_assert_not_null(strstr(err.text, gai_strerror(EAI_NONAME)), "%s", err.text);
        atomic_store(&lookup_result, EAI_SYSTEM);
        cr_assert_eq(asker_resolve(&asker, &err), ERR_RESOLVE, "asked again: a failure is not kept");
        cr_assert_eq(err.sys_errno, ENFILE);
        atomic_store(&lookup_result, 0);
        cr_assert_eq(asker_resolve(&asker, &err), ERR_OK);
        cr_assert_eq(asker_number(&asker), 3);

        later(301);
        atomic_store(&lookup_result, EAI_AGAIN);
        cr_assert_eq(asker_get(&asker), ERR_INCOMPLETE);
        asker_wait(&asker);
        cr_assert_eq(http_resolve_result(asker.entry, &asker.addresses, &err), ERR_OK, "better old than none");
        cr_assert_eq(asker_number(&asker), 3);
        http_resolve_detach(asker.entry);
        io_loop_free(loop);
}

Test(http_resolve, all_who_ask_for_a_name_share_one_look_up, .timeout = 20)
{
        struct asker first, second, other;
        asker_open(&first, "mail.example");
        asker_open(&second, "mail.example");
        asker_open(&other, "other.example");
        cr_assert_eq(first.entry, second.entry);
        cr_assert_neq(first.entry, other.entry);
        atomic_store(&lookups_held, 1);
        cr_assert_eq(asker_get(&first), ERR_INCOMPLETE);
        cr_assert_eq(asker_get(&second), ERR_INCOMPLETE);
        lookups_wait(1);
        atomic_store(&lookups_held, 0);
        asker_wait(&first);
        asker_wait(&second);
        cr_assert_eq(atomic_load(&lookups), 1);
        cr_assert_not(other.told);

        /* It is known while one is attached, and forgotten with the last. */
        http_resolve_detach(first.entry);
        cr_assert_eq(asker_get(&second), ERR_OK);
        http_resolve_detach(second.entry);
        asker_open(&first, "mail.example");
        cr_assert_eq(asker_resolve(&first, NULL), ERR_OK);
        cr_assert_eq(asker_number(&first), 2);
        http_resolve_detach(first.entry);
        http_resolve_detach(other.entry);
        http_resolve_detach(NULL);
        io_loop_free(loop);
}

/* A name server that does not answer for one name delays no other: neither one that was there before, nor after. */
Test(http_resolve, a_name_that_hangs_delays_no_other, .timeout = 20)
{
        struct asker before, slow, after;
        asker_open(&before, "before.example");
        asker_open(&slow, "slow.example");
        asker_open(&after, "after.example");
        cr_assert_eq(asker_resolve(&before, NULL), ERR_OK);
        atomic_store(&lookups_held, 2);
        cr_assert_eq(asker_get(&slow), ERR_INCOMPLETE);
        lookups_wait(2);
        cr_assert_eq(asker_resolve(&after, NULL), ERR_OK);
        later(301); /* what was known is too old */
        cr_assert_eq(asker_get(&before), ERR_INCOMPLETE);
        asker_wait(&before);
        cr_assert_eq(asker_number(&before), 1);
        cr_assert_eq(http_resolve_result(before.entry, &before.addresses, NULL), ERR_OK);
        cr_assert_eq(asker_number(&before), 4);
        cr_assert_not(slow.told);
        atomic_store(&lookups_held, 0);
        asker_wait(&slow);
        cr_assert_eq(http_resolve_result(slow.entry, &slow.addresses, NULL), ERR_OK);
        http_resolve_detach(before.entry);
        http_resolve_detach(slow.entry);
        http_resolve_detach(after.entry);
        io_loop_free(loop);
}

Test(http_resolve, who_gives_up_is_not_told, .timeout = 20)
{
        struct asker leaves, stays;
        asker_open(&leaves, "mail.example");
        asker_open(&stays, "mail.example");
        atomic_store(&lookups_held, 1);
        cr_assert_eq(asker_get(&leaves), ERR_INCOMPLETE);
        cr_assert_eq(asker_get(&stays), ERR_INCOMPLETE);
        lookups_wait(1);
        cr_assert(http_resolve_cancel(leaves.entry, &leaves.waiter));
        cr_assert_not(http_resolve_cancel(leaves.entry, &leaves.waiter), "it waits no more");
        http_resolve_detach(leaves.entry);
        atomic_store(&lookups_held, 0);
        asker_wait(&stays);
        cr_assert_not(leaves.told);
        cr_assert_not(http_resolve_cancel(stays.entry, &stays.waiter), "its turn has come");
        http_resolve_detach(stays.entry);

        /* The last one leaves in the middle of a look-up: its entry goes with the look-up's end, not before. */
        struct asker late;
        atomic_store(&lookups_held, 1);
        asker_open(&late, "late.example");
        cr_assert_eq(asker_get(&late), ERR_INCOMPLETE);
        lookups_wait(2);
        cr_assert(http_resolve_cancel(late.entry, &late.waiter));
        http_resolve_detach(late.entry);
        atomic_store(&lookups_held, 0);
        asker_open(&stays, "mail.example");
        cr_assert_eq(asker_resolve(&stays, NULL), ERR_OK, "the thread lives on");
        cr_assert_not(late.told);
        http_resolve_detach(stays.entry);
        io_loop_free(loop);
}
