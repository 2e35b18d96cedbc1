"""On a disk where a worker that waited itself for a sync would stand for two seconds, nobody does: while dead letters of one destination are written, and
while the file of one is looked for, opened, rotated and synced (no call of it returns sooner), the others go on. Then folder and file are removed under the running router: a dead letter
counts only where `sendring dlq` finds it. And one destination whose dead letters have no room left is `held`, says so, and goes on."""
import json
import os
import shutil
import subprocess
import time

import system
from harness import file_size, longest_gap, wait_for

PATIENCE = 1.0  # seconds; a blocking sync takes two
SMALL = "egress.batch_bytes_max: 256KiB"


def big_bounce(number):
    """An event whose JSON no SMALL request holds: a control character is six bytes there."""
    return {"eventType": "Bounce",
            "bounce": {"feedbackId": "f-%d" % number, "bounceType": "Permanent", "bounceSubType": "General",
                       "bouncedRecipients": [{"emailAddress": "ana@example.com", "diagnosticCode": "\x01" * 130000}],
                       "timestamp": "2026-01-02T03:04:05.678Z"},
            "mail": {"timestamp": "2026-01-02T03:04:05.678Z", "source": "news@example.com", "messageId": "big-%d" % number,
                     "destination": ["ana@example.com"], "headersTruncated": False, "tags": {"ses:configuration-set": ["set-0"]}}}


def feed(stack, numbers):
    done = subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.socket],
                          input="".join(json.dumps(big_bounce(number)) + "\n" for number in numbers), capture_output=True, text=True,
                          timeout=60)
    system.check("fed", done.returncode, 0)


def load(stack, seconds):
    return subprocess.Popen(stack.loadgen_arguments(stack.path("load.json"), "--producers", "1", "--events", str(1500 * seconds), "--rate",
                                                    "1500", "--mix", "send"), stdout=subprocess.DEVNULL)


def ledger_row(stack, begin):
    return next(row for row in stack.ledger()["targets"] if row["target"].startswith(begin))


def letters(stack):
    done = subprocess.run([stack.sendring, "dlq", "list", "--settings", stack.settings], capture_output=True, text=True, timeout=60)
    system.check("sendring dlq list", done.returncode, 0)
    return int(done.stdout.splitlines()[-1].split()[0].replace("No", "0"))


def status(stack, begin):
    return next(row["status"] for row in stack.stat()["targets"] if row["target"].startswith(begin))


def slow(build, path, *variables):
    return {"LD_PRELOAD": os.path.join(os.path.abspath(build), "tests", "system", "slow_sync.so"), "SLOW_SYNC_THREAD": "worker",
            **{variable: path for variable in variables}}


def check_slowed(stack):
    """That nothing was slow is worth something only where calls would have been."""
    own = "/proc/%d" % stack.router_pid()
    with open(own + "/maps", encoding="ascii") as maps:
        system.check("slow_sync.so is loaded", "slow_sync.so" in maps.read(), True)
    names = []
    for task in os.listdir(own + "/task"):
        with open("%s/task/%s/comm" % (own, task), encoding="ascii") as comm:
            names.append(comm.read())
    system.check("threads that it slows", sum(name.startswith("worker") for name in names), lambda n: n > 0)


def dead_letters_hold_nobody(build):
    with system.Stack(build, name="slow-letters") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, file_destination=True, settings=SMALL)
        stack.start_router(env=slow(build, "dead-letter", "SLOW_SYNC_PATH"))
        check_slowed(stack)
        producer = load(stack, 4)
        time.sleep(1)
        feed(stack, range(3))
        gap = longest_gap(2.5, lambda: file_size(stack.path("events.ndjson")))
        producer.wait()
        stack.wait_drained(60)
        stack.check_ledger()
        print("a blocking sync of dead letters would take 2 s: longest time without a line in the file of another destination %.2f s" % gap)
        system.check("the file waited for dead letters", gap < PATIENCE, True)
        system.check("dead-lettered", (ledger_row(stack, "firehose")["dead_lettered"], letters(stack)), (3, 3))

        # What cannot be found does not count.
        shutil.rmtree(stack.path("state", "dead-letter"))
        feed(stack, [3])
        stack.wait_drained(60)
        system.check("dead letters, the folder was removed before", letters(stack), 1)
        os.unlink(stack.path("state", "dead-letter", "worker-0-1.ndjson"))
        feed(stack, [4])
        stack.wait_drained(60)
        system.check("dead letters, the file was removed before", letters(stack), 1)
        stack.check_ledger()


def a_files_disk_holds_nobody(build):
    with system.Stack(build, name="slow-file") as stack:
        stack.start_sink()
        os.mkdir(stack.path("slow"))
        stack.write_configuration(event_ids=True, file_destination=True, settings="journal.durability: host")
        with open(stack.sets_file) as sets:
            text = sets.read()
        with open(stack.sets_file, "w") as sets:
            sets.write(text.replace("Path: " + stack.path("events.ndjson"),
                                    "RotateBytes: 1MiB\n          Path: " + stack.path("slow", "events.ndjson")))
        stack.start_router(env=slow(build, "/slow", "SLOW_SYNC_PATH", "SLOW_CALLS_PATH"))
        check_slowed(stack)
        producer = load(stack, 4)
        time.sleep(0.5)
        gap = longest_gap(3, lambda: json.loads(stack.tell_sink("stats"))["events"])
        producer.wait()
        stack.wait_drained(60)
        stack.check_ledger()
        rotated = [name for name in os.listdir(stack.path("slow")) if name != "events.ndjson"]
        print("a blocking call for a file destination or its folder would take 2 s, %d rotations: longest time without a request at the other "
              "destination %.2f s" % (len(rotated), gap))
        system.check("rotated", len(rotated) > 1, True)
        system.check("Firehose waited for the file", gap < PATIENCE, True)


def a_target_without_room_is_held(build):
    with system.Stack(build, name="held") as stack:
        stack.start_sink()
        stack.write_configuration(event_ids=True, file_destination=True, settings=SMALL + "\negress.dead_letter_bytes_max: 16MiB")
        stack.start_router()
        feed(stack, range(30))
        wait_for("the target to be held", lambda: status(stack, "firehose") == "held", 20)
        system.check("the other one", status(stack, "file"), "ok")
        row = ledger_row(stack, "firehose")
        system.check("kept, or waiting", row["dead_lettered"] + row["waiting"], 30)
        system.check("letters", letters(stack), row["dead_lettered"])
        log = stack.log("router", 200)
        system.check("the log says so once", log.count('msg="target held"'), 1)
        done = subprocess.run([stack.sendring, "dlq", "drop", "--all", "--yes", "--settings", stack.settings], capture_output=True,
                              text=True, timeout=60)
        system.check("sendring dlq drop", done.returncode, 0)
        stack.wait_drained(30)
        system.check("status", status(stack, "firehose"), "ok")
        system.check("dead-lettered", ledger_row(stack, "firehose")["dead_lettered"], 30)
        system.check("the log says that it goes on", stack.log("router", 200).count('msg="target goes on"'), 1)
        stack.check_ledger()
        print("a target whose dead letters have no room is held with %d of 30, and goes on when some are dropped" % row["dead_lettered"])


def main(build, _quick):
    dead_letters_hold_nobody(build)
    a_files_disk_holds_nobody(build)
    a_target_without_room_is_held(build)


system.run(main)
