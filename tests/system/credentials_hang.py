"""Credentials files that cannot be read: a FIFO in a file's place, and a file whose opening never returns (as on a network file
system without its server). Publishing and delivery go on, segments are made, the log says it, and SIGTERM ends the router."""
import os
import signal
import subprocess
import time

import system

EVENTS = 30000  # some 20 MB: many segments more than are mapped


def publish(stack, name):
    """Faster than the mapped segments last, were they not prepared."""
    done = subprocess.run(stack.loadgen_arguments(stack.path(name), "--producers", "1", "--events", str(EVENTS), "--rate", "10000",
                                                  "--flush-timeout", "20000", "--stall-timeout", "5"), capture_output=True, text=True)
    system.check("producer beside it ends well", (done.returncode, done.stderr), (0, ""))
    stack.wait_drained(60)


def main(build, quick):
    with system.Stack(build, name="hang") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, file_destination=True, settings="journal.segment_bytes: 1MiB\n"
                                  "journal.segments_mapped_max: 4\njournal.size_bytes_max: 64MiB")
        keys = stack.path("credentials")

        def write_keys():
            with open(keys, "w") as out:
                out.write("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n" % (system.ACCESS_KEY, system.SECRET_KEY))
            os.chmod(keys, 0o600)

        write_keys()
        with open(stack.settings, "a") as out:
            out.write("credentials: {profile: default, shared_credentials_file: %s}\n" % keys)
        environment = {"LD_PRELOAD": os.path.join(os.path.abspath(build), "tests", "system", "slow_file.so"), "SLOW_FILE": keys}
        stack.start_router(env=environment)

        os.unlink(keys)
        os.mkfifo(keys, 0o600)
        os.kill(stack.router_pid(), signal.SIGHUP)
        system.wait_for("the FIFO to be told of", lambda: "credentials is no regular file" in stack.log("router", 100), 10)
        publish(stack, "fifo.json")
        os.unlink(keys)
        write_keys()

        open(keys + ".hangs", "w").close()
        os.kill(stack.router_pid(), signal.SIGHUP)
        system.wait_for("the hanging file to be told of", lambda: "reading AWS credentials hangs" in stack.log("router", 100), 20)
        publish(stack, "hangs.json")
        os.unlink(keys + ".hangs")
        time.sleep(2)
        open(keys + ".hangs", "w").close()
        os.kill(stack.router_pid(), signal.SIGHUP)
        time.sleep(3)
        begun = time.monotonic()
        system.check("router ends well on SIGTERM while it hangs", stack.stop("router"), 0)
        system.check("seconds that took", round(time.monotonic() - begun, 1), lambda s: s <= 8)

        # A start as well: file destinations are served, those of AWS when the file is back.
        stack.start_router(env=environment)
        lines = sum(1 for _ in open(stack.path("events.ndjson")))
        subprocess.run(stack.loadgen_arguments(stack.path("start.json"), "--producers", "1", "--events", "100", "--rate", "0"),
                       capture_output=True, check=True)
        system.wait_for("the file to have them", lambda: sum(1 for _ in open(stack.path("events.ndjson"))) == lines + 100, 10)
        os.unlink(keys + ".hangs")
        books = stack.wait_drained(30)
        system.check("ledger balanced", books["balanced"], True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
