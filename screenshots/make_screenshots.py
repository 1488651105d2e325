"""Take the screenshots in this folder from the real app.

    make screenshots                                 # take all of them
    python -m screenshots.make_screenshots --check   # exit 1 if any is out of date (a test runs it)

The app runs on the scripted project of `tests/seed.py`, so a screenshot changes only when the app
does. The screens are real; their numbers come from a script and measure nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from lmsi_tui.app import LmsiApp
from tests.lmsi_tui.driving import settled
from tests.seed import (
    NOW,
    at_work,
    seeded_project,
    while_sampling,
    while_training,
    with_second_round,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.project.folder import Project

HERE = Path(__file__).parent
LARGE, MIDDLE, SMALL = (200, 50), (120, 36), (80, 24)


@dataclass(frozen=True, slots=True)
class Screenshot:
    """A screen of the app, and how to reach it."""

    name: str
    place: str
    keys: tuple[str, ...] = ()
    size: tuple[int, int] = MIDDLE
    theme: str = "lmsi-dark"
    before: Callable[[Project], None] | None = None
    """Prepares the project, for example with a running job."""


SCREENSHOTS = (
    Screenshot("home", "home", before=while_sampling),
    Screenshot("home-light", "home", before=while_sampling, theme="lmsi-light"),
    Screenshot("home-small", "home", before=while_sampling, size=SMALL),
    Screenshot("home-large", "home", before=while_training, size=LARGE),
    Screenshot("training", "home", before=while_training),
    Screenshot("plan", "home", ("s",)),
    Screenshot("review", "review", ("n",) * 6),
    Screenshot("review-light", "review", theme="lmsi-light"),
    Screenshot("review-small", "review", size=SMALL),
    Screenshot("queue", "review", ("l",)),
    Screenshot("audit", "review", ("b",)),
    Screenshot("training-set", "training-set", ("b",)),
    Screenshot("results", "results"),
    Screenshot("results-large", "results", size=LARGE),
    Screenshot("curves", "results", ("c",)),
    Screenshot("flips", "results", ("f",)),
    Screenshot("ledger", "home", ("h",), before=with_second_round),
    Screenshot("jobs", "jobs"),
    Screenshot("help", "review", ("question_mark",)),
    Screenshot("welcome", ""),
)


async def take(screenshot: Screenshot, folder: Path) -> str:
    """The screenshot as SVG, the same each time.

    Args:
        screenshot: what to show.
        folder: an empty folder for the project.
    """
    with ExitStack() as stack:
        stack.enter_context(
            mock.patch.dict(
                os.environ,
                {"XDG_CONFIG_HOME": str(folder / "config"), "TEXTUAL_ANIMATIONS": "none"},
            )
        )
        shown = Path("~/.config/lmsi-tui/config.toml")
        stack.enter_context(mock.patch("lmsi_tui.screens.help.config_path", return_value=shown))
        project = None
        if screenshot.place:
            project = seeded_project(folder / "word-sums")
            stack.enter_context(at_work(project))
            if screenshot.before:
                screenshot.before(project)
        app = LmsiApp(project, place=screenshot.place or "home", now=lambda: NOW)
        async with app.run_test(size=screenshot.size) as pilot:
            app.theme = screenshot.theme
            await settled(pilot)
            for key in screenshot.keys:
                await pilot.press(key)
                await settled(pilot)
            return _without_fonts(app.export_screenshot(title="lmsi-tui"))


def _without_fonts(svg: str) -> str:
    """The SVG without web fonts, so that it looks the same without a network."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


async def take_all(screenshots: Sequence[Screenshot]) -> dict[str, str]:
    """Every screenshot as SVG, by name."""
    svgs = {}
    for screenshot in screenshots:
        with tempfile.TemporaryDirectory(prefix="lmsi-screenshot-") as folder:
            svgs[screenshot.name] = await take(screenshot, Path(folder))
    return svgs


def main() -> int:
    """Take the screenshots, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    selected = [each for each in SCREENSHOTS if not args.names or each.name in args.names]
    stale = []
    for name, svg in asyncio.run(take_all(selected)).items():
        target = HERE / f"{name}.svg"
        if not target.exists() or target.read_text(encoding="utf-8") != svg:
            stale.append(name)
            if not args.check:
                target.write_text(svg, encoding="utf-8")
    print(f"{'stale' if args.check else 'wrote'}: {', '.join(stale) or 'nothing'}")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
