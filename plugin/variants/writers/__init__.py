"""Writers of tables of scores, chosen by the output's suffix; each a module with `check` and `write`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from kipoi_borzoi.errors import InputError, KipoiBorzoiError

_MODULES = {
    ".tsv": ("tsv", {"compress": False}),
    ".tsv.gz": ("tsv", {"compress": True}),
    ".parquet": ("parquet", {}),
    ".h5": ("h5", {}),
    ".h5ad": ("h5ad", {}),
    ".vcf.gz": ("vcf", {}),
}
_EXTRAS = {".parquet": ("pyarrow", "parquet")}  # what a format needs, and the extra that brings it
SUFFIXES = tuple(_MODULES)


@dataclass(frozen=True)
class Writer:
    """A format: ``module`` has `check` and `write`, ``options`` are further arguments of `write`."""

    suffix: str
    module: ModuleType
    options: dict = field(default_factory=dict)

    @property
    def check(self) -> Callable:
        return self.module.check

    def write(self, path: Path, header, survey, blocks) -> None:
        """Write the table to ``path``, which exists and is empty."""
        self.module.write(path, header, survey, blocks, **self.options)


def writer_for(out: Path) -> Writer:
    """The writer of a name's suffix.

    Raises
    ------
    InputError
        When there is none.
    KipoiBorzoiError
        When a package that it needs is not installed.
    """
    for suffix, (module, options) in _MODULES.items():
        if out.name.endswith(suffix) and out.name != suffix:
            package, extra = _EXTRAS.get(suffix, ("", ""))
            if package and importlib.util.find_spec(package) is None:
                raise KipoiBorzoiError(f"{suffix} needs {package}: pip install 'kipoi-borzoi[{extra}]'")
            return Writer(suffix, importlib.import_module(f"{__name__}.{module}"), options)
    hint = "; a VCF is written compressed and indexed: .vcf.gz" if out.name.endswith((".vcf", ".bcf")) else ""
    raise InputError(f"{out}: its suffix names no format; known: {', '.join(SUFFIXES)}{hint}")
