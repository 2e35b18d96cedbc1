/* What systemd is told before the first router. */
#include "router/router_internal.h"
#include "tests/support/journal_files.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char directory[256];
static int notified = -1;

/* A log with a file of so many bytes, none of which takes room. */
static void write_log(const char *log, const char *name, off_t bytes)
{
        char path[400];
        (void)snprintf(path, sizeof(path), "%s/%s", directory, log);
        (void)mkdir(path, 0700); /* maybe it is there */
        (void)snprintf(path, sizeof(path), "%s/%s/%s", directory, log, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(ftruncate(fd, bytes), 0);
        (void)close(fd);
}

static const char *told(const struct rules_settings *settings)
{
        static char text[128];
        router_notify_starting(settings);
        ssize_t got = recv(notified, text, sizeof(text) - 1, MSG_DONTWAIT);
        text[got < 0 ? 0 : got] = '\0';
        return text;
}

/* 33 GiB are an hour and a half of an outage at 6,000 events a second: no disk reads them within 90 s. */
Test(router_notify, a_start_may_take_as_long_as_its_journal_is_read)
{
        struct rules_settings settings = {.router = {.shards_count = 1}};
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        journal_files_make(directory);
        settings.journal.directory = directory;
        int used = snprintf(address.sun_path, sizeof(address.sun_path), "%s/notify", directory);
        cr_assert(used > 0 && (size_t)used < sizeof(address.sun_path));
        notified = socket(AF_UNIX, SOCK_DGRAM, 0);
        cr_assert_geq(notified, 0);
        cr_assert_eq(bind(notified, (struct sockaddr *)&address, sizeof(address)), 0);
        cr_assert_eq(setenv("NOTIFY_SOCKET", address.sun_path, 1), 0);
        cr_assert_str_eq(told(&settings), "", "there is no journal");
        write_log("0", "targets", 1 << 20);
        cr_assert_str_eq(told(&settings), "", "nor anything in it");
        write_log("0", "0000000000000001.segment", (off_t)30 << 30);
        write_log("0", "0000000000000002.segment", (off_t)2 << 30);
        write_log("3", "0000000000000001.segment", (off_t)1 << 30); /* of earlier settings */
        cr_assert_str_eq(told(&settings), "EXTEND_TIMEOUT_USEC=1779000000");
        (void)close(notified);
        journal_files_remove(directory);
}
