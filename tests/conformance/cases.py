"""Cases, and how they are run: each is a function whose name says what is true when it passes."""

import os
import sys
import traceback

CASES = []


def case(function):
    CASES.append((function.__name__, function))
    return function


def for_each(values):
    def each(function):
        for value in values:
            CASES.append((f"{function.__name__}[{value}]", lambda value=value: function(value)))
        return function

    return each


def expect(condition, *what):
    if not condition:
        raise AssertionError(" ".join(map(repr, what)))


def run():
    """Runs every case, or those whose names hold one of the further arguments; prints a line each, and exits with 1 if any failed."""
    wanted = sys.argv[3:]
    failed = 0
    cases = [(name, run) for name, run in CASES if not wanted or any(part in name for part in wanted)]
    for name, run in cases:
        try:
            run()
            print("ok    ", name, flush=True)
        except Exception:
            failed += 1
            print("FAILED", name, flush=True)
            traceback.print_exc(limit=-3, file=sys.stdout)
    print(f"{len(cases) - failed} of {len(cases)} cases passed")
    # Clients leave threads behind that may outlive any wait for them.
    sys.stdout.flush()
    os._exit(failed > 0)
