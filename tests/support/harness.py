"""Starts the real parts of sendring for the demo and the system tests: a sink, a router with its keeper, producers.

Only Python's standard library. Everything lives in one temporary directory; every process is ended by its pid.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SETS = ["set-%d" % i for i in range(8)]
STREAM_ARN = "arn:aws:firehose:us-east-1:123456789012:deliverystream/mail-events"
ALL_TYPES = ["SEND", "REJECT", "BOUNCE", "COMPLAINT", "DELIVERY", "OPEN", "CLICK", "RENDERING_FAILURE",
             "DELIVERY_DELAY", "SUBSCRIPTION"]


class Failure(Exception):
    """Something did not come about; the text says what."""


def wait_for(what, condition, seconds=20.0, interval=0.02):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure("waited %.0f s for %s" % (seconds, what))
        time.sleep(interval)


def listens(host, port):
    """Whether somebody takes connections there; None: who does is just closing."""
    try:
        socket.create_connection((host, port), timeout=5).close()
        return True
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        return None


HELD = []


def held_port():
    """A port of 127.0.0.1 for a server that takes a number and no socket; until one listens there, connections are refused.

    A socket of ours keeps it to the end of this process, bound, and not listening: the kernel gives it to nobody who asks for
    any, nor as the near end of a connection. Who asks for this one with SO_REUSEADDR, as servers do, gets it all the same."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    HELD.append(holder)
    return holder.getsockname()[1]


def longest_gap(seconds, count):
    """The longest time in which count() did not grow."""
    started = last = time.monotonic()
    worst, known = 0.0, count()
    while time.monotonic() - started < seconds:
        now = count()
        if now != known:
            worst, last, known = max(worst, time.monotonic() - last), time.monotonic(), now
        time.sleep(0.01)
    return max(worst, time.monotonic() - last)


def file_size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def cpu_seconds(pid):
    """User and system time of a process and all its threads, to the nanosecond: the kernel's clock of each."""
    return time.clock_gettime((~pid << 3) | 2)


def status_kib(pid, field):
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    return 0


def child_of(pid):
    """The first child of a process, by /proc: of a keeper its router, also one that is not ready yet. 0: there is none now."""
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as children:
            pids = children.read().split()
    except OSError:
        return 0
    return int(pids[0]) if pids else 0


