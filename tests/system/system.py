"""What every system test shares: arguments, checks that print what they saw, one verdict line. Run one as
    python3 tests/system/NAME.py --build build/release [--quick]"""
import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from harness import *  # noqa: E402,F401,F403
from harness import Failure  # noqa: E402

checks = 0


def check(what, seen, wanted):
    """One fact. `wanted` is a value, or a function of the value with its rule as docstring-free text in `what`."""
    global checks
    good = wanted(seen) if callable(wanted) else seen == wanted
    if not good:
        raise Failure("%s: saw %r%s" % (what, seen, "" if callable(wanted) else ", wanted %r" % (wanted,)))
    print("  %s: %s" % (what, seen), flush=True)
    checks += 1


def skipped(what, why):
    """Something cannot be run on this host: said here, and in the last line of scripts/test."""
    text = "%s (%s)" % (what, why)
    print("  SKIPPED %s" % text, flush=True)
    if os.environ.get("SENDRING_SKIPPED"):
        with open(os.environ["SENDRING_SKIPPED"], "a") as out:
            out.write(text.replace("\n", " ") + "\n")


def run(main):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--build", required=True, help="meson's build directory")
    parser.add_argument("--quick", action="store_true", help="a smaller size of the same test")
    options = parser.parse_args()
    begun = time.monotonic()
    try:
        main(options.build, options.quick)
    except Failure as failure:
        print("%s: FAILED after %.0f s: %s" % (name, time.monotonic() - begun, failure), flush=True)
        sys.exit(1)
    print("%s: ok, %d checks, %.0f s" % (name, checks, time.monotonic() - begun), flush=True)
