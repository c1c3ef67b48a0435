"""From the records of a VCF to alleles that may be scored: each ALT is checked against the genome, put into the one spelling
that equivalent alleles share, or given the reason why it is not scored.

Nothing is dropped: what goes in comes out, in its order, one `Allele` per ALT.
"""

from __future__ import annotations

import hashlib
import logging
import re
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from kipoi_borzoi.dataloaders.bed import BedRecord
from kipoi_borzoi.dataloaders.contigs import match_contig
from kipoi_borzoi.dataloaders.fasta import FastaReader
from kipoi_borzoi.dataloaders.vcf import VcfReader, VcfRecord
from kipoi_borzoi.errors import InputError
from kipoi_borzoi.genome import Interval
from kipoi_borzoi.variants.results import SCORED, AlleleRow

REASONS: Mapping[str, str] = {
    "REF_MISMATCH": "REF is not what the FASTA has at this position; alleles are never swapped to make them fit",
    "REF_NOT_ACGT": "REF, or the FASTA at REF, has N or another letter that is not A, C, G or T",
    "REF_EQ_ALT": "ALT equals REF",
    "ALT_NOT_ACGT": "ALT has a letter that is not A, C, G or T",
    "ALT_SYMBOLIC": "ALT is symbolic, such as <DEL> or <NON_REF>: it does not spell a sequence",
    "ALT_BREAKEND": "ALT is a breakend: it joins to another place",
    "ALT_STAR": "ALT is '*': the base is deleted by another record",
    "ALT_MISSING": "ALT is '.' or empty",
    "CONTIG_UNKNOWN": "the FASTA has no such contig, also not with or without 'chr'",
    "POS_OUT_OF_RANGE": "POS is below 1, or REF reaches beyond the end of the contig",
    "TOO_LONG": "more bases are removed or inserted than --max-indel, or a quarter of the window, allows",
    "NO_GENE": "only gene scores are asked for, and no gene's exons fall in the output window",
}
"""Why an allele is skipped: every code with a line of help."""

DUPLICATE = "DUPLICATE"
"""Begins the detail of a scored allele that came before: same contig, position, REF and ALT."""

MISMATCH_MIN = 20
"""Fewer alleles with a comparable REF say nothing about the genome."""

MAX_MISMATCH = 0.05
"""Fraction of alleles whose REF may mismatch before the genome counts as the wrong one."""

MAX_INDEL = 1000
"""bp that an allele may remove or insert unless said otherwise."""

# Alleles looked back at for duplicates: a bound on memory (16 bytes of digest each, and the mapping's own).
# In a sorted file duplicates stand together.
_REMEMBERED = 1 << 16
_BLOCK = 1 << 16  # bp of genome read at a time
_ACGT = re.compile("[ACGT]+")
_SYMBOLIC = re.compile(r"<.*>")
_COMPLEMENT = str.maketrans("ACGTN", "TGCAN")

logger = logging.getLogger("kipoi_borzoi")


