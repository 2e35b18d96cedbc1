"""AWS's own matcher judges our filters: every pattern of tests/data/filters/patterns.txt and a few thousand generated ones against
every event of events.jsonl, in Event Ruler (software.amazon.event.ruler, from Maven Central) and in ours.

    python3 tests/judge/judge.py --build build/release [--generated N] [--seed S] [--write]

--write keeps the verdicts in tests/data/filters/golden.txt, which a unit test replays where there is no Java: one line a pattern,
the verdicts as hexadecimal digits (the first event is the highest bit of the first digit), or "error". Where Java or Maven is
missing, or Maven Central cannot be reached, it says so and ends well."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(ROOT, "tests", "judge")
DATA = os.path.join(ROOT, "tests", "data", "filters")


def leaves(value, path, out):
    """Every value of an event with its path, lists looked into."""
    if isinstance(value, dict):
        for name, inner in value.items():
            leaves(inner, path + [name], out)
    elif isinstance(value, list):
        for inner in value:
            leaves(inner, path, out)
    else:
        out.append((path, value))


class Generator:
    def __init__(self, seed, events):
        self.random = random.Random(seed)
        self.by_event = []
        for event in events:
            found = []
            leaves(event, [], found)
            self.by_event.append([leaf for leaf in found if not (isinstance(leaf[1], str) and len(leaf[1]) > 200)])
        self.all = [leaf for found in self.by_event for leaf in found]

    def text(self, value):
        text = value if isinstance(value, str) else str(value)
        change = self.random.random()
        if change < 0.55:
            return text
        if change < 0.7:
            return text.swapcase()
        if change < 0.85 and text:
            at = self.random.randrange(len(text))
            return text[:at] + self.random.choice("aZ0.@* ") + text[at + 1:]
        other = self.random.choice(self.all)[1]
        return other if isinstance(other, str) else text + "x"

    def part(self, text, at_end):
        length = self.random.randint(1, max(1, min(len(text), 12)))
        return (text[-length:] if at_end else text[:length]) or "a"

    def fold(self, text):
        return "".join(c.upper() if self.random.random() < 0.5 else c.lower() for c in text if ord(c) < 0x250)

    def wildcard(self, text):
        if self.random.random() < 0.15:
            text = self.text(text)
        out, cut = "", False
        for c in text[:40]:
            if self.random.random() < 0.12 and not cut:
                out += "*"
                cut = True
            elif self.random.random() < 0.6 or not cut:
                out += "\\" + c if c in "*\\" else c
                cut = False
        return out + ("*" if len(text) > 40 and not cut else "")

    def number(self, value):
        base = value if isinstance(value, (int, float)) and not isinstance(value, bool) else self.random.randint(-5, 3000)
        if abs(base) > 2 ** 53:
            base = self.random.randint(0, 2 ** 40)
        return self.random.choice([base, base, base + 1, base - 1, base + 0.5, float(base)])

    def numeric(self, value):
        number = self.number(value)
        kind = self.random.randrange(6)
        if kind == 0:
            return ["=", number]
        if kind < 3:
            return [self.random.choice(["<", "<=", ">", ">="]), number]
        return [self.random.choice([">", ">="]), number - self.random.choice([1, 2, 0.25]), self.random.choice(["<", "<="]),
                number + self.random.choice([0, 1, 0.5])]

    def cidr(self, value):
        # Never so wide that the hexadecimal digits Event Ruler makes of addresses could begin like those of a number: it
        # would take numbers for addresses, which we do not follow.
        if isinstance(value, str) and value.count(".") == 3 and value.replace(".", "").isdigit():
            return "%s/%d" % (value, self.random.randint(8, 31))
        if isinstance(value, str) and value.startswith("2001:"):
            return "%s/%d" % (value, self.random.randint(16, 127))
        return self.random.choice(["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32", "::1/127"])

    def anything_but(self, value):
        text, kind = self.text(value), self.random.randrange(7)
        more = [self.text(self.random.choice(self.all)[1]) for _ in range(self.random.randint(0, 2))]
        if kind == 0:
            return text
        if kind == 1:
            return [text] + more
        if kind == 2:
            number = self.number(value)
            return number if self.random.random() < 0.5 else [number, self.number(value)]
        if kind == 3:
            return {"prefix": self.part(text, False) if self.random.random() < 0.5 else [self.part(t, False) for t in [text] + more]}
        if kind == 4:
            return {"suffix": self.part(text, True) if self.random.random() < 0.5 else [self.part(t, True) for t in [text] + more]}
        if kind == 5:
            return {"equals-ignore-case": self.fold(text) if self.random.random() < 0.5 else [self.fold(t) for t in [text] + more]}
        return {"wildcard": self.wildcard(text)}

    def value(self, value):
        kind = self.random.random()
        text = self.text(value)
        if kind < 0.34:
            if isinstance(value, (bool, type(None))) or (isinstance(value, (int, float)) and self.random.random() < 0.8):
                return value
            return text
        if kind < 0.42:
            return {"prefix": self.part(text, False)}
        if kind < 0.50:
            return {"suffix": self.part(text, True)}
        if kind < 0.55:
            return {"equals-ignore-case": self.fold(text)}
        if kind < 0.59:
            return {"prefix": {"equals-ignore-case": self.fold(self.part(text, False))}}
        if kind < 0.63:
            return {"suffix": {"equals-ignore-case": self.fold(self.part(text, True))}}
        if kind < 0.72:
            return {"wildcard": self.wildcard(text)}
        if kind < 0.83:
            return {"anything-but": self.anything_but(value)}
        if kind < 0.88:
            return {"exists": True}
        if kind < 0.95:
            return {"exists": False}
        if kind < 0.98:
            return {"numeric": self.numeric(value)}
        return {"cidr": self.cidr(value)}

    def put(self, pattern, path, value):
        """False: the path is taken, or goes through one that is."""
        for at, name in enumerate(path[:-1]):
            if at and self.random.random() < 0.02 and len(path) - at > 1:
                name = ".".join(path[at:])
                if name in pattern:
                    return False
                pattern[name] = value
                return True
            pattern = pattern.setdefault(name, {})
            if not isinstance(pattern, dict):
                return False
        if path[-1] in pattern:
            return False
        pattern[path[-1]] = value
        return True

    def conjunction(self, near, keys):
        pattern, paths = {}, set()
        for _ in range(keys):
            path, value = self.random.choice(self.by_event[near] if self.random.random() < 0.85 else self.all)
            if self.random.random() < 0.04:
                path = path[:-1] or path
            dotted = ".".join(path)
            if dotted in paths:
                continue
            if self.put(pattern, path, [self.value(value) for _ in range(self.random.choice([1, 1, 1, 2, 3]))]):
                paths.add(dotted)
        return pattern, paths

    def siblings(self, near):
        """Several members below one list: array consistency."""
        path = self.random.choice(self.by_event[near])[0]
        below = {}
        for other, value in self.by_event[near]:
            if len(path) > 1 and other[:len(path) - 1] == path[:-1]:
                below.setdefault(".".join(other), []).append((other, value))
        pattern = {}
        for group in self.random.sample(sorted(below), min(len(below), self.random.randint(1, 4))):
            other, value = self.random.choice(below[group])
            self.put(pattern, other, [self.value(value) if self.random.random() < 0.5 else value])
        return pattern or self.conjunction(near, 1)[0]

    def pattern(self):
        near = self.random.randrange(len(self.by_event))
        kind = self.random.random()
        if kind < 0.5:
            return self.conjunction(near, self.random.choice([1, 1, 2, 3, 4]))[0]
        if kind < 0.8:
            return self.siblings(near)
        pattern, paths = self.conjunction(near, self.random.choice([0, 1, 1, 2]))
        branches = []
        for _ in range(self.random.choice([2, 2, 3])):
            branch, inside = self.conjunction(near, self.random.choice([1, 1, 2]))
            if inside & paths or not branch:
                return pattern or self.siblings(near)
            branches.append(branch)
        pattern["$or"] = branches
        return pattern


def fetch_judge(work):
    """The classpath of Event Ruler and Judge.java, or None and why not."""
    for tool in ("java", "javac", "mvn"):
        if shutil.which(tool) is None:
            return None, "%s is not installed" % tool
    lib = os.path.join(work, "lib")
    fetched = subprocess.run(["mvn", "-q", "-B", "-f", os.path.join(HERE, "pom.xml"), "dependency:copy-dependencies",
                              "-DoutputDirectory=" + lib], capture_output=True, text=True)
    if fetched.returncode != 0:
        return None, "Event Ruler cannot be fetched: %s" % " ".join((fetched.stdout + fetched.stderr).split())[:120]
    path = os.pathsep.join([os.path.join(lib, "*"), os.path.join(work, "classes")])
    subprocess.run(["javac", "-nowarn", "-cp", os.path.join(lib, "*"), "-d", os.path.join(work, "classes"),
                    os.path.join(HERE, "Judge.java")], check=True, capture_output=True)
    return path, None


def ask(arguments, patterns):
    done = subprocess.run(arguments, input="".join(p + "\n" for p in patterns), capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(patterns):
        sys.exit("judge: FAILED: %s: %d answers to %d patterns: %s" % (arguments[0], len(lines), len(patterns), done.stderr[-2000:]))
    return lines


def split(pattern):
    """The pattern with one value in each list, in all combinations: what it says is that one of them matches."""
    if isinstance(pattern, list):
        return [[value] for value in pattern]
    out = [{}]
    for name, inner in pattern.items():
        if name == "$or":
            parts = [[]]
            for branch in inner:
                parts = [done + [one] for done in parts for one in split(branch)]
        else:
            parts = split(inner)
        out = [dict(done, **{name: part}) for done in out for part in parts]
        if len(out) > 2000:
            return [pattern]
    return out


def hexadecimal(verdicts):
    padded = verdicts + "0" * (-len(verdicts) % 4)
    return "".join("%x" % int(padded[i:i + 4], 2) for i in range(0, len(padded), 4))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", required=True)
    parser.add_argument("--generated", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=20261127)
    parser.add_argument("--write", action="store_true", help="keep the verdicts as golden data")
    options = parser.parse_args()
    events = os.path.join(DATA, "events.jsonl")
    ours = os.path.join(options.build, "tests", "judge", "pattern_verdicts")
    published = subprocess.run([ours, events, "--published"], check=True, capture_output=True, text=True).stdout
    with open(os.path.join(DATA, "patterns.txt"), encoding="utf-8") as lines:
        patterns = [line.rstrip("\n") for line in lines if not line.startswith("#")]
    generator = Generator(options.seed, [json.loads(line) for line in published.splitlines()])
    for _ in range(options.generated):
        patterns.append(json.dumps(generator.pattern(), separators=(",", ":"), ensure_ascii=False))
    patterns = list(dict.fromkeys(patterns))
    with tempfile.TemporaryDirectory(prefix="sendring-judge-") as work:
        path, why_not = fetch_judge(work)
        if path is None:
            print("judge: SKIPPED: %s" % why_not)
            if os.environ.get("SENDRING_SKIPPED"):  # the last line of scripts/test names it
                with open(os.environ["SENDRING_SKIPPED"], "a") as out:
                    out.write("judge (%s)\n" % why_not)
            return
        with open(os.path.join(work, "events.jsonl"), "w", encoding="utf-8") as out:
            out.write(published)
        judge = ["java", "-cp", path, "Judge", os.path.join(work, "events.jsonl")]
        compare(options, patterns, [ours, events], judge, len(published.splitlines()))


def compare(options, patterns, ours, judge, count):
    theirs, mine = ask(judge, patterns), ask(ours, patterns)
    bad = matches = errors = contradictions = 0
    kept = []
    for pattern, one, other in zip(patterns, mine, theirs):
        errors += other.startswith("error")
        matches += other.count("1") if not other.startswith("error") else 0
        if one == other or (one.startswith("error") and other.startswith("error")):
            kept.append((pattern, other))
            continue
        if not one.startswith("error") and not other.startswith("error"):
            # Event Ruler's automaton sometimes mixes up values of one list ({"wildcard": "*UBJECT"} beside {"prefix":
            # {"equals-ignore-case": "AUBjE"}} matches "Subject", which neither does alone): the values one by one decide.
            alone = ask(judge, [json.dumps(part) for part in split(json.loads(pattern))])
            if "".join(max(column) for column in zip(*alone)) == one:
                contradictions += 1
                continue
        bad += 1
        if bad <= 20:
            print("differs: %s\n  ours   %s\n  judge  %s" % (pattern, one, other))
            if not one.startswith("error") and not other.startswith("error"):
                print("  events %s" % [i + 1 for i in range(len(one)) if one[i] != other[i]])
    if options.write:
        with open(os.path.join(DATA, "golden.txt"), "w", encoding="utf-8") as out:
            out.write("# Event Ruler's verdicts on events.jsonl, made by tests/judge/judge.py --write.\n")
            for pattern, verdicts in kept:
                out.write("%s %s\n" % ("error" if verdicts.startswith("error") else hexadecimal(verdicts), pattern))
    if bad:
        sys.exit("judge: FAILED: %d of %d patterns differ" % (bad, len(patterns)))
    print("judge: ok, %d patterns (%d are none) on %d events: %d verdicts agree, %d of them matches; on %d patterns the judge "
          "contradicts itself" % (len(patterns), errors, count, (len(patterns) - errors - contradictions) * count, matches,
                                  contradictions))


main()
