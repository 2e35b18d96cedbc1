"""SIGTERM with an endpoint that is down keeps the rest in the journal; the next start delivers it; SIGHUP reloads under load
lose nothing; a mistake in the new configuration keeps the old one in force. A router that is killed while it drains is followed by
another one, and every producer that lives comes back to the next service."""
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


def killed_while_draining(build, after):
    """Journal and lanes are full when the service is told to end. Its router is killed `after` seconds later; the keeper's next one
    drains; then the whole service starts anew."""
    with system.Stack(build, name="drained") as stack:
        stack.start_sink()
        stack.write_configuration(settings="router.lane_bytes: 1MiB\njournal.segment_bytes: 1MiB\njournal.size_bytes_max: 8MiB\n"
                                           "journal.segments_mapped_max: 4\nshutdown.drain_seconds: 1")
        stack.start_router()
        stack.tell_sink("set down on")
        ledgers = [stack.path("drained-%d.json" % n) for n in range(4)]
        producers = [subprocess.Popen(stack.loadgen_arguments(ledger, "--producers", "1", "--events", "10000", "--run-id",
                                                              "0000d0%02x" % n),
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n, ledger in enumerate(ledgers)]
        try:
            system.wait_for("full lanes", lambda: stack.stat()["counters"]["router_journal_full"] > 0, 30)
            time.sleep(1)
            keeper, pid = stack.processes.pop("router"), stack.router_pid()
            keeper.send_signal(signal.SIGTERM)
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
            system.check("the service ends well", keeper.wait(30), 0)
            stack.tell_sink("set down off")
            stack.start_router()
            system.wait_for("the producers to end", lambda: all(producer.poll() is not None for producer in producers), 60)
            published = [json.loads(producer.stdout.read().strip().splitlines()[-1])["published"] for producer in producers]
            system.check("each producer published to its end", published, [10000] * 4)
        finally:
            for producer in producers:
                producer.kill()
                producer.wait()
        books = stack.wait_drained(60)
        report = stack.sink_report(*ledgers)
        system.check("missing", report["missing"], 0)
        system.check("ledger balanced", books["balanced"], True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


def main(build, quick):
    with system.Stack(build, tls=True, name="restart") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 2\nrouter.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB")
        stack.start_router()
        keeps_the_rest(stack)
        reloads(stack, 4 if quick else 20)
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)
    for after in (0.01,) if quick else (0.005, 0.01, 0.02, 0.05, 0.2):
        killed_while_draining(build, after)


system.run(main)
