"""Nobody reads stderr, and its pipe is full, while a stream is down: destinations that are well get everything, a router that is
killed is started again, and SIGTERM ends all. Who reads again is told how many lines were dropped."""
import fcntl
import os
import re
import signal
import subprocess
import threading

import system

F_SETPIPE_SZ = 1031
EVENTS = 3000


def fill(end):
    """For the moment of filling it is non-blocking, for all who share it."""
    fcntl.fcntl(end, fcntl.F_SETFL, os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while True:
                os.write(end, b"x" * size)
        except BlockingIOError:
            pass
    fcntl.fcntl(end, fcntl.F_SETFL, 0)


def lines_of(path):
    return sum(1 for _ in open(path)) if os.path.exists(path) else 0


def main(build, quick):
    with system.Stack(build, name="log-pipe") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, file_destination=True)
        theirs, ours = os.pipe()
        fcntl.fcntl(ours, F_SETPIPE_SZ, 4096)
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=system.ACCESS_KEY, AWS_SECRET_ACCESS_KEY=system.SECRET_KEY)
        router = subprocess.Popen([stack.sendring, "run", "--settings", stack.settings], stdout=ours, stderr=ours,
                                  stdin=subprocess.DEVNULL, env=environment)
        stack.processes["router"] = router
        seen = b""
        while b'msg="ready"' not in seen:
            seen += os.read(theirs, 4096)
        fill(ours)
        stack.tell_sink("set down on")

        def publish(name):
            before = lines_of(stack.path("events.ndjson"))
            done = subprocess.run(stack.loadgen_arguments(stack.path(name), "--producers", "1", "--events", str(EVENTS), "--rate",
                                                          "2000"), capture_output=True, text=True)
            system.check("producer ends well", (done.returncode, done.stderr), (0, ""))
            system.wait_for("the file to have all", lambda: lines_of(stack.path("events.ndjson")) >= before + EVENTS, 5)

        publish("first.json")
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)  # the keeper has something to say, too
        system.wait_for("another router", lambda: stack.stat()["pid"] != pid, 20)
        publish("second.json")
        # More lines than the queue has room for: each reload is two.
        for number in range(100):
            with open(stack.sets_file, "a") as out:
                out.write("# %d\n" % number)
            reloads = stack.stat()["counters"]["control_reloads"]
            os.kill(stack.router_pid(), signal.SIGHUP)
            system.wait_for("a reload", lambda: stack.stat()["counters"]["control_reloads"] > reloads, 10)
        dropped = stack.stat()["counters"]["control_log_lines_dropped"]
        system.check("lines dropped", dropped, lambda n: n > 0)

        text = []
        told = re.compile(r"log lines were dropped: nobody read stderr\" lines=(\d+)")

        def read():
            while True:
                piece = os.read(theirs, 65536)
                if not piece:
                    return
                text.append(piece.decode(errors="replace"))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        system.wait_for("to be told of the lines", lambda: sum(int(n) for n in told.findall("".join(text))) >= dropped, 10)
        stack.tell_sink("set down off")
        system.check("ledger balanced", stack.wait_drained(30)["balanced"], True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)
        os.close(ours)
        reader.join(10)  # until the pipe's end
        system.check("its last line", "msg=\"stopped\"" in "".join(text), True)


system.run(main)
