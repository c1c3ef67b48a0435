"""Scorers that kipoi_veff2's own command can name: ``kipoi_veff2_predict ... -s kipoi_borzoi.veff2.diff -m GROUP/...``.

That command imports what ``-s`` names, and importing this module makes the entries of the local Kipoi sources known
to it (see `kipoi_borzoi.kipoi_tools.veff2`). ``-s`` must stand before ``-m`` on its line; with ``kipoi-borzoi veff2``
any order will do. The scorers are those of `kipoi_borzoi.kipoi_tools.scorers`.
"""

from kipoi_borzoi.kipoi_tools.scorers import SCORERS, SUM, alt, diff, logSED, ref
from kipoi_borzoi.kipoi_tools.veff2 import register

__all__ = ["GROUPS", "SCORERS", "SUM", "alt", "diff", "logSED", "ref"]

GROUPS = register()
"""Groups of our entries that kipoi_veff2 knows now; empty where it is not installed."""
