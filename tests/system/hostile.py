"""Producers that do harm (hostile_producer.c) beside honest ones: these lose nothing and are held up little; the daemon neither
dies nor leaks, says who did it, and other users find lanes although one of them wants all. --seconds N for a longer storm,
--daemon DIRECTORY for another build of the daemon (with sanitizers)."""
import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time

import system

HOSTILE_UID = 65534
RATE = 3000
BREAKERS = ("scribble", "lies", "heads")  # whose lanes are closed
# What the log says of whom. The others break no rule that the daemon could see: the kernel refuses what `memory` and (since 6.16)
# `linger` try, `bell` rings, and `death` is many processes that are gone.
NAMED = {
    "scribble": "a producer broke the lane protocol",
    "lies": "a producer broke the lane protocol",
    "heads": "a producer broke the lane protocol",
    "garbage": "a producer sends what is no event",
    "flood": "a connection was refused",
    "messages": "a connection was refused",
}
LANES_MAX = 64
IN_FLIGHT_MAX = 4
CULPRIT = re.compile(r'msg="(%s)" pid=(\d+) uid=(\d+) ' % "|".join(sorted(set(NAMED.values()))))


def descriptors(pid):
    """But segments of the journal, which come and go with what waits in it."""
    folder = "/proc/%d/fd" % pid
    return sum(not os.readlink(os.path.join(folder, fd)).endswith(".segment") for fd in os.listdir(folder))


class Attacher(threading.Thread):
    """An honest producer that comes, publishes one event and goes, again and again. `seconds`: what each took."""

    def __init__(self, stack):
        super().__init__(daemon=True)
        self.stack, self.seconds, self.published, self.failed = stack, [], 0, []
        self.ending = threading.Event()

    def run(self):
        while not self.ending.wait(0.1):
            begun = time.monotonic()
            done = subprocess.run(self.stack.loadgen_arguments("/dev/null", "--producers", "1", "--events", "1", "--run-id",
                                                               "0000a77a", "--first-producer", str(len(self.seconds) % 60000)),
                                  capture_output=True, text=True)
            self.seconds.append(time.monotonic() - begun)
            if done.returncode != 0:
                self.failed.append(done.stderr)

    def finish(self):
        self.ending.set()
        self.join(60)


def honest_load(stack, ledger, seconds, run_id):
    """Honest producers at a rate, and one that attaches again and again. Returns loadgen's report and the attacher."""
    attacher = Attacher(stack)
    attacher.start()
    load = stack.loadgen("--producers", "2", "--rate", str(RATE), "--seconds", str(seconds), "--run-id", run_id, ledger=ledger,
                         seconds=seconds + 120)
    attacher.finish()
    return load, attacher


def settled(stack):
    """Until every lane is closed. Returns descriptors of router and keeper, and the router's memory in KiB."""
    system.wait_for("lanes to be closed", lambda: stack.stat()["counters"]["lanes_now"] == 0, 30)
    time.sleep(1.5)
    router, keeper = stack.router_pid(), stack.processes["router"].pid
    return descriptors(router), descriptors(keeper), system.status_kib(router, "VmRSS"), system.status_kib(keeper, "VmRSS")


