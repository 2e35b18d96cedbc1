"""What was accepted once is published again: a window by type, tag and set to a second destination, at a rate; dead
letters listed, shown, replayed, dropped; tool and daemon killed in the middle. Counted by Python, from what was delivered."""
import base64
import collections
import json
import os
import re
import signal
import subprocess
import time

import system
from harness import ALL_TYPES, SETS, STREAM_ARN

SECOND_SETS = SETS[:6]  # those that get the second destination


def write_sets(stack, second):
    """Every set delivers to the first file; with `second`, six of them also have another one, which history is for."""
    with open(stack.sets_file, "w") as out:
        out.write("ConfigurationSets:\n")
        for name in SETS:
            out.write("- ConfigurationSetName: %s\n  EventDestinations:\n" % name)
            destinations = [("first", ALL_TYPES)] + ([("second", ALL_TYPES)] if second and name in SECOND_SETS else [])
            for destination, types in destinations:
                out.write("  - EventDestinationName: %s\n    EventDestination:\n      Enabled: true\n"
                          "      MatchingEventTypes: [%s]\n      Sendring:\n        EventId: true\n        FileDestination:\n"
                          "          Path: %s\n" % (destination, ", ".join(types), stack.path(destination + ".ndjson")))
    with open(stack.settings, "w") as out:
        out.write("state_directory: %s\nsocket_path: %s\nconfiguration_sets_path: %s\nregion: us-east-1\n"
                  "account_id: \"123456789012\"\n" % (stack.path("state"), stack.socket, stack.sets_file))


def events_of(stack, name):
    try:
        with open(stack.path(name + ".ndjson")) as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return []


def ids(events):
    return [event["sendring"]["eventId"] for event in events]


def tool(stack, *arguments, wanted=0):
    done = subprocess.run([stack.sendring, *arguments, "--settings", stack.settings], capture_output=True, text=True,
                          timeout=120, stdin=subprocess.DEVNULL)
    system.check("sendring %s" % " ".join(arguments[:8]), done.returncode, wanted)
    return done


def replay(stack, *arguments, wanted=0):
    return json.loads(tool(stack, "replay", "--json", *arguments, wanted=wanted).stdout)


def balanced(stack):
    done = subprocess.run([stack.sendring, "ledger", "--check", "--settings", stack.settings], capture_output=True, text=True)
    system.check("ledger --check", (done.returncode, done.stderr), (0, ""))


def settled_file(stack, name, count, seconds=60):
    system.wait_for("%d events in %s" % (count, name), lambda: len(events_of(stack, name)) >= count, seconds, 0.1)
    time.sleep(0.3)  # more than wanted would come now
    return events_of(stack, name)


def empty_second(stack):
    """The next part begins with an empty second file; the daemon goes on in it."""
    stack.wait_drained()
    os.truncate(stack.path("second.ndjson"), 0)


def windows(stack, size):
    """Three bunches of events with known times between them; then history for a destination that came later."""
    marks = []
    for number in range(3):
        stack.loadgen("--producers", "2", "--events", str(size), "--run-id", "c0ffee%02d" % number, "--mix", "all",
                      ledger="window-%d.json" % number)
        time.sleep(0.05)
        marks.append(int(time.time() * 1000))
        time.sleep(0.05)
    stack.wait_drained()
    first = events_of(stack, "first")
    system.check("events delivered the first time", len(first), 3 * size)
    system.check("their ids differ", len(set(ids(first))), 3 * size)
    write_sets(stack, second=True)
    os.kill(stack.router_pid(), signal.SIGHUP)
    system.wait_for("the second destination", lambda: any("second" in t["target"] for t in stack.stat()["targets"]), 10)
    return marks, {event["sendring"]["eventId"]: event for event in first}


