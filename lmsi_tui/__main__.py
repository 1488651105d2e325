"""`lmsi-tui`, and `python -m lmsi_tui`."""

from __future__ import annotations

import gc
import sys

YOUNG = 50_000
"""Objects after which the collector looks for garbage. A start makes many and drops none: looking
every 700, as by default, took a tenth of the time to the first picture."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(YOUNG)
    from lmsi_tui.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