class Genome:
    """Bases of a FASTA file by position, a few recent stretches kept: looking up neighbours costs one read.

    Parameters
    ----------
    fasta : FastaReader
    """

    def __init__(self, fasta: FastaReader):
        self.fasta = fasta
        self._block = lru_cache(maxsize=32)(self._read_block)

    def resolve(self, chrom: str) -> str | None:
        """The FASTA's name of a contig; None when it has none."""
        if match_contig(chrom, self.fasta.contigs) is None:
            return None
        return self.fasta.resolve(chrom)

    def length(self, contig: str) -> int:
        """Length of a contig in bp."""
        return self.fasta.contigs[contig]

    def text(self, contig: str, start: int, end: int) -> str:
        """Bases of ``[start, end)`` in upper case; N beyond the contig's ends, also where all of it is beyond."""
        length = self.length(contig)
        first, last = min(max(start, 0), length), max(min(end, length), 0)
        if first >= last:
            return "N" * (end - start)
        blocks = range(first // _BLOCK, (last - 1) // _BLOCK + 1)
        bases = "".join(self._block(contig, block) for block in blocks)
        offset = blocks.start * _BLOCK
        return "N" * (first - start) + bases[first - offset : last - offset] + "N" * (end - last)

    def _read_block(self, contig: str, block: int) -> str:
        end = min((block + 1) * _BLOCK, self.length(contig))
        return self.fasta.fetch(Interval(contig, block * _BLOCK, end))


@dataclass(frozen=True)
class Change:
    """What an allele does to the genome, in the one spelling that equivalent alleles share.

    The bases that both alleles share at their ends are trimmed away, and what is only removed or only
    inserted is moved as far left as the sequence allows.

    Attributes
    ----------
    contig : str
        The FASTA's name.
    start : int
        0-based position of the first replaced base; of an insertion, of the base that it precedes.
    ref, alt : str
        What is removed there and what is put in its place, upper case; one of them may be empty.
    """

    contig: str
    start: int
    ref: str
    alt: str

    @property
    def pos(self) -> int:
        """1-based position that windows are centred on: the first changed base, or of an indel the base before."""
        return self.start + 1 if self.ref and self.alt else self.start

    @property
    def size(self) -> int:
        """bp by which the sequence becomes longer (negative: shorter)."""
        return len(self.alt) - len(self.ref)


@dataclass(frozen=True)
class Allele:
    """One ALT of the input: how it is reported, and what it does (None when it is skipped)."""

    row: AlleleRow
    change: Change | None = None


@dataclass(frozen=True)
class Rules:
    """What is looked at in an input.

    Attributes
    ----------
    max_indel : int
        Longest allele in bp after trimming, removed or inserted.
    regions : sequence of BedRecord, optional
        Only alleles whose REF overlaps one of these belong to the input.
    """

    max_indel: int = MAX_INDEL
    regions: Sequence[BedRecord] | None = None


@dataclass(frozen=True)
class Survey:
    """What a first look at a whole input found.

    Attributes
    ----------
    total : int
        Alleles, within the regions if there are any.
    skipped : dict of str to int
        How many per reason code.
    duplicates : int
        Scored alleles that came before.
    outside : int
        Alleles outside of the regions, which do not count.
    examples : dict of str to str
        For each reason, the first allele with it, in words.
    """

    total: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    outside: int = 0
    examples: Mapping[str, str] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Alleles that can be scored."""
        return self.total - sum(self.skipped.values())


class AlleleSource:
    """The alleles of one VCF against one genome; every iteration reads both anew and gives the same.

    Memory does not grow with the file. Duplicates are recognised among the last 65,536 alleles.

    Parameters
    ----------
    vcf : VcfReader
    genome : Genome
    rules : Rules
    """

    def __init__(self, vcf: VcfReader, genome: Genome, rules: Rules = Rules()):  # noqa: B008  frozen
        self.vcf, self.genome, self.rules = vcf, genome, rules
        self._regions = None if rules.regions is None else _Regions(rules.regions, genome)
        self.outside = 0

    def __iter__(self) -> Iterator[Allele]:
        number, self.outside = 0, 0
        seen = _Recent(_REMEMBERED)
        for index, record in enumerate(self.vcf):
            if self._regions is not None and not self._regions.overlap(record):
                self.outside += len(record.alts)
                continue
            for alt in record.alts:
                yield self._allele(record, index, alt, number, seen)
                number += 1

    def survey(self, max_mismatch: float = MAX_MISMATCH) -> Survey:
        """Read and check the whole input, so that what is wrong with it shows before anything is computed.

        Raises
        ------
        InputError
            The file cannot be read to its end; none of its contigs is in the FASTA; or so many REF alleles differ from
            the FASTA (more than the fraction ``max_mismatch``, of 20 or more) that it must be of another assembly.
        """
        total = duplicates = 0
        skipped: Counter[str] = Counter()
        examples: dict[str, str] = {}
        hints: Counter[str] = Counter()
        for allele in self:
            total += 1
            row = allele.row
            if allele.change is None:
                skipped[row.status] += 1
                examples.setdefault(row.status, f"{_short(row)}{': ' + row.detail if row.detail else ''}")
                if row.status == "REF_MISMATCH":
                    hints.update(re.findall(r"\(([^()]*)\)$", row.detail))
            duplicates += row.detail.startswith(DUPLICATE)
        self._compare_contigs()
        if total and skipped["CONTIG_UNKNOWN"] == total:
            raise InputError(
                f"{self.vcf.path}: none of the {total} alleles lies on a contig of {self.genome.fasta.path} (first: "
                f"{examples['CONTIG_UNKNOWN']}; the FASTA has {', '.join(list(self.genome.fasta.contigs)[:5])}, ...). "
                "Names are matched with and without 'chr'; rename the contigs: bcftools annotate --rename-chrs"
            )
        fitting = total - sum(skipped.values()) + skipped["REF_EQ_ALT"] + skipped["TOO_LONG"]
        self._check_mismatches(fitting, skipped["REF_MISMATCH"], hints, examples, max_mismatch)
        return Survey(total, {code: skipped[code] for code in REASONS if skipped[code]}, duplicates, self.outside, examples)

    def _check_mismatches(self, fitting, mismatches, hints, examples, max_mismatch) -> None:
        compared = fitting + mismatches
        if compared < MISMATCH_MIN or mismatches <= max_mismatch * compared:
            return
        hint = "".join(f"; {count} {text}" for text, count in hints.most_common(3))
        raise InputError(
            f"{self.vcf.path}: {mismatches} of {compared} REF alleles mismatch {self.genome.fasta.path} (first: "
            f"{examples['REF_MISMATCH']}{hint}). The VCF seems to be of another assembly (build), and those that match may do "
            "so by chance. Use the matching FASTA, or lift the variants over; if this is as it should be, raise --max-mismatch"
        )

    def _compare_contigs(self) -> None:
        """Warn of contigs that the header describes otherwise than the FASTA; REF alleles are the proof, not the header."""
        for name, contig in self.vcf.contigs.items():
            known = match_contig(name, self.genome.fasta.contigs)
            length = None if known is None else self.genome.length(known)
            if known is not None and contig.length not in (None, length):
                logger.warning(
                    "%s: its header gives contig %s a length of %d bp%s, %s has %d: is it of another assembly?",
                    self.vcf.path, name, contig.length, f" ({contig.assembly})" if contig.assembly else "",
                    self.genome.fasta.path, length,
                )  # fmt: skip
                return
        named = {contig.assembly for contig in self.vcf.contigs.values() if contig.assembly}
        if self.vcf.reference or named:
            logger.info(
                "%s: its header names the assembly %s; compare with %s",
                self.vcf.path, ", ".join([*sorted(named), *([self.vcf.reference] if self.vcf.reference else [])]),
                self.genome.fasta.path,
            )  # fmt: skip

    def _allele(self, record: VcfRecord, index: int, alt: str, number: int, seen: _Recent) -> Allele:
        status, detail, change = self._judge(record, alt)
        if change is not None and seen.before(record.chrom, record.pos, record.ref.upper(), alt.upper()):
            detail = f"{DUPLICATE}: the same allele came before"
        row = AlleleRow(number, record.chrom, record.pos, record.ref, alt, record.id, status, detail, record=index)
        return Allele(row, change)

    def _judge(self, record: VcfRecord, alt: str) -> tuple[str, str, Change | None]:
        """Status, detail and change of one ALT."""
        contig = self.genome.resolve(record.chrom)
        if contig is None:
            return "CONTIG_UNKNOWN", "", None
        start, end = record.pos - 1, record.pos - 1 + len(record.ref)
        if start < 0 or end > self.genome.length(contig):
            return "POS_OUT_OF_RANGE", f"contig {contig} is {self.genome.length(contig)} bp long", None
        ref, alt = record.ref.upper(), alt.upper()
        code = _alt_code(alt)
        if code:
            return code, "", None
        found = self.genome.text(contig, start, end)
        if not _ACGT.fullmatch(ref) or not _ACGT.fullmatch(found):
            return "REF_NOT_ACGT", f"the FASTA has {_cut(found)}", None
        if ref != found:
            return "REF_MISMATCH", f"the FASTA has {_cut(found)}{self._hint(contig, start, ref, alt, found)}", None
        if ref == alt:
            return "REF_EQ_ALT", "", None
        change = normalised(self.genome, contig, start, ref, alt)
        longest = max(len(change.ref), len(change.alt))
        if longest > self.rules.max_indel:
            return "TOO_LONG", f"{longest} bp; the limit is {self.rules.max_indel}", None
        return SCORED, "", change

    def _hint(self, contig: str, start: int, ref: str, alt: str, found: str) -> str:
        """What would explain a REF that is not the FASTA's; chance does so for many single bases."""
        if self.genome.text(contig, start, start + len(alt)) == alt:
            return " (ALT fits: REF and ALT seem to be swapped)"
        if ref.translate(_COMPLEMENT)[::-1] == found:
            return " (the complement fits: alleles seem to be of the other strand)"
        for offset, name in ((1, "0-based"), (-1, "one too high")):
            if self.genome.text(contig, start + offset, start + offset + len(ref)) == ref:
                return f" (REF fits at POS {offset:+d}: positions seem to be off by one, {name})"
        return ""


def normalised(genome: Genome, contig: str, start: int, ref: str, alt: str) -> Change:
    """Put an allele into its one spelling: trimmed on both sides, and moved left.

    Parameters
    ----------
    genome : Genome
    contig : str
    start : int
        0-based position of ``ref``.
    ref, alt : str
        Different, upper case; ``ref`` is what the genome has.
    """
    behind = _shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - behind], alt[: len(alt) - behind]
    before = _shared(ref, alt)
    start, ref, alt = start + before, ref[before:], alt[before:]
    if not (ref and alt):
        start, moved = _move_left(genome, contig, start, ref or alt)
        ref, alt = (moved, "") if ref else ("", moved)
    return Change(contig, start, ref, alt)


