"""Stands in for conda where `kipoi test-source` insists on it: its environments are this Python's own.

Kipoi asks for the list of environments (``conda info --json``), makes one per model from a file
(``conda env create --file F``), and then runs ``bin/kipoi`` of that environment.
"""

import json
import os
import sys
from pathlib import Path

import yaml

ENVIRONMENTS = Path(os.environ["FAKE_CONDA"])


def main(arguments):
    if arguments == ["info", "--json"]:
        print(json.dumps({"envs": [str(path) for path in ENVIRONMENTS.iterdir()]}))
    elif arguments == ["--version"]:
        print("conda 0.0")
    elif arguments[:3] == ["env", "create", "--file"]:
        description = yaml.safe_load(Path(arguments[3]).read_text())
        folder = ENVIRONMENTS / description["name"] / "bin"
        folder.mkdir(parents=True)
        for program in ("python", "kipoi"):
            (folder / program).symlink_to(Path(sys.executable).with_name(program))
    else:
        sys.exit(f"fake conda: unknown request {arguments}")


main(sys.argv[1:])
