"""Measure the import time of libraries for the app's start: processor time in fresh processes.

    python -m benchmarks.imports

Each statement runs in its own process, alone and after `import lmsi_tui.app`. The table shows the
minimum of several runs, because other work on the machine can only make a run slower.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

STATEMENTS = {
    "msgspec": "import msgspec",
    "settings (msgspec)": "import engine.project.folder",
    "settings (pydantic)": (
        "import engine.project.settings as s; from pydantic import TypeAdapter; "
        "TypeAdapter(s.Settings)"
    ),
    "platformdirs": "import platformdirs; platformdirs.user_config_path('lmsi-tui')",
    "filelock": "import filelock",
    "tenacity": "import tenacity",
    "stamina": "import stamina",
    "jinja2": "import jinja2",
    "safetensors": "from safetensors import safe_open",
    "safetensors, a header": (
        "from safetensors import safe_open; from engine.demo.project import MODELS; "
        "safe_open(MODELS / 'pebble-s' / 'model.safetensors', framework='numpy').keys()"
    ),
}
WALLS = ("numpy", "scipy", "torch", "transformers")


def measure(statement: str, before: str) -> tuple[float, list[str]]:
    """Milliseconds of processor time of a statement, and its imports that the app must avoid."""
    code = (
        f"{before}; import sys, time; start = time.process_time()\n{statement}\n"
        f"print((time.process_time() - start) * 1000, *(set({WALLS}) & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    return float(printed[0]), sorted(printed[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    print("| statement | alone, ms | after the app, ms | also imports |")
    print("|---|---|---|---|")
    for name, statement in STATEMENTS.items():
        alone = min(measure(statement, "pass")[0] for _ in range(runs))
        after = min(measure(statement, "import lmsi_tui.app") for _ in range(runs))
        print(f"| {name} | {alone:.1f} | {after[0]:.1f} | {', '.join(after[1])} |")


if __name__ == "__main__":
    main()
