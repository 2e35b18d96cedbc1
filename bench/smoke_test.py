#!/usr/bin/env python3
"""usage: smoke_test.py: smoke.py with lines that are right, and with lines that are wrong in one way each."""

import pathlib
import subprocess
import sys

SMOKE = pathlib.Path(__file__).resolve().with_name("smoke.py")
RIGHT = '{"bench":"ring","metric":"visit_ns","value":200,"unit":"ns","floor":100,"ratio":2}'
GOOD = [
    RIGHT,
    '{"bench":"ring","metric":"a","value":0,"unit":"times","floor":null,"ratio":null}',
    '{"bench":"ring","metric":"b","value":12.3,"unit":"ns","floor":3.2,"ratio":3.85}',  # 3.78 to 3.92 by these digits
    '{"bench":"ring","metric":"c","value":50,"unit":"events/s","floor":100,"ratio":2.000}',
    '{"bench":"ring","metric":"d","value":1e+03,"unit":"ns","floor":300,"ratio":3.3333333333333335}',
    '{"bench":"ring","note":"something was not there"}',
]
BAD = {
    "Expecting": "words",
    "no object of bench ring": '{"bench":"lane","metric":"a","value":1,"unit":"ns","floor":null,"ratio":null}',
    "its members are": '{"bench":"ring","metric":"a","value":1,"unit":"ns","floor":null}',
    "'peer'": '{"bench":"ring","metric":"a","value":1,"unit":"ns","floor":null,"ratio":null,"peer":"other"}',
    "value is no number": '{"bench":"ring","metric":"a","value":null,"unit":"ns","floor":null,"ratio":null}',
    "NaN is no number": '{"bench":"ring","metric":"a","value":NaN,"unit":"ns","floor":null,"ratio":null}',
    "metric and unit": '{"bench":"ring","metric":"a","value":1,"unit":"","floor":null,"ratio":null}',
    "not both there": '{"bench":"ring","metric":"a","value":1,"unit":"ns","floor":1,"ratio":null}',
    "not 12.3 / 3.2": '{"bench":"ring","metric":"a","value":12.3,"unit":"ns","floor":3.2,"ratio":4.1}',
    "not 100 / 50": '{"bench":"ring","metric":"a","value":50,"unit":"events/s","floor":100,"ratio":0.5}',
    "too small": '{"bench":"ring","metric":"a","value":5,"unit":"ns","floor":0,"ratio":1}',
    "twice": RIGHT,
    "more than its text": '{"bench":"ring","note":"something","value":1}',
}


def run(lines, *flags, command="cat"):
    return subprocess.run([sys.executable, SMOKE, *flags, "ring", "sh", "-c", command], input="".join(line + "\n" for line in lines),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def check(what, done, status, words):
    if done.returncode != status or words not in done.stderr or "Traceback" in done.stderr:
        print(f"FAIL: {what}: status {done.returncode}: {done.stderr}")
        sys.exit(1)


check("good lines", run(GOOD), 0, "")
for said, bad in BAD.items():
    check(bad, run([RIGHT, bad]), 1, said)
check("nothing", run([]), 1, "no metric")
check("only notes", run([GOOD[-1]]), 1, "no metric")
check("a metric that is expected", run(GOOD, "--expect", "visit_ns"), 0, "")
check("one without its floor", run(GOOD, "--expect", "a"), 1, "has not printed a with its floor")
check("a bench that fails", run(GOOD, command="cat; exit 3"), 1, "ring ended with 3")
print("ok")
