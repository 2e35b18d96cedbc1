"""`sendring run` in the hands of people who make mistakes: each is refused with a sentence, or survived; none loses an event."""
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time

import system


def attempt(stack, *flags, settings=None, env=None, seconds=20):
    """Runs `sendring run` to its end, or ends it. Returns its status (None: had to be ended) and what it said."""
    process = subprocess.Popen([stack.sendring, "run", "--settings", settings or stack.settings] + list(flags),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=dict(os.environ, **(env or {})))
    try:
        out, _ = process.communicate(timeout=seconds)
        return process.returncode, out
    except subprocess.TimeoutExpired:
        process.terminate()
        out, _ = process.communicate(timeout=20)
        return None, out


def refused(what, seen, status, *sentences):
    system.check("%s: status" % what, seen[0], status)
    for sentence in sentences:
        system.check("%s: says %r" % (what, sentence), sentence in seen[1] or seen[1], True)


def before_the_start(stack):
    stack.write_configuration(firehose=False, file_destination=True)
    settings, sets = open(stack.settings).read(), open(stack.sets_file).read()

    def with_settings(old, new):
        with open(stack.settings, "w") as out:
            out.write(settings.replace(old, new))

    refused("no settings file", attempt(stack, settings="/nonexistent/sendring.yaml"), 78, "/nonexistent/sendring.yaml")
    refused("a folder as settings file", attempt(stack, settings="/tmp"), 78, "Is a directory")
    refused("a word too many", attempt(stack, "now"), 64, "now")
    with open(stack.sets_file, "a") as out:
        out.write("- ConfigurationSetNam: x\n")
    refused("a mistake in the sets", attempt(stack), 78, "configuration-sets.yaml:", "did you mean", "1 mistake,")
    os.unlink(stack.sets_file)
    refused("no sets", attempt(stack), 78, "No such file")
    with open(stack.sets_file, "w") as out:
        out.write(sets)
    with_settings(stack.socket, stack.path("s" * 150))
    refused("a socket path that is too long", attempt(stack), 78, "107 at most")
    with_settings(stack.socket, "/nonexistent/folder/s.sock")
    refused("a socket in no folder", attempt(stack), 78, "does the folder of socket_path exist?")
    with_settings(stack.path("state"), "/proc/nobody/state")
    refused("a state directory that cannot be", attempt(stack), 78, "state_directory", "/proc/nobody")
    with open(stack.path("plain"), "w") as out:
        out.write("text")
    with_settings(stack.path("state"), stack.path("plain"))
    refused("a file as state directory", attempt(stack), 78, "is not a directory")
    with_settings("", "")


def second_daemon(stack):
    stack.start_router()
    refused("a second one on the socket", attempt(stack), 78, "another sendring listens on")
    other = stack.path("other.yaml")
    with open(other, "w") as out:
        out.write(open(stack.settings).read().replace(stack.socket, stack.path("other.sock")))
    refused("a second one on the state directory", attempt(stack, "--no-keeper", settings=other), 1,
            "in use by another process: stop it first")
    seen = attempt(stack, settings=other, seconds=2)
    system.check("with a keeper it waits for the first to end", seen[0], None)
    system.check("and says so", "in use by another process: stop it first" in seen[1], True)
    load = stack.loadgen("--producers", "2", "--events", "20000", "--run-id", "00005ec0", ledger="second.json")
    system.check("the first one is unharmed", stack.wait_drained()["targets"][0]["delivered"], load["published"])


def storms(stack, times):
    """SIGHUP as fast as it goes, under load."""
    ledger = stack.path("storm.json")
    producers = subprocess.Popen(stack.loadgen_arguments(ledger, "--producers", "2", "--rate", "10000", "--seconds", "3",
                                                         "--run-id", "00005703"),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pid = stack.router_pid()
    for _ in range(times):
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.002)
    out, _ = producers.communicate(timeout=60)
    load = json.loads(out.strip().splitlines()[-1])
    system.check("published in a storm of SIGHUP", load["published"], lambda n: n > 0)
    system.check("the router lives", stack.router_pid(), pid)
    books = stack.wait_drained()
    system.check("ledger balanced", books["balanced"], True)
    system.check("reloads", stack.stat()["counters"]["control_reloads"], lambda n: n > 0)


