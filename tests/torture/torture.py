"""Kills the router and its producers at random points, under load and with faults on the way, and counts every event at every
destination. Every process is a real one: producers, router and keeper, a Firehose look-alike over TLS, a file. Ends with

    torture: published N stored N missing 0 duplicated D

N over all destinations. Exit status: 0; 1 when an event is missing at a destination, a duplicate was not in flight at a kill, or
the books do not balance; 64 usage. The same seed kills after the same pauses; where that hits a process is chance.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import harness  # noqa: E402

IN_FLIGHT_MAX = 4
# 4 MiB of base64, or 2 MiB of lines, hold at most this many of loadgen's smallest standard events.
EVENTS_PER_BATCH_MAX = 6000
LANE_BYTES = "8MiB"
# What the endpoint does to one request in a hundred, each.
FAULTS = ("--reset", "0.01", "--error500", "0.01", "--throttle", "0.01", "--partial", "0.01")
ID = re.compile(rb'"messageId":"0100[0-9a-f]{12}-([0-9a-f]{8})-([0-9a-f]{4})-4e76-a11d-([0-9a-f]{12})-000000"')


class Killer:
    """Kills routers, one after the other, each at some instant of its life: some while they start, recover and take the lanes
    over, most under full load. Those live for longer than a second, after which the keeper starts the next one at once."""

    def __init__(self, stack, chance):
        self.stack, self.chance = stack, chance
        self.killed = 0
        self.pid = 0

    def turn(self):
        pid = self.router_pid()
        if pid == 0:
            return
        if pid != self.pid:
            self.pid = pid
            early = self.chance.random() < 0.3
            self.due = time.monotonic() + (self.chance.uniform(0, 0.4) if early else self.chance.uniform(1.05, 1.5))
        if time.monotonic() < self.due:
            return
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.killed += 1
        self.due = float("inf")

    def router_pid(self):
        """The keeper's child, by /proc: also of a router that is not ready yet."""
        keeper = self.stack.processes["router"].pid
        try:
            with open("/proc/%d/task/%d/children" % (keeper, keeper)) as children:
                pids = children.read().split()
        except OSError:
            return 0
        return int(pids[0]) if pids else 0


def count_file(path, published):
    """Ids in an NDJSON file: what is missing of `published` {producer: count}, what is there more than once, and what was
    published by producers that died before they could say so."""
    seen = {}
    duplicated = unexpected = stored = 0
    with open(path, "rb") as file:
        for line in file:
            found = ID.search(line)
            if found is None:
                raise harness.Failure("%s: a line without an id of loadgen: %r" % (path, line[:200]))
            producer, index = int(found.group(2), 16), int(found.group(3), 16)
            bits = seen.setdefault(producer, bytearray())
            if index >= len(bits):
                bits.extend(bytes(max(index + 1 - len(bits), len(bits) + 64)))
            if bits[index]:
                duplicated += 1
            else:
                bits[index] = 1
                stored += 1
                unexpected += index >= published.get(producer, 0)
    missing = sum(count - sum(seen.get(producer, b"")[:count]) for producer, count in published.items())
    return {"stored": stored, "missing": missing, "duplicates": duplicated, "unexpected": unexpected}


def published_counts(ledger):
    with open(ledger) as file:
        return {entry["producer"]: entry["published"] for entry in json.load(file)["producers"]}


def say(options, text):
    if not options.quiet:
        print("torture: " + text, file=sys.stderr, flush=True)


