#!/usr/bin/env python3
"""Our PutMetricData bodies against botocore's serializers and parser, over random series.

    python3 tests/system/cloudwatch_botocore.py --build build [--requests 300] [--seed 1]

For the same data botocore's own serializers must say the same: CBOR byte for byte, JSON as a value; botocore's CBOR
parser must read back what went in; every body must pass botocore's validation and keep AWS's limits, and the heads
must name the same operation. Exit status 77 (skipped) when botocore is missing.
"""
import argparse
import datetime
import gzip
import json
import os
import random
import subprocess
import sys

try:
    import botocore.loaders
    import botocore.model
    import botocore.parsers
    import botocore.serialize
    import botocore.validate
    botocore.parsers.RpcV2CBORParser, botocore.serialize.RpcV2CBORSerializer
except (ImportError, AttributeError):
    print("skipped: python3 has no botocore that speaks rpc-v2-cbor")
    sys.exit(77)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", required=True, help="meson's build directory")
parser.add_argument("--requests", type=int, default=300)
parser.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
CLI = os.path.join(arguments.build, "tests", "system", "cloudwatch_cli")
rng = random.Random(arguments.seed)
SERVICE = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("cloudwatch", "service-2"),
                                      service_name="cloudwatch")
OPERATION = SERVICE.operation_model("PutMetricData")
VALUE = "".join(chr(c) for c in range(0x20, 0x7F))
NAME = "abcXYZ019_-:"
METRICS = ["Send", "RenderingFailure", "Reject", "Delivery", "Bounce", "Complaint", "DeliveryDelay", "Subscription",
           "Open", "Click"]


def text(alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def random_request(number):
    big = number % 10 == 0
    lengths = (200, 255) if number % 20 == 0 else (1, 12)
    dimensions = rng.randint(0, 10)
    names = ["d%d%s" % (i, text(NAME, lengths[0], lengths[1] - 2)) for i in range(dimensions)]
    return {
        "namespace": "n" + text(NAME + "/#. ", 0, rng.choice([5, 254])),
        "period": rng.choice([1, 30, 60, 3600]),
        "json": rng.random() < 0.5,
        "gzip": rng.random() < 0.5,
        "data": [{"metric": rng.choice(METRICS), "time": rng.randint(1, 1 << 33),
                  "count": rng.choice([1, 37, 2 ** 24 + 1, 2 ** 53, rng.randint(1, 10 ** 9)]),
                  "dimensions": [[name, "v" + text(VALUE, lengths[0] - 1, lengths[1] - 1)] for name in names]}
                 for _ in range(rng.choice([1, 23, 24, 255, 256, 1000, 2500]) if big else rng.randint(1, 40))],
    }


def parameters(request, data):
    """What a user of boto3 would give for the same data, members in our order."""
    result = []
    for item in data:
        datum = {"MetricName": item["metric"]}
        if item["dimensions"]:
            datum["Dimensions"] = [{"Name": name, "Value": value} for name, value in item["dimensions"]]
        datum["Timestamp"] = datetime.datetime.fromtimestamp(item["time"], datetime.timezone.utc)
        datum["Values"] = [1.0]
        datum["Counts"] = [float(item["count"])]
        datum["Unit"] = "Count"
        if request["period"] < 60:
            datum["StorageResolution"] = 1
        result.append(datum)
    return {"Namespace": request["namespace"], "MetricData": result}


def same(ours, theirs):
    """Equal as values; times are numbers or datetimes."""
    if isinstance(ours, dict):
        return set(ours) == set(theirs) and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs))
    if isinstance(theirs, datetime.datetime):
        ours = ours.timestamp() if isinstance(ours, datetime.datetime) else ours
        theirs = theirs.timestamp()
    return ours == theirs


def check(request, data, answer):
    wanted = parameters(request, data)
    report = botocore.validate.ParamValidator().validate(wanted, OPERATION.input_shape)
    assert not report.has_errors(), report.generate_report()
    head, body = answer["head"], bytes.fromhex(answer["body"])
    fields = dict(line.split(": ", 1) for line in head["fields"].split("\r\n") if line)
    assert (fields.get("content-encoding") == "gzip") == request["gzip"], fields
    if request["gzip"]:
        body = gzip.decompress(body)
    assert len(body) <= 1_000_000 and len(data) <= 1000, (len(body), len(data))
    protocol = "json" if request["json"] else "smithy-rpc-v2-cbor"
    theirs = botocore.serialize.create_serializer(protocol, include_validation=False).serialize_to_request(
        wanted, OPERATION)
    assert head["path"] == theirs["url_path"], (head, theirs["url_path"])
    assert head["content_type"] == theirs["headers"]["Content-Type"], (head, theirs["headers"])
    if request["json"]:
        assert head["target"] == theirs["headers"]["X-Amz-Target"], head
        ours = json.loads(body)
        assert same(ours, wanted), "our JSON says something else"
        assert ours == json.loads(theirs["body"]), "botocore's JSON says something else"
        return len(body)
    assert fields["smithy-protocol"] == theirs["headers"]["smithy-protocol"], fields
    their_body = theirs["body"] if isinstance(theirs["body"], bytes) else bytes(theirs["body"])
    assert body == their_body, "the bytes differ from botocore's"
    cbor = botocore.parsers.RpcV2CBORParser()
    stream = cbor.get_peekable_stream_from_bytes(body)
    ours = cbor.parse_data_item(stream)
    assert stream.read() == b"", "bytes behind the body"
    assert same(ours, wanted), "botocore's parser reads something else"
    return len(body)


def main():
    cli = subprocess.Popen([CLI], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    bodies = data = largest = 0
    kinds = {True: 0, False: 0}
    for number in range(arguments.requests):
        request = random_request(number)
        cli.stdin.write(json.dumps(request) + "\n")
        cli.stdin.flush()
        left = request["data"]
        while left:
            answer = json.loads(cli.stdout.readline())
            taken, left = left[:answer["data"]], left[answer["data"]:]
            size = check(request, taken, answer)
            assert not left or len(taken) == 1000 or size > 980_000, "a body was ended early"
            largest = max(largest, size)
            bodies += 1
            data += len(taken)
        kinds[request["json"]] += 1
    cli.stdin.close()
    assert cli.wait() == 0
    print(f"cloudwatch_botocore: {bodies} bodies with {data} data ({kinds[False]} requests in CBOR, {kinds[True]} in "
          f"JSON), largest {largest} bytes: all as botocore's")


main()
