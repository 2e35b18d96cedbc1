"""CloudWatch destinations in CBOR and gzip, against `sendring sink` and its faults: the sums that the sink has on disk equal a
count of the published events by cloudwatch_moto.py's script. Throttling, errors, resets and answers that are none cost
nothing and double nothing (`AmbiguousTimeout: resend`, the sink took nothing then); with `skip`, requests that were taken
and whose answer was lost are not sent again, and the counts of those that were not taken are missing to the last one. Seen from
the wire, bodies from 10,240 bytes up are gzip files, with Compression: none
there are none; of those in CBOR botocore's parser reads the sums that the sink has."""
import collections
import gzip
import json
import re
import types

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.validate

import system
import cloudwatch_moto

EVENTS = 1600
GZIP_BYTES_MIN = 10240


def configure(stack, name, ambiguous, endpoint=None, **more_extra):
    """`name` keeps the rounds apart: it is the namespace's first part."""
    stack.write_configuration(firehose=False, file_destination=True,
                              settings="egress.retry_base_ms: 20\negress.retry_throttle_base_ms: 50\n"
                                       "egress.retry_max_ms: 200\negress.endpoints: {cloudwatch: \"%s\"}\n"
                                       "router.lane_bytes: 8MiB\nrouter.lane_bytes_max: 8MiB" % (endpoint or stack.endpoint))
    with open(stack.sets_file) as written:
        text = written.read()
    more = ""
    for destination, (dimensions, roll_ups, extra) in cloudwatch_moto.DESTINATIONS.items():
        ours = dict({"Namespace": "%s/%s" % (name, destination), "Period": "1s", "AmbiguousTimeout": ambiguous}, **extra,
                    **more_extra)
        if roll_ups is not None:
            ours["RollUps"] = roll_ups
        more += "  - EventDestinationName: %s\n    EventDestination: %s\n" % (destination, json.dumps({
            "Enabled": True, "MatchingEventTypes": system.ALL_TYPES,
            "CloudWatchDestination": {"DimensionConfigurations": [
                {"DimensionName": d[0], "DimensionValueSource": d[1], "DefaultDimensionValue": d[2]}
                for d in dimensions]},
            "Sendring": ours}))
    with open(stack.sets_file, "w") as out:
        for block in re.split(r"(?m)^(?=- ConfigurationSetName)", text):
            out.write(block + (more if block.startswith("- ") else ""))


def count_all(stack, name):
    """What the events in the file amount to in every destination together."""
    return sum(cloudwatch_moto.count(cloudwatch_moto.read_events(stack))[0].values())


def check_sums(stack, name, published):
    events = cloudwatch_moto.read_events(stack)
    system.check("events in the file, each once", len(events), published)
    wanted = {("%s/%s" % (name, series[0].split("/")[1]),) + series[1:]: n
              for series, n in cloudwatch_moto.count(events)[0].items()}
    seen = collections.Counter()
    report = stack.sink_report()
    for entry in report["metrics"]:
        if entry["sum"] != entry["samples"]:
            raise system.Failure("Sum and SampleCount differ: %r" % entry)
        seen[entry["namespace"], entry["metric"], tuple(sorted(entry["dimensions"].items()))] += int(entry["sum"])
    for destination in ("campaigns", "totals", "small"):
        system.check("metrics of %s in the sink" % destination,
                     sorted({metric for namespace, metric, _ in seen if namespace == "%s/%s" % (name, destination)}),
                     cloudwatch_moto.ALL_METRICS)
    small = name + "/small"
    wrong = [(series, seen.get(series), n) for series, n in wanted.items() if series[0] != small and seen[series] != n]
    system.check("series that differ from the count", wrong, [])
    system.check("series that should not be there", [s for s in seen if s[0] != small and s not in wanted], [])
    system.check("series compared", sum(s[0] != small for s in wanted), lambda n: n > 100)
    totals, expected = collections.Counter(), collections.Counter()
    for (namespace, metric, _), n in seen.items():
        totals[metric] += n if namespace == small else 0
    for (namespace, metric, _), n in wanted.items():
        expected[metric] += n if namespace == small else 0
    system.check("counts per metric of the small budget", dict(totals), dict(expected))
    return report["counters"]


