"""`sendring feed` killed at random while it follows a rotating file, and made to wait by a router that stands still: nothing
missing; a state that is ahead of its checkpoint. `sendring decode` counts, from the journal of the running router and from events packed by Python's msgpack."""
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import msgpack

import system

EVENTS = 40000
KILLS = 8


def event(number):
    return json.dumps({"eventType": "Send", "mail": {
        "timestamp": "2026-01-02T03:04:05.678Z", "source": "news@mail.example.com", "messageId": "m-%06d" % number,
        "destination": ["ana@recipient.example.com"], "headersTruncated": False,
        "tags": {"ses:configuration-set": ["bulk-a"], "campaign": ["april"]}, "added": number}, "send": {}})


class Writer(threading.Thread):
    """A program that writes its events to a file, which is rotated under it."""

    def __init__(self, path, events):
        super().__init__()
        self.path, self.events = path, events
        open(path, "w").close()

    def run(self):
        out = open(self.path, "a")
        for number in range(self.events):
            out.write(event(number) + "\n")
            if number % 200 == 199:
                out.flush()
                time.sleep(0.03)
            if number in (self.events // 4, self.events // 2, self.events * 3 // 4):
                if os.path.exists(self.path + ".1"):
                    os.rename(self.path + ".1", self.path + ".2")
                os.rename(self.path, self.path + ".1")
                out.write("not JSON, but the last line of the old file\n")
                out.close()
                out = open(self.path, "a")
        out.close()


def ids_of(lines):
    return collections.Counter(json.loads(line)["event"]["mail"]["messageId"] for line in lines)


def killed(stack, events, kills):
    path = stack.path("in.jsonl")
    writer = Writer(path, events)

    def start():
        stack.start("feed", [stack.sendring, "feed", "--from", "jsonl", "--follow", path, "--checkpoint",
                             stack.path("feed.checkpoint"), "--socket", stack.socket, "--json"])

    followed = open(stack.path("followed.jsonl"), "wb")
    decode = subprocess.Popen([stack.sendring, "decode", "--from", "journal", "--settings", stack.settings, "--follow"],
                              stdout=followed)
    start()
    writer.start()
    rounds = random.Random(7)
    for turn in range(kills):
        time.sleep(rounds.uniform(0.05, 1.0))
        if turn == kills // 2:
            # The router stands still: the lane fills, the feed waits.
            pid = stack.router_pid()
            os.kill(pid, signal.SIGSTOP)
            time.sleep(2)
            os.kill(pid, signal.SIGCONT)
        stack.stop("feed", signal.SIGKILL)
        start()
    writer.join()

    def at_end():
        with open(stack.path("feed.checkpoint")) as checkpoint:
            seen = json.load(checkpoint)
        status = os.stat(path)
        return seen["inode"] == status.st_ino and seen["offset"] == status.st_size

    system.wait_for("the feed to reach the end", at_end, 60, 0.1)
    status = stack.stop("feed")
    system.check("the feed's status after SIGTERM", status, lambda n: n in (0, 1))  # 1: it saw a line that is not JSON
    once = subprocess.run([stack.sendring, "decode", "--from", "journal", "--settings", stack.settings],
                          capture_output=True, text=True)
    system.check("decode ends well", once.returncode, 0)
    ids = ids_of(once.stdout.splitlines())
    system.check("events written", events, events)
    system.check("events in the journal, distinct", len(ids), events)
    system.check("missing", sum("m-%06d" % n not in ids for n in range(events)), 0)
    system.check("published again after kills", sum(ids.values()) - len(ids), lambda n: 0 <= n < kills * events)
    first = json.loads(once.stdout.splitlines()[0])
    system.check("a record's members", list(first), ["shard", "sequence", "lane", "accepted", "type", "routes", "event"])
    system.check("its routes", first["routes"], ["file " + stack.path("events.ndjson")])
    system.check("an unknown member is kept", "added" in first["event"]["mail"], True)
    system.wait_for("decode --follow to see them all",
                    lambda: sum(1 for _ in open(followed.name)) >= sum(ids.values()), 30, 0.5)
    decode.send_signal(signal.SIGTERM)
    system.check("decode --follow ends well", decode.wait(20), 0)
    followed.close()
    with open(followed.name) as lines:
        system.check("decode --follow saw the same", ids_of(lines) == ids, True)


POSTFIX = "2026-11-27T10:00:00+00:00 mta1 postfix/%s[1]: 4bX1Yz2bbcz1234: "
CLIENT = " from a[192.0.2.1]; from=<a@alice.example> to=<d@e.example> proto=ESMTP helo=<x>\n"


def state_ahead(stack):
    """What a kill, or a full disk, leaves between the saved state and the checkpoint."""
    path, checkpoint = stack.path("mail.log"), stack.path("postfix.checkpoint")

    def feed(*lines):
        with open(path, "a") as log:
            log.write("".join(POSTFIX % program + text for program, text in lines))
        done = subprocess.run([stack.sendring, "feed", "--from", "postfix", "--checkpoint", checkpoint, "--socket", stack.socket,
                               "--json", path], capture_output=True, text=True)
        system.check("status of the Postfix feed", done.returncode, 0)
        return json.loads(done.stdout)["lines"]

    feed(("smtpd", "client=a[192.0.2.1]\n"))
    shutil.copy(checkpoint, checkpoint + ".before")
    feed(("cleanup", "strip: header X-SES-CONFIGURATION-SET: bulk-a" + CLIENT),
         ("cleanup", "strip: header X-SES-MESSAGE-TAGS: campaign=april" + CLIENT),
         ("cleanup", "info: header From: a@alice.example" + CLIENT),
         ("cleanup", "info: header Subject: Hi" + CLIENT))
    os.rename(checkpoint + ".before", checkpoint)
    lines = feed(("qmgr", "from=<a@alice.example>, size=1, nrcpt=1 (queue active)\n"),
                 ("smtp", "to=<d@e.example>, relay=mx[192.0.2.7]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)\n"),
                 ("qmgr", "removed\n"))
    system.check("lines read behind the state", lines, 3)
    once = subprocess.run([stack.sendring, "decode", "--from", "journal", "--settings", stack.settings],
                          capture_output=True, text=True)
    mails = [json.loads(line)["event"]["mail"] for line in once.stdout.splitlines() if "4bX1Yz2bbcz1234" in line]
    system.check("Send and Delivery", len(mails), 2)
    for mail in mails:
        system.check("its tag, once", mail["tags"]["campaign"], ["april"])
        system.check("its headers, once", [header["name"] for header in mail["headers"]],
                     ["X-SES-CONFIGURATION-SET", "X-SES-MESSAGE-TAGS", "From", "Subject"])
    with open(checkpoint + ".state", "wb") as state:
        state.write(b"sendrpf9" + bytes(40))
    done = subprocess.run([stack.sendring, "feed", "--from", "postfix", "--checkpoint", checkpoint, "--socket", stack.socket, path],
                          capture_output=True, text=True)
    system.check("status with a state of another version", done.returncode, 78)
    system.check("it says what to do", "another version of sendring feed (9; 3 is known); without that file" in done.stderr, True)


def bad_lines(stack):
    path = stack.path("bad.jsonl")
    with open(path, "w") as out:
        out.write(event(1) + "\nnonsense\n" + event(2) + "\n\n{\"eventType\":\"Sent\",\"mail\":{}}\n" + event(3))
    done = subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.socket, "--json", path],
                          capture_output=True, text=True)
    report = json.loads(done.stdout)
    system.check("status with bad lines", done.returncode, 1)
    system.check("published beside them", report["published"], 3)
    system.check("bad lines", report["not_understood"], 2)
    system.check("they are named", [line.split(": ")[0] for line in done.stderr.splitlines() if line.startswith(path)],
                 [path + ":2", path + ":5"])
    with open(path, "w") as out:
        out.write('{"eventType":"\\u001b[31mX\\nlevel=error forged","mail":{}}\n')
    done = subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.socket, path], capture_output=True, text=True)
    system.check("what a line holds writes no line of its own, and no ESC",
                 [line.startswith(path + ":1: ") and "\x1b" not in line for line in done.stderr.splitlines()
                  if "forged" in line or "\x1b" in line], [True])
    away = subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.path("nobody.sock"), path],
                          capture_output=True, text=True)
    system.check("status without a router", away.returncode, 69)


