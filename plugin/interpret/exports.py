"""Attributions in the formats of other tools: BigWig for genome browsers, arrays for ``modisco motifs``."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from kipoi_borzoi.interpret.attribution_file import AttributionFile


def write_bigwig(path: str | os.PathLike, attributions: AttributionFile, contigs: Mapping[str, int]) -> None:
    """Write what each base contributes as a BigWig file, base by base; where stretches overlap, their mean.

    Parameters
    ----------
    path : path
    attributions : AttributionFile
        At least one row.
    contigs : dict of str to int
        Lengths in bp, by the names that the rows use; stretches beyond a contig's ends are cut.
    """
    import pyBigWig

    by_contig: dict[str, list[int]] = {}
    for row in attributions.rows():
        by_contig.setdefault(attributions.chroms[row], []).append(row)
    file = pyBigWig.open(os.fspath(path), "w")
    try:
        file.addHeader([(name, length) for name, length in contigs.items() if name in by_contig])
        for name in contigs:
            for start, rows in _overlapping(
                attributions, sorted(by_contig.get(name, []), key=lambda row: attributions.starts[row])
            ):
                end = max(attributions.ends[row] for row in rows)
                total, count = np.zeros(end - start), np.zeros(end - start)
                for row in rows:
                    part = slice(attributions.starts[row] - start, attributions.ends[row] - start)
                    total[part] += attributions.contributions(row)
                    count[part] += 1
                first, last = max(start, 0), min(end, contigs[name])
                values = (total / count)[first - start : last - start]
                if len(values):
                    file.addEntries(name, int(first), values=values.tolist(), span=1, step=1)
    finally:
        file.close()


def _overlapping(attributions: AttributionFile, rows: list[int]):
    """Yield the start and rows of every group of stretches that overlap or touch; ``rows`` are sorted by start."""
    group: list[int] = []
    end = None
    for row in rows:
        if group and attributions.starts[row] > end:
            yield int(attributions.starts[group[0]]), group
            group = []
        end = attributions.ends[row] if not group else max(end, attributions.ends[row])
        group.append(row)
    if group:
        yield int(attributions.starts[group[0]]), group


def write_modisco(sequences: str | os.PathLike, scores: str | os.PathLike, attributions: AttributionFile) -> None:
    """Write the two ``.npz`` files that ``modisco motifs -s SEQUENCES -a SCORES`` reads.

    Each holds one array ``arr_0`` of shape (n, 4, length): one-hot sequences (int8), and hypothetical
    contributions (float32). Rows are written one at a time, as whole windows of many genes do not fit into memory.
    """
    shape = (len(attributions), 4, attributions.length)
    one_hot = (np.arange(4)[:, None] == attributions.sequence(row) for row in attributions.rows())
    hypothetical = (attributions.hypothetical(row).T for row in attributions.rows())
    _write_npz(sequences, shape, np.dtype(np.int8), one_hot)
    _write_npz(scores, shape, np.dtype(np.float32), hypothetical)


def _write_npz(path: str | os.PathLike, shape: tuple[int, ...], dtype: np.dtype, rows: Iterable[np.ndarray]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for row in rows:
                member.write(np.ascontiguousarray(row, dtype=dtype).tobytes())
