"""The command `kipoi-borzoi`: parse, call the function of that name, write; only here do errors become exit statuses."""

import argparse
import importlib
import os
import sys

from kipoi_borzoi._version import __version__
from kipoi_borzoi.cli.runlog import RunLog, messages
from kipoi_borzoi.cli.stopping import Stopped, stopping_in_order
from kipoi_borzoi.cli.verbs import add_common
from kipoi_borzoi.errors import KipoiBorzoiError

# One module per noun, each with `add_parser(nouns)`. They import what they run only when they run it.
_NOUNS = (
    "adapter", "attribute", "background", "data", "demo", "doctor", "drivers", "edit", "estimate", "evaluate", "finetune",
    "interpret", "logo", "merge", "motifs", "plot", "score", "scorers", "simulate", "veff", "veff2", "zoo",
)  # fmt: skip

_EXAMPLES = """\
examples:
  kipoi-borzoi demo                     see it work, offline
  kipoi-borzoi zoo init                 make a zoo of your own, known to Kipoi as source 'borzoi'
  kipoi ls --source borzoi              what is in it
  kipoi-borzoi zoo import --help        add a model of your own
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the command's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0; 1 for an error (one line on standard error); 130, 143 or 129 when stopped by SIGINT,
        SIGTERM or SIGHUP; 141 when the reader of the output has gone. Wrong usage exits with 2, as argparse does.
    """
    command = sys.argv[1:] if argv is None else list(argv)
    args = _parser().parse_args(command)
    log = RunLog(args.log_file)
    with messages(args.verbose), stopping_in_order():
        status, error = _run(args, command, log)
        log.end(status, error)
    return status


def _run(args: argparse.Namespace, command: list[str], log: RunLog) -> tuple[int, BaseException | None]:
    """Exit status, and what it comes from where it is not 0."""
    try:
        log.begin(vars(args), command)
        status = args.run(args) or 0
        sys.stdout.flush()
        return status, None
    except Stopped as stopped:
        print(f"kipoi-borzoi: stopped by {stopped}", file=sys.stderr)
        return 128 + stopped.number, stopped
    except KeyboardInterrupt as interrupt:
        print("kipoi-borzoi: interrupted", file=sys.stderr)
        return 130, interrupt
    except BrokenPipeError as error:
        # The interpreter flushes once more at exit, which must not fail as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141, error
    except Exception as error:
        _report(error, args.debug)
        return 1, error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kipoi-borzoi",
        description="Borzoi and its fine-tuned variants as Kipoi models.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kipoi-borzoi {__version__}")
    add_common(parser, behind_verb=False)
    nouns = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for noun in _NOUNS:
        importlib.import_module(f"kipoi_borzoi.cli.{noun}").add_parser(nouns)
    return parser


def _report(error: Exception, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if isinstance(error, KipoiBorzoiError):
        print(f"kipoi-borzoi: error: {message}", file=sys.stderr)
    else:
        hint = "" if debug else "; this is a fault of the program, --debug shows where"
        print(f"kipoi-borzoi: error: {type(error).__name__}: {message}{hint}", file=sys.stderr)
