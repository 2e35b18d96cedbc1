"""Logs of earlier settings. However many there are, all are delivered and counted; what is emptied says nothing in `sendring ledger` of
a destination that is removed."""
import subprocess

import system

SMALL = "journal.segment_bytes: 1MiB\negress.retry_max_ms: 1s\nshutdown.drain_seconds: 0s\n"


def publish(stack, run, seconds, *arguments):
    """The path of loadgen's ledger."""
    ledger = stack.path("%s.json" % run)
    subprocess.run(stack.loadgen_arguments(ledger, "--seconds", str(seconds), *arguments), check=True, stdout=subprocess.DEVNULL)
    return ledger


def row(stack, target):
    return next(t for t in stack.ledger()["targets"] if t["target"].startswith(target))


def removed(build):
    """A destination goes after the log of a type was emptied."""
    with system.Stack(build, name="earlier-removed") as stack:
        stack.start_sink()
        size = SMALL + "journal.size_bytes_max: 12MiB\n"
        for number, (settings, file) in enumerate([("journal.full: {Click: shed, Open: shed}\n", True), ("", True), ("", False)]):
            if number > 0:
                system.check("router ends well on SIGTERM", stack.stop("router"), 0)
            stack.write_configuration(file_destination=file, settings=settings + size)
            stack.start_router()
            publish(stack, "rm%d" % number, 1, "--producers", "1", "--rate", "200")
            stack.wait_drained(20)
            system.check("the file destination is told as removed", row(stack, "file")["removed"], not file)
        system.check("the other one is", row(stack, "firehose")["removed"], False)
        text = next(line for line in stack.ledger_text().splitlines() if " file " in line)
        system.check("so does the text", text.endswith(" (removed)"), True)


def served(build):
    """16 shards and three types that are shed, others than before: 80 logs."""
    with system.Stack(build, name="earlier-served") as stack:
        stack.start_sink()
        size = SMALL + "router.shards_count: 16\njournal.size_bytes_max: 160MiB\n"
        stack.write_configuration(settings="journal.full: {Open: shed, Click: shed, Delivery: shed}\n" + size)
        stack.start_router()
        stack.tell_sink("set down on")
        ledger = publish(stack, "many", 2, "--producers", "4", "--mix", "delivery", "--rate", "400")
        waiting = row(stack, "firehose")["waiting"]
        system.check("events that wait in logs of their type", waiting, lambda n: n > 0)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)
        stack.write_configuration(settings="journal.full: {Open: shed, Click: shed, Send: shed}\n" + size)
        stack.start_router()
        stack.check_ledger()
        system.check("accepted, with settings that do not shed it", row(stack, "firehose")["accepted"], waiting)
        stack.tell_sink("set down off")
        stack.wait_drained(60)
        stack.check_ledger()
        system.check("missing", stack.sink_report(ledger)["missing"], 0)


def main(build, quick):
    del quick
    for part in (served, removed):
        print("  -- %s" % part.__name__, flush=True)
        part(build)


system.run(main)