class Stack:
    """One sink, one router, one directory."""

    def __init__(self, build, tls=False, name="sendring", keep=False):
        self.sendring = os.path.join(build, "tools", "sendring")
        if not os.access(self.sendring, os.X_OK):
            raise Failure("%s is not built" % self.sendring)
        self.tls = tls
        self.keep = keep
        self.directory = tempfile.mkdtemp(prefix=name + "-", dir=os.environ.get("SENDRING_TEST_DIRECTORY"))
        self.path = lambda *parts: os.path.join(self.directory, *parts)
        self.socket = self.path("sendring.sock")
        self.settings = self.path("sendring.yaml")
        self.sets_file = self.path("configuration-sets.yaml")
        self.processes = {}
        self.sink_address = None
        self.endpoint = None
        self.served = False  # a router was ready, so there are books
        if tls:
            subprocess.run([os.path.join(ROOT, "scripts", "make-test-certs"), self.path("tls")], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(failed=kind is not None)

    # ------------------------------------------------------------------ processes

    def start(self, name, arguments, env=None):
        log = open(self.path(name + ".log"), "ab")
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY,
                           SENDRING_SOCKET=self.socket)
        for variable in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"):
            environment.pop(variable, None)
        environment.update(env or {})
        process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        log.close()
        self.processes[name] = process
        return process

    def stop(self, name, how=signal.SIGTERM, seconds=60):
        process = self.processes.pop(name, None)
        if process is None:
            return 0
        if process.poll() is None:
            os.kill(process.pid, how)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            raise Failure("%s did not end within %d s of signal %d:\n%s" % (name, seconds, how, self.log(name)))

    def log(self, name, lines=40):
        try:
            with open(self.path(name + ".log"), errors="replace") as log:
                return "".join(log.readlines()[-lines:])
        except OSError:
            return ""

    def close(self, failed=False):
        """Whatever a test was about: the books that it leaves behind balance."""
        for name in reversed(list(self.processes)):
            try:
                self.stop(name, seconds=20)
            except Failure as failure:
                print(failure, file=sys.stderr)
        books = None if failed or not self.served else self.books_at_end()
        failed = failed or books is not None
        if failed:
            for log in sorted(os.listdir(self.directory)):
                if log.endswith(".log"):
                    print("---- %s" % log, file=sys.stderr)
                    print(self.log(log[:-4]), file=sys.stderr)
        if self.keep:
            print("kept: %s" % self.directory, file=sys.stderr)
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
        if books is not None:
            raise Failure(books)

    def books_at_end(self):
        """What is wrong with them; None: nothing, or the test has taken the journal away (69, 74) or broken the settings (78)."""
        done = subprocess.run([self.sendring, "ledger", "--settings", self.settings, "--check"], capture_output=True, text=True)
        if done.returncode in (0, 69, 74, 78):
            return None
        return "ledger --check when all had ended: status %d: %s" % (done.returncode, done.stderr)

    # ------------------------------------------------------------------ sink

    def start_sink(self, *flags, port=0):
        ready = self.path("sink.ready")
        if os.path.exists(ready):
            os.unlink(ready)
        arguments = [self.sendring, "sink", "--listen", "127.0.0.1:%d" % port, "--state", self.path("sink"),
                     "--ready-file", ready, "--control", self.path("sink.control")]
        if self.tls:
            arguments += ["--tls-cert", self.path("tls", "server.pem"), "--tls-key", self.path("tls", "server.key")]
        process = self.start("sink", arguments + list(flags))

        def is_ready():
            if process.poll() is not None:
                raise Failure("the sink ended:\n" + self.log("sink"))
            return os.path.exists(ready) and open(ready).read().strip()

        self.sink_address = wait_for("the sink", is_ready)
        self.endpoint = "%s://%s" % ("https" if self.tls else "http", self.sink_address)

    def sink_events(self):
        """Events that the sink has, copies left out."""
        return json.loads(self.tell_sink("stats"))["events_new"]

    def tell_sink(self, line):
        answer = subprocess.run([self.sendring, "sink", "--tell", self.path("sink.control"), line], check=True,
                                capture_output=True, text=True).stdout
        if line in ("set down on", "set down off"):  # its threads act a little behind the answer
            host, port = self.sink_address.rsplit(":", 1)
            wait_for("the sink to be " + line[4:], lambda: listens(host, int(port)) == line.endswith("off"), 10, 0.002)
        return answer

    def sink_report(self, *ledgers):
        """What the sink has counted; `missing` against the ledgers of loadgen."""
        arguments = [self.sendring, "sink", "--report", self.path("sink"), "--json"]
        for ledger in ledgers:
            arguments += ["--published", ledger]
        done = subprocess.run(arguments, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise Failure("sink --report: %s" % done.stderr)
        return json.loads(done.stdout)

    # ------------------------------------------------------------------ router

    def write_configuration(self, file_destination=False, firehose=True, sets=None, settings="", event_ids=False,
                            cloudwatch=None):
        """`cloudwatch`: {name: what an EventDestination has beside Enabled and MatchingEventTypes}, for each set."""
        ids = "      Sendring: {EventId: true}\n" if event_ids else ""
        with open(self.sets_file, "w") as out:
            out.write("ConfigurationSets:\n")
            for name in sets or SETS:
                out.write("- ConfigurationSetName: %s\n  EventDestinations:\n" % name)
                types = "[%s]" % ", ".join(ALL_TYPES)
                if firehose:
                    out.write("  - EventDestinationName: firehose\n    EventDestination:\n      Enabled: true\n"
                              "      MatchingEventTypes: %s\n      KinesisFirehoseDestination:\n"
                              "        IamRoleArn: arn:aws:iam::123456789012:role/sendring\n"
                              "        DeliveryStreamArn: %s\n%s" % (types, STREAM_ARN, ids))
                if file_destination:
                    out.write("  - EventDestinationName: file\n    EventDestination:\n      Enabled: true\n"
                              "      MatchingEventTypes: %s\n      Sendring:\n%s        FileDestination:\n"
                              "          Path: %s\n" % (types, "        EventId: true\n" if event_ids else "",
                                                         self.path("events.ndjson")))
                for destination, more in (cloudwatch or {}).items():
                    out.write("  - EventDestinationName: %s\n    EventDestination: %s\n" % (
                        destination, json.dumps(dict({"Enabled": True, "MatchingEventTypes": ALL_TYPES}, **more))))
        with open(self.settings, "w") as out:
            out.write("state_directory: %s\nsocket_path: %s\nconfiguration_sets_path: %s\n"
                      "region: us-east-1\naccount_id: \"123456789012\"\n" %
                      (self.path("state"), self.socket, self.sets_file))
            sections = {"egress": "", "router": "", "journal": "", "shutdown": "", "log": ""}
            if firehose:
                sections["egress"] += "  endpoints:\n    firehose: %s\n" % self.endpoint
                if cloudwatch:
                    sections["egress"] += "    cloudwatch: %s\n" % self.endpoint
                if self.tls:
                    sections["egress"] += "  ca_bundle: %s\n" % self.path("tls", "ca.pem")
            for line in settings.splitlines():
                section, text = line.split(".", 1)
                sections[section] += "  %s\n" % text
            for section, text in sections.items():
                if text:
                    out.write("%s:\n%s" % (section, text))

    def start_router(self, *flags, env=None, name="router"):
        log = self.path(name + ".log")
        before = os.path.getsize(log) if os.path.exists(log) else 0  # of an earlier one with the same log
        process = self.start(name, [self.sendring, "run", "--settings", self.settings] + list(flags), env=env)

        def is_ready():
            if process.poll() is not None:
                raise Failure("the router ended with status %d:\n%s" % (process.returncode, self.log(name)))
            with open(log, errors="replace") as lines:
                lines.seek(before)
                return "msg=\"ready\"" in lines.read() and os.path.exists(self.socket)

        wait_for("the router", is_ready, seconds=60)
        self.served = True

    def stat(self):
        done = subprocess.run([self.sendring, "stat", "--settings", self.settings, "--json"], capture_output=True,
                              text=True)
        if done.returncode not in (0, 69) or not done.stdout:  # 69: what the last router left
            raise Failure("stat: %s" % done.stderr)
        return json.loads(done.stdout)

    def router_pid(self):
        return self.stat()["pid"]

    def ledger(self):
        done = subprocess.run([self.sendring, "ledger", "--settings", self.settings, "--json"], capture_output=True,
                              text=True)
        if done.returncode not in (0, 1):
            raise Failure("ledger: %s" % done.stderr)
        return json.loads(done.stdout)

    def check_ledger(self):
        done = subprocess.run([self.sendring, "ledger", "--settings", self.settings, "--check"], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failure("ledger --check: status %d: %s" % (done.returncode, done.stderr))

    def ledger_text(self):
        return subprocess.run([self.sendring, "ledger", "--settings", self.settings], capture_output=True,
                              text=True).stdout

    def wait_drained(self, seconds=60):
        """Until nothing waits for any target. Returns the ledger."""
        last = {}

        def drained():
            last["ledger"] = self.ledger()
            return all(t["waiting"] == 0 for t in last["ledger"]["targets"])

        try:
            wait_for("the backlog to drain", drained, seconds=seconds, interval=0.2)
        except Failure as failure:
            raise Failure("%s: %s" % (failure, json.dumps(last.get("ledger")))) from None
        return last["ledger"]

    # ------------------------------------------------------------------ producers

    def loadgen_arguments(self, ledger, *flags):
        return [self.sendring, "loadgen", "--socket", self.socket, "--ledger", ledger, "--json",
                "--sets", ",".join(SETS)] + list(flags)

    def loadgen(self, *flags, ledger="published.json", seconds=300):
        """Runs producers to their end; returns loadgen's report."""
        arguments = self.loadgen_arguments(self.path(ledger), *flags)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=seconds)
        if done.returncode != 0:
            raise Failure("loadgen ended with %d: %s%s" % (done.returncode, done.stdout, done.stderr))
        return json.loads(done.stdout.strip().splitlines()[-1])
