"""Scores as a VCF of sites, compressed and indexed: INFO keys for bcftools and ``vep --custom``, one value for each ALT."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kipoi_borzoi.errors import InputError
from kipoi_borzoi.variants.header import MEASURES, Header, ScorerInfo, Survey, provenance_text
from kipoi_borzoi.variants.results import SCORED, AlleleRow, Chunk
from kipoi_borzoi.variants.tidy import measure

PREFIX = "KB"
_MOST_KEYS = 10_000
_TBI_MAX = 1 << 29  # bp that a .tbi can address
_RUN_BYTES = 64 << 20  # text sorted at once where the input is not sorted
_UNSAFE = re.compile(r"[%;=,:&\s]")

logger = logging.getLogger("kipoi_borzoi")


@dataclass(frozen=True)
class _Key:
    """One INFO key of scores."""

    name: str
    scorer: ScorerInfo
    column: int
    measure: str
    gene: bool


def check(header: Header) -> None:
    """Raise InputError when there are more scores per allele than the lines of a VCF can sensibly hold."""
    count = len(header.columns) * (len(header.scorers) + len(header.gene_scorers))
    if count > _MOST_KEYS:
        raise InputError(
            f"{len(header.columns)} tracks times {len(header.scorers) + len(header.gene_scorers)} scorers are {count} INFO keys, "
            f"more than {_MOST_KEYS}: choose tracks (--tracks), or write .parquet or .h5"
        )


def index_name(out: Path, survey: Survey) -> Path:
    """The index's name: ``.tbi``, or ``.csi`` where a position is beyond what that can address."""
    return out.with_name(out.name + (".csi" if survey.positions[1] > _TBI_MAX else ".tbi"))


def write(path: Path, header: Header, survey: Survey, blocks: Iterable[Chunk]) -> None:
    """Write the VCF, bgzip-compressed, and beside it its tabix index (see `index_name`).

    The records are the input's, without its QUAL, FILTER, INFO and samples. Where the input is not
    sorted, they are sorted (contigs by first occurrence), which is said in the log.

    See `kipoi_borzoi.variants.writers.tsv.write` for the parameters.
    """
    import pysam

    if survey.positions[0] < 0:
        raise InputError(f"position {survey.positions[0]} cannot be written to a VCF; write .parquet or .tsv.gz")
    keys = _keys(header, survey)
    records = _records(blocks, header, keys)
    if not survey.in_order:
        logger.warning("the input is not sorted: the records of the .vcf.gz are (tabix needs it); other formats keep the order")
        records = _sorted(records, list(survey.contigs), path.parent)
    with pysam.BGZFile(str(path), "wb") as file:
        file.write(_head(header, survey, keys).encode())
        for _, _, line in records:
            file.write(line)
    csi = survey.positions[1] > _TBI_MAX
    pysam.tabix_index(str(path), preset="vcf", force=True, keep_original=True, csi=csi)


def _keys(header: Header, survey: Survey) -> list[_Key]:
    used = {f"{PREFIX}_{name}" for name in ("STATUS", "DETAIL", "PADDED", "GENE", "GENE_NAME", "GENE_COVERED")}
    keys = []
    for scorers, found, gene in (
        (header.scorers, survey.measures, False), (header.gene_scorers, survey.gene_measures, True)
    ):  # fmt: skip
        for scorer in scorers:
            for number, column in enumerate(header.columns):
                stem = f"{PREFIX}_{'GENE_' if gene else ''}{_plain(scorer.name)}_{_plain(column.name)}"
                measures = [name for name in MEASURES if name == "mean" or name in found]
                names = next(names for names in _names(stem, measures) if not used & set(names))
                used.update(names)
                keys += [_Key(full, scorer, number, name, gene) for full, name in zip(names, measures, strict=True)]
    return keys


def _plain(name: str) -> str:
    """A name with only the characters that an INFO key may have."""
    name = re.sub(r"\+$", "_plus", name)
    name = re.sub(r"-$", "_minus", name)
    return re.sub(r"[^0-9A-Za-z_.]", "_", name)


def _names(stem: str, measures: list[str]) -> Iterator[list[str]]:
    """A column's keys, and others to take when one of them is taken."""
    for number in itertools.count(1):
        base = stem if number == 1 else f"{stem}_{number}"
        yield [base if name == "mean" else f"{base}_{name.upper()}" for name in measures]


def _head(header: Header, survey: Survey, keys: list[_Key]) -> str:
    lines = ["##fileformat=VCFv4.3", f"##kipoi_borzoi_provenance={provenance_text(header.provenance)}"]
    lines.append('##FILTER=<ID=PASS,Description="All filters passed">')
    for contig in survey.contigs:
        length = header.contigs.get(contig)
        lines.append(f"##contig=<ID={contig}" + (f",length={length}>" if length else ">"))
    about = [
        ("STATUS", "String", f"{SCORED}, or why the allele was skipped"),
        ("DETAIL", "String", "What else is to know of the allele, percent-encoded"),
        ("PADDED", "Float", "Fraction of the window beyond the ends of the contig"),
    ]
    if header.gene_scorers:
        about += [
            ("GENE", "String", "Genes with scores, joined by &"),
            ("GENE_NAME", "String", "Names of the genes of KB_GENE, in its order, joined by &"),
            ("GENE_COVERED", "String", "Fraction of the exonic bp of each gene of KB_GENE that was predicted, joined by &"),
        ]
    for name, kind, text in about:
        lines.append(f'##INFO=<ID={PREFIX}_{name},Number=A,Type={kind},Description="{text}">')
    for key in keys:
        kind = "String" if key.gene else "Float"
        lines.append(f'##INFO=<ID={key.name},Number=A,Type={kind},Description="{_describe(key, header)}">')
    return "\n".join([*lines, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]) + "\n"


