"""The tokens of a training set, counted once when it is frozen.

Examples are encoded by the code that trains on them (`engine.packing.encoding`, with the tokenizer
and end tokens of `engine.training.model`), so the tokens that are shown as carrying the loss are
those that will carry it.
"""

from __future__ import annotations

import codecs
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.conversion import gguf_to_hf
from engine.models.identity import is_server
from engine.training_data.student_prompts import in_style, tokens_key, training_style
from store import examples as example_rows
from store import models
from store.connection import transaction
from store.enums import Phase
from store.errors import BadInput
from store.records import Encoding

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.packing.encoding import EncodedExample
    from engine.project.folder import Project
    from engine.project.job_context import Work
    from store.enums import PromptFormat, PromptStyle
    from store.records import Example, Model, TrainingSet

SHOWN = 100
"""Examples of each format whose tokens are stored as text: enough to look at, and under a megabyte
for a set of a hundred thousand."""

CHUNK = 1000
"""Examples that are encoded and stored together; pause and cancel take effect after each chunk."""


def why_not_counted(project: Project, model: Model) -> str | None:
    """Why a model's tokens cannot be counted: it has no tokenizer for training; None if it has."""
    folder = gguf_to_hf.hf_folder(project, model)
    if not is_server(model.location) and not project.inside(model.location).exists():
        return (
            f"{model.name} is not at {project.inside(model.location)}: its tokens are not counted."
        )
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
    """Maximum number of tokens of an example in training, from the files in the model's folder.

    Returns:
        The same as `engine.training.model.context_length` of the loaded model; None if the folder
        does not say.
    """
    folder = gguf_to_hf.hf_folder(project, model)
    for file, key in (
        ("config.json", "max_position_embeddings"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        try:
            value = json.loads((folder / file).read_text(encoding="utf-8")).get(key)
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(value, int | float) and value:
            return int(value)
    return None


def trained_models(conn: sqlite3.Connection, project: Project) -> list[Model]:
    """The models that the settings train: the teacher, then its students."""
    names = (project.settings.model.teacher, *project.settings.model.students)
    return [model for name in names if (model := models.by_name(conn, name)) is not None]


def count_tokens(work: Work, frozen: TrainingSet) -> dict[str, object]:
    """Count and store the set's tokens for the teacher and each student with another tokenizer or
    style.

    Stored counts are kept, and an interrupted count continues where it stopped.

    Returns:
        For each model by name: the number of examples counted, or why they are not.
    """
    counts: dict[str, object] = {}
    for model in trained_models(work.conn, replace(work.project, settings=work.settings)):
        reason = why_not_counted(work.project, model)
        if reason is None:
            try:
                _count(work, frozen, model)
            except BadInput as error:
                reason = str(error)
        counts[model.name] = frozen.examples if reason is None else reason
    return counts


def _count(work: Work, frozen: TrainingSet, model: Model) -> None:
    conn, settings = work.conn, work.settings
    style = training_style(conn, work.project, settings, frozen, model)
    key = tokens_key(conn, work.project, settings, frozen, model)
    begin = example_rows.encoded_up_to(conn, frozen.key, key)
    if begin >= frozen.examples:
        return
    from engine.training.model import load_tokenization

    tokenization = load_tokenization(gguf_to_hf.hf_folder(work.project, model))
    spell_tokens = _speller(tokenization.tokenizer)
    title = f"counting tokens for {model.name}"
    work.progress.begin(title, frozen.examples, begin, phase=Phase.CURATION, model=model)
    counted: Counter[PromptFormat] = Counter(
        {
            prompt_format: sum(
                position < begin
                for position in example_rows.positions(
                    conn, frozen.key, prompt_format=prompt_format
                )
            )
            for prompt_format in frozen.formats
        }
    )
    for first in range(begin, frozen.examples, CHUNK):
        positions = range(first, min(first + CHUNK, frozen.examples))
        chunk = list(example_rows.at(conn, frozen.key, positions).values())
        chunk.sort(key=lambda example: example.position)
        chunk = in_style(conn, work.project, settings, chunk, frozen, style)
        encoded = encode_for(
            chunk,
            tokenization.tokenizer,
            style,
            tokenization.end_tokens,
            model.tokenizer_sha256,
            frozen,
        )
        rows = []
        for example, tokens in zip(chunk, encoded, strict=True):
            counted[example.prompt_format] += 1
            is_shown = counted[example.prompt_format] <= SHOWN
            rows.append(
                Encoding(
                    frozen.key,
                    key,
                    example.position,
                    len(tokens.prompt),
                    len(tokens.completion),
                    tuple(spell_tokens(tokens.tokens)) if is_shown else None,
                )
            )
        with transaction(conn):
            example_rows.put_encodings(conn, rows)
            work.progress.advance(positions.stop, frozen.examples)
        work.progress.look()


def encode_for(
    examples: Sequence[Example],
    tokenizer: object,
    style: PromptStyle,
    end_tokens: Iterable[int],
    tokenizer_sha256: str,
    frozen: TrainingSet,
) -> list[EncodedExample]:
    """Encode examples as a training with this tokenizer does.

    Sampled token ids are valid for the tokenizer that wrote them only, as in a distillation.
    """
    from engine.packing.encoding import encode

    if tokenizer_sha256 != frozen.tokenizer_sha256:
        examples = [replace(example, token_ids=()) for example in examples]
    return encode(examples, tokenizer, style, frozenset(end_tokens))


def _speller(tokenizer: object) -> Callable[[Sequence[int]], Iterator[str]]:
    from engine.inference.hf.loading import token_bytes

    size = len(tokenizer)  # type: ignore[arg-type]
    names = tokenizer.convert_ids_to_tokens(range(size))  # type: ignore[attr-defined]
    pieces = token_bytes(tokenizer, size)
    # Special tokens have no text of their own, so their names are shown.
    texts = [piece or (name or "").encode() for piece, name in zip(pieces, names, strict=True)]
    return lambda token_ids: spell(token_ids, texts)


def spell(token_ids: Sequence[int], pieces: Sequence[bytes]) -> Iterator[str]:
    """The text of each token, in order; together they are the whole text.

    Args:
        token_ids: of the text; an id after the last piece gives a replacement character.
        pieces: the bytes of each token of the vocabulary.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = len(token_ids) - 1
    for at, token in enumerate(token_ids):
        piece = pieces[token] if token < len(pieces) else "\N{REPLACEMENT CHARACTER}".encode()
        yield decoder.decode(piece, final=at == last)
