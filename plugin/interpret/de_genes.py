"""Reading a table of differential expression, as DESeq2, edgeR, limma and others write them."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass

import numpy as np

from kipoi_borzoi.dataloaders.text import read_lines
from kipoi_borzoi.errors import InputError

_GENE = ("gene_id", "gene", "geneid", "ensembl_gene_id", "ensembl", "id", "gene_name", "symbol", "")
_CHANGE = ("log2foldchange", "logfc", "log2fc", "lfc", "avg_log2fc", "log2_fold_change")
_ADJUSTED = ("padj", "fdr", "adj.p.val", "p_val_adj", "qvalue", "q_value", "qval", "p_adj", "svalue")
_MISSING = ("", "NA", "NaN", "nan", "null", "None", ".")


@dataclass(frozen=True, eq=False)
class DifferentialGenes:
    """Genes and their changes.

    Attributes
    ----------
    genes : tuple of str
        Each once.
    change : (n,) float64
        log2 of treated over control.
    adjusted : (n,) float64 or None
        p-value adjusted for the number of genes; None when the table has none.
    untested : int
        Genes left out because their change, or its p-value, is missing (NA).
    """

    genes: tuple[str, ...]
    change: np.ndarray
    adjusted: np.ndarray | None
    untested: int

    def direction(self, min_change: float, max_adjusted: float) -> tuple[np.ndarray, np.ndarray]:
        """Which genes changed, and which did not.

        Changed: by ``min_change`` at least, with an adjusted p-value of ``max_adjusted`` at most. Unchanged: by less than
        half of ``min_change``, with a p-value above that. Those in between are neither.

        Returns
        -------
        direction : (n,) int64
            1 for up, -1 for down, 0 for neither.
        unchanged : (n,) bool
        """
        significant = np.ones(len(self.genes), bool) if self.adjusted is None else self.adjusted <= max_adjusted
        changed = significant & (np.abs(self.change) >= min_change)
        small = np.abs(self.change) < min_change / 2
        unchanged = small if self.adjusted is None else small & ~significant
        return np.where(changed, np.sign(self.change), 0).astype(np.int64), unchanged


def read_de_genes(
    path: str | os.PathLike, change_column: str | None = None, adjusted_column: str | None = None
) -> DifferentialGenes:
    """Read a table with a header, separated by tabs or commas.

    Genes are in a column called gene_id, gene, id, ... or else in the first; R leaves its header out. Changes are in
    log2FoldChange, logFC, log2FC, ...; adjusted p-values in padj, FDR, adj.P.Val, ... (whatever the case), or in
    the columns that are named.

    Raises
    ------
    InputError
        With file and line: no such column, a number that is none, a gene twice; or no gene.
    """
    lines = [(number, line) for number, line in read_lines(path) if line.strip() and not line.startswith("#")]
    if len(lines) < 2:
        raise InputError(f"{path}: no genes in it: expected a header and a line per gene")
    delimiter = "\t" if "\t" in lines[0][1] else ","
    rows = list(csv.reader([line for _, line in lines], delimiter=delimiter))
    header = [name.strip() for name in rows[0]]
    if len(rows[1]) == len(header) + 1:
        header = ["", *header]  # as R's write.table writes row names
    gene = _column(header, None, _GENE)
    gene = 0 if gene is None else gene
    change = _column(header, change_column, _CHANGE, path)
    adjusted = (
        _column(header, adjusted_column, _ADJUSTED, path) if adjusted_column else _column(header, None, _ADJUSTED)
    )
    if change is None:
        raise InputError(
            f"{path}: no column of log2 fold changes (log2FoldChange, logFC, ...); the columns are {', '.join(header)}: "
            "name it (--change-column)"
        )
    found: dict[str, tuple[float, float]] = {}
    untested = 0
    seen: set[str] = set()
    for (number, _), row in zip(lines[1:], rows[1:], strict=True):
        where = f"{path}, line {number}"
        if len(row) != len(header):
            raise InputError(f"{where}: {len(row)} columns, but the header has {len(header)}")
        name = row[gene].strip()
        if not name:
            raise InputError(f"{where}: the gene is empty")
        if name in seen:
            raise InputError(f"{where}: gene {name!r} is there twice")
        seen.add(name)
        values = [None if at is None else _number(row[at], header[at], where) for at in (change, adjusted)]
        if values[0] is None or (adjusted is not None and values[1] is None):
            untested += 1
        else:
            found[name] = (values[0], 0.0 if values[1] is None else values[1])
    if not found:
        raise InputError(f"{path}: the change of every gene is missing (NA)")
    numbers = np.array(list(found.values()))
    return DifferentialGenes(tuple(found), numbers[:, 0], None if adjusted is None else numbers[:, 1], untested)


def _column(header: list[str], wanted: str | None, known: tuple[str, ...], path=None) -> int | None:
    if wanted is not None:
        if wanted not in header:
            raise InputError(f"{path}: no column {wanted!r}; the columns are {', '.join(header)}")
        return header.index(wanted)
    lower = [name.lower() for name in header]
    return next((lower.index(name) for name in known if name in lower), None)


def _number(text: str, column: str, where: str) -> float | None:
    if text.strip() in _MISSING:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {column} is {text!r}, expected a number or NA") from None
    if not np.isfinite(value):
        raise InputError(f"{where}: {column} is {text!r}, expected a finite number or NA")
    return value
