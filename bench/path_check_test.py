#!/usr/bin/env python3
"""usage: path_check_test.py PATH: `path --check` with goals that any machine meets, and with some that none does."""

import subprocess
import sys

WIDE = {"cpu": 1e6, "floor": 1e6, "egress": 1e6, "memory": 1e6}
TOLD = {"cpu": "cpu_s_per_million is ", "floor": "cpu_s_per_million by its floor is ", "egress": "egress_cpu_s_per_million by its floor is ",
        "memory": "peak_rss_mib is "}


def run(goals, *flags):
    arguments = [f"--goal={name}={value}" for name, value in goals.items()]
    return subprocess.run([sys.argv[1], "--json", "--smoke", "--events", "50000", *flags, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


def check(what, done, status, told):
    """`told`: all that is said of goals, each line's beginning."""
    lines = done.stderr.splitlines()
    said = [line for line in lines if ", the goal " in line]
    if done.returncode != status or len(said) != len(told) or not all(line.startswith("path: " + words) for line, words in zip(said, told)):
        print(f"FAIL: {what}: status {done.returncode}, not {status}: {done.stderr}")
        sys.exit(1)


check("goals that are met", run(WIDE, "--check"), 0, [])
check("some missed", run({**WIDE, "cpu": 0, "egress": 0}, "--check"), 1, [TOLD["cpu"], TOLD["egress"]])
check("others missed", run({**WIDE, "floor": 0, "memory": 0}, "--check"), 1, [TOLD["floor"], TOLD["memory"]])
check("not asked", run({name: 0 for name in WIDE}), 0, [])
# Without one of its own, memory has the budget that the router prints, which a smoke run stays far below.
check("the usual budget", run({name: WIDE[name] for name in ("cpu", "floor", "egress")}, "--check"), 0, [])
for wrong in ("cpu", "cpu=", "cpu=x", "cpu=1x", "cpu=-1", "memories=1", "=1"):
    check(wrong, subprocess.run([sys.argv[1], "--smoke", "--goal", wrong], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                check=False), 64, [])
print("ok")
