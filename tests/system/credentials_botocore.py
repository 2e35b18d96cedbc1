#!/usr/bin/env python3
"""Our credential loading against botocore's, over tables of files and environments.

    python3 tests/system/credentials_botocore.py --build build [--cases 400 | --cases 0] [--seed 1]

Where botocore finds static keys, ours must be the same keys, token and region; where botocore fails, finds nothing or
uses a source that we do not have yet, ours must be an error. The few intended differences are listed in DIFFERENT.
There are some 3,400 combinations; a random part of them is compared unless --cases is 0. Exit status 77 (skipped) when
botocore is missing.
"""
import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile

try:
    import botocore
    import botocore.session
except ImportError:
    print("skipped: python3 has no botocore")
    sys.exit(77)

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--build", required=True, help="meson's build directory")
parser.add_argument("--cases", type=int, default=400)
parser.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
CLI = os.path.join(arguments.build, "tests", "system", "credentials_cli")


def keys(name, *more):
    return "\n".join([f"aws_access_key_id = ID{name}", f"aws_secret_access_key = secret/{name}", *more]) + "\n"


CREDENTIALS = {
    "none": None,
    "empty": "",
    "default": "[default]\n" + keys("CD"),
    "both": "[default]\n" + keys("CD", "region = eu-west-3") + "\n[a]\n" + keys("CA", "aws_session_token = tokenCA"),
    "old-token": "[a]\n" + keys("CA", "aws_security_token=old"),
    "comments": "# one\n; two\n[default]\n# three\n" + keys("CD") + "\n\n  # four\n[a]\n" + keys("CA"),
    "crlf": ("[default]\n" + keys("CD") + "[a]\n" + keys("CA")).replace("\n", "\r\n"),
    "upper": "[a]\nAWS_ACCESS_KEY_ID=IDU\nAws_Secret_Access_Key=secretU\n",
    "tight": "[a]\naws_access_key_id=IDT\naws_secret_access_key=a=b=c\naws_session_token=t==\n",
    "indented": "[a]\n  aws_access_key_id = IDI\n  aws_secret_access_key = secretI\n",
    "nested": "[a]\ns3 =\n  aws_access_key_id = no\n  x = y\n" + keys("CN"),
    "half": "[a]\naws_access_key_id = IDH\n[default]\n" + keys("CD"),
    "no-section": keys("X"),
    "garbage": "[default]\n" + keys("CD") + "just words\n",
    "duplicate-section": "[a]\n" + keys("1") + "[a]\n" + keys("2"),
    "duplicate-key": "[a]\n" + keys("1") + "aws_access_key_id = again\n",
    "profile-prefix": "[profile a]\n" + keys("P"),
}
CONFIG = {
    "none": None,
    "default": "[default]\n" + keys("GD", "region = us-west-2"),
    "a": "[profile a]\n" + keys("GA", "region = ap-south-1") + "[default]\nregion = us-west-1\n",
    "quoted": '[profile "a"]\n' + keys("GQ"),
    "bare": "[a]\n" + keys("GB"),
    "regions": "[default]\nregion = eu-north-1\n[profile a]\nregion = sa-east-1\noutput = json\n",
    "nested": "[profile a]\nregion = eu-west-2\ns3 =\n    max_concurrent_requests = 20\n    region = wrong\n[sso-session x]\nsso_region = us-east-1\nsso_start_url = https://x\n[services y]\nfirehose =\n  endpoint_url = http://z\n",
    "role": "[profile a]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = default\n[default]\n" + keys("GD"),
    "process": "[profile a]\ncredential_process = /bin/false\n",
    "process-keys": "[profile a]\n" + keys("GP") + "credential_process = /bin/false\n",
    "garbage": "[default\nregion = x\n",
}
ENVIRONMENT = {
    "none": {},
    "keys": {"AWS_ACCESS_KEY_ID": "IDE", "AWS_SECRET_ACCESS_KEY": "secretE"},
    "token": {"AWS_ACCESS_KEY_ID": "IDE", "AWS_SECRET_ACCESS_KEY": "secretE", "AWS_SESSION_TOKEN": "tokenE"},
    "old-token": {"AWS_ACCESS_KEY_ID": "IDE", "AWS_SECRET_ACCESS_KEY": "secretE", "AWS_SECURITY_TOKEN": "oldE"},
    "half": {"AWS_ACCESS_KEY_ID": "IDE"},
    "profile": {"AWS_PROFILE": "a"},
    "profile-keys": {"AWS_PROFILE": "a", "AWS_ACCESS_KEY_ID": "IDE", "AWS_SECRET_ACCESS_KEY": "secretE"},
    "region": {"AWS_DEFAULT_REGION": "us-gov-west-1"},
    "empty": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": ""},
}
STATIC = ("env", "shared-credentials-file", "config-file")

