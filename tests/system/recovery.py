"""After an outage the backlog goes out oldest first at >= 90 % of its steady state, from within one probe interval
(egress.retry_max_ms) of the endpoint's return."""
import json
import statistics
import time

import system

RETRY_MAX_S = 5.0
LATENCY_MS = 100  # of each answer: how much goes depends on how many requests are in flight, 500 events each
EVENTS = 600000


def loadgen(stack, ledger, events, run):
    return stack.loadgen("--producers", "1", "--events", str(events), "--mix", "send", "--run-id", run, ledger=ledger, seconds=240)


def sample(stack, seconds, done):
    """[(seconds, events stored)] until `done` events are there."""
    begun, samples = time.monotonic(), []
    while time.monotonic() - begun < seconds:
        events = json.loads(stack.tell_sink("stats"))["events_new"]
        samples.append((time.monotonic() - begun, events))
        if events >= done:
            return samples
        time.sleep(0.05)
    raise system.Failure("only %d of %d events in %d s" % (samples[-1][1], done, seconds))


def rate(samples, begin, end):
    """Events a second between two times."""
    inside = [s for s in samples if begin <= s[0] <= end]
    return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0])


def at(samples, events):
    """When so many were there."""
    return [s[0] for s in samples if s[1] >= events][0]


def drain(stack, what, before):
    """The endpoint returns: samples from then on."""
    stack.tell_sink("set down off")
    samples = sample(stack, 120, before + EVENTS)
    first = at(samples, before + 1)
    last = samples[-1][0]
    system.check("%s: seconds to the first event" % what, round(first, 2), lambda s: s <= RETRY_MAX_S + 0.5)
    # What it does in the middle of the backlog, where nothing begins or ends, in the median second.
    middle = [rate(samples, t, t + 1) for t in (first + 0.25 * i for i in range(4, int((last - first - 1.5) * 4)))]
    steady = statistics.median(middle)
    early = rate(samples, first, first + RETRY_MAX_S)
    ramp = [t for t in (first + 0.1 * i for i in range(60)) if rate(samples, t, t + 0.5) >= 0.9 * steady][0] - first
    system.check("%s: seconds from there to 90 %% of it" % what, round(ramp, 1), lambda s: s <= 1)
    print("  %s: %d events in %.1f s, %.0f/s when it is steady, %.0f/s in the first %.1f s" %
          (what, EVENTS, last - first, steady, early, RETRY_MAX_S), flush=True)
    return steady, early


def main(build, quick):
    with system.Stack(build, name="recovery") as stack:
        stack.start_sink("--latency", "%dms" % LATENCY_MS)
        stack.write_configuration(settings="router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB\negress.in_flight_max: 12")
        with open(stack.sets_file) as sets:
            text = sets.read()
        with open(stack.sets_file, "w") as sets:
            sets.write(text.replace(system.STREAM_ARN + "\n", system.STREAM_ARN + "\n      Sendring: {Packing: none}\n"))
        stack.start_router()
        before = 0
        for number in range(1 if quick else 3):
            stack.tell_sink("set down on")
            loadgen(stack, "outage-%d.json" % number, EVENTS, "%08x" % (0xc0000 + number))
            time.sleep(10)  # until the interval is the longest
            waiting = stack.ledger()["targets"][0]["waiting"]
            system.check("backlog", waiting, lambda n: n >= EVENTS)
            steady, early = drain(stack, "outage %d" % number, before)
            system.check("share of it in the first probe interval after it", round(early / steady, 2), lambda share: share >= 0.9)
            before += EVENTS
            stack.wait_drained(60)  # its last answers
        books = stack.wait_drained(60)
        system.check("ledger balanced", books["balanced"], True)
        report = stack.sink_report(*[stack.path("outage-%d.json" % n) for n in range(1 if quick else 3)])
        system.check("missing", report["missing"], 0)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
