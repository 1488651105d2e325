"""The pages match the app: its keys, and the files and headings that they link to."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from lmsi_tui.shell.commands import SCREENS
from screenshots import make_keys

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(
    r"\b(?:store|engine|lmsi_tui|benchmarks|screenshots|scripts|tests)/[\w/.-]*\w/?"
)
MODULE = re.compile(r"-m ((?:benchmarks|scripts|screenshots|engine|lmsi_tui)[\w.]*\w)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def test_the_tables_of_keys_are_current() -> None:
    page = make_keys.PAGE.read_text(encoding="utf-8")
    assert make_keys.updated(page) == page, "run: make screenshots"


def test_the_page_has_the_keys_of_every_screen() -> None:
    page = make_keys.PAGE.read_text(encoding="utf-8")
    make_keys.updated(page)
    assert make_keys.documented_screens(page) == {*SCREENS, "app"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {ROOT / name for name in SOURCE.findall(text)}
    for module in MODULE.findall(text):
        path = ROOT / module.replace(".", "/")
        named.add(path if path.is_dir() else path.with_suffix(".py"))
    assert not [path for path in named if not path.exists()]


@pytest.mark.parametrize("name", ["docs/reliability.md", "SECURITY.md"])
def test_each_promise_names_tests_that_exist(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    promises = [
        row
        for table in re.findall(r"^\| promise \|.*\n\|[-|]+\n((?:\|.*\n?)+)", page, re.MULTILINE)
        for row in table.splitlines()
    ]
    assert len(promises) > 15
    for row in promises:
        tests = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert tests or MODULE.search(row), row
        for file, test in tests:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    anchors: set[str] = set()
    repeats: Counter[str] = Counter()
    for heading in HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchors.add(f"{anchor}-{repeats[anchor]}" if repeats[anchor] else anchor)
        repeats[anchor] += 1
    return anchors
