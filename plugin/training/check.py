"""Looking at a data set, before it is built or afterwards, for what goes wrong in practice and would only show in a poor model.

Limits were set around the tracks of Calico's data sets (K562 and brain subsets of human and mouse), three times or more
outside of what those show.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from kipoi_borzoi.dataloaders.bed import read_bed
from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.coverage import (
    Blacklist,
    CoverageReader,
    Recipe,
    locate_coverage,
    open_coverage,
    read_target,
)
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.gtf import read_gtf
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.tracks import Tracks, unsquash
from kipoi_borzoi.training.build import Sources, read_target_table
from kipoi_borzoi.training.store import Layout, Store
from kipoi_borzoi.training.windows import fold_overlaps, read_windows

CODES = {
    "CONTIG_ALIAS": "contig names differ by the prefix 'chr' and are matched",
    "COVERAGE_FILE": "a coverage file cannot be used, or a contig is missing or of another length in it",
    "COVERAGE_VALUES": "coverage that is negative, infinite or cannot be read",
    "NO_COVERAGE": "a track is 0 in all sequences that were read",
    "LOW_COVERAGE": "a track is 0 in nearly all bins",
    "SCALE": "the scale does not fit the depth of the library",
    "PAIR_DIFFERS": "the two strands of an experiment have different scale, clips or sum_stat",
    "STRAND_SWAPPED": "the strands of a pair look swapped: genes have more coverage on the other strand's track",
    "STRAND_UNCLEAR": "genes have much the same coverage in both tracks of a stranded pair",
    "FOLD_OVERLAP": "two folds have targets on the same bases",
    "FOLD_WINDOWS": "windows of two folds share bases, without targets on both",
    "FOLD_SINGLE": "there is one fold only, so nothing is held out",
    "PADDED": "windows reach beyond their contig",
}
NOTES = {"CONTIG_ALIAS", "FOLD_WINDOWS", "PADDED"}
"""Codes of what is worth knowing, but no problem."""

MIN_COVERED = 1e-3  # fraction of bins; real tracks have 0.007 and more
MAX_SOFT_CLIPPED = 0.02  # fraction of covered bins; real tracks have at most 0.006
SCALE_FACTOR = 5.0  # between the scale and that by which one fragment counts as 1
MIN_PEAK = 1.0  # of targets; real tracks reach 2.9 and more
TYPICAL_DENSITY = {"sum": 0.005, "mean": 0.1}  # scaled coverage per bp, one strand: 30 M fragments in 3.1 Gb
SENSE_SWAPPED, SENSE_CLEAR = 0.35, 0.65  # fraction of genes' coverage on their own strand's track
MIN_GENE_BINS = 20  # covered bins in genes, both tracks of a pair together, for an opinion on their strands
_MIN_STRETCHES, _MIN_SHARE = 30, 0.3
_PLUS, _MINUS = (
    re.compile(r"(\+|[._-]?(plus|fwd|forward|pos))$", re.I),
    re.compile(r"(-|[._-]?(minus|rev|reverse|neg))$", re.I),
)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    code : str
        One of `CODES`.
    subject : str
        Track, file or folds.
    message : str
        What was found and what can be done.
    value : float or None
        The number that decided.
    proposal : float or None
        A better scale.
    """

    code: str
    subject: str
    message: str
    value: float | None = None
    proposal: float | None = None

    @property
    def problem(self) -> bool:
        """Whether it is a problem, not a note."""
        return self.code not in NOTES


@dataclass(frozen=True)
class Report:
    """What `check_store` and `check_sources` found.

    Attributes
    ----------
    subject : str
    examples : int
        Sequences that were read.
    findings : list of Finding
    tracks : list of dict
        Per track: identifier, covered (fraction of bins above 0), mean and maximum of the targets, soft_clipped (fraction
        of covered bins above the soft clip), sense (fraction of genes' coverage on their own strand, or None).
    """

    subject: str
    examples: int
    findings: list[Finding]
    tracks: list[dict] = field(default_factory=list)

    @property
    def problems(self) -> list[Finding]:
        """The findings that are problems."""
        return [finding for finding in self.findings if finding.problem]

    def as_dict(self) -> dict:
        """All of it as plain values."""
        findings = [{**asdict(finding), "problem": finding.problem} for finding in self.findings]
        return {"subject": self.subject, "examples": self.examples, "findings": findings, "tracks": self.tracks}


