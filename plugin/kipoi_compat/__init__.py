"""Kipoi and its tools are archived, so their faults are mended here, in memory and in Kipoi's own modules only.

``apply()`` runs when ``kipoi_borzoi.model`` or the dataloader is imported. Kipoi imports a model's
module before it builds its writers, so the plain ``kipoi predict`` profits. `mend_loaded_tools` runs when
a model is made or first asked something by a tool, and mends what the user has imported: nothing of ours
imports kipoi_veff or kipoi_interpret for that. Each fix is a function with a name and a reason,
and is left out where the fault is absent.
"""

import logging
import sys

from kipoi_borzoi.kipoi_compat import interpret, veff, writers

TOOLS = {"kipoi_veff": veff, "kipoi_interpret": interpret}
"""The module of fixes of each of Kipoi's tools, by the tool's name."""


def apply() -> list[str]:
    """Mend ``kipoi.writers``; calling it again changes nothing. Returns the names of the fixes that were needed."""
    from kipoi import writers as kipoi_writers

    needed = {fix.__name__ for fix in writers.FIXES if fix(kipoi_writers)}
    needed.update(getattr(kipoi_writers, "__kipoi_borzoi_mended__", ()))
    kipoi_writers.__kipoi_borzoi_mended__ = [fix.__name__ for fix in writers.FIXES if fix.__name__ in needed]
    show_our_warnings()
    return kipoi_writers.__kipoi_borzoi_mended__


def mend_loaded_tools():
    """Mend kipoi_veff and kipoi_interpret where they are imported; calling it again changes nothing."""
    for name, fixes in TOOLS.items():
        tool = sys.modules.get(name)
        if tool is not None and getattr(tool, "__kipoi_borzoi_mended__", None) is None and fixes.is_complete(tool):
            tool.__kipoi_borzoi_mended__ = [fix.__name__ for fix in fixes.FIXES if fix(tool)]
            show_our_warnings()


def applied_fixes() -> dict[str, list[str]]:
    """Names of the fixes that were applied, by tool; only tools that are imported and mended."""
    mended = {name: getattr(sys.modules.get(name), "__kipoi_borzoi_mended__", None) for name in TOOLS}
    return {name: fixes for name, fixes in mended.items() if fixes is not None}


def show_our_warnings():
    """Let this package's warnings reach standard error where Kipoi's logging would swallow them.

    Kipoi gives the root logger one handler, for critical messages only, and importing ``kipoi.__main__`` or
    kipoi_veff disables every logger that exists. Where somebody has set up a handler that shows warnings,
    none is added.
    """
    ours, root = logging.getLogger("kipoi_borzoi"), logging.getLogger()
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if (name == ours.name or name.startswith(ours.name + ".")) and isinstance(logger, logging.Logger):
            logger.disabled = False
    if root.handlers and not any(handler.level <= logging.WARNING for handler in [*root.handlers, *ours.handlers]):
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter("%(levelname)s [%(name)s] %(message)s"))
        ours.addHandler(handler)
