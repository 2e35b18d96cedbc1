#!/usr/bin/env python3
"""`sendring sink` as CloudWatch against clients that we did not write: boto3, in JSON and in CBOR.

    python3 tests/system/sink_cloudwatch_boto3.py --build build/release

Checks what AWS's own SDK makes of the sink's answers to PutMetricData: accepted calls, compressed ones, wrong keys, each
limit and one past it, faults; and that the sums of its report are those of what was accepted, also after a SIGKILL.
Exit status 77 (skipped) when boto3 is missing or does not speak rpc-v2-cbor.
"""
import argparse
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest.mock

try:
    import boto3
    import botocore.exceptions
    import botocore.model
    import botocore.parsers
    import botocore.serialize
    from botocore.config import Config
    botocore.parsers.RpcV2CBORParser, botocore.serialize.RpcV2CBORSerializer
except (ImportError, AttributeError):
    print("skipped: python3 has no boto3 that speaks rpc-v2-cbor")
    sys.exit(77)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", required=True, help="meson's build directory")
arguments = parser.parse_args()
SENDRING = os.path.join(arguments.build, "tools", "sendring")
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
checks = 0


def check(condition, text):
    global checks
    checks += 1
    if not condition:
        raise AssertionError(text)


class Sink:
    def __init__(self, directory, *options):
        self.state = os.path.join(directory, "state")
        self.control = os.path.join(directory, "control")
        ready = os.path.join(directory, "ready")
        if os.path.exists(ready):
            os.unlink(ready)
        self.process = subprocess.Popen([SENDRING, "sink", "--state", self.state, "--control", self.control,
                                         "--ready-file", ready, "--seed", "42", *options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not os.path.exists(ready):
            check(self.process.poll() is None and time.monotonic() < deadline, "the sink starts")
            time.sleep(0.01)
        self.url = "http://" + open(ready).read().strip()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            check(self.process.wait(20) == 0, "SIGTERM ends the sink with status 0")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def client(self, protocol, secret=SECRET, key="AKIDEXAMPLE", attempts=1, compress=10240, read_timeout=10):
        """A client that speaks `protocol`: botocore takes the first one of the model's list that it knows."""
        with unittest.mock.patch.object(botocore.model.ServiceModel, "resolved_protocol", protocol):
            client = boto3.client("cloudwatch", region_name="us-east-1", endpoint_url=self.url, aws_access_key_id=key,
                                  aws_secret_access_key=secret,
                                  config=Config(retries={"total_max_attempts": attempts}, read_timeout=read_timeout,
                                                parameter_validation=False,
                                                request_min_compression_size_bytes=compress))
        client.meta.service_model.__dict__["resolved_protocol"] = protocol  # of this client's answers
        seen = []
        client.meta.events.register("before-send.cloudwatch.*", lambda request, **_: seen.append(request))
        client.seen = seen
        return client

    def tell(self, text):
        done = subprocess.run([SENDRING, "sink", "--tell", self.control, text], capture_output=True, text=True)
        check(done.returncode == 0, f"--tell {text}: {done.stdout}{done.stderr}")
        return done.stdout

    def report(self):
        done = subprocess.run([SENDRING, "sink", "--report", self.state, "--json"], capture_output=True, text=True)
        check(done.returncode == 0, f"report: {done.stderr}")
        return json.loads(done.stdout)

    def sums(self):
        return {(m["namespace"], m["metric"], tuple(sorted(m["dimensions"].items())), m["timestamp"]):
                (m["samples"], m["sum"]) for m in self.report()["metrics"]}


def refused(call, code, shape=None, status=400):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        check(error.response["Error"]["Code"] in (code, shape), f"{code} expected: {error}")
        check(error.response["ResponseMetadata"]["HTTPStatusCode"] == status, f"status of {code}: {error.response}")
        return str(error)
    raise AssertionError(f"{code} expected, but the call was accepted")


def datum(**members):
    return {"MetricName": "Send", "Values": [1.0], "Counts": [3.0], "Unit": "Count", "Timestamp": NOW, **members}


def dimensions(count, name_length=1, value_length=1):
    return [{"Name": f"{i:02d}".ljust(name_length, "n"), "Value": "v" * value_length} for i in range(count)]


def limits(sink, client):
    def put(namespace="Test", **members):
        return lambda: client.put_metric_data(Namespace=namespace, MetricData=[datum(**members)])

    invalid = ("InvalidParameterValue", "InvalidParameterValueException")
    text = refused(put("AWS/SES"), *invalid)
    check("The value AWS/ for parameter Namespace is invalid." in text, text)
    refused(put(":x"), *invalid)
    refused(put("n" * 256), *invalid)
    put("n" * 255)()
    put(MetricName="m" * 255)()
    refused(put(MetricName="m" * 256), *invalid)
    put(Dimensions=dimensions(30, 255, 1024))()
    refused(put(Dimensions=dimensions(31)), *invalid)
    refused(put(Dimensions=dimensions(1, 256)), *invalid)
    refused(put(Dimensions=dimensions(1, 1, 1025)), *invalid)
    for bad in (":x", "", " ", "é"):
        refused(put(Dimensions=[{"Name": bad, "Value": "v"}]), *invalid)
    for bad in ("", " ", "é"):
        refused(put(Dimensions=[{"Name": "n", "Value": bad}]), *invalid)
    refused(put(Dimensions=dimensions(1) * 2), *invalid)
    for bad in (float("nan"), float("inf"), float("-inf"), 2.0 ** 361):
        refused(put(Values=[bad]), *invalid)
    put(Values=[2.0 ** 360, -2.0 ** 360], Counts=[1, 1])()
    put(Values=[float(i) for i in range(150)], Counts=[1.0] * 150)()
    refused(put(Values=[float(i) for i in range(151)], Counts=[1.0] * 151), *invalid)
    refused(put(Values=[1.0, 2.0]), *invalid)
    refused(put(Unit="Furlongs"), *invalid)
    refused(put(StorageResolution=2), *invalid)
    put(StorageResolution=1)()
    now = datetime.datetime.now(datetime.timezone.utc)
    put(Timestamp=now - datetime.timedelta(days=14) + datetime.timedelta(seconds=60))()
    refused(put(Timestamp=now - datetime.timedelta(days=14, seconds=60)), *invalid)
    put(Timestamp=now + datetime.timedelta(hours=2) - datetime.timedelta(seconds=60))()
    refused(put(Timestamp=now + datetime.timedelta(hours=2, seconds=60)), *invalid)
    refused(put(Value=1.0), "InvalidParameterCombination", "InvalidParameterCombinationException")
    refused(lambda: client.put_metric_data(Namespace="Test", MetricData=[{"MetricName": "x"}]),
            "MissingParameter", "MissingRequiredParameterException")
    client.put_metric_data(Namespace="Limit", MetricData=[datum()] * 1000)
    refused(lambda: client.put_metric_data(Namespace="Limit", MetricData=[datum()] * 1001), *invalid)
    large = [datum(Dimensions=dimensions(30, 200, 1000))] * 27
    text = refused(lambda: client.put_metric_data(Namespace="Large", MetricData=large * 2),
                   "RequestEntityTooLarge", status=413)
    client.put_metric_data(Namespace="Large", MetricData=large)
    time_s = int(NOW.timestamp())
    sums = sink.sums()
    check(sums[("Limit", "Send", (), time_s)] == (3000.0, 3000.0), "a thousand data add up")
    check(not any(key[0].startswith("AWS/") for key in sums), "nothing of a refused call is stored")


def protocol(directory, name):
    os.mkdir(directory)
    with Sink(directory) as sink:
        client = sink.client(name)
        client.put_metric_data(Namespace="A", MetricData=[
            datum(Dimensions=[{"Name": "campaign", "Value": "april"}, {"Name": "b", "Value": "a \"b\\c"}]),
            datum(Dimensions=[{"Name": "b", "Value": "a \"b\\c"}, {"Name": "campaign", "Value": "april"}]),
            {"MetricName": "Open", "Value": 2.5, "Timestamp": NOW},
            {"MetricName": "Open", "StatisticValues": {"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 4},
             "Timestamp": NOW}])
        request = client.seen[-1]
        is_cbor = name == "smithy-rpc-v2-cbor"
        check(request.headers["Content-Type"] in ("application/cbor", b"application/cbor") if is_cbor else
              b"json-1.0" in request.headers["Content-Type"].encode() if isinstance(request.headers["Content-Type"], str)
              else b"json-1.0" in request.headers["Content-Type"], f"spoken: {request.headers}")
        time_s = int(NOW.timestamp())
        sums = sink.sums()
        check(sums == {("A", "Send", (("b", "a \"b\\c"), ("campaign", "april")), time_s): (6.0, 6.0),
                       ("A", "Open", (), time_s): (5.0, 12.5)}, f"sums: {sums}")
        many = [datum(Dimensions=[{"Name": "campaign", "Value": f"c{i}"}]) for i in range(1000)]
        client.put_metric_data(Namespace="B", MetricData=many)
        check(client.seen[-1].headers.get("Content-Encoding") in ("gzip", b"gzip"), "botocore compresses")
        check(sum(value[0] for key, value in sink.sums().items() if key[0] == "B") == 3000, "compressed calls count")
        refused(lambda: sink.client(name, secret="wrong").put_metric_data(Namespace="A", MetricData=[datum()]),
                "InvalidSignatureException")
        refused(lambda: sink.client(name, key="AKIDOTHER").put_metric_data(Namespace="A", MetricData=[datum()]),
                "UnrecognizedClientException")
        limits(sink, client)
        faults(sink, name)
    return directory


def faults(sink, name):
    one = {"Namespace": "F", "MetricData": [datum()]}
    for fault, code, shape, status in (("throttle", "Throttling", None, 400),
                                       ("error500", "InternalServiceError", "InternalServiceFault", 500)):
        before = sink.sums()
        sink.tell(f"set {fault} 1")
        refused(lambda: sink.client(name).put_metric_data(**one), code, shape, status)
        sink.tell(f"set {fault} 0")
        check(sink.sums() == before, f"{fault} stores nothing")
    for fault, stored in (("reset", 0), ("reset_after", 3), ("stall", 0)):
        before = sum(v[0] for k, v in sink.sums().items() if k[0] == "F")
        sink.tell(f"set {fault} 1")
        try:
            sink.client(name, read_timeout=1).put_metric_data(**one)
            check(False, f"{fault} answers")
        except (botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError):
            pass
        sink.tell(f"set {fault} 0")
        after = sum(v[0] for k, v in sink.sums().items() if k[0] == "F")
        check(after - before == stored, f"{fault} stores {stored}")


def kill(directory):
    """Whatever was answered is in the report after a SIGKILL; a cut line is neither read nor in the way."""
    os.mkdir(directory)
    rng = random.Random(1)
    accepted = {}
    for _ in range(3):
        with Sink(directory) as sink:
            client = sink.client("smithy-rpc-v2-cbor")
            for _ in range(20):
                value = f"c{rng.randint(0, 5)}"
                client.put_metric_data(Namespace="K", MetricData=[datum(Dimensions=[{"Name": "c", "Value": value}])])
                accepted[value] = accepted.get(value, 0) + 3
            sink.kill()
        with open(os.path.join(directory, "state", "metrics.ndjson"), "a") as out:
            out.write('{"namespace":"K","data":[["Send",{"c":"c0"},')
        sums = {key[2][0][1]: value[0] for key, value in sink.sums().items()}
        check(sums == accepted, f"{sums} but accepted {accepted}")


with tempfile.TemporaryDirectory() as work:
    for spoken in ("smithy-rpc-v2-cbor", "json"):
        protocol(os.path.join(work, spoken), spoken)
    kill(os.path.join(work, "kill"))
print(f"sink_cloudwatch_boto3: {checks} checks")
