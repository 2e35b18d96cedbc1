"""Keys are rotated under load: the service refuses the old ones as expired, a credentials file gets the new ones some seconds later.
Nothing is lost or doubled, and the stream goes on within seconds of the file."""
import json
import os
import subprocess
import time

import system


def write_keys(stack, access, secret):
    path = stack.path("credentials")
    with open(path + ".new", "w") as out:
        os.fchmod(out.fileno(), 0o600)
        out.write("[mail]\naws_access_key_id = %s\naws_secret_access_key = %s\n" % (access, secret))
    os.rename(path + ".new", path)


def main(build, quick):
    with system.Stack(build, tls=True, name="rotate") as stack:
        stack.start_sink()
        stack.write_configuration(settings="egress.retry_max_ms: 5s")
        with open(stack.settings, "a") as out:
            out.write("credentials: {profile: mail, shared_credentials_file: %s}\n" %
                      stack.path("credentials"))
        write_keys(stack, system.ACCESS_KEY, system.SECRET_KEY)
        stack.start_router()
        producers = subprocess.Popen(
            stack.loadgen_arguments(stack.path("published.json"), "--producers", "1", "--rate", "2000", "--seconds",
                                    "20" if quick else "40", "--run-id", "0000cafe"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        system.wait_for("events", lambda: stack.stat()["counters"]["egress_delivered"] > 0, 20)
        for number in range(1 if quick else 3):
            access, secret = "AKIDROTATED%d" % number, "secret-%d" % number
            stack.tell_sink("keys %s %s" % (access, secret))
            system.wait_for("the stream to notice", lambda: stack.stat()["targets"][0]["status"] == "retrying", 10)
            time.sleep(4)
            seen = stack.stat()["targets"][0]
            system.check("status without new keys", seen["status"], "retrying")
            system.check("last error", seen["last_error"], lambda text: "ExpiredTokenException" in text)
            write_keys(stack, access, secret)
            since = time.monotonic()
            system.wait_for("the new keys to be used", lambda: stack.stat()["targets"][0]["status"] == "ok", 20)
            system.check("seconds from the file to delivery", round(time.monotonic() - since, 1), lambda s: s <= 3)
        out, errors = producers.communicate(timeout=120)
        system.check("producers end well", producers.returncode, 0)
        books = stack.wait_drained(60)
        report = stack.sink_report(stack.path("published.json"))
        system.check("published", json.loads(out.strip().splitlines()[-1])["published"], lambda n: n > 0)
        system.check("missing", report["missing"], 0)
        system.check("duplicates", report["duplicates"], 0)
        system.check("ledger balanced", books["balanced"], True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
