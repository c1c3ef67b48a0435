"""Makes entries of local Kipoi sources known to kipoi_veff2, and hands it windows and predictions as it expects them.

kipoi_veff2 knows a fixed set of model groups, of the source ``kipoi``, whose dataloader is kipoiseq's. `register`
adds the groups of the user's local sources, and answers for their entries in kipoi_veff2's place: description,
labels, model, window and encoding. Nothing changes for its own groups.

Each variant is a batch of its own (``batch_size`` 1): both alleles then come in one call, where
they share computation, and memory does not grow with the file. For that batch size kipoi_veff2 drops the
axis of variants, so that its scores keep only the first track; our predictions have that axis twice.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from kipoi_borzoi.errors import InputError, ZooError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.kipoi_compat.patching import is_wrapped, wrap
from kipoi_borzoi.kipoi_tools.checks import check_output, check_variants
from kipoi_borzoi.kipoi_tools.scorers import SCORERS, Predictions, diff
from kipoi_borzoi.sequence import one_hot
from kipoi_borzoi.zoo.entries import MODEL_CLASS
from kipoi_borzoi.zoo.place import SOURCE_NAME, packaged_zoo

INSTALL = (
    "git clone https://github.com/kipoi/kipoi-veff2 && pip install --no-deps --no-build-isolation ./kipoi-veff2"
    " && pip install cyvcf2 click"
)
BATCH_SIZE = 1


def register() -> list[str]:
    """Make known to kipoi_veff2 every group of a local source that holds entries of ours; the default score is `diff`.

    Returns
    -------
    list of str
        The groups, sorted; empty where kipoi_veff2 is not installed. A group is also known as
        ``SOURCE:GROUP``, for names that stand in two sources.
    """
    try:
        from kipoi_veff2 import interval_based, variant_centered
    except ImportError:
        return []
    if not is_wrapped(variant_centered.score_variants):
        taken = {*variant_centered.MODEL_GROUPS, *interval_based.MODEL_GROUPS}
        variant_centered.kipoi = _Kipoi(variant_centered.kipoi, taken)
        wrap(variant_centered, "score_variants", _score_variants)
    groups = variant_centered.kipoi.groups = _groups(variant_centered.kipoi.taken)
    for group in groups:
        variant_centered.MODEL_GROUPS.add(group)
        variant_centered.VARIANT_CENTERED_MODEL_GROUP_CONFIGS[group] = {
            "batch_size": BATCH_SIZE,
            "transform": encode,
            "default_scoring_function": {"name": "diff", "func": diff},
        }
    return sorted(groups)


def encode(sequence: str) -> np.ndarray:
    """One-hot encode a window, lower case as upper case: (length, 4) float32."""
    return one_hot(sequence)


def local_sources() -> dict:
    """Local Kipoi sources by name; the packaged zoo as ``borzoi`` where none is registered so."""
    import kipoi
    from kipoi.sources import LocalSource

    sources = {name: one for name, one in kipoi.config.model_sources().items() if isinstance(one, LocalSource)}
    sources.pop("dir", None)
    if SOURCE_NAME not in sources:
        sources[SOURCE_NAME] = LocalSource(str(packaged_zoo()), name=SOURCE_NAME)
    return sources


def _groups(taken: set[str]) -> dict[str, list[str]]:
    """Sources by group, as kipoi_veff2 understands a group: what stands before the first slash."""
    groups: dict[str, list[str]] = {}
    for name, source in local_sources().items():
        for folder in sorted(Path(source.local_path).iterdir() if Path(source.local_path).is_dir() else []):
            if folder.is_dir() and _holds_entries(folder):
                groups.setdefault(f"{name}:{folder.name}", []).append(name)
                if folder.name not in taken:
                    groups.setdefault(folder.name, []).append(name)
    return groups


def _holds_entries(folder: Path) -> bool:
    descriptions = (path for stem in ("model", "model-template") for path in folder.rglob(f"{stem}.y*ml"))
    return any(MODEL_CLASS.encode() in path.read_bytes() for path in descriptions)


class _Kipoi:
    """Stands for ``kipoi`` in ``kipoi_veff2.variant_centered``: our entries come from their own source."""

    def __init__(self, kipoi, taken: set[str]):
        self._kipoi = kipoi
        self.taken = taken  # kipoi_veff2's own groups
        self._descriptions = {}
        self.groups: dict[str, list[str]] = {}

    def __getattr__(self, name):
        return getattr(self._kipoi, name)

    def is_ours(self, model: str) -> bool:
        return model.split("/")[0] in self.groups

    def get_model_descr(self, model: str, *args, **kwargs):
        if not self.is_ours(model):
            return self._kipoi.get_model_descr(model, *args, **kwargs)
        _, description = self._find(model)
        return description

    def get_model(self, model: str, *args, **kwargs):
        if not self.is_ours(model):
            return self._kipoi.get_model(model, *args, **kwargs)
        source, description = self._find(model)
        loaded = self._kipoi.get_model(_entry_name(model), source=source, with_dataloader=False)
        # Groups of thousands of tracks leave the labels to the loaded model; kipoi_veff2 asks the description.
        description.schema.targets.column_labels = list(loaded.tracks.identifiers)
        return SimpleNamespace(predict_on_batch=partial(_predict_with_variant_axis, loaded))

    def _find(self, model: str):
        if model not in self._descriptions:
            self._descriptions[model] = _find_entry(model, self.groups)
        return self._descriptions[model]


def _entry_name(model: str) -> str:
    return model.partition(":")[2] if ":" in model.split("/")[0] else model


def _find_entry(model: str, groups: dict[str, list[str]]):
    """The source of an entry and a description as kipoi_veff2 reads it."""
    name, sources = _entry_name(model), local_sources()
    found, known = [], []
    for source_name in groups[model.split("/")[0]]:
        entries = sources[source_name]._list_components("model")
        known += entries
        if name in entries:
            found.append(source_name)
    if not found:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        raise ZooError(f"no entry {name!r} in the local Kipoi sources; near matches: {', '.join(near) or 'none'}")
    if len(found) > 1:
        forms = " or ".join(f"{source}:{name}" for source in found)
        raise ZooError(f"{name!r} stands in several Kipoi sources: say {forms}")
    source = sources[found[0]]
    description = copy.deepcopy(source.get_model_descr(name))
    if description.defined_as != MODEL_CLASS:
        raise ZooError(f"{name}: not an entry of kipoi-borzoi (it is {description.defined_as})")
    view = (description.args or {}).get("view", "coverage")
    if view == "coverage":
        stem = name.rpartition("/")[0]
        raise InputError(
            f"{name} predicts coverage per bin, which kipoi_veff2 cannot write: use {stem}/sum or {stem}/logsum"
        )
    window = description.schema.inputs.shape[0]
    description.default_dataloader = SimpleNamespace(defined_as="", default_args={"auto_resize_len": window})
    return source, description


def _predict_with_variant_axis(model, x):
    predictions = np.asarray(model.predict_on_batch(x)).view(Predictions)
    predictions.view = model.view
    # One pair in a batch: kipoi_veff2 takes the alleles apart along the first axis, and wants variants along the next.
    return predictions[:, np.newaxis]


def _score_variants(score, model_config, vcf_file, fasta_file, output_file, scoring_functions=()):
    from kipoi_veff2 import variant_centered

    if not variant_centered.kipoi.is_ours(model_config.model):
        return score(model_config, vcf_file, fasta_file, output_file, list(scoring_functions))
    if model_config.batch_size != BATCH_SIZE:
        raise InputError(
            f"batch_size is {model_config.batch_size}, expected {BATCH_SIZE}: the alleles of a variant are one batch"
        )
    check_variants(vcf_file, fasta_file)
    with _padded_windows(variant_centered), atomic_write(output_file) as temporary:
        score(model_config, vcf_file, fasta_file, temporary, list(scoring_functions))


@contextlib.contextmanager
def _padded_windows(variant_centered):
    """Let windows reach beyond their contig, where kipoi_veff2 stops."""
    before = variant_centered.VariantSeqExtractor
    variant_centered.VariantSeqExtractor = lambda fasta_file: before(reference_sequence=PaddedFasta(fasta_file))
    try:
        yield
    finally:
        variant_centered.VariantSeqExtractor = before


class PaddedFasta:
    """What kipoiseq's extractor of variant sequences needs of a genome; N beyond the contig's ends."""

    use_strand = False

    def __init__(self, path: str | os.PathLike):
        from kipoi_borzoi.dataloaders.fasta import FastaReader

        self._fasta = FastaReader(path)

    def extract(self, interval) -> str:
        """Bases of the + strand, in upper case."""
        from kipoi_borzoi.genome import Interval

        return self._fasta.fetch(Interval(interval.chrom, interval.start, interval.end))

    def close(self) -> None:
        """Close the file."""
        self._fasta.close()


def veff2(
    vcf: str | os.PathLike,
    fasta: str | os.PathLike,
    output: str | os.PathLike,
    model: str,
    scorers: Sequence[str] = ("diff",),
) -> list[str]:
    """Score the variants of a VCF with kipoi_veff2.

    Parameters
    ----------
    vcf, fasta : path
        One ALT per record, of A, C, G and T; REF as in the FASTA file.
    output : path
        Tab-separated table, replaced when it is there: ``#CHROM POS ID REF ALT`` and one column per track and scorer.
    model : str
        Entry of a local Kipoi source, of view ``sum`` or ``logsum``; ``SOURCE:NAME`` where several have it.
    scorers : sequence of str
        Names in `kipoi_borzoi.kipoi_tools.scorers.SCORERS`.

    Returns
    -------
    list of str
        The columns of scores.

    Raises
    ------
    InputError
        A record that kipoi_veff2 would score wrongly, an unknown scorer, a missing file, or kipoi_veff2 is missing.
    ZooError
        No such entry.
    """
    try:
        from kipoi_veff2 import variant_centered
    except ImportError as error:
        raise InputError(f"kipoi_veff2 is not installed ({error}): {INSTALL}") from error
    unknown = [name for name in scorers if name not in SCORERS]
    if unknown:
        raise InputError(f"unknown scorer {unknown[0]!r}; known: {', '.join(SCORERS)}")
    for path in (vcf, fasta):
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
    check_output(output, (vcf, fasta))
    groups = register()
    group = model.split("/")[0]
    if group not in groups:
        raise ZooError(f"no group {group!r} in the local Kipoi sources; there are: {', '.join(groups)}")
    config = variant_centered.get_model_config(
        model_name=model, **variant_centered.VARIANT_CENTERED_MODEL_GROUP_CONFIGS[group]
    )
    functions = [{"name": name, "func": SCORERS[name]} for name in scorers]
    try:
        variant_centered.score_variants(config, os.fspath(vcf), os.fspath(fasta), os.fspath(output), functions)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error})") from error
    return config.get_column_labels(scoring_functions=functions)[5:]
