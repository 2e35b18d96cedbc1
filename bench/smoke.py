#!/usr/bin/env python3
"""Runs a bench in its short form and reads what it prints: each line is an object of a metric, or a note.

A metric has `bench`, `metric`, `value`, `unit`, `floor` and `ratio`, and some benches have more (MORE). Numbers are finite. Floor
and ratio are both null, or the ratio is value / floor, of rates (a unit that ends in /s) floor / value, as exactly as the digits
allow that are printed. Figures are not judged: the sizes are too small for that."""

import argparse
import decimal
import json
import subprocess
import sys

MEMBERS = ["bench", "metric", "value", "unit", "floor", "ratio"]
MORE = {
    "codecs": ["best", "rounds", "wire_bytes", "json_bytes", "peer", "peer_value"],
    "path": ["low", "high", "runs", "mode", "durability", "compression", "counted"],
}
TEXTS = ["bench", "metric", "unit", "peer", "mode", "durability", "compression", "counted"]


class Wrong(Exception):
    """What is wrong with a line."""


def no_constant(name):
    raise Wrong(f"{name} is no number")


def is_number(value):
    return isinstance(value, decimal.Decimal)


def interval(number):
    """The least and the most that was rounded to it."""
    half = decimal.Decimal((0, (5,), number.as_tuple().exponent - 1))
    return number - half, number + half


def check_ratio(line):
    floor, ratio = line["floor"], line["ratio"]
    if floor is None and ratio is None:
        return
    if not is_number(floor) or not is_number(ratio):
        raise Wrong("floor and ratio are not both there")
    over, under = (floor, line["value"]) if line["unit"].endswith("/s") else (line["value"], floor)
    (over_low, over_high), (under_low, under_high) = interval(over), interval(under)
    if under_low <= 0 or over_low < 0:
        raise Wrong("value and floor are too small, or have too few digits, for a ratio")
    low, high = interval(ratio)
    near = decimal.Decimal(1 + 1e-9)  # of binary fractions
    if high * near < over_low / under_high or low > over_high / under_low * near:
        raise Wrong(f"the ratio is not {over} / {under}")


def check_line(bench, text):
    """The line's metric with its floor; None of a note."""
    line = json.loads(text, parse_float=decimal.Decimal, parse_int=decimal.Decimal, parse_constant=no_constant)
    if not isinstance(line, dict) or line.get("bench") != bench:
        raise Wrong(f"it is no object of bench {bench}")
    if "note" in line:
        if sorted(line) != ["bench", "note"] or not isinstance(line["note"], str):
            raise Wrong("a note has more than its text")
        return None
    if [member for member in line if member not in MORE.get(bench, [])] != MEMBERS:
        raise Wrong(f"its members are {list(line)}")
    if not line["metric"] or not isinstance(line["metric"], str) or not line["unit"] or not isinstance(line["unit"], str):
        raise Wrong("metric and unit are texts")
    for member, value in line.items():
        if member not in TEXTS and not is_number(value) and (value is not None or member not in ("floor", "ratio")):
            raise Wrong(f"{member} is no number")
    check_ratio(line)
    return line["metric"], line["floor"]


def check_lines(bench, lines, expected):
    floors = {}
    for text in lines:
        try:
            metric = check_line(bench, text)
            if metric is not None and metric[0] in floors:
                raise Wrong("the metric is there twice")
        except (Wrong, ValueError) as why:
            sys.exit(f"smoke: {why}: {text}")
        if metric is not None:
            floors[metric[0]] = metric[1]
    if not floors:
        sys.exit(f"smoke: {bench} has printed no metric")
    for name in expected:
        if floors.get(name) is None:
            sys.exit(f"smoke: {bench} has not printed {name} with its floor, but {' '.join(floors)}")


def main():
    parser = argparse.ArgumentParser(prog="smoke", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expect", action="append", default=[], metavar="METRIC", help="it must be there, with a floor")
    parser.add_argument("bench", help="its name")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run")
    options = parser.parse_args()
    done = subprocess.run(options.command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode != 0:
        sys.exit(f"smoke: {options.bench} ended with {done.returncode}")
    check_lines(options.bench, done.stdout.splitlines(), options.expect)


if __name__ == "__main__":
    main()
