"""The commands of docs/kipoi-tools.md run as they are written, where the tool is installed."""

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

PAGE = Path(__file__).resolve().parents[1] / "docs" / "kipoi-tools.md"
NEEDS = {
    "": [], "veff": ["kipoi_veff", "vcf", "cyvcf2", "pybedtools", "deepdish", "descartes", "seaborn"],
    "veff2": ["kipoi_veff2", "cyvcf2"], "interpret": ["kipoi_interpret"],
}  # fmt: skip
PROGRAMS = {"veff": ["bedtools", "tabix"]}


def blocks():
    """(language, tool, text) of every block of code, in order."""
    found = re.findall(r"^```(\w+) ?(\w*)\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S)
    assert len(found) > 8
    return found


def python_tool(text):
    return next(tool for tool in ("veff", "interpret") if f"kipoi_{tool}" in text)


def missing(tool):
    absent = [name for name in NEEDS[tool] if importlib.util.find_spec(name) is None]
    return absent + [name for name in PROGRAMS.get(tool, ()) if shutil.which(name) is None]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a text in the shell of a new user, who has run the page's first block; returns the folder."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "home").mkdir()
    (folder / "work").mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(folder / "home"), "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}

    @functools.cache  # blocks that two tests need run once
    def run(text, program=("bash", "-e", "-c")):
        done = subprocess.run(
            [*program, text], cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return folder / "work"

    first = blocks()[0][2]
    assert "kipoi-borzoi doctor" in first
    run(first.replace("kipoi-borzoi doctor", ""))
    return run


def test_every_block_says_what_it_needs():
    for language, tool, text in blocks():
        assert language in ("sh", "python")
        assert tool in (*NEEDS, "install")
        if language == "sh" and tool == "install":
            assert "pip install" in text
    assert [tool for _, tool, _ in blocks()][0] == ""


def runnable():
    for number, (language, tool, text) in enumerate(blocks()):
        if number and tool != "install":
            yield pytest.param(language, tool or python_tool(text), text, id=f"{number}-{tool or language}")


@pytest.mark.parametrize("language, tool, text", list(runnable()))
def test_commands_run_as_written(run, language, tool, text):
    absent = missing(tool)
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    if language == "python":
        run(text, (sys.executable, "-c"))
    else:
        run(text)


def test_the_tools_agree(run):
    """kipoi_veff's, kipoi_veff2's and our own numbers for one variant are the same, and the two views' scores too."""
    absent = missing("veff") + missing("veff2")
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    shell = [text for language, tool, text in blocks() if language == "sh" and tool in ("veff", "veff2")]
    for text in shell:
        if "veff map" not in text:
            folder = run(text)
    veff = pd.read_csv(folder / "scored.tsv", sep="\t").set_index("variant_id")
    veff2 = pd.read_csv(folder / "out.tsv", sep="\t").set_index("ID")
    logsum = pd.read_csv(folder / "out2.tsv", sep="\t").set_index("ID")
    records = [line.split("\t") for line in (folder / "variants.vcf").read_text().splitlines() if line[0] != "#"]
    assert list(veff2.index) == [name for _, _, name, *_ in records]
    assert list(veff.index) == [name for _, _, name, ref, alt, *_ in records if len(ref) == len(alt) == 1]
    for place, track in enumerate(["cell1.control.rep1+", "cell2.control.rep1-"]):
        for score, scorer in (("diff", "diff"), ("logSED", "logSED")):
            name = f"BorzoiDemo/base/sum/{track}/{scorer}"
            # Batches of different size round differently, by 1e-6 of a sum of some 3,000.
            np.testing.assert_allclose(
                veff[f"preds/{score}/{place}"], veff2[name][veff.index], atol=5e-3 if score == "diff" else 2e-6
            )
        np.testing.assert_allclose(
            logsum[f"BorzoiDemo/base/logsum/{track}/logSED"], veff2[f"BorzoiDemo/base/sum/{track}/logSED"], rtol=1e-9, atol=1e-12
        )
    command = "kipoi-borzoi score --model BorzoiDemo/base --vcf variants.vcf --fasta genome.fa.gz --out own.tsv"
    run(f"{command} --scores SUM,logSED")
    own = pd.read_csv(folder / "own.tsv", sep="\t", comment="#").set_index(["id", "track", "scorer"])["score"]
    for variant in veff.index:  # SNVs
        for track in ("cell1.control.rep1", "cell4.treated.rep2"):  # `score` adds up the strands
            found = {
                name: sum(veff2.loc[variant, f"BorzoiDemo/base/sum/{track}{strand}/{name}"] for strand in "+-")
                for name in ("diff", "logSED")
            }
            np.testing.assert_allclose(found["diff"], own[variant, track, "SUM"], atol=5e-3)
            np.testing.assert_allclose(found["logSED"], own[variant, track, "logSED"], atol=2e-6)
