"""Which names an entry may have: they become folders, YAML values and command-line arguments."""

import re

from kipoi_borzoi.errors import ZooError

VIEWS = ("coverage", "sum", "logsum")
PACKAGED_GROUPS = ("Borzoi", "BorzoiMini", "BorzoiDemo")

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Kipoi looks for these file names in every folder below the zoo, so a folder named so would be misread.
_RESERVED = frozenset({"downloaded", "template", "model.yaml", "model.yml", "dataloader.yaml", "dataloader.yml"})


def check_part(part: str, what: str) -> str:
    """Return ``part`` when it can be one part of a name (or a source's name).

    Raises
    ------
    ZooError
        Unless it is letters, digits, ``_``, ``.`` and ``-``, starting with a letter, digit or ``_``.
    """
    if not _PART.fullmatch(part):
        raise ZooError(
            f"{what} {part!r} is not a valid name: use letters, digits, '_', '.' and '-', "
            "starting with a letter, a digit or '_'"
        )
    return part


def check_name(name: str) -> str:
    """Return ``name`` when a user's own model may be called so: parts joined by single slashes.

    Raises
    ------
    ZooError
        A part that is not valid, a reserved one, or a packaged group's.
    """
    parts = name.split("/")
    for part in parts:
        check_part(part, f"name {name!r}: part" if len(parts) > 1 else "name")
        if part in _RESERVED:
            raise ZooError(f"name {name!r}: {part!r} has a meaning to Kipoi; choose another name")
    # Compared without case: on some filesystems 'borzoi' and 'Borzoi' are one folder.
    if parts[0].lower() in {group.lower() for group in PACKAGED_GROUPS}:
        raise ZooError(f"name {name!r}: {parts[0]!r} is a group of this package; choose another first part")
    return name
