"""A disk that fails under a running service: full, read-only, its files cut, its directory gone. The daemon stays (same pid), says
what is wrong, serves what it can, and goes on when the disk does; nothing that was accepted is missing, and the ledger balances.
Needs to mount file systems: skipped where that is not allowed."""
import os
import shutil
import signal
import subprocess
import time

import system



def mount(what, where, kind, options):
    return subprocess.run(["mount", "-t", kind, "-o", options, what, where], capture_output=True, text=True).returncode == 0


def alive(stack, pid):
    system.check("the same router", stack.router_pid(), pid)


def full_by_its_own_journal(stack):
    """The endpoint is down, the journal fills the disk before its own limit: producers see FULL; then all is delivered."""
    pid = stack.router_pid()
    stack.tell_sink("set down on")
    load = subprocess.Popen(stack.loadgen_arguments(stack.path("full.json"), "--producers", "2", "--rate", "20000",
                                                    "--seconds", "8", "--run-id", "0000f011"),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    system.wait_for("the log to say that the disk is full", lambda: "No space left on device" in stack.log("router", 400), 30)
    system.wait_for("visits to be cut short by it", lambda: stack.stat()["counters"]["router_journal_full"] > 0, 20)
    stack.tell_sink("set down off")
    out, errors = load.communicate(timeout=120)
    system.check("producers end well", load.returncode, 0)
    books = stack.wait_drained(60)
    report = stack.sink_report(stack.path("full.json"))
    system.check("missing", report["missing"], 0)
    system.check("ledger balanced", books["balanced"], True)
    alive(stack, pid)


def full_by_others(stack):
    """Somebody else's file takes the last byte; the file destination and the journal meet it; the file goes; all goes on."""
    pid = stack.router_pid()
    with open(stack.path("state", "ballast"), "wb") as ballast:
        try:
            while True:
                ballast.write(b"x" * 65536)
                ballast.flush()
        except OSError:
            pass
        load = stack.loadgen("--producers", "1", "--events", "2000", "--rate", "2000", "--run-id", "0000f012",
                             ledger="others.json")
    alive(stack, pid)
    system.check("published on a full disk", load["published"], lambda n: n > 0)
    os.unlink(stack.path("state", "ballast"))
    books = stack.wait_drained(60)
    system.check("missing", stack.sink_report(stack.path("others.json"))["missing"], 0)
    system.check("ledger balanced", books["balanced"], True)
    alive(stack, pid)


def starts_on_a_full_disk(stack):
    """A backlog, a stop, not a byte free: the start is not refused, and the backlog is delivered."""
    stack.tell_sink("set down on")
    stack.loadgen("--producers", "1", "--events", "5000", "--rate", "20000", "--run-id", "0000f013", ledger="start.json")
    with open(stack.path("state", "ballast"), "wb", buffering=0) as ballast:
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)
        try:
            while True:
                ballast.write(b"x" * 4096)
        except OSError:
            pass
        stack.tell_sink("set down off")
        stack.start_router()
        books = stack.wait_drained(60)
        system.check("missing", stack.sink_report(stack.path("start.json"))["missing"], 0)
        system.check("ledger balanced", books["balanced"], True)
        system.check("it says that it has no counters page", "no counters page" in stack.log("router", 400), True)
    os.unlink(stack.path("state", "ballast"))


