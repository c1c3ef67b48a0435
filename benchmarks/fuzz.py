"""Damages sound files of every kind that this package reads, and prints what came of it: only its own errors, or success, may.

    python benchmarks/fuzz.py [--seconds 600] [--seed 0] [--only h5 store ...] [--case N]

Each reader gets an equal share of the time. The damage of a case follows from seed, reader and number alone: --case N with
--only READER repeats one, in this process and with its traceback. Exit status 1 when anything else was raised, when a process
crashed, or when reading took longer than 20 s.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fuzz_targets import TARGETS, damage, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    parser.add_argument("--case", type=int)
    args = parser.parse_args()
    if args.case is not None:
        repeat(args.only[0], args.seed, args.case)
        return 0
    failed = 0
    print("reader\tcases\tfailures\tcases_per_s")
    for name in args.only:
        start = time.monotonic()
        cases, failures = fuzz(name, TARGETS[name], args.seed, args.seconds / len(args.only))
        print(f"{name}\t{cases}\t{len(failures)}\t{cases / (time.monotonic() - start):.0f}", flush=True)
        for text in sorted({failure["error"] for failure in failures})[:20]:
            first = next(failure["case"] for failure in failures if failure["error"] == text)
            print(f"#   case {first}: {text}", flush=True)
        failed += len(failures)
    return 1 if failed else 0


def repeat(name: str, seed: int, case: int) -> None:
    """Read the damaged files of one case."""
    import random

    with tempfile.TemporaryDirectory() as folder:
        files = TARGETS[name].make(Path(folder))
        damage(TARGETS[name], files, random.Random(f"{seed} {name} {case}"))
        print(TARGETS[name].read(Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
