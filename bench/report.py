#!/usr/bin/env python3
"""Runs the benches of a build and writes what they said: docs/benchmarks.md, and a chart of each bench as SVG.

Every bench is run --rounds times, and they take turns, so that a slow minute of a shared machine falls on all of them.
Of each metric the median counts, and the lowest and highest value stand beside it. Ratios are medians of each run's own
ratio: value and floor of one run belong together. Charts are drawn by gnuplot (Debian: gnuplot-nox).

A bench that fails, or takes longer than --timeout, is not run again; the report says so in its place, all others are written,
and the exit status is 1.
"""

import argparse
import datetime
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
# In the order of an event's way; what each asks.
BENCHES = {
    "publish": "What does one publish cost a producer?",
    "ring": "What does the protocol of a lane cost?",
    "lane": "What does publishing through a lane cost, beside other ways to another process?",
    "latency": "How long is a record underway from a producer's process to the consumer's, at a fixed rate?",
    "codecs": "What does it cost to read an event and to write it as SES does?",
    "rules": "What do configuration sets and filters cost?",
    "journal": "What does it cost to journal an event, and to read the journal again?",
    "router": "What does an event cost the router's core: out of its lane, validated, matched, journalled?",
    "metrics": "What does a CloudWatch count cost?",
    "firehose": "What does a PutRecordBatch body cost, built, hashed and signed?",
    "transport": "What do bytes over TLS cost?",
    "path": "What does an event cost on the whole path?",
    "path-gzip": "What does it cost there with records that are gzip files?",
    "path-host": "What does it cost there with durability: host, safe from a power cut?",
    "path-counted": "What does it cost there when it is counted for CloudWatch as well?",
    "arrival": "How long after its publish is an event at the endpoint, when there is little to do?",
    "idle": "What does a router cost that has nothing to do, little, or the same in bursts?",
    "recovery": "How long until a backlog is drained, and until a router that was killed is ready again?",
    "scaling": "What do more shards and workers bring?",
    "peers": "What do Fluent Bit and Vector take for the same events to the same endpoint?",
}
# Those that are another one with options; a timed run is enough where each bench has several.
VARIANTS = {
    "path": ("path", ["--runs", "1"]),
    "path-gzip": ("path", ["--runs", "1", "--compression", "gzip"]),
    "path-host": ("path", ["--runs", "1", "--durability", "host"]),
    "path-counted": ("path", ["--runs", "1", "--counted"]),
}


# What stands as a floor in a bench's lines and is none of the same bytes: how the metrics begin, and what it is.
REFERENCES = {
    "router": (("turn_of_128_ns_per_event_500_idle_lanes",), "The reference: the same turns without idle lanes."),
    "metrics": (("",), "The reference, `hash_and_add`: hashing two values that are at hand and adding to one counter of a table that "
                       "needs no search."),
    "firehose": (("gzip_", "sha256_cold", "hash_while_hot"),
                 "The reference, where it is not the floor of the same bytes: of `gzip_build_hash` and `gzip_body_build` igzip of a record's "
                 "lines in one go, base64 and SHA-256 of what that gave; of `gzip_level_0` and `gzip_ratio` level 1 and level 0; of "
                 "`sha256_cold` one body hashed again and again; of `hash_while_hot` building and hashing one after the other."),
    "arrival": (("",), "The reference: the linger that was set; without one 1 ms."),
    "idle": (("",), "The reference: as many events at the same mean rate, evenly, in runs that take turns with the bursts."),
    "recovery": (("drain_",), "The reference: as many events at `steady_events_per_s`, the best second of the same router and sink before "
                              "anything was away."),
    "scaling": (("",), "The reference: one shard and one worker in the same run; of a rate N times theirs, N the larger of the two numbers, "
                       "but at most the cores."),
    "peers": (("",), "The reference: sendring's own value of the same run."),
}
GRACE_S = 20  # of a bench that took too long, to remove what it has made


class Failed(Exception):
    """Something that the user should read; no traceback."""


