"""Models: those that were added, and those that were trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from store.connection import transaction
from store.enums import Stage
from store.errors import BadInput
from store.records import Model

if TYPE_CHECKING:
    import sqlite3

_COLUMNS = (
    "id, name, stage, location, gguf, adapter, adapter_gguf, sha256, tokenizer_sha256, base_id,"
    " training_set, parameters, created_at"
)


def add(conn: sqlite3.Connection, model: Model) -> Model:
    """Store a model; the same name with the same weights returns the stored one.

    Raises:
        BadInput: the name belongs to other weights.
    """
    with transaction(conn):
        stored = by_name(conn, model.name)
        if stored is None:
            cursor = conn.execute(
                f"INSERT INTO model ({_COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    model.name,
                    model.stage,
                    model.location,
                    model.gguf,
                    model.adapter,
                    model.adapter_gguf,
                    model.sha256,
                    model.tokenizer_sha256,
                    model.base_id,
                    model.training_set,
                    model.parameters,
                    model.created_at,
                ],
            )
            assert cursor.lastrowid is not None
            return by_id(conn, cursor.lastrowid)
    if (stored.sha256, stored.tokenizer_sha256) != (model.sha256, model.tokenizer_sha256):
        raise BadInput(
            f"There is already a model named {model.name!r} with other weights: use another name."
        )
    return stored


def relocate(conn: sqlite3.Connection, model: Model) -> None:
    """Store where the files of a model are now; nothing else of it can change."""
    with transaction(conn):
        conn.execute(
            "UPDATE model SET location = ?, gguf = ?, adapter = ?, adapter_gguf = ? WHERE id = ?",
            [model.location, model.gguf, model.adapter, model.adapter_gguf, model.id],
        )


def by_name(conn: sqlite3.Connection, name: str) -> Model | None:
    """The model of that name, if there is one."""
    for row in conn.execute(f"SELECT {_COLUMNS} FROM model WHERE name = ?", [name]):
        return _model(row)
    return None


def owner_of_weights(conn: sqlite3.Connection, model: Model) -> Model:
    """The model itself; of an adapter, the model that it was trained on."""
    while model.adapter is not None and model.base_id is not None:
        model = by_id(conn, model.base_id)
    return model


def by_id(conn: sqlite3.Connection, id_: int) -> Model:
    """The model of that row number.

    Raises:
        BadInput: there is none.
    """
    for row in conn.execute(f"SELECT {_COLUMNS} FROM model WHERE id = ?", [id_]):
        return _model(row)
    raise BadInput(f"There is no model {id_}: `lmsi-tui status` lists them.")


def all_of(conn: sqlite3.Connection) -> list[Model]:
    """Every model, oldest first."""
    return [_model(row) for row in conn.execute(f"SELECT {_COLUMNS} FROM model ORDER BY id")]


def _model(row: tuple[Any, ...]) -> Model:
    id_, name, stage, *rest = row
    return Model(id_, name, Stage(stage), *rest)