def reload_and_wait(stack, counter="control_reloads"):
    before = stack.stat()["counters"][counter]
    os.kill(stack.router_pid(), signal.SIGHUP)
    system.wait_for("%s to move" % counter, lambda: stack.stat()["counters"][counter] > before, 20)


def add_file_destination(stack, path):
    with open(stack.sets_file, "a") as out:
        out.write("- ConfigurationSetName: extra\n  EventDestinations:\n  - EventDestinationName: file\n"
                  "    EventDestination:\n      Enabled: true\n      MatchingEventTypes: [SEND]\n      Sendring:\n"
                  "        FileDestination:\n          Path: %s\n" % json.dumps(path, ensure_ascii=False))


def refused_reload(stack):
    """A target that cannot be made must not stay behind in the journal: its cursor would hold the log for ever."""
    good = open(stack.sets_file).read()
    add_file_destination(stack, "/proc/nobody/events.ndjson")
    reload_and_wait(stack, "control_reloads_refused")
    with open(stack.sets_file, "w") as out:
        out.write(good)
    row = [t for t in stack.ledger()["targets"] if "/proc/nobody" in t["target"]]
    system.check("what could not be made is retired", [t["removed"] for t in row], [True])
    system.check("and said", "/proc/nobody" in stack.log("router", 200), True)


def odd_names(stack):
    """JSON is JSON whatever a target is called."""
    good = open(stack.sets_file).read()
    os.makedirs(stack.path("d" * 200))
    path = stack.path("d" * 200, "a\"b\\c%s" + "ä€😀" * 20)
    add_file_destination(stack, path)
    reload_and_wait(stack)
    for command in ("stat", "ledger"):
        done = subprocess.run([stack.sendring, command, "--settings", stack.settings, "--json"], capture_output=True)
        system.check("%s: status" % command, done.returncode, 0)
        keys = [t["target"] for t in json.loads(done.stdout.decode("utf-8", errors="strict"))["targets"]]
        system.check("%s: the target is called as it is" % command, any(path in key for key in keys), True)
    with open(stack.sets_file, "w") as out:
        out.write(good)
    reload_and_wait(stack)


def dead_and_back(stack):
    """A destination whose endpoint is down is removed and comes back: no reload waits for it, and nothing of it is lost."""
    stack.tell_sink("set down on")
    stack.loadgen("--producers", "1", "--events", "1000", "--run-id", "0000dead", ledger="dead.json")
    system.wait_for("the stream to wait", lambda: [t["waiting"] for t in stack.ledger()["targets"]
                    if t["target"].startswith("firehose")] == [1000], 10)
    with_stream = open(stack.sets_file).read()
    stack.write_configuration(firehose=False, file_destination=True)
    reload_and_wait(stack)
    system.wait_for("the stream to be removed", lambda: [t for t in stack.stat()["targets"] if t["status"] == "removed"], 10)
    with open(stack.sets_file, "w") as out:
        out.write(with_stream)
    reload_and_wait(stack)
    stack.tell_sink("set down off")
    books = stack.wait_drained()
    system.check("missing", stack.sink_report(stack.path("dead.json"))["missing"], 0)
    system.check("shed", sum(t["shed"] for t in books["targets"]), 0)
    # Removed, still waiting, and then the end: the next start delivers what is left.
    stack.tell_sink("set down on")
    stack.loadgen("--producers", "1", "--events", "1000", "--run-id", "0000dea2", ledger="dead2.json")
    stack.write_configuration(firehose=False, file_destination=True,
                              settings="shutdown.drain_seconds: 1\negress.endpoints: {firehose: \"%s\"}" % stack.endpoint)
    reload_and_wait(stack)
    system.wait_for("the stream to be removed", lambda: [t for t in stack.stat()["targets"] if t["status"] == "removed"], 10)
    system.check("SIGTERM with a removal under way", stack.stop("router"), 0)
    stack.tell_sink("set down off")
    stack.start_router()
    books = stack.wait_drained()
    system.check("ledger balanced", books["balanced"], True)
    system.check("missing", stack.sink_report(stack.path("dead2.json"))["missing"], 0)
    system.check("shed", sum(t["shed"] for t in books["targets"]), 0)
    system.check("SIGTERM", stack.stop("router"), 0)


