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


def refusing(stack, quick, fault, share, run_id):
    """Load while the endpoint refuses a share. Throttles hit whole calls and, every second one, only their last entries."""
    before_duplicates = stack.sink_report()["duplicates"]
    before_stat = stack.stat()["counters"]
    before_sink = stack.sink_report()["counters"]
    stack.tell_sink("set %s %g" % (fault, share))
    producers = load_in_background(stack, fault + ".json", "--producers", "2", "--rate", "20000", "--seconds",
                                   "8" if quick else "10", "--run-id", run_id)
    load = finish(producers)
    books = stack.wait_drained(120)
    stack.tell_sink("set %s 0" % fault)
    report = stack.sink_report(stack.path(fault + ".json"))
    stat = stack.stat()["counters"]

    def router(counter):
        return stat[counter] - before_stat[counter]

    def sink(counter):
        return report["counters"][counter] - before_sink[counter]

    system.check("published", load["published"], lambda n: n > 0)
    system.check("missing", report["missing"], 0)
    system.check("duplicated by it", report["duplicates"] - before_duplicates, 0)
    refused = sink("refused_entries")
    system.check("entries refused, as the sink counted", refused, lambda n: n > 0)
    system.check("entries refused, as the router counted", router("egress_entries_refused"), refused)
    system.check("entries resent = refused", router("egress_entries_resent"), refused)
    if fault == "throttle":
        system.check("entries of calls refused as a whole", sink("refused_call_entries"), lambda n: n > 0)
        system.check("requests throttled, as the router counted", router("egress_requests_throttled"), sink("fault_throttle"))
    system.check("ledger balanced", books["balanced"], True)


def main(build, quick):
    with system.Stack(build, tls=True, name="outage") as stack:
        stack.start_sink()
        # Lanes that hold what comes while the router is busy elsewhere: "lanes full: 0" is checked.
        stack.write_configuration(settings="router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB")
        stack.start_router()
        down(stack, 8 if quick else DOWN_SECONDS)
        refusing(stack, quick, "throttle", 0.3, "00007077")
        refusing(stack, quick, "partial", 0.2, "0000fa17")
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
