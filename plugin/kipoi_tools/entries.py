"""Loads entries through Kipoi, with an answer where there is none of that name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kipoi_borzoi.errors import ZooError


def get_model(entry: str, source: str, with_dataloader: bool = True):
    """``kipoi.get_model`` of an entry of this package.

    Raises
    ------
    ZooError
        No such source or entry, or an entry of another package.
    """
    import kipoi

    with unknown_entries():
        model = kipoi.get_model(entry, source=source, with_dataloader=with_dataloader)
    if not hasattr(model, "view"):
        raise ZooError(f"{entry} of source {source!r} is not an entry of kipoi-borzoi")
    return model


@contextlib.contextmanager
def unknown_entries() -> Iterator[None]:
    """Turn Kipoi's errors about names into `ZooError`."""
    try:
        yield
    except ValueError as error:
        if any(words in str(error) for words in ("doesn't exist", "model_sources")):
            raise ZooError(f"{error}; `kipoi ls --source borzoi` lists entries, --source names another source") from error
        raise