def check_store(path, genes=None, sample: int = 200) -> Report:
    """Check a complete store.

    Parameters
    ----------
    path : path
        Folder of the store.
    genes : path, optional
        GTF, or BED with strands, for the strand check.
    sample : int
        How many examples are read, evenly spaced.

    Raises
    ------
    InputError
        When the store or the genes cannot be read.
    """
    with Store.open(path) as store:
        numbers = _spread(len(store), sample)
        summary = _Summary(store.tracks, store.layout, _read_genes(genes, store.layout.intervals))
        rows = list(range(len(store.tracks)))
        for number in numbers:
            summary.add(store.targets(number), store.interval(number), rows)
        padded = {int(number): beyond for number, beyond in store.source.get("padded", {}).items()}
        aliases = store.source.get("aliases", {})
        findings = _check_windows(store.layout, padded, aliases) + summary.findings()
        return Report(str(path), len(numbers), findings, summary.table())


def check_sources(
    sources: Sources, recipe: Recipe, seq_length: int | None = None, genes=None, sample: int = 40
) -> Report:
    """Check the files that a store is to be built of; parameters and errors as `check_store` and `build`."""
    tracks = read_target_table(sources.targets)
    fasta = FastaReader(sources.fasta)
    windows = read_windows(sources.sequences, fasta, seq_length, recipe.crop_bp)
    layout = Layout(
        tracks,
        recipe.transform,
        windows.seq_length,
        recipe.crop_bp,
        recipe.pool_width,
        windows.intervals,
        windows.folds,
    )
    blacklist = Blacklist(sources.blacklist) if sources.blacklist else None
    if blacklist:
        blacklist.check_contigs(fasta.contigs)
    lengths = {name: fasta.contigs[fasta.resolve(name)] for name in dict.fromkeys(i.chrom for i in windows.intervals)}
    numbers = _spread(len(windows.intervals), sample)
    summary = _Summary(tracks, layout, _read_genes(genes, layout.intervals))
    findings, aliases, readable = [], {}, []
    for row, file in enumerate(tracks.files):
        name, code = tracks.identifiers[row], "COVERAGE_FILE"
        track = tracks.select([int(tracks.index[row])])
        try:
            with open_coverage(locate_coverage(file, sources.targets)) as reader:
                for contig, length in lengths.items():
                    reader.resolve(contig, length)
                aliases.update(reader.aliases)
                code = "COVERAGE_VALUES"
                for number in numbers:
                    window = windows.intervals[number]
                    target = read_target(reader, window, track, recipe, blacklist)
                    summary.add(target[:, None], window, [row])
                findings += _check_unit(reader, [windows.intervals[number] for number in numbers], track, name)
                readable.append(row)
        except InputError as error:
            findings.append(Finding(code, name, str(error)))
    summary.readable = readable
    scaled = {finding.subject for finding in findings if finding.code == "SCALE"}
    more = [finding for finding in summary.findings() if not (finding.code == "SCALE" and finding.subject in scaled)]
    findings = _check_windows(layout, windows.padded, aliases) + findings + more
    return Report(str(sources.targets), len(numbers), findings, summary.table())


def _spread(count: int, sample: int) -> list[int]:
    if sample < 1:
        raise InputError(f"{sample} sequences to read, expected 1 or more")
    return sorted(set(np.linspace(0, count - 1, min(count, sample)).round().astype(int).tolist()))


def _check_windows(layout: Layout, padded: dict[int, int], aliases: dict[str, str]) -> list[Finding]:
    findings = []
    if aliases:
        name, other = next(iter(aliases.items()))
        findings.append(
            Finding("CONTIG_ALIAS", name, f"contig {name!r} of the sequences is {other!r} in coverage files")
        )
    if len(layout.folds) == 1:
        findings.append(
            Finding(
                "FOLD_SINGLE", layout.folds[0], "all sequences are in one fold; hold some out for validation and test"
            )
        )
    for overlap in fold_overlaps(layout.intervals, layout.example_folds, layout.folds, layout.crop_bp):
        names = " and ".join(overlap.folds)
        if overlap.target_bp:
            message = f"both have targets on {overlap.target_bp} bp, such as {overlap.example}: what is learned in one is tested in the other"
            findings.append(Finding("FOLD_OVERLAP", names, message, float(overlap.target_bp)))
        else:
            message = f"their windows share {overlap.window_bp} bp, such as {overlap.example}, but no targets"
            findings.append(Finding("FOLD_WINDOWS", names, message, float(overlap.window_bp)))
    if padded:
        first = min(padded)
        message = f"{len(padded)} sequences reach beyond their contig, such as {layout.intervals[first]} by {padded[first]} bp"
        findings.append(Finding("PADDED", "sequences", message, float(len(padded))))
    return findings


