"""Write the tables of keys in docs/app.md from the app's own table of commands.

make screenshots                            # writes them, too
python -m screenshots.make_keys --check     # are they current? (a test asks, too)
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from lmsi_tui.screens.modes import load_all
from lmsi_tui.shell.commands import APP, SCREENS, Command

PAGE = Path(__file__).parents[1] / "docs" / "app.md"
TABLE = re.compile(r"(<!-- keys: ([a-z -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHOWN = {"question_mark": "?", "slash": "/", "full_stop": ".", "comma": ",", "minus": "-"}


def written(page: str) -> str:
    """The page with its tables as the program has them now."""
    load_all()
    return TABLE.sub(lambda found: found[1] + _table(found[2].split()) + found[3], page)


def told(page: str) -> set[str]:
    """The screens whose keys the page tells."""
    return {name for found in TABLE.finditer(page) for name in found[2].split()}


def _table(screens: list[str]) -> str:
    lines = ["| key | does | name |", "|---|---|---|"]
    before = ""
    for screen in screens:
        for one in APP if screen == "app" else SCREENS[screen]:
            # Keys that do the same, such as the nine digits, are told once.
            if one.help != before:
                lines.append(f"| {_keys(one)} | {one.help} | `{one.id}` |")
            before = one.help
    return "\n".join(lines) + "\n"


def _keys(command: Command) -> str:
    if command.display:
        return f"`{command.display}`"
    names = (one.strip() for one in command.key.split(","))
    return " ".join(f"`{SHOWN.get(one, one)}`" for one in names)


def main() -> int:
    """Write the page, or say that it is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    current = written(page)
    if asked.check:
        return int(current != page)
    PAGE.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
