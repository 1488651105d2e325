"""Write the key tables in docs/app.md from the app's table of commands.

make screenshots                            # writes them, too
python -m screenshots.make_keys --check     # exit 1 if they are out of date (a test runs it)
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


def updated(page: str) -> str:
    """The page with its tables generated from the current commands."""
    load_all()
    return TABLE.sub(lambda match: match[1] + _table(match[2].split()) + match[3], page)


def documented_screens(page: str) -> set[str]:
    """The screens whose keys are on the page."""
    return {name for match in TABLE.finditer(page) for name in match[2].split()}


def _table(screens: list[str]) -> str:
    lines = ["| key | does | name |", "|---|---|---|"]
    previous = ""
    for screen in screens:
        for command in APP if screen == "app" else SCREENS[screen]:
            # Keys with the same effect, such as the nine digits, have one row.
            if command.help != previous:
                lines.append(f"| {_keys(command)} | {command.help} | `{command.id}` |")
            previous = command.help
    return "\n".join(lines) + "\n"


def _keys(command: Command) -> str:
    if command.display:
        return f"`{command.display}`"
    names = (name.strip() for name in command.key.split(","))
    return " ".join(f"`{SHOWN.get(name, name)}`" for name in names)


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    current = updated(page)
    if args.check:
        return int(current != page)
    PAGE.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
