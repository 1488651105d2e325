"""Export an adapter or a training set for use in other programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from store import examples, models, paths, rounds
from store.enums import Outcome
from store.errors import BadInput, WorkFailed

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
        params: `what` (`adapter` or `training-set`), `model` (a name, or None for the newest
            trained one that no round left out) and `out` (a folder, or None for `exports/` of the
            project).

    Returns:
        `written`: the file or folder.

    Raises:
        BadInput: there is nothing to export.
        WorkFailed: it cannot be written.
    """
    out = Path(str(params["out"])) if params.get("out") else project.folder / "exports"
    name = params.get("model")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if params["what"] == "adapter":
            written = _export_adapter(
                project, _trained_model(conn, str(name) if name else None), out
            )
        else:
            written = _export_training_set(conn, out)
    except OSError as error:
        raise WorkFailed(f"Cannot write the export to {out}: {error.strerror}.") from None
    return {"written": project.stored(written)}


def _trained_model(conn: sqlite3.Connection, name: str | None) -> Model:
    """The model with this name, or the newest one with weights of its own.

    A model that a round rejected or left undecided is exported only if it is named.
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
        outcomes = rounds.of_models(conn)
        trained = [model for model in every_model if model.training_set]
        if not trained:
            raise BadInput("No model has been trained yet: run `lmsi-tui finetune` first.")
        candidates = [
            model for model in trained if outcomes.get(model.id, Outcome.ACCEPT) is Outcome.ACCEPT
        ]
        if not candidates:
            raise BadInput(
                f"No round was accepted, so there is no model to export: name a model with "
                f"--model ({', '.join(model.name for model in trained)}), or accept a round with "
                "`lmsi-tui round --accept NUMBER`."
            )
    return max(candidates, key=lambda model: model.created_at)


def _export_adapter(project: Project, model: Model, out: Path) -> Path:
    """Copy what training wrote: an adapter's folder, or the weights of a full fine-tuning."""
    if model.training_set is None:
        raise BadInput(f"{model.name} was imported, not trained here: name a trained model.")
    target = out / model.name.replace("/", "-")
    shutil.copytree(project.inside(model.adapter or model.location), target, dirs_exist_ok=True)
    gguf = model.adapter_gguf if model.adapter else model.gguf
    if gguf and not (target / Path(gguf).name).exists():
        shutil.copy2(project.inside(gguf), target)
    return target


def _export_training_set(conn: sqlite3.Connection, out: Path) -> Path:
    """Write the newest training set as JSON lines: prompt, completion, weight, and their source."""
    sets = examples.sets(conn)
    if not sets:
        raise BadInput("There is no training set yet: run `lmsi-tui curate` first.")
    frozen = max(sets, key=lambda candidate: candidate.created_at)
    run = paths.run_by_id(conn, frozen.run_id)
    target = out / f"training-set-{frozen.key[:12]}.jsonl"
    temporary = target.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
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
    temporary.replace(target)
    return target
