"""The pictures in screenshots/ are what the app shows: they are the layout's snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from screenshots.make_screenshots import HERE, PICTURES, Picture, draw

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
async def test_a_picture_is_what_the_app_shows(picture: Picture, tmp_path: Path) -> None:
    now = await draw(picture, tmp_path)
    kept = (HERE / f"{picture.name}.svg").read_text(encoding="utf-8")
    assert now == kept, "look at what changed, then draw it again: make screenshots"


def test_no_picture_is_left_that_nothing_draws() -> None:
    assert {path.stem for path in HERE.glob("*.svg")} == {picture.name for picture in PICTURES}
