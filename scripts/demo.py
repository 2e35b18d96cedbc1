"""The demo behind scripts/demo: several producer processes publish a realistic mix of mail events; the router delivers them to
`sendring sink`, which answers as Firehose does, and to a file; both ends are counted."""

import argparse
import json
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "support"))
import harness  # noqa: E402


def count_lines(path):
    lines = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return lines
            lines += block.count(b"\n")


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


def live_line(stack, pid, begun, cpu_before, last):
    counters = stack.stat()["counters"]
    now = time.monotonic()
    published, delivered = counters["router_events"], counters["egress_delivered"]
    routes = counters["router_routes"]
    seconds = max(now - last["time"], 1e-3)
    cpu = harness.cpu_seconds(pid) - cpu_before
    print("demo: %4.0f s  published %8.0f/s  delivered %8.0f/s (both destinations)  backlog %9d  cpu %5.2f us/event" %
          (now - begun, (published - last["published"]) / seconds, (delivered - last["delivered"]) / seconds,
           routes - delivered, cpu * 1e6 / max(published, 1)), file=sys.stderr, flush=True)
    last.update(time=now, published=published, delivered=delivered)


def run(options):
    with harness.Stack(options.build, tls=options.tls, name="sendring-demo", keep=options.keep) as stack:
        stack.start_sink()
        stack.write_configuration(file_destination=True)
        stack.start_router()
        pid = stack.router_pid()
        cpu_before = harness.cpu_seconds(pid)
        print("demo: router pid %d, sink at %s, %d producers for %g s" %
              (pid, stack.endpoint, options.producers, options.seconds), file=sys.stderr)
        ledger = stack.path("published.json")
        begun = time.monotonic()
        producers = subprocess.Popen(
            stack.loadgen_arguments(ledger, "--producers", str(options.producers), "--seconds", str(options.seconds),
                                    "--rate", str(options.rate)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        last = {"time": begun, "published": 0, "delivered": 0}
        while producers.poll() is None:
            time.sleep(1)
            live_line(stack, pid, begun, cpu_before, last)
        if producers.returncode != 0:
            raise harness.Failure("the producers failed: %s" % producers.stderr.read())
        load = json.loads(producers.stdout.read().strip().splitlines()[-1])
        while True:
            books = stack.ledger()
            if all(target["waiting"] == 0 for target in books["targets"]):
                break
            live_line(stack, pid, begun, cpu_before, last)
            time.sleep(0.5)
        ended = time.monotonic()
        cpu = harness.cpu_seconds(pid) - cpu_before
        report = stack.sink_report(ledger)
        stored_in_file = count_lines(stack.path("events.ndjson"))
        if not options.json:
            print(stack.ledger_text(), end="")
        stack.stop("router")

    published = load["published"]
    result = {
        "published": published, "stored": report["distinct"], "missing": report["missing"],
        "duplicated": report["duplicates"], "file_lines": stored_in_file,
        "rate": round(published / (ended - begun)), "cpu_us_per_event": round(cpu * 1e6 / max(published, 1), 2),
        "ledger_balanced": books["balanced"],
    }
    good = (report["missing"] == 0 and report["distinct"] == published and stored_in_file >= published and
            books["balanced"] and published > 0)
    if options.json:
        print(json.dumps(result))
    else:
        print("demo: the file has %d lines" % stored_in_file)
        print("demo: published %d stored %d missing %d duplicated %d rate %d events/s cpu %.2f us/event" %
              (published, result["stored"], result["missing"], result["duplicated"], result["rate"],
               result["cpu_us_per_event"]))
    return 0 if good else 1


def main():
    options = arguments()
    try:
        return run(options)
    except harness.Failure as failure:
        print("demo: %s" % failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