def storm(stack, options, seconds, seed, modes=()):
    uid = HOSTILE_UID if os.geteuid() == 0 else 0
    return subprocess.Popen([os.path.join(options.build, "tests", "system", "hostile_producer"), stack.socket, str(seconds),
                             str(seed), str(uid)] + list(modes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def main(options):
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    print("  seed: %d" % seed)
    sanitized = options.daemon is not None
    with system.Stack(options.daemon or options.build, name="hostile") as stack:
        os.chmod(stack.directory, 0o755)
        stack.start_sink()
        stack.write_configuration(settings="router.lanes_max: %d\nrouter.lane_bytes_max: 4MiB" % LANES_MAX)
        with open(stack.settings, "a") as out:
            out.write("socket_mode: \"0666\"\nallow: {users: [%d]}\n" % HOSTILE_UID)
        stack.start_router(env={"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1", "UBSAN_OPTIONS": "halt_on_error=1"})
        router, keeper = stack.router_pid(), stack.processes["router"].pid

        calm, attacher = honest_load(stack, "calm.json", 3, "0000ca17")
        print("  calm: publish p50 %(p50)d p99.9 %(p999)d ns" % calm["publish_ns"],
              "attach and publish at most %.2f s" % max(attacher.seconds))
        # Once through everything, so that what is made once is made; then the same again is measured.
        warm = storm(stack, options, 2, seed + 1)
        warm.communicate(timeout=120)
        before = settled(stack)

        hostile = storm(stack, options, options.seconds, seed)
        load, attacher = honest_load(stack, "honest.json", options.seconds, "00000e57")
        out, errors = hostile.communicate(timeout=120)
        reports = [json.loads(line) for line in out.splitlines()]
        for report in reports:
            print("  %(mode)s: tried %(tried)d, connects %(connects)d, lanes %(attached)d (%(lanes_most)d at a time), refused "
                  "%(refused)d, closed %(closed)d" % report)
        system.check("what the hostile ones got done: %s" % "; ".join(r["breach"] for r in reports if r["breach"]),
                     sum(r["breaches"] for r in reports), 0)
        system.check("they all ended by themselves %s" % errors.strip(), hostile.returncode, 0)
        system.check("each did something", sorted(r["mode"] for r in reports if r["tried"] == 0), [])
        closed = {r["mode"]: r["closed"] for r in reports}
        for mode in BREAKERS:
            system.check("lanes closed on %s" % mode, closed[mode], lambda n: n > 0)

        if os.geteuid() == 0:
            system.check("lanes that one user had at a time (lanes_per_user_max: %d)" % (LANES_MAX * 3 // 4),
                         max(r["lanes_most"] for r in reports), lambda n: 0 < n <= LANES_MAX * 3 // 4)
            system.check("the log says that it wanted more", "a user has all the lanes that one may have" in
                         open(stack.path("router.log"), errors="replace").read(), True)

        after = settled(stack)
        system.check("the router lives", stack.router_pid(), router)
        system.check("the keeper lives", (stack.processes["router"].poll(), stack.processes["router"].pid), (None, keeper))
        log = open(stack.path("router.log"), errors="replace").read()
        named = {(what, int(pid)) for what, pid, _uid in CULPRIT.findall(log)}
        system.check("culprits that the log does not name, of %d" % len(NAMED),
                     sorted(r["mode"] for r in reports if r["mode"] in NAMED and (NAMED[r["mode"]], r["pid"]) not in named), [])
        system.check("lines of the log", log.count("\n"), lambda n: n < 2000)
        system.check("descriptors of the router: before %d, and its connections to the endpoint" % before[0], after[0],
                     lambda n: n <= before[0] + IN_FLIGHT_MAX)
        system.check("descriptors of the keeper: before %d" % before[1], after[1], lambda n: n <= before[1])
        if not sanitized:
            system.check("resident KiB of the router: before %d" % before[2], after[2], lambda n: n <= before[2] * 1.1 + 4096)
            system.check("resident KiB of the keeper: before %d" % before[3], after[3], lambda n: n <= before[3] * 1.1 + 1024)

        # The honest ones.
        books = stack.wait_drained(60)
        stack.check_ledger()
        report = stack.sink_report(stack.path("honest.json"))
        system.check("honest events published", load["published"], lambda n: n >= RATE * options.seconds * 0.9)
        system.check("missing", report["missing"], 0)
        system.check("duplicated", report["duplicates"], 0)
        system.check("lanes full", load["full"], 0)
        system.check("publish p50 %d, p99.9 ns (calm: %d)" % (load["publish_ns"]["p50"], calm["publish_ns"]["p999"]),
                     load["publish_ns"]["p999"], lambda ns: ns < 5000000)
        system.check("honest producers that found no lane, of %d" % len(attacher.seconds), attacher.failed[:1], [])
        system.check("attach and publish at most, s", round(max(attacher.seconds), 2), lambda s: s < (20 if sanitized else 5))
        counters = stack.stat()["counters"]
        system.check("violations counted", counters["lanes_violations"], lambda n: n > 16)
        system.check("records that are no events", counters["router_rejected"], lambda n: n > 0)
        system.check("service ends well on SIGTERM", stack.stop("router", seconds=120), 0)
        log = open(stack.path("router.log"), errors="replace").read()
        system.check("reports of sanitizers", [line for line in log.splitlines() if "Sanitizer" in line or "runtime error" in line],
                     [])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, help="meson's build directory")
    parser.add_argument("--daemon", help="another build directory, of the daemon only")
    parser.add_argument("--seconds", type=int, default=8, help="of the storm (default 8)")
    parser.add_argument("--seed", type=int, help="of what they do (default random)")
    parsed = parser.parse_args()
    begun = time.monotonic()
    try:
        main(parsed)
    except system.Failure as failure:
        print("hostile: FAILED after %.0f s: %s" % (time.monotonic() - begun, failure), flush=True)
        sys.exit(1)
    print("hostile: ok, %d checks, %.0f s" % (system.checks, time.monotonic() - begun), flush=True)
