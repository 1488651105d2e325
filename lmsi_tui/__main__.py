"""The entry point of `lmsi-tui` and `python -m lmsi_tui`."""

from __future__ import annotations

import gc
import sys

GC_THRESHOLD = 50_000
"""Allocations between two garbage collections. The start allocates many objects and frees none:
with the default of 700, collections took a tenth of the time to the first frame."""


def main() -> None:
    """Run the command line and exit with its code."""
    gc.set_threshold(GC_THRESHOLD)
    from lmsi_tui.cli.main import run
    from lmsi_tui.shell.termination import exit_on_signals

    exit_on_signals()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
