#!/usr/bin/env python3
"""usage: report_test.py: report.py with benches whose lines are known: what scripts/bench makes of them, in seconds.

That the real benches print such lines is what the other tests of the suite are for."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

REPORT = pathlib.Path(__file__).resolve().with_name("report.py")
# Each run of a bench prints the next of these. The first metric's ratios are 2, 4, 3; the floor moves with the machine.
LINES = {
    "publish": [
        ['{"bench":"publish","metric":"publish_ns","value":%d,"unit":"ns/event","floor":%d,"ratio":%d}' % line,
         '{"bench":"publish","metric":"lanes","value":3,"unit":"lanes","floor":null,"ratio":null}']
        for line in [(200, 100, 2), (4800, 1200, 4), (3000, 1000, 3)]
    ],
    "codecs": [
        ['{"bench":"codecs","metric":"decode<&\\"_ns","value":5.25,"unit":"ns","floor":5,"ratio":1.05,"peer":"other","peer_value":50}',
         '{"bench":"codecs","metric":"slow_ns","value":500,"unit":"ns","floor":5,"ratio":100}',
         '{"bench":"codecs","note":"msgpack-c is not there"}']
    ] * 3,
    "ring": [['{"bench":"ring","metric":"sweep_ns","value":70,"unit":"ns","floor":null,"ratio":null}']] * 3,
    "rules": [["no JSON"]] * 3,
    "firehose": [['{"bench":"firehose","metric":"build_hash_sign","value":8,"unit":"ms/MB","floor":4,"ratio":2}',
                  '{"bench":"firehose","metric":"gzip_build_hash","value":9,"unit":"ms/MB","floor":3,"ratio":3}']] * 3,
    "metrics": [['{"bench":"metrics","metric":"hash_and_add","value":8,"unit":"ns","floor":null,"ratio":null}',
                 '{"bench":"metrics","metric":"count_two_tags_ns","value":60,"unit":"ns","floor":8,"ratio":7.5}']] * 3,
    "path": [['{"bench":"path","metric":"cpu_s","value":2,"unit":"s","floor":1,"ratio":2}']],
}


def fail(what):
    print(f"FAIL: {what}")
    sys.exit(1)


def check(what, good):
    if not good:
        fail(what)


def make_build(folder):
    (folder / "bench").mkdir()
    for name, runs in LINES.items():
        for number, lines in enumerate(runs):
            (folder / f"{name}.{number}").write_text("\n".join(lines) + "\n", encoding="utf-8")
        program = folder / "bench" / name
        program.write_text(f'#!/bin/sh\n[ "$1" = --json ] || exit 64\nat=$(cat {folder}/{name}.at 2>/dev/null || echo 0)\n'
                           f"cat {folder}/{name}.$at\necho $((at + 1)) >{folder}/{name}.at\n"
                           f'echo "$*" >{folder}/{name}.arguments\n', encoding="utf-8")
        program.chmod(0o755)
    for name, text in [("latency", "echo the disk is full >&2\nexit 3\n"),
                       ("transport", f"echo it waits >&2\necho $$ >{folder}/transport.pid\nexec sleep 600\n")]:
        broken = folder / "bench" / name
        broken.write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        broken.chmod(0o755)


def report(folder, *arguments):
    return subprocess.run([sys.executable, REPORT, "--build", folder, *arguments],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)


def check_report(folder):
    done = report(folder, "publish", "codecs", "ring", "--output", folder / "out", "--rounds", "3", "--json", folder / "values")
    check(f"status {done.returncode}: {done.stderr}", done.returncode == 0)
    check("the benches do not take turns", re.findall(r"of 9: (\w+), run (\d)", done.stderr)[:4] ==
          [("publish", "1"), ("codecs", "1"), ("ring", "1"), ("publish", "2")])
    text = (folder / "out/benchmarks.md").read_text(encoding="utf-8")
    for line in ["| `publish_ns` | 3,000 | 200 to 4,800 | ns/event | 1,000 | 3 |", "| `lanes` | 3 | 3 to 3 | lanes |  |  |",
                 '| `decode<&"_ns` | 5.25 | 5.25 to 5.25 | ns | 5 | 1.05 | other: 50 |', "| `sweep_ns` | 70 | 70 to 70 | ns |  |  |",
                 "![publish: ratios](benchmarks/publish.svg)", "3 runs of each bench", "\n- msgpack-c is not there\n\n| metric |"]:
        check(f"benchmarks.md lacks {line!r}:\n{text}", line in text)
    check(f"said: {done.stdout}", done.stdout.count("bench: codecs: msgpack-c is not there\n") == 1)
    check("a chart of nothing", "ring.svg" not in text and not (folder / "out/benchmarks/ring.svg").exists())
    for name, label in [("publish", "publish_ns"), ("codecs", 'decode<&"_ns')]:
        chart = xml.etree.ElementTree.parse(folder / "out/benchmarks" / f"{name}.svg").getroot()
        labels = ["".join(element.itertext()).strip() for element in chart.iter("{http://www.w3.org/2000/svg}text")]
        check(f"{name}.svg lacks the label {label}: {labels}", label in labels)
    values = [json.loads(line) for line in (folder / "values").read_text(encoding="utf-8").splitlines()]
    members = ("metric", "value", "ratio", "ratio_low", "ratio_high")
    check(f"--json wrote {values}", [tuple(value[member] for member in members) for value in values][:2] ==
          [("publish_ns", 3000, 3, 2, 4), ("lanes", 3, None, None, None)])


def check_printed(folder):
    (folder / "codecs.at").unlink()
    done = report(folder, "codecs", "--rounds", "1")
    check(f"printed: {done.returncode} {done.stdout}", done.returncode == 0 and done.stdout.startswith("\n## codecs\n") and
          "| `slow_ns` | 500 | 500 to 500 | ns | 5 | 100 |" in done.stdout and "benchmarks" not in done.stdout)


def check_references(folder):
    """What is no floor is not called one."""
    done = report(folder, "firehose", "metrics", "--output", folder / "references", "--rounds", "1")
    check(f"references: {done.returncode} {done.stderr}", done.returncode == 0)
    text = (folder / "references/benchmarks.md").read_text(encoding="utf-8")
    floors, _, rest = text.partition("The reference, where it is not the floor of the same bytes: ")
    references, _, metrics = rest.partition("## metrics\n")
    for part, words in [(floors, ("| unit | floor | ratio |", "`build_hash_sign`")), (references, ("| unit | reference | ratio |", "`gzip_build_hash`")),
                        (metrics, ("The reference, `hash_and_add`: ", "| unit | reference | ratio |", "`hash_and_add`", "`count_two_tags_ns`"))]:
        check(f"{words} are not together in:\n{text}", all(word in part for word in words))
    check(f"a floor of metrics:\n{metrics}", "| floor |" not in metrics and "| floor |" not in references)
    for name, labels in [("firehose", ("build_hash_sign", "gzip_build_hash*", "bench/firehose: times its floor (*: reference) in the same run")),
                         ("metrics", ("count_two_tags_ns", "bench/metrics: times its reference in the same run"))]:
        chart = (folder / "references/benchmarks" / f"{name}.svg").read_text(encoding="utf-8")
        check(f"{name}.svg lacks one of {labels}", all(f">{label}<" in chart for label in labels))


def check_variant(folder):
    done = report(folder, "path-gzip", "--rounds", "1")
    check(f"a variant: {done.returncode} {done.stdout}{done.stderr}", done.returncode == 0 and done.stdout.startswith(
        "\n## path-gzip\n") and "(`build/release/bench/path --json --runs 1 --compression gzip`)" in done.stdout)
    given = (folder / "path.arguments").read_text(encoding="utf-8")
    check(f"a variant's arguments: {given}", given == "--json --runs 1 --compression gzip\n")
    (folder / "path.at").unlink()
    done = report(folder, "path-counted", "--rounds", "1")
    given = (folder / "path.arguments").read_text(encoding="utf-8")
    check(f"the counted variant's arguments: {given}", done.returncode == 0 and given == "--json --runs 1 --counted\n")


def check_rate(folder):
    """The path's alone: no other bench has one."""
    (folder / "path.at").unlink()
    (folder / "publish.at").unlink()
    done = report(folder, "publish", "path-gzip", "--rounds", "1", "--rate", "100000")
    check(f"at a rate: {done.returncode} {done.stdout}{done.stderr}", done.returncode == 0 and
          "(`build/release/bench/path --json --runs 1 --compression gzip --rate 100000`)" in done.stdout)
    for name, wanted in [("path", "--json --runs 1 --compression gzip --rate 100000\n"), ("publish", "--json\n")]:
        given = (folder / f"{name}.arguments").read_text(encoding="utf-8")
        check(f"{name}'s arguments at a rate: {given}", given == wanted)


