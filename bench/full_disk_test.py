#!/usr/bin/env python3
"""usage: full_disk_test.py BUILD: bench/journal and bench/router where the journal can make no segment any more.

They say so and end with 1 within seconds, and leave nothing behind. Two ways to get there: their directory is removed while they
run, and, where file systems may be mounted (unshare), a tmpfs has room for one segment only."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

LONG = {"journal": ["--events", "5000000"], "router": ["--rounds", "100"]}
# A mount of its own, which goes with the process. Status 77: not allowed here.
ON_TMPFS = ["unshare", "--mount", "--map-root-user", "sh", "-c",
            'mount -t tmpfs -o size=48m bench "$1" || exit 77; "$2" --json --smoke --directory "$1"; status=$?; ls "$1"; exit $status', "sh"]


def fail(what):
    print(f"FAIL: {what}")
    sys.exit(1)


def start(command):
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return sum(map(int, stat.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def remove_made(name, process, folder):
    """What the bench has made, in the middle of its work: half a second of CPU after a segment of its journal is there."""
    deadline, begun = time.monotonic() + 60, None
    while begun is None or cpu_s(process.pid) - begun < 0.5:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            fail(f"bench/{name} has not begun: {process.communicate()[1][-1000:]}")
        if begun is None and list(folder.glob("*/**/*.segment")):
            begun = cpu_s(process.pid)
        time.sleep(0.01)
    while os.listdir(folder):
        shutil.rmtree(folder / os.listdir(folder)[0], ignore_errors=True)


def finish(what, process, words):
    """It ends with 1 and has said this."""
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        fail(f"{what}: it does not end: {process.communicate()[1][-1000:]}")
    if process.returncode != 1 or words not in errors:
        fail(f"{what}: status {process.returncode}: {errors[-1000:]}")


def check(benches, folder, started):
    for bench, flags in LONG.items():
        (folder / bench).mkdir()
        started[bench] = start([benches / bench, "--json", *flags, "--directory", folder / bench])
    for bench, process in started.items():
        remove_made(bench, process, folder / bench)
    (folder / "mount").mkdir()
    mounted = start([*ON_TMPFS, folder / "mount", benches / "journal"])
    for bench, process in started.items():
        finish(f"bench/{bench} without its directory", process, f"bench/{bench}: the journal cannot go on")
        if os.listdir(folder / bench):
            fail(f"bench/{bench} has left {os.listdir(folder / bench)}")
    started["mounted"] = mounted
    said, errors = mounted.communicate(timeout=60)
    if mounted.returncode == 77 or "unshare" in errors:
        print("without a tmpfs: mounting is not allowed here")
    elif mounted.returncode != 1 or "No space left on device" not in errors:
        fail(f"on a full tmpfs: status {mounted.returncode}: {errors[-1000:]}")
    elif len(said.splitlines()) != 1 or "on a tmpfs" not in said:
        fail(f"on a full tmpfs it has said, or left: {said}")


def main():
    started = {}
    with tempfile.TemporaryDirectory(prefix="sendring-full-") as name:
        try:
            check(pathlib.Path(sys.argv[1]) / "bench", pathlib.Path(name), started)
        finally:
            for process in started.values():
                process.kill()  # nothing where it has ended
    print("ok")


main()
