"""`--cluster slurm.yaml` from end to end, with programs in the place of Slurm's that run each job here, at once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install 'kipoi-borzoi[dask]'")

EXAMPLE = Path(__file__).resolve().parents[1] / "model_zoo/BorzoiDemo/base/example"
SBATCH = """\
#!/bin/sh
cp "$1" "$QUEUE/$$.sh"
setsid sh "$QUEUE/$$.sh" > "$QUEUE/$$.log" 2>&1 &
echo $! > "$QUEUE/$$.pid"
echo "Submitted batch job $$"
"""
SCANCEL = """\
#!/bin/sh
for job in "$@"; do kill -TERM -- "-$(cat "$QUEUE/$job.pid")"; done
"""
SLURM = "system: slurm\njobs: 2\noptions: {queue: gpu, cores: 1, memory: 3GB, walltime: '00:10:00', interface: lo}\n"


@pytest.fixture
def queue(tmp_path):
    """The environment of a machine with a batch system, whose jobs leave their scripts in the folder QUEUE."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "queue").mkdir()
    (tmp_path / "slurm.yaml").write_text(SLURM)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "QUEUE": str(tmp_path / "queue"), "HOME": str(tmp_path)}


def test_jobs_of_a_queue_score_and_end_with_the_command(queue, tmp_path):
    lines = (EXAMPLE / "variants.vcf").read_text().splitlines()
    (tmp_path / "variants.vcf").write_text("\n".join(lines[:20]) + "\n")
    score = [
        sys.executable, "-m", "kipoi_borzoi.cli", "score", "--model", "BorzoiDemo/base", "--vcf", "variants.vcf",
        "--fasta", str(EXAMPLE / "genome.fa.gz"), "--zoo", str(EXAMPLE.parents[2]),
    ]  # fmt: skip
    for out, more in (("one.tsv", []), ("many.tsv", ["--cluster", "slurm.yaml"])):
        done = subprocess.run([*score, "--out", out, *more], cwd=tmp_path, env=queue, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "one.tsv").read_bytes() == (tmp_path / "many.tsv").read_bytes()
    scripts = sorted((tmp_path / "queue").glob("*.sh"))
    assert len(scripts) == 2
    assert all("#SBATCH -p gpu" in script.read_text() and "--memory-limit 0" in script.read_text() for script in scripts)
    until = time.monotonic() + 30
    while alive := [pid for file in (tmp_path / "queue").glob("*.pid") if _runs(pid := int(file.read_text()))]:
        assert time.monotonic() < until, f"jobs {alive} are left"
        time.sleep(0.2)


def _runs(group: int) -> bool:
    """Whether a process of the group lives."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
