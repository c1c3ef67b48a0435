"""Reads what a zoo offers: every entry that Kipoi would list there, its description, and the files it is made of."""

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.zoo.names import VIEWS
from kipoi_borzoi.zoo.yaml_text import parse_yaml, read_yaml

MODEL_CLASS = "kipoi_borzoi.model.BorzoiModel"

MAX_TEXT = 10_000_000
"""Characters of a rendered template; an entry with all labels of a Borzoi head has some 500,000."""

_ROLES = ("params", "targets", "weights")
_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "targets.txt")


@dataclass(frozen=True)
class EntryFile:
    """One file of an entry: here (``path``) or fetched on first use (``url``).

    Attributes
    ----------
    role : str
        ``params``, ``targets``, ``weights`` or ``adapter``.
    reference : str
        As the description says it.
    path : Path or None
    url : str or None
    sha256 : str or None
        As the description says it.
    """

    role: str
    reference: str
    path: Path | None
    url: str | None
    sha256: str | None


@dataclass(frozen=True)
class Entry:
    """One entry of a zoo, as Kipoi names it.

    Attributes
    ----------
    name : str
        Such as ``Borzoi/human/rep0/sum``.
    directory : Path
        Where relative paths of the description start, and where Kipoi goes to load the model.
    root : Path
        The folder that all files of the entry must lie in.
    zoo : Path
        The zoo's folder, in which an adapter's base must lie.
    description : dict
        The parsed ``model.yaml``; empty when ``problem`` is set.
    problem : str or None
        Why the entry cannot be used.
    """

    name: str
    directory: Path
    root: Path
    zoo: Path
    description: dict = field(default_factory=dict, repr=False)
    problem: str | None = None

    @property
    def is_borzoi(self) -> bool:
        """Whether this package's model class is what Kipoi would load."""
        return self.description.get("defined_as") == MODEL_CLASS

    @property
    def args(self) -> dict:
        """The model's arguments."""
        return self.description.get("args") or {}

    @property
    def model(self) -> str:
        """The model that the entry is a view of: its name without the view."""
        model, _, view = self.name.rpartition("/")
        return model if model and view in VIEWS else self.name

    @property
    def is_adapter(self) -> bool:
        """Whether the entry is an adapter on another model's weights."""
        return self.args.get("adapter") is not None

    def shape(self, side: str) -> tuple:
        """Shape of ``inputs`` or ``targets`` without the batch axis; ``()`` when the description has none.

        Raises
        ------
        ZooError
            When it is not a tuple of numbers and None.
        """
        schema = (self.description.get("schema") or {}).get(side) or {}
        return parse_shape(schema.get("shape", "()"), f"{self.name}: schema, {side}")

    def files(self) -> list[EntryFile]:
        """The entry's files, weights last.

        Raises
        ------
        ZooError
            A reference that is missing, not text, or leads out of the entry.
        """
        files = self._own_files()
        unknown = set(self.args.get("checksums") or {}) - {file.reference for file in files}
        if unknown:
            raise ZooError(
                f"{self.name}: args: checksums: {sorted(map(str, unknown))[0]!r} is none of the entry's files "
                f"({', '.join(file.reference for file in files)}), so a file would go unverified"
            )
        return files

    def _own_files(self) -> list[EntryFile]:
        if not self.is_adapter:
            return [file for role in _ROLES for file in self._files_of(role, self.root)]
        adapter = self.args["adapter"]
        if not isinstance(adapter, str) or "://" in adapter:
            raise ZooError(f"{self.name}: args: adapter is {adapter!r}, expected the path of a folder")
        files = [self._file("adapter", f"{adapter}/{file}", self.root) for file in _ADAPTER_FILES]
        return files + [file for role in ("params", "weights") for file in self._files_of(role, self.zoo)]

    def _files_of(self, role: str, root: Path) -> list[EntryFile]:
        references = self.args.get(role)
        return [
            self._file(role, reference, root)
            for reference in (references if isinstance(references, list) else [references])
        ]

    def _file(self, role: str, reference, root: Path) -> EntryFile:
        if not isinstance(reference, str) or not reference:
            raise ZooError(f"{self.name}: args: {role} is {reference!r}, expected a path or an https URL")
        url = reference if "://" in reference else None
        path = None if url else inside(root, self.directory / reference, self.name)
        return EntryFile(role, reference, path, url, (self.args.get("checksums") or {}).get(reference))


def _checked(name: str, directory: Path, root: Path, zoo: Path, description: dict) -> Entry:
    """An entry whose description has the types that this package relies on.

    Raises
    ------
    ZooError
    """
    entry = Entry(name, directory, root, zoo, description)
    if not entry.is_borzoi:
        return entry
    for key, value in {"args": description.get("args"), "schema": description.get("schema")}.items():
        if not isinstance(value or {}, dict):
            raise ZooError(f"{name}: {key} is {_shown(value)}, expected a mapping")
    for side in ("inputs", "targets"):
        if not isinstance((description.get("schema") or {}).get(side) or {}, dict):
            raise ZooError(f"{name}: schema: {side} is {_shown(description['schema'][side])}, expected a mapping")
    checksums = entry.args.get("checksums") or {}
    if not isinstance(checksums, dict):
        raise ZooError(f"{name}: args: checksums is {_shown(checksums)}, expected a mapping of files to sha256")
    for reference, sha256 in checksums.items():
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-fA-F]{64}", sha256):
            raise ZooError(f"{name}: args: the checksum of {reference} is {_shown(sha256)}, expected a sha256 of 64 hexadecimal digits")
    return entry


