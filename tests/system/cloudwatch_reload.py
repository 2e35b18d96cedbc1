"""CloudWatch destinations that are changed, removed and named again, by reloads, under a SIGKILL of the router, over an end with
CloudWatch away, and over a change of the settings' region and account: each sum in `sendring sink` is what was published while the
destination was there."""
import collections
import json
import os
import signal

import system


def write_sets(stack, namespaces):
    """`namespaces`: {namespace: its dimension}; their periods are so long that only an end closes them."""
    destinations = [{"EventDestinationName": "file", "EventDestination": {
        "Enabled": True, "MatchingEventTypes": system.ALL_TYPES,
        "Sendring": {"FileDestination": {"Path": stack.path("events.ndjson")}}}}]
    for namespace, dimension in namespaces.items():
        destinations.append({"EventDestinationName": namespace, "EventDestination": {
            "Enabled": True, "MatchingEventTypes": system.ALL_TYPES,
            "CloudWatchDestination": {"DimensionConfigurations": [
                {"DimensionName": dimension, "DimensionValueSource": "MESSAGE_TAG", "DefaultDimensionValue": "none"}]},
            "Sendring": {"Namespace": namespace, "Period": "1h"}}})
    text = json.dumps({"ConfigurationSets": [{"ConfigurationSetName": name, "EventDestinations": destinations}
                                             for name in system.SETS]})
    with open(stack.sets_file + ".new", "w") as out:
        out.write(text)
    os.rename(stack.sets_file + ".new", stack.sets_file)


def reload(stack):
    done = stack.stat()["counters"]["control_reloads"]
    os.kill(stack.router_pid(), signal.SIGHUP)
    system.wait_for("the reload", lambda: stack.stat()["counters"]["control_reloads"] > done, 20)


def sums(stack):
    seen = collections.Counter()
    for entry in stack.sink_report()["metrics"]:
        seen[entry["namespace"]] += int(entry["sum"])
    return dict(seen)


def expect(stack, what, wanted):
    try:
        system.wait_for(what, lambda: sums(stack) == wanted, 10)
    except system.Failure:
        pass  # the check shows the sums
    system.check(what, sums(stack), wanted)


def publish(stack, events, name):
    def lines():
        try:
            with open(stack.path("events.ndjson"), "rb") as file:
                return sum(1 for _ in file)
        except FileNotFoundError:
            return 0
    wanted = lines() + events
    stack.loadgen("--events", str(events), "--rate", "1000", ledger=name)
    system.wait_for("%d events in the file" % wanted, lambda: lines() == wanted, 10)


def restart_without_cloudwatch(stack, edit=None):
    """The router ends while nobody takes what it has counted, and starts again when somebody does."""
    stack.stop("sink")
    system.check("service ends well on SIGTERM", stack.stop("router"), 0)
    if edit is not None:
        with open(stack.settings) as file:
            text = file.read()
        with open(stack.settings, "w") as file:
            file.write(edit(text))
    stack.start_sink(port=int(stack.sink_address.split(":")[1]))
    stack.start_router()


def elsewhere(text):
    return text.replace("us-east-1", "eu-west-1").replace("123456789012", "210987654321")


def main(build, quick):
    with system.Stack(build, name="cloudwatch-reload") as stack:
        stack.start_sink()
        stack.write_configuration(firehose=False, file_destination=True,
                                  settings="egress.retry_throttle_base_ms: 200\negress.retry_max_ms: 300\n"
                                           "egress.endpoints: {cloudwatch: \"%s\"}" % stack.endpoint)
        write_sets(stack, {"Test-a": "ses:configuration-set", "Test-b": "tenant"})
        stack.start_router()
        publish(stack, 300, "first")
        write_sets(stack, {"Test-a": "tenant"})
        reload(stack)
        expect(stack, "one changed, one removed", {"Test-a": 300, "Test-b": 300})
        publish(stack, 200, "second")
        write_sets(stack, {"Test-a": "ses:configuration-set", "Test-b": "tenant"})
        reload(stack)
        expect(stack, "changed back", {"Test-a": 500, "Test-b": 300})
        publish(stack, 100, "third")
        write_sets(stack, {"Test-c": "tenant"})
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)
        system.wait_for("another router", lambda: stack.router_pid() not in (None, pid), 20)
        expect(stack, "changed while the router was killed", {"Test-a": 600, "Test-b": 400})
        publish(stack, 50, "fourth")
        restart_without_cloudwatch(stack)
        expect(stack, "a period that waited in the outbox", {"Test-a": 600, "Test-b": 400, "Test-c": 50})
        publish(stack, 30, "fifth")
        restart_without_cloudwatch(stack, elsewhere)
        expect(stack, "a period of the region and account before", {"Test-a": 600, "Test-b": 400, "Test-c": 80})
        publish(stack, 20, "sixth")
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)
        expect(stack, "a period of the region and account now", {"Test-a": 600, "Test-b": 400, "Test-c": 100})


system.run(main)
