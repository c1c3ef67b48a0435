"""Small inputs of every command that writes, and the commands on them, for tests and figures of faults."""

import json
from pathlib import Path

import numpy as np
from data_cases import CROP, make_inputs
from kill_points import Job
from tuned_models import make_base, parts_of, write_adapter
from variant_cases import NumpyReference, numpy_model, small_genome, write_vcf

from kipoi_borzoi import scoring
from kipoi_borzoi.cli import main
from kipoi_borzoi.network.config import NetworkConfig
from kipoi_borzoi.variants import members

N_VARIANTS = 60


def score(arguments: list[str], verb: str = "score") -> int:
    """The command, with a network in NumPy in the place of the model, and a part of the output kept for each chunk."""
    from kipoi_borzoi.variants import output

    members.Reference = NumpyReference
    scoring.loaded_models = lambda models, zoo: {models[0]: numpy_model()}
    scoring.describe_model = lambda name, model: {"name": name}
    by_parts = output.by_parts
    output.by_parts = lambda work, chunks_from, make, force, *rest: by_parts(work, chunks_from, make, force, part_seconds=0)
    return main([verb, *arguments])


def background(arguments: list[str]) -> int:
    """As `score`."""
    return score(arguments, "background")


def finetune(arguments: list[str]) -> int:
    """The command, op by op (there is nothing to gain from compiling for a dozen steps), with a checkpoint at every step."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    return main(["finetune", *arguments])


def download(arguments: list[str]) -> int:
    """Fetch a URL into the cache below the working directory; errors become statuses as in the command."""
    import os
    import sys

    from kipoi_borzoi.errors import KipoiBorzoiError
    from kipoi_borzoi.zoo import cache

    os.environ["KIPOI_BORZOI_CACHE"] = str(Path("cache").absolute())
    try:
        print(cache.fetch(arguments[0], progress=False))
    except KipoiBorzoiError as error:
        print(f"kipoi-borzoi: error: {error}", file=sys.stderr)
        return 1
    return 0


def scoring_job(folder: Path, suffix: str, **points) -> Job:
    """A VCF whose alleles are scored or left out for several reasons."""
    template = folder / "template"
    template.mkdir(parents=True)
    contigs = small_genome(template / "genome.fa")
    rng = np.random.default_rng(0)
    places = sorted(rng.choice(np.arange(50, 2500), N_VARIANTS, replace=False).tolist())
    records = []
    for number, place in enumerate(places):
        ref = contigs["chr1"][place - 1].upper()
        alt = ["CGTA"["ACGT".index(ref)], ref + "ACG", "<DEL>", "*"][number % 8 if number % 8 < 4 else 0]
        records.append(("chr1", place, f"v{number}", ref, alt))
    write_vcf(template / "in.vcf", records)
    arguments = ["--model", "m", "--vcf", "in.vcf", "--fasta", "genome.fa", "--scores", "SUM,logD2", "--out", f"out{suffix}"]
    return Job("fault_cases:score", arguments, str(template), str(folder / "work"), imports=["h5py", "pandas", "pyarrow", "pysam"], **points)


def background_job(folder: Path, **points) -> Job:
    """Simulated variants near a gene."""
    template = folder / "template"
    template.mkdir(parents=True)
    small_genome(template / "genome.fa")
    (template / "genes.gtf").write_text('chr1\tx\texon\t501\t900\t.\t+\t.\tgene_id "g";\n')
    arguments = ["--model", "m", "--simulate", str(N_VARIANTS), "--genes", "genes.gtf", "--fasta", "genome.fa", "--scores", "SUM,logSED", "--out", "out.h5"]
    return Job("fault_cases:background", arguments, str(template), str(folder / "work"), imports=["h5py"], **points)


def build_job(folder: Path, **points) -> Job:
    """A store of four tracks."""
    folder.mkdir(parents=True, exist_ok=True)
    make_inputs(folder / "template")
    arguments = ["data", "build", "--targets", "targets.txt", "--fasta", "genome.fa", "--sequences", "sequences.bed", "--crop-bp", str(CROP), "--out", "store", "--quiet"]
    return Job("kipoi_borzoi.cli:main", arguments, str(folder / "template"), str(folder / "work"), imports=["kipoi_borzoi.training.build"], **points)


def publish_job(folder: Path, replace: bool = False, **points) -> Job:
    """An adapter to be published, in the place of another one or not."""
    from adapter_cases import METHOD_CASES

    template = folder / "template"
    template.mkdir(parents=True)
    network = make_base(template / "parts", seed=1)
    (template / "zoo").mkdir()
    assert main(["zoo", "import", "base", "--head", "human", "--zoo", str(template / "zoo"), *options_of(parts_of(template / "parts"))]) == 0
    write_adapter(template / "adapter", network, METHOD_CASES["lora"])
    write_adapter(template / "other", network, METHOD_CASES["locon"])
    arguments = ["zoo", "publish", "adapter", "tuned", "--zoo", "zoo", "--base", "base"]
    if replace:
        assert main(["zoo", "publish", str(template / "other"), "tuned", "--zoo", str(template / "zoo"), "--base", "base"]) == 0
        arguments.append("--replace")
    return Job("kipoi_borzoi.cli:main", arguments, str(template), str(folder / "work"), imports=["kipoi_borzoi.zoo.publish"], **points)


def import_job(folder: Path, **points) -> Job:
    """A model to be imported."""
    template = folder / "template"
    template.mkdir(parents=True)
    make_base(template / "parts", seed=1)
    (template / "zoo").mkdir()
    parts = {key: path.relative_to(template) for key, path in parts_of(template / "parts").items()}
    arguments = ["zoo", "import", "base", "--head", "human", "--zoo", "zoo", *options_of(parts)]
    return Job("kipoi_borzoi.cli:main", arguments, str(template), str(folder / "work"), imports=["kipoi_borzoi.zoo.make"], **points)


def finetune_job(folder: Path, **points) -> Job:
    """A few steps of training on a store of four tracks."""
    from network_cases import borzoi_like

    template = folder / "template"
    template.mkdir(parents=True)
    params = borzoi_like(seq_length=1024, head={"name": "final", "units": 4, "activation": "softplus"})
    layout = NetworkConfig.from_params(params).layout
    make_inputs(source := folder / "inputs")
    build = ["data", "build", "--targets", source / "targets.txt", "--fasta", source / "genome.fa", "--sequences", source / "sequences.bed"]
    shape = ["--crop-bp", str(layout.crop * layout.bin_size), "--pool-width", str(layout.bin_size)]
    assert main([*map(str, build), *shape, "--out", str(template / "store"), "--quiet"]) == 0
    (template / "params.json").write_text(json.dumps(params))
    (template / "run.yaml").write_text("save_minutes: 0.0\nwarmup_steps: 0\n")
    arguments = ["--from-scratch", "--params", "params.json", "--data", "store", "--config", "run.yaml", "--out", "run", "--epochs-max", "2",
                 "--epochs-min", "1", "--batch-size", "1", "--train", "train", "--valid", "valid", "--test", "test", "--seed", "3"]  # fmt: skip
    return Job(
        "fault_cases:finetune", arguments, str(template), str(folder / "work"), close="run/base/weights.safetensors",
        imports=["tensorflow", "keras", "kipoi_borzoi.training.finetune"], **points,
    )  # fmt: skip


def options_of(parts: dict) -> list[str]:
    return [f"--{key}={path}" for key, path in parts.items()]


def download_job(folder: Path, url: str, **points) -> Job:
    """One file from a web server."""
    (folder / "template").mkdir(parents=True)
    return Job("fault_cases:download", [url], str(folder / "template"), str(folder / "work"), imports=["kipoi_borzoi.zoo.cache"], **points)