class _Summary:
    """Sums over examples, from which tracks are judged."""

    def __init__(self, tracks: Tracks, layout: Layout, genes: dict | None):
        self.tracks, self.layout, self.genes = tracks, layout, genes
        n = len(tracks)
        self.readable = list(range(n))
        self.bins, self.covered, self.soft = np.zeros(n), np.zeros(n), np.zeros(n)
        self.total, self.peak, self.linear = np.zeros(n), np.zeros(n), np.zeros(n)
        self.on_genes = {strand: np.zeros(n) for strand in "+-"}
        self.gene_bins = np.zeros(n)
        # The old transform clips before it scales.
        self.soft_limit = tracks.clip_soft * (tracks.scale if layout.transform == "old" else 1)
        self._chosen: tuple[list[int], Tracks] = ([], tracks)

    def add(self, targets: np.ndarray, window: Interval, rows: list[int]) -> None:
        """Count the targets (bins, len(rows)) of one window."""
        if rows != self._chosen[0]:
            self._chosen = rows, self.tracks.select(self.tracks.index[rows].tolist())
        y = targets.astype(np.float32)
        self.bins[rows] += len(y)
        self.covered[rows] += (y > 0).sum(axis=0)
        self.soft[rows] += (y > self.soft_limit[rows]).sum(axis=0)
        self.total[rows] += y.sum(axis=0, dtype=float)
        self.peak[rows] = np.maximum(self.peak[rows], y.max(axis=0))
        self.linear[rows] += unsquash(y, self._chosen[1], self.layout.transform).sum(axis=0, dtype=float)
        if self.genes:
            for strand, bins in _gene_bins(self.genes, window, self.layout).items():
                self.on_genes[strand][rows] += y[bins].sum(axis=0, dtype=float)
                self.gene_bins[rows] += (y[bins] > 0).sum(axis=0)

    def sense(self, row: int, partner: int) -> float | None:
        """Fraction of the genes' coverage that lies on their own strand's track, for a pair (plus, minus); None for little."""
        if self.gene_bins[row] + self.gene_bins[partner] < MIN_GENE_BINS:
            return None
        own = self.on_genes["+"][row] + self.on_genes["-"][partner]
        other = self.on_genes["-"][row] + self.on_genes["+"][partner]
        return own / (own + other)

    def findings(self) -> list[Finding]:
        found = []
        for row in self.readable:
            found += self._of_track(row)
        for plus, minus, guessed in _pairs(self.tracks):
            if plus in self.readable and minus in self.readable:
                found += self._of_pair(plus, minus, guessed)
        return found

    def _of_track(self, row: int) -> list[Finding]:
        name = self.tracks.identifiers[row]
        covered = self.covered[row] / self.bins[row]
        if not covered:
            return [Finding("NO_COVERAGE", name, "0 in all sequences that were read; is it the right file?", 0.0)]
        found = []
        if covered < MIN_COVERED:
            message = f"only {covered:.2g} of the bins have any coverage; too little to learn from, leave the track out"
            found.append(Finding("LOW_COVERAGE", name, message, covered))
        how, scale = self.tracks.sum_stat[row].removesuffix("_sqrt"), float(self.tracks.scale[row])
        proposal = None
        if how in TYPICAL_DENSITY:
            density = self.linear[row] / self.bins[row] / (self.layout.bin_size if how == "sum" else 1)
            proposal = _round(scale * TYPICAL_DENSITY[how] / density)
        advice = f"; try {proposal:g}" if proposal else ""
        soft, peak = self.soft[row] / self.covered[row], float(self.peak[row])
        if soft > MAX_SOFT_CLIPPED:
            message = f"{soft:.1%} of the covered bins are above the soft clip: scale {scale:g} is too large{advice}"
            found.append(Finding("SCALE", name, message, soft, proposal))
        elif peak < MIN_PEAK and covered >= MIN_COVERED and (proposal is None or proposal > SCALE_FACTOR * scale):
            message = f"no bin is above {peak:.2g}: scale {scale:g} is too small{advice}"
            found.append(Finding("SCALE", name, message, peak, proposal))
        return found

    def _of_pair(self, plus: int, minus: int, guessed: bool) -> list[Finding]:
        tracks = self.tracks
        names = f"{tracks.identifiers[plus]}, {tracks.identifiers[minus]}"
        found = []
        different = [
            name for name in ("clip", "clip_soft", "scale", "sum_stat")
            if getattr(tracks, name)[plus] != getattr(tracks, name)[minus]
        ]  # fmt: skip
        if different:
            found.append(Finding("PAIR_DIFFERS", names, f"the two strands differ in {', '.join(different)}"))
        sense = self.sense(plus, minus)
        if sense is not None and sense < SENSE_CLEAR:
            which = (
                f" (taking {tracks.identifiers[plus]} for the forward strand, which its name does not say)"
                if guessed
                else ""
            )
            if sense < SENSE_SWAPPED:
                code, meaning = (
                    "STRAND_SWAPPED",
                    "the strands look swapped, as 10x libraries have them: exchange the two files",
                )
            else:
                code, meaning = "STRAND_UNCLEAR", "is the library unstranded? Then sum the strands into one track"
            found.append(
                Finding(code, names, f"{sense:.0%} of genes' coverage is on their own strand{which}; {meaning}", sense)
            )
        return found

    def table(self) -> list[dict]:
        sense = {}
        for plus, minus, _ in _pairs(self.tracks) if self.genes else ():
            sense[plus] = sense[minus] = self.sense(plus, minus)
        return [
            {
                "identifier": self.tracks.identifiers[row],
                "covered": self.covered[row] / self.bins[row],
                "mean": self.total[row] / self.bins[row],
                "max": float(self.peak[row]),
                "soft_clipped": self.soft[row] / self.covered[row] if self.covered[row] else 0.0,
                "sense": sense.get(row),
            }
            for row in self.readable
        ]


