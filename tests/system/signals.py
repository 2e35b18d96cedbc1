"""Signals that end the service at once, and those that do not: a second SIGTERM does, those meant for other daemons and the one that a limit
on the size of files sends do not. None loses an event."""
import json
import os
import resource
import select
import signal
import subprocess
import time

import system


def next_delivers(stack, published):
    """The endpoint is back, and so is the service."""
    stack.tell_sink("set down off")
    stack.start_router()
    stack.wait_drained()
    system.check("delivered", stack.sink_events(), published)
    system.check("SIGTERM", stack.stop("router"), 0)


def signals_of_others(build):
    """What other daemons take for "begin another log" is nothing to this one."""
    with system.Stack(build, name="usr1") as stack:
        stack.write_configuration(firehose=False, file_destination=True)
        stack.start_router()
        before = stack.router_pid()
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            for pid in (stack.processes["router"].pid, before):
                os.kill(pid, number)
            time.sleep(1)
            system.check("the router, and the service, behind %s" % number.name,
                         (system.child_of(stack.processes["router"].pid), stack.processes["router"].poll()), (before, None))
        system.check("SIGTERM", stack.stop("router"), 0)


def second_signal(build):
    """It ends the service at once, however long the first one would have taken; the journal has what waits."""
    with system.Stack(build, name="twice") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 30")
        published = 0
        stack.tell_sink("set down on")
        for flags, statuses in (([], [128 + signal.SIGKILL]), (["--no-keeper"], [-signal.SIGTERM])):
            stack.start_router(*flags)
            published += stack.loadgen("--producers", "1", "--events", "500", "--run-id", "0000%04x" % published)["published"]
            system.wait_for("all to be in the journal", lambda: stack.ledger()["targets"][0]["waiting"] == published, 10)
            process = stack.processes.pop("router")
            process.terminate()
            system.wait_for("the first signal to be taken", lambda: "stop asked for" in stack.log("router", 3), 10)
            time.sleep(0.5)
            system.check("it drains", process.poll(), None)
            begun = time.monotonic()
            process.terminate()
            system.check("status", process.wait(60), lambda status: status in statuses)
            system.check("seconds to the end", round(time.monotonic() - begun, 1), lambda seconds: seconds < 5)
        next_delivers(stack, published)


def signals_to_all(build):
    """systemd signals keeper and router (KillMode=control-group), also when the keeper is dead: both are one stop, which drains."""
    with system.Stack(build, name="group") as stack:
        stack.start_sink()
        stack.write_configuration(settings="shutdown.drain_seconds: 3")
        published = 0
        for keeper_dies in (False, True):
            stack.start_router()
            stack.tell_sink("set down on")
            published += stack.loadgen("--producers", "1", "--events", "500", "--run-id", "0001%04x" % published)["published"]
            keeper, router = stack.processes.pop("router"), stack.router_pid()
            alive = os.pidfd_open(router)
            begun = time.monotonic()
            os.kill(keeper.pid, signal.SIGKILL if keeper_dies else signal.SIGTERM)
            os.kill(router, signal.SIGTERM)
            system.check("status of the keeper", keeper.wait(60), -signal.SIGKILL if keeper_dies else 0)
            system.check("the router ends", select.select([alive], [], [], 60)[0], [alive])
            os.close(alive)
            system.check("seconds that it drained", round(time.monotonic() - begun, 1), lambda seconds: 2.5 < seconds < 10)
            system.check("waiting", stack.ledger()["targets"][0]["waiting"], 500)
            next_delivers(stack, published)


def limit_on_files(build):
    """RLIMIT_FSIZE (LimitFSIZE= of systemd) is a full disk, also where it comes late and goes again."""
    with system.Stack(build, name="fsize") as stack:
        stack.write_configuration(firehose=False, file_destination=True, settings="journal.segment_bytes: 1MiB")
        stack.start_router()
        pid = stack.router_pid()
        producer = subprocess.Popen(stack.loadgen_arguments(stack.path("load.json"), "--producers", "1", "--events", "20000", "--rate", "5000"),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        system.wait_for("some events", lambda: system.file_size(stack.path("events.ndjson")) > 0, 20)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
        system.wait_for("the file to be as large as it may be", lambda: stack.stat()["targets"][0]["status"] == "retrying", 20)
        system.wait_for("a log without another segment", lambda: "cannot make a journal segment" in stack.log("router", 200), 20)
        system.check("another producer", subprocess.run(stack.loadgen_arguments(stack.path("other.json"), "--producers", "1", "--events", "1"),
                                                        capture_output=True).returncode, 69)
        system.check("the router lives", system.child_of(stack.processes["router"].pid), pid)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        out, errors = producer.communicate(timeout=60)
        system.check("the producer ends well", (producer.returncode, errors), (0, ""))
        published = json.loads(out.strip().splitlines()[-1])["published"]
        books = stack.wait_drained()
        system.check("delivered", books["targets"][0]["delivered"], published)
        system.check("lines", sum(1 for _ in open(stack.path("events.ndjson"))), published)
        system.check("SIGTERM", stack.stop("router"), 0)


def main(build, _quick):
    signals_of_others(build)
    second_signal(build)
    signals_to_all(build)
    limit_on_files(build)


system.run(main)
