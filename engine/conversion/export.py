"""Export an adapter or a training set for use in other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from engine.conversion.adapter_strength import set_strength
from engine.models.location import check_files
from store import examples, models, paths, rounds
from store.atomic_file import atomic_file, atomic_folder
from store.enums import Stage
from store.errors import BadInput
from store.write_failures import write_failure

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from engine.project.folder import Project
    from store.records import Model


def export(
    project: Project, conn: sqlite3.Connection, params: Mapping[str, object]
) -> dict[str, object]:
    """Write an adapter or a training set.

    Args:
        project: to export from.
        conn: its store.
        params: `what` (`adapter` or `training-set`), `model` (a name, or None for the one in use:
            see `trained_model`), `strength` (of the adapter; 1 if None) and `out` (a folder, or
            None for `exports/` of the project).

    Returns:
        `written`: the file or folder; `model`: name of the model, None for a training set;
        `strength`: of the adapter, None for anything else.

    Raises:
        BadInput: there is nothing to export.
        WorkFailed: it cannot be written; what an earlier export wrote is unchanged.
    """
    out = Path(str(params["out"])) if params.get("out") else project.folder / "exports"
    name = params.get("model")
    model, strength = None, None
    try:
        out.mkdir(parents=True, exist_ok=True)
        if params["what"] == "adapter":
            model = trained_model(conn, str(name) if name else None)
            strength = _strength(model, params.get("strength"))
            written = _export_adapter(project, model, out, strength or 1.0)
        else:
            written = _export_training_set(conn, out)
    except OSError as error:
        raise write_failure(error, out) or error from None
    return {
        "written": project.stored(written),
        "model": model.name if model else None,
        "strength": strength,
    }


def _strength(model: Model, wanted: object) -> float | None:
    """The strength with which a model's adapter is written; None without an adapter.

    Raises:
        BadInput: a strength is wanted for a model without an adapter.
    """
    if model.adapter is None:
        if wanted is not None:
            raise BadInput(
                f"{model.name} has no adapter, since all of its weights were trained: export it "
                "without --strength."
            )
        return None
    return 1.0 if wanted is None else float(str(wanted))


def trained_model(conn: sqlite3.Connection, name: str | None) -> Model:
    """The model with this name; without a name, the one that was accepted last.

    If no round trained a model, it is the newest trained one. A model that a round rejected or
    left undecided is exported only if it is named, and so are controls and the students of a
    project with rounds.
    """
    every_model = models.all_of(conn)
    if name is not None:
        candidates = [model for model in every_model if model.name == name]
        if not candidates:
            raise BadInput(
                f"No model is named {name!r}; the project has: "
                f"{', '.join(model.name for model in every_model)}."
            )
    else:
        trained = [
            model
            for model in every_model
            if model.training_set and model.stage is not Stage.CONTROL
        ]
        if not trained:
            raise BadInput("No model has been trained yet: run `lmsi-tui finetune` first.")
        candidates = trained
        if rounds.all_of(conn):
            accepted = rounds.accepted(conn)
            candidates = [model for model in trained if model.id == accepted]
        if not candidates:
            raise BadInput(
                f"No round was accepted, so there is no model to export: name a model with "
                f"--model ({', '.join(model.name for model in trained)}), or accept a round with "
                "`lmsi-tui round --accept NUMBER`."
            )
    return candidates[-1]


def _export_adapter(project: Project, model: Model, out: Path, strength: float = 1.0) -> Path:
    """Copy what training wrote: an adapter's folder, or the weights of a full fine-tuning."""
    if model.training_set is None:
        raise BadInput(f"{model.name} was imported, not trained here: name a trained model.")
    gguf = model.adapter_gguf if model.adapter else model.gguf
    source = project.inside(model.adapter or model.location)
    check_files(project, model, [model.adapter or model.location, *([gguf] if gguf else [])])
    target = out / model.name.replace("/", "-")
    if target.resolve() == source.resolve():
        raise BadInput(f"{target} holds the original of {model.name}: export to another folder.")
    with atomic_folder(target) as part:
        for file in source.rglob("*"):
            copy = part / file.relative_to(source)
            if file.is_dir():
                copy.mkdir(parents=True, exist_ok=True)
            else:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        if gguf and not (part / Path(gguf).name).exists():
            shutil.copyfile(project.inside(gguf), part / Path(gguf).name)
        if strength != 1:
            set_strength(part, strength)
    return target


def _export_training_set(conn: sqlite3.Connection, out: Path) -> Path:
    """Write the newest training set as JSON lines: prompt, completion, weight, and their source."""
    sets = examples.ordinary_sets(conn)
    if not sets:
        raise BadInput("There is no training set yet: run `lmsi-tui curate` first.")
    frozen = sets[-1]
    run = paths.run_by_id(conn, frozen.run_id)
    target = out / f"training-set-{frozen.key[:12]}.jsonl"
    with atomic_file(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for example in examples.examples(conn, frozen.key):
            line = {
                "prompt": example.prompt,
                "completion": example.completion,
                "format": example.prompt_format,
                "weight": example.weight,
                "validation": example.validation,
                "token_ids": list(example.token_ids),
                "run": run.key,
                "path": example.path_id,
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return target
