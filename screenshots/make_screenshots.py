"""Draw the pictures in this folder from the real app.

    make screenshots                                  # draw them again
    python -m screenshots.make_screenshots --check    # are they what the app shows? (a test asks)

The app is driven over the scripted story of `tests/seed.py`, so that a picture changes only when
the program does. The screens are real; the numbers on them are a script's and claim nothing.
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
from tests.seed import NOW, at_work, seeded_project, while_sampling, while_training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.project.folder import Project

HERE = Path(__file__).parent
LARGE, MIDDLE, SMALL = (200, 50), (120, 36), (80, 24)


@dataclass(frozen=True, slots=True)
class Picture:
    """One screen of the app, and how to get to what it shows."""

    name: str
    place: str
    keys: tuple[str, ...] = ()
    size: tuple[int, int] = MIDDLE
    theme: str = "lmsi-dark"
    before: Callable[[Project], None] | None = None
    """Prepares the story, such as a job that runs."""


PICTURES = (
    Picture("home", "home", before=while_sampling),
    Picture("home-light", "home", before=while_sampling, theme="lmsi-light"),
    Picture("home-small", "home", before=while_sampling, size=SMALL),
    Picture("home-large", "home", before=while_training, size=LARGE),
    Picture("training", "home", before=while_training),
    Picture("plan", "home", ("s",)),
    Picture("review", "review", ("n",) * 6),
    Picture("review-light", "review", theme="lmsi-light"),
    Picture("review-small", "review", size=SMALL),
    Picture("queue", "review", ("l",)),
    Picture("audit", "review", ("b",)),
    Picture("training-set", "training-set", ("b",)),
    Picture("results", "results"),
    Picture("results-large", "results", size=LARGE),
    Picture("curves", "results", ("c",)),
    Picture("flips", "results", ("f",)),
    Picture("jobs", "jobs"),
    Picture("help", "review", ("question_mark",)),
    Picture("welcome", ""),
)


async def draw(picture: Picture, folder: Path) -> str:
    """The picture as SVG, the same each time.

    Args:
        picture: what to show.
        folder: empty; the story is told in it.
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
        if picture.place:
            project = seeded_project(folder / "word-sums")
            stack.enter_context(at_work(project))
            if picture.before:
                picture.before(project)
        app = LmsiApp(project, place=picture.place or "home", now=lambda: NOW)
        async with app.run_test(size=picture.size) as pilot:
            app.theme = picture.theme
            await settled(pilot)
            for key in picture.keys:
                await pilot.press(key)
                await settled(pilot)
            return _alone(app.export_screenshot(title="lmsi-tui"))


def _alone(svg: str) -> str:
    """The picture without fonts from elsewhere: it looks the same without a network."""
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


async def drawn(pictures: Sequence[Picture]) -> dict[str, str]:
    """Every picture by its name."""
    found = {}
    for picture in pictures:
        with tempfile.TemporaryDirectory(prefix="lmsi-picture-") as folder:
            found[picture.name] = await draw(picture, Path(folder))
    return found


def main() -> int:
    """Draw every picture, or say which are not what the app shows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    wanted = [one for one in PICTURES if not asked.names or one.name in asked.names]
    stale = []
    for name, svg in asyncio.run(drawn(wanted)).items():
        target = HERE / f"{name}.svg"
        if not target.exists() or target.read_text(encoding="utf-8") != svg:
            stale.append(name)
            if not asked.check:
                target.write_text(svg, encoding="utf-8")
    print(f"{'stale' if asked.check else 'drew'}: {', '.join(stale) or 'nothing'}")
    return 1 if asked.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
