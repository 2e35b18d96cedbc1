"""Publishing makes no system call in the steady state (strace); an idle daemon uses < 0.5 % of a core."""

import json
import re
import shutil
import statistics
import subprocess
import time

import system

IDLE_WINDOWS = 3
WINDOW_SECONDS = 4


def publish_without_system_calls(stack):
    if shutil.which("strace") is None:
        raise system.Failure("strace is missing: scripts/setup --tests installs it")
    # One producer, as fast as it goes, under strace -c: calls per event must vanish with the number of events.
    trace = stack.path("strace.txt")
    arguments = ["strace", "-f", "-o", trace] + stack.loadgen_arguments(
        stack.path("strace.json"), "--producers", "1", "--events", "200000", "--rate", "100000", "--run-id", "000057ac")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    system.check("strace loadgen", done.returncode, 0)
    report = json.loads(done.stdout.strip().splitlines()[-1])
    # The child that publishes: between its socket's first and last use, what did it call?
    lines = open(trace).read().splitlines()
    attach = [i for i, line in enumerate(lines) if "SCM_RIGHTS" in line and re.search(r"recvmsg(\(| resumed)", line)]
    system.check("attach seen", len(attach), lambda n: n >= 1)
    pid = lines[attach[0]].split()[0]
    calls = {}
    for line in lines[attach[-1] + 1:]:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match and match.group(1) == pid:
            calls[match.group(2)] = calls.get(match.group(2), 0) + 1
    # loadgen itself sleeps between its intended send times; publishing may only ring a sleeping router (write) and look at a
    # full lane (recvmsg).
    pacing = {"clock_nanosleep", "nanosleep", "exit_group", "munmap", "close", "futex", "rt_sigprocmask", "exit"}
    others = {name: count for name, count in calls.items() if name not in pacing}
    print("  system calls of the producer after attaching: %s" % calls)
    system.check("published", report["published"], 200000)
    system.check("calls that publishing made for 200,000 events", sum(others.values()), lambda n: n <= 200)


def idle(stack, seconds):
    """The median of some windows: in one of them the end of the load before may still be cleared away, such as its segments."""
    system.wait_for("lanes to be closed", lambda: stack.stat()["counters"]["lanes_now"] == 0, 10)
    time.sleep(1)
    pids = [stack.router_pid(), stack.processes["router"].pid]
    windows = []
    for _ in range(IDLE_WINDOWS):
        before = sum(system.cpu_seconds(pid) for pid in pids)
        time.sleep(seconds)
        windows.append(round((sum(system.cpu_seconds(pid) for pid in pids) - before) / seconds * 100, 3))
    print("  percent of a core in each window: %s" % windows)
    system.check("idle: percent of a core, router and keeper", statistics.median(windows), lambda p: p < 0.5)


def main(build, quick):
    with system.Stack(build, tls=True, name="quiet") as stack:
        stack.start_sink()
        stack.write_configuration()
        stack.start_router()
        publish_without_system_calls(stack)
        stack.wait_drained(60)
        idle(stack, WINDOW_SECONDS if not quick else 2)


system.run(main)