def no_credentials(stack):
    stack.write_configuration(file_destination=True, settings="shutdown.drain_seconds: 1")
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": stack.directory,
               "AWS_CONFIG_FILE": stack.path("none"), "HOME": stack.directory}
    stack.start_router(env=nothing)
    system.wait_for("credentials that cannot be read to be named",
                    lambda: "is no regular file" in stack.log("router", 200), 10)
    load = stack.loadgen("--producers", "1", "--events", "500", "--run-id", "0000c4ed", ledger="keys.json")
    row = system.wait_for("the stream to be parked",
                          lambda: [t for t in stack.stat()["targets"] if t["status"] == "parked"], 10)[0]
    system.check("its reason", row["last_error"], lambda text: "credentials" in text)
    system.wait_for("the file to have them all", lambda: [t for t in stack.ledger()["targets"]
                    if t["target"].startswith("file") and t["waiting"] == 0], 10)
    system.check("SIGTERM", stack.stop("router"), 0)
    stack.start_router()
    stack.wait_drained()
    system.check("with credentials nothing is missing of %d" % load["published"],
                 stack.sink_report(stack.path("keys.json"))["missing"], 0)
    system.check("SIGTERM", stack.stop("router"), 0)


def books_that_are_incomplete(build):
    """Files of the journal gone while nobody runs: the ledger says so, or knows better, and never calls a part the whole."""
    with system.Stack(build, name="books") as stack:
        stack.start_sink()
        stack.write_configuration(settings="router.shards_count: 2\njournal.segment_bytes: 1MiB\nshutdown.drain_seconds: 1")
        stack.start_router()
        stack.tell_sink("set down on")
        stack.loadgen("--producers", "4", "--events", "3000", "--rate", "0", "--run-id", "0000b00c")
        system.check("SIGTERM", stack.stop("router"), 0)
        journal, whole = stack.path("state", "journal"), stack.path("whole")
        shutil.copytree(journal, whole)

        def ledger():
            done = subprocess.run([stack.sendring, "ledger", "--json", "--settings", stack.settings], capture_output=True,
                                  text=True, timeout=30)
            books = json.loads(done.stdout) if done.stdout else {"targets": []}
            shutil.rmtree(journal)
            shutil.copytree(whole, journal)
            return done.returncode, sum(t["accepted"] for t in books["targets"]), books.get("complete"), done.stderr

        def targets(do, *names):
            for name in names:
                do(os.path.join(journal, "0", name))

        def zero(path):
            size = os.path.getsize(path)
            with open(path, "wb") as out:
                out.write(bytes(size))

        system.check("whole", ledger(), (0, 3000, True, ""))
        for how, do in (("zeroed", zero), ("empty", lambda path: os.truncate(path, 0)), ("removed", os.unlink)):
            targets(do, "targets")
            system.check("targets %s" % how, ledger(), (0, 3000, True, ""))
            targets(do, "targets", "targets.copy")
            status, accepted, complete, said = ledger()
            system.check("and its copy", (status, complete, "neither its targets file nor the copy of it" in said), (1, False, True))
        for shard in ("0", "1"):
            shutil.rmtree(os.path.join(journal, shard))
            status, accepted, complete, said = ledger()
            system.check("without log %s" % shard, (status, complete, "journal/%s is missing" % shard in said), (1, False, True))
        shutil.rmtree(os.path.join(journal, "0"))
        shutil.rmtree(os.path.join(journal, "1"))
        system.check("without any", ledger()[0], 69)