def storm(options, stack, chance, ledger):
    """Load until every kill has happened. Returns loadgen's report and the routers killed."""
    killer = Killer(stack, chance)
    producer_seconds = options.producer_kills * options.producer_pause * 1.5
    producers = subprocess.Popen(
        stack.loadgen_arguments(ledger, "--producers", str(options.producers), "--rate", str(options.rate), "--seconds",
                                "1000000", "--mix", "all", "--seed", str(options.seed), "--kill-test",
                                "--counts", stack.path("counts"), "--kills", str(options.producer_kills),
                                "--kill-interval", str(int(options.producer_pause * 1000)), "--flush-timeout", "60000"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.processes["loadgen"] = producers
    begun = spoke = time.monotonic()
    try:
        # loadgen stops killing by itself after its number; it is given the time that they take, and a half more.
        while killer.killed < options.router_kills or time.monotonic() - begun < producer_seconds:
            if producers.poll() is not None:
                raise harness.Failure("the producers ended: %s" % producers.stderr.read())
            if stack.processes["router"].poll() is not None:
                raise harness.Failure("the service ended with status %d" % stack.processes["router"].returncode)
            if killer.killed < options.router_kills:
                killer.turn()
            if time.monotonic() - spoke >= 10:
                spoke = time.monotonic()
                say(options, "%4.0f s  routers killed %d of %d" % (spoke - begun, killer.killed, options.router_kills))
            time.sleep(0.003)
        time.sleep(1)  # the last router takes the lanes over
    finally:
        if producers.poll() is None:
            producers.send_signal(signal.SIGTERM)
        out, errors = producers.communicate(timeout=120)
        del stack.processes["loadgen"]
    if producers.returncode != 0:
        raise harness.Failure("the producers ended with %d: %s%s" % (producers.returncode, out, errors))
    return json.loads(out.strip().splitlines()[-1]), killer.killed


def verdict(options, stack, load, routers_killed, ledger):
    """Holds every destination against the ledger. Returns the figures and what is wrong."""
    books = stack.wait_drained(180)
    published = published_counts(ledger)
    firehose = stack.sink_report(ledger)
    ends = {"firehose": {"stored": firehose["distinct"], "missing": firehose["missing"],
                         "duplicates": firehose["duplicates"], "unexpected": firehose["unexpected"]},
            "file": count_file(stack.path("events.ndjson"), published)}
    wrong = []
    in_flight_max = routers_killed * (IN_FLIGHT_MAX + 1) * EVENTS_PER_BATCH_MAX
    for name, end in ends.items():
        if end["missing"] != 0:
            wrong.append("%s: %d events are missing" % (name, end["missing"]))
        if end["duplicates"] > in_flight_max:
            wrong.append("%s: %d duplicates, where at most %d were in flight" % (name, end["duplicates"], in_flight_max))
        # A producer may die between its commit and its own count: one event each at most.
        if end["unexpected"] > load["killed"]:
            wrong.append("%s: %d events that no producer told of, of %d killed ones" %
                         (name, end["unexpected"], load["killed"]))
    uncounted = ends["firehose"]["unexpected"]
    if not books["balanced"]:
        wrong.append("the ledger does not balance: %s" % json.dumps(books))
    if books["rejected"] != 0:
        wrong.append("%d events were rejected as malformed" % books["rejected"])
    for target in books["targets"]:
        if target["accepted"] != load["published"] + uncounted:
            wrong.append("%s: accepted %d, published %d" % (target["key"], target["accepted"], load["published"] + uncounted))
    if routers_killed != options.router_kills:
        wrong.append("%d routers were killed, not %d" % (routers_killed, options.router_kills))
    if load["killed"] != options.producer_kills:
        wrong.append("%d producers were killed, not %d" % (load["killed"], options.producer_kills))
    figures = {
        "published": (load["published"] + uncounted) * len(ends),
        "stored": sum(end["stored"] for end in ends.values()),
        "missing": sum(end["missing"] for end in ends.values()),
        "duplicated": sum(end["duplicates"] for end in ends.values()),
        "router_kills": routers_killed,
        "producer_kills": load["killed"],
        "seed": options.seed,
        "destinations": ends,
    }
    return figures, wrong


def main():
    parser = argparse.ArgumentParser(prog="scripts/torture", description="Kills routers and producers at random under load "
                                     "and counts every event at every destination.")
    parser.add_argument("--router-kills", type=int, default=1000, help="SIGKILLs of the router (default 1000)")
    parser.add_argument("--producer-kills", type=int, default=5000, help="SIGKILLs of producers (default 5000)")
    parser.add_argument("--seed", type=int, default=None, help="of the pauses between kills and of the events (default random)")
    parser.add_argument("--producers", type=int, default=4, help="producers at a time (default 4)")
    parser.add_argument("--rate", type=int, default=8000, help="events/s of all producers together (default 8000)")
    parser.add_argument("--producer-pause", type=float, default=0.08, help="seconds between two producers' deaths, on average "
                        "(default 0.08)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object before the last line")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.router_kills < 0 or options.producer_kills < 0 or options.producers < 1 or options.rate < 1:
        parser.error("numbers must not be negative, and there must be a producer and a rate")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "little")
    say(options, "seed %d" % options.seed)
    chance = random.Random(options.seed)
    try:
        with harness.Stack(options.build, tls=True, name="torture", keep=options.keep) as stack:
            stack.start_sink("--latency", "5ms", "--seed", str(options.seed), *FAULTS)
            stack.write_configuration(file_destination=True,
                                      settings="router.lane_bytes: %s\nrouter.lane_bytes_max: %s\negress.in_flight_max: %d\n"
                                               "egress.retry_throttle_base_ms: 100" %
                                               (LANE_BYTES, LANE_BYTES, IN_FLIGHT_MAX))
            stack.start_router()
            ledger = stack.path("published.json")
            load, killed = storm(options, stack, chance, ledger)
            figures, wrong = verdict(options, stack, load, killed, ledger)
            status = stack.stop("router")
            if status != 0:
                wrong.append("the service ended with status %d after SIGTERM" % status)
            if wrong:
                raise harness.Failure("; ".join(wrong))
    except harness.Failure as failure:
        print("torture: FAILED (seed %d): %s" % (options.seed, failure), flush=True)
        return 1
    if options.json:
        print(json.dumps(figures))
    print("torture: published %(published)d stored %(stored)d missing %(missing)d duplicated %(duplicated)d" % figures, flush=True)
    return 0


sys.exit(main())
