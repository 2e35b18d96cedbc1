"""Firehose destinations with `Compression: gzip`. Through moto's Firehose into an S3 bucket: the objects one behind the other are
what gzip(1) and Python unpack, every published event is in them once, as it is in the file that the same events went to. Against the sink: refused
records are sent again and nothing else, SIGKILLs of the router lose nothing, a byte rate counts what is sent."""
import collections
import gzip
import json
import os
import signal
import subprocess
import time

import system
import moto_aws

BUCKET = "mail-objects"
OURS = "      Sendring: {Compression: gzip%s}\n"


def compress(stack, more=""):
    with open(stack.sets_file) as file:
        text = file.read()
    stream = system.STREAM_ARN + "\n"
    system.check("streams named", text.count(stream), len(system.SETS))
    with open(stack.sets_file, "w") as file:
        file.write(text.replace(stream, stream + OURS % more))


def make_stream(moto):
    moto.client("s3").create_bucket(Bucket=BUCKET)
    moto.client("firehose").create_delivery_stream(
        DeliveryStreamName=system.STREAM_ARN.rsplit("/", 1)[1], DeliveryStreamType="DirectPut",
        ExtendedS3DestinationConfiguration={"RoleARN": "arn:aws:iam::123456789012:role/firehose",
                                            "BucketARN": "arn:aws:s3:::" + BUCKET, "CompressionFormat": "UNCOMPRESSED"})


def objects_of(moto):
    s3 = moto.client("s3")
    found = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        found += [s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in page.get("Contents", [])]
    return found


def through_moto(build, quick):
    events = 3000 if quick else 20000
    with system.Stack(build, name="compression-moto") as stack:
        moto = moto_aws.Moto(stack)
        make_stream(moto)
        stack.endpoint = moto.endpoint
        stack.write_configuration(file_destination=True)
        compress(stack)
        stack.start_router(env={"AWS_ACCESS_KEY_ID": moto.key, "AWS_SECRET_ACCESS_KEY": moto.secret})
        load = stack.loadgen("--producers", "2", "--events", str(events), "--rate", "5000")
        stack.wait_drained(120)
        objects = objects_of(moto)
        system.check("objects", len(objects), lambda n: n > 0)
        whole = b"".join(objects)
        path = stack.path("objects.gz")
        with open(path, "wb") as file:
            file.write(whole)
        system.check("gzip -t of them all", subprocess.run(["gzip", "-t", path]).returncode, 0)
        lines = subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout
        system.check("Python unpacks the same", gzip.decompress(whole) == lines, True)
        system.check("and each object alone", b"".join(gzip.decompress(one) for one in objects) == lines, True)
        ids = collections.Counter(json.loads(line)["mail"]["messageId"] + json.loads(line)["eventType"]
                                  for line in lines.splitlines())
        system.check("published", load["published"], events)
        system.check("lines in S3", sum(ids.values()), events)
        with open(stack.path("events.ndjson"), "rb") as file:
            wanted = collections.Counter(file.read().splitlines())
        got = collections.Counter(lines.splitlines())
        system.check("missing in S3", sum((wanted - got).values()), 0)
        system.check("in S3 only", sum((got - wanted).values()), 0)
        system.check("times smaller", round(len(lines) / len(whole), 1), lambda times: times > 4)
        target = [row for row in stack.stat()["targets"] if "firehose" in row["target"]]
        system.check("the target's key", [row["target"].rsplit(" ", 2)[1:] for row in target],
                     [["packing=events", "compression=gzip"]])
        system.check("router ends well on SIGTERM", stack.stop("router"), 0)


def start(build, name, more=""):
    stack = system.Stack(build, tls=True, name=name)
    stack.start_sink("--check-json")
    stack.write_configuration()
    compress(stack, more)
    stack.start_router()
    return stack


def check_stored(stack, report, broken=0):
    counters = report["counters"]
    system.check("compressed records", counters["gzip_records"], counters["records"])
    system.check("broken ones", counters["gzip_broken"], broken)
    system.check("lines that are no events", (counters["malformed_lines"], counters["invalid_json"]), (0, 0))
    system.check("records without a last newline", counters["unended_records"], 0)
    system.check("missing", report["missing"], 0)
    system.check("ledger balanced", stack.ledger()["balanced"], True)


def refused(build, quick):
    """Small records, so that a call has several: some of them refused."""
    with start(build, "compression-partial", ", PackingEventsMax: 20") as stack:
        stack.tell_sink("set partial 0.2")
        stack.loadgen("--producers", "2", "--rate", "20000", "--seconds", "2" if quick else "6")
        stack.wait_drained(120)
        report = stack.sink_report(stack.path("published.json"))
        stat = stack.stat()["counters"]
        check_stored(stack, report)
        system.check("duplicated", report["duplicates"], 0)
        entries = report["counters"]["refused_entries"]
        system.check("entries refused", entries, lambda n: n > 10)
        system.check("entries resent = refused", stat["egress_entries_resent"], entries)


def killed(build, quick):
    kills = 3 if quick else 10
    with start(build, "compression-kill") as stack:
        producers = subprocess.Popen(stack.loadgen_arguments(stack.path("kill.json"), "--producers", "2", "--rate", "20000",
                                                             "--seconds", str(kills + 2)),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(kills):
            time.sleep(0.8)
            before = stack.router_pid()
            os.kill(before, signal.SIGKILL)
            system.wait_for("another router", lambda: stack.router_pid() not in (0, before), 30)
        producers.communicate(timeout=120)
        system.check("producers end well", producers.returncode, 0)
        stack.wait_drained(120)
        report = stack.sink_report(stack.path("kill.json"))
        check_stored(stack, report)
        times = report["counters"]["plain_bytes"] / report["counters"]["bytes"]
        system.check("times smaller", round(times, 1), lambda n: n > 5)


def paced(build, quick):
    """The rate is of compressed bytes: several times more events go than bytes of theirs."""
    rate, seconds = 256 << 10, 3 if quick else 8
    with start(build, "compression-rate", ", Rate: {Bytes: %d}" % rate) as stack:
        producers = subprocess.Popen(stack.loadgen_arguments(stack.path("rate.json"), "--producers", "2", "--rate", "8000",
                                                             "--seconds", str(seconds + 4)),
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(2)
        before, begun = stack.sink_report()["counters"], time.monotonic()
        time.sleep(seconds)
        after, took = stack.sink_report()["counters"], time.monotonic() - begun
        sent, plain = [(after[name] - before[name]) / took for name in ("bytes", "plain_bytes")]
        system.check("bytes sent a second, of %d" % rate, round(sent), lambda n: 0.6 * rate < n < 1.15 * rate)
        system.check("bytes of events a second", round(plain), lambda n: n > 4 * rate)
        producers.communicate(timeout=120)
        stack.wait_drained(120)
        check_stored(stack, stack.sink_report(stack.path("rate.json")))


def main(build, quick):
    through_moto(build, quick)
    refused(build, quick)
    killed(build, quick)
    paced(build, quick)


system.run(main)