def _pairs(tracks: Tracks) -> list[tuple[int, int, bool]]:
    """Rows (plus, minus) of each stranded pair, and whether that order had to be guessed."""
    pairs = []
    for row, partner in enumerate(tracks.pair_rows().tolist()):
        if row >= partner:
            continue
        one, other = tracks.identifiers[row], tracks.identifiers[partner]
        if _PLUS.search(one) and _MINUS.search(other):
            pairs.append((row, partner, False))
        elif _MINUS.search(one) and _PLUS.search(other):
            pairs.append((partner, row, False))
        else:
            pairs.append((row, partner, True))
    return pairs


def _check_unit(reader: CoverageReader, windows: list[Interval], track: Tracks, name: str) -> list[Finding]:
    """Hold the scale against the one by which each fragment counts as 1, where the file shows single fragments."""
    if not track.sum_stat[0].startswith("sum"):
        return []
    unit = fragment_unit([reader.read(window) for window in windows])
    if unit is None:
        return []
    value, length = unit
    scale, proposal = float(track.scale[0]), _round(1 / (value * length))
    if 1 / SCALE_FACTOR <= scale / proposal <= SCALE_FACTOR:
        return []
    message = (
        f"single fragments have coverage {value:.3g} on {length:g} bp, so with scale {scale:g} one counts as "
        f"{scale * value * length:.3g}; scale {proposal:g} makes it 1"
    )
    return [Finding("SCALE", name, message, scale, proposal)]