def arguments():
    parser = argparse.ArgumentParser(prog="bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"only these: {' '.join(BENCHES)} (all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="runs of each bench (5)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER",
                        help="for benchmarks.md and benchmarks/*.svg (docs; of named benches tables are only printed)")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also writes every value, an object a line")
    parser.add_argument("--rate", type=int, metavar="R",
                        help="of the path benches: events a second (80 %% of what a warm-up finds). CPU an event is comparable at one rate only: for "
                             "--against, one that both builds reach")
    parser.add_argument("--timeout", type=float, default=900, metavar="S", help="seconds that a run of a bench may take (900)")
    parser.add_argument("--smoke", action="store_true", help="the benches' smallest sizes: does all of it work?")
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build/release", metavar="FOLDER",
                        help="a release build with its benches (build/release)")
    parser.add_argument("--against", type=pathlib.Path, metavar="FOLDER",
                        help="another build: prints a table of both, whose runs take turns, and writes nothing")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in BENCHES]
    if unknown:
        parser.error(f"no such bench: {' '.join(unknown)} (there are: {' '.join(BENCHES)})")
    if options.rounds < 1:
        parser.error("--rounds begins at 1")
    if options.rate is not None and options.rate < 1:
        parser.error("--rate begins at 1")
    if options.against is not None and (options.output is not None or options.json is not None):
        parser.error("--against writes no files: it goes with neither --output nor --json")
    if options.output is None and not options.names and options.against is None:
        options.output = TOP / "docs"
    options.names = options.names or list(BENCHES)
    options.notes = {}
    options.failures = {}  # of a bench: what to say about each
    return options


def program_of(options, name):
    """The bench that it is, and with which options."""
    bench, extra = VARIANTS.get(name, (name, []))
    return bench, extra + (["--rate", str(options.rate)] if bench == "path" and options.rate is not None else [])


def command_of(options, build, name):
    """A bench is a program of the build, or a script beside this one."""
    name, extra = program_of(options, name)
    script = TOP / "bench" / f"{name}.py"
    if script.exists():
        return [sys.executable, script, "--build", build, "--json"]
    program = build / "bench" / name
    if not program.exists():
        raise Failed(f"{program} is not there: build it with `ninja -C {build}`")
    return [program, "--json", *extra]


def run_command(command, timeout_s):
    """(status, or None after too long; what it said; its errors). It and what it has started are gone then."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, errors = process.communicate(timeout=timeout_s)
            return process.returncode, said, errors
        except subprocess.TimeoutExpired:
            said, errors = end(process)
            return None, said, errors
        except BaseException:
            end(process)
            raise


def end(process):
    """Ends a bench; what it said until then."""
    process.send_signal(signal.SIGINT)  # benches that run a daemon end it then, and clean up
    try:
        return process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its group is its own
        return process.communicate()


def last_lines(text):
    return "\n".join(text.strip()[-2000:].splitlines()[-20:])


def run_bench(options, name, build):
    """The objects that one run of a bench prints."""
    command = command_of(options, build, name) + (["--smoke"] if options.smoke else [])
    status, said, errors = run_command(command, options.timeout)
    if status is None:
        raise Failed(f"bench/{name} took longer than {options.timeout:g} s and was ended:\n{last_lines(errors or said)}")
    if status != 0:
        raise Failed(f"bench/{name} ended with {status}:\n{last_lines(errors or said)}")
    lines = []
    for line in said.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError as why:
            raise Failed(f"bench/{name} printed a line that is no JSON: {line!r} ({why})") from why
    for line in lines:
        if "note" in line:
            options.notes.setdefault(name, {})[line["note"]] = True  # once, however often it was run
    return [line for line in lines if "metric" in line]


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def summarize(runs):
    """Of the objects of all runs of a bench, one for each metric, in the order of the first run."""
    metrics = {}
    for run in runs:
        for line in run:
            metrics.setdefault(line["metric"], []).append(line)
    summary = []
    for metric, lines in metrics.items():
        values = [line["value"] for line in lines if line["value"] is not None]
        if not values:
            continue
        ratios = [line["ratio"] for line in lines if line.get("ratio") is not None]
        summary.append({
            "metric": metric,
            "unit": lines[0]["unit"],
            "value": statistics.median(values),
            "low": min(values),
            "high": max(values),
            "floor": median([line.get("floor") for line in lines]),
            "ratio": median(ratios),
            "ratio_low": min(ratios, default=None),
            "ratio_high": max(ratios, default=None),
            "peer": lines[0].get("peer"),
            "peer_value": median([line.get("peer_value") for line in lines]),
        })
    return summary


def number(value):
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine():
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} CPUs ({model}), Linux {os.uname().release}"


def revision():
    done = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or "unknown revision"


def quoted(text):
    """A text for gnuplot."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def draw(folder, name, summary):
    """A chart of what has a floor, or a reference: the ratio to it, lowest and highest drawn as whiskers. Returns its file's name."""
    rows = [row for row in summary if row["ratio"]]
    if not rows:
        return None
    data = [f'{at} {row["ratio"]:.6g} {row["ratio_low"]:.6g} {row["ratio_high"]:.6g}' for at, row in enumerate(rows)]
    references = [is_reference(VARIANTS.get(name, (name,))[0], row) for row in rows]
    # Which of both, where a chart has both.
    marks = ["*" if reference and not all(references) else "" for reference in references]
    against = "reference" if all(references) else "floor (*: reference)" if any(references) else "floor"
    ticks = ", ".join(f'{quoted(row["metric"] + mark)} {at}' for at, (row, mark) in enumerate(zip(rows, marks)))
    spread = max(row["ratio"] for row in rows) / min(row["ratio"] for row in rows) > 20
    origin = 0.25 if spread else 0
    script = "\n".join([
        f'set terminal svg size 760,{120 + 26 * len(rows)} background rgb "white" font "sans-serif,12" noenhanced',
        f"set output {quoted(str(folder / (name + '.svg')))}",
        f'set title {quoted("bench/" + name + f": times its {against} in the same run")}',
        f"set yrange [{len(rows) - 0.3}:-0.7]",  # the first on top
        f"set ytics ({ticks})",
        f'set xlabel "value / {against.split()[0]} (1: the {against.split()[0]} itself; for rates the inverse)"',
        "set logscale x 2; set xrange [0.25:*]" if spread else "set xrange [0:*]",
        "set grid xtics",
        "set style fill solid 0.85",
        'set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb "#b03030" lw 1.5 front',
        "unset key",
        "$data << EOD", *data, "EOD",
        f'plot $data using ({origin}):1:({origin}):2:($1-0.32):($1+0.32) '
        'with boxxyerror lc rgb "#3f6fa3", $data using 2:1:3:4 with xerrorbars lc rgb "#202020" pt 0 lw 1.2',
        "",
    ])
    try:
        done = subprocess.run(["gnuplot"], input=script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              check=False)
    except FileNotFoundError as why:
        raise Failed("gnuplot is not there, which draws the charts: install Debian's gnuplot-nox "
                     "(scripts/setup --tests does)") from why
    if done.returncode != 0:
        raise Failed(f"gnuplot could not draw {name}: {done.stderr.strip()[-1000:]}")
    return f"benchmarks/{name}.svg"


