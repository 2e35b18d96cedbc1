"""`sendring feed --checkpoint` run again and again as cron does, over two rotations; and followed with its checkpoint beside the
log and another log whose name begins alike, cut short while the feed stands still, and from pipes: each event once."""
import json
import os
import signal
import subprocess
import time

import system


def event(number):
    return json.dumps({"eventType": "Send", "mail": {
        "timestamp": "2026-01-02T03:04:05.678Z", "source": "news@mail.example.com", "messageId": "m-%06d" % number,
        "destination": ["ana@recipient.example.com"], "tags": {"ses:configuration-set": ["bulk-a"]}}, "send": {}}) + "\n"


def append(path, first, end, cut=None):
    with open(path, "a") as out:
        out.write("".join(event(number) for number in range(first, end))[:cut])


def delivered(stack):
    with open(stack.path("events.ndjson")) as lines:
        return [json.loads(line)["mail"]["messageId"] for line in lines]


def feed_once(stack, path, *more):
    return subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.socket, "--json", *more, path],
                          capture_output=True, text=True)


def by_cron(stack):
    path = stack.path("cron.jsonl")

    def run(what, wanted):
        done = feed_once(stack, path, "--checkpoint", stack.path("cron.checkpoint"))
        system.check(what, (done.returncode, json.loads(done.stdout)["published"]), (0, wanted))
        return done.stderr

    append(path, 0, 10)
    run("the first run", 10)
    append(path, 10, 15)
    os.rename(path, path + ".1")
    append(path, 15, 35)
    run("over a rotation", 25)
    os.rename(path + ".1", path + ".2")
    os.rename(path, path + ".1")
    append(path, 35, 40)
    run("over the next one", 5)
    os.unlink(path + ".2")
    append(path, 40, 41, 50)
    system.check("half a line is said to be left", "left for the next run" in run("with half a line", 0), True)
    with open(path, "a") as out:
        out.write(event(40)[50:])
    run("and the rest of it", 1)
    os.unlink(path + ".1")
    os.unlink(path)  # packed, as it were
    append(path + ".1", 41, 44)
    time.sleep(0.1)
    append(path, 44, 50)
    system.check("a packed file is said to be missed", path + ".1" in run("the rotated one that was never read, and on", 9), True)


def followed(stack):
    path = stack.path("mail")
    # No rotated file of the log, but its name begins alike and it is written to all the time.
    info = path + ".info"
    refused = feed_once(stack, path, "--checkpoint", path + ".1")
    system.check("a checkpoint that would be taken for a rotated file", refused.returncode, 64)
    system.check("is not written", os.path.exists(path + ".1"), False)
    append(path, 100, 110)
    append(info, 900, 910)
    stack.start("feed", [stack.sendring, "feed", "--from", "jsonl", "--follow", path, "--checkpoint", path + ".checkpoint",
                         "--socket", stack.socket])
    system.wait_for("the first lines", lambda: "m-000109" in delivered(stack), 20, 0.1)
    second = feed_once(stack, path, "--checkpoint", path + ".checkpoint")
    system.check("a second feed with this checkpoint", (second.returncode, "another sendring feed is at work with this checkpoint"
                                                        in second.stderr), (69, True))
    os.rename(path, path + "-20261127")
    for number in range(110, 150):
        append(path, number, number + 1)
        append(info, number + 800, number + 801)
        time.sleep(0.1)
    system.wait_for("what came behind the rotation", lambda: "m-000149" in delivered(stack), 20, 0.1)
    system.check("the feed ends well on SIGTERM", stack.stop("feed"), 0)
    again = feed_once(stack, path, "--checkpoint", path + ".checkpoint")
    system.check("its lock is free again", (again.returncode, json.loads(again.stdout)["published"]), (0, 0))


def cut(stack):
    path = stack.path("cut.jsonl")
    append(path, 200, 300)
    feed = stack.start("feed-cut", [stack.sendring, "feed", "--from", "jsonl", "--follow", path, "--socket", stack.socket])
    system.wait_for("what was written before the cut", lambda: "m-000299" in delivered(stack), 20, 0.1)
    os.kill(feed.pid, signal.SIGSTOP)  # as if it waited for room in its lane
    os.truncate(path, 0)
    append(path, 300, 500)
    os.kill(feed.pid, signal.SIGCONT)
    system.wait_for("what was written after it", lambda: "m-000499" in delivered(stack), 20, 0.1)
    system.check("the cut feed ends well on SIGTERM", stack.stop("feed-cut"), 0)


def late(stack):
    """A writer that keeps a rotated file open, and writes to it once more when the feed has left it."""
    path = stack.path("late.jsonl")
    append(path, 700, 703)
    feed = subprocess.Popen([stack.sendring, "feed", "--from", "jsonl", "--follow", path, "--socket", stack.socket, "--json"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    system.wait_for("the first lines", lambda: "m-000702" in delivered(stack), 20, 0.1)
    os.rename(path, path + ".1")
    append(path, 703, 706)
    system.wait_for("those of the next file", lambda: "m-000705" in delivered(stack), 20, 0.1)
    append(path + ".1", 706, 707)
    os.rename(path + ".1", path + ".2")
    os.rename(path, path + ".1")
    append(path, 707, 709)
    system.wait_for("those of the third one", lambda: "m-000708" in delivered(stack), 20, 0.1)
    feed.terminate()
    out, err = feed.communicate(timeout=20)
    system.check("what was missed is said", "%s.2 was still written to" % path in err, True)
    system.check("counted", json.loads(out)["missed_bytes"], len(event(706)))
    system.check("and the status tells of it", feed.returncode, 1)


def piped(stack):
    path = stack.path("piped.jsonl")
    append(path, 600, 603)
    command = "'%s' feed --from jsonl --socket '%s'" % (stack.sendring, stack.socket)
    done = subprocess.run(["bash", "-c", "%s <(sleep 0.3; cat '%s')" % (command, path)], capture_output=True, text=True)
    system.check("from <(...)", done.returncode, 0)
    append(path + ".2", 603, 606)
    done = subprocess.run(["bash", "-c", "cat '%s.2' | %s /dev/stdin" % (path, command)], capture_output=True, text=True)
    system.check("from a pipe at /dev/stdin", done.returncode, 0)
    done = subprocess.run(["bash", "-c", "%s --follow <(cat '%s')" % (command, path)], capture_output=True, text=True)
    system.check("a pipe is not followed", (done.returncode, "no regular file" in done.stderr), (74, True))


def main(build, quick):
    del quick  # as short as it gets
    with system.Stack(build, name="feed-rotation") as stack:
        stack.write_configuration(firehose=False, file_destination=True, sets=["bulk-a"])
        stack.start_router()
        by_cron(stack)
        followed(stack)
        cut(stack)
        late(stack)
        piped(stack)
        stack.wait_drained(30)
        wanted = ["m-%06d" % number for number in [*range(50), *range(100, 150), *range(200, 500), *range(600, 606), *range(700, 706), *range(707, 709)]]
        system.check("each event delivered once, and none of another log", sorted(delivered(stack)) == wanted, True)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


system.run(main)
