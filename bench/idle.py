#!/usr/bin/env python3
"""What does a router cost that has nothing to do, little, or the same in bursts; and how much memory does it take?

Goal: CPU and memory of router and keeper together (the keeper only waits). Method: the real `sendring run` with a sink over
TLS, as processes of their own. CPU is that of the processes' own clocks. idle: nothing is attached; silent_16: 16 producers
are attached that publish one event in all; at_N_per_s: so many events a second, evenly. burst: as many events a second, but
each second's within its first 50 ms. CPU per million events counts until the last one is delivered; what stands as the floor of
burst is a reference, as many events at the same mean rate, evenly: what bursts cost beyond that is the ratio. All of these take
turns, which begin with another one each; medians count. Peak memory is that of the router, after as many events as fast as they
go; it has to stay below the budget that the router prints at start.

Not measured: producers and sink, cold caches after a long rest. On a machine that does other work as well the figures are
higher, since its caches are."""

import statistics
import time

import running
from running import harness, put

NAME = "idle"
BURST_RATE = 20000


def percent(pids, seconds):
    """(percent of a core, wake-ups a second) while nothing is changed."""
    begun, cpu, woken = time.monotonic(), running.cpu_s(*pids), running.wake_ups(*pids)
    time.sleep(seconds)
    passed = time.monotonic() - begun
    return (running.cpu_s(*pids) - cpu) / passed * 100, (running.wake_ups(*pids) - woken) / passed


# What is attached, or comes, while the router has little to do; None: nothing.
LITTLE = {
    "idle": None,
    "silent_16": ("--producers", "16", "--rate", "0.01"),
    "at_10_per_s": ("--producers", "4", "--rate", "10"),
    "at_1000_per_s": ("--producers", "4", "--rate", "1000"),
}
BUSY = {"evenly": (), "burst": ("--burst", "50:950")}


def in_turns(turn, names):
    """The names, from another one on in each turn."""
    at = turn % len(names)
    return names[at:] + names[:at]


def little(stack, pids, seconds, settle_s, turns, ledgers):
    seen = {what: [] for what in LITTLE}
    for turn in range(turns):
        for what in in_turns(turn, list(LITTLE)):
            load = None
            if LITTLE[what] is not None:
                ledgers.append(f"{what}-{turn}.json")
                load = running.start_load(stack, ledgers[-1], "--seconds", str(seconds + 2 * settle_s), *LITTLE[what])
            time.sleep(settle_s)
            seen[what].append(percent(pids, seconds))
            if load is not None:
                running.finish_load(load)
    for what, both in seen.items():
        put(NAME, what + "_cpu", statistics.median(used for used, _ in both), "% of a core")
        put(NAME, what + "_wake_ups", statistics.median(woken for _, woken in both), "1/s")


def cpu_per_million(stack, pids, ledger, seconds, flags):
    stack.wait_drained()
    before = running.cpu_s(*pids)
    published = running.finish_load(running.start_load(stack, ledger, "--rate", str(BURST_RATE), "--seconds", str(seconds), *flags))
    stack.wait_drained()
    return (running.cpu_s(*pids) - before) / published * 1e6


def busy(stack, pids, seconds, turns, ledgers):
    seen = {what: [] for what in BUSY}
    for turn in range(turns):
        for what in in_turns(turn, list(BUSY)):
            ledgers.append(f"{what}-{turn}.json")
            seen[what].append(cpu_per_million(stack, pids, ledgers[-1], seconds, BUSY[what]))
    evenly, burst = statistics.median(seen["evenly"]), statistics.median(seen["burst"])
    put(NAME, "evenly_cpu_s_per_million", evenly, "s/1e6 events")
    put(NAME, "burst_cpu_s_per_million", burst, "s/1e6 events", evenly)


def main(options):
    seconds, settle_s, turns = (0.2, 0.2, 2) if options.smoke else (5, 1, 3)
    with harness.Stack(options.build, tls=True, name="bench-idle") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        pids = running.own_pids(stack)
        ledgers = []
        little(stack, pids, seconds, settle_s, turns, ledgers)
        busy(stack, pids, seconds, turns, ledgers)
        # As fast as it goes: what it takes then is its peak.
        ledgers.append("peak.json")
        running.finish_load(running.start_load(stack, ledgers[-1], "--events", "20000" if options.smoke else "2000000"))
        stack.wait_drained(120)
        peak, budget = harness.status_kib(pids[0], "VmHWM") / 1024, stack.stat()["memory_budget_bytes"] / 1024 / 1024
        put(NAME, "peak_rss", peak, "MiB")
        put(NAME, "memory_budget", budget, "MiB")
        if peak > budget:
            raise harness.Failure(f"the router took {peak:.0f} MiB, above its budget of {budget:.0f}")
        report = stack.sink_report(*map(stack.path, ledgers))
        if report["missing"] != 0:
            raise harness.Failure(f"{report['missing']} events are missing")


running.run(main, NAME, __doc__)
