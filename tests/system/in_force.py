"""What is in force stays in force: a destination that cannot be opened any more when a router was killed waits, and the others go on.
And what waits for a policy whose key was replaced or removed is delivered by it.

usage: in_force.py --build BUILD [--quick]
"""

import os
import signal

import system


def killed(stack):
    """Kills the router, and waits for the next one to be ready for producers."""
    pid = stack.router_pid()
    os.kill(pid, signal.SIGKILL)
    system.wait_for("a new router", lambda: stack.router_pid() not in (None, 0, pid), 20)


def sink_has(stack, events, seconds=20):
    system.wait_for("%d events at Firehose" % events, lambda: stack.sink_events() >= events, seconds)
    system.check("events at Firehose", stack.sink_events(), events)


def refused_reload(build):
    """A file that is a folder: the reload is refused, and so are the sets by the router after a crash."""
    with system.Stack(build, name="in-force-refused") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 1s")
        stack.start_router()
        stack.loadgen("--events", "50", "--rate", "500")
        folder = ("  - {Name: folder, Enabled: true, MatchingEventTypes: [SEND], Sendring: {FileDestination: {Path: %s}}}\n"
                  % stack.path("state"))
        with open(stack.sets_file) as file:
            lines = file.read().splitlines()
        with open(stack.sets_file, "w") as file:
            file.write("".join(line + "\n" + (folder if "DeliveryStreamArn" in line else "") for line in lines))
        os.kill(stack.router_pid(), signal.SIGHUP)
        system.wait_for("the refusal", lambda: stack.stat()["counters"]["control_reloads_refused"] == 1, 10)
        killed(stack)
        stack.loadgen("--events", "50", "--rate", "500", ledger="after.json")
        sink_has(stack, 100)
        system.check("the refusal is counted", stack.stat()["counters"]["control_reloads_refused"], 1)
        system.check("and told", "what was in force before the crash stays in force" in stack.log("router", 400), True)
        system.check("ends well on SIGTERM", stack.stop("router"), 0)


def link(build):
    """The file of a destination became a link. Firehose goes on, over a kill and a start; the file's events wait for it."""
    with system.Stack(build, name="in-force-link") as stack:
        stack.start_sink()
        stack.write_configuration(file_destination=True, settings="shutdown.drain_seconds: 1s")
        stack.start_router()
        stack.loadgen("--events", "50", "--rate", "500")
        path, aside = stack.path("events.ndjson"), stack.path("aside.ndjson")
        sink_has(stack, 50)
        system.wait_for("the file", lambda: lines_of(path) == 50, 10)
        os.rename(path, aside)
        os.symlink(aside, path)
        killed(stack)
        stack.loadgen("--events", "50", "--rate", "500", ledger="killed.json")
        sink_has(stack, 100)
        system.check("ends well on SIGTERM", stack.stop("router"), 0)
        stack.start_router()
        stack.loadgen("--events", "50", "--rate", "500", ledger="started.json")
        sink_has(stack, 150)
        system.check("told", "is a symbolic link" in stack.log("router", 400), True)
        system.check("nothing went through the link", lines_of(aside), 50)
        os.unlink(path)
        system.wait_for("the file's events", lambda: os.path.exists(path) and lines_of(path) == 100, 15)
        system.check("shed", sum(t["shed"] for t in stack.ledger()["targets"]), 0)


def write_key(stack, letter):
    path = stack.path("key.new")
    with open(path, "w") as file:
        file.write(letter * 32)
    os.chmod(path, 0o600)
    os.rename(path, stack.path("key"))


def reload(stack):
    done = stack.stat()["counters"]["control_reloads"]
    os.kill(stack.router_pid(), signal.SIGHUP)
    system.wait_for("the reload", lambda: stack.stat()["counters"]["control_reloads"] > done, 20)


def write_sets(stack, named=True):
    """One stream gets everything as it is, another one bounces under a policy; or nobody is named."""
    every = "SEND, DELIVERY, BOUNCE, COMPLAINT, OPEN, CLICK, REJECT, RENDERING_FAILURE, DELIVERY_DELAY, SUBSCRIPTION"
    policy = "Sendring: {Redaction: {Addresses: hmac, KeyFile: %s}}" % stack.path("key")
    with open(stack.sets_file, "w") as file:
        file.write("ConfigurationSets:\n")
        for name in system.SETS:
            file.write("- ConfigurationSetName: %s\n" % name)
            if not named:
                continue
            file.write("  EventDestinations:\n")
            for destination, types, arn, more in (("plain", every, system.STREAM_ARN, ""),
                                                  ("hidden", "BOUNCE", system.STREAM_ARN + "2", ", " + policy)):
                file.write("  - {Name: %s, Enabled: true, MatchingEventTypes: [%s], KinesisFirehoseDestination: "
                           "{DeliveryStreamArn: %s}%s}\n" % (destination, types, arn, more))


def keys(build, replaced):
    """Firehose is away; the key is replaced, or removed with the destinations. All is delivered, and the old key goes."""
    with system.Stack(build, name="in-force-keys") as stack:
        stack.start_sink()
        stack.tell_sink("set down on")
        stack.write_configuration(settings="shutdown.drain_seconds: 1s\negress.retry_max_ms: 1000")
        write_sets(stack)
        write_key(stack, "a")
        stack.start_router()
        stack.loadgen("--events", "500", "--rate", "5000")
        hidden = [t["waiting"] for t in stack.ledger()["targets"] if "redaction=" in t["target"]]
        system.check("bounces wait", sum(hidden), lambda waiting: waiting > 0)
        if replaced:
            write_key(stack, "b")
            reload(stack)
        else:
            write_sets(stack, named=False)
            reload(stack)
            os.unlink(stack.path("key"))
        killed(stack)
        system.check("ends well on SIGTERM", stack.stop("router"), 0)
        stack.start_router()
        stack.tell_sink("set down off")
        system.wait_for("all to be delivered", lambda: sum(t["waiting"] for t in stack.ledger()["targets"]) == 0, 20)
        system.check("shed", sum(t["shed"] for t in stack.ledger()["targets"]), 0)
        system.check("events at Firehose", stack.sink_events(), 500)
        plans = stack.path("state", "plans")
        kept = 1 if replaced else 0
        system.wait_for("the old key to go", lambda: sum(n.endswith(".keys") for n in os.listdir(plans)) == kept, 20)
        system.check("no key is told", ("a" * 32).encode().hex() in stack.log("router", 1000), False)


def lines_of(path):
    with open(path) as file:
        return sum(1 for _ in file)


def main(build, quick):
    del quick
    refused_reload(build)
    link(build)
    keys(build, True)
    keys(build, False)


system.run(main)