def _shared(one: str, other: str) -> int:
    """Length of what two texts both begin with."""
    shortest = min(len(one), len(other))
    return next((index for index in range(shortest) if one[index] != other[index]), shortest)


def _move_left(genome: Genome, contig: str, start: int, bases: str) -> tuple[int, str]:
    """Move removed or inserted ``bases`` left as long as that changes nothing in the resulting sequence."""
    steps, length, before, first = 0, len(bases), "", start
    while start > 0:
        if start == first:  # the next stretch of genome on the left
            first = max(0, start - 256)
            before = genome.text(contig, first, start)
        if before[start - first - 1] != bases[(length - 1 - steps) % length]:
            break
        start, steps = start - 1, steps + 1
    turn = length - steps % length
    return start, bases[turn:] + bases[:turn]


def _alt_code(alt: str) -> str | None:
    if alt in ("", "."):
        return "ALT_MISSING"
    if alt == "*":
        return "ALT_STAR"
    if _SYMBOLIC.fullmatch(alt):
        return "ALT_SYMBOLIC"
    if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
        return "ALT_BREAKEND"
    return None if _ACGT.fullmatch(alt) else "ALT_NOT_ACGT"


def _cut(bases: str) -> str:
    return bases if len(bases) <= 20 else f"{bases[:20]}... ({len(bases)} bp)"


