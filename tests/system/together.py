"""System tests side by side, for they mostly wait. Run as
    python3 tests/system/together.py --build build/release [--jobs N] "NAME [OPTION]..."...
in the order in which they shall begin: the longest first. What one says comes when it has ended. Behind one that fails no other
begins."""
import argparse
import concurrent.futures
import os
import subprocess
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPPED = 77

failed = threading.Event()
telling = threading.Lock()


def program_of(name):
    """tests/system/NAME.py, or one with a folder of its own."""
    found = [path for path in (os.path.join(TESTS, folder, name + ".py") for folder in ("system", name)) if os.path.exists(path)]
    if not found:
        sys.exit("together: there is no system test %s" % name)
    return found[0]


def run(build, test):
    """Its name and the seconds it took; None: it was not begun."""
    if failed.is_set():
        return None
    name, *options = test.split()
    begun = time.monotonic()
    done = subprocess.run([sys.executable, program_of(name), "--build", build] + options, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    with telling:
        sys.stdout.write(done.stdout)
        if done.returncode == SKIPPED and os.environ.get("SENDRING_SKIPPED"):
            with open(os.environ["SENDRING_SKIPPED"], "a") as out:
                out.write(name + "\n")
        elif done.returncode not in (0, SKIPPED):
            print("together: %s ended with status %d" % (name, done.returncode))
            failed.set()
        sys.stdout.flush()
    return time.monotonic() - begun, name


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="meson's build directory")
    parser.add_argument("--jobs", type=int, default=2 * len(os.sched_getaffinity(0)), help="at a time (default two a core)")
    parser.add_argument("tests", nargs="+", metavar="NAME [OPTION]...")
    options = parser.parse_args()
    for test in options.tests:
        program_of(test.split()[0])
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        took = [one for one in pool.map(lambda test: run(options.build, test), options.tests) if one is not None]
    if failed.is_set():
        return 1
    print("together: ok, %d tests of %.0f s in %.0f s, the longest was %s with %.0f s" % (
        len(took), sum(seconds for seconds, _ in took), time.monotonic() - begun, max(took)[1], max(took)[0]))
    return 0


sys.exit(main())
