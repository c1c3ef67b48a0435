"""Kills every command that writes at many instants, fills its disk, runs it again, and prints what was lost, wrong or left over.

Each command runs on small inputs in forked processes (see tests/kill_points.py): killed with SIGKILL before one of its file
operations, or inside the system call that would write a certain byte of some file (of HDF5 and other libraries too), or with a
disk that is full from there on. After each fault the output has to be absent or whole; then the same command is given again,
and everything in its folder has to equal an undisturbed run: tables, stores and zoo entries byte by byte, trained weights
within 1e-4 relative.

    python benchmarks/faults.py [--operations 12] [--bytes 6] [--full 3] [--only score finetune ...]

Columns: instants tried, by kind; runs that ended before their instant; outputs that looked complete and were not; lost and wrong
rows or files after the second run; files left over; faults not named in one line.
"""

import argparse
import csv
import io
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fault_cases as cases
from http_server import Page, serve
from kill_points import results

COLUMNS = ("command", "killed", "full", "not_hit", "half_outputs", "lost", "wrong", "left_over", "unnamed", "seconds")
CHANGES_EVERY_TIME = ("run/tensorboard/", "run/curves.png", "run/summary.json", "run/epochs.csv", "run/checkpoints/", "run/steps.csv")


def jobs(folder: Path, url: str, points: dict, few: dict) -> dict:
    """By name: the job, and how its outputs' names begin."""
    scores = {f"score {suffix}": (cases.scoring_job, [suffix], points, f"out{suffix}") for suffix in (".tsv", ".tsv.gz", ".h5", ".parquet", ".vcf.gz")}
    others = {
        "background": (cases.background_job, [], points, "out.h5"),
        "data build": (cases.build_job, [], points, "store/store.h5"),
        "zoo import": (cases.import_job, [], points, "zoo/base/"),
        "zoo publish": (cases.publish_job, [], points, "zoo/tuned/"),
        "zoo publish --replace": (cases.publish_job, [True], points, None),
        "download": (cases.download_job, [url], points, None),
        "finetune": (cases.finetune_job, [], few, "run/base/weights.safetensors"),
    }
    return {
        name: (lambda make=make, args=args, some=some, name=name: make(folder / name.replace(" ", "_"), *args, **some), made)
        for name, (make, args, some, made) in {**scores, **others}.items()
    }


def compare(name: str, made: str | None, whole: dict, trials: list[dict], weights: list[bool]) -> dict:
    """One row of the table."""
    row = dict.fromkeys(COLUMNS[1:-1], 0) | {"command": name}
    expected = stable(whole["after"])
    for trial, same_weights in zip(trials, weights, strict=True):
        kind = "full" if trial["point"][0] == "full" else "killed"
        row[kind] += 1
        row["not_hit"] += trial["status"] == 0
        if made is not None and name != "finetune":
            outputs = {path: sha256 for path, sha256 in trial["after"].items() if path.startswith(made) and ".parts" not in path}
            whole_outputs = {path: sha256 for path, sha256 in whole["after"].items() if path.startswith(made)}
            row["half_outputs"] += bool(outputs) and any(whole_outputs.get(path) != sha256 for path, sha256 in outputs.items())
        final = stable(trial["final"])
        row["lost"] += sum(path not in final for path in expected) + (trial["again"] != 0)
        row["wrong"] += sum(path in final and final[path] != sha256 for path, sha256 in expected.items()) + (not same_weights)
        row["left_over"] += sum(path not in expected for path in final)
        if kind == "full" and trial["status"]:
            errors = [line for line in trial["first_told"] if "error:" in line]
            row["unnamed"] += trial["status"] != 1 or len(errors) != 1 or "fault of the program" in errors[0]
    return row


def stable(files: dict) -> dict:
    """Without what holds times, which no two runs share, and weights, which are compared by value."""
    return {path: sha256 for path, sha256 in files.items() if not path.startswith((*CHANGES_EVERY_TIME, "run/base/weights"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operations", type=int, default=12)
    parser.add_argument("--bytes", type=int, default=6)
    parser.add_argument("--full", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], help="commands whose names begin so")
    args = parser.parse_args()
    points = {"operations": args.operations, "sizes": args.bytes, "full": args.full}
    few = {name: max(1, count // 2) for name, count in points.items()}
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    with tempfile.TemporaryDirectory() as folder, serve({"/weights.h5": Page(b"\x89HDF\r\n\x1a\n" + bytes(1 << 21))}) as server:
        for name, (make, made) in jobs(Path(folder), server.url("/weights.h5"), points, few).items():
            if not name.startswith(tuple(args.only)):
                continue
            start = time.perf_counter()
            job = make()
            whole, *trials = results(job, timeout=7200)
            weights = [trial.get("close", True) for trial in trials]
            row = compare(name, made, whole, trials, weights)
            writer.writerow(row | {"seconds": round(time.perf_counter() - start)})
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(table.getvalue(), end="")


if __name__ == "__main__":
    main()
