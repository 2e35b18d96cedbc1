"""What an outage, a crash and an operator's change together must not lose: the router comes back with a full journal."""
import json
import os
import signal
import subprocess
import time

import system

SMALL = "journal.segment_bytes: 1MiB\njournal.size_bytes_max: 4MiB\nshutdown.drain_seconds: 1s"


def fill(stack, ledger, producers=1):
    """Publishes into a full journal until the lanes are full as well and the producers give up. Returns what was published."""
    done = subprocess.run(stack.loadgen_arguments(stack.path(ledger), "--producers", str(producers), "--seconds", "60",
                                                  "--rate", "20000", "--flush-timeout", "0", "--stall-timeout", "0.5"),
                          capture_output=True, text=True, timeout=120)
    load = json.loads(done.stdout.strip().splitlines()[-1])
    system.check("the lanes fill up", load["full"], lambda n: n > 0)
    return load["published"]


def delivered(stack, ledger):
    """What lanes still hold is in no ledger yet: the sink says when everything is there."""
    try:
        system.wait_for("everything published", lambda: stack.sink_report(stack.path(ledger))["missing"] == 0, 30, 0.2)
    except system.Failure:
        pass
    report = stack.sink_report(stack.path(ledger))
    system.check("missing", report["missing"], 0)
    system.check("ledger balanced", stack.wait_drained(10)["balanced"], True)
    return report


def full_journal_and_a_crash(build):
    with system.Stack(build, name="survival-full") as stack:
        stack.start_sink()
        stack.tell_sink("set down on")
        stack.write_configuration(settings=SMALL)
        stack.start_router()
        published = fill(stack, "full.json")
        waiting = stack.ledger()["targets"][0]["waiting"]
        system.check("waiting in a full journal, of %d published" % published, waiting, lambda n: 0 < n < published)
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)
        system.wait_for("a new router", lambda: stack.router_pid() not in (0, pid), 20)
        stack.tell_sink("set down off")
        system.check("delivered", delivered(stack, "full.json")["distinct"], published)


def full_journal_and_an_end(build):
    with system.Stack(build, name="survival-end") as stack:
        stack.start_sink()
        stack.tell_sink("set down on")
        stack.write_configuration(settings=SMALL)
        stack.start_router()
        published = fill(stack, "end.json", producers=3)
        system.check("ends well on SIGTERM", stack.stop("router"), 0)
        system.check("kept in a journal beyond its limit", stack.ledger()["targets"][0]["waiting"], published)
        stack.tell_sink("set down off")
        stack.start_router()
        delivered(stack, "end.json")


def fewer_shards(build):
    with system.Stack(build, name="survival-shards") as stack:
        stack.start_sink()
        stack.tell_sink("set down on")
        stack.write_configuration(settings="router.shards_count: 2\nshutdown.drain_seconds: 1s")
        stack.start_router()
        stack.loadgen("--producers", "2", "--events", "2000", "--rate", "4000", ledger="shards.json")
        system.check("ends well on SIGTERM", stack.stop("router"), 0)
        system.check("waiting in two logs", stack.ledger()["targets"][0]["waiting"], 2000)
        stack.tell_sink("set down off")
        stack.write_configuration()
        stack.start_router(env={"AWS_CREDENTIAL_EXPIRATION": "2026-01-01T00:00:00Z"})
        delivered(stack, "shards.json")
        system.check("credentials that have ended are told", "seconds_left=0" in stack.log("router"), True)


def other_targets(stack, change, name):
    """Events wait; then no set names their target any more: it is delivered all the same, over restarts and crashes."""
    stack.tell_sink("set down on")
    stack.loadgen("--producers", "1", "--events", "1000", ledger=name)
    change()
    for _ in range(2):
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)
        system.wait_for("a new router", lambda: stack.router_pid() not in (0, pid), 20)
    system.check("waiting", sum(t["waiting"] for t in stack.ledger()["targets"]), 1000)
    stack.tell_sink("set down off")
    delivered(stack, name)
    system.check("shed", sum(t["shed"] for t in stack.ledger()["targets"]), 0)
    system.wait_for("copies of the sets that nobody needs to go", lambda: len(os.listdir(stack.path("state", "plans"))) == 1)


