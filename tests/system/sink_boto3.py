#!/usr/bin/env python3
"""`sendring sink` against clients that we did not write: boto3 and curl.

    python3 tests/system/sink_boto3.py --build build/release [--quick]

Checks what AWS's own SDK makes of the sink's answers: accepted batches, wrong keys, limits, partial failures, TLS with
a private CA, every fault; and that the counts on disk agree with what the client saw, also after a SIGKILL of the sink.
Exit status 77 (skipped) when boto3 or curl is missing.
"""
import argparse
import concurrent.futures
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import system

try:
    import boto3
    import botocore.exceptions
    from botocore.config import Config
except ImportError:
    print("skipped: python3 has no boto3")
    sys.exit(77)
if shutil.which("curl") is None:
    print("skipped: there is no curl")
    sys.exit(77)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", required=True, help="meson's build directory")
parser.add_argument("--quick", action="store_true", help="fewer kills")
arguments = parser.parse_args()
SENDRING = os.path.join(arguments.build, "tools", "sendring")
MAKE_TEST_CERTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "make-test-certs")
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
checks = 0


def check(condition, text):
    global checks
    checks += 1
    if not condition:
        raise AssertionError(text)


def line(run, producer, index, kind="Send"):
    message_id = f"0100{1767323045678:012x}-{run:08x}-{producer:04x}-4e76-a11d-{index:012x}-000000"
    return (json.dumps({"eventType": kind, "mail": {"messageId": message_id}}, separators=(",", ":")) + "\n").encode()


