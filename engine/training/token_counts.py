"""What a training set is as tokens, counted once when it is frozen.

The examples go through the code that trains on them (`packing.encode`, with the tokenizer and the
ends of `learner`), so what is shown as carrying the loss is what will carry it.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from store import examples as example_rows
from store import models as model_rows
from store import paths
from store.connection import transaction
from store.enums import Phase
from store.errors import BadInput
from store.records import Encoding

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.packing.prefix_tree import Encoded
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.enums import PromptFormat, PromptStyle
    from store.records import Example, Model, TrainingSet

SHOWN = 100
"""Examples of each format whose tokens are kept as text: enough to look at, and a set of a hundred
thousand stays under a megabyte of it."""

CHUNK = 1000
"""Examples that are tokenised between two looks at what the person wants."""


def why_not_counted(project: Project, model: Model) -> str | None:
    """Why there are no tokens for a model: it has no tokenizer that trains; None when there are."""
    folder = gguf_to_hf.folder_of(project, model)
    if not folder.is_dir() and model.location.endswith(".gguf"):
        return f"{model.name} is a GGUF file: its tokens are counted after its first training."
    if not folder.is_dir():
        return (
            f"{model.name} cannot be trained, so its tokens are not counted: training needs a "
            "Hugging Face folder."
        )
    if not (folder / "config.json").exists():
        return f"{model.name} has no config.json, so its tokens are not counted."
    return None


def context_of(project: Project, model: Model) -> int | None:
    """Most tokens of an example that a model is trained on, from the configuration in its folder.

    Returns:
        What `learner.context` says when the model is loaded; None when the folder does not say it.
    """
    folder = gguf_to_hf.folder_of(project, model)
    for file, name in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        try:
            said = json.loads((folder / file).read_text(encoding="utf-8")).get(name)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(said, int | float) and said:
            return int(said)
    return None


def learners(conn: sqlite3.Connection, project: Project) -> list[Model]:
    """The models that the settings train: the teacher, then its students."""
    asked = (project.settings.model.teacher, *project.settings.model.students)
    found = (model_rows.by_name(conn, name) for name in asked)
    return [model for model in found if model is not None]


def count_tokens(work: Work, frozen: TrainingSet) -> dict[str, object]:
    """Store what the set is as tokens of the teacher and of each student with another tokenizer.

    What is stored is not counted again, and a counting that was ended goes on where it stopped.

    Returns:
        For each model by name: how many examples are counted, or why they are not.
    """
    style = paths.run_by_id(work.conn, frozen.run_id).prompt_style
    told: dict[str, object] = {}
    for model in learners(work.conn, replace(work.project, settings=work.settings)):
        reason = why_not_counted(work.project, model)
        if reason is None:
            try:
                _count(work, frozen, model, style)
            except BadInput as failure:
                reason = str(failure)
        told[model.name] = frozen.examples if reason is None else reason
    return told


def _count(work: Work, frozen: TrainingSet, model: Model, style: PromptStyle) -> None:
    tokenizer, conn = model.tokenizer_sha256, work.conn
    begin = example_rows.encoded_up_to(conn, frozen.key, tokenizer)
    if begin >= frozen.examples:
        return
    from engine.training.model import text_of

    text = text_of(gguf_to_hf.folder_of(work.project, model))
    spelled = _speller(text.tokenizer)
    title = f"counting tokens as {model.name} reads them"
    work.progress.begin(title, frozen.examples, begin, phase=Phase.CURATION, model=model)
    shown: Counter[PromptFormat] = Counter(
        {
            prompt_format: sum(
                place < begin
                for place in example_rows.positions(conn, frozen.key, prompt_format=prompt_format)
            )
            for prompt_format in frozen.formats
        }
    )
    for first in range(begin, frozen.examples, CHUNK):
        places = range(first, min(first + CHUNK, frozen.examples))
        chunk = list(example_rows.at(conn, frozen.key, places).values())
        chunk.sort(key=lambda one: one.position)
        coded = as_tokens(chunk, text.tokenizer, style, text.ends, tokenizer, frozen)
        rows = []
        for example, one in zip(chunk, coded, strict=True):
            shown[example.prompt_format] += 1
            keeps = shown[example.prompt_format] <= SHOWN
            rows.append(
                Encoding(
                    frozen.key,
                    tokenizer,
                    example.position,
                    len(one.prompt),
                    len(one.completion),
                    tuple(spelled(one.tokens)) if keeps else None,
                )
            )
        with transaction(conn):
            example_rows.put_encodings(conn, rows)
            work.progress.advance(places.stop, frozen.examples)
        work.progress.look()


def as_tokens(
    some: Sequence[Example],
    tokenizer: object,
    style: PromptStyle,
    ends: Iterable[int],
    tokenizer_sha256: str,
    frozen: TrainingSet,
) -> list[Encoded]:
    """Examples as a training with this tokenizer meets them.

    Sampled token ids mean something to the tokenizer that wrote them only, as in `distill`.
    """
    from engine.packing.prefix_tree import encode

    if tokenizer_sha256 != frozen.tokenizer_sha256:
        some = [replace(one, token_ids=()) for one in some]
    return encode(some, tokenizer, style, frozenset(ends))


def _speller(tokenizer: object) -> Callable[[Sequence[int]], Iterator[str]]:
    from engine.inference.hf.loading import piece_bytes

    size = len(tokenizer)  # type: ignore[arg-type]
    names = tokenizer.convert_ids_to_tokens(range(size))  # type: ignore[attr-defined]
    pieces = piece_bytes(tokenizer, size)
    # Tokens that write nothing are the special ones, which are shown by their names.
    known = [piece or (name or "").encode() for piece, name in zip(pieces, names, strict=True)]
    return lambda token_ids: spell(token_ids, known)


def spell(token_ids: Sequence[int], pieces: Sequence[bytes]) -> Iterator[str]:
    """What each token writes, in order; together it is the whole text.

    Args:
        token_ids: of the text; one behind the last piece writes a replacement character.
        pieces: the bytes of each token of the vocabulary.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(token_ids) - 1
    for at, token in enumerate(token_ids):
        known = pieces[token] if token < len(pieces) else "\N{REPLACEMENT CHARACTER}".encode()
        yield decoder.decode(known, final=at == last)
