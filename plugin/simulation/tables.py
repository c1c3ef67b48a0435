"""The files that real experiments have too: genes, windows with folds, target tables, variants."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kipoi_borzoi.simulation.coverage import FRAGMENT, Track
from kipoi_borzoi.simulation.genome import Gene, Window
from kipoi_borzoi.simulation.variants import SimulatedVariant

CLIP, CLIP_SOFT = 768, 384


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Write a TSV file with a header line."""
    lines = ["\t".join(header), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_gtf(path: Path, genes: list[Gene]) -> None:
    """Write genes, their transcript and its exons (1-based, ends included)."""
    lines = []
    for gene in genes:
        transcript = gene.transcript
        tags = f'gene_id "{gene.gene_id}"; gene_name "{gene.gene_id}"; gene_type "protein_coding";'

        def line(feature: str, start: int, end: int, tags: str, gene=gene) -> str:
            columns = (gene.chrom, "simulation", feature, start + 1, end, ".", gene.transcript.strand, ".", tags)
            return "\t".join(map(str, columns))

        lines.append(line("gene", transcript.start, transcript.end, tags))
        tags += f' transcript_id "{gene.gene_id}.1";'
        lines.append(line("transcript", transcript.start, transcript.end, tags))
        exons = transcript.exons if transcript.strand == "+" else transcript.exons[::-1]
        for number, (start, end) in enumerate(exons, start=1):
            lines.append(line("exon", start, end, f"{tags} exon_number {number};"))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_sequences(path: Path, windows: list[Window]) -> None:
    """Write Calico's ``sequences.bed``: chrom, start, end, fold."""
    lines = [f"{window.chrom}\t{window.start}\t{window.end}\t{window.fold}" for window in windows]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def write_targets(path: Path, tracks: list[Track]) -> None:
    """Write Calico's target table; files are named relative to it."""
    rows = []
    for index, track in enumerate(tracks):
        state = track.state
        description = f"RNA:{state.cell} {state.condition} replicate {track.replicate}"
        pair = index + 1 if track.strand == "+" else index - 1
        rows.append([index, track.identifier, track.file, CLIP, CLIP_SOFT, 1 / FRAGMENT, "sum_sqrt", pair, description])
    header = ["", "identifier", "file", "clip", "clip_soft", "scale", "sum_stat", "strand_pair", "description"]
    write_table(path, header, rows)


def write_vcf(path: Path, variants: list[SimulatedVariant], lengths: dict[str, int]) -> None:
    """Write the variants; what they do stands in the truth tables."""
    lines = [
        "##fileformat=VCFv4.2",
        *(f"##contig=<ID={chrom},length={length}>" for chrom, length in lengths.items()),
        '##INFO=<ID=KIND,Number=1,Type=String,Description="Where the variant was drawn; its effect is in the truth tables">',
        '##INFO=<ID=FOLD,Number=1,Type=String,Description="Fold of its window">',
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]),
    ]
    for number, variant in enumerate(variants, start=1):
        info = f"KIND={variant.kind};FOLD={variant.window.fold}"
        fields = [variant.chrom, variant.pos, f"sim{number:05d}", variant.ref, variant.alt, ".", ".", info]
        lines.append("\t".join(map(str, fields)))
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