def is_reference(name, row):
    beginnings, _ = REFERENCES.get(name, ((), None))
    return row["metric"].startswith(beginnings)


def tables(name, summary):
    """What has a floor, or nothing to compare with; then what has a reference, and what that is. One table where there is no floor."""
    by_reference = [row for row in summary if is_reference(name, row)]
    others = [row for row in summary if not is_reference(name, row)]
    if not any(row["ratio"] for row in by_reference):
        return table(summary, "floor")
    if not any(row["ratio"] for row in others):
        by_reference, others = summary, []
    text = table(others, "floor") + [""] if others else []
    return text + [REFERENCES[name][1], ""] + table(by_reference, "reference")


def table(summary, floor):
    peers = any(row["peer"] for row in summary)
    lines = [f"| metric | median | lowest to highest | unit | {floor} | ratio |" + (" peer |" if peers else ""),
             "|---|---|---|---|---|---|" + ("---|" if peers else "")]
    for row in summary:
        line = (f'| `{row["metric"]}` | {number(row["value"])} | {number(row["low"])} to {number(row["high"])} '
                f'| {row["unit"]} | {number(row["floor"])} | {number(row["ratio"])} |')
        if peers:
            line += f' {row["peer"]}: {number(row["peer_value"])} |' if row["peer"] else " |"
        lines.append(line)
    return lines


def section(options, name, summary, charts):
    """Its lines of benchmarks.md; with a folder for charts also its chart."""
    bench, extra = program_of(options, name)
    program = f"bench/{bench}.py" if (TOP / "bench" / f"{bench}.py").exists() else f"build/release/bench/{bench}"
    text = ["", f"## {name}", "", f"{BENCHES[name]} (`{' '.join([program, '--json', *extra])}`)", ""]
    text += [f"- {note}" for note in options.notes.get(name, [])]
    if summary:
        text += ([""] if name in options.notes else []) + tables(bench, summary)
    chart = None
    try:
        chart = draw(charts, name, summary) if charts is not None else None
    except Failed as why:
        failed(options, name, why)
    for why in options.failures.get(name, []):
        head, _, tail = why.partition("\n")
        text += ["", f"**Failed:** {head}"] + (["", "```", *tail.splitlines(), "```"] if tail else [])
    if chart is not None:
        text += ["", f"![{name}: ratios]({chart})"]
    return text


