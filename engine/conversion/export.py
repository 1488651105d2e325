"""Write what was learnt where other programs can read it."""

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
        project: where it comes from.
        conn: its store.
        params: `what` (`adapter` or `training-set`), `model` (a name, or None for the newest
            trained one that no round left out) and `out` (a folder, or None for `exports/` of the
            project).

    Raises:
        BadInput: there is nothing to export.
        WorkFailed: it cannot be written.
    """
    out = Path(str(params["out"])) if params.get("out") else project.folder / "exports"
    name = params.get("model")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if params["what"] == "adapter":
            written = _adapter(project, _trained(conn, str(name) if name else None), out)
        else:
            written = _training_set(conn, out)
    except OSError as error:
        raise WorkFailed(f"The export to {out} could not be written: {error.strerror}.") from None
    return {"written": project.stored(written)}


def _trained(conn: sqlite3.Connection, name: str | None) -> Model:
    """The model of this name, or the newest that has weights of its own.

    One that a round rejected or left undecided is not taken over unless it is named.
    """
    known = models.all_of(conn)
    if name is not None:
        found = [model for model in known if model.name == name]
        if not found:
            raise BadInput(
                f"There is no model named {name!r}; there are: "
                f"{', '.join(model.name for model in known)}."
            )
    else:
        held = rounds.of_models(conn)
        trained = [model for model in known if model.training_set]
        if not trained:
            raise BadInput("Nothing was trained yet: `lmsi-tui finetune` makes an adapter.")
        found = [one for one in trained if held.get(one.id, Outcome.ACCEPT) is Outcome.ACCEPT]
        if not found:
            raise BadInput(
                f"No round was accepted, so nothing is exported unasked: name a model with "
                f"--model ({', '.join(one.name for one in trained)}), or accept a round with "
                "`lmsi-tui round --accept NUMBER`."
            )
    return max(found, key=lambda model: model.created_at)


def _adapter(project: Project, model: Model, out: Path) -> Path:
    """Copy what training made: an adapter's folder, or the whole weights of a full fine-tuning."""
    if model.training_set is None:
        raise BadInput(f"{model.name} was brought along, not trained here: name a trained model.")
    target = out / model.name.replace("/", "-")
    shutil.copytree(project.inside(model.adapter or model.location), target, dirs_exist_ok=True)
    gguf = model.adapter_gguf if model.adapter else model.gguf
    if gguf and not (target / Path(gguf).name).exists():
        shutil.copy2(project.inside(gguf), target)
    return target


def _training_set(conn: sqlite3.Connection, out: Path) -> Path:
    """The newest training set as JSON lines: prompt, completion, weight, and where it came from."""
    sets = examples.sets(conn)
    if not sets:
        raise BadInput("There is no training set yet: `lmsi-tui curate` makes one.")
    frozen = max(sets, key=lambda one: one.created_at)
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
