#!/usr/bin/env python3
"""How long until a backlog is drained, and until a router that was killed is ready again?

Goal: both against the size of what has piled up. Method: the real `sendring run` and a sink over TLS. drain: the sink is away
(connections refused), so many events are published, the sink comes back. first_event_s: from then until it has the first of
them, which is how long the router waits between two tries (egress.retry_max_ms, at most 5 s). drain_s: from the first event to
the last. What stands as its floor is a reference: the same number of events at steady_events_per_s, the best second of the same
router and sink before anything was away, with producers as fast as the lanes take them (which share the cores). Wanted is 90 %
of that rate, a ratio of 1.11. start: with so many events
waiting in the journal, router and keeper are killed (SIGKILL), and `sendring run` is started; start_ms is the time until it
says that it is ready. Its floor is reading the journal's files once, from the page cache, as they are then. Median of three.
At the end every event has come.

Not measured: a journal that has to come from the disk (after a power cut), more than one shard."""

import os
import pathlib
import signal
import statistics
import time

import running
from running import harness, put

NAME = "recovery"


FLAGS = ("--producers", "2")


def publish(stack, name, events):
    return stack.loadgen(*FLAGS, "--events", str(events), ledger=name)["published"]


def sample(stack, events, begin):
    """[(seconds since `begin`, which is called first, events stored since)], until there are so many."""
    before = stack.sink_events()
    begin()
    begun, samples = time.monotonic(), [(0.0, 0)]
    while samples[-1][1] < events:
        now = time.monotonic() - begun
        samples.append((now, stack.sink_events() - before))
        if now > 120:
            raise harness.Failure(f"only {samples[-1][1]} of {events} events were stored within 120 s")
        time.sleep(0.005)
    return samples


def from_first(samples):
    """Without the time in which there was nothing; how long that was."""
    last_before = max(seconds for seconds, count in samples if count == 0)
    return [(seconds - last_before, count) for seconds, count in samples if seconds >= last_before], last_before


def best_rate(samples, window_s):
    """Events a second within the best window of so many seconds, or of all when it took less."""
    best, at = 0, 0
    for seconds, events in samples:
        while seconds - samples[at + 1][0] >= window_s:
            at += 1
        best = max(best, (events - samples[at][1]) / max(seconds - samples[at][0], window_s))
    return best


def measure_steady(stack, events, ledger):
    """Events a second of the best second while nothing is away."""
    loads = []
    samples = sample(stack, events, lambda: loads.append(running.start_load(stack, ledger, *FLAGS, "--events", str(events))))
    running.finish_load(loads[0])
    samples, _ = from_first(samples)
    rate = best_rate(samples + [samples[-1]], min(1.0, samples[-1][0] / 4))
    put(NAME, "steady_events_per_s", rate, "events/s")
    stack.wait_drained()
    return rate


def measure_drain(stack, events, label, ledger, steady):
    stack.tell_sink("set down on")
    published = publish(stack, ledger, events)
    samples, first_s = from_first(sample(stack, published, lambda: stack.tell_sink("set down off")))
    taken = samples[-1][0]
    put(NAME, f"first_event_s_{label}", first_s, "s")
    put(NAME, f"drain_s_{label}", taken, "s", published / steady)
    put(NAME, f"drain_events_per_s_{label}", published / taken, "events/s")
    stack.wait_drained()


def read_journal_ms(stack):
    """Milliseconds of reading all segments, and their MiB."""
    total, buffer = 0, bytearray(1 << 20)
    begun = time.monotonic()
    for path in sorted(pathlib.Path(stack.path("state", "journal")).rglob("*.segment")):
        with open(path, "rb", buffering=0) as file:
            while True:
                got = file.readinto(buffer)
                if not got:
                    break
                total += got
    return (time.monotonic() - begun) * 1000, total / 1024 / 1024


def start_ms(stack):
    """Kills all of the service, starts it, and says how long that took."""
    keeper, router = stack.processes.pop("router"), stack.router_pid()
    for pid in (keeper.pid, router):
        os.kill(pid, signal.SIGKILL)
    keeper.wait()
    harness.wait_for("the router to be gone", lambda: not os.path.exists(f"/proc/{router}"), interval=0.001)
    begun, offset = time.monotonic(), os.path.getsize(stack.path("router.log"))
    process = stack.start("router", [stack.sendring, "run", "--settings", stack.settings])

    def ready():
        if process.poll() is not None:
            raise harness.Failure(f"the router ended with status {process.returncode}:\n{stack.log('router')}")
        with open(stack.path("router.log"), encoding="utf-8", errors="replace") as log:
            log.seek(offset)
            return 'msg="ready"' in log.read()

    harness.wait_for("the router", ready, seconds=60, interval=0.001)
    return (time.monotonic() - begun) * 1000


def measure_start(stack, events, label, ledger, times):
    if events > 0:
        publish(stack, ledger, events)
    reads = [read_journal_ms(stack) for _ in range(4)][1:]
    put(NAME, f"start_ms_{label}", statistics.median([start_ms(stack) for _ in range(times)]), "ms",
        statistics.median([read[0] for read in reads]))
    put(NAME, f"journal_mib_{label}", reads[0][1], "MiB")


def main(options):
    drains = [5000] if options.smoke else [50000, 200000, 800000]
    starts = [5000] if options.smoke else [0, 100000, 400000, 1600000]
    with harness.Stack(options.build, tls=True, name="bench-recovery") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        ledgers = ["steady.json"]
        steady = measure_steady(stack, drains[-1], ledgers[0])
        for events in drains:
            ledgers.append(f"drain-{events}.json")
            measure_drain(stack, events, f"{events // 1000}k", ledgers[-1], steady)
        stack.tell_sink("set down on")
        waiting = 0
        for events in starts:
            ledger = f"start-{events}.json"
            measure_start(stack, events - waiting, f"{events // 1000}k", ledger, 1 if options.smoke else 3)
            if events > 0:
                ledgers.append(ledger)
            waiting = events
        stack.tell_sink("set down off")
        stack.wait_drained(120)
        report = stack.sink_report(*[stack.path(ledger) for ledger in ledgers])
        if report["missing"] != 0:
            raise harness.Failure(f"{report['missing']} events are missing")


running.run(main, NAME, __doc__)
