"""Scores in the layout of Calico's ``scores.h5``, which its scripts read; float32, and with what it has no place for."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.header import MEASURES, Header, Survey, provenance_text
from kipoi_borzoi.variants.results import Chunk
from kipoi_borzoi.variants.tidy import measure
from kipoi_borzoi.variants.writers.hdf5 import new_file

_TAKEN = {
    "snp", "chr", "pos", "ref_allele", "alt_allele", "target_ids", "target_labels", "status", "detail", "padded", "gene",
    "genes", "percentiles", "provenance",
}  # fmt: skip
_TEXTS = {"chr": "chrom", "ref_allele": "ref", "alt_allele": "alt", "status": "status", "detail": "detail"}
_TEXT_BYTES = 1 << 20  # of text written at once
_ATTRIBUTE_MAX = 60_000  # bytes; HDF5 keeps attributes up to 64 KiB

logger = logging.getLogger("kipoi_borzoi")


def check(header: Header) -> None:
    """Raise InputError when a scorer's name is that of another part of the layout."""
    for scorer in (*header.scorers, *header.gene_scorers):
        if scorer.name in _TAKEN or "/" in scorer.name:
            raise InputError(f"a scorer called {scorer.name!r} has no place in Calico's scores.h5; write .parquet or .tsv.gz")


def write(path: Path, header: Header, survey: Survey, blocks: Iterable[Chunk]) -> None:
    """Write one row per allele in the order of the input.

    Per scorer a dataset (alleles, columns), and beside it ``SCORER_sd`` and so on, for the measures there
    are. Genes as Calico's gene scripts have them, a dataset (columns,) at SCORER/SNP/GENE: at the root
    where only genes are scored, else in the group ``genes``; the group SNP of an allele without genes is
    empty. ``snp`` is the record's ID as written, or chrom:pos:ref:alt where it has none; where genes are
    scored, also where the ID was used before.

    See `kipoi_borzoi.variants.writers.tsv.write` for the parameters.
    """
    columns = len(header.columns)
    with new_file(path) as (file, check_disk):
        _write_head(file, header)
        text = {name: survey.widths.get(field, 0) for name, field in _TEXTS.items()}
        text["snp"] = max(survey.widths.get("id", 0), survey.widths.get("variant_id", 0) + len("#") + 12)
        sets = {name: _create_text(file, name, survey.alleles, max(1, width)) for name, width in text.items()}
        fits = 0 <= survey.positions[0] and survey.positions[1] < 1 << 32
        sets["pos"] = _create(file, "pos", (survey.alleles,), np.uint32 if fits else np.int64)
        sets["padded"] = _create(file, "padded", (survey.alleles,), np.float32)
        for scorer in header.scorers:
            for name in (name for name in MEASURES if name == "mean" or name in survey.measures):
                dataset = _create(file, _dataset(scorer.name, name), (survey.alleles, columns), np.float32)
                _describe(dataset, scorer)
        for profile in header.profiles:
            _create(file, profile, (survey.alleles, survey.bins, columns), np.float32)
        genes = _Genes(file.create_group("genes") if header.scorers and header.gene_scorers else file, header, survey)
        first = 0
        for block in blocks:
            stop = first + len(block.alleles)
            snps = genes.write(block)
            _write_text(sets["snp"], first, snps)
            for name, field in _TEXTS.items():
                _write_text(sets[name], first, [getattr(row, field) for row in block.alleles])
            sets["pos"][first:stop] = [row.pos for row in block.alleles]
            sets["padded"][first:stop] = [row.padded for row in block.alleles]
            for scorer in header.scorers:
                for name in (name for name in MEASURES if name == "mean" or name in survey.measures):
                    array = measure(block.scores, scorer.name, name, len(block.alleles), columns)
                    file[_dataset(scorer.name, name)][first:stop] = array
            for profile in header.profiles:
                array = block.profiles.get(profile, np.nan)
                file[profile][first:stop] = array
            first = stop
            check_disk()
        genes.finish()
        file.attrs["complete"] = True


def _create(file, name: str, shape: tuple[int, ...], dtype):
    """A dataset in one piece, without the time of its making."""
    fill = np.nan if np.issubdtype(np.dtype(dtype), np.floating) else None
    return file.create_dataset(name, shape, dtype, fillvalue=fill, track_times=False)


