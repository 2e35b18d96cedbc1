"""The router is SIGKILLed 20 times at random while 2 producers publish: missing 0; duplicates only what was in flight;
producers never blocked."""
import json
import os
import random
import signal
import subprocess
import time

import system

KILLS = 20
RATE = 4000
IN_FLIGHT_MAX = 4
# 4 MiB of base64 hold at most this many of loadgen's smallest standard events.
EVENTS_PER_BATCH_MAX = 6000


def main(build, quick):
    kills = 5 if quick else KILLS
    seed = int.from_bytes(os.urandom(4), "little")
    print("  seed: %d" % seed)
    chance = random.Random(seed)
    with system.Stack(build, tls=True, name="router-kill") as stack:
        stack.start_sink("--latency", "20ms")
        # Lanes hold fourteen seconds of events: the keeper's pauses grow to two, and three routers in a row may be killed before
        # they have drained what the pause before them left.
        stack.write_configuration(settings="router.lane_bytes: 16MiB\nrouter.lane_bytes_max: 16MiB\n"
                                           "egress.in_flight_max: %d" % IN_FLIGHT_MAX)
        stack.start_router()
        ledger = stack.path("published.json")
        # As long as the kills take; ended by SIGTERM then.
        producers = subprocess.Popen(stack.loadgen_arguments(ledger, "--producers", "2", "--rate", str(RATE),
                                                             "--seconds", "600"),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        killed = set()
        try:
            for _ in range(kills):
                time.sleep(chance.uniform(0.05, 1.2))
                pid = system.wait_for("a new router",
                                      lambda: stack.router_pid() if stack.router_pid() not in killed else 0, 30)
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            system.wait_for("the last router", lambda: stack.router_pid() not in killed, 30)
            time.sleep(1)
        finally:
            producers.send_signal(signal.SIGTERM)
            out, errors = producers.communicate(timeout=60)
        system.check("producers end well", producers.returncode, 0)
        load = json.loads(out.strip().splitlines()[-1])
        books = stack.wait_drained(60)
        report = stack.sink_report(ledger)
        system.check("kills", len(killed), kills)
        system.check("published", load["published"], lambda n: n > kills * RATE // 20)
        system.check("missing", report["missing"], 0)
        in_flight_bound = kills * (IN_FLIGHT_MAX + 1) * EVENTS_PER_BATCH_MAX
        system.check("duplicated (at most %d were in flight)" % in_flight_bound, report["duplicates"],
                     lambda n: n <= in_flight_bound)
        system.check("ledger balanced", books["balanced"], True)
        system.check("accepted = published", books["targets"][0]["accepted"], load["published"])
        system.check("lanes full", load["full"], 0)
        # A call that blocked on the router would take as long as its restart: tens of milliseconds at least. The maximum is the
        # scheduler's on a shared machine, so the bound is on p99.9.
        system.check("publish p99.9 ns", load["publish_ns"]["p999"], lambda ns: ns < 5000000)
        system.check("service ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
