#!/usr/bin/env python3
"""usage: peers_test.py BUILD: peers.py without the peers, with stand-ins that deliver, and with one that does not start.

The stand-in (this file, called with a configuration) takes the forward protocol, acknowledges, and puts what it got to
Firehose, signed, over TLS: it shows that what peers.py sends, waits for and counts fits together. Whether the real programs
take their configurations it cannot show."""

import base64
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve()

# ---------------------------------------------------------------------------------------------- the stand-in


def unpack(data, at):
    """(value, where it ends). IndexError or struct.error: there is more to come."""
    head = data[at]
    at += 1
    if head < 0x80:
        return head, at
    if head in (0xc0, 0xc2, 0xc3):
        return {0xc0: None, 0xc2: False, 0xc3: True}[head], at
    if head in (0xd3, 0xcb):
        return struct.unpack_from(">q" if head == 0xd3 else ">d", data, at)[0], at + 8
    if head == 0xc6 or head == 0xda or 0xa0 <= head < 0xc0:
        size, at = {0xc6: lambda: (struct.unpack_from(">I", data, at)[0], at + 4),
                    0xda: lambda: (struct.unpack_from(">H", data, at)[0], at + 2)}.get(head, lambda: (head - 0xa0, at))()
        if len(data) < at + size:
            raise IndexError
        value = bytes(data[at:at + size])
        return (value if head == 0xc6 else value.decode()), at + size
    count, at = (struct.unpack_from(">H", data, at)[0], at + 2) if head in (0xdc, 0xde) else (head & 0x0f, at)
    if head == 0xdc or 0x90 <= head < 0xa0:
        items = []
        for _ in range(count):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    members = {}
    for _ in range(count):
        key, at = unpack(data, at)
        members[key], at = unpack(data, at)
    return members, at


def put_records(connection, host, lines):
    body = json.dumps({"DeliveryStreamName": "mail-events",
                       "Records": [{"Data": base64.b64encode(line).decode()} for line in lines]}).encode()
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": "application/x-amz-json-1.1", "host": host, "x-amz-date": now,
               "x-amz-target": "Firehose_20150804.PutRecordBatch"}
    names, scope = ";".join(sorted(headers)), f"{now[:8]}/us-east-1/firehose/aws4_request"
    request = "POST\n/\n\n" + "".join(f"{name}:{headers[name]}\n" for name in sorted(headers)) + \
        f"\n{names}\n{hashlib.sha256(body).hexdigest()}"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
                                f"SignedHeaders={names}, Signature={key.hex()}")
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    if answer.status != 200 or said["FailedPutCount"] != 0:
        sys.exit(f"refused: {answer.status} {said}")


def take_message(data):
    """(lines of JSON, the chunk's name, what is behind it), or None: there is more to come."""
    try:
        (_, entries, options), end = unpack(data, 0)
    except (IndexError, struct.error):
        return None
    lines, at = [], 0
    while at < len(entries):
        (_, record), at = unpack(entries, at)
        lines.append(json.dumps(record, separators=(",", ":")).encode() + b"\n")
    if len(lines) != options["size"]:
        sys.exit("the message has another number of events than it says")
    return lines, options["chunk"].encode(), data[end:]


def serve(receiver, to_sink, host):
    data = b""
    while True:
        message = take_message(data)
        if message is None:
            got = receiver.recv(1 << 20)
            if not got:
                return
            data += got
            continue
        lines, chunk, data = message
        put_records(to_sink, host, lines)
        receiver.sendall(b"\x81\xa3ack" + bytes([0xa0 + len(chunk)]) + chunk)


def stand_in(path):
    """Finds port and endpoint in the configuration that it got, and leaves a copy of it."""
    shutil.copy(path, os.environ["STAND_IN_RECORD"])
    text = pathlib.Path(path).read_text(encoding="utf-8")
    port = int(re.search(r"^ *(?:address: 127.0.0.1:|port: )(\d+)$", text, re.M)[1])
    sink = re.search(r"^ *endpoint: (?:https://)?(127\.0\.0\.1)(?:\n *port)?: ?(\d+)$", text, re.M)
    certificates = ssl.create_default_context(cafile=re.search(r"ca_file: ([^}\n]+)", text)[1])
    to_sink = http.client.HTTPSConnection(sink[1], int(sink[2]), context=certificates)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            receiver, _ = listener.accept()
            with receiver:
                serve(receiver, to_sink, f"{sink[1]}:{sink[2]}")


# ---------------------------------------------------------------------------------------------- the test


def check(what, good):
    if not good:
        print(f"FAIL: {what}")
        sys.exit(1)


def run_peers(build, folder, **environment):
    """With a PATH of a folder that has neither program."""
    for name in ("FLUENT_BIT", "VECTOR"):
        os.environ.pop(name, None)
    path = os.pathsep.join([str(folder), "/usr/bin", "/bin"])
    return subprocess.run([sys.executable, HERE.with_name("peers.py"), "--build", build, "--smoke"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False, env=dict(os.environ, PATH=path, **environment))


def program(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def check_without(build, folder):
    done = run_peers(build, folder)
    check(f"status {done.returncode}: {done.stderr}", done.returncode == 0)
    notes = [json.loads(line)["note"] for line in done.stdout.splitlines()]
    check(f"{notes}", len(notes) == 2 and notes[0].startswith("Fluent Bit: not on PATH") and notes[1].startswith("Vector: not on PATH"))


def check_delivers(build, folder):
    relay = program(folder / "relay", f'#!/bin/sh\ncase $1 in --version) echo stand-in 1 ;; *) exec {sys.executable} {HERE} '
                                      '--stand-in "$2" ;; esac\n')
    done = run_peers(build, folder, STAND_IN_RECORD=str(folder), FLUENT_BIT=relay, VECTOR=relay)
    check(f"status {done.returncode}: {done.stderr}", done.returncode == 0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    metrics = {line["metric"]: line for line in lines if "metric" in line}
    check(f"not twice 'stand-in 1': {done.stdout}", sum("stand-in 1" in line.get("note", "") for line in lines) == 2)
    ours = metrics["cpu_s_per_million_sendring"]
    for peer, words in (("fluent_bit", ("storage.type: filesystem", "retry_limit: no_limits")),
                        ("vector", ("type: aws_kinesis_firehose", "healthcheck: {enabled: false}", "when_full: block"))):
        theirs = metrics[f"cpu_s_per_million_{peer}"]
        check(f"{peer}: {theirs}", theirs["floor"] == ours["value"] > 0 and theirs["value"] > 0)
        text = (folder / f"{peer}.yaml").read_text(encoding="utf-8")
        check(f"{peer}'s configuration: {text}", all(word in text for word in words) and "{{" not in text)


def check_fails(build, folder):
    program(folder / "vector", "#!/bin/sh\necho unknown field request_retry >&2\nexit 78\n")
    done = run_peers(build, folder)
    check(f"{done.returncode} {done.stderr}", done.returncode == 1 and "Vector: it ended with status 78" in done.stderr and
          "unknown field request_retry" in done.stderr)
    done = run_peers(build, folder, FLUENT_BIT="/nowhere/fluent-bit")
    check(f"{done.returncode} {done.stderr}", done.returncode == 1 and "there is no program of that name" in done.stderr)


def main():
    if sys.argv[1] == "--stand-in":
        return stand_in(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="sendring-peers-") as name:
        folder = pathlib.Path(name)
        check_without(sys.argv[1], folder)
        check_delivers(sys.argv[1], folder)
        check_fails(sys.argv[1], folder)
    print("ok")
    return None


main()
