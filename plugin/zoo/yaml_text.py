"""Zoo text is data: YAML is read without running what it names, without repeated keys, and written by a YAML writer."""

from pathlib import Path

import yaml

from kipoi_borzoi.errors import ZooError

# The C parser and writer are some ten times faster on the thousands of column labels of a Borzoi entry.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SafeDumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

MAX_VALUES = 200_000
"""Largest number of values in a file; an entry with all labels of a Borzoi head has some 8,000."""


class _StrictLoader(_SafeLoader):
    """Safe loader that refuses a key given twice (YAML keeps the last one silently)."""


def _construct_unique_mapping(loader, node):
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, (str, int, float, bool, type(None))):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is not a scalar", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_unique_mapping)


def parse_yaml(text: str, source: str) -> dict:
    """Parse YAML text that must hold a mapping.

    Parameters
    ----------
    text : str
    source : str
        What the text is, for error messages (usually the file's path).

    Raises
    ------
    ZooError
        Not YAML, a key given twice, a tag that would construct an object, or not a mapping.
    """
    try:
        data = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ZooError(f"{source}{where}: not valid YAML: {problem}") from error
    except ValueError as error:  # such as the 99th of a month, which looks like a date
        raise ZooError(f"{source}: not valid YAML: {error}") from error
    if _is_larger(data, MAX_VALUES):
        raise ZooError(f"{source}: more than {MAX_VALUES:,} values, counting repeated ones (*) each time")
    if not isinstance(data, dict):
        raise ZooError(f"{source}: expected a mapping of keys to values, got {type(data).__name__}")
    return data


def _is_larger(data, limit: int) -> bool:
    """Whether a value holds more than so many others. Aliases let few lines stand for billions, harmless until shown."""
    waiting, seen = [data], 0
    while waiting and seen <= limit:
        value = waiting.pop()
        seen += 1
        if isinstance(value, (dict, list)):
            waiting.extend(value.values() if isinstance(value, dict) else value)
            if len(waiting) > limit:
                return True
    return seen > limit


def read_yaml(path: str | Path) -> dict:
    """Read a YAML file that must hold a mapping; see `parse_yaml`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ZooError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"{path}: not a UTF-8 text file") from error
    return parse_yaml(text, str(path))


def dump_yaml(data: dict) -> str:
    """Return ``data`` as YAML text, keys in their order."""
    return yaml.dump(data, Dumper=_SafeDumper, sort_keys=False, allow_unicode=True, width=120)
