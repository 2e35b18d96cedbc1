#!/usr/bin/env python3
"""What does a router cost that has nothing to do, little, or the same in bursts; and how much memory does it take?

Goal: CPU and memory of router and keeper together (the keeper only waits). Method: the real `sendring run` with a sink over
TLS, as processes of their own. CPU is that of the processes' own clocks. idle: nothing is attached; silent_16: 16 producers
are attached that publish one event in all; at_N_per_s: so many events a second, evenly. burst: as many events a second, but
each second's within its first 50 ms. CPU per million events counts until the last one is delivered; its floor is the same
number of events at the same mean rate, evenly: what bursts cost beyond that is the ratio. Peak memory is that of
the router, after as many events as fast as they go; it has to stay below the budget that the router prints at start.

Not measured: producers and sink, cold caches after a long rest. On a machine that does other work as well the figures are
higher, since its caches are."""

import json
import subprocess
import time

import running
from running import harness, put

NAME = "idle"
BURST_RATE = 20000


def start_load(stack, name, *flags):
    return subprocess.Popen(stack.loadgen_arguments(stack.path(name + ".json"), *flags), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish_load(load):
    out, errors = load.communicate(timeout=300)
    if load.returncode != 0:
        raise harness.Failure(f"loadgen ended with {load.returncode}: {errors}")
    return json.loads(out.strip().splitlines()[-1])["published"]


def percent(pids, seconds):
    """(percent of a core, wake-ups a second) while nothing is changed."""
    begun, cpu, woken = time.monotonic(), running.cpu_s(*pids), running.wake_ups(*pids)
    time.sleep(seconds)
    passed = time.monotonic() - begun
    return (running.cpu_s(*pids) - cpu) / passed * 100, (running.wake_ups(*pids) - woken) / passed


# What is attached, or comes, while the router has little to do.
LITTLE = {
    "silent_16": ("--producers", "16", "--rate", "0.01"),
    "at_10_per_s": ("--producers", "4", "--rate", "10"),
    "at_1000_per_s": ("--producers", "4", "--rate", "1000"),
}


def little(stack, pids, seconds, settle_s):
    time.sleep(settle_s)
    used, woken = percent(pids, seconds)
    put(NAME, "idle_cpu", used, "% of a core")
    put(NAME, "idle_wake_ups", woken, "1/s")
    for what, flags in LITTLE.items():
        load = start_load(stack, what, "--seconds", str(seconds + 2 * settle_s), *flags)
        time.sleep(settle_s)
        used, woken = percent(pids, seconds)
        finish_load(load)
        put(NAME, what + "_cpu", used, "% of a core")
        put(NAME, what + "_wake_ups", woken, "1/s")


def cpu_per_million(stack, pids, name, seconds, *flags):
    stack.wait_drained()
    before = running.cpu_s(*pids)
    published = finish_load(start_load(stack, name, "--rate", str(BURST_RATE), "--seconds", str(seconds), *flags))
    stack.wait_drained()
    return (running.cpu_s(*pids) - before) / published * 1e6


def main(options):
    seconds, settle_s = (0.3, 0.3) if options.smoke else (10, 2)
    with harness.Stack(options.build, tls=True, name="bench-idle") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        pids = running.own_pids(stack)
        little(stack, pids, seconds, settle_s)
        evenly = cpu_per_million(stack, pids, "evenly", seconds)
        burst = cpu_per_million(stack, pids, "burst", seconds, "--burst", "50:950")
        put(NAME, "evenly_cpu_s_per_million", evenly, "s/1e6 events")
        put(NAME, "burst_cpu_s_per_million", burst, "s/1e6 events", evenly)
        # As fast as it goes: what it takes then is its peak.
        finish_load(start_load(stack, "peak", "--events", "20000" if options.smoke else "2000000"))
        stack.wait_drained(120)
        peak, budget = harness.status_kib(pids[0], "VmHWM") / 1024, stack.stat()["memory_budget_bytes"] / 1024 / 1024
        put(NAME, "peak_rss", peak, "MiB")
        put(NAME, "memory_budget", budget, "MiB")
        if peak > budget:
            raise harness.Failure(f"the router took {peak:.0f} MiB, above its budget of {budget:.0f}")
        report = stack.sink_report(*[stack.path(name + ".json") for name in [*LITTLE, "evenly", "burst", "peak"]])
        if report["missing"] != 0:
            raise harness.Failure(f"{report['missing']} events are missing")


running.run(main, NAME, __doc__)