def write_report(options, summaries, load, seconds):
    charts = options.output / "benchmarks"
    charts.mkdir(parents=True, exist_ok=True)
    text = [
        "# Benchmarks", "",
        f"Written by `scripts/bench{' --smoke' if options.smoke else ''}` on "
        f"{datetime.date.today().isoformat()}: {revision()}, {machine()}; load before it began {load:.1f}; "
        f"{options.rounds} run{'s' if options.rounds > 1 else ''} of each bench, taking turns, {seconds:.0f} s. Machines differ, and this one is shared: "
        "ratios to the floor of the same run are what compares.",
        "",
        "A floor is the least work on the same bytes (the bench's first comment says which); a reference is something else to "
        "compare with, as its table says. A ratio is value to floor, of rates floor to value. In charts the box ends at the "
        "median, whiskers at the lowest and highest run, the red line is the floor or the reference.",
    ]
    for name, summary in summaries.items():
        text += section(options, name, summary, charts)
    path = options.output / "benchmarks.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def run_all(options, builds, start):
    """Of each build the runs of each bench; the builds take turns, too, and each turn begins with another one."""
    runs = [{name: [] for name in options.names} for _ in builds]
    steps = options.rounds * len(options.names)
    for turn in range(options.rounds):
        for name in options.names:
            at = turn * len(options.names) + options.names.index(name) + 1
            print(f"bench: {at} of {steps}: {name}, run {turn + 1} ({time.monotonic() - start:.0f} s)", file=sys.stderr)
            for place in range(len(builds)):
                which = (place + turn) % len(builds)
                if name in options.failures:
                    continue
                try:
                    runs[which][name].append(run_bench(options, name, builds[which]))
                except Failed as why:
                    failed(options, name, f"run {turn + 1}: {why}")
    return runs


def failed(options, name, why):
    """Said at once, and again where its figures would be."""
    print(f"bench: {name}: {why}", file=sys.stderr)
    options.failures.setdefault(name, []).append(str(why))


def compared(ours, theirs):
    """A table of both builds; the last column is what each turn's two values are to each other, their median."""
    text = ["| bench | metric | --build | --against | unit | times --against |", "|---|---|---|---|---|---|"]
    for name, runs in ours.items():
        others = summarize(theirs[name])
        for row in summarize(runs):
            other = next((other for other in others if other["metric"] == row["metric"]), None)
            pairs = zip(values_of(runs, row["metric"]), values_of(theirs[name], row["metric"]))
            ratio = median([one / two for one, two in pairs if one is not None and two])
            if other is not None and ratio is not None:
                text.append(f'| {name} | `{row["metric"]}` | {number(row["value"])} | {number(other["value"])} | {row["unit"]} '
                            f'| {number(ratio)} |')
    return text


def values_of(runs, metric):
    """One of each run; None where it printed none."""
    return [next((line["value"] for line in run if line["metric"] == metric), None) for run in runs]


def main():
    options = arguments()
    if options.smoke:
        options.rounds = min(options.rounds, 2)
    load = os.getloadavg()[0]
    if load > 0.5 and not options.smoke:
        print(f"bench: the machine is not quiet (load {load:.1f}): figures will be those of a busy one", file=sys.stderr)
    builds = [options.build] + ([options.against] if options.against is not None else [])
    start = time.monotonic()
    runs = run_all(options, builds, start)
    if options.against is not None:
        print("\n".join(compared(runs[0], runs[1])))
        return ended(options)
    runs = runs[0]
    summaries = {name: summarize(of_bench) for name, of_bench in runs.items()}
    if options.json is not None:
        with options.json.open("w", encoding="utf-8") as out:
            for name, summary in summaries.items():
                for row in summary:
                    out.write(json.dumps({"bench": name, **row}) + "\n")
    if options.output is None:
        for name, summary in summaries.items():
            print("\n".join(section(options, name, summary, None)))
        return ended(options)
    for name, notes in options.notes.items():
        for note in notes:
            print(f"bench: {name}: {note}")
    path = write_report(options, summaries, load, time.monotonic() - start)
    print(f"bench: {sum(len(summary) for summary in summaries.values())} metrics of {len(summaries)} benches: {path}")
    return ended(options)


def ended(options):
    """The exit status."""
    if options.failures:
        print(f"bench: failed: {' '.join(options.failures)}", file=sys.stderr)
    return 1 if options.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as why:
        print(f"bench: {why}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
