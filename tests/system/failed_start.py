"""A router dies, and the next one cannot be started (no threads are left): that is not the end of the service. Producers
notice nothing, systemd hears nothing of an end, and the router after it takes all."""
import json
import os
import signal
import socket
import subprocess
import time

import system


def heard(notify):
    """What systemd acts on."""
    words = []
    while True:
        try:
            words += [line for line in notify.recv(4096).decode().splitlines() if not line.startswith("STATUS=")]
        except BlockingIOError:
            return words


def main(build, _quick):
    with system.Stack(build, name="failed-start") as stack:
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        notify.bind(stack.path("notify"))
        no_threads = stack.path("no-threads")
        stack.write_configuration(firehose=False, file_destination=True, settings="router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB")
        stack.start_router(env={"LD_PRELOAD": os.path.join(build, "tests", "system", "no_threads.so"), "NO_THREADS": no_threads,
                                "NOTIFY_SOCKET": stack.path("notify")})
        system.check("systemd hears", heard(notify), ["READY=1"])
        producers = subprocess.Popen(stack.loadgen_arguments(stack.path("load.json"), "--producers", "4", "--rate", "2000", "--seconds", "8"),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        killed = stack.router_pid()
        with open(no_threads, "w"):
            pass
        os.kill(killed, signal.SIGKILL)
        system.wait_for("starts that fail", lambda: stack.log("router", 200).count("cannot start a thread") >= 2, 20)
        os.unlink(no_threads)
        system.wait_for("a router", lambda: stack.stat()["running"] and stack.router_pid() != killed, 20)
        system.wait_for("systemd to hear of it", lambda: "READY=1" in (words := heard(notify)) and words, 10)
        out, errors = producers.communicate(timeout=60)
        system.check("producers end well", (producers.returncode, errors), (0, ""))
        load = json.loads(out.strip().splitlines()[-1])
        system.check("producers that were detached", (load["detached"], load["reattached"]), (0, 0))
        system.check("lanes full", load["full"], 0)
        books = stack.wait_drained()
        system.check("accepted = published", books["targets"][0]["accepted"], load["published"])
        system.check("SIGTERM", stack.stop("router"), 0)
        # 10 s of drain, the default, and 40 for what may take its time beside them: more than TimeoutStopSec= where drain_seconds is.
        system.check("systemd hears", heard(notify), ["STOPPING=1", "EXTEND_TIMEOUT_USEC=50000000"])


system.run(main)
