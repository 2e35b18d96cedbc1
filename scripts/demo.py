"""The demo behind scripts/demo: several producer processes publish a realistic mix of mail events; the router delivers them to
`sendring sink`, which answers as Firehose does, and to a file; both ends are counted."""

import argparse
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
import harness  # noqa: E402


EVENT_ID = re.compile(rb'"messageId":"0100[0-9a-f]{12}-([0-9a-f]{8})-([0-9a-f]{4})-4e76-a11d-([0-9a-f]{12})-[0-9a-f]{6}"')
STUCK_SECONDS = 30  # a backlog that does not shrink for so long is given up


def count_file(path, ledger_path):
    """The file destination's lines, and how many of the published events are in it, by their ids."""
    with open(ledger_path) as ledger:
        published = json.load(ledger)
    run_id = published["run_id"].encode()
    seen = {"%04x" % p["producer"]: bytearray(p["published"]) for p in published["producers"]}
    lines = 0
    with open(path, "rb") as file:
        for line in file:
            lines += 1
            event = EVENT_ID.search(line)
            if event is None or event.group(1) != run_id:
                continue
            of_producer, index = seen.get(event.group(2).decode(), b""), int(event.group(3), 16)
            if index < len(of_producer):
                of_producer[index] = 1
    return lines, sum(sum(of_producer) for of_producer in seen.values())


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/demo", description="Runs producers, router, and a Firehose "
                                     "look-alike on this host and counts events on both ends.")
    parser.add_argument("--seconds", type=float, default=10, help="how long producers publish (default 10)")
    parser.add_argument("--producers", type=int, default=4, help="producer processes (default 4)")
    parser.add_argument("--rate", type=float, default=100000, help="events/s of all producers together; 0: as fast as "
                        "the lanes take them (default 100000)")
    parser.add_argument("--tls", action="store_true", help="talk TLS to the look-alike, verified by a throw-away CA")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on stdout")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


class Watch:
    """What the routers do: one after the other, when one dies and the keeper starts the next."""

    def __init__(self, stack):
        self.stack = stack
        self.cpu = {}  # seconds by pid, as last seen: a dead process cannot be asked
        self.cpu_before = 0.0  # of the first: its start is not ours
        self.before = {"router_events": 0, "egress_delivered": 0, "router_routes": 0}  # of routers that are gone
        self.counters = dict(self.before)
        self.pid = 0
        self.begun = self.shown = time.monotonic()
        self.look()

    def look(self):
        """Takes the numbers of now."""
        if self.stack.processes["router"].poll() is not None:
            raise harness.Failure("the daemon has ended with status %d:\n%s" %
                                  (self.stack.processes["router"].returncode, self.stack.log("router")))
        stat = self.stack.stat()
        if stat["pid"] != self.pid:
            self.before = {name: self.before[name] + self.counters[name] for name in self.before}
            if self.pid != 0:
                print("demo: a new router, pid %d" % stat["pid"], file=sys.stderr)
        first = self.pid == 0
        self.pid = stat["pid"]
        self.counters = {name: stat["counters"][name] for name in self.before}
        try:
            self.cpu[self.pid] = harness.cpu_seconds(self.pid)
        except OSError:
            pass  # it has just died; the next look finds another
        if first:
            self.cpu_before = self.cpu_seconds()

    def total(self, name):
        return self.before[name] + self.counters[name]

    def cpu_seconds(self):
        return sum(self.cpu.values()) - self.cpu_before

    def show(self):
        published, delivered = self.total("router_events"), self.total("egress_delivered")
        self.look()
        now = time.monotonic()
        seconds = max(now - self.shown, 1e-3)
        print("demo: %4.0f s  published %8.0f/s  delivered %8.0f/s (both destinations)  backlog %9d  cpu %5.2f us/event" %
              (now - self.begun, (self.total("router_events") - published) / seconds,
               (self.total("egress_delivered") - delivered) / seconds,
               max(self.total("router_routes") - self.total("egress_delivered"), 0),
               self.cpu_seconds() * 1e6 / max(self.total("router_events"), 1)), file=sys.stderr, flush=True)
        self.shown = now


