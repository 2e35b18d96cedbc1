"""SIGTERM with an endpoint that is down keeps the rest in the journal; the next start delivers it; SIGHUP reloads under load
lose nothing; a mistake in the new configuration keeps the old one in force."""
import json
import os
import signal
import subprocess
import time

import system


def keeps_the_rest(stack):
    stack.tell_sink("set down on")
    load = stack.loadgen("--producers", "2", "--events", "50000", "--rate", "25000", "--run-id", "0000beef", ledger="kept.json")
    system.check("published while down", load["published"], 50000)
    begun = time.monotonic()
    system.check("router ends well on SIGTERM", stack.stop("router"), 0)
    system.check("within the drain deadline", round(time.monotonic() - begun, 1), lambda s: s < 8)
    waiting = stack.ledger()["targets"][0]["waiting"]
    system.check("kept in the journal", waiting, 50000)
    stack.tell_sink("set down off")
    stack.start_router(name="router")
    books = stack.wait_drained(60)
    report = stack.sink_report(stack.path("kept.json"))
    system.check("missing", report["missing"], 0)
    system.check("duplicated", report["duplicates"], 0)
    system.check("ledger balanced", books["balanced"], True)


def reloads(stack, times):
    ledger = stack.path("reload.json")
    producers = subprocess.Popen(stack.loadgen_arguments(ledger, "--producers", "2", "--rate", "10000", "--seconds", "600",
                                                         "--run-id", "0000e10a"),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        pid = stack.router_pid()
        done = stack.stat()["counters"]["control_reloads"]
        for i in range(times):
            # A file destination comes and goes; the stream stays.
            stack.write_configuration(file_destination=i % 2 == 0)
            os.kill(pid, signal.SIGHUP)
            system.wait_for("reload %d" % (i + 1),
                            lambda want=done + i + 1: stack.stat()["counters"]["control_reloads"] >= want, 20)
        good = open(stack.sets_file).read()
        with open(stack.sets_file, "a") as out:
            out.write("- ConfigurationSetNam: broken\n")
        os.kill(pid, signal.SIGHUP)
        system.wait_for("the mistake to be refused",
                        lambda: stack.stat()["counters"]["control_reloads_refused"] == 1, 20)
        with open(stack.sets_file, "w") as out:
            out.write(good)
    finally:
        producers.send_signal(signal.SIGTERM)
        out, _ = producers.communicate(timeout=60)
    load = json.loads(out.strip().splitlines()[-1])
    system.wait_for("the stream to drain", lambda: all(
        t["waiting"] == 0 for t in stack.ledger()["targets"] if t["target"].startswith("firehose")), 60)
    report = stack.sink_report(ledger)
    system.check("reloads", times, lambda n: n > 0)
    system.check("published under reloads", load["published"], lambda n: n > 0)
    system.check("missing", report["missing"], 0)
    system.check("duplicated", report["duplicates"], 0)
    system.check("the mistake is reported with its place", "configuration-sets.yaml:" in stack.log("router", 200), True)
    stack.wait_drained(30)
    system.check("ledger balanced", stack.ledger()["balanced"], True)


def main(build, quick):
    with system.Stack(build, tls=True, name="restart") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 2\nrouter.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB")
        stack.start_router()
        keeps_the_rest(stack)
        reloads(stack, 4 if quick else 20)
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
