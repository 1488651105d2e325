"""The configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lmsi_tui.shell.config import Config, config_path, read_config, remember
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def write(text: str) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text(text, encoding="utf-8")


def test_without_a_file_the_defaults_apply() -> None:
    assert read_config() == Config()


def test_the_file_sets_theme_keys_and_recent_projects() -> None:
    write('theme = "nord"\nrecent = ["/a", "/b"]\n\n[keys]\n"review.majority" = "enter,a"\n')
    assert read_config() == Config("nord", {"review.majority": "enter,a"}, ("/a", "/b"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("theme = \n", "not valid TOML"),
        ("theme = 3\n", "theme must be"),
        ("keys = 3\n", "[keys]"),
        ('[keys]\n"app.quit" = 3\n', "[keys]"),
        ('recent = "/a"\n', "recent must be"),
    ],
)
def test_an_invalid_value_is_named(text: str, names: str) -> None:
    write(text)
    with pytest.raises(BadInput) as failure:
        read_config()
    assert names in str(failure.value)
    assert str(config_path()) in str(failure.value)


def test_a_file_that_is_not_text_is_named() -> None:
    write("")
    config_path().write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read"):
        read_config()


def test_remembering_keeps_comments_and_other_settings() -> None:
    write('# my own words\ntheme = "nord" # calm\n\n[keys]\n"app.quit" = "Q"\n')
    remember(recent=["/a"])
    remember(theme="lmsi-light")
    text = config_path().read_text(encoding="utf-8")
    assert "# my own words" in text
    assert read_config() == Config("lmsi-light", {"app.quit": "Q"}, ("/a",))


def test_a_broken_file_and_a_read_only_home_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("theme = \n")
    remember(theme="nord")
    assert config_path().read_text(encoding="utf-8") == "theme = \n"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    remember(theme="nord")
    assert not config_path().exists()
