"""Draw the pictures in this folder from the real program.

    make demo && make screenshots

The report is that of the project in ./demo, or of the one that is named.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from rich.console import Console

from engine.project import open_project
from engine.report import build
from lmsi_tui.tables import print_report
from store.connection import connect
from store.errors import LmsiError

HERE = Path(__file__).parent
WIDTH = 140


def main() -> int:
    """Draw every picture; say which were drawn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("project", nargs="?", type=Path, default=Path("demo"))
    try:
        project = open_project(parser.parse_args().project)
        with connect(project.database, read_only=True) as conn:
            report = build(conn)
    except LmsiError as failure:
        print(f"{failure} (`make demo` makes one)", file=sys.stderr)
        return failure.exit_code
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    print_report(console, report)
    target = HERE / "report.svg"
    console.save_svg(str(target), title="lmsi-tui report demo")
    print(f"drew {target.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
