"""The screenshots are current; they serve as layout snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from screenshots.make_screenshots import HERE, SCREENSHOTS, Screenshot, take

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("screenshot", SCREENSHOTS, ids=lambda screenshot: screenshot.name)
async def test_a_screenshot_shows_the_current_app(screenshot: Screenshot, tmp_path: Path) -> None:
    current = await take(screenshot, tmp_path)
    stored = (HERE / f"{screenshot.name}.svg").read_text(encoding="utf-8")
    assert current == stored, "look at the difference, then run `make screenshots`"


def test_every_stored_screenshot_is_made_by_the_script() -> None:
    assert {path.stem for path in HERE.glob("*.svg")} == {
        screenshot.name for screenshot in SCREENSHOTS
    }
