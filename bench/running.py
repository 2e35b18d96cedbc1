"""What the benches of running daemons share: arguments, one JSON object a line, CPU time of processes."""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests" / "support"))
import harness  # noqa: E402  pylint: disable=wrong-import-position


def arguments(name, doc):
    parser = argparse.ArgumentParser(prog=name, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(TOP / "build" / "release"), help="meson's build directory (build/release)")
    parser.add_argument("--json", action="store_true", help="the only form there is")
    parser.add_argument("--smoke", action="store_true", help="the smallest sizes: does it work?")
    return parser.parse_args()


def put(bench, metric, value, unit, floor=None, rate=False):
    """One line. `rate`: more is better."""
    ratio = None
    if floor and value:
        ratio = floor / value if rate else value / floor
    print(json.dumps({"bench": bench, "metric": metric, "value": value, "unit": unit, "floor": floor if ratio else None,
                      "ratio": ratio}, separators=(",", ":")), flush=True)


def cpu_s(*pids):
    """User and system time of processes with all their threads."""
    return sum(harness.cpu_seconds(pid) for pid in pids)


def wake_ups(*pids):
    """Times that a thread of theirs went to sleep of its own will."""
    count = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as status:
                    count += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches:"))
            except FileNotFoundError:
                pass  # it has ended; those of the kernel that serve an io_uring come and go
    return count


def start_load(stack, ledger, *flags):
    """Producers in the background."""
    return subprocess.Popen(stack.loadgen_arguments(stack.path(ledger), *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def finish_load(load):
    """How many events they have published, once they have."""
    out, errors = load.communicate(timeout=300)
    if load.returncode != 0:
        raise harness.Failure(f"loadgen ended with {load.returncode}: {errors}")
    return json.loads(out.strip().splitlines()[-1])["published"]


def own_pids(stack):
    """Router and keeper."""
    return [stack.router_pid(), stack.processes["router"].pid]


def run(main, name, doc):
    options = arguments(name, doc)
    try:
        main(options)
    except harness.Failure as failure:
        print(f"bench/{name}: {failure}", file=sys.stderr)
        sys.exit(1)