def by_window(stack, size, marks, first):
    def wanted(number=None, types=None, sets=None, tag=None):
        return sorted(i for i, event in first.items()
                      if (number is None or re.search("c0ffee%02d" % number, event["mail"]["messageId"]))
                      and (types is None or event["eventType"] in types)
                      and event["mail"]["tags"]["ses:configuration-set"][0] in (sets or SECOND_SETS)
                      and event["mail"]["tags"]["ses:configuration-set"][0] in SECOND_SETS
                      and (tag is None or tag[1] in event["mail"]["tags"].get(tag[0], [])))

    middle = ["--from", str(marks[0]), "--to", str(marks[1])]
    whole = wanted(1)
    system.check("of the middle window, in sets with the second destination", len(whole), lambda n: 0 < n < size)
    dry = replay(stack, *middle, "--destination", "second", "--dry-run")
    system.check("a dry run counts them", (dry["looked_at"], dry["would_publish"]), (size, len(whole)))
    system.check("and publishes nothing", stack.stat()["counters"]["router_replayed"], 0)

    campaigns = sorted({c for e in first.values() for c in e["mail"]["tags"].get("campaign", [])})
    cases = [
        (middle, whole),
        (middle + ["--type", "Bounce", "--type", "COMPLAINT"], wanted(1, types=("Bounce", "Complaint"))),
        (middle + ["--set", SETS[2], "--set", SETS[7]], wanted(1, sets=[SETS[2]])),
        (["--from", "0", "--tag", "campaign=" + campaigns[0]], wanted(tag=("campaign", campaigns[0]))),
        (["--from", "0", "--to", str(marks[0]), "--type", "Click", "--set", SETS[0], "--tag", "campaign=" + campaigns[1]],
         wanted(0, types=("Click",), sets=[SETS[0]], tag=("campaign", campaigns[1]))),
    ]
    for arguments, expected in cases:
        empty_second(stack)
        told = replay(stack, *arguments, "--destination", "second")
        system.check("published of %s" % " ".join(arguments), told["published"], len(expected))
        system.check("complete", told["complete"], True)
        seen = settled_file(stack, "second", len(expected))
        system.check("each once, with the id of its first time", sorted(ids(seen)) == expected, True)
    # As it was delivered the first time, but for the set's own number of the record.
    for event in seen:
        before = dict(first[event["sendring"]["eventId"]])
        system_member = dict(event["sendring"])
        event["sendring"] = before["sendring"]
        if event != before:
            system.check("published as the first time", event, before)
        if system_member["sequence"] <= before["sendring"]["sequence"]:
            system.check("a sequence of its own", system_member, before)
    system.check("the first destination got none of it", len(events_of(stack, "first")), 3 * size)
    # Without a destination: all of the set. Windows of replays hold no replays.
    empty_second(stack)
    told = replay(stack, *middle, "--type", "Open", "--set", SETS[1])
    expected = wanted(1, types=("Open",), sets=[SETS[1]])
    system.check("to every destination", told["published"], len(expected))
    settled_file(stack, "second", len(expected))
    stack.wait_drained()
    system.check("the first got it again", len(events_of(stack, "first")), 3 * size + len(expected))
    told = replay(stack, "--from", str(marks[2]), "--dry-run")
    system.check("replays are passed over", (told["would_publish"], told["replays"] > 0), (0, True))
    # What cannot be meant.
    done = tool(stack, "replay", "--from", "0", "--destination", "third", wanted=1)
    system.check("an unknown destination is named", "third" in done.stderr, True)
    tool(stack, "replay", wanted=64)
    tool(stack, "replay", "--from", "-1h", "--to", "-2h", wanted=64)
    tool(stack, "replay", "--from", "yesterday", wanted=64)
    for place, named in (("7:5", "no log 7"), ("0.Open:1", "no log 0.Open"), ("0:99999999", "no record 99999999")):
        done = tool(stack, "replay", "--from", "0", "--dry-run", "--after", place, wanted=64)
        system.check("--after %s: what is wrong" % place, named in done.stderr, True)
    tool(stack, "replay", "--from", "0", "--dry-run", "--set", "", wanted=64)
    # At a rate.
    empty_second(stack)
    begun = time.monotonic()
    rate = max(len(whole) // 2, 100)
    told = replay(stack, *middle, "--destination", "second", "--rate", str(rate))
    seconds = time.monotonic() - begun
    system.check("seconds for %d at %d a second" % (len(whole), rate), round(seconds, 1),
                 lambda s: 0.9 * len(whole) / rate < s < 3 * len(whole) / rate + 2)
    settled_file(stack, "second", len(whole))
    return whole, middle


def in_background(stack, *arguments):
    return subprocess.Popen([stack.sendring, "replay", *arguments, "--settings", stack.settings],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def killed(stack, whole, middle):
    """The tool stopped, the tool killed, the daemon killed: at least once, and it says how to go on."""
    rate = str(max(len(whole) // 6, 50))
    for how in (signal.SIGINT, signal.SIGKILL):
        empty_second(stack)
        process = in_background(stack, *middle, "--destination", "second", "--rate", rate)
        time.sleep(3.2)
        process.send_signal(how)
        out, errors = process.communicate(timeout=30)
        after = re.findall(r"--after (\d+:\d+)", errors)
        system.check("signal %d: it said how far it was" % how, after, lambda seen: len(seen) > 0)
        if how == signal.SIGINT:
            system.check("stopped", process.returncode, 1)
        part = len(settled_file(stack, "second", 1))
        system.check("a part was published", part, lambda n: 0 < n < len(whole))
        if how == signal.SIGINT:
            command = re.findall(r"to go on: sendring (.*)", errors)[0]
            done = subprocess.run([stack.sendring + " " + command.replace("--rate %s" % rate, "")], shell=True,
                                  capture_output=True, text=True, timeout=60)
            system.check("the command that it gave", done.returncode, 0)
        else:
            replay(stack, *middle, "--destination", "second", "--after", after[-1])
        stack.wait_drained()
        seen = ids(events_of(stack, "second"))
        system.check("missing", len(set(whole) - set(seen)), 0)
        system.check("doubled", len(seen) - len(set(seen)), lambda n: n == 0 if how == signal.SIGINT else n <= part)
    empty_second(stack)
    process = in_background(stack, *middle, "--destination", "second", "--rate", rate)
    dead = set()
    for _ in range(3):
        time.sleep(0.7)
        pid = system.wait_for("a router", lambda: stack.router_pid() if stack.router_pid() not in dead else 0, 20)
        os.kill(pid, signal.SIGKILL)
        dead.add(pid)
    out, errors = process.communicate(timeout=60)
    system.check("three routers killed meanwhile: the tool", process.returncode, 0)
    system.wait_for("the last router", lambda: stack.router_pid() not in dead, 20)
    stack.wait_drained()
    seen = ids(events_of(stack, "second"))
    system.check("missing", len(set(whole) - set(seen)), 0)
    system.check("delivered twice", len(seen) - len(set(seen)), lambda n: n < len(whole))


BIG = 130000


def big_bounce(number, name, characters=BIG):
    """An event whose JSON no small request holds: a control character is six bytes there."""
    return {"eventType": "Bounce",
            "bounce": {"feedbackId": "f-%d" % number, "bounceType": "Permanent", "bounceSubType": "General",
                       "bouncedRecipients": [{"emailAddress": "ana@example.com", "action": "failed", "status": "5.1.1",
                                              "diagnosticCode": "\x01" * characters}],
                       "timestamp": "2026-01-02T03:04:05.678Z"},
            "mail": {"timestamp": "2026-01-02T03:04:05.678Z", "source": "news@example.com", "messageId": "big-%d" % number,
                     "destination": ["ana@example.com"], "headersTruncated": False,
                     "tags": {"ses:configuration-set": [name], "number": [str(number)]}}}


def feed(stack, events):
    done = subprocess.run([stack.sendring, "feed", "--from", "jsonl", "--socket", stack.socket],
                          input="".join(json.dumps(event) + "\n" for event in events), capture_output=True, text=True)
    system.check("fed", done.returncode, 0)


def listed(stack, *filters):
    done = tool(stack, "dlq", "list", "--json", *filters)
    return [json.loads(line) for line in done.stdout.splitlines()]


def nothing_is_too_large(build):
    """With settings as they are by default no event becomes a dead letter, whatever it grows to."""
    with system.Stack(build, name="large") as stack:
        stack.start_sink()
        stack.write_configuration(sets=SETS[:1])
        stack.start_router()
        feed(stack, [big_bounce(i, SETS[0]) for i in range(10)])
        stack.wait_drained()
        stream = [t for t in stack.ledger()["targets"] if t["target"].startswith("firehose")][0]
        system.check("delivered, dead-lettered", (stream["delivered"], stream["dead_lettered"]), (10, 0))
        balanced(stack)


def dead_letters(build):
    with system.Stack(build, name="dlq") as stack:
        stack.start_sink()
        # set-0 and set-1 to a stream whose requests are too small for the large ones; a file beside it, for set-0 only.
        stack.write_configuration(sets=SETS[:2], settings="egress.batch_bytes_max: 256KiB")
        with open(stack.sets_file) as source:
            text = source.read()
        text = text.replace("- ConfigurationSetName: set-1",
                            "  - EventDestinationName: archive\n    EventDestination:\n      Enabled: true\n"
                            "      MatchingEventTypes: [OPEN]\n      Sendring:\n        EventId: true\n        FileDestination:\n"
                            "          Path: %s\n- ConfigurationSetName: set-1" % stack.path("second.ndjson"))
        with open(stack.sets_file, "w") as out:
            out.write(text)
        stack.start_router()
        system.check("an empty list", listed(stack), [])
        begun = int(time.time() * 1000)
        feed(stack, [big_bounce(i, "set-0") for i in range(6)] + [big_bounce(i, "set-1") for i in range(6, 8)])
        stack.loadgen("--producers", "1", "--events", "200", "--run-id", "0000d1d0", ledger="small.json")
        books = stack.wait_drained()
        stream = [t for t in books["targets"] if t["target"].startswith("firehose")][0]
        system.check("dead-lettered", stream["dead_lettered"], 8)
        letters = listed(stack)
        system.check("listed", len(letters), 8)
        system.check("of set-1", len(listed(stack, "--set", "set-1")), 2)
        system.check("by name", len(listed(stack, "--destination", "firehose")), 8)
        system.check("by target", len(listed(stack, "--refused-by", letters[0]["target"])), 8)
        system.check("of others", len(listed(stack, "--destination", "archive")), 0)
        system.check("of a type", (len(listed(stack, "--type", "BOUNCE")), len(listed(stack, "--type", "Open"))), (8, 0))
        system.check("since", (len(listed(stack, "--since", str(begun))), len(listed(stack, "--since", "-0s"))), (8, 0))
        table = tool(stack, "dlq", "list").stdout
        system.check("the table", (letters[0]["id"] in table, "larger than a Firehose record" in table, "8 dead letters" in table),
                     (True, True, True))
        shown = json.loads(tool(stack, "dlq", "show", letters[2]["id"]).stdout)
        system.check("shown whole", len(shown["event"]["bounce"]["bouncedRecipients"][0]["diagnosticCode"]), BIG)
        raw = json.loads(tool(stack, "dlq", "show", "--json", letters[2]["id"]).stdout)
        with open(stack.path("one.msgpack"), "wb") as out:
            out.write(base64.b64decode(raw["msgpack"], validate=True))
        decoded = json.loads(tool(stack, "decode", stack.path("one.msgpack")).stdout)
        system.check("its msgpack is the event", decoded["mail"]["messageId"], shown["event"]["mail"]["messageId"])
        # To the destination that could not take it: dead again. Where nothing leads: not replayed, and it stays.
        tool(stack, "dlq", "replay", letters[0]["id"])
        stack.wait_drained()
        again = listed(stack)
        system.check("replayed to the same stream, it is a new dead letter",
                     (len(again), letters[0]["id"] in [l["id"] for l in again], again[-1]["event_id"] == letters[0]["event_id"]),
                     (8, False, True))
        stopped_replay(stack)
        done = tool(stack, "dlq", "replay", "--all", "--destination", "archive", wanted=1)
        system.check("the archive takes no bounces", "not replayed 8" in done.stdout, True)
        system.check("and they stay", len(listed(stack)), 8)
        tool(stack, "dlq", "replay", "--all", "--destination", "nobody", wanted=1)
        # All of them to the stream that cannot take them: each once, though they die again while the command runs.
        done = tool(stack, "dlq", "replay", "--all", "--rate", "5")
        system.check("each once", "replayed 8, not replayed 0" in done.stdout, True)
        stack.wait_drained()
        system.check("and dead again", len(listed(stack)), 8)
        for wrong in (["list", "--set", ""], ["list", "--rate", "5"], ["list", "--yes"], ["list", "--refused-by", ""],
                      ["replay", "--all", "--destination", ""], ["drop", "--yes", "--all", "--type", "Bounce"],
                      ["replay", "--all", "--json"]):
            tool(stack, "dlq", *wrong, wanted=64)
        # The archive takes them from now on, beside producers that go on.
        with open(stack.sets_file, "w") as out:
            out.write(text.replace("[OPEN]", "[OPEN, BOUNCE]"))
        reloads = stack.stat()["counters"]["control_reloads"]
        os.kill(stack.router_pid(), signal.SIGHUP)
        system.wait_for("the reload", lambda: stack.stat()["counters"]["control_reloads"] > reloads, 10)
        wanted = [l["event_id"] for l in listed(stack, "--set", "set-0")]
        done = tool(stack, "dlq", "replay", "--set", "set-0", "--destination", "archive")
        system.check("replayed", "replayed 6" in done.stdout, True)
        opened = len(events_of(stack, "second"))
        stack.wait_drained()
        system.check("the archive had what was for it", opened, lambda n: n > 0)
        seen = [e for e in events_of(stack, "second") if e["eventType"] == "Bounce"]
        system.check("with their ids, each once", sorted(ids(seen)), sorted(wanted))
        system.check("whole", {len(e["bounce"]["bouncedRecipients"][0]["diagnosticCode"]) for e in seen}, {BIG})
        system.check("not listed any more", [l["set"] for l in listed(stack)], ["set-1", "set-1"])
        tool(stack, "dlq", "replay", letters[1]["id"], wanted=1)
        # Dropped: asks, or is told.
        tool(stack, "dlq", "drop", "--all", wanted=64)
        one = listed(stack)[0]["id"]
        tool(stack, "dlq", "drop", one, "--yes")
        system.check("one less", [l["id"] for l in listed(stack)], lambda left: len(left) == 1 and one not in left)
        killed_replay(stack)
        system.check("SIGTERM", stack.stop("router"), 0)
        tool(stack, "dlq", "replay", "--all", wanted=69)
        tool(stack, "dlq", "drop", "--all", "--yes")
        system.check("nothing is left, without a daemon too", listed(stack), [])
        balanced(stack)


def stopped_replay(stack):
    """Ctrl-C in the middle of some IDs: of those that it did not come to nothing is said, and they are still there."""
    before = [l["id"] for l in listed(stack)]
    process = subprocess.Popen([stack.sendring, "dlq", "replay", *before, "--rate", "2", "--settings", stack.settings],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    time.sleep(1.2)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    replayed = int(re.search(r"replayed (\d+), ", out).group(1))
    system.check("stopped, and says so", (process.returncode, "stopped" in out, errors), (1, True, ""))
    system.check("a part was replayed", replayed, lambda n: 0 < n < len(before))
    stack.wait_drained()
    left = [l["id"] for l in listed(stack)]
    system.check("the others are there", [i for i in before if i in left], before[replayed:])


def killed_replay(stack):
    """Letters come while others are replayed, and the tool is killed: none is lost, at most a batch doubled."""
    os.truncate(stack.path("second.ndjson"), 0)
    for round_number in range(4):
        feed(stack, [big_bounce(100 + 10 * round_number + i, "set-0") for i in range(10)])
        process = subprocess.Popen([stack.sendring, "dlq", "replay", "--set", "set-0", "--destination", "archive", "--rate",
                                    "20", "--settings", stack.settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 + 0.15 * round_number)
        busy = subprocess.run([stack.sendring, "dlq", "drop", "--all", "--yes", "--settings", stack.settings],
                              capture_output=True, text=True)
        if process.poll() is None and round_number < 2:
            system.check("two at once", busy.returncode, 69)
        process.kill()
        process.wait()
    stack.wait_drained()
    tool(stack, "dlq", "replay", "--set", "set-0", "--destination", "archive")
    stack.wait_drained()
    seen = collections.Counter(e["mail"]["messageId"] for e in events_of(stack, "second"))
    # The archive had each when it came, and then as a replayed letter.
    system.check("missing", [n for n in range(100, 140) if seen["big-%d" % n] < 2], [])
    system.check("doubled", sum(seen.values()) - 80, lambda n: n <= 4 * 64)
    system.check("none of set-0 is left", listed(stack, "--set", "set-0"), [])


def retained(build, quick):
    """What was delivered stays as long as the settings say, and can be replayed; no longer, it is counted as gone."""
    count = 15000 if quick else 30000
    small = "journal.segment_bytes: 1MiB\njournal.size_bytes_max: 64MiB\njournal.segments_mapped_max: 4\n"
    with system.Stack(build, name="retained") as stack:
        stack.write_configuration(file_destination=True, firehose=False,
                                  settings=small + "journal.retention_bytes: 32MiB\njournal.retention_age: 1h")
        stack.start_router()
        begun = int(time.time() * 1000)
        stack.loadgen("--producers", "1", "--events", str(count), "--run-id", "00004e7a")
        stack.wait_drained()
        told = replay(stack, "--from", "0", "--dry-run")
        system.check("all of them are there", (told["looked_at"], told["would_publish"], told["recycled"]), (count, count, 0))
        stack.loadgen("--producers", "1", "--events", str(4 * count), "--run-id", "00004e7b")
        stack.wait_drained()
        kept = system.wait_for("32 MiB of it", lambda: stack.stat()["counters"]["journal_passed_bytes"]
                               if stack.stat()["counters"]["journal_passed_bytes"] <= 32 << 20 else 0, 10)
        system.check("bytes kept", kept, lambda n: 30 << 20 <= n <= 32 << 20)
        oldest = stack.stat()["counters"]["journal_oldest_event_ms"]
        system.check("the oldest event's time", oldest, lambda ms: begun < ms < time.time() * 1000)
        part = replay(stack, "--from", "0", "--dry-run")
        system.check("of %d there are" % (5 * count), part["looked_at"], lambda n: 20000 < n < 5 * count)
        pid = stack.router_pid()
        os.kill(pid, signal.SIGKILL)
        system.wait_for("the next router", lambda: stack.router_pid() != pid, 20)
        system.check("after a kill as well", replay(stack, "--from", "0", "--dry-run")["looked_at"], part["looked_at"])
        before = len(events_of(stack, "events"))
        told = replay(stack, "--from", "0", "--type", "Bounce")
        stack.wait_drained()
        system.check("bounces again", len(events_of(stack, "events")) - before, told["published"])
        system.check("SIGTERM", stack.stop("router"), 0)
        balanced(stack)


def main(build, quick):
    size = 2000 if quick else 6000
    with system.Stack(build, name="replay") as stack:
        write_sets(stack, second=False)
        stack.start_router()
        marks, first = windows(stack, size)
        whole, middle = by_window(stack, size, marks, first)
        killed(stack, whole, middle)
        system.check("SIGTERM", stack.stop("router"), 0)
        balanced(stack)
    nothing_is_too_large(build)
    dead_letters(build)
    retained(build, quick)


system.run(main)
