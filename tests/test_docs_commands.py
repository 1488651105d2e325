"""The commands and programs in the pages parse, what they name exists, and quick ones run."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.conversion.export import _export_adapter
from engine.conversion.hf_to_gguf import convert_adapter
from engine.demo.project import MODELS
from engine.project.folder import open_project
from lmsi_tui.cli.main import run
from lmsi_tui.cli.parser import OPEN, build_parser
from store import models
from store.connection import connect
from tests.seed import seeded_project

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`lmsi-tui ([^`]+)`")
OURS = ("benchmarks", "scripts", "screenshots", "engine", "lmsi_tui")
QUICK = ("status", "report", "audit", "calibration", "jobs", "settings", "models", "restore")
"""Commands that only read, like `vote --replay`."""


def lines_of(page: Path) -> Iterator[str]:
    """The command lines in the blocks of a page, joined where they continue."""
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in ("", "sh", "bash", "console"):
            yield from re.sub(r"\\\n\s*", " ", block).splitlines()


def commands(page: Path, program: str) -> list[list[str]]:
    """The arguments of each call of a program in the blocks of a page."""
    calls = []
    for line in lines_of(page):
        match = re.match(rf"(?:\w+=\S+ )*(?:\.venv/bin/)?{program} (.*)", line.strip())
        if match and "…" not in line:
            calls.append(shlex.split(match[1], comments=True))
    return calls


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    for action in build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("there are no commands")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_in_the_blocks_parse(page: Path) -> None:
    names = parsers()
    for words in commands(page, "lmsi-tui"):
        typed = words if words[0] in names or words[0].startswith("-") else [OPEN, *words]
        try:
            build_parser().parse_args(typed)
        except SystemExit:
            pytest.fail(f"{name_of(page)}: lmsi-tui {shlex.join(words)}")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_in_the_text_and_their_options_exist(page: Path) -> None:
    names = parsers()
    for quoted in INLINE.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        first, *rest = quoted.split()
        if first.startswith(("-", "[")) or first.isupper() or first not in names:
            assert not re.fullmatch(r"[a-z]+", first) or not rest, f"lmsi-tui {quoted}"
            continue
        options = names[first]._option_string_actions
        for word in rest:
            option = word.strip("[]").partition("=")[0]
            assert not option.startswith("--") or option in options, f"lmsi-tui {quoted}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_modules_tests_and_targets_exist(page: Path) -> None:
    for words in commands(page, "python"):
        module, arguments = (words[1], words[2:]) if words[0] == "-m" else ("", words)
        if module == "pytest":
            paths = [word for word in arguments if word.startswith("tests")]
            assert all((ROOT / path.partition("::")[0]).exists() for path in paths), words
        if module.partition(".")[0] in OURS:
            file = ROOT / module.replace(".", "/")
            source = (
                file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
            ).read_text()
            for word in arguments:
                assert not word.startswith("--") or word.partition("=")[0] in source, words
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(page, "make"):
        assert words[0] in targets, words


def quick_lines() -> list[str]:
    lines = {
        shlex.join(words)
        for page in PAGES
        for words in commands(page, "lmsi-tui")
        if words[0] in QUICK or "--replay" in words
    }
    return sorted(lines)


def test_the_quick_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seeded_project(tmp_path / "my-project")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(quick_lines()) > 5
    for line in quick_lines():
        code = run(shlex.split(line))
        error = capsys.readouterr().err
        # A page may name a model or a backup that the seeded project does not have.
        assert code == 0 or (code == 2 and "internal error" not in error), (line, error)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folders that the page on exports names, with an embedded model and an adapter of it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base, adapter = tmp_path / "Qwen2.5-1.5B", tmp_path / "my-project/exports/Qwen2.5-1.5B-lmsi"
    shutil.copytree(MODELS / "pebble-s", base)
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"])).save_pretrained(
        str(adapter)
    )
    (adapter.parent / "training-set-0123456789ab.jsonl").write_text(
        '{"prompt": "Q: 3 + 4?\\nA:", "completion": " 7", "validation": false, "weight": 1.0}\n'
        '{"prompt": "Q: 4 + 4?\\nA:", "completion": " 8", "validation": true, "weight": 1.0}\n'
    )
    shutil.copyfile(base / "pebble-s.gguf", tmp_path / "Qwen2.5-1.5B.gguf")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_programs_of_the_page_on_exports_run(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = exported / "my-project/exports/Qwen2.5-1.5B-lmsi"
    convert_adapter(adapter, exported / "Qwen2.5-1.5B", adapter / "adapter.gguf")
    page = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    programs = [block for language, block in BLOCK.findall(page) if language == "python"]
    assert len(programs) == 4
    names: dict[str, object] = {}
    for program in programs:
        exec(compile(program, "docs/export.md", "exec"), names)  # noqa: S102
    assert "1 Q: 3 + 4?" in capfd.readouterr().out.replace("\nA:", "")
    assert (exported / "Qwen2.5-1.5B-merged" / "model.safetensors").exists()
    assert not (exported / "Qwen2.5-1.5B-merged" / "adapter_config.json").exists()


def test_exported_files_have_the_usual_permissions(tmp_path: Path) -> None:
    project = open_project(seeded_project(tmp_path / "my-project").folder)
    source = project.folder / "adapters" / "private"
    source.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter.gguf"):
        (source / name).write_text("{}")
        (source / name).chmod(0o600)  # as the safetensors library writes it
    with connect(project.database, read_only=True) as conn:
        trained = next(model for model in models.all_of(conn) if model.training_set)
    before = os.umask(0o022)
    try:
        written = _export_adapter(
            project, replace(trained, adapter="adapters/private"), tmp_path / "out"
        )
    finally:
        os.umask(before)
    assert {oct(file.stat().st_mode & 0o777) for file in written.rglob("*")} == {"0o644"}
    assert oct(written.stat().st_mode & 0o777) == "0o755"
