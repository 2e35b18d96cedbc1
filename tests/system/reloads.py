"""A hundred reloads under load, between two sets of rules that both send every event to the same stream and the same file: by one
destination without a filter, and by several whose filters share the events out. Nothing is lost, nothing is routed twice."""
import json
import os
import signal
import subprocess

import system

# Each pair says of every event that exactly one of the two matches.
SHARES = [
    ({"eventType": ["Send", "Open", "Click"]}, {"eventType": [{"anything-but": ["Send", "Open", "Click"]}]}),
    ({"mail": {"messageId": [{"wildcard": "*7-*"}]}}, {"mail": {"messageId": [{"anything-but": {"wildcard": "*7-*"}}]}}),
    ({"$or": [{"bounce": {"bounceType": [{"exists": True}]}}, {"delivery": {"recipients": [{"exists": True}]}}]},
     {"bounce": {"bounceType": [{"exists": False}]}, "delivery": {"recipients": [{"exists": False}]}}),
]


def destination(name, target, sharing=None):
    ours = dict(target.get("Sendring", {}))
    if sharing is not None:
        ours["Filter"] = sharing
    definition = {"Enabled": True, "MatchingEventTypes": system.ALL_TYPES}
    definition.update(target)
    if ours:
        definition["Sendring"] = ours
    return {"EventDestinationName": name, "EventDestination": definition}


def write_sets(stack, share):
    """`share`: None, or which pair of filters shares the events out."""
    targets = {"stream": {"KinesisFirehoseDestination": {"DeliveryStreamArn": system.STREAM_ARN}},
               "file": {"Sendring": {"FileDestination": {"Path": stack.path("events.ndjson")}}}}
    destinations = []
    for name, target in targets.items():
        if share is None:
            destinations.append(destination(name, target))
        else:
            destinations += [destination("%s-%d" % (name, i), target, one) for i, one in enumerate(SHARES[share])]
    text = json.dumps({"ConfigurationSets": [{"ConfigurationSetName": name, "EventDestinations": destinations}
                                             for name in system.SETS]})
    with open(stack.sets_file + ".new", "w") as out:
        out.write(text)
    os.rename(stack.sets_file + ".new", stack.sets_file)


def main(build, quick):
    times = 20 if quick else 100
    with system.Stack(build, name="reloads") as stack:
        stack.start_sink()
        stack.write_configuration(file_destination=True)
        write_sets(stack, None)
        stack.start_router()
        ledger = stack.path("published.json")
        producers = subprocess.Popen(stack.loadgen_arguments(ledger, "--producers", "2", "--rate", "10000", "--seconds", "600",
                                                             "--run-id", "0000e10b"),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            pid = stack.router_pid()
            done = stack.stat()["counters"]["control_reloads"]
            for i in range(times):
                write_sets(stack, None if i % 2 else i // 2 % len(SHARES))
                os.kill(pid, signal.SIGHUP)
                system.wait_for("reload %d" % (i + 1),
                                lambda want=done + i + 1: stack.stat()["counters"]["control_reloads"] >= want, 20)
        finally:
            producers.send_signal(signal.SIGTERM)
            out, _ = producers.communicate(timeout=60)
        load = json.loads(out.strip().splitlines()[-1])
        books = stack.wait_drained(60)
        report = stack.sink_report(ledger)
        counters = stack.stat()["counters"]
        system.check("reloads", counters["control_reloads"] - done, times)
        system.check("published under them", load["published"], lambda n: n > 1000 * times // 10)
        system.check("missing in the stream", report["missing"], 0)
        system.check("twice in the stream", report["duplicates"], 0)
        ids = {}
        with open(stack.path("events.ndjson"), encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                key = (event["eventType"], event["mail"]["messageId"])
                ids[key] = ids.get(key, 0) + 1
        system.check("events in the file", len(ids), load["published"])
        system.check("twice in the file", sum(n - 1 for n in ids.values()), 0)
        system.check("unmatched", counters["router_unmatched"], 0)
        system.check("routes: two an event", counters["router_routes"], 2 * load["published"])
        system.check("ledger balanced", books["balanced"], True)
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
