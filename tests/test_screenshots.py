"""The pictures in screenshots/ show the current app; they serve as layout snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from screenshots.make_screenshots import HERE, PICTURES, Picture, draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
async def test_a_screenshot_shows_the_current_app(picture: Picture, tmp_path: Path) -> None:
    now = await draw(picture, tmp_path)
    kept = (HERE / f"{picture.name}.svg").read_text(encoding="utf-8")
    assert now == kept, "look at the difference, then run `make screenshots`"


def test_every_screenshot_is_drawn_by_the_script() -> None:
    assert {path.stem for path in HERE.glob("*.svg")} == {picture.name for picture in PICTURES}
