"""Fuzz the parsers of outside files; prints the seed, and the counts of each parser.

    python -m tests.support.fuzzing                        all parsers, 5000 inputs each
    python -m tests.support.fuzzing --parser ply --inputs 200000 --seed 7
    python -m tests.support.fuzzing --parser ply --seed 7 --first 812 --stop 813     one case again

The exit code is 1 when a case fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parser", action="append", help="only this one; may be repeated")
    parser.add_argument("--inputs", type=int, default=5000, help="inputs of each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--stop", type=int, help="number after the last input")
    parser.add_argument("--list", action="store_true", help="print the parsers' names")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.support.fuzzing import harness
    from tests.support.fuzzing.targets import TARGETS

    stop = arguments.stop if arguments.stop is not None else arguments.first + arguments.inputs
    if arguments.list:
        print("\n".join(TARGETS))
        return 0
    if arguments.worker:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            for report in harness.work(
                arguments.worker, arguments.seed, arguments.first, stop, Path(folder).resolve()
            ):
                print(json.dumps(report), flush=True)
        return 0

    print(f"seed {arguments.seed}, inputs {arguments.first} to {stop - 1} of each parser")
    print(harness.HEADER, flush=True)
    failures, inputs, start = 0, 0, time.monotonic()
    for name in arguments.parser or TARGETS:
        count = harness.run_parser(name, arguments.seed, arguments.first, stop)
        print(count.line(name), flush=True)
        for failure in count.failures[:20]:
            print(f"    {failure!a}", flush=True)
        failures, inputs = failures + len(count.failures), inputs + count.inputs
    print(f"{inputs} inputs, {failures} failures, {time.monotonic() - start:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