def _create_text(file, name: str, rows: int, width: int):
    """Text as wide as its longest one, which may be an allele of many kb: compressed, for most of it is padding."""
    options = {"chunks": (min(rows, max(1, _TEXT_BYTES // width)),), "compression": "gzip"} if rows else {}
    return file.create_dataset(name, (rows,), f"S{width}", track_times=False, **options)


def _write_text(dataset, first: int, texts: list[str]) -> None:
    step = max(1, _TEXT_BYTES // dataset.dtype.itemsize)
    for start in range(0, len(texts), step):
        part = np.array([text.encode() for text in texts[start : start + step]], dataset.dtype)
        dataset[first + start : first + start + len(part)] = part


def _write_head(file, header: Header) -> None:
    provenance = provenance_text(header.provenance)
    if len(provenance) <= _ATTRIBUTE_MAX:
        file.attrs["provenance"] = provenance
    else:
        file.create_dataset("provenance", data=provenance, track_times=False)
    for name, field in (("target_ids", "name"), ("target_labels", "description")):
        texts = [getattr(column, field).encode() for column in header.columns]
        file.create_dataset(name, data=np.array(texts, f"S{max(1, *map(len, texts))}"), track_times=False)


def _describe(dataset, scorer) -> None:
    dataset.attrs["formula"] = scorer.formula
    dataset.attrs["signed"] = scorer.signed


def _dataset(scorer: str, name: str) -> str:
    return scorer if name == "mean" else f"{scorer}_{name}"


class _Genes:
    """The gene scores below ``group``, and the name of each allele there."""

    def __init__(self, group, header: Header, survey: Survey):
        self.group, self.header = group, header
        self.names = [name for name in MEASURES if name == "mean" or name in survey.gene_measures]
        self.known: dict[str, None] = {}
        self.renamed = 0
        if header.gene_scorers:
            for scorer in header.gene_scorers:
                for name in self.names:
                    _describe(group.create_group(_dataset(scorer.name, name)), scorer)

    def write(self, block: Chunk) -> list[str]:
        """Write a block's gene scores; return the names of its alleles."""
        names = [row.variant_id if row.id in (".", "") else row.id for row in block.alleles]
        if not self.header.gene_scorers:
            return names
        columns = len(self.header.columns)
        rows: list[list[int]] = [[] for _ in block.alleles]
        for row, gene in enumerate(block.genes):
            rows[gene.allele].append(row)
            self.known.setdefault(gene.gene_id)
        arrays = {
            _dataset(scorer.name, name): measure(block.gene_scores, scorer.name, name, len(block.genes), columns)
            for scorer in self.header.gene_scorers
            for name in self.names
        }
        for number, allele in enumerate(block.alleles):
            names[number] = self._unused(names[number], allele)  # without genes too: no other allele may answer for it
            for dataset, array in arrays.items():
                group = self.group[dataset].create_group(_link(names[number]))
                for row in rows[number]:
                    group.create_dataset(_link(block.genes[row].gene_id), data=array[row], track_times=False)
        return names

    def _unused(self, name: str, allele) -> str:
        first = self.group[self.header.gene_scorers[0].name]
        for candidate in (name, allele.variant_id, f"{allele.variant_id}#{allele.number}"):
            if _link(candidate) not in first:
                self.renamed += candidate != name
                return candidate
        raise InputError(f"{allele.variant_id}: the names {name!r} and {candidate!r} are both taken by other alleles' IDs")

    def finish(self) -> None:
        """Write the list of genes."""
        if self.header.gene_scorers:
            texts = [gene.encode() for gene in sorted(self.known)]
            width = max([1, *map(len, texts)])
            self.group.create_dataset("gene", data=np.array(texts, f"S{width}"), track_times=False)
        if self.renamed:
            logger.warning(
                "%d alleles are called chrom:pos:ref:alt in 'snp', because another allele has the same ID", self.renamed
            )


def _link(name: str) -> str:
    """A name that HDF5 takes for one step of a path."""
    return "%2E" if name == "." else name.replace("%", "%25").replace("/", "%2F") if "/" in name else name
