"""Bring pages and pictures from outside docs/ into the site, with the links that GitHub follows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)\s]+")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the screenshots that lie beside docs/."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for picture in sorted((ROOT / "screenshots").glob("*.svg")):
        target = f"screenshots/{picture.name}"
        files.append(File.generated(config, target, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that cross the border of docs/ to where the target is in the site."""
    source = page.file.src_uri
    here = ROOT if source in PAGES else (ROOT / "docs" / source).parent

    def in_site(link: re.Match[str]) -> str:
        name, hash_, anchor = link[0].partition("#")
        target = (here / name).resolve().relative_to(ROOT).as_posix()
        depth = source.count("/")
        return "../" * depth + target.removeprefix("docs/") + hash_ + anchor

    return LINK.sub(in_site, markdown)
