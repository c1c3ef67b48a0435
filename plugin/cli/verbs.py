"""How a verb is added to the command: help with examples, and the options that every verb takes."""

import argparse
from collections.abc import Callable


def add_verb(verbs, name: str, run: Callable, summary: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Add a verb and return its parser, for its own arguments.

    Parameters
    ----------
    verbs
        What ``add_subparsers`` returned.
    run : callable
        Called with the parsed arguments; returns the exit status, None for 0.
    summary, description, examples : str
        One line for the list of verbs; the text above the options; lines of example commands below them.
    """
    parser = verbs.add_parser(
        name,
        help=summary,
        description=description,
        epilog="examples:\n" + "".join(f"  {line.strip()}\n" for line in examples.strip().splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(parser, behind_verb=True)
    parser.set_defaults(run=run)
    return parser


def add_common(parser: argparse.ArgumentParser, behind_verb: bool) -> None:
    """Add the options of every command, which may stand before the verb or behind it."""
    # Suppressed behind the verb, so that an absent one there does not undo one before.
    default = argparse.SUPPRESS if behind_verb else None
    group = parser.add_argument_group("messages")
    group.add_argument(
        "-v", "--verbose", action="store_true", default=default or False,
        help="show details: versions, hashes of inputs and models, times",
    )  # fmt: skip
    group.add_argument(
        "--log-file", metavar="FILE", default=default,
        help="append all messages, versions, hashes and the outcome to FILE, one JSON object per line",
    )  # fmt: skip
    group.add_argument("--debug", action="store_true", default=default or False, help="show the traceback of an error")


def names(text: str) -> list[str]:
    """Names with commas between."""
    return [name for name in text.split(",") if name]


def integers(text: str) -> list[int]:
    """Numbers of bp with commas between."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of bp with commas between, such as 0,-1,1") from None
