"""Reads files of published events while they grow, and knows each event of loadgen by its id: which are there, which came twice,
with which event id, and what they add up to. Behind the reader the file is given back to the disk, so that a run of any length
needs little of it.

Only Python's standard library.
"""

import array
import collections
import ctypes
import json
import os
import threading

import harness

READ_BYTES = 4 << 20
KEEP_BYTES = 64 << 20  # in the file, behind the reader
FALLOC_PUNCH_HOLE_KEEP_SIZE = 3
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
SET, STREAM = "ses:configuration-set", "stream"  # tags that loadgen's events are counted by
# CloudWatch's metric of an eventType, where it is spelt otherwise.
METRICS = {"Rendering Failure": "RenderingFailure"}


class EventIds:
    """The member `sendring` of every event, whichever destination it is seen at. One event has one id: an event that was
    accepted twice (a producer published it again because it was told that the first time did not count) has two."""

    def __init__(self):
        self.lock = threading.Lock()
        self.lanes = {}   # the lane's part of the id: (number, producer)
        self.values = {}  # producer: index -> lane's number << 40 | position
        self.changed = {}  # (producer, index): other values
        self.foreign = 0  # lanes that carried events of two producers

    def add(self, producer, index, lane, position):
        with self.lock:
            number, owner = self.lanes.setdefault(lane, (len(self.lanes), producer))
            self.foreign += owner != producer
            value = number << 40 | int(position, 16)
            values = self.values.setdefault(producer, array.array("Q"))
            if index >= len(values):
                values.extend([0] * max(index + 1 - len(values), 1024))
            if values[index] == 0:
                values[index] = value
            elif values[index] != value:
                self.changed.setdefault((producer, index), set()).add(value)

    def shared(self):
        """How many events have the id of another one."""
        twice = 0
        for producer, values in self.values.items():
            ids = [value for value in values if value != 0]
            ids += [value for (owner, _), others in self.changed.items() if owner == producer for value in others]
            twice += len(ids) - len(set(ids))
        return twice + self.foreign

    def accepted_again(self):
        return sum(len(others) for others in self.changed.values())


class Follower(threading.Thread):
    """Counts the events of one file of JSON lines until finish(). `sums`: {(metric, dimension values...): events}, each event
    once, by the tags named in `tags`; "none" where an event has no such tag."""

    def __init__(self, path, ids, tags=()):
        super().__init__(daemon=True)
        self.path, self.ids = path, ids
        self.tags = [b'"%s":["' % tag.encode() for tag in tags]
        self.seen = {}  # producer: a byte an event
        self.copies = {}  # (producer, index): copies after the first one
        self.sums = collections.Counter()
        self.stored = self.duplicates = self.lines = 0
        self.line_bytes_min = 1 << 30
        self.failure = None
        self.ending = threading.Event()

    def run(self):
        try:
            with harness.wait_for(self.path, self.open, seconds=86400, interval=0.05) as file:
                self.follow(file)
        except Exception as failure:  # whatever it is: finish() tells it
            self.failure = failure

    def open(self):
        if os.path.exists(self.path) or self.ending.is_set():
            return open(self.path, "r+b", buffering=0)
        return None

    def follow(self, file):
        left, offset, given_back = b"", 0, 0
        while True:
            ending = self.ending.is_set()
            piece = file.read(READ_BYTES)
            if not piece:
                if ending:
                    break
                self.ending.wait(0.05)
                continue
            offset += len(piece)
            lines = (left + piece).split(b"\n")
            left = lines.pop()
            for line in lines:
                self.take(line)
            # A router that starts cuts off a line without an end: what was read of it is not there then.
            offset -= len(left)
            file.seek(offset)
            left = b""
            if len(lines) == 0:
                self.ending.wait(0.05)
            if offset - given_back > 2 * KEEP_BYTES:
                end = (offset - KEEP_BYTES) & ~0xFFFFF
                libc.fallocate(file.fileno(), FALLOC_PUNCH_HOLE_KEEP_SIZE, given_back + 4096, end - given_back - 4096)
                given_back = end

    def take(self, line):
        self.lines += 1
        found = line.find(b'"messageId":"0100')
        run = line[found + 30:found + 38]
        if found < 0 or not line.startswith(b'{"eventType":"') or len(run) != 8:
            raise harness.Failure("%s: a line that is no event of loadgen: %r" % (self.path, line[:200]))
        producer, index = int(line[found + 39:found + 43], 16), int(line[found + 54:found + 66], 16)
        if len(line) < self.line_bytes_min:
            self.line_bytes_min = len(line)
        new = True
        seen = self.seen.get(producer)
        if seen is None:
            seen = self.seen[producer] = bytearray()
        if index >= len(seen):
            seen.extend(bytes(max(index + 1 - len(seen), 1024)))
        if seen[index]:
            self.duplicates += 1
            new = False
        else:
            seen[index] = 1
            self.stored += 1
        if self.ids is not None:
            member = line.rfind(b'"sendring":{"eventId":"')
            if member < 0 or line[member + 39:member + 40] != b"-":
                raise harness.Failure("%s: an event without its id: %r" % (self.path, line[-200:]))
            self.ids.add(producer, index, line[member + 23:member + 39], line[member + 40:member + 56])
        if new and self.tags:
            kind = line[14:line.index(b'"', 14)].decode()
            key = [METRICS.get(kind, kind)]
            for tag in self.tags:
                begin = line.find(tag, found)
                end = line.find(b'"', begin + len(tag))
                key.append("none" if begin < 0 else line[begin + len(tag):end].decode())
            self.sums[tuple(key)] += 1

    def finish(self):
        """Reads to the end of the file. Everything must have been written."""
        self.ending.set()
        self.join(600)
        if self.is_alive():
            raise harness.Failure("%s is not read to its end" % self.path)
        if self.failure is not None:
            raise harness.Failure("%s: %s" % (self.path, self.failure)) from self.failure

    def held_against(self, published):
        """What is missing of `published` {producer: count}, and what came of producers that died before they could say so."""
        expected = missing = 0
        for producer, count in published.items():
            missing += count - sum(self.seen.get(producer, b"")[:count])
            expected += count
        return {"stored": self.stored, "missing": missing, "duplicates": self.duplicates,
                "unexpected": self.stored - (expected - missing)}