def load(stack, watch, options, ledger):
    """Runs the producers to their end. Returns loadgen's report."""
    producers = stack.start("producers", stack.loadgen_arguments(
        ledger, "--producers", str(options.producers), "--seconds", str(options.seconds), "--rate", str(options.rate)))
    while producers.poll() is None:
        time.sleep(1)
        watch.show()
    lines = stack.log("producers").splitlines()
    if producers.returncode != 0:
        raise harness.Failure("the producers failed:\n%s" % "\n".join(l for l in lines if not l.startswith("{")))
    return json.loads(lines[-1])


def drain(stack, watch):
    """Until nothing waits, or what waits has not shrunk for STUCK_SECONDS. Returns the ledger."""
    least, since = None, time.monotonic()
    while True:
        books = stack.ledger()
        waiting = sum(target["waiting"] for target in books["targets"])
        if waiting == 0:
            return books
        if least is None or waiting < least:
            least, since = waiting, time.monotonic()
        if time.monotonic() - since > STUCK_SECONDS:
            return books
        watch.show()
        time.sleep(0.5)


def run(options):
    with harness.Stack(options.build, tls=options.tls, name="sendring-demo", keep=options.keep) as stack:
        stack.start_sink()
        stack.write_configuration(file_destination=True)
        stack.start_router()
        watch = Watch(stack)
        print("demo: router pid %d, sink at %s, %d producers for %g s, %s" %
              (watch.pid, stack.endpoint, options.producers, options.seconds,
               "paced at %g events/s together" % options.rate if options.rate > 0 else "as fast as the lanes take them"),
              file=sys.stderr)
        ledger = stack.path("published.json")
        produced = load(stack, watch, options, ledger)
        books = drain(stack, watch)
        watch.look()
        cpu = watch.cpu_seconds()
        report = stack.sink_report(ledger)
        file_lines, file_distinct = count_file(stack.path("events.ndjson"), ledger)
        if not options.json:
            print(stack.ledger_text(), end="")
        stack.stop("router")

    published = produced["published"]
    result = {
        "published": published, "stored": report["distinct"], "missing": report["missing"],
        "duplicated": report["duplicates"], "file_lines": file_lines, "file_missing": published - file_distinct,
        "rate": round(produced["rate"]), "rate_asked": options.rate,
        "cpu_us_per_event": round(cpu * 1e6 / max(published, 1), 2), "ledger_balanced": books["balanced"],
    }
    wrong = []
    if published == 0:
        wrong.append("nothing was published")
    if report["missing"] != 0 or report["distinct"] != published:
        wrong.append("the endpoint stored %d of the %d events published" % (report["distinct"], published))
    if result["file_missing"] != 0:
        wrong.append("the file has %d of the %d events published" % (file_distinct, published))
    if not books["balanced"]:
        wrong.append("the ledger is not balanced")
    for target in books["targets"]:
        if target["waiting"] != 0:
            wrong.append("%d events still wait for %s" % (target["waiting"], target["target"]))
    result["wrong"] = wrong
    if options.json:
        print(json.dumps(result))
    else:
        print("demo: the file has %d lines: %d of %d events, %d more than once" %
              (file_lines, file_distinct, published, file_lines - file_distinct))
        print("demo: producers were %s for %.1f s" %
              ("paced at %g events/s" % options.rate if options.rate > 0 else "not paced", produced["seconds"]))
        for text in wrong:
            print("demo: WRONG: %s" % text)
        print("demo: published %d stored %d missing %d duplicated %d rate %d events/s cpu %.2f us/event" %
              (published, result["stored"], result["missing"], result["duplicated"], result["rate"],
               result["cpu_us_per_event"]))
    return 1 if wrong else 0


def main():
    options = arguments()
    try:
        return run(options)
    except harness.Failure as failure:
        print("demo: %s" % failure, file=sys.stderr)
        return 1
    except OSError as error:
        print("demo: %s: %s" % (error.filename or "a file of the demo", error.strerror), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