def _shown(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def parse_shape(shape, where: str) -> tuple:
    """Read a Kipoi shape such as ``(524288, 4)`` or ``(None,)`` without evaluating it.

    Raises
    ------
    ZooError
        Anything but numbers and None.
    """
    parts = shape if isinstance(shape, list) else str(shape).strip().strip("()").split(",")
    values = [str(part).strip() for part in parts]
    if not all((value.isascii() and value.isdecimal() and len(value) < 12) or value in ("None", "") for value in values):
        raise ZooError(f"{where}: shape is {shape!r}, expected numbers, such as (524288, 4)")
    return tuple(None if value == "None" else int(value) for value in values if value)


def inside(root: Path, path: Path, where: str) -> Path:
    """Return ``path`` with all links followed, if it lies in ``root``.

    Raises
    ------
    ZooError
        It does not, be it by ``..``, as an absolute path or through a link.
    """
    resolved = path.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise ZooError(f"{where}: {path} leads out of {root} (to {resolved}); an entry's files lie in its own folder")
    return resolved


def read_zoo(zoo: Path) -> list[Entry]:
    """All entries below the folder ``zoo``, sorted by name; broken ones carry their problem.

    Raises
    ------
    ZooError
        When ``zoo`` is not a folder.
    """
    zoo = Path(zoo)
    if not zoo.is_dir():
        raise ZooError(f"{zoo}: no such folder; `kipoi-borzoi zoo init` makes a zoo")
    entries = [_read_single(zoo, path) for path in _yaml_files(zoo, "model")]
    for path in _yaml_files(zoo, "model-template"):
        entries.extend(_read_group(zoo, path))
    return sorted(entries, key=lambda entry: entry.name)


def find_entries(zoo: Path, name: str) -> list[Entry]:
    """The entry called ``name``, or all entries below the folder of that name.

    Raises
    ------
    ZooError
        When there is none; near matches are listed.
    """
    entries = read_zoo(zoo)
    name = name.strip("/")
    found = [entry for entry in entries if entry.name == name or entry.name.startswith(name + "/")]
    if not found:
        import difflib

        near = difflib.get_close_matches(name, [entry.name for entry in entries], n=5, cutoff=0.4)
        hint = f"near matches: {', '.join(near)}" if near else "`kipoi-borzoi zoo ls` lists what is there"
        raise ZooError(f"{zoo}: no entry {name!r}; {hint}")
    return found


def _yaml_files(zoo: Path, stem: str) -> list[Path]:
    """Files that Kipoi would find: at any depth, through links, hidden folders left out."""
    pattern = glob.escape(str(zoo)) + f"/**/{stem}.y*ml"
    return [Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).suffix in (".yaml", ".yml")]


def _read_single(zoo: Path, path: Path) -> Entry:
    directory = path.parent
    name = directory.relative_to(zoo).as_posix()
    # The views of a model share its weights and tables, one folder up.
    root = directory.parent if directory.name in VIEWS and directory.parent != zoo else directory
    try:
        inside(zoo, path, name)
        return _checked(name, directory, root, zoo, read_yaml(path))
    except ZooError as error:
        return Entry(name, directory, root, zoo, problem=str(error))


def _read_group(zoo: Path, template: Path) -> list[Entry]:
    group = template.parent
    name = group.relative_to(zoo).as_posix()
    try:
        inside(zoo, template, name)
        rows = _read_table(inside(zoo, group / "models.tsv", name))
    except ZooError as error:
        return [Entry(name, group, group, zoo, problem=str(error))]
    return [_render(name, zoo, group, template, row) for row in rows]


def _read_table(path: Path) -> list[dict]:
    """Rows of a group's ``models.tsv``, read as Kipoi reads it."""
    import pandas as pd

    try:
        table = pd.read_csv(path, sep="\t", comment="#")
    except (OSError, ValueError) as error:
        raise ZooError(
            f"{path}: cannot be read ({error}); a model group needs it beside its model-template.yaml"
        ) from error
    if "model" not in table:
        raise ZooError(f"{path}: no column 'model'; it has: {', '.join(table.columns)}")
    repeated = table["model"][table["model"].duplicated()]
    if len(repeated):
        raise ZooError(f"{path}: the model {repeated.iloc[0]!r} is listed twice")
    return table.to_dict("records")


def _render(group_name: str, zoo: Path, group: Path, template: Path, row: dict) -> Entry:
    # A template is a program; one from elsewhere gets no more than its row and the sandbox.
    import jinja2
    from jinja2.sandbox import SandboxedEnvironment

    class Sandbox(SandboxedEnvironment):
        """Without the two operators by which a short template makes a text or number that fills the memory."""

        intercepted_binops = frozenset(("*", "**"))

        def call_binop(self, context, operator, left, right):
            raise jinja2.sandbox.SecurityError(f"the operator {operator} is unsafe in a template")

    name = f"{group_name}/{row['model']}"
    try:
        text = _limited(Sandbox().from_string(template.read_text(encoding="utf-8")).generate(row))
        return _checked(name, group, group, zoo, parse_yaml(text, f"{template} for {row['model']}"))
    except (OSError, UnicodeDecodeError, jinja2.TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        return Entry(name, group, group, zoo, problem=f"{template}: {error}")
    except ZooError as error:
        return Entry(name, group, group, zoo, problem=str(error))


def _limited(parts: Iterable[str]) -> str:
    """The text of a rendered template, up to a size that no description has."""
    text = ""
    for part in parts:
        text += part
        if len(text) > MAX_TEXT:
            raise ValueError(f"the rendered template is longer than {MAX_TEXT:,} characters")
    return text