def fragment_unit(coverage: list[np.ndarray]) -> tuple[float, float] | None:
    """Coverage and length in bp of a single read or fragment, found where it stands alone.

    A stretch of one value with none on either side is most often one fragment; the commonest value of such
    stretches is its coverage, their median length its length. For raw coverage the value is 1; for coverage normalised to
    reads per million, a million divided by the number of reads.

    Returns
    -------
    (float, float) or None
        None when there are few such stretches, or no value is common among them.
    """
    values, lengths = [], []
    for array in coverage:
        x = np.nan_to_num(np.abs(array))
        starts = np.flatnonzero(np.r_[True, x[1:] != x[:-1]])
        ends = np.r_[starts[1:], len(x)]
        inner = np.flatnonzero((x[starts] > 0) & (starts > 0) & (ends < len(x)))
        alone = inner[(x[starts[inner] - 1] == 0) & (x[ends[inner]] == 0)]
        values.append(x[starts[alone]])
        lengths.append(ends[alone] - starts[alone])
    values, lengths = np.concatenate(values), np.concatenate(lengths)
    if len(values) < _MIN_STRETCHES:
        return None
    # Values that differ in the seventh digit are the same.
    _, which, counts = np.unique(np.round(np.log(values), 6), return_inverse=True, return_counts=True)
    common = which == counts.argmax()
    if common.sum() < _MIN_SHARE * len(values):
        return None
    return float(np.median(values[common])), float(np.median(lengths[common]))


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def _read_genes(path, intervals: tuple[Interval, ...]) -> dict[str, list[tuple[int, int, str]]] | None:
    """Genes for the windows ``intervals``; None without a file."""
    if not path:
        return None
    genes = _read_stretches(path)
    contigs = {interval.chrom for interval in intervals}
    if all(match_contig(chrom, genes) is None for chrom in contigs):
        raise InputError(
            f"{path}: none of its contigs ({', '.join(list(genes)[:5])}) has a sequence of the data set "
            f"({', '.join(sorted(contigs)[:5])}); are the genes of the same assembly?"
        )
    return genes


def _read_stretches(path) -> dict[str, list[tuple[int, int, str]]]:
    """Stranded stretches by contig: exons of a GTF file, or the lines of a BED file."""
    if Path(path).name.removesuffix(".gz").endswith((".bed", ".bed6", ".bed12")):
        stretches = [(i.chrom, i.start, i.end, i.strand) for i in read_bed(path) if i.strand != "."]
    else:
        stretches = [(gene.chrom, *exon, gene.strand) for gene in read_gtf(path) if gene.strand != "." for exon in gene.exons]
    if not stretches:
        raise InputError(f"{path}: no stranded exon in it; a GTF, or a BED file with 6 columns, is expected")
    genes: dict[str, list[tuple[int, int, str]]] = {}
    for chrom, start, end, strand in stretches:
        genes.setdefault(chrom, []).append((start, end, strand))
    return {chrom: sorted(found) for chrom, found in genes.items()}


def _gene_bins(genes: dict, window: Interval, layout: Layout) -> dict[str, np.ndarray]:
    """Bins of a window that lie in genes of one strand and of no other, by strand."""
    start = window.start + layout.crop_bp
    marks = {strand: np.zeros(layout.bins, dtype=bool) for strand in "+-"}
    for first, last, strand in genes.get(match_contig(window.chrom, genes) or "", ()):
        low, high = (first - start) // layout.bin_size, -((start - last) // layout.bin_size)
        if high > 0 and low < layout.bins:
            marks[strand][max(low, 0) : high] = True
    return {"+": marks["+"] & ~marks["-"], "-": marks["-"] & ~marks["+"]}


def write_text(report: Report, out: Callable[[str], None]) -> None:
    """Write a report for people, line by line, to ``out``."""
    problems = len(report.problems)
    out(
        f"{report.subject}: {report.examples} sequences read, "
        + (f"{problems} problem{'s' * (problems != 1)}" if problems else "no problem found")
    )
    for finding in sorted(report.findings, key=lambda finding: not finding.problem):
        out(f"{'PROBLEM' if finding.problem else 'note'}  {finding.code}  {finding.subject}: {finding.message}")


def write_tsv(report: Report, out: Callable[[str], None]) -> None:
    """Write a report as TSV with a header, one finding a line, to ``out``."""
    out("\t".join(("problem", "code", "subject", "value", "proposal", "message")))
    for finding in report.findings:
        numbers = ["" if number is None else f"{number:.6g}" for number in (finding.value, finding.proposal)]
        cells = ["yes" if finding.problem else "no", finding.code, finding.subject, *numbers, finding.message]
        out("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells))