_MEASURE_TEXTS = {
    "mean": "",
    "sd": "Standard deviation over models of ",
    "agreement": "Fraction of models that agree in sign with ",
    "quantile": "Quantile in the background of ",
    "specificity": "Difference to the mean over other tracks of ",
}


def _describe(key: _Key, header: Header) -> str:
    column = header.columns[key.column]
    parts = [f"{_MEASURE_TEXTS[key.measure]}{key.scorer.name} of {column.kind} {column.name}"]
    parts += [column.description, f"model {column.model}" if column.model else "", key.scorer.formula]
    text = "; ".join(part for part in parts if part)
    if key.gene:
        text += "; a value for each gene of KB_GENE, joined by &"
    return re.sub(r"\s+", " ", text).replace("\\", "\\\\").replace('"', '\\"')


def _records(blocks: Iterable[Chunk], header: Header, keys: list[_Key]) -> Iterator[tuple[str, int, bytes]]:
    """Contig, position and line of each record."""
    names = [f"{PREFIX}_{name}" for name in ("STATUS", "DETAIL", "PADDED")]
    if header.gene_scorers:
        names += [f"{PREFIX}_GENE", f"{PREFIX}_GENE_NAME", f"{PREFIX}_GENE_COVERED"]
    names += [key.name for key in keys]
    waiting: list[tuple[AlleleRow, list[str]]] = []
    for block in blocks:
        for allele in _alleles(block, header, keys):
            if waiting and not _same_record(waiting[-1][0], allele[0]):
                yield _record(waiting, names)
                waiting = []
            waiting.append(allele)
    if waiting:
        yield _record(waiting, names)


def _same_record(one: AlleleRow, other: AlleleRow) -> bool:
    if one.record >= 0 or other.record >= 0:
        return one.record == other.record
    return (one.chrom, one.pos, one.ref, one.id) == (other.chrom, other.pos, other.ref, other.id)


def _alleles(block: Chunk, header: Header, keys: list[_Key]) -> Iterator[tuple[AlleleRow, list[str]]]:
    """Each allele with its value of each INFO key; '.' for none."""
    columns = len(header.columns)
    texts: dict[tuple, list[list[str]]] = {}
    for key in keys:
        place = (key.gene, key.scorer.name, key.measure)
        if place not in texts:
            scores, rows = (block.gene_scores, block.genes) if key.gene else (block.scores, block.alleles)
            texts[place] = _texts(measure(scores, key.scorer.name, key.measure, len(rows), columns))
    plan = [(key.gene, texts[key.gene, key.scorer.name, key.measure], key.column) for key in keys]
    genes: list[list[int]] = [[] for _ in block.alleles]
    for row, gene in enumerate(block.genes):
        genes[gene.allele].append(row)
    for row, allele in enumerate(block.alleles):
        padded = "." if np.isnan(allele.padded) else str(float(allele.padded))
        values = [_encode(allele.status), _encode(allele.detail), padded]
        if header.gene_scorers:
            for field in ("gene_id", "gene_name", "covered"):
                values.append("&".join(_encode(str(getattr(block.genes[i], field))) for i in genes[row]) or ".")
        for gene, table, column in plan:
            values.append(("&".join(table[i][column] for i in genes[row]) or ".") if gene else table[row][column])
        yield allele, values


def _texts(array: np.ndarray) -> list[list[str]]:
    flat = list(map(str, array.ravel()))
    for place in np.flatnonzero(np.isnan(array.ravel())).tolist():
        flat[place] = "."
    width = array.shape[1]
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def _encode(text: str) -> str:
    """Percent-encoded, as VCF 4.3 asks for what separates values; '.' for no text."""
    return _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text) or "."


def _record(alleles: list[tuple[AlleleRow, list[str]]], names: list[str]) -> tuple[str, int, bytes]:
    first = alleles[0][0]
    info = []
    for name, values in zip(names, zip(*(values for _, values in alleles), strict=True), strict=True):
        if any(value.strip("&.") for value in values):
            info.append(f"{name}={','.join(values)}")
    alts = ",".join(allele.alt or "." for allele, _ in alleles)
    line = "\t".join([first.chrom, str(first.pos), first.id or ".", first.ref, alts, ".", ".", ";".join(info) or "."])
    return first.chrom, first.pos, f"{line}\n".encode()


def _sorted(records: Iterable[tuple[str, int, bytes]], contigs: list[str], folder: Path) -> Iterator[tuple[str, int, bytes]]:
    """Records by contig and position, equal ones in their order, with bounded memory: sorted runs on disk, merged."""
    order = {contig: number for number, contig in enumerate(contigs)}
    with contextlib.ExitStack() as stack:
        runs, waiting, size = [], [], 0
        for number, (chrom, pos, line) in enumerate(records):
            waiting.append((order[chrom], pos, number, line))
            size += len(line)
            if size > _RUN_BYTES:
                runs.append(_run(waiting, stack.enter_context(tempfile.TemporaryFile(dir=folder))))
                waiting, size = [], 0
        runs.append(sorted(waiting))
        for contig, pos, _, line in heapq.merge(*runs):
            yield contigs[contig], pos, line


def _run(waiting: list[tuple[int, int, int, bytes]], file) -> Iterator[tuple[int, int, int, bytes]]:
    for contig, pos, number, line in sorted(waiting):
        file.write(b"%d %d %d " % (contig, pos, number) + line)
    file.seek(0)
    return _read_run(file)


def _read_run(file) -> Iterator[tuple[int, int, int, bytes]]:
    for text in file:
        contig, pos, number, line = text.split(b" ", 3)
        yield int(contig), int(pos), int(number), line