class Sink:
    def __init__(self, directory, *options, state="state"):
        self.directory = directory
        self.state = os.path.join(directory, state)
        self.control = os.path.join(directory, "control")
        self.ready = os.path.join(directory, "ready")
        self.tls = "--tls-cert" in options
        if os.path.exists(self.ready):
            os.unlink(self.ready)
        self.process = subprocess.Popen(
            [SENDRING, "sink", "--state", self.state, "--control", self.control, "--ready-file", self.ready,
             "--seed", "42", *options], stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not os.path.exists(self.ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the sink did not start")
            time.sleep(0.01)
        address = open(self.ready).read().strip()
        check(self.process.stdout.readline().strip() == f"sink: listening on {address}", "line of readiness")
        self.url = ("https://" if self.tls else "http://") + address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            check(self.process.wait(20) == 0, "SIGTERM ends the sink with status 0")
        self.process.stdout.close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def client(self, secret=SECRET, key="AKIDEXAMPLE", verify=None, attempts=1, read_timeout=20):
        return boto3.client("firehose", region_name="us-east-1", endpoint_url=self.url, aws_access_key_id=key,
                            aws_secret_access_key=secret, verify=verify,
                            config=Config(retries={"total_max_attempts": attempts}, read_timeout=read_timeout,
                                          connect_timeout=5, max_pool_connections=16))

    def wait_listening(self, wanted):
        """The sink's threads act a little behind the answer to whoever told them."""
        host, port = self.url.rsplit("/", 1)[1].rsplit(":", 1)
        deadline = time.monotonic() + 10
        while system.listens(host, int(port)) is not wanted:
            check(time.monotonic() < deadline, f"not listening: {wanted} within 10 s")
            time.sleep(0.005)

    def tell(self, text, status=0):
        done = subprocess.run([SENDRING, "sink", "--tell", self.control, text], capture_output=True, text=True)
        check(done.returncode == status, f"--tell {text}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def stats(self):
        return json.loads(self.tell("stats"))

    def report(self, published=None, status=0):
        command = [SENDRING, "sink", "--report", self.state, "--json"]
        if published is not None:
            path = os.path.join(self.directory, "ledger.json")
            with open(path, "w") as out:
                json.dump(published, out)
            command += ["--published", path]
        done = subprocess.run(command, capture_output=True, text=True)
        check(done.returncode == status, f"report status {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)


def refused(call, name, status=400):
    try:
        call()
    except botocore.exceptions.ClientError as error:
        check(error.response["Error"]["Code"] == name, f"{name} expected: {error}")
        check(error.response["ResponseMetadata"]["HTTPStatusCode"] == status, f"status of {name}")
        return error
    raise AssertionError(f"{name} expected, but the call was accepted")


def accepted_and_refused(directory):
    with Sink(directory, "--stream", "mail", "--store", os.path.join(directory, "store"), "--check-json") as sink:
        client = sink.client()
        answer = client.put_record_batch(DeliveryStreamName="mail",
                                         Records=[{"Data": line(1, 0, i)} for i in range(500)])
        check(answer["FailedPutCount"] == 0 and answer["Encrypted"] is False, "accepted batch")
        ids = [entry["RecordId"] for entry in answer["RequestResponses"]]
        check(len(set(ids)) == 500 and all(len(text) == 224 for text in ids), "record ids")
        packed = b"".join(line(1, 0, i, "Delivery") for i in range(500, 1000))
        answer = client.put_record(DeliveryStreamName="mail", Record={"Data": packed})
        check(len(answer["RecordId"]) == 224, "PutRecord")
        check("x-amzn-requestid" in answer["ResponseMetadata"]["HTTPHeaders"], "request id")

        one = [{"Data": b"{}\n"}]
        batch = client.put_record_batch
        refused(lambda: sink.client(secret="wrong").put_record_batch(DeliveryStreamName="mail", Records=one),
                "InvalidSignatureException")
        refused(lambda: sink.client(key="AKIDOTHER").put_record_batch(DeliveryStreamName="mail", Records=one),
                "UnrecognizedClientException")
        error = refused(lambda: batch(DeliveryStreamName="other", Records=one), "ResourceNotFoundException")
        check(type(error).__name__ == "ResourceNotFoundException", "modelled exception")
        refused(lambda: batch(DeliveryStreamName="mail", Records=one * 501), "ValidationException")
        batch(DeliveryStreamName="mail", Records=[{"Data": b"a" * 1023999 + b"\n"}])
        refused(lambda: batch(DeliveryStreamName="mail", Records=[{"Data": b"a" * 1024001}]), "ValidationException")
        error = refused(lambda: batch(DeliveryStreamName="mail", Records=[{"Data": b"a" * 900000}] * 4),
                        "InvalidArgumentException")
        check(type(error).__name__ == "InvalidArgumentException", "modelled exception")
        refused(lambda: batch(DeliveryStreamName="mail/x", Records=one), "ValidationException")
        refused(lambda: client.list_delivery_streams(), "UnknownOperationException")
        # A body of more than 6 MiB is not even read; the answer still arrives.
        try:
            batch(DeliveryStreamName="mail", Records=[{"Data": b"a" * 1000000}] * 6)
            raise AssertionError("8 MB were accepted")
        except botocore.exceptions.ClientError as error:
            check(error.response["ResponseMetadata"]["HTTPStatusCode"] == 413, f"413 expected: {error}")

        report = sink.report({"run_id": "00000001", "producers": [{"producer": 0, "published": 1000}]})
        check(report["distinct"] == 1000 and report["missing"] == 0 and report["duplicates"] == 0, f"counts {report}")
        check(report["types"]["Send"] == 500 and report["types"]["Delivery"] == 500, "types")
        check(report["other"]["distinct"] == 1 and report["counters"]["invalid_json"] == 1, "the line of a's")
        report = sink.report({"run_id": "1", "producers": [{"producer": 0, "published": 1002},
                                                           {"producer": 1, "published": 3}]}, status=1)
        check(report["missing"] == 5, "missing by the ledger")
        stored = open(os.path.join(directory, "store", "mail.ndjson"), "rb").read()
        check(stored.startswith(b"".join(line(1, 0, i) for i in range(500)) + packed), "stored lines")


def clock_skew(directory):
    with Sink(directory, state="skew") as sink:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        import datetime
        import urllib.request
        import botocore.auth

        def send(minutes):
            real = botocore.auth.get_current_datetime
            moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)
            botocore.auth.get_current_datetime = lambda *_, **__: moment.replace(tzinfo=None)
            try:
                body = b'{"DeliveryStreamName":"s","Records":[{"Data":"e30K"}]}'
                request = AWSRequest("POST", sink.url + "/", data=body, headers={
                    "Content-Type": "application/x-amz-json-1.1",
                    "X-Amz-Target": "Firehose_20150804.PutRecordBatch",
                    "Host": sink.url.split("//")[1]})
                SigV4Auth(Credentials("AKIDEXAMPLE", SECRET), "firehose", "us-east-1").add_auth(request)
            finally:
                botocore.auth.get_current_datetime = real
            try:
                urllib.request.urlopen(urllib.request.Request(sink.url + "/", body, dict(request.headers))).read()
                return "ok"
            except urllib.error.HTTPError as error:
                answer = json.loads(error.read())
                check(error.headers["Date"], "Date of a skew answer")
                return answer["__type"] + " " + answer["message"]
        check(send(0) == "ok" and send(4) == "ok" and send(-4) == "ok", "within 5 minutes")
        check(send(-6).startswith("InvalidSignatureException Signature expired"), f"old: {send(-6)}")
        check(send(6).startswith("InvalidSignatureException Signature not yet current"), f"early: {send(6)}")


def over_tls(directory):
    certs = os.path.join(directory, "certs")
    for _ in range(2):
        subprocess.run([MAKE_TEST_CERTS, certs], check=True)
        made = os.stat(os.path.join(certs, "server.pem")).st_mtime_ns
    check(os.stat(os.path.join(certs, "server.pem")).st_mtime_ns == made, "make-test-certs leaves a good pair alone")
    ca = os.path.join(certs, "ca.pem")
    with Sink(directory, "--tls-cert", certs + "/server.pem", "--tls-key", certs + "/server.key", "--threads", "2",
              state="tls") as sink:
        client = sink.client(verify=ca)
        big = [{"Data": b"".join(line(2, 0, n * 5000 + i) for i in range(5000))} for n in range(4)]
        check(client.put_record_batch(DeliveryStreamName="s", Records=big)["FailedPutCount"] == 0, "TLS with the CA")
        try:
            sink.client().put_record_batch(DeliveryStreamName="s", Records=big)
            raise AssertionError("a certificate of an unknown CA was accepted")
        except botocore.exceptions.SSLError:
            pass
        check(sink.report()["distinct"] == 20000, "counts over TLS")
        check(sink.stats()["tls_failed"] >= 1, "failed handshake counted")
        done = subprocess.run(["curl", "-sS", "--cacert", ca, "-o", "/dev/null", "-w", "%{http_code}",
                               sink.url.replace("127.0.0.1", "localhost")], capture_output=True, text=True)
        check(done.stdout == "404", f"curl over TLS: {done.stdout} {done.stderr}")


def with_curl(directory):
    with Sink(directory, "--no-auth", state="curl") as sink:
        def curl(*arguments, body='{"DeliveryStreamName":"s","Records":[{"Data":"e30K"}]}', target="PutRecordBatch",
                 content_type="application/x-amz-json-1.1"):
            done = subprocess.run(
                ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", "-H", "Content-Type: " + content_type,
                 "-H", "X-Amz-Target: Firehose_20150804." + target, "--data-binary", "@-", *arguments, sink.url + "/"],
                input=body.encode(), capture_output=True)
            text, status = done.stdout.decode().rsplit("\n", 1)
            return int(status), json.loads(text) if text else None
        check(curl()[1]["FailedPutCount"] == 0, "curl")
        check(curl("-H", "Transfer-Encoding: chunked")[1]["FailedPutCount"] == 0, "curl, chunked")
        check(curl("-H", "Expect: 100-continue")[0] in (200, 417), "Expect is refused, or curl did without")
        check(curl("--http1.0")[0] == 200, "HTTP/1.0")
        check(curl(body="{")[1]["__type"] == "SerializationException", "malformed JSON")
        check(curl(body='{"DeliveryStreamName":"s","Records":[{"Data":"e30"}]}')[1]["__type"] ==
              "SerializationException", "malformed base64")
        check(curl(body="{}", target="PutRecord")[1]["__type"] == "ValidationException", "no stream")
        check(curl(target="Nothing")[1]["__type"] == "UnknownOperationException", "unknown operation")
        check(curl(content_type="text/plain")[1]["__type"] == "UnknownOperationException", "content type")
        check(curl("-H", "Expect:", "-H", "Transfer-Encoding: chunked", body="x" * 7000000)[0] == 413, "chunked, too long")
        check(curl("-H", "X-Long: " + "x" * 20000)[0] == 431, "head too long")
        # Two requests over one connection.
        done = subprocess.run(["curl", "-sS", "-v", sink.url, sink.url], capture_output=True, text=True)
        check("Re-using existing connection" in done.stderr, "keep-alive")


def put_until_stored(client, records, tally):
    """A sender's loop: resends what was refused, and everything when the answer cannot be believed."""
    while records:
        try:
            answer = client.put_record_batch(DeliveryStreamName="s", Records=records)
            entries = answer.get("RequestResponses")
            if answer.get("FailedPutCount") is None or entries is None or len(entries) != len(records):
                tally["garbage"] += 1
                continue
            failed = [record for record, entry in zip(records, entries) if "ErrorCode" in entry]
            check(len(failed) == answer["FailedPutCount"], "FailedPutCount")
            tally["resent"] += len(failed)
            records = failed
        except botocore.exceptions.ClientError as error:
            code = error.response["ResponseMetadata"]["HTTPStatusCode"]
            check(code >= 500, f"only server errors are expected: {error}")
            tally[code] = tally.get(code, 0) + 1
        except Exception as error:  # connection errors, truncated answers: botocore has many names for them
            tally["lost"] += 1
            tally[type(error).__name__] = tally.get(type(error).__name__, 0) + 1


def faults(directory):
    with Sink(directory, "--partial", "0.05", "--threads", "2", state="faults") as sink:
        def everything(producer, count, client):
            tally = {"resent": 0, "lost": 0, "garbage": 0}
            for start in range(0, count, 100):
                put_until_stored(client, [{"Data": line(3, producer, i)} for i in range(start, start + 100)], tally)
            return tally
        published = []

        def round_trip(name, value, count=2000, **options):
            if name:
                sink.tell(f"set {name} {value}")
            before = sink.stats()
            tally = everything(len(published), count, sink.client(**options))
            after = sink.stats()
            if name:
                sink.tell(f"set {name} 0")
            published.append({"producer": len(published), "published": count})
            report = sink.report({"run_id": "00000003", "producers": published})
            check(report["missing"] == 0 and report["unexpected"] == 0, f"{name}: {report}")
            own = report["producers"][-1]
            delta = {key: after[key] - before[key] for key in after}
            check(delta["refused_entries"] == tally["resent"], f"{name}: refused entries = resent entries")
            check(own["duplicates"] == delta["lost_answer_entries"], f"{name}: duplicates only of lost answers")
            return tally, delta
        tally, delta = round_trip(None, None)
        check(tally["resent"] > 50 and tally["lost"] == 0 and delta["fault_partial"] == tally["resent"], "partial")
        sink.tell("set partial 0")
        tally, delta = round_trip("throttle", "0.5")
        check(tally.get(503, 0) > 0 and tally["resent"] > 0 and tally[503] <= delta["fault_throttle"], "throttle")
        tally, delta = round_trip("error500", "0.3")
        check(tally.get(500, 0) == delta["fault_error500"] > 0, "error500")
        tally, delta = round_trip("reset", "0.3")
        check(tally["lost"] == delta["fault_reset"] > 0, "reset")
        tally, delta = round_trip("reset_after", "0.3")
        check(tally["lost"] == delta["fault_reset_after"] > 0 and delta["lost_answer_entries"] > 0, "reset_after")
        tally, delta = round_trip("garbage", "0.6", count=4000)
        check(delta["fault_garbage"] == tally["lost"] + tally["garbage"] + tally.get(502, 0) > 0, "garbage")
        tally, delta = round_trip("stall", "0.3", count=500, read_timeout=2)
        check(tally.get("ReadTimeoutError", 0) == delta["fault_stall"] > 0, "stall")

        sink.tell("set latency 1s")
        began = time.monotonic()
        check(sink.client().put_record(DeliveryStreamName="s", Record={"Data": line(4, 0, 0)})["RecordId"], "latency")
        check(time.monotonic() - began >= 1, "latency holds")
        # Answers wait side by side, not one after the other.
        began = time.monotonic()
        client = sink.client()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            def put(index):
                return client.put_record(DeliveryStreamName="s", Record={"Data": line(4, 0, index)})
            list(pool.map(put, range(1, 9)))
        check(time.monotonic() - began < 4, "latency of eight at once")
        sink.tell("set latency 0")

        client = sink.client()
        client.put_record(DeliveryStreamName="s", Record={"Data": line(4, 0, 9)})
        for _ in range(3):
            sink.tell("set down on")
            sink.wait_listening(False)
            for _ in range(2):
                try:
                    sink.client().put_record(DeliveryStreamName="s", Record={"Data": line(4, 0, 10)})
                    raise AssertionError("accepted while down")
                except botocore.exceptions.EndpointConnectionError:
                    pass
            sink.tell("set down off")
            sink.wait_listening(True)
            client.put_record(DeliveryStreamName="s", Record={"Data": line(4, 0, 10)})
        check(sink.stats()["fault_down"] >= 1, "open connections were closed")
        sink.tell("set nothing 1", status=1)
        sink.tell("set throttle 2", status=1)


def killed(directory):
    """The sink is killed while a client sends: after a restart everything acknowledged is there, once."""
    stored = 0
    for turn in range(2 if arguments.quick else 5):
        with Sink(directory, state="killed") as sink:
            client = sink.client()
            before = sink.report()["duplicates"] if turn else 0
            check(before == 0, "no duplicates without resending")
            acknowledged = stored
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                def send():
                    nonlocal acknowledged
                    while True:
                        try:
                            client.put_record_batch(DeliveryStreamName="s", Records=[
                                {"Data": line(5, 0, acknowledged + i)} for i in range(50)])
                        except Exception:
                            return
                        acknowledged += 50
                sending = pool.submit(send)
                time.sleep(0.2 + 0.07 * turn)
                sink.kill()
                sending.result()
            report = sink.report({"run_id": "5", "producers": [{"producer": 0, "published": acknowledged}]})
            check(report["missing"] == 0 and report["duplicates"] == 0, f"killed: {report}")
            check(report["unexpected"] <= 50, "at most the call under way")
            stored = report["distinct"]
            check(report["producers"][0]["end"] == stored, "no gaps")
    check(stored > 100, "something was sent")


def main():
    directory = tempfile.mkdtemp(prefix="sendring-sink-", dir=os.environ.get("SENDRING_TEST_DIRECTORY"))
    try:
        for test in (accepted_and_refused, clock_skew, over_tls, with_curl, faults, killed):
            began = time.monotonic()
            test(directory)
            print(f"{test.__name__}: ok ({time.monotonic() - began:.1f} s)", flush=True)
        second = subprocess.run([SENDRING, "sink", "--nothing"], capture_output=True, text=True)
        check(second.returncode == 64 and second.stderr.count("\n") == 1, "wrong usage")
        check(subprocess.run([SENDRING, "sink", "--help"], capture_output=True).returncode == 0, "--help")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"sink_boto3: ok, {checks} checks")


main()
