"""The order of the packages, checked in their source and in fresh interpreters.

`store` imports nothing of `engine`, `engine` nothing of `lmsi_tui`, and the process of the app and
the command line never loads a library that runs models.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from store.connection import DATABASE
from store.schema import ensure_schema

ROOT = Path(__file__).parents[1]
LAYERS = ("store", "engine", "lmsi_tui")
MODELS = frozenset({"torch", "transformers", "peft", "llama_cpp", "gguf", "accelerate"})
SLOW = MODELS | {"sqlite_utils", "scipy", "datasketch", "pyarrow", "math_verify"}
"""What neither the app nor the command line imports: it would cost seconds and much memory."""

SOURCES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source: str) -> set[str]:
    """Top-level packages that a module imports anywhere, including in functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that this test can read them"
            assert node.module is not None
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call):
            names |= imported_by_call(node)
    return names


def imported_by_call(node: ast.Call) -> set[str]:
    """The packages that `import_module("x")` and `__import__("x")` import."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    name = node.func.id if isinstance(node.func, ast.Name) else name
    if name not in ("import_module", "__import__") or not node.args:
        return set()
    target = node.args[0]
    assert isinstance(target, ast.Constant), "an import that no reader can see"
    assert isinstance(target.value, str)
    return {target.value.partition(".")[0]}


def forbidden(path: Path) -> frozenset[str]:
    """The packages that a module must not import."""
    layer = path.relative_to(ROOT).parts[0]
    higher = frozenset(LAYERS[LAYERS.index(layer) + 1 :])
    if layer == "lmsi_tui":
        return MODELS | {"sqlite_utils"}
    if path == ROOT / "store" / "migrations.py":
        return higher | MODELS
    if layer == "store":
        return higher | SLOW | {"numpy"}
    return higher | {"sqlite_utils"}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_a_module_imports_nothing_of_a_higher_layer(path: Path) -> None:
    assert imported(path.read_text(encoding="utf-8")) & forbidden(path) == set()


def test_imports_are_found_wherever_they_are() -> None:
    source = """
import a.b
from c.d import e
def f():
    import g
    from importlib import import_module
    import_module("h.i")
    __import__("j")
if TYPE_CHECKING:
    from k import l
"""
    assert imported(source) == {"a", "c", "g", "importlib", "h", "j", "k"}


def loaded_after(script: str, *arguments: object) -> set[str]:
    """Top-level packages that are loaded after a fresh interpreter has run a script."""
    tell = "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run(
        [sys.executable, "-c", script + tell, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.splitlines()[-1].split())


def test_the_command_line_loads_no_model_library() -> None:
    loaded = loaded_after(
        "from lmsi_tui.cli.main import run\n"
        "try:\n    run(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    assert "lmsi_tui" in loaded
    assert loaded & SLOW == set()


@pytest.mark.parametrize("command", ["jobs", "status", "report"])
def test_a_command_that_reads_loads_no_model_library(command: str, tmp_path: Path) -> None:
    (tmp_path / "lmsi.toml").touch()
    ensure_schema(tmp_path / DATABASE)
    loaded = loaded_after(
        "import sys\nfrom lmsi_tui.cli.main import run\nassert run(sys.argv[1:]) == 0",
        command,
        tmp_path,
        "--json",
    )
    assert {"store", "engine"} <= loaded
    assert loaded & MODELS == set()
    assert "sqlite_utils" not in loaded


def test_the_store_loads_only_the_standard_library_when_the_schema_is_current(
    tmp_path: Path,
) -> None:
    ensure_schema(tmp_path / DATABASE)
    modules = [module_name(path) for path in SOURCES if path.parent.name == "store"]
    loaded = loaded_after(
        f"import sys, {', '.join(modules)}\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "store.schema.ensure_schema(path)\n"
        "with store.connection.connect(path) as conn:\n"
        "    assert store.jobs.all_of(conn) == []",
        tmp_path / DATABASE,
    )
    own = {"store", "__main__", *sys.stdlib_module_names}
    # What the interpreter itself loads at startup (editable installs, coverage, certificates).
    assert loaded - own <= loaded_after("pass")


APP = """
import asyncio, os, sys
from pathlib import Path
os.environ["XDG_CONFIG_HOME"] = sys.argv[2]
from engine.project.folder import open_project
from lmsi_tui.app import LmsiApp

async def settled(pilot):
    for _ in range(2):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()

async def main():
    for place in [*LmsiApp.MODES, None]:
        project = open_project(Path(sys.argv[1])) if place else None
        app = LmsiApp(project, place=place or "home")
        async with app.run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            for key in ("question_mark", "escape", "ctrl+t", "down", "s", "escape", "i", "escape"):
                await pilot.press(key)
                await settled(pilot)
        assert app.internal_error is None
asyncio.run(main())
"""


def test_the_app_loads_no_model_library_on_any_screen(tmp_path: Path) -> None:
    from tests.seed import at_work, seeded_project

    project = seeded_project(tmp_path / "story")
    with at_work(project):
        loaded = loaded_after(APP, project.folder, tmp_path / "config")
    assert {"textual", "lmsi_tui", "engine", "store"} <= loaded
    assert loaded & SLOW == set()


def threads(source: str) -> list[ast.FunctionDef]:
    """Methods that run in a thread: `@work(thread=True)`."""
    return [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        if isinstance(decorator, ast.Call)
        for keyword in decorator.keywords
        if keyword.arg == "thread"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value
    ]


def used_of_self(function: ast.FunctionDef) -> set[str]:
    """Attributes of `self` that a method reads or calls, and `set:NAME` for those it sets."""
    names = set()
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            names.add(node.attr if isinstance(node.ctx, ast.Load) else f"set:{node.attr}")
    return names


def test_no_thread_touches_a_widget() -> None:
    allowed = {
        # A read posts its result and a message that it has ended.
        "screens/screen.py": {"post_message", "ReadDone", "lmsi"},
        # The picker lists a folder; what it lists is set once, before it is shown.
        "screens/setup/picker.py": {"post_message", "FolderRead", "_target"},
    }
    touched = {}
    for path in sorted((ROOT / "lmsi_tui").rglob("*.py")):
        used = [used_of_self(method) for method in threads(path.read_text(encoding="utf-8"))]
        if used:
            touched[str(path.relative_to(ROOT / "lmsi_tui"))] = set().union(*used)
    assert touched == allowed


def test_threads_are_started_only_by_textual_workers() -> None:
    for path in sorted((ROOT / "lmsi_tui").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert "threading" not in imported(source), path
        for name in ("to_thread", "run_in_executor", "call_from_thread"):
            assert name not in source, path


def test_what_a_thread_touches_is_found() -> None:
    source = """
class Screen:
    @work(thread=True, group="x")
    def read(self):
        self.loading = False
        self.query_one("#x").update("y")
    @work(exclusive=True)
    async def other(self):
        self.refresh()
"""
    (function,) = threads(source)
    assert used_of_self(function) == {"set:loading", "query_one"}


def test_the_readers_are_not_loaded_before_the_home_screen_is_shown() -> None:
    tell = "import sys; print('engine.answers' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", f"import lmsi_tui.app, lmsi_tui.screens.home\n{tell}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "False\n"
