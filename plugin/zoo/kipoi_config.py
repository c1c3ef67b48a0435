"""Registers a zoo as a source in the user's Kipoi configuration, changing nothing else of that file."""

import json
import os
from pathlib import Path

import yaml

from kipoi_borzoi.errors import ZooError
from kipoi_borzoi.files import atomic_write
from kipoi_borzoi.zoo.names import check_part
from kipoi_borzoi.zoo.place import kipoi_directory
from kipoi_borzoi.zoo.yaml_text import dump_yaml, parse_yaml

_KIPOIS_OWN = ("kipoi", "dir", "github-permalink")


def register_source(name: str, directory: str | os.PathLike) -> bool:
    """Make ``directory`` known to Kipoi as the local source ``name``, on disk and in this process.

    Parameters
    ----------
    name : str
        What ``kipoi ... --source`` is to be given.
    directory : path
        The zoo.

    Returns
    -------
    bool
        False when it was registered so already.

    Raises
    ------
    ZooError
        The name is Kipoi's own or stands for another place, or the configuration cannot be read or written.
    """
    check_source_name(name)
    config = _kipoi_config_module()
    path = Path(config._config_path)
    source = {"type": "local", "local_path": str(Path(directory).resolve())}
    text = _read(path) if path.exists() else _defaults(config)
    added = _with_source(text, name, source, str(path))
    if added != text:
        try:
            with atomic_write(path.resolve()) as temporary:  # resolved: a linked configuration stays a link
                temporary.write_text(added, encoding="utf-8")
        except OSError as error:
            raise ZooError(
                f"{path}: cannot be written ({error.strerror}), so the source is not registered; add to it, below "
                f"model_sources: the line: {name}: {json.dumps(source)}"
            ) from error
    config.add_source(name, dict(source))  # Kipoi takes the dict apart
    return added != text


def check_source_name(name: str) -> None:
    """Refuse what cannot be the name of a source of ours.

    Raises
    ------
    ZooError
    """
    check_part(name, "source name")
    if name in _KIPOIS_OWN:
        raise ZooError(f"source name {name!r} is Kipoi's own; choose another --name")


def _kipoi_config_module():
    """Import ``kipoi.config``, which reads the user's configuration, or writes the default one where there is none."""
    try:
        from kipoi import config
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ZooError(
            f"{kipoi_directory() / 'config.yaml'}: Kipoi cannot start with this configuration "
            f"({type(error).__name__}: {error}); mend it, or remove it and Kipoi writes a new one"
        ) from error
    return config


def _defaults(config) -> str:
    """Kipoi's own sources: a file with ours alone would hide Kipoi's public models."""
    own = {name: dict(source.get_config()) for name, source in config.model_sources().items() if name != "dir"}
    return dump_yaml({"model_sources": own})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"{path}: Kipoi's configuration cannot be read ({error})") from error


def _with_source(text: str, name: str, source: dict, where: str) -> str:
    """Return the configuration ``text`` with one source more, every other character as it was where YAML allows."""
    before = parse_yaml(text, where)
    sources = before.get("model_sources") or {}
    if not isinstance(sources, dict):
        raise ZooError(f"{where}: model_sources is a {type(sources).__name__}, expected a mapping of names to sources")
    if name in sources:
        if _same_place(sources[name], source):
            return text
        raise ZooError(
            f"{where}: the source {name!r} is already {sources[name]}; choose another --name, or remove it there"
        )
    after = {**before, "model_sources": {**sources, name: source}}
    inserted = _insert(text, name, source)
    # The insertion is plain text work, so it is believed only when it reads back as what was meant.
    if inserted is not None and _reads_as(inserted, after, where):
        return inserted
    return dump_yaml(after)


def _same_place(registered, source: dict) -> bool:
    if not isinstance(registered, dict) or registered.get("type") != source["type"]:
        return False
    return Path(str(registered.get("local_path"))).expanduser().resolve() == Path(source["local_path"])


def _insert(text: str, name: str, source: dict) -> str | None:
    """Put a new item below the last one of a block-style ``model_sources``; None when there is no such block."""
    root = yaml.compose(text, yaml.SafeLoader)
    if root.flow_style:
        return None
    block = next((value for key, value in root.value if key.value == "model_sources"), None)
    if not isinstance(block, yaml.MappingNode) or block.flow_style or not block.value:
        return None
    indent = " " * block.value[0][0].start_mark.column
    item = "".join(indent + line + "\n" for line in dump_yaml({name: source}).splitlines())
    lines = text.splitlines(keepends=True)
    last = block
    while isinstance(last, yaml.MappingNode) and not last.flow_style and last.value:
        last = last.value[-1][1]  # the block's own end mark lies behind the comments that follow it
    row = last.end_mark.line + 1
    if not lines[row - 1].endswith("\n"):
        lines[row - 1] += "\n"
    return "".join(lines[:row]) + item + "".join(lines[row:])


def _reads_as(text: str, expected: dict, where: str) -> bool:
    try:
        return parse_yaml(text, where) == expected
    except ZooError:
        return False
