"""Logs of earlier settings in `sendring ledger`: what is emptied says nothing of a destination that is removed."""
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


def main(build, quick):
    del quick
    for part in (removed,):
        print("  -- %s" % part.__name__, flush=True)
        part(build)


system.run(main)
