"""A host's load is recorded from its journal, of which some event types have logs of their own, beside the running router, and
published again: with its ids byte for byte the same events; with counted ids every event arrives once; at its speed, in its order.
Captures that were cut off or damaged are refused with the offset. Counted by Python, from what was delivered."""
import collections
import json
import os
import re
import stat
import subprocess
import time

import system

JOURNAL = "journal.full: {Open: shed, Click: shed}\njournal.retention_bytes: 512MiB\n"
ID = re.compile(r'"messageId":"([^"]*)"')


def loadgen(stack, *arguments, wanted=0):
    done = subprocess.run([stack.sendring, "loadgen", *arguments], capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL, env=dict(os.environ, SENDRING_SOCKET=stack.socket))
    if done.returncode != wanted:
        raise system.Failure("loadgen %s ended with %d: %s%s" % (" ".join(arguments), done.returncode, done.stdout, done.stderr))
    return done


def delivered(stack, count):
    """The file destination's lines, once there are so many; the next part begins with an empty file."""
    path = stack.path("events.ndjson")

    def lines():
        with open(path) as file:
            return file.readlines()

    system.wait_for("%d events in the file" % count, lambda: len(lines()) >= count, 60, 0.2)
    stack.wait_drained()
    found = lines()
    os.truncate(path, 0)
    return found


def record(stack, capture):
    loadgen(stack, "--profile", "newsletter-burst", "--rate", "4k", "--duration", "3s", "--producers", "3", "--sets",
            ",".join(system.SETS))
    first = delivered(stack, 12000)
    system.check("events of the profile", len(first), 12000)
    report = json.loads(loadgen(stack, "--record", capture, "--settings", stack.settings, "--json").stdout)
    system.check("events recorded", report["events"], 12000)
    system.check("damaged, recycled, not kept", (report["damaged"], report["recycled"], report["not_kept"]), (0, 0, 0))
    system.check("seconds recorded", report["seconds"], lambda seconds: 2.5 < seconds < 10)
    system.check("the busiest second", report["peak"], lambda peak: 5000 < peak <= 12000)
    system.check("the file's size is told", report["bytes"], os.path.getsize(capture))
    system.check("the file's mode", oct(stat.S_IMODE(os.stat(capture).st_mode)), "0o600")
    logs = [name for name in os.listdir(stack.path("state", "journal")) if re.fullmatch(r"\d+(\.\w+)?", name)]
    system.check("logs that were merged", sorted(logs), ["0", "0.Click", "0.Open"])
    return first, report