def metric_sums(path):
    """What a sink has taken by PutMetricData, of its file metrics.ndjson: {(namespace, metric, (dimensions)): sum}, the same
    of requests that were taken again, and how many those are."""
    lines = collections.Counter()
    if os.path.exists(path):
        with open(path, "rb") as file:
            for line in file:
                lines[line] += 1
    seen, again = collections.Counter(), collections.Counter()
    requests_again = largest = 0
    for line, times in lines.items():
        call = json.loads(line)
        call_sum = 0
        for metric, dimensions, _, samples, total in call["data"]:
            if samples != total:
                raise harness.Failure("Sum %r and SampleCount %r differ" % (total, samples))
            key = call["namespace"], metric, tuple(sorted(dimensions.items()))
            seen[key] += int(total) * times
            call_sum += int(total)
            if times > 1:
                again[key] += int(total) * (times - 1)
        largest = max(largest, call_sum)
        requests_again += times - 1
    return {"seen": seen, "again": again, "requests_again": requests_again, "largest": largest}


def published_counts(*ledgers):
    """{producer: events published} of loadgen's ledgers."""
    counts = {}
    for ledger in ledgers:
        with open(ledger) as file:
            counts.update((entry["producer"], entry["published"]) for entry in json.load(file)["producers"])
    return counts


def cloudwatch_destination(**ours):
    """Counts by configuration set and stream."""
    dimensions = [{"DimensionName": name, "DimensionValueSource": "MESSAGE_TAG", "DefaultDimensionValue": "none"}
                  for name in (SET, STREAM)]
    return {"CloudWatchDestination": {"DimensionConfigurations": dimensions}, "Sendring": ours}


def expected_sums(events, namespace, roll_ups):
    """What CloudWatch should have, of {(metric, set, stream): events}: a Follower's sums by SET and STREAM."""
    sums = {}
    for (metric, in_set, stream), count in events.items():
        values = {SET: in_set, STREAM: stream}
        for roll_up in roll_ups:
            key = namespace, metric, tuple(sorted((name, values[name]) for name in roll_up))
            sums[key] = sums.get(key, 0) + count
    return sums


def held_against_metrics(metrics, events, namespace, roll_ups, accepted_again, wrong):
    """Of a destination that sends again what had no answer: every count is there, and what is there more than once came by
    requests that were taken again, whole. `roll_ups` has one without dimensions."""
    expected = expected_sums(events, namespace, roll_ups)
    off = surplus = 0
    for key in set(expected) | {key for key in metrics["seen"] if key[0] == namespace}:
        difference = metrics["seen"][key] - metrics["again"][key] - expected.get(key, 0)
        if difference < 0:
            off += 1
        surplus += max(difference, 0)
    if off != 0:
        wrong.append("cloudwatch: %d of %d sums are too small" % (off, len(expected)))
    if surplus > accepted_again * len(roll_ups):
        wrong.append("cloudwatch: the sums are %d too large, and no request that came twice explains it" % surplus)
    total = sum(expected[key] for key in expected if key[2] == ())
    seen = sum(metrics["seen"][key] for key in expected if key[2] == ())
    again = sum(metrics["again"][key] for key in expected if key[2] == ())
    return {"stored": seen - again, "missing": max(0, total - (seen - again)), "duplicates": again, "unexpected": 0,
            "series": len(expected), "requests_again": metrics["requests_again"]}
