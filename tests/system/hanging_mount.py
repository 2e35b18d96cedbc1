"""A file destination on a mount whose server goes away: whichever operation hangs there, the other destinations of its worker go on, also
beside more hanging files than the kernel has threads by itself, and a router starts. When the server is back all is delivered. Where events are shed
it holds nobody else's up in a full journal. Needs to mount file systems: skipped where that is not allowed."""
import json
import os
import subprocess
import time

import system
from hang_fs import HangingFileSystem, exchange
from harness import file_size, longest_gap

PATIENCE = 1.2    # seconds; an operation that the worker waits for keeps it for two
RATE = 1500       # events a second
MANY = 16         # files; four threads a core are the kernel's own limit
OPERATIONS = ["lookup", "getattr", "open", "read", "rename", "create", "write", "fsync", "fsyncdir", "flush", "opendir"]


def add_files(stack, paths_of_set, types="SEND"):
    """To each set, besides what it has; `paths_of_set` of the set's number."""
    with open(stack.sets_file) as sets:
        head, *rest = sets.read().split("  EventDestinations:\n")
    for number, behind in enumerate(rest):
        head += "  EventDestinations:\n" + "".join(
            "  - EventDestinationName: more-%d\n    EventDestination:\n      Enabled: true\n      MatchingEventTypes: [%s]\n"
            "      Sendring:\n        FileDestination: {Path: %s, RotateBytes: 3MiB}\n" % (at, types, path)
            for at, path in enumerate(paths_of_set(number))) + behind
    with open(stack.sets_file, "w") as sets:
        sets.write(head)


def load(stack, seconds):
    return subprocess.Popen(stack.loadgen_arguments(stack.path("load.json"), "--producers", "1", "--events", str(RATE * seconds), "--rate",
                                                    str(RATE), "--mix", "send"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def publishers(stack, seconds):
    """Opens, which fill the journal, and Bounces, each from a process of its own."""
    running = {}
    for mix, rate in (("open", 2000), ("bounce", 50)):
        ledger = stack.path("ledger-%s.json" % mix)
        arguments = stack.loadgen_arguments(ledger, "--producers", "1", "--mix", mix, "--rate", str(rate), "--seconds", str(seconds),
                                            "--flush-timeout", "60000")
        running[ledger] = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    return running


def lines_of(directory, begin):
    """Of a file and those that it was; each is a whole JSON object."""
    count = 0
    for name in os.listdir(directory):
        if name.startswith(begin):
            with open(os.path.join(directory, name)) as lines:
                count += sum(isinstance(json.loads(line), dict) for line in lines)
    return count


def delivered(stack, path):
    return sum(row["delivered"] for row in stack.ledger()["targets"] if row["target"].endswith(path))


def every_operation_may_hang(build, directory, mount):
    path = os.path.join(directory, "events.ndjson")
    with system.Stack(build, name="mount") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, settings="journal.durability: host")
        add_files(stack, lambda _: [path])
        stack.start_router()
        producer = load(stack, 4 * len(OPERATIONS))
        worst = {}
        for operation in OPERATIONS:
            time.sleep(0.7)  # for what has waited
            system.wait_for("the file to grow", lambda: file_size(path) > 0, 20)
            other = "%s.%s" % (path, operation)
            if operation in ("open", "read"):
                with open(other, "w") as out:
                    out.write("{}\n")
            mount.hang(operation)
            if operation in ("open", "read"):
                exchange(path, other)
            system.check("an operation hangs: " + operation, mount.wait_hung(20), True)
            worst[operation] = longest_gap(2, lambda: json.loads(stack.tell_sink("stats"))["events"])
            system.check("longest time without a request at Firehose", round(worst[operation], 2), lambda gap: gap < PATIENCE)
            mount.go_on()
        producer.kill()
        producer.wait()
        stack.wait_drained(60)
        stack.check_ledger()
        system.check("lines in the files, those that another hand has made among them", lines_of(directory, "events.ndjson"),
                     delivered(stack, path) + 2)
        print("longest time without a request at the other destination, while one operation on the file hung: %.2f s (%s)" % max(
            (gap, operation) for operation, gap in worst.items()))


def many_files_may_hang(build, directory, mount):
    with system.Stack(build, name="mounts") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, file_destination=True, settings="journal.durability: host")
        add_files(stack, lambda number: [os.path.join(directory, "many-%d.ndjson" % at) for at in (2 * number, 2 * number + 1)])
        stack.start_router()
        producer = load(stack, 6)
        system.wait_for("the files", lambda: len([name for name in os.listdir(directory) if name.startswith("many")]) >= MANY, 20)
        mount.hang("anything")
        system.check("it hangs", mount.wait_hung(20), True)
        time.sleep(0.5)
        gap = longest_gap(3, lambda: file_size(stack.path("events.ndjson")))
        system.check("longest time without a line in the file on another disk, beside %d that hang" % MANY, round(gap, 2),
                     lambda gap: gap < PATIENCE)
        mount.go_on()
        producer.wait()
        stack.wait_drained(60)
        stack.check_ledger()
        for number in range(MANY):
            stem = "many-%d.ndjson" % number
            system.check("lines in %s" % stem, lines_of(directory, stem), delivered(stack, os.path.join(directory, stem)))
        print("longest time without a line in the file on another disk, while %d files hung: %.2f s" % (MANY, gap))


