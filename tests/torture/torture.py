"""Kills the router, its producers and now and then the keeper at random points, under load and with faults on the way, and
counts every event at every destination: a Firehose look-alike over TLS, a file, CloudWatch. Every process is a real one. Ends with

    torture: published N stored N missing 0 duplicated D

N over all destinations. Exit status: 0; 1 when an event is missing at a destination, a duplicate was not in flight at a kill, an
event has two ids or two events have one, or the books do not balance; 64 usage. The same seed kills after the same pauses; where
that hits a process is chance.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import follow  # noqa: E402
import harness  # noqa: E402

IN_FLIGHT_MAX = 4
BATCH_BYTES = 1536 << 10
FILE_BATCH_BYTES = 2 << 20
FILE_BATCHES = 3
LANE_BYTES = "8MiB"
SETTINGS = """router.lane_bytes: %s
router.lane_bytes_max: %s
egress.in_flight_max: %d
egress.batch_bytes_max: 1536KiB
egress.retry_throttle_base_ms: 100
""" % (LANE_BYTES, LANE_BYTES, IN_FLIGHT_MAX)
# What the endpoint does to one request in a hundred, each.
FAULTS = ("--reset", "0.01", "--error500", "0.01", "--throttle", "0.01", "--partial", "0.01")
# One sends a request without an answer again, the other does not. Several closings in a router's life, and few.
METRICS = {
    "counts": {"Namespace": "Torture/resend", "Period": "1s", "RollUps": [[follow.SET], [follow.STREAM], []]},
    "others": {"Namespace": "Torture/skip", "Period": "5s", "RollUps": [[follow.SET]], "Protocol": "json", "AmbiguousTimeout": "skip"},
}
STOPS = 0.03    # of the kills: while the service ends
KEEPERS = 0.01  # of the kills: the keeper's before one


class Killer:
    """Kills routers, one after the other, each at some instant of its life: some while they start, recover and take the lanes
    over, some while they end, most under full load. Those live for longer than a second, after which the keeper starts the next
    one at once."""

    def __init__(self, stack, chance, kills):
        self.stack, self.chance, self.kills = stack, chance, kills
        self.killed = self.killed_starting = self.killed_ending = self.keepers = self.stops = 0
        self.pid = 0
        self.owed = ["keeper", "stop"]

    def turn(self):
        pid = harness.child_of(self.stack.processes["router"].pid)
        if pid == 0 or self.killed >= self.kills:
            return
        if pid != self.pid:
            self.pid = pid
            self.early = self.chance.random() < 0.3
            manner = self.chance.random()
            self.manner = "stop" if manner < STOPS else "keeper" if manner < STOPS + KEEPERS else "kill"
            if self.killed >= 3 and self.owed:  # a short run has one of each as well
                self.manner, self.early = self.owed.pop(), False
            self.due = time.monotonic() + (self.chance.uniform(0, 0.4) if self.early else self.chance.uniform(1.05, 1.5))
        if time.monotonic() < self.due:
            return
        self.due = float("inf")
        if self.early or self.manner == "kill":
            self.killed_starting += self.kill(pid) and self.early
        elif self.manner == "stop":
            self.stop()
        else:
            self.kill_keeper(pid)

    def kill(self, pid):
        """Whether it was there to be killed."""
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.killed += 1
        return True

    def stop(self):
        """SIGTERM, and the router that drains is killed, and perhaps the one that the keeper starts to drain in its place. A
        slow endpoint, so that there is something to be killed in."""
        self.stack.tell_sink("set latency 300ms")
        service = self.stack.processes.pop("router")
        service.send_signal(signal.SIGTERM)
        for _ in range(self.chance.randint(1, 2)):
            time.sleep(self.chance.uniform(0, 0.3))
            pid = harness.child_of(service.pid)
            if pid != 0 and self.killed < self.kills:
                self.killed_ending += self.kill(pid)
        status = service.wait(120)
        # 137: it was killed when it had closed every lane, and there was nothing left to drain.
        if status not in (0, 128 + signal.SIGKILL):
            raise harness.Failure("the service ended with status %d after SIGTERM" % status)
        self.stack.tell_sink("set latency 5ms")
        self.rest()

    def kill_keeper(self, pid):
        """The router goes on alone, drains and ends; then a new service starts."""
        service = self.stack.processes.pop("router")
        service.send_signal(signal.SIGKILL)
        service.wait()
        self.keepers += 1
        harness.wait_for("a router without keeper to end", lambda: not self.lives(pid), 120)
        self.rest()

    def rest(self):
        """Nothing runs but producers: the books must balance as they lie there."""
        self.stops += 1
        self.stack.check_ledger()
        self.stack.start_router()

    @staticmethod
    def lives(pid):
        try:
            with open("/proc/%d/stat" % pid) as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False


def say(options, text):
    if not options.quiet:
        print("torture: " + text, file=sys.stderr, flush=True)


def storm(options, stack, chance, ledger):
    """Load until every kill has happened. Returns loadgen's report and the killer."""
    killer = Killer(stack, chance, options.router_kills)
    producer_seconds = options.producer_kills * options.producer_pause * 1.5
    producers = subprocess.Popen(
        stack.loadgen_arguments(ledger, "--producers", str(options.producers), "--rate", str(options.rate), "--seconds",
                                "1000000", "--mix", "all", "--seed", str(options.seed), "--kill-test",
                                "--counts", stack.path("counts"), "--kills", str(options.producer_kills),
                                "--kill-interval", str(int(options.producer_pause * 1000)), "--flush-timeout", "60000"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.processes["loadgen"] = producers
    begun = spoke = time.monotonic()
    try:
        # loadgen stops killing by itself after its number; it is given the time that they take, and a half more.
        while killer.killed < options.router_kills or time.monotonic() - begun < producer_seconds:
            if producers.poll() is not None:
                raise harness.Failure("the producers ended: %s" % producers.stderr.read())
            if stack.processes["router"].poll() is not None:
                raise harness.Failure("the service ended with status %d" % stack.processes["router"].returncode)
            killer.turn()
            if time.monotonic() - spoke >= 10:
                spoke = time.monotonic()
                say(options, "%4.0f s  routers killed %d of %d" % (spoke - begun, killer.killed, options.router_kills))
            time.sleep(0.003)
        time.sleep(1)  # the last router takes the lanes over
    finally:
        if producers.poll() is None:
            producers.send_signal(signal.SIGTERM)
        out, errors = producers.communicate(timeout=120)
        del stack.processes["loadgen"]
    if producers.returncode != 0:
        raise harness.Failure("the producers ended with %d: %s%s" % (producers.returncode, out, errors))
    return json.loads(out.strip().splitlines()[-1]), killer


def judge_skip(metrics, events, unanswered_max, accepted_again, wrong):
    """Nothing is there twice; what is missing was in requests without an answer."""
    ours = METRICS["others"]
    expected = follow.expected_sums(events, ours["Namespace"], ours["RollUps"])
    seen = {key: n for key, n in metrics["seen"].items() if key[0] == ours["Namespace"]}
    surplus = sum(max(0, n - expected.get(key, 0)) for key, n in seen.items())
    if surplus > accepted_again:
        wrong.append("cloudwatch, skip: the sums are %d too large" % surplus)
    short = sum(expected.values()) - sum(seen.values())
    if short > unanswered_max * metrics["largest"]:
        wrong.append("cloudwatch, skip: %d counts are missing, where at most %d requests had no answer" % (short, unanswered_max))
    return {"counts": sum(expected.values()), "not_sent_again": short, "series": len(expected)}


def verdict(options, stack, load, killer, ledger, followers):
    """Holds every destination against the ledger. Returns the figures and what is wrong."""
    books = stack.wait_drained(180)
    stack.check_ledger()
    wrong = []
    published = follow.published_counts(ledger)
    for follower in followers.values():
        follower.finish()
    ids = followers["file"].ids
    accepted_again = ids.accepted_again()
    sink = stack.sink_report(ledger)
    ends = {name: follower.held_against(published) for name, follower in followers.items()}
    uncounted = ends["firehose"]["unexpected"]
    metrics = follow.metric_sums(stack.path("sink", "metrics.ndjson"))
    ends["cloudwatch"] = follow.held_against_metrics(metrics, followers["file"].sums, METRICS["counts"]["Namespace"],
                                                     METRICS["counts"]["RollUps"], accepted_again, wrong)
    skipped = judge_skip(metrics, followers["file"].sums, killer.killed + sink["counters"]["fault_reset"],
                         accepted_again, wrong)

    line_bytes_min = min(follower.line_bytes_min for follower in followers.values())
    bounds = {"firehose": killer.killed * (IN_FLIGHT_MAX + 1) * (BATCH_BYTES * 3 // 4 // line_bytes_min),
              "file": killer.killed * FILE_BATCHES * (FILE_BATCH_BYTES // line_bytes_min),
              "cloudwatch": killer.killed * metrics["largest"]}
    for name, end in ends.items():
        end["duplicates_max"] = bounds[name]
        if end["missing"] != 0:
            wrong.append("%s: %d events are missing" % (name, end["missing"]))
        if end["duplicates"] > bounds[name]:
            wrong.append("%s: %d duplicates, where at most %d were in flight" % (name, end["duplicates"], bounds[name]))
        # A producer may die between its commit and its own count: one event each at most.
        if end["unexpected"] > load["killed"]:
            wrong.append("%s: %d events that no producer told of, of %d killed ones" % (name, end["unexpected"], load["killed"]))
    if (sink["distinct"], sink["duplicates"]) != (ends["firehose"]["stored"], ends["firehose"]["duplicates"]):
        wrong.append("firehose: the sink's own count is %d and %d twice" % (sink["distinct"], sink["duplicates"]))
    # Two destinations of a target each; one request of one target is on the wire when a router dies.
    if metrics["requests_again"] > killer.killed:
        wrong.append("cloudwatch: %d requests were taken again, of %d kills" % (metrics["requests_again"], killer.killed))

    if ids.shared() != 0:
        wrong.append("%d events have the event id of another one" % ids.shared())
    # A producer that was told "not taken" by a router that ends publishes again; in a race of nanoseconds it was.
    if accepted_again > killer.stops * options.producers:
        wrong.append("%d events came with different event ids" % accepted_again)
    for target in books["targets"]:
        if target["accepted"] != load["published"] + uncounted + accepted_again:
            wrong.append("%s: accepted %d, published %d" % (target["target"], target["accepted"], load["published"] + uncounted))
    if books["rejected"] != 0:
        wrong.append("%d events were rejected as malformed" % books["rejected"])
    if killer.killed != options.router_kills:
        wrong.append("%d routers were killed, not %d" % (killer.killed, options.router_kills))
    if load["killed"] != options.producer_kills:
        wrong.append("%d producers were killed, not %d" % (load["killed"], options.producer_kills))
    figures = {
        "published": (load["published"] + uncounted) * len(ends),
        "stored": sum(end["stored"] for end in ends.values()),
        "missing": sum(end["missing"] for end in ends.values()),
        "duplicated": sum(end["duplicates"] for end in ends.values()),
        "router_kills": killer.killed, "while_starting": killer.killed_starting, "while_ending": killer.killed_ending,
        "keeper_kills": killer.keepers, "quiet_points": killer.stops + 1,
        "producer_kills": load["killed"], "seed": options.seed,
        "events": load["published"] + uncounted, "event_ids_of_lanes": len(ids.lanes), "accepted_again": accepted_again,
        "destinations": ends, "cloudwatch_skip": skipped,
    }
    return figures, wrong


def main():
    parser = argparse.ArgumentParser(prog="scripts/torture", description="Kills routers, producers and keepers at random under "
                                     "load and counts every event at every destination.")
    parser.add_argument("--router-kills", type=int, default=1000, help="SIGKILLs of the router (default 1000)")
    parser.add_argument("--producer-kills", type=int, default=5000, help="SIGKILLs of producers (default 5000)")
    parser.add_argument("--seed", type=int, default=None, help="of the pauses between kills and of the events (default random)")
    parser.add_argument("--producers", type=int, default=4, help="producers at a time (default 4)")
    parser.add_argument("--rate", type=int, default=4000, help="events/s of all producers together (default 4000)")
    parser.add_argument("--producer-pause", type=float, default=0.08, help="seconds between two producers' deaths, on average "
                        "(default 0.08)")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object before the last line")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    parser.add_argument("--keep", action="store_true", help="keep the working directory")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.router_kills < 0 or options.producer_kills < 0 or options.producers < 1 or options.rate < 1:
        parser.error("numbers must not be negative, and there must be a producer and a rate")
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(4), "little")
    say(options, "seed %d" % options.seed)
    chance = random.Random(options.seed)
    try:
        with harness.Stack(options.build, tls=True, name="torture", keep=options.keep) as stack:
            os.mkdir(stack.path("store"))
            stack.start_sink("--latency", "5ms", "--seed", str(options.seed), "--store", stack.path("store"), *FAULTS)
            stack.write_configuration(file_destination=True, event_ids=True, cloudwatch={
                name: follow.cloudwatch_destination(**ours) for name, ours in METRICS.items()},
                                      settings=SETTINGS)
            ids = follow.EventIds()
            followers = {"firehose": follow.Follower(stack.path("store", "mail-events.ndjson"), ids),
                         "file": follow.Follower(stack.path("events.ndjson"), ids, tags=(follow.SET, follow.STREAM))}
            for follower in followers.values():
                follower.start()
            stack.start_router()
            ledger = stack.path("published.json")
            load, killer = storm(options, stack, chance, ledger)
            figures, wrong = verdict(options, stack, load, killer, ledger, followers)
            if options.json:
                print(json.dumps(figures))
            status = stack.stop("router")
            if status != 0:
                wrong.append("the service ended with status %d after SIGTERM" % status)
            stack.check_ledger()
            if wrong:
                raise harness.Failure("; ".join(wrong))
    except harness.Failure as failure:
        print("torture: FAILED (seed %d): %s" % (options.seed, failure), flush=True)
        return 1
    print("torture: published %(published)d stored %(stored)d missing %(missing)d duplicated %(duplicated)d" % figures, flush=True)
    return 0


sys.exit(main())