# (why, predicate over the case's names): there botocore's answer is not ours by design.
DIFFERENT = [
    # botocore reads no file before environment keys are found good; we want the profile's region too and say at once
    # that a file is broken.
    ("broken file beside environment keys",
     lambda c: c["env"] in ("keys", "token", "old-token", "profile-keys") and not c["profile"]
     and (c["credentials"] in ("no-section", "garbage") or c["config"] == "garbage"
          or (c["env"] == "profile-keys" and c["credentials"].startswith("duplicate")))),
    # An empty variable is an absent one for us; botocore looks for a profile without a name.
    ("empty AWS_PROFILE", lambda c: c["env"] == "empty" and not c["profile"]),
    # botocore refuses a whole file for a double section in any profile; we only look at the chosen one.
    ("duplicates in another profile",
     lambda c: c["credentials"].startswith("duplicate") and not (c["profile"] == "a" or "profile" in c["env"])),
]


def botocore_answer(home, profile, environment):
    old = dict(os.environ)
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(environment, HOME=home, AWS_EC2_METADATA_DISABLED="true")
    try:
        session = botocore.session.Session(profile=profile or None)
        credentials = session.get_credentials()
        if credentials is None:
            return {"error": "none"}
        if credentials.method not in STATIC:
            return {"error": f"method {credentials.method}"}
        return {"access_key": credentials.access_key, "secret_key": credentials.secret_key,
                "token": credentials.token or "", "region": session.get_config_variable("region") or ""}
    except Exception as error:  # every kind of failure is one answer here
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        os.environ.clear()
        os.environ.update(old)


def our_answer(home, profile, environment):
    clean = {n: v for n, v in os.environ.items() if not n.startswith("AWS_")}
    output = subprocess.run([CLI, profile], env={**clean, **environment, "HOME": home}, stdout=subprocess.PIPE,
                            check=True).stdout
    return json.loads(output)


compared = agreed_errors = excepted = 0
failures = []
with tempfile.TemporaryDirectory() as home:
    os.mkdir(os.path.join(home, ".aws"))
    cases = list(itertools.product(CREDENTIALS, CONFIG, ENVIRONMENT, ["", "a"]))
    if arguments.cases > 0:
        cases = random.Random(arguments.seed).sample(cases, min(arguments.cases, len(cases)))
    for credentials_name, config_name, environment_name, profile in cases:
        for name, content in (("credentials", CREDENTIALS[credentials_name]), ("config", CONFIG[config_name])):
            path = os.path.join(home, ".aws", name)
            if os.path.exists(path):
                os.remove(path)
            if content is not None:
                with open(path, "w", newline="") as file:
                    file.write(content)
                os.chmod(path, 0o600)
        environment = ENVIRONMENT[environment_name]
        case = {"credentials": credentials_name, "config": config_name, "env": environment_name, "profile": profile}
        theirs = botocore_answer(home, profile, environment)
        ours = our_answer(home, profile, environment)
        compared += 1
        if "error" in theirs and "error" in ours:
            agreed_errors += 1
            continue
        if theirs == {key: ours.get(key) for key in theirs}:
            continue
        if any(predicate(case) for _, predicate in DIFFERENT):
            excepted += 1
            continue
        failures.append((case, theirs, ours))
for case, theirs, ours in failures[:10]:
    print(f"differs: {case}\n  botocore: {theirs}\n  ours:     {ours}")
print(f"credentials: {compared} cases, {len(failures)} differ from botocore {botocore.__version__}, "
      f"{agreed_errors} are errors on both sides, {excepted} differ by design")
sys.exit(1 if failures else 0)