def starts_while_it_hangs(build, directory, mount):
    """Its target waits; all others are served."""
    path = os.path.join(directory, "start.ndjson")
    with system.Stack(build, name="mounted") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, settings="journal.durability: host")
        add_files(stack, lambda number: [path if number < 4 else path + "-other"])
        mount.hang("anything")
        begun = time.monotonic()
        stack.start_router()
        system.check("seconds that the start took", round(time.monotonic() - begun, 1), lambda seconds: seconds < 8)
        system.check("it hangs", mount.wait_hung(1), True)
        system.check("the log says so", "a target cannot be opened" in stack.log("router"), True)
        events = RATE * 2
        load(stack, 2).wait()
        system.wait_for("Firehose to have all", lambda: stack.sink_events() == events, 20)
        waiting = sum(row["waiting"] for row in stack.ledger()["targets"])
        system.check("events that wait for the files", waiting, events)
        mount.go_on()
        stack.wait_drained(60)
        stack.check_ledger()
        system.check("lines in the files", lines_of(directory, "start.ndjson"), events)
        print("started in %.1f s while two files hung" % (time.monotonic() - begun))


def stops_while_it_hangs(build, directory, mount):
    """A stop is over soon behind drain_seconds and says who hangs; what waits is in the journal, and another start goes on meanwhile."""
    path = os.path.join(directory, "stop.ndjson")
    events = 0
    with system.Stack(build, name="stop") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, settings="journal.durability: host\nshutdown.drain_seconds: 2")
        add_files(stack, lambda number: [path if number < 4 else path + "-other"])
        for operation in ("write", "anything"):
            stack.start_router()
            if operation == "write":
                producer = load(stack, 4)
                system.wait_for("the file to grow", lambda: file_size(path) > 0, 20)
                mount.hang(operation)
                system.check("it hangs", mount.wait_hung(20), True)
                producer.wait()
            else:  # it still does: what hangs now is the look for the file
                load(stack, 2).wait()
            events += RATE * (4 if operation == "write" else 2)
            system.wait_for("Firehose to have all", lambda: stack.sink_events() == events, 20)
            waiting = sum(row["waiting"] for row in stack.ledger()["targets"])
            system.check("events that wait for the files", waiting, lambda count: count > 0)
            keeper = stack.processes.pop("router")
            begun = time.monotonic()
            keeper.terminate()
            system.check("the end", keeper.wait(60), lambda status: status == 1 or operation == "anything" and status == 0)
            # 2 s of drain, 5 s for the file system to answer, 5 s for the kernel to let the router go.
            system.check("seconds that the stop took", round(time.monotonic() - begun, 1), lambda seconds: seconds < 16)
            said = stack.log("router", 12)
            system.check("the log says what waits", "waiting_in_journal=%d" % waiting in said, True)
            if operation == "write":
                system.check("and for whom", "a destination hangs" in said and path in said, True)
            stack.check_ledger()
        stack.start_router()
        mount.go_on()
        stack.wait_drained(60)
        stack.check_ledger()
        ids = []
        for name in os.listdir(directory):
            with open(os.path.join(directory, name)) as lines:
                ids += [json.loads(line)["mail"]["messageId"] for line in lines]
        system.check("events in the files, each at least once", len(set(ids)), events)


def sheds_while_it_hangs(build, directory, mount):
    """What it has not taken fills the journal: its Opens go, again and again, and nobody waits for it longer than for a request."""
    path = os.path.join(directory, "opens.ndjson")
    with system.Stack(build, name="mount-shed") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, settings="journal.segment_bytes: 1MiB\njournal.size_bytes_max: 12MiB\n"
                                                           "journal.full: {Open: shed}\negress.request_timeout_ms: 3s\negress.connect_timeout_ms: 1s")
        add_files(stack, lambda _: [path], types="OPEN")
        stack.start_router()
        mount.hang("write")
        running = publishers(stack, 20)
        system.check("it hangs", mount.wait_hung(20), True)
        reports = [json.loads(process.communicate(timeout=120)[0].strip().splitlines()[-1]) for process in running.values()]
        system.check("publishers that found the journal full", [report["full"] for report in reports], [0, 0])
        stack.check_ledger()
        shed = next(row for row in stack.ledger()["targets"] if row["target"].endswith(path))
        system.check("Opens shed for the file", shed["shed"], lambda count: count > 10000)
        system.check("delivered to it", shed["delivered"], 0)
        system.check("the log says so", "its file system does not answer" in stack.log("router", 2000), True)
        mount.go_on()
        stack.wait_drained(60)
        stack.check_ledger()
        report = stack.sink_report(*running)
        system.check("missing at the other destination", report["missing"], 0)
        late = lines_of(directory, "opens.ndjson") - delivered(stack, path)
        system.check("lines of the write that was given up, which are in the file and count as shed", late, lambda count: 0 < count <= shed["shed"])
        print("shed while the file hung: %d Opens; publishers found the journal full: 0 times" % shed["shed"])


def main(build, _quick):
    for part in (stops_while_it_hangs, starts_while_it_hangs, every_operation_may_hang, many_files_may_hang, sheds_while_it_hangs):
        with system.Stack(build, name="mountpoint") as place:
            os.mkdir(place.path("mount"))
            try:
                mount = HangingFileSystem(place.path("mount")).__enter__()
            except OSError as error:
                system.skipped("hanging_mount", "mounting file systems is not allowed here: %s" % error)
                return
            try:
                part(build, place.path("mount"), mount)
            finally:
                mount.__exit__(None, None, None)


system.run(main)
