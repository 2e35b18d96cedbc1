"""scripts/demo's program: its verdict is true, a router that dies is told and survived, and when the daemon ends it says so,
exits 1 and leaves nothing running."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import system

RATE = 5000


class Demo:
    """One run in a directory of its own."""

    def __init__(self, build, *flags):
        self.directory = tempfile.mkdtemp(prefix="demo-test-")
        self.build = build
        program = os.path.join(system.ROOT, "scripts", "demo.py")
        self.process = subprocess.Popen([sys.executable, "-B", program, "--build", build, "--rate", str(RATE), *flags],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=dict(os.environ, SENDRING_TEST_DIRECTORY=self.directory))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGINT)
            self.process.communicate(timeout=60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self):
        """What runs of it, by its directory in the arguments."""
        found = {}
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as file:
                    arguments = file.read().decode(errors="replace").split("\0")
            except OSError:
                continue
            if self.directory in " ".join(arguments) and len(arguments) > 1:
                found[int(path.split("/")[2])] = arguments[1]
        return found

    def router_pid(self):
        settings = system.wait_for("the settings", lambda: glob.glob(self.directory + "/*/sendring.yaml"))[0]
        stat = [os.path.join(self.build, "tools", "sendring"), "stat", "--settings", settings, "--json"]

        def publishing():
            done = subprocess.run(stat, capture_output=True, text=True)
            seen = json.loads(done.stdout) if done.returncode == 0 else {"counters": {"router_events": 0}}
            return seen["pid"] if seen["counters"]["router_events"] > 0 else 0

        return system.wait_for("events", publishing)

    def finish(self):
        out, errors = self.process.communicate(timeout=90)
        system.check("no traceback", "Traceback" in errors, False)
        return self.process.returncode, out, errors


def undisturbed(build):
    with Demo(build, "--seconds", "2") as demo:
        status, out, _ = demo.finish()
        verdict = re.fullmatch(r"demo: published (\d+) stored (\d+) missing (\d+) duplicated (\d+) rate (\d+) events/s "
                               r"cpu (\d+\.\d+) us/event", out.splitlines()[-1])
        system.check("its last line is the verdict", verdict is not None, True)
        published, stored, missing, duplicated, rate = (int(n) for n in verdict.groups()[:5])
        system.check("published", published, lambda n: n > 0)
        system.check("stored, missing, duplicated", (stored, missing, duplicated), (published, 0, 0))
        system.check("the file", "%d of %d events, 0 more than once" % (published, published) in out, True)
        system.check("rate, asked for %d" % RATE, rate, lambda n: 0.9 * RATE < n < 1.02 * RATE)
        system.check("status", status, 0)


def router_dies(build):
    with Demo(build, "--seconds", "3", "--json") as demo:
        os.kill(demo.router_pid(), signal.SIGKILL)
        status, out, errors = demo.finish()
        result = json.loads(out)
        system.check("missing at the endpoint and in the file", (result["missing"], result["file_missing"]), (0, 0))
        system.check("nothing is wrong", (status, result["wrong"]), (0, []))
        system.check("a new router is told", "demo: a new router" in errors, True)


def daemon_ends(build):
    with Demo(build, "--seconds", "30") as demo:
        demo.router_pid()
        keeper = [pid for pid, command in demo.processes().items() if command == "run"]
        for pid in keeper:
            os.kill(pid, signal.SIGKILL)
        begun = time.monotonic()
        status, _, errors = demo.finish()
        system.check("status when the daemon is gone", status, 1)
        system.check("it says so", "the daemon has ended with status -9" in errors, True)
        system.check("seconds until then", round(time.monotonic() - begun, 1), lambda s: s < 40)
        system.check("processes left", demo.processes(), {})


def main(build, quick):
    undisturbed(build)
    router_dies(build)
    daemon_ends(build)


system.run(main)
