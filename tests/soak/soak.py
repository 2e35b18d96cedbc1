"""Keeps the whole path going for a long time while the endpoint misbehaves in every way that the sink knows: producers come, go and
are killed; the router is reloaded again and again and killed now and then in the first half; in the second half one router lives
through it all. Samples memory, descriptors, disk and CPU. Ends with one line:

    soak: ok, 30 min: events N missing 0, ... heap of the router A -> B KiB, anonymous memory C -> D MiB, ...

Exit status: 0; 1 when an event is missing, the books do not balance, or memory or descriptors grow; 64 usage.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import follow  # noqa: E402
import harness  # noqa: E402

# Of one router's life the second third and the last one are held against each other: what it has then has to be the same,
# within FACTOR and this much more. Memory by the median, descriptors by the least seen: producers that come and go have some.
# What it has taken from the heap is counted to the byte (ALLOCATOR: what jemalloc would keep at hand for each thread would count as
# taken), but OpenSSL's part comes and goes with each connection: it is counted when there is none, in short outages.
HEAP_BYTES = 4 << 10
CENSUS_DOWN_S, CENSUS_LOOKS = 3.5, 3
ALLOCATOR = {"MALLOC_CONF": "tcache:false"}
ANONYMOUS_FACTOR, ANONYMOUS_KIB = 1.01, 512
KEEPER_KIB = 256
# On the disk: all segments, which may be JOURNAL_BYTES, and beside them the counters page, targets, an outbox.
JOURNAL_BYTES, OTHER_BYTES = 256 << 20, 16 << 20
DESCRIPTORS = 4  # connections that are just being made, a segment that is just being prepared
# A run of less than this is over before everything was touched once, or no producer was there for a moment.
SHORT_MINUTES, SHORT_HEAP_BYTES, SHORT_ANONYMOUS_KIB, SHORT_DESCRIPTORS = 5, 1 << 20, 48 << 10, 4 + 4 * 6
# The lasting router begins with an outage in which all its batches fill, then slow answers, for which it uses all its connections,
# then such without end, which fill all their buffers: all that is made at start, and costs memory when it is first touched.
WARM_DOWN_S, WARM_SLOW_S, WARM_ENDLESS_S = 20, 3.3, 4
# What is mapped from files: programs and libraries, the small files of the state directory; beside them the journal's segments.
# What is shared: io_uring's rings and the daemon's page; beside them lanes.
FILES_KIB, SHARED_KIB, LANE_KIB, VISITING_LANES = 16 << 10, 1024, 8 << 10, 2 * 4
SETTINGS = """router.lane_bytes: 8MiB
router.lane_bytes_max: 8MiB
journal.segment_bytes: 4MiB
journal.size_bytes_max: %d
egress.retry_throttle_base_ms: 100
egress.retry_max_ms: 1s
egress.request_timeout_ms: 2s
""" % JOURNAL_BYTES
NAMESPACE, ROLL_UPS = "Soak", [[follow.SET], [follow.STREAM], []]
# What the endpoint does, a few at a time, with these probabilities at most.
FAULTS = {"throttle": 0.1, "partial": 0.1, "error500": 0.1, "reset": 0.1, "reset_after": 0.05, "garbage": 0.1, "stall": 0.02,
          "stall_bytes": 0.02, "endless": 0.02}
RUN_ID = "0000050a"


class Weather(threading.Thread):
    """What happens to the service: other faults every few seconds, outages, reloads, kills, producers that come and go."""

    def __init__(self, options, stack, chance, begun, calm_from):
        super().__init__(daemon=True)
        self.options, self.stack, self.chance, self.begun, self.calm_from = options, stack, chance, begun, calm_from
        self.kills = self.reloads = self.outages = self.visitors = 0
        self.warm_until = None
        self.heap = []  # (when, bytes) of each census
        self.ledgers, self.visiting = [], []
        self.ending = threading.Event()
        self.failure = None

    def run(self):
        scale = min(1.0, self.options.minutes / 10)  # short runs see everything, too
        every = {self.faults: 5 * scale + 1, self.outage: 90 * scale, self.reload: 20 * scale, self.kill: 45 * scale,
                 self.visitor: 6 * scale + 1, self.census: 30 * scale}
        due = {what: self.begun + self.chance.uniform(0.3, 1) * seconds for what, seconds in every.items()}
        try:
            while not self.ending.wait(0.1):
                if self.warm_until is None and time.monotonic() >= self.calm_from:
                    self.warm()
                for what, seconds in every.items():
                    if time.monotonic() >= due[what]:
                        what()
                        due[what] = time.monotonic() + self.chance.uniform(0.5, 1.5) * seconds
                self.visiting = [process for process in self.visiting if self.is_there(process)]
        except Exception as failure:  # whatever it is: finish() tells it
            self.failure = failure

    @staticmethod
    def is_there(process):
        if process.poll() is None:
            return True
        if process.returncode != 0:
            raise harness.Failure("a producer that came and went ended with %d: %s" % (process.returncode, process.stderr.read()))
        return False

    def faults(self):
        for fault, most in FAULTS.items():
            chance = self.chance.uniform(0, most) if self.chance.random() < 0.4 else 0
            self.stack.tell_sink("set %s %g" % (fault, chance))
        self.stack.tell_sink("set latency %dms" % self.chance.choice((0, 2, 20, 200)))

    def outage(self):
        self.outages += 1
        how = self.chance.choice(("down", "blackhole"))
        self.stack.tell_sink("set %s on" % how)
        self.ending.wait(self.chance.uniform(1, 5))
        self.stack.tell_sink("set %s off" % how)

    def warm(self):
        """Makes the router touch what it has, once."""
        if self.options.minutes >= SHORT_MINUTES:
            for fault in FAULTS:
                self.stack.tell_sink("set %s 0" % fault)
            self.stack.tell_sink("set down on")
            self.ending.wait(WARM_DOWN_S)
            self.stack.tell_sink("set latency 1s")
            self.stack.tell_sink("set down off")
            self.ending.wait(WARM_SLOW_S)
            self.stack.tell_sink("set endless 1")
            self.ending.wait(WARM_ENDLESS_S)
            self.faults()
        self.warm_until = time.monotonic()

    def census(self):
        """What the router has from the heap when it has no connection."""
        if self.warm_until is None or self.options.minutes < SHORT_MINUTES:
            return
        self.stack.tell_sink("set down on")
        self.ending.wait(CENSUS_DOWN_S)
        looks = []
        for _ in range(CENSUS_LOOKS):
            self.reload()  # the router counts 1 s after it
            self.ending.wait(1.6)
            looks.append(self.stack.stat()["counters"]["control_heap_bytes"])
        self.stack.tell_sink("set down off")
        if not self.ending.is_set():
            self.heap.append((time.monotonic(), min(looks)))

    def reload(self):
        self.reloads += 1
        self.stack.processes["router"].send_signal(signal.SIGHUP)

    def kill(self):
        pid = harness.child_of(self.stack.processes["router"].pid)
        if pid != 0 and time.monotonic() < self.calm_from:
            os.kill(pid, signal.SIGKILL)
            self.kills += 1

    def visitor(self):
        """Producers that attach, publish for a second and leave as they should."""
        ledger = self.stack.path("visitor-%d.json" % self.visitors)
        first = 30000 + 4 * self.visitors
        arguments = self.stack.loadgen_arguments(ledger, "--producers", str(self.chance.randint(1, 4)), "--rate", "400", "--seconds",
                                                 "1", "--mix", "all", "--run-id", RUN_ID, "--first-producer", str(first),
                                                 "--kill-test", "--flush-timeout", "60000")
        self.visiting.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        self.ledgers.append(ledger)
        self.visitors += 1

    def finish(self):
        self.ending.set()
        self.join(60)
        if self.failure is not None:
            raise harness.Failure(str(self.failure)) from self.failure
        for process in self.visiting:
            process.wait(120)
            self.is_there(process)
        for fault in list(FAULTS):
            self.stack.tell_sink("set %s 0" % fault)
        self.stack.tell_sink("set latency 0")


def sample(stack, begun):
    """One look at router, keeper and disk; None while there is no router."""
    keeper = stack.processes["router"].pid
    router = harness.child_of(keeper)
    try:
        journal = sum(os.stat(os.path.join(folder, name)).st_blocks * 512
                      for folder, _, names in os.walk(stack.path("state")) for name in names)
        told = stack.stat()
        return {"seconds": round(time.monotonic() - begun, 1), "router": router,
                "heap_bytes": told["counters"]["control_heap_bytes"] if told["pid"] == router else 0,
                "lanes": told["counters"]["lanes_now"] if told["pid"] == router else 0,
                "rss_kib": harness.status_kib(router, "VmRSS"), "anonymous_kib": harness.status_kib(router, "RssAnon"),
                "files_kib": harness.status_kib(router, "RssFile"), "shared_kib": harness.status_kib(router, "RssShmem"),
                "keeper_rss_kib": harness.status_kib(keeper, "VmRSS"),
                "descriptors": len(os.listdir("/proc/%d/fd" % router)),
                "keeper_descriptors": len(os.listdir("/proc/%d/fd" % keeper)),
                "threads": harness.status_kib(router, "Threads"),
                "state_bytes": journal, "cpu_seconds": harness.cpu_seconds(router)}
    except OSError:
        return None  # killed while we looked


def say(options, text):
    if not options.quiet:
        print("soak: " + text, file=sys.stderr, flush=True)


def watch(options, stack, load, begun, end):
    """Samples until the end. Returns them."""
    samples, spoke = [], begun
    every = max(0.5, min(5.0, options.minutes * 60 / 60))
    with open(options.json or os.devnull, "w") as out:
        while time.monotonic() < end:
            time.sleep(every)
            if load.poll() is not None:
                raise harness.Failure("the producers ended: %s" % load.stderr.read())
            if stack.processes["router"].poll() is not None:
                raise harness.Failure("the service ended with status %d" % stack.processes["router"].returncode)
            seen = sample(stack, begun)
            if seen is None:
                continue
            samples.append(seen)
            out.write(json.dumps(seen) + "\n")
            out.flush()
            if time.monotonic() - spoke >= 30:
                spoke = time.monotonic()
                say(options, "%(seconds)5.0f s  router: heap %(heap_bytes)d, rss %(rss_kib)d KiB, of which anonymous %(anonymous_kib)d, "
                    "files %(files_kib)d, shared %(shared_kib)d, %(descriptors)d descriptors; keeper: "
                    "rss %(keeper_rss_kib)d KiB, %(keeper_descriptors)d descriptors; disk %(state_bytes)d" % seen)
                stack.check_ledger()
    return samples


def growth(options, stack, samples, warm_after, censuses, wrong):
    """What must not grow: the second third of the last router's life, once it is warm, against the last third."""
    last = [seen for seen in samples if seen["router"] == samples[-1]["router"]]
    lived = last[-1]["seconds"] - last[0]["seconds"]
    warm = [seen for seen in last if seen["seconds"] >= warm_after and seen["heap_bytes"] > 0] or last
    figures = {"router_lived_s": round(lived), "censuses": censuses}
    short = options.minutes < SHORT_MINUTES
    if not short and len(censuses) < 6:
        wrong.append("only %d looks at the heap" % len(censuses))
    if not short and min((count for _, count in censuses), default=1) == 0:
        wrong.append("this build of the router does not count its heap: leaks would not be seen")
    heap, anonymous = (SHORT_HEAP_BYTES, SHORT_ANONYMOUS_KIB) if short else (HEAP_BYTES, ANONYMOUS_KIB)
    for what, which, factor, more in (("heap_bytes", statistics.median, 1, heap),
                                      ("anonymous_kib", statistics.median, ANONYMOUS_FACTOR, anonymous),
                                      ("keeper_rss_kib", statistics.median, 1, KEEPER_KIB),
                                      ("descriptors", min, 1, SHORT_DESCRIPTORS if short else DESCRIPTORS),
                                      ("keeper_descriptors", min, 1, SHORT_DESCRIPTORS if short else DESCRIPTORS),
                                      ("threads", min, 1, 1)):
        seen = [one[what] for one in warm]
        if what == "heap_bytes" and not short:
            seen = [count for _, count in censuses]
        third = max(1, len(seen) // 3)
        early, late = which(seen[-2 * third:-third] or seen), which(seen[-third:])
        figures[what] = [early, late]
        if late > early * factor + more:
            wrong.append("%s grew from %d to %d in %d s" % (what, early, late, lived))
    # Mapped files and lanes come and go with the backlog and with producers: never more than there are.
    lanes = max(seen["lanes"] for seen in samples) + VISITING_LANES
    for what, most in (("files_kib", FILES_KIB + max(seen["state_bytes"] for seen in samples) // 1024),
                       ("shared_kib", SHARED_KIB + lanes * LANE_KIB)):
        figures[what + "_max"], figures[what + "_allowed"] = max(seen[what] for seen in last), most
        if figures[what + "_max"] > most:
            wrong.append("%s: %d, allowed are %d" % (what, figures[what + "_max"], most))
    # But for lanes: what the router said at its start that it may take.
    told = re.findall(r'msg="memory budget" total_mib=(\d+) lanes_mib=(\d+) ', stack.log("router", 1000000))
    if not told:
        wrong.append("the log says nothing of a memory budget")
    figures["budget_kib"] = min((int(total) - int(lanes) + 1) << 10 for total, lanes in told) if told else 0
    figures["private_kib_max"] = max(seen["anonymous_kib"] + seen["files_kib"] for seen in samples)
    if figures["private_kib_max"] > figures["budget_kib"]:
        wrong.append("the router took %d KiB besides lanes, and its budget is %d" % (figures["private_kib_max"], figures["budget_kib"]))
    third = max(1, len(warm) // 3)
    figures["rss_kib"] = [statistics.median(seen["rss_kib"] for seen in warm[-2 * third:-third] or warm),
                          statistics.median(seen["rss_kib"] for seen in warm[-third:])]
    figures["state_bytes_max"] = max(seen["state_bytes"] for seen in samples)
    if figures["state_bytes_max"] > JOURNAL_BYTES + OTHER_BYTES:
        wrong.append("%d bytes on the disk" % figures["state_bytes_max"])
    figures["cpu_percent"] = round(100 * (last[-1]["cpu_seconds"] - last[0]["cpu_seconds"]) / max(lived, 0.1), 1)
    return figures


def run(options, stack, chance):
    ids = follow.EventIds()
    followers = {"firehose": follow.Follower(stack.path("store", "mail-events.ndjson"), ids),
                 "file": follow.Follower(stack.path("events.ndjson"), ids, tags=(follow.SET, follow.STREAM))}
    for follower in followers.values():
        follower.start()
    begun = time.monotonic()
    end = begun + options.minutes * 60
    ledger = stack.path("published.json")
    load = subprocess.Popen(
        stack.loadgen_arguments(ledger, "--producers", "4", "--rate", str(options.rate), "--seconds", "1000000", "--mix", "all",
                                "--run-id", RUN_ID, "--seed", str(options.seed), "--kill-test", "--counts", stack.path("counts"),
                                "--kills", "4000", "--kill-interval", "2000", "--flush-timeout", "60000"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.processes["loadgen"] = load
    weather = Weather(options, stack, chance, begun, calm_from=begun + options.minutes * 30)
    weather.start()
    try:
        samples = watch(options, stack, load, begun, end)
        weather.finish()
    finally:
        weather.ending.set()
        load.send_signal(signal.SIGTERM)
        out, errors = load.communicate(timeout=120)
        del stack.processes["loadgen"]
    if load.returncode != 0:
        raise harness.Failure("the producers ended with %d: %s%s" % (load.returncode, out, errors))
    load = json.loads(out.strip().splitlines()[-1])

    wrong = []
    books = stack.wait_drained(180)
    stack.check_ledger()
    for follower in followers.values():
        follower.finish()
    published = follow.published_counts(ledger, *weather.ledgers)
    ends = {name: follower.held_against(published) for name, follower in followers.items()}
    metrics = follow.metric_sums(stack.path("sink", "metrics.ndjson"))
    ends["cloudwatch"] = follow.held_against_metrics(metrics, followers["file"].sums, NAMESPACE, ROLL_UPS, 0, wrong)
    events = sum(published.values()) + ends["file"]["unexpected"]
    for name, found in ends.items():
        if found["missing"] != 0:
            wrong.append("%s: %d events are missing" % (name, found["missing"]))
        if found["unexpected"] > load["killed"]:
            wrong.append("%s: %d events that no producer told of" % (name, found["unexpected"]))
    for target in books["targets"]:
        if target["accepted"] != events or target["delivered"] != events:
            wrong.append("%s: accepted %d, delivered %d of %d" % (target["target"], target["accepted"], target["delivered"], events))
    if ids.shared() != 0 or ids.accepted_again() != 0:
        wrong.append("event ids: %d shared, %d events with two" % (ids.shared(), ids.accepted_again()))
    counters = stack.stat()["counters"]
    sink = stack.sink_report(ledger)["counters"]
    figures = growth(options, stack, samples, (weather.warm_until or begun) - begun,
                     [(round(at - begun, 1), count) for at, count in weather.heap], wrong)
    figures.update({"events": events, "destinations": ends, "router_kills": weather.kills, "reloads": weather.reloads,
                    "outages": weather.outages, "producers_killed": load["killed"], "visitors": weather.visitors,
                    "requests": sink["requests"], "faults": {name: n for name, n in sink.items() if name.startswith("fault_")},
                    "reloads_refused": counters["control_reloads_refused"], "seed": options.seed, "minutes": options.minutes})
    if counters["control_reloads_refused"] != 0:
        wrong.append("%d reloads were refused" % counters["control_reloads_refused"])
    return figures, wrong


def main():
    parser = argparse.ArgumentParser(prog="scripts/soak", description="The whole path under a misbehaving endpoint for a long time: "
                                     "nothing lost, nothing grows.")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--seed", type=int, default=None, help="of faults, pauses and events (default random)")
    parser.add_argument("--rate", type=int, default=2000, help="events/s of the steady producers together (default 2000)")
    parser.add_argument("--json", metavar="FILE", help="write the samples, one JSON object a line, and the figures behind them")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.minutes <= 0 or options.rate < 1:
        parser.error("there must be some minutes and a rate")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "little")
    say(options, "seed %d" % options.seed)
    try:
        with harness.Stack(options.build, tls=True, name="soak", keep=options.keep) as stack:
            os.mkdir(stack.path("store"))
            stack.start_sink("--seed", str(options.seed), "--store", stack.path("store"))
            stack.write_configuration(file_destination=True, event_ids=True, settings=SETTINGS, cloudwatch={
                "counts": follow.cloudwatch_destination(Namespace=NAMESPACE, RollUps=ROLL_UPS, Period="5s")})
            stack.start_router(env=ALLOCATOR)
            figures, wrong = run(options, stack, random.Random(options.seed))
            status = stack.stop("router")
            if status != 0:
                wrong.append("the service ended with status %d after SIGTERM" % status)
            stack.check_ledger()
            if options.json:
                with open(options.json, "a") as out:
                    out.write(json.dumps(figures) + "\n")
            if wrong:
                raise harness.Failure("; ".join(wrong))
    except harness.Failure as failure:
        print("soak: FAILED (seed %d): %s" % (options.seed, failure), flush=True)
        return 1
    heap, anonymous, descriptors = figures["heap_bytes"], figures["anonymous_kib"], figures["descriptors"]
    print("soak: ok, %g min: events %d missing 0, routers killed %d, reloads %d, producers killed %d and gone %d, requests %d of which "
          "hit by faults %d; heap of the router %d -> %d KiB, anonymous memory %.1f -> %.1f MiB, mapped files at most %.1f, lanes %.1f MiB; "
          "descriptors %d -> %d; ledger balanced" %
          (options.minutes, figures["events"], figures["router_kills"], figures["reloads"], figures["producers_killed"],
           figures["visitors"], figures["requests"], sum(figures["faults"].values()), heap[0] // 1024, heap[1] // 1024,
           anonymous[0] / 1024, anonymous[1] / 1024, figures["files_kib_max"] / 1024, figures["shared_kib_max"] / 1024,
           descriptors[0], descriptors[1]), flush=True)
    return 0


sys.exit(main())
