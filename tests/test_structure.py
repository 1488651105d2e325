"""What `scripts.structure` measures of a small package with a cycle."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import networkx as nx
import pytest

from scripts import structure
from tests.test_layering import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = {
    "__init__.py": '"""A package."""\n',
    "low/__init__.py": "",
    "low/base.py": "VALUE = 1\n",
    "middle/__init__.py": "",
    "middle/first.py": (
        "from shop.low import base\n\n\ndef value():\n    from shop.middle import second\n"
    ),
    "middle/second.py": (
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from shop.middle import first\n"
    ),
    "top.py": "import shop.middle.first\n",
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the package `shop`."""
    for name, source in SOURCES.items():
        path = tmp_path / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return tmp_path


def printed(folder: Path, *args: str) -> list[str]:
    """The lines that the script prints in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "scripts.structure", *args],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()


def test_rooms_imports_depth_cycles_and_sizes_are_printed(shop: Path) -> None:
    lines = printed(shop, "shop")
    assert lines == [
        "shop",
        "  4 modules, 4 imports, depth 3, 1 cycles",
        "    cycle of 2: shop.middle.first, shop.middle.second",
        "  3 rooms, 2 imports, depth 3, 0 cycles",
        "  largest room: shop.middle, 9 lines",
        "  largest folder: shop.middle, 9 lines",
        "  largest module: shop.middle.first, 5 lines",
        "  level 1: shop.low (1)",
        "  level 2: shop.middle (9)",
        "  level 3: shop.top (1)",
        "  longest chain: shop.top -> shop.middle.first -> shop.low.base",
    ]


def test_every_import_is_listed_on_request(shop: Path) -> None:
    assert printed(shop, "--modules", "shop")[11:] == [
        "  shop.middle.first -> shop.low.base",
        "  shop.middle.first -> shop.middle.second",
        "  shop.middle.second -> shop.middle.first",
        "  shop.top -> shop.middle.first",
    ]


def test_the_members_of_a_cycle_are_on_one_level() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("a", "d")])
    assert structure.cycles(graph) == [["b", "c"]]
    assert structure.levels(graph) == [["d"], ["b", "c"], ["a"]]
    assert structure.longest_chain(graph) == ["a", "b", "d"]
