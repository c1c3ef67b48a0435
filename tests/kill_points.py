"""Runs a command again and again in forked processes that die at chosen instants, then once more to its end, and tells what was left.

Dying is exact. At an operation: the n-th time that Python opens a file of the folder for writing, makes, renames, removes
or flushes one. At a byte: in the system call that would make some file longer than n bytes, wherever it comes from (HDF5 and
other libraries included), since the signal of a file-size limit ends a process that does not handle it. A full disk is the same
limit with the signal ignored, so that the write fails.

A program of its own, since processes can be forked only before TensorFlow runs anything: it reads a `Job` as JSON from standard
input and writes a JSON object per line: first the undisturbed run, then each trial.
"""

import dataclasses
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

OPERATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"}


@dataclasses.dataclass
class Job:
    """What to run and where to stop it.

    Attributes
    ----------
    run : str
        ``module:function``, called with ``arguments``; returns an exit status.
    arguments : list of str
    template, folder : str
        ``template`` is copied to ``folder``, the working directory, before each trial.
    operations, sizes, full : int
        How many instants of each kind, and full disks; they are spread over the undisturbed run.
    imports : list of str
        Modules to import before the first fork.
    close : str
        A safetensors file of the folder whose values are compared with the undisturbed run's, within rounding.
    """

    run: str
    arguments: list
    template: str
    folder: str
    operations: int = 0
    sizes: int = 0
    full: int = 0
    imports: list = dataclasses.field(default_factory=list)
    close: str = ""


def results(job: Job, timeout: float = 600) -> list[dict]:
    """Run the job in a process of its own; the undisturbed run comes first."""
    program = [sys.executable, str(Path(__file__).resolve())]
    done = subprocess.run(program, input=json.dumps(dataclasses.asdict(job)), capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Read the job, print an object for each trial."""
    job = Job(**json.load(sys.stdin))
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    for module in [job.run.split(":")[0], *job.imports]:
        importlib.import_module(module)
    whole = trial(job, None)
    if whole["status"]:
        raise RuntimeError(f"the undisturbed run failed: {whole['told']}")
    if job.close:
        shutil.copyfile(Path(job.folder) / job.close, job.folder + ".whole")
    print(json.dumps(whole), flush=True)
    points = [["operation", 1 + i * whole["operations"] // job.operations] for i in range(job.operations)]
    for kind, count in (("byte", job.sizes), ("full", job.full)):
        points += [[kind, round(whole["largest"] ** ((i + 0.5) / count))] for i in range(count)]
    for point in points:
        print(json.dumps(trial(job, point)), flush=True)


def trial(job: Job, point: list | None) -> dict:
    """Run until ``point``, look, run again to the end, look again; without a point, run once."""
    folder = Path(job.folder)
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(job.template, folder)
    os.chdir(folder)
    first = forked(job, point)
    result = {"point": point, **first, "first_told": first["told"]}
    result["after"] = content(folder)
    if point is not None:
        again = forked(job, None)
        result |= {"again": again["status"], "told": again["told"], "final": content(folder)}
        if job.close:
            result["close"] = is_close(folder / job.close, Path(job.folder + ".whole"))
    return result


def is_close(path: Path, expected: Path) -> bool:
    """Whether two safetensors files hold the same tensors but for the order of sums."""
    import numpy as np
    from safetensors.numpy import load_file

    one, other = load_file(path), load_file(expected)
    return one.keys() == other.keys() and all(np.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)


def forked(job: Job, point: list | None) -> dict:
    """Status of a run in a forked process, how many operations it did, and what it said."""
    counted = Path(job.folder + ".counted")
    counted.write_text("{}")
    said, output = os.pipe()  # not a file, which would be subject to limits
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.dup2(output, 1), os.dup2(output, 2)
            module, _, name = job.run.partition(":")
            count = arrange(job.folder, point)
            status = getattr(sys.modules[module], name)(job.arguments)
            if point is None:
                largest = max((path.stat().st_size for path in Path(job.folder).rglob("*") if path.is_file()), default=1)
                counted.write_text(json.dumps({"operations": count[0], "largest": largest}))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(status or 0)
    os.close(output)
    with open(said, encoding="utf-8", errors="replace") as pipe:
        told = [line for line in pipe.read().splitlines() if "kipoi-borzoi" in line or "Error" in line]
    _, code = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(code), "told": told[-10:], **json.loads(counted.read_text())}


def arrange(folder: str, point: list | None) -> list[int]:
    """Make this process die at ``point``; count its operations."""
    count, kind, limit = [0], *(point or ["none", 0])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def step() -> None:
        count[0] += 1
        if kind == "operation" and count[0] >= limit:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in OPERATIONS) and isinstance(args[0], (str, bytes)) and is_below(os.fsdecode(args[0]), folder):
            step()

    sys.addaudithook(hook)
    flush = os.fsync
    os.fsync = lambda number: (step(), flush(number))[1]
    if kind in ("byte", "full"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kind == "byte" else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return count


def is_below(path: str, folder: str) -> bool:
    """Whether a path, relative to the working directory perhaps, lies in the folder."""
    return os.path.abspath(path).startswith(folder)


if __name__ == "__main__":
    main()
