"""Durability host: a flush returns when its events are on the disk. How long it takes is the sync interval at most, one
fdatasync, and little else; the flushes of many producers share one sync."""
import json
import os
import subprocess
import tempfile
import time

import system

INTERVAL_MS = 5


def fdatasync_us(directory):
    """The median cost of an fdatasync of one page here."""
    took = []
    with tempfile.TemporaryFile(dir=directory) as out:
        for _ in range(50):
            out.write(b"x" * 4096)
            out.flush()
            begun = time.monotonic()
            os.fdatasync(out.fileno())
            took.append((time.monotonic() - begun) * 1e6)
    return sorted(took)[len(took) // 2]


def flush(stack, build, producers, rounds):
    before = stack.stat()["counters"]
    done = subprocess.run([os.path.join(build, "tests", "system", "flush_cli"), stack.socket, str(producers), str(rounds)],
                          capture_output=True, text=True, timeout=300)
    after = stack.stat()["counters"]
    if done.returncode != 0:
        raise system.Failure("flush_cli: %s%s" % (done.stdout, done.stderr))
    report = json.loads(done.stdout)
    for counter in ("journal_syncs", "journal_files_synced", "journal_sync_failures"):
        report[counter] = after[counter] - before[counter]
    return report


def main(build, quick):
    with system.Stack(build, name="flush") as stack:
        stack.write_configuration(firehose=False, file_destination=True,
                                  settings="journal.durability: host\njournal.sync_interval_ms: %dms" % INTERVAL_MS)
        stack.start_router()
        disk_us = fdatasync_us(stack.path("state"))
        system.check("fdatasync here, median us", round(disk_us), lambda us: us > 0)
        rounds = 100 if quick else 300

        one = flush(stack, build, 1, rounds)
        system.check("one producer: syncs failed", one["journal_sync_failures"], 0)
        # A nap of the shard before and one after (1 ms each), the interval, the sync, which is also of the file system.
        system.check("one producer: median us of a flush", one["median_us"],
                     lambda us: us < INTERVAL_MS * 1000 + 3 * disk_us + 5000)
        system.check("one producer: syncs", one["journal_syncs"], lambda n: rounds * 0.5 <= n <= rounds * 2)

        many = flush(stack, build, 16, rounds)
        system.check("16 producers: flushes", many["flushes"], 16 * rounds)
        system.check("16 producers: syncs for them all", many["journal_syncs"], lambda n: n <= 16 * rounds / 5)
        system.check("16 producers: median us of a flush", many["median_us"],
                     lambda us: us < 2 * (INTERVAL_MS * 1000 + 3 * disk_us) + 10000)
        books = stack.wait_drained(30)
        system.check("accepted", books["targets"][0]["accepted"], 17 * rounds)
        system.check("ledger balanced", books["balanced"], True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
