"""The demonstration's tables, as text."""

from __future__ import annotations

import numpy as np

from kipoi_borzoi.demo.results import Effects, Expression


def expression_table(expression: Expression, count: int = 6) -> str:
    """The genes whose expression differs most between the cell types by the prediction, and the truth."""
    largest = np.argsort(-np.abs(expression.predicted), kind="stable")[:count]
    lines = [f"{'gene':<12}{'predicted':>10}{'true':>8}"]
    lines += [f"{expression.genes[n]:<12}{expression.predicted[n]:>10.2f}{expression.true[n]:>8.2f}" for n in largest]
    return "\n".join(lines)


def effects_table(effects: Effects, count: int = 8) -> str:
    """The variants with the largest predicted effects, and the truth, in each cell type."""
    largest = np.argsort(-np.abs(effects.predicted).max(axis=1), kind="stable")[:count]
    lines = [f"{'variant':<12}{'gene':<12}{'kind':<18}" + "".join(f"{cell + ' predicted':>20}{'true':>8}" for cell in effects.cells)]
    for n in largest:
        variant, gene, kind = effects.variants[n]
        numbers = zip(effects.predicted[n], effects.true[n], strict=True)
        lines.append(f"{variant:<12}{gene:<12}{kind:<18}" + "".join(f"{p:>20.2f}{t:>8.2f}" for p, t in numbers))
    return "\n".join(lines)