def read_cbor(body):
    """What botocore's parser reads of a body that the router has sent."""
    parser = botocore.parsers.RpcV2CBORParser()
    stream = parser.get_peekable_stream_from_bytes(body)
    request = parser.parse_data_item(stream)
    if stream.read() != b"":
        raise system.Failure("bytes behind a body")
    return request


def sums_of(requests):
    """As the sink's report has them; `requests` as a user of boto3 would give them."""
    model = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("cloudwatch", "service-2"),
                                        service_name="cloudwatch")
    shape = model.operation_model("PutMetricData").input_shape
    sums = collections.Counter()
    for request in requests:
        report = botocore.validate.ParamValidator().validate(request, shape)
        if report.has_errors():
            raise system.Failure(report.generate_report())
        for datum in request["MetricData"]:
            if datum["Values"] != [1.0] or datum["Unit"] != "Count" or datum["StorageResolution"] != 1:
                raise system.Failure("no count of events in periods of seconds: %r" % datum)
            dimensions = tuple(sorted((d["Name"], d["Value"]) for d in datum.get("Dimensions", [])))
            sums[request["Namespace"], datum["MetricName"], dimensions] += int(datum["Counts"][0])
    return sums


def skipped(build, quick):
    """Requests that were read whole and not taken, without an answer: with `skip` their counts are missing, and are exactly
    what the router says may be missing at most."""
    with system.Stack(build, name="cloudwatch-skipped") as stack:
        stack.start_sink("--seed", "9")
        configure(stack, "skipped", "skip")
        stack.start_router()
        stack.tell_sink("set reset 0.3")
        load = stack.loadgen("--producers", "2", "--rate", "400", "--size", "large", "--mix", "all", "--events", "800")
        system.check("ledger balanced", stack.wait_drained(60)["balanced"], True)
        system.wait_for("the counters", lambda: stack.stat()["counters"]["cloudwatch_ambiguous_skipped"] ==
                        stack.sink_report()["counters"]["fault_reset"], 5)
        counters, report = stack.stat()["counters"], stack.sink_report()
        system.check("events published", load["published"], 800)
        system.check("requests without an answer", report["counters"]["fault_reset"], lambda n: n > 0)
        system.check("of them passed over", counters["cloudwatch_ambiguous_skipped"], report["counters"]["fault_reset"])
        system.check("sent again", counters["cloudwatch_ambiguous_resent"], 0)
        missing = count_all(stack, "skipped") - sum(int(entry["sum"]) for entry in report["metrics"])
        system.check("counts that the sink lacks", missing, lambda n: n > 0)
        system.check("skipped_counts", counters["cloudwatch_skipped_counts"], missing)


