"""Lines of the doctor's report, and what keeps a failing part of it from ending the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

OK, MISSING, WRONG, BROKEN, NOTE = "ok", "missing", "wrong", "broken", "-"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    status : {'ok', 'missing', 'wrong', 'broken', '-'}
        ``wrong`` is another version than expected, ``-`` a fact that is neither right nor wrong.
    text : str
    remedy : str
        A command, or words where there is none; empty when nothing needs mending.
    """

    status: str
    text: str
    remedy: str = ""


def guarded(look: Callable[[], list[Finding]]) -> list[Finding]:
    """What ``look`` finds, or a line that says how it failed."""
    try:
        return look()
    except Exception as error:
        return [Finding(BROKEN, f"this part of the report failed: {type(error).__name__}: {error}")]
