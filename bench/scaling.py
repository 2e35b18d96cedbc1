#!/usr/bin/env python3
"""What do more router shards and more egress workers bring, on the cores that there are?

Goal: delivered events a second, and CPU of the router per million of them, with 1 to N shards and workers. Method: the real
`sendring run` with eight streams, which its workers share, a sink over TLS with a thread for each core, four producers as fast
as the lanes take them. A warm-up, then the timed events, from the first publish until the last one is delivered. Floor of the
rate: N times what one shard and one worker did in the same run, with N the smaller of the larger of the two numbers and the
cores: the ratio of a perfect step is 1. Producers and sink share the cores, so that on few of them nothing can be won.

Not measured: the producers' and the sink's own limits, which lie in the rate."""

import os
import time

import running
from running import harness, put

NAME = "scaling"


def shapes(cores):
    """(shards, workers): each alone, and both together."""
    counts = [count for count in (1, 2, 4, 8) if count <= max(cores, 2)]
    return [(1, 1)] + [shape for count in counts[1:] for shape in ((count, 1), (1, count), (count, count))]


def spread_over_streams(stack):
    """Each configuration set has a stream, and so a target, of its own."""
    with open(stack.sets_file, encoding="utf-8") as sets:
        parts = sets.read().split(harness.STREAM_ARN)
    text = parts[0]
    for number, part in enumerate(parts[1:]):
        text += f"{harness.STREAM_ARN}-{number}{part}"
    with open(stack.sets_file, "w", encoding="utf-8") as sets:
        sets.write(text)


def measure(options, cores, shards, workers, events):
    """(events a second, CPU s per million)"""
    with harness.Stack(options.build, tls=True, name="bench-scaling") as stack:
        stack.start_sink("--threads", str(cores))
        stack.write_configuration(settings=f"router.shards_count: {shards}\negress.workers_count: {workers}")
        spread_over_streams(stack)
        stack.start_router()
        stack.loadgen("--events", str(events // 5), ledger="warm-up.json")
        stack.wait_drained(120)
        pid = stack.router_pid()
        cpu, begun = running.cpu_s(pid), time.monotonic()
        published = stack.loadgen("--events", str(events), ledger="timed.json")["published"]
        wanted = published + events // 5
        harness.wait_for("the last event", lambda: stack.stat()["counters"]["egress_delivered"] >= wanted, seconds=120,
                         interval=0.01)
        passed, used = time.monotonic() - begun, running.cpu_s(pid) - cpu
        report = stack.sink_report(stack.path("warm-up.json"), stack.path("timed.json"))
        if report["missing"] != 0:
            raise harness.Failure(f"{report['missing']} events are missing with {shards} shards and {workers} workers")
        return published / passed, used / published * 1e6


def main(options):
    cores = len(os.sched_getaffinity(0))
    events = 10000 if options.smoke else 1000000
    first = None
    for shards, workers in shapes(cores) if not options.smoke else [(2, 2)]:
        rate, cpu = measure(options, cores, shards, workers, events)
        first = first or (rate, cpu)
        label = f"{shards}_shards_{workers}_workers"
        put(NAME, f"events_per_s_{label}", rate, "events/s", first[0] * min(max(shards, workers), cores), rate=True)
        put(NAME, f"cpu_s_per_million_{label}", cpu, "s/1e6 events", first[1])


running.run(main, NAME, __doc__)