def packed(stack):
    def pack(number):
        # By docs/formats/event.md: version, type, mail {timestamp, source, messageId, destination}.
        return msgpack.packb({0: 1, 1: 1, 5: {1: 1767323045678, 2: "a@b.example", 5: "m-%d" % number, 6: ["c@d.example"]}})

    good = [pack(n) for n in range(3)]
    done = subprocess.run([stack.sendring, "decode"], input=b"".join(good), capture_output=True)
    system.check("decode of Python's msgpack", [json.loads(line)["mail"]["messageId"] for line in done.stdout.splitlines()],
                 ["m-0", "m-1", "m-2"])
    done = subprocess.run([stack.sendring, "decode"], input=good[0] + msgpack.packb({0: 9}) + good[2] + good[1][:-3],
                          capture_output=True)
    system.check("status with malformed events", done.returncode, 1)
    system.check("the others are printed", len(done.stdout.splitlines()), 2)
    system.check("offsets named", [line.split(b": ")[1].decode() for line in done.stderr.splitlines()[:2]],
                 ["event at offset %d" % len(good[0]), "event at offset %d" % (len(good[0]) + 3 + len(good[2]))])
    done = subprocess.run([stack.sendring, "decode", "--limit", "2"], input=b"".join(good), capture_output=True)
    system.check("--limit 2", len(done.stdout.splitlines()), 2)


def damaged(stack):
    """A byte of a record in the middle of the journal of a router that has ended."""
    folder = stack.path("damaged")
    shutil.copytree(stack.path("state", "journal", "0"), folder)
    segment = sorted(name for name in os.listdir(folder) if name.endswith(".segment"))[0]
    with open(os.path.join(folder, segment), "r+b") as file:
        content = file.read()
        at = content.index(b"m-00", content.index(b"m-00") + 100000)
        file.seek(at)
        file.write(b"?")

    def decode(journal):
        return subprocess.run([stack.sendring, "decode", "--from", "journal", "--journal", journal], capture_output=True, text=True)

    whole, rest = decode(stack.path("state", "journal", "0")), decode(folder)
    system.check("status with damage", rest.returncode, 1)
    system.check("one record less", len(whole.stdout.splitlines()) - len(rest.stdout.splitlines()), 1)
    told = rest.stderr.splitlines()
    system.check("what is damaged is named, once", len([line for line in told if "damaged at position" in line]), 1)
    system.check("and not as recycled", [line for line in told if "records" in line],
                 ["shard 0: 1 records cannot be read for the damage"])


def main(build, quick):
    with system.Stack(build, name="feed-decode") as stack:
        stack.write_configuration(firehose=False, file_destination=True, sets=["bulk-a"],
                                  settings="journal.segment_bytes: 64MiB")
        stack.start_router()
        killed(stack, EVENTS // 4 if quick else EVENTS, KILLS // 2 if quick else KILLS)
        state_ahead(stack)
        bad_lines(stack)
        packed(stack)
        books = stack.wait_drained(60)
        system.check("ledger balanced", books["balanced"], True)
        system.check("rejected", books["rejected"], 0)
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)
        damaged(stack)


system.run(main)