def check_against(folder):
    other = folder / "other"
    (other / "bench").mkdir(parents=True)
    program = other / "bench" / "publish"
    program.write_text('#!/bin/sh\necho \'{"bench":"publish","metric":"publish_ns","value":1000,"unit":"ns/event"}\'\n', encoding="utf-8")
    program.chmod(0o755)
    (folder / "publish.at").unlink()
    done = report(folder, "publish", "--against", other, "--rounds", "3")
    check(f"beside another build: {done.returncode} {done.stdout}{done.stderr}", done.returncode == 0 and
          "| publish | `publish_ns` | 3,000 | 1,000 | ns/event | 3 |\n" in done.stdout and "`lanes`" not in done.stdout)


def check_failed(folder):
    """One that fails and one that hangs cost nothing of the others."""
    for name in ("ring", "publish"):
        (folder / f"{name}.at").unlink()
    begun = time.monotonic()
    done = report(folder, "ring", "latency", "transport", "publish", "--output", folder / "failed", "--rounds", "3", "--timeout", "1")
    check(f"status {done.returncode}: {done.stderr}", done.returncode == 1 and "Traceback" not in done.stderr)
    check(f"it took {time.monotonic() - begun:.0f} s", time.monotonic() - begun < 15)
    text = (folder / "failed/benchmarks.md").read_text(encoding="utf-8")
    for part in ["| `sweep_ns` | 70 | 70 to 70 | ns |", "| `publish_ns` | 3,000 | 200 to 4,800 | ns/event | 1,000 | 3 |",
                 "## latency\n", "**Failed:** run 1: bench/latency ended with 3:\n\n```\nthe disk is full\n```",
                 "**Failed:** run 1: bench/transport took longer than 1 s and was ended:\n\n```\nit waits\n```"]:
        check(f"benchmarks.md lacks {part!r}:\n{text}", part in text)
    check(f"run again: {text}", text.count("**Failed:**") == 2)
    check(f"said last: {done.stderr}", done.stderr.endswith("bench: failed: latency transport\n"))
    pid = (folder / "transport.pid").read_text(encoding="utf-8").strip()
    check("what hung is still there", not pathlib.Path(f"/proc/{pid}").exists())


def check_refused(folder, status, words, *arguments):
    done = report(folder, *arguments)
    check(f"{arguments}: status {done.returncode}, {done.stderr}",
          done.returncode == status and words in done.stderr and "Traceback" not in done.stderr)


def main():
    with tempfile.TemporaryDirectory(prefix="sendring-report-") as name:
        folder = pathlib.Path(name)
        make_build(folder)
        check_report(folder)
        check_printed(folder)
        check_references(folder)
        check_variant(folder)
        check_rate(folder)
        check_against(folder)
        check_failed(folder)
        check_refused(folder, 2, "--against writes no files", "publish", "--against", folder, "--json", folder / "values")
        check_refused(folder, 2, "--rate begins at 1", "path", "--rate", "0")
        check_refused(folder, 1, "a line that is no JSON: 'no JSON'", "rules")
        check_refused(folder, 1, "bench/latency ended with 3:\nthe disk is full", "latency")
        check_refused(folder, 1, "is not there: build it", "journal")
        check_refused(folder, 2, "no such bench: nothing", "nothing")
    print("ok")


main()