def packing_and_removal(build):
    with system.Stack(build, name="survival-targets") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 1s\negress.retry_max_ms: 1000")
        stack.start_router()

        def packing():
            system.check("ends well on SIGTERM", stack.stop("router"), 0)
            good = open(stack.sets_file).read()
            restore(stack.sets_file, good.replace("      KinesisFirehose", "      Sendring: {Packing: none}\n      KinesisFirehose"))
            stack.start_router()

        def removal():
            before = stack.stat()["counters"]["control_reloads"]
            stack.write_configuration(file_destination=True, firehose=False)
            edit(stack.settings, "egress: {retry_max_ms: 1000, endpoints: {firehose: \"%s\"}}\n" % stack.endpoint)
            stack.processes["router"].send_signal(signal.SIGHUP)
            system.wait_for("the reload", lambda: stack.stat()["counters"]["control_reloads"] > before, 10)

        other_targets(stack, packing, "packing.json")
        other_targets(stack, removal, "removal.json")


def into_lanes(stack, ledger, producers=2):
    """Publishes into the lanes of producers that are gone then, while the router is stopped. Returns its pid."""
    pid = system.wait_for("a router", stack.router_pid, 20)
    load = subprocess.Popen(stack.loadgen_arguments(stack.path(ledger), "--producers", str(producers), "--rate", "500",
                                                    "--events", "500", "--flush-timeout", "0"),
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    system.wait_for("the producers", lambda: stack.stat()["counters"]["lanes_now"] == producers, 10)
    os.kill(pid, signal.SIGSTOP)
    load = json.loads(load.communicate(timeout=30)[0].strip().splitlines()[-1])
    system.check("published", load["published"], 500)
    return pid


def edit(path, text):
    """Appends to a configuration file; returns what it was."""
    with open(path) as was:
        before = was.read()
    with open(path, "a") as out:
        out.write(text)
    return before


def restore(path, text):
    with open(path, "w") as out:
        out.write(text)


def mistakes_and_a_crash(build):
    with system.Stack(build, name="survival-mistakes") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        keeper = stack.processes["router"]

        pid = into_lanes(stack, "mistakes.json")
        good = edit(stack.settings, "router: {lanes_maximum: 1}\n")
        os.kill(pid, signal.SIGKILL)
        system.wait_for("the mistake to be told", lambda: "now=\"events wait in their lanes" in stack.log("router"), 10)
        system.check("the keeper goes on", keeper.poll(), None)
        # Fewer lanes than the keeper holds are no mistake: it is new producers who are refused.
        restore(stack.settings, good + "router: {lanes_max: 1}\n")
        delivered(stack, "mistakes.json")

        # The sets: what was in force stays in force.
        pid = into_lanes(stack, "sets.json", producers=1)
        good = edit(stack.sets_file, "- ConfigurationSetNam: broken\n")
        os.kill(pid, signal.SIGKILL)
        delivered(stack, "sets.json")
        system.check("said so", "stays in force" in stack.log("router"), True)
        restore(stack.sets_file, good)

        pid = into_lanes(stack, "ending.json", producers=1)
        good = edit(stack.settings, "router: {lanes_maximum: 1}\n")
        os.kill(pid, signal.SIGKILL)
        system.wait_for("the keeper to back off", lambda: "back_off_ms=500" in stack.log("router", 3), 10)
        restore(stack.settings, good)
        system.check("ends well on SIGTERM while no router runs", stack.stop("router"), 0)
        stack.start_router()
        delivered(stack, "ending.json")


def main(build, quick):
    full_journal_and_a_crash(build)
    full_journal_and_an_end(build)
    fewer_shards(build)
    packing_and_removal(build)
    mistakes_and_a_crash(build)


system.run(main)
