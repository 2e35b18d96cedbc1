"""A full journal. All types block: publishers see FULL, cheaply, and nothing is lost. Open and Click are shed: every Bounce and
Complaint arrives, the oldest Opens go first, the counts by type and destination are what was published and not stored, a
destination that works loses nothing, and SIGKILLs in the middle of it keep the ledger balanced. Logs of earlier settings are
delivered and go."""
import collections
import json
import os
import random
import signal
import subprocess
import time

import system

SHED = "journal.full: {Open: shed, Click: shed}\n"
SMALL = "journal.segment_bytes: 1MiB\n"
TYPES = {"open": "Open", "click": "Click", "bounce": "Bounce", "complaint": "Complaint"}


class Publishers:
    """One loadgen for each type, each with its own ledger."""

    def __init__(self, stack, rates, seconds, run):
        self.stack = stack
        self.running = {}
        for number, (mix, rate) in enumerate(rates.items()):
            ledger = stack.path("%s-%s.json" % (run, mix))
            arguments = stack.loadgen_arguments(ledger, "--producers", "1", "--mix", mix, "--rate", str(rate), "--seconds",
                                                str(seconds), "--run-id", "%s%04x" % (run, number), "--flush-timeout", "60000")
            self.running[mix] = (ledger, subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        self.ledgers = {mix: ledger for mix, (ledger, _) in self.running.items()}

    def join(self):
        """{mix: loadgen's report}"""
        reports = {}
        for mix, (_, process) in self.running.items():
            out, errors = process.communicate(timeout=180)
            if process.returncode != 0:
                raise system.Failure("loadgen of %s ended with %d: %s%s" % (mix, process.returncode, out, errors))
            reports[mix] = json.loads(out.strip().splitlines()[-1])
        return reports

    def stop(self):
        for _, process in self.running.values():
            process.send_signal(signal.SIGTERM)


def stored(path, run):
    """{type: {index of each distinct event of the run}}"""
    found = collections.defaultdict(set)
    if not os.path.exists(path):
        return found
    with open(path, errors="replace") as lines:
        for line in lines:
            event = json.loads(line)
            message = event["mail"]["messageId"]
            if message[17:21] == run:
                found[event["eventType"]].add(int(message[41:53], 16))
    return found


def row(books, target):
    return next(t for t in books["targets"] if t["target"].startswith(target))


def segments(stack, log):
    directory = stack.path("state", "journal", log)
    return [n for n in os.listdir(directory) if n.endswith(".segment")] if os.path.isdir(directory) else []


def blocks(build, quick):
    """The default."""
    with system.Stack(build, name="pressure-block") as stack:
        stack.start_sink()
        stack.write_configuration(settings=SMALL + "journal.size_bytes_max: 4MiB\negress.retry_max_ms: 1s")
        stack.start_router()
        stack.tell_sink("set down on")
        publishers = Publishers(stack, {"open": 2000, "bounce": 2000}, 8 if quick else 15, "b10c")
        system.wait_for("the journal to be full", lambda: stack.stat()["counters"]["router_journal_full"] > 0, 30)
        # The lanes fill behind it.
        loadgens = [process.pid for _, process in publishers.running.values()]
        producers = [system.child_of(pid) for pid in loadgens]
        router = stack.router_pid()
        time.sleep(3)
        before = [system.cpu_seconds(pid) for pid in producers], system.cpu_seconds(router)
        begun = time.monotonic()
        time.sleep(2)
        elapsed = time.monotonic() - begun
        blocked = [(system.cpu_seconds(pid) - cpu) / elapsed for pid, cpu in zip(producers, before[0])]
        system.check("share of a core that a blocked producer takes", round(max(blocked), 3), lambda share: share < 0.03)
        system.check("share of a core that the blocked router takes",
                     round((system.cpu_seconds(router) - before[1]) / elapsed, 3), lambda share: share < 0.3)
        system.check("only the log of the shard", sorted(os.listdir(stack.path("state", "journal"))), ["0"])
        stack.check_ledger()
        stack.tell_sink("set down off")
        reports = publishers.join()
        books = stack.wait_drained(60)
        system.check("publishers saw FULL", sum(r["full"] for r in reports.values()), lambda n: n > 0)
        report = stack.sink_report(*publishers.ledgers.values())
        system.check("missing", report["missing"], 0)
        system.check("shed", row(books, "firehose")["shed"], 0)
        stack.check_ledger()


def check_shed(stack, run, reports, exact):
    """What each destination has, against what was published and what its row says. Returns the events shed at the dead one."""
    books = stack.wait_drained(60)
    stack.check_ledger()
    dead, well = row(books, "firehose"), row(books, "file")
    published = {TYPES[mix]: r["published"] for mix, r in reports.items()}
    system.check("published", published, lambda p: min(p.values()) > 0)
    at_dead, at_well = stored(stack.path("store", "mail-events.ndjson"), run), stored(stack.path("events.ndjson"), run)
    for name in ("Bounce", "Complaint"):
        system.check("%s events missing at the destination that was down" % name, published[name] - len(at_dead[name]), 0)
    system.check("shed by type", dead["shed_by_type"], lambda by: by.get("Open", 0) > 0)
    system.check("shed, of all types", sum(dead["shed_by_type"].values()), dead["shed"])
    for name in ("Open", "Click"):
        missing, shed = published[name] - len(at_dead[name]), dead["shed_by_type"].get(name, 0)
        if exact:
            system.check("%s: published and not stored = shed" % name, missing, shed)
        else:  # killed between an answer and the cursor's move: stored, and shed by the next router
            system.check("%s: published and not stored (shed: %d)" % (name, shed), missing, lambda n: n <= shed)
    system.check("accepted = published", dead["accepted"], sum(published.values()))
    for name in TYPES.values():
        system.check("%s events missing where nothing was wrong" % name, published[name] - len(at_well[name]), 0)
    system.check("shed where nothing was wrong", well["shed"], 0)
    return published, at_dead


def sheds(build, quick):
    with system.Stack(build, name="pressure-shed") as stack:
        stack.start_sink("--store", stack.path("store"))
        stack.write_configuration(file_destination=True, settings=SMALL + SHED + "journal.size_bytes_max: 12MiB\n"
                                                                                "egress.retry_max_ms: 1s")
        stack.start_router()
        stack.tell_sink("set down on")
        publishers = Publishers(stack, {"open": 3000, "click": 600, "bounce": 150, "complaint": 50}, 6 if quick else 15, "5ed0")
        reports = publishers.join()
        system.check("logs", sorted(os.listdir(stack.path("state", "journal"))), ["0", "0.Click", "0.Open"])
        total = sum(len(segments(stack, log)) for log in ("0", "0.Click", "0.Open"))
        system.check("segments of 1 MiB in all logs", total, lambda n: n <= 12)
        stack.check_ledger()
        shed = next(t for t in stack.stat()["targets"] if t["target"].startswith("firehose"))["shed_by_type"]
        system.check("sendring stat: shed by type", shed, lambda by: by.get("Open", 0) > 0)
        stack.tell_sink("set down off")
        published, at_dead = check_shed(stack, "5ed0", reports, exact=True)
        # The oldest went first: what is there is the end of what was published.
        opens = at_dead["Open"]
        system.check("the Opens that are there are the newest", min(opens), published["Open"] - len(opens))
        text = stack.ledger_text()
        system.check("sendring ledger names the type", "shed" in text and "Open" in text, True)
        system.check("the log says what was shed", 'msg="events are shed"' in stack.log("router", 2000), True)


def killed(build, quick):
    kills = 5 if quick else 20
    seed = int.from_bytes(os.urandom(4), "little")
    print("  seed: %d" % seed)
    chance = random.Random(seed)
    with system.Stack(build, name="pressure-kill") as stack:
        stack.start_sink("--store", stack.path("store"))
        stack.write_configuration(file_destination=True, settings=SMALL + SHED + "journal.size_bytes_max: 12MiB\n"
                                                                                "egress.retry_max_ms: 1s\n"
                                                                                "router.lane_bytes: 4MiB\n"
                                                                                "router.lane_bytes_max: 4MiB")
        stack.start_router()
        stack.tell_sink("set down on")
        publishers = Publishers(stack, {"open": 3000, "click": 600, "bounce": 100, "complaint": 50}, 600, "ca11")
        try:
            system.wait_for("the first to be shed", lambda: row(stack.ledger(), "firehose")["shed"] > 0, 60)
            dead = set()
            for i in range(kills):
                pid = system.wait_for("a new router", lambda: stack.router_pid() if stack.router_pid() not in dead else 0, 30)
                time.sleep(chance.uniform(0.02, 0.7))
                os.kill(pid, signal.SIGKILL)
                dead.add(pid)
                stack.check_ledger()  # also of what a kill has just left
                if i % 5 == 3:
                    stack.tell_sink("set down off")
                    time.sleep(chance.uniform(0, 0.3))
                    stack.tell_sink("set down on")
            system.wait_for("the last router", lambda: stack.router_pid() not in dead, 30)
        finally:
            stack.tell_sink("set down off")
            publishers.stop()
            reports = publishers.join()
        check_shed(stack, "ca11", reports, exact=False)


def settings_change(build, quick):
    """Types stop being shed, and start again, with events waiting in their logs; then no log too many is left."""
    del quick
    with system.Stack(build, name="pressure-change") as stack:
        stack.start_sink("--store", stack.path("store"))
        small = SMALL + "journal.size_bytes_max: 32MiB\negress.retry_max_ms: 1s\nshutdown.drain_seconds: 0s"
        stack.write_configuration(settings=SHED + small)
        stack.start_router()
        stack.tell_sink("set down on")
        counts = {}
        for number, settings in enumerate([SHED, "", "journal.full: {Open: shed}\n"]):
            if number > 0:
                system.check("router ends well on SIGTERM", stack.stop("router"), 0)
                stack.write_configuration(settings=settings + small)
                stack.start_router()
            publishers = Publishers(stack, {"open": 500, "click": 500, "bounce": 500}, 2, "c4a%d" % number)
            counts[publishers] = publishers.join()
            stack.check_ledger()
        system.check("logs", sorted(os.listdir(stack.path("state", "journal"))), ["0", "0.Click", "0.Open"])
        system.check("events wait in the log that is not asked for any more", len(segments(stack, "0.Click")), lambda n: n > 0)
        stack.tell_sink("set down off")
        books = stack.wait_drained(60)
        report = stack.sink_report(*[ledger for publishers in counts for ledger in publishers.ledgers.values()])
        system.check("missing", report["missing"], 0)
        system.check("duplicated", report["duplicates"], 0)
        system.check("accepted = published", row(books, "firehose")["accepted"],
                     sum(r["published"] for reports in counts.values() for r in reports.values()))
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)
        system.check("segments of the log that is not asked for any more", segments(stack, "0.Click"), [])
        stack.check_ledger()
        system.check("its counts are in the ledger all the same", row(stack.ledger(), "firehose")["accepted"],
                     row(books, "firehose")["accepted"])
        stack.start_router()
        system.check("the next start leaves it alone", segments(stack, "0.Click"), [])


def main(build, quick):
    for part in (blocks, sheds, killed, settings_change):
        print("  -- %s" % part.__name__, flush=True)
        part(build, quick)


system.run(main)