def round_of(build, quick, name, ambiguous, faults, hit):
    """One router, one load, under these faults; `hit`: their counters in the sink."""
    with system.Stack(build, name="cloudwatch-" + name) as stack:
        stack.start_sink("--seed", "7")
        configure(stack, name, ambiguous)
        stack.start_router()
        for fault, chance in faults.items():
            stack.tell_sink("set %s %g" % (fault, chance))
        load = stack.loadgen("--producers", "2", "--rate", "160", "--size", "large", "--mix", "all",
                             "--events", str(EVENTS // (2 if quick else 1)))
        books = stack.wait_drained(120)
        system.check("ledger balanced", books["balanced"], True)
        counters = check_sums(stack, name, load["published"])
        system.check("data that the sink took", counters["metric_data"], lambda n: n > 0)
        for counter in hit:
            system.check("requests hit by " + counter, counters[counter], lambda n: n > 0)
        if ambiguous == "skip":
            seen = stack.stat()["counters"]
            system.check("requests taken without an answer that were passed over", seen["cloudwatch_ambiguous_skipped"],
                         counters["fault_reset_after"])
            system.check("their counts, which the sink has", seen["cloudwatch_skipped_counts"],
                         lambda n: 0 < n <= count_all(stack, name))
        system.check("the router ends well on SIGTERM", stack.stop("router"), 0)


def compressed(build, quick, name, protocol, compression):
    """What a proxy between the router and the sink sees; the sink, which reads both, has the sums."""
    with system.Stack(build, name="cloudwatch-" + name) as stack:
        stack.start_sink("--seed", "7")
        proxy = cloudwatch_moto.Proxy(types.SimpleNamespace(port=int(stack.endpoint.rsplit(":", 1)[1])), 1, 0)
        configure(stack, name, "resend", endpoint=proxy.endpoint, Protocol=protocol, Compression=compression, Period="5s")
        stack.start_router()
        load = stack.loadgen("--producers", "2", "--rate", "400", "--size", "large", "--mix", "all",
                             "--events", str(EVENTS // (2 if quick else 1)))
        system.check("ledger balanced", stack.wait_drained(120)["balanced"], True)
        check_sums(stack, name, load["published"])
        encodings = collections.Counter(encoding for encoding, _ in proxy.wire)
        plain = [gzip.decompress(body) if encoding == "gzip" else body for encoding, body in proxy.wire]
        large = sum(len(body) >= GZIP_BYTES_MIN for body in plain)
        system.check("bodies of 10,240 bytes and more", large, lambda n: n >= 1)
        system.check("and smaller ones", len(plain) - large, lambda n: n >= 2)
        if compression == "none":
            system.check("Content-Encoding", dict(encodings), {None: len(plain)})
        else:
            system.check("Content-Encoding", dict(encodings), {None: len(plain) - large, "gzip": large})
            system.check("compressed though small, or large and not compressed",
                         [len(body) for (encoding, _), body in zip(proxy.wire, plain)
                          if (encoding == "gzip") != (len(body) >= GZIP_BYTES_MIN)], [])
            system.check("of their bytes are sent", sum(len(body) for encoding, body in proxy.wire if encoding) /
                         sum(len(body) for body in plain if len(body) >= GZIP_BYTES_MIN), lambda share: share < 0.3)
        if protocol == "cbor":
            read = sums_of(read_cbor(body) for body in plain)
            report = stack.sink_report()
            kept = collections.Counter()
            for entry in report["metrics"]:
                kept[entry["namespace"], entry["metric"], tuple(sorted(entry["dimensions"].items()))] += int(entry["sum"])
            system.check("series that botocore's parser reads otherwise than the sink", dict(read - kept + (kept - read)), {})
            system.check("series that it reads", len(read), lambda n: n > 100)
        if protocol == "json":
            counts = sum(datum["Counts"][0] for body in plain for datum in json.loads(body)["MetricData"])
            report = stack.sink_report()
            system.check("counts on the wire, unpacked here", counts, int(sum(entry["sum"] for entry in report["metrics"])))
        system.check("the router ends well on SIGTERM", stack.stop("router"), 0)


def main(build, quick):
    round_of(build, quick, "resend", "resend",
             {"throttle": 0.2, "error500": 0.1, "reset": 0.1, "garbage": 0.2},
             ["fault_throttle", "fault_error500", "fault_reset", "fault_garbage"])
    round_of(build, quick, "skip", "skip", {"reset_after": 0.3, "throttle": 0.2},
             ["fault_reset_after"])
    skipped(build, quick)
    compressed(build, quick, "gzip-json", "json", "gzip")
    compressed(build, quick, "gzip-cbor", "cbor", "gzip")
    compressed(build, quick, "plain-json", "json", "none")


if __name__ == "__main__":
    system.run(main)
