#!/usr/bin/env python3
"""usage: core_waits_test.py: who wants a core that another one has waits for it; who sleeps, or is stopped, does not."""

import os
import signal
import subprocess
import sys
import time

from harness import CoreWaits

SPIN = "import os; os.sched_setaffinity(0, {%d})\nprint(flush=True)\nwhile True: pass" % min(os.sched_getaffinity(0))
SLEEP = "import time; print(flush=True); time.sleep(600)"


def check(what, good):
    if not good:
        print(f"FAIL: {what}")
        sys.exit(1)


def begin(program):
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


processes = [begin(SPIN), begin(SPIN), begin(SPIN), begin(SLEEP)]
try:
    spins, sleeps, other = CoreWaits(processes[0].pid, "python"), CoreWaits(processes[3].pid, "python"), CoreWaits(processes[0].pid, "shard")
    time.sleep(2.5)
    worst = spins.finish()
    check(f"one of three on a core waits: {worst:.2f} s of one", worst > 0.3)
    worst = sleeps.finish()
    check(f"who sleeps does not: {worst:.2f} s", worst < 0.3)
    check("nor who is not there", other.finish() == 0)
    os.kill(processes[0].pid, signal.SIGSTOP)
    time.sleep(0.2)
    stopped = CoreWaits(processes[0].pid, "python")
    time.sleep(1)
    worst = stopped.finish()
    check(f"nor who is stopped: {worst:.2f} s", worst < 0.3)
finally:
    for process in processes:
        process.kill()
        process.wait()
print("ok")
