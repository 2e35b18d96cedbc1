"""Endpoint down for 20 s, then back; 30 % throttles; partial failures: missing 0; resent entries = refused entries."""
import json
import subprocess
import time

import system

DOWN_SECONDS = 20


def load_in_background(stack, ledger, *flags):
    return subprocess.Popen(stack.loadgen_arguments(stack.path(ledger), *flags), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish(producers):
    out, errors = producers.communicate(timeout=120)
    system.check("producers end well", producers.returncode, 0)
    return json.loads(out.strip().splitlines()[-1])


def down(stack, seconds):
    producers = load_in_background(stack, "down.json", "--producers", "2", "--rate", "20000", "--seconds",
                                   str(seconds + 5), "--run-id", "0000d0d0")
    time.sleep(2)
    stack.tell_sink("set down on")
    time.sleep(seconds)
    waiting = stack.ledger()["targets"][0]["waiting"]
    system.check("backlog while down", waiting, lambda n: n > 20000 * (seconds - 5))
    stack.tell_sink("set down off")
    back = time.monotonic()
    system.wait_for("the target to deliver again",
                    lambda: stack.stat()["targets"][0]["status"] == "ok", 30)
    system.check("seconds until it delivered again", round(time.monotonic() - back, 1), lambda s: s < 8)
    load = finish(producers)
    books = stack.wait_drained(60)
    report = stack.sink_report(stack.path("down.json"))
    system.check("published", load["published"], lambda n: n > 0)
    system.check("missing", report["missing"], 0)
    system.check("lanes full", load["full"], 0)
    system.check("ledger balanced", books["balanced"], True)


def throttled(stack, quick):
    before = stack.sink_report()["duplicates"]
    stack.tell_sink("set throttle 0.3")
    producers = load_in_background(stack, "throttled.json", "--producers", "2", "--rate", "20000", "--seconds",
                                   "4" if quick else "10", "--run-id", "00007077")
    load = finish(producers)
    books = stack.wait_drained(120)
    stack.tell_sink("set throttle 0")
    report = stack.sink_report(stack.path("throttled.json"))
    stat = stack.stat()["counters"]
    system.check("published", load["published"], lambda n: n > 0)
    system.check("requests throttled", stat["egress_requests_throttled"], lambda n: n > 0)
    system.check("missing", report["missing"], 0)
    system.check("duplicated by throttles", report["duplicates"] - before, 0)
    system.check("ledger balanced", books["balanced"], True)


def partial(stack, quick):
    before_duplicates = stack.sink_report()["duplicates"]
    before_stat = stack.stat()["counters"]
    before_sink = stack.sink_report()["counters"]
    stack.tell_sink("set partial 0.2")
    producers = load_in_background(stack, "partial.json", "--producers", "2", "--rate", "20000", "--seconds",
                                   "4" if quick else "10", "--run-id", "0000fa17")
    load = finish(producers)
    books = stack.wait_drained(120)
    stack.tell_sink("set partial 0")
    report = stack.sink_report(stack.path("partial.json"))
    stat = stack.stat()["counters"]
    system.check("published", load["published"], lambda n: n > 0)
    system.check("missing", report["missing"], 0)
    system.check("duplicated by partial failures", report["duplicates"] - before_duplicates, 0)
    refused = report["counters"]["refused_entries"] - before_sink["refused_entries"]
    system.check("entries refused, as the sink counted", refused, lambda n: n > 0)
    system.check("entries refused, as the router counted",
                 stat["egress_entries_refused"] - before_stat["egress_entries_refused"], refused)
    system.check("entries resent = refused",
                 stat["egress_entries_resent"] - before_stat["egress_entries_resent"], refused)
    system.check("ledger balanced", books["balanced"], True)


def main(build, quick):
    with system.Stack(build, tls=True, name="outage") as stack:
        stack.start_sink()
        # Packing off in spirit: small records make partial failures frequent.
        stack.write_configuration(settings="router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB")
        stack.start_router()
        down(stack, 8 if quick else DOWN_SECONDS)
        throttled(stack, quick)
        partial(stack, quick)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