def replayed_as_it_was(stack, capture, first, recorded):
    began = time.monotonic()
    report = json.loads(loadgen(stack, "--replay", capture, "--speed", "2", "--ids", "keep", "--producers", "3", "--json",
                                "--progress").stdout)
    took = time.monotonic() - began
    system.check("events replayed", report["published"], 12000)
    system.check("types as recorded", {name: count for name, count in report["types"].items() if count > 0},
                 dict(collections.Counter(re.sub(r"(?<!^)(?=[A-Z])", "_", json.loads(line)["eventType"]).lower().replace(" ", "")
                                          for line in first)))
    system.check("seconds at twice the speed", report["replay"]["seconds"],
                 lambda seconds: abs(seconds - recorded["seconds"] / 2) < 0.01)
    system.check("seconds it took", took, lambda seconds: seconds >= recorded["seconds"] / 2 * 0.95)
    system.check("late events have a figure", report["lateness_ns"]["p999"], lambda ns: ns > 0)
    system.check("seconds told", len(report["series"]), lambda seconds: seconds >= 1)
    second = delivered(stack, 12000)
    system.check("the same events, byte for byte", sorted(second) == sorted(first), True)
    # Merged by time: a burst of Sends first, Opens for long, as it was.
    middle = {name: [i for i, line in enumerate(second) if '"eventType":"%s"' % name in line] for name in ("Send", "Open")}
    system.check("the middle Send comes long before the middle Open",
                 middle["Open"][len(middle["Open"]) // 2] - middle["Send"][len(middle["Send"]) // 2], lambda gap: gap > 2000)


def counted_and_fresh(stack, capture):
    ledger = stack.path("counted.json")
    report = json.loads(loadgen(stack, "--replay", capture, "--speed", "0", "--ids", "counted", "--producers", "4", "--run-id",
                                "c0ffee00", "--ledger", ledger, "--json").stdout)
    system.check("nothing is due at a time", report["lateness_ns"], None)
    with open(ledger) as file:
        producers = json.load(file)["producers"]
    wanted = {("c0ffee00", "%04x" % p["producer"], "%012x" % index) for p in producers for index in range(p["published"])}
    third = delivered(stack, 12000)
    seen = [tuple(part[i] for i in (1, 2, 5)) for part in (ID.search(line).group(1).split("-") for line in third)]
    system.check("every counted id arrived once", (len(seen), set(seen) == wanted), (12000, True))
    loadgen(stack, "--replay", capture, "--speed", "0")
    fresh = [ID.search(line).group(1) for line in delivered(stack, 12000)]
    system.check("fresh ids, one for each message", len(set(fresh)), 12000)
    system.check("as SES makes them", all(re.fullmatch(r"0100[0-9a-f]{12}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-000000", i)
                                          for i in fresh), True)
    short = json.loads(loadgen(stack, "--replay", capture, "--duration", "0.5s", "--json").stdout)
    system.check("stopped early", short["published"], lambda published: 1000 < published < 11000)
    delivered(stack, short["published"])


def refused(stack, capture):
    size = os.path.getsize(capture)
    with open(capture, "rb") as file:
        whole = file.read()
    broken = stack.path("broken.capture")

    def told(what, content, words):
        with open(broken, "wb") as file:
            file.write(content)
        done = loadgen(stack, "--replay", broken, wanted=74)
        line = done.stderr.strip()
        system.check(what, line, lambda line: line.startswith("sendring loadgen: %s: %s" % (broken, words)) and "\n" not in line)

    told("cut off", whole[:size // 2], "offset %d: the file ends here" % (size // 2))
    told("cut off in the header", whole[:40], "offset 40: ")
    told("another file", b"#!/bin/sh\n" * 20, "offset 0: this is no capture")
    told("empty", b"", "offset 0: ")
    damaged = bytearray(whole)
    damaged[size // 2] ^= 1
    told("a bit", damaged, "offset ")
    told("more behind it", whole + b"x", "offset %d: " % size)
    system.check("no partial file is left", os.path.exists(capture + ".partial"), False)
    done = loadgen(stack, "--record", stack.path("nothing"), "--settings", stack.settings, "--to", "1000", wanted=1)
    system.check("nothing of that time", done.stderr.strip(), lambda line: "no events of that time" in line)
    system.check("no file then", os.path.exists(stack.path("nothing")), False)
    loadgen(stack, "--record", "/proc/nothing", "--settings", stack.settings, wanted=74)
    loadgen(stack, "--record", stack.path("x"), "--settings", stack.path("none.yaml"), wanted=78)
    loadgen(stack, "--record", stack.path("x"), "--replay", capture, wanted=64)


def beside_a_load(stack):
    """The journal grows under the recorder: what it writes is whole."""
    capture = stack.path("beside.capture")
    load = subprocess.Popen([stack.sendring, "loadgen", "--socket", stack.socket, "--rate", "20k", "--seconds", "3"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = 0
    while load.poll() is None:
        report = json.loads(loadgen(stack, "--record", capture, "--settings", stack.settings, "--json").stdout)
        system.check("events so far", report["events"], lambda events: events >= last)
        last = report["events"]
        time.sleep(0.3)
    system.check("the load's status", load.returncode, 0)
    loadgen(stack, "--replay", capture, "--duration", "0.1s")


def main(build, quick):
    with system.Stack(build, name="capture") as stack:
        stack.write_configuration(file_destination=True, firehose=False, settings=JOURNAL)
        stack.start_router()
        capture = stack.path("host.capture")
        first, recorded = record(stack, capture)
        replayed_as_it_was(stack, capture, first, recorded)
        counted_and_fresh(stack, capture)
        refused(stack, capture)
        if not quick:
            beside_a_load(stack)
        stack.wait_drained()
        stack.check_ledger()


system.run(main)