def _short(row: AlleleRow) -> str:
    return f"{row.chrom}:{row.pos}:{_cut(row.ref)}:{_cut(row.alt)}"


class _Recent:
    """Whether an allele was among the last ``size`` different ones."""

    def __init__(self, size: int):
        self.size = size
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def before(self, *allele) -> bool:
        """Whether ``allele`` was seen; it counts as seen from now on."""
        key = hashlib.blake2b(repr(allele).encode(), digest_size=16).digest()
        seen = key in self._keys
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self.size:
            self._keys.popitem(last=False)
        return seen


class _Regions:
    """Intervals by contig, asked whether a record's REF overlaps one."""

    def __init__(self, records: Sequence[BedRecord], genome: Genome):
        self._genome = genome
        parts: dict[str, list[tuple[int, int]]] = {}
        for record in records:
            contig = genome.resolve(record.interval.chrom) or record.interval.chrom
            parts.setdefault(contig, []).append((record.interval.start, record.interval.end))
        self._starts: dict[str, list[int]] = {}
        self._ends: dict[str, list[int]] = {}
        for contig, spans in parts.items():
            merged: list[list[int]] = []
            for start, end in sorted(spans):
                if merged and start <= merged[-1][1]:
                    merged[-1][1] = max(merged[-1][1], end)
                else:
                    merged.append([start, end])
            self._starts[contig] = [start for start, _ in merged]
            self._ends[contig] = [end for _, end in merged]

    def overlap(self, record: VcfRecord) -> bool:
        contig = self._genome.resolve(record.chrom) or record.chrom
        if contig not in self._starts:
            return False
        start, end = record.pos - 1, record.pos - 1 + len(record.ref)
        last = bisect_left(self._starts[contig], end) - 1
        return last >= 0 and self._ends[contig][last] > start
