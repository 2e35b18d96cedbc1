#!/usr/bin/env python3
"""How long after its publish is an event at the endpoint, when there is little to do?

Goal: at most the linger (egress.linger_ms, which a request waits for more events) and 1 ms at the 99th percentile. Method: the
real `sendring run` and a sink over TLS; two producers publish 200 Send events a second together, evenly. Sink and loadgen read one
clock, in microseconds; the sink tells to 10: of each linger the median and the 99th percentile of some 2,000 events, from before
the event is made until its request has been read. What stands as the floor is a reference: the linger, which the first event of
a request waits for in full; without a linger 1 ms.

Not measured: a network, an endpoint that takes time to answer, connections that have to be made first (one is warm)."""

import json
import time

import running
from running import harness, put

NAME = "arrival"
LINGERS_MS = (100, 20, 0)
RATE = 200


def latencies(stack):
    """What the sink has seen since it was asked last."""
    return json.loads(stack.tell_sink("latencies"))


def load(stack, ledger, seconds):
    return stack.loadgen("--producers", "2", "--mix", "send", "--rate", str(RATE), "--seconds", str(seconds), ledger=ledger)["published"]


def main(options):
    for linger_ms in LINGERS_MS:
        with harness.Stack(options.build, tls=True, name="bench-arrival") as stack:
            stack.start_sink()
            stack.write_configuration(settings=f"egress.linger_ms: {linger_ms}ms")
            stack.start_router()
            load(stack, "warm.json", 0.2 if options.smoke else 1)
            stack.wait_drained()
            latencies(stack)
            published = load(stack, "load.json", 0.5 if options.smoke else 10)
            stack.wait_drained()
            time.sleep(0.1)  # the sink counts behind its answer
            seen = latencies(stack)
            if seen["count"] != published:
                raise harness.Failure(f"{seen['count']} of {published} events arrived")
            for what in ("p50", "p99"):
                put(NAME, f"{what}_ms_linger_{linger_ms}", seen[what + "_us"] / 1000, "ms", (linger_ms or 1) if what == "p99" else None)


running.run(main, NAME, __doc__)