def ended_while_starting(stack, times):
    """SIGTERM at any instant of the start ends it; the next start is as good as any."""
    chance = random.Random(7)
    statuses = set()
    for _ in range(times):
        process = subprocess.Popen([stack.sendring, "run", "--settings", stack.settings], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(chance.random() * 0.25)
        process.terminate()
        statuses.add(process.wait(30))
    # -15 and 143: before the keeper, or its router, could take signals.
    system.check("statuses of starts that were ended", sorted(statuses), lambda s: set(s) <= {0, -15, 143})
    stack.start_router()
    load = stack.loadgen("--producers", "1", "--events", "500", "--run-id", "00007e4d", ledger="term.json")
    stack.wait_drained()
    system.check("then missing of %d" % load["published"], stack.sink_report(stack.path("term.json"))["missing"], 0)
    system.check("SIGTERM", stack.stop("router"), 0)


def full_disk(build):
    """A disk that is too small, and one that somebody else fills."""
    mount = tempfile.mkdtemp(prefix="misuse-disk-")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", mount], capture_output=True, text=True)
    if mounted.returncode != 0:
        system.skipped("misuse: the full disk", "cannot mount a tmpfs: %s" % mounted.stderr.strip())
        os.rmdir(mount)
        return
    try:
        with system.Stack(build, name="full") as stack:
            stack.start_sink()
            small = "journal.segment_bytes: 4MiB\njournal.size_bytes_max: 32MiB\nshutdown.drain_seconds: 1"
            stack.write_configuration(settings=small)
            settings = open(stack.settings).read()
            with open(stack.settings, "w") as out:
                out.write(settings.replace(stack.path("state"), os.path.join(mount, "state")))
            with open(os.path.join(mount, "other"), "wb") as other:
                other.write(b"x" * (38 << 20))
            refused("a full disk at the start", attempt(stack, "--no-keeper"), 1, "No space left on device")
            os.unlink(os.path.join(mount, "other"))
            stack.start_router()
            # Somebody fills the disk; the stream is down, so that nothing can be recycled.
            stack.tell_sink("set down on")
            with open(os.path.join(mount, "other"), "wb") as other:
                try:
                    while True:
                        other.write(b"x" * 65536)
                        other.flush()
                except OSError:
                    pass
            producers = subprocess.Popen(stack.loadgen_arguments(stack.path("full.json"), "--producers", "1", "--rate",
                                                                 "30000", "--seconds", "3", "--run-id", "0000f011"),
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            out, errors = producers.communicate(timeout=120)
            load = json.loads(out.strip().splitlines()[-1])
            system.check("published until the disk was full", load["published"], lambda n: n > 0)
            system.check("producers learn it", load["full"], lambda n: n > 0)
            system.check("the log says why", "No space left on device" in stack.log("router", 400), True)
            os.unlink(os.path.join(mount, "other"))
            stack.tell_sink("set down off")
            # loadgen gave up waiting: what it published last is in the lane still, where the ledger does not see it.
            system.wait_for("the lane to be read", lambda: stack.stat()["counters"]["router_events"] >= load["published"], 30)
            stack.wait_drained()
            report = stack.sink_report(stack.path("full.json"))
            system.check("missing", report["missing"], 0)
            system.check("duplicated", report["duplicates"], 0)
            system.check("SIGTERM", stack.stop("router"), 0)
    finally:
        subprocess.run(["umount", mount], check=False)
        os.rmdir(mount)


def main(build, quick):
    with system.Stack(build, name="misuse") as stack:
        stack.start_sink()
        before_the_start(stack)
        second_daemon(stack)
        storms(stack, 200 if quick else 1000)
        refused_reload(stack)
        odd_names(stack)
        system.check("SIGTERM", stack.stop("router"), 0)
        stack.write_configuration(file_destination=True, settings="shutdown.drain_seconds: 1")
        stack.start_router()
        dead_and_back(stack)
        no_credentials(stack)
        ended_while_starting(stack, 10 if quick else 40)
    books_that_are_incomplete(build)
    full_disk(build)


system.run(main)
