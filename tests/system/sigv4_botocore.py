#!/usr/bin/env python3
"""Our SigV4 signer against botocore's, over random requests.

    python3 tests/system/sigv4_botocore.py --build build [--requests 2000] [--seed 1]

Both sign the same requests at the same instants; canonical request and Authorization must be equal byte for byte.
Exit status 77 (skipped) when botocore is missing.
"""
import argparse
import datetime
import json
import os
import random
import subprocess
import sys
from urllib.parse import quote

try:
    import botocore
    import botocore.auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials
except ImportError:
    print("skipped: python3 has no botocore")
    sys.exit(77)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", required=True, help="meson's build directory")
parser.add_argument("--requests", type=int, default=2000)
parser.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
CLI = os.path.join(arguments.build, "tests", "system", "sigv4_cli")
rng = random.Random(arguments.seed)

PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
UNICODE = "äß€😀語"


def text(alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def random_request():
    segments = [rng.choice(["", ".", "..", "a", "v2", text(PRINTABLE + " " + UNICODE, 1, 8)])
                for _ in range(rng.randint(0, 5))]
    path = "/" + "/".join(quote(s, safe="-_.~") for s in segments)
    query = "&".join(quote(text(PRINTABLE + " " + UNICODE, 1, 4), safe="-_.~") + "=" +
                     quote(text(PRINTABLE + " " + UNICODE, 0, 6), safe="-_.~")
                     for _ in range(rng.choice([0, 0, 1, 3, 8])))
    host = text("abcdefgh", 1, 10) + ".amazonaws.com" + rng.choice(["", ":8443"])
    headers = [("Host", host), ("Content-Type", "application/x-amz-json-1.1"),
               ("X-Amz-Target", "Firehose_20150804.PutRecordBatch")][:rng.randint(1, 3)]
    for _ in range(rng.choice([0, 0, 1, 4])):
        name = rng.choice(["X-Amz-", "x-amz-", "X-", "Accept-"]) + text("abcXYZ-019", 1, 8)
        if name.lower() in ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256"):
            continue
        for _ in range(rng.choice([1, 1, 1, 2])):
            words = [text(PRINTABLE, 1, 6) for _ in range(rng.randint(1, 4))]
            headers.append((name, rng.choice(["", " "]) + rng.choice([" ", "  ", "   "]).join(words) + rng.choice(["", " "])))
    return {
        "method": rng.choice(["POST", "GET", "PUT", "DELETE"]),
        "path": path,
        "query": query,
        "headers": headers,
        "body": rng.choice(["", "{}", text(PRINTABLE + UNICODE, 0, 300)]),
        "access_key": text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 20),
        "secret_key": text("ABCabc0123456789/+", 20, 80),
        "token": rng.choice(["", text("ABCabc0123456789/+=", 100, 900)]),
        "region": rng.choice(["us-east-1", "eu-central-1", "cn-north-1"]),
        "service": rng.choice(["firehose", "monitoring", "sns", "events"]),
        "time": rng.randint(0, 4102444800),
    }


def sign_with_botocore(r):
    credentials = Credentials(r["access_key"], r["secret_key"], r["token"] or None)
    signer = botocore.auth.SigV4Auth(credentials, r["service"], r["region"])
    when = datetime.datetime.fromtimestamp(r["time"], datetime.timezone.utc).replace(tzinfo=None)
    for name in ("get_current_datetime",):
        setattr(botocore.auth, name, lambda *args, **kwargs: when)
    url = "https://" + r["headers"][0][1] + r["path"] + ("?" + r["query"] if r["query"] else "")
    request = AWSRequest(method=r["method"], url=url, data=r["body"].encode())
    for name, value in r["headers"]:
        request.headers.add_header(name, value)
    signer.add_auth(request)
    unsigned = AWSRequest(method=r["method"], url=url, data=r["body"].encode())
    for name, value in request.headers.items():
        if name != "Authorization":
            unsigned.headers.add_header(name, value)
    return request.headers["Authorization"], request.headers["X-Amz-Date"], signer.canonical_request(unsigned)


requests = []
while len(requests) < arguments.requests:
    r = random_request()
    # A later day, region or secret every few requests only: the cached key is used, too.
    if requests and rng.random() < 0.5:
        for key in ("access_key", "secret_key", "token", "region", "service", "time"):
            r[key] = requests[-1][key]
    requests.append(r)
output = subprocess.run([CLI], input="".join(json.dumps(r) + "\n" for r in requests).encode(), stdout=subprocess.PIPE,
                        check=True).stdout.decode().splitlines()
assert len(output) == len(requests), f"{len(output)} answers to {len(requests)} requests"
differ = 0
for r, line in zip(requests, output):
    ours = json.loads(line)
    authorization, amz_date, canonical = sign_with_botocore(r)
    if (ours["authorization"], ours["amz_date"], ours["canonical_request"]) != (authorization, amz_date, canonical):
        differ += 1
        if differ <= 3:
            print(f"differs: {json.dumps(r)}\n--- botocore {amz_date}\n{canonical}\n{authorization}\n--- ours "
                  f"{ours['amz_date']}\n{ours['canonical_request']}\n{ours['authorization']}")
print(f"sigv4: {len(requests)} requests, {differ} signed differently from botocore {botocore.__version__}")
sys.exit(1 if differ else 0)
