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
    # Suppressed by default, so that an absent one here does not undo one before the verb.
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
    )
    parser.set_defaults(run=run)
    return parser


def names(text: str) -> list[str]:
    """Names with commas between."""
    return [name for name in text.split(",") if name]


def integers(text: str) -> list[int]:
    """Numbers of bp with commas between."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of bp with commas between, such as 0,-1,1") from None