def read_only(stack, state):
    """Read-only at start: said, and tried again; read-only over the files of a running one: what is open goes on."""
    system.check("router ends well on SIGTERM", stack.stop("router"), 0)
    subprocess.run(["mount", "-o", "remount,ro", state], check=True)
    done = subprocess.run([stack.sendring, "run", "--no-keeper", "--settings", stack.settings], capture_output=True, text=True,
                          timeout=30)
    system.check("read-only at start: status", done.returncode, lambda code: code in (1, 78))
    system.check("it says so", "Read-only file system" in done.stderr, True)
    subprocess.run(["mount", "-o", "remount,rw", state], check=True)
    stack.start_router()
    pid = stack.router_pid()
    subprocess.run(["mount", "--bind", state, state], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", state], check=True)
        stack.loadgen("--producers", "1", "--events", "5000", "--rate", "20000", "--run-id", "0000f014", ledger="ro.json")
        reloads = stack.stat()["counters"]["control_reloads"]
        os.kill(pid, signal.SIGHUP)
        system.wait_for("the reload", lambda: stack.stat()["counters"]["control_reloads"] > reloads, 20)
        books = stack.wait_drained(60)
        system.check("missing", stack.sink_report(stack.path("ro.json"))["missing"], 0)
        system.check("ledger balanced", books["balanced"], True)
        alive(stack, pid)
    finally:
        subprocess.run(["umount", state], check=True)


def cut_files(stack):
    """Every mapped file is cut to nothing under the daemon."""
    pid = stack.router_pid()
    stack.wait_drained(30)
    journal = stack.path("state", "journal", "0")
    cut = [os.path.join(journal, name) for name in os.listdir(journal) if name.endswith(".segment") or name == "targets"]
    for path in cut + [stack.path("state", "counters")]:
        os.truncate(path, 0)
    load = stack.loadgen("--producers", "2", "--events", "20000", "--rate", "20000", "--run-id", "0000f015", ledger="cut.json")
    system.check("published", load["published"], 20000)
    system.wait_for("everything to arrive",
                    lambda: stack.sink_report(stack.path("cut.json"))["missing"] == 0, 60, interval=0.5)
    system.check("missing", stack.sink_report(stack.path("cut.json"))["missing"], 0)
    os.kill(pid, 0)
    log = stack.log("router", 400)
    system.check("a segment was given up, and said so", "a journal segment is given up" in log, True)
    system.check("the targets file was written anew", "it is written anew" in log, True)
    system.check("no router died", "msg=\"the router died" in log or "signal=7" in log, False)
    stack.check_ledger()
    system.check("router ends well on SIGTERM", stack.stop("router"), 0)
    stack.start_router()
    system.check("ledger balanced", stack.wait_drained(30)["balanced"], True)


def lost_now(stack):
    """Of a ledger that balances now, beside the running daemon."""
    stack.check_ledger()
    return sum(row["lost"] for row in stack.ledger()["targets"])


def cut_backlog(stack):
    """Events that wait are cut away. The ledger balances before a cursor comes to them, behind it, and after a restart. In the end
    what it says is lost is what is missing; what was in a batch already is delivered."""
    stack.wait_drained(30)
    before = lost_now(stack)
    stack.tell_sink("set down on")
    load = stack.loadgen("--producers", "2", "--events", "25000", "--rate", "20000", "--run-id", "0000f017", ledger="lost.json")
    system.check("published, more than batches hold", load["published"], 25000)
    journal = stack.path("state", "journal", "0")
    for name in os.listdir(journal):
        path = os.path.join(journal, name)
        if name.endswith(".segment") and os.path.getsize(path) > 512 * 1024:
            os.truncate(path, 512 * 1024)
    lost = lost_now(stack) - before
    system.check("events are lost, and told while others wait", lost, lambda n: 0 < n < 25000)
    more = stack.loadgen("--producers", "1", "--events", "2000", "--rate", "20000", "--run-id", "0000f018", ledger="more.json")
    system.check("published", more["published"], 2000)
    system.check("lost, with others behind them", lost_now(stack) - before, lambda n: 0 < n <= lost)
    stack.tell_sink("set down off")
    for _ in range(20):
        stack.check_ledger()
    stack.wait_drained(60)
    system.check("missing of those behind", stack.sink_report(stack.path("more.json"))["missing"], 0)
    missing = stack.sink_report(stack.path("lost.json"))["missing"]
    system.check("missing of those that were cut", missing, lambda n: 0 < n <= lost)
    system.check("lost, when all is delivered", lost_now(stack) - before, missing)
    system.check("router ends well on SIGTERM", stack.stop("router"), 0)
    stack.start_router()
    stack.wait_drained(30)
    system.check("lost, after a restart", lost_now(stack) - before, missing)


def directory_removed(stack):
    """The journal's directory is removed: nothing more is taken, producers see FULL, and a restart begins anew with what the lanes
    hold."""
    pid = stack.router_pid()
    stack.wait_drained(30)
    shutil.rmtree(stack.path("state", "journal", "0"))
    system.wait_for("the log to say so", lambda: "was removed or moved" in stack.log("router", 400), 20)
    load = subprocess.Popen(stack.loadgen_arguments(stack.path("gone.json"), "--producers", "1", "--events", "3000", "--rate",
                                                    "1000", "--run-id", "0000f016", "--flush-timeout", "60000"),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)  # the keeper starts the next one, which finds the lanes
    out, errors = load.communicate(timeout=120)
    system.check("producers end well", load.returncode, 0)
    books = stack.wait_drained(60)
    system.check("missing", stack.sink_report(stack.path("gone.json"))["missing"], 0)
    system.check("ledger balanced", books["balanced"], True)


def removed_and_ended(stack):
    """The same, and the service is ended while only the lanes have what was published; one producer is gone, one waits for room. Then
    again with the router alone: the keeper has the lanes, and nobody calls them lost."""
    for number, alone in enumerate((False, True)):
        ledger, living = "ended-%d.json" % number, stack.path("living-%d.json" % number)
        stack.wait_drained(30)
        shutil.rmtree(stack.path("state", "journal"))
        before = stack.log("router", 100000)
        system.wait_for("the log to say so", lambda: "was removed or moved" in stack.log("router", 100000)[len(before):], 20)
        waiting = stack.start("living-%d" % number, stack.loadgen_arguments(living, "--producers", "1", "--events", "5000",
                                                                            "--run-id", "0000f12%d" % number))
        done = subprocess.run(stack.loadgen_arguments(stack.path(ledger), "--producers", "1", "--events", "500", "--rate", "5000",
                                                      "--run-id", "0000f02%d" % number, "--flush-timeout", "1000"),
                              capture_output=True, text=True)
        system.check("loadgen gave up waiting", done.returncode, 1)
        if alone:
            pid = stack.router_pid()
            os.kill(pid, signal.SIGTERM)
            system.wait_for("the next router", lambda: stack.router_pid() not in (0, None, pid), 20)
        else:
            system.check("the service ends well on SIGTERM", stack.stop("router"), 0)
            stack.start_router()
        system.wait_for("the lane to be read", lambda: stack.sink_report(stack.path(ledger))["missing"] == 0, 30, 0.2)
        system.wait_for("the producer that waited to end", lambda: waiting.poll() is not None, 30)
        system.check("it published all", waiting.returncode, 0)
        system.check("ledger balanced", stack.wait_drained(30)["balanced"], True)
        system.check("missing of its events", stack.sink_report(living)["missing"], 0)
        log = stack.log("router", 100000)[len(before):]
        system.check("lost, says the log", "are lost" in log, False)
        system.check("a new journal, says the log", "journal: made anew" in log, True)


def main(build, quick):
    with system.Stack(build, name="disk-faults") as stack:
        state = stack.path("state")
        os.mkdir(state, 0o700)
        if os.geteuid() != 0 or not mount("tmpfs", state, "tmpfs", "size=32m,mode=0700"):
            system.skipped("disk_faults", "mounting file systems is not allowed here")
            return
        try:
            stack.start_sink()
            stack.write_configuration(settings="journal.segment_bytes: 1MiB\njournal.size_bytes_max: 1GiB\n"
                                               "journal.segments_mapped_max: 4")
            stack.start_router()
            full_by_its_own_journal(stack)
            full_by_others(stack)
            starts_on_a_full_disk(stack)
            read_only(stack, state)
            cut_files(stack)
            cut_backlog(stack)
            directory_removed(stack)
            removed_and_ended(stack)
            system.check("router ends well on SIGTERM", stack.stop("router"), 0)
            done = subprocess.run([stack.sendring, "ledger", "--settings", stack.settings, "--check"], capture_output=True,
                                  text=True)
            system.check("sendring ledger --check", done.returncode, 0)
        finally:
            stack.stop("router", seconds=60)
            subprocess.run(["umount", "-l", state])


system.run(main)
