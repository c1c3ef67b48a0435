"""Lets ``python -m kipoi_borzoi.cli`` run the command."""

import sys

from kipoi_borzoi.cli import main

sys.exit(main())
