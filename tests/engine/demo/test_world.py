from __future__ import annotations

import hashlib
import itertools
import json
import random
from typing import TYPE_CHECKING

import pytest

from engine.demo import world
from engine.demo.world import PebbleQuestion, PebbleSplit, QuestionKind
from engine.prompting.tasks import exemplars_of
from engine.prompting.templates import STEP_BY_STEP, render
from scripts import documents, make_pebbles
from store import enums, records
from store.enums import AnswerType, PromptFormat, PromptStyle

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer

SPLITS = (PebbleSplit.POOL, PebbleSplit.EVAL, PebbleSplit.OOD)
ALL_FILES = 16_000_000  # bytes


def generated(split: PebbleSplit, seed: int = 7) -> list[PebbleQuestion]:
    return world.generate(split, 1500, seed)


def pretraining_questions() -> set[str]:
    texts = itertools.chain(
        itertools.islice(documents.documents(3, runs=True), 2000),
        itertools.islice(documents.documents(3, runs=False), 4000),
    )
    return {
        part.removeprefix("Q: ").split("\nA:")[0] for text in texts for part in text.split("\n\n")
    }


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(make_pebbles.MODELS / "pebble-l" / "tokenizer.json"))


def prompt_of(text: str) -> str:
    """The few-shot prompt of a question, as a model gets it."""
    question = records.Question(
        id=0,
        key="",
        split=enums.Split.POOL,
        source="pebble",
        position=0,
        task="pebble",
        answer_type=AnswerType.NUMBER,
        text=text,
    )
    exemplars = exemplars_of("pebble")
    return render(question, PromptFormat.FEW_SHOT_COT, PromptStyle.BASE, exemplars).text


def folder(name: str) -> Path:
    return make_pebbles.MODELS / name


def parameters(name: str) -> int:
    """Count from the headers of the safetensors file: the tied head is stored once."""
    raw = (folder(name) / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    header.pop("__metadata__", None)
    total = 0
    for tensor in header.values():
        count = 1
        for side in tensor["shape"]:
            count *= side
        total += count
    return total


def test_no_question_is_in_two_splits_even_over_seeds() -> None:
    seen = [
        {question.text for seed in (1, 2, 3) for question in generated(split, seed)}
        for split in SPLITS
    ]
    for first, second in itertools.combinations([*seen, pretraining_questions()], 2):
        assert not first & second


def test_the_text_of_a_question_decides_its_split() -> None:
    for split in SPLITS:
        assert {world.split_of(question.text) for question in generated(split)} == {split}
    assert {world.split_of(text) for text in pretraining_questions()} == {PebbleSplit.PRETRAINING}


def test_the_exemplars_are_in_no_split_and_not_in_the_pretraining_text() -> None:
    shown = {exemplar.question for exemplar in world.EXEMPLARS}
    for split in SPLITS:
        assert not shown & {question.text for question in generated(split)}
    assert not shown & pretraining_questions()


def test_the_exemplars_have_correct_answers() -> None:
    for exemplar in world.EXEMPLARS:
        assert world.solve(exemplar.question) == exemplar.answer


@pytest.mark.parametrize("split", SPLITS)
def test_the_solver_agrees_with_the_generator(split: PebbleSplit) -> None:
    for question in generated(split):
        assert world.solve(question.text) == question.answer


def test_the_solver_refuses_an_unknown_question() -> None:
    with pytest.raises(ValueError, match="not a question of a generated split"):
        world.solve("What is 2 + 2?")


def test_both_styles_of_reasoning_end_in_the_correct_answer() -> None:
    for split in SPLITS:
        for question in generated(split):
            assert question.quick.endswith(f" = {question.answer}.")
            assert question.careful.endswith(f" = {question.answer}.")


def test_every_step_of_careful_reasoning_is_correct() -> None:
    for question in generated(PebbleSplit.POOL)[:300]:
        for sentence in question.careful.removesuffix(".").split(". Then "):
            values = set()
            for side in sentence.split(" = "):
                start, *rest = side.split(" ")
                total = int(start)
                for symbol, amount in zip(rest[::2], rest[1::2], strict=True):
                    total = world.Operation(symbol, int(amount)).apply(total)
                values.add(total)
            assert len(values) == 1, sentence


def test_quick_reasoning_omits_only_the_last_intermediate_result_of_three_or_more_operations() -> (
    None
):
    for question in generated(PebbleSplit.POOL)[:300]:
        steps = len(question.operations)
        assert question.careful.count(". Then ") == steps - 1
        assert question.quick.count(". Then ") == (steps - 1 if steps < 3 else steps - 2)


def test_generation_depends_only_on_the_seed() -> None:
    assert generated(PebbleSplit.EVAL, 5) == generated(PebbleSplit.EVAL, 5)
    assert generated(PebbleSplit.EVAL, 5) != generated(PebbleSplit.EVAL, 6)
    for runs in (True, False):
        first, again = (
            list(itertools.islice(documents.documents(11, runs=runs), 50)) for _ in range(2)
        )
        assert first == again


def test_no_question_is_generated_twice() -> None:
    for split in SPLITS:
        assert len({question.text for question in generated(split)}) == 1500


def test_pretraining_text_contains_every_kind_of_question() -> None:
    for kind, generate in world.GENERATORS.items():
        question = generate(random.Random(1))
        assert question.kind is kind
    starts = {text.split(" ")[0] for text in pretraining_questions()}
    assert {"What", "Which", "Is", "A"} <= starts
    assert set(documents.KIND_WEIGHTS) == set(QuestionKind)


def test_pretraining_questions_cannot_be_generated() -> None:
    with pytest.raises(ValueError, match="stream of documents"):
        world.generate(PebbleSplit.PRETRAINING, 1, 0)


def test_pretraining_text_has_the_format_of_the_prompts() -> None:
    assert f" {STEP_BY_STEP}" == documents.CUE
    text = next(documents.documents(11, runs=True))
    assert text.count("\n\nQ: ") == len(world.EXEMPLARS) == documents.RUN_LENGTH - 1
    assert prompt_of("?").count("\n\nQ: ") == len(world.EXEMPLARS)


def test_most_reasoning_is_quick_and_so_is_the_most_frequent_opening() -> None:
    quick, careful = documents.QUICK_OPENINGS, documents.CAREFUL_OPENINGS
    assert max(quick.values()) > max(careful.values())
    assert 0.3 <= sum(careful.values()) / sum([*quick.values(), *careful.values()]) <= 0.4


def test_the_opening_of_a_path_shows_its_style() -> None:
    assert documents.style_of(" So 1 + 2 + 3 = 6.") == "quick"
    assert documents.style_of(" First, 1 + 2 = 3.") == "careful"
    assert documents.style_of(" The answer is 6.") == "other"


def test_prompts_and_paths_of_the_target_kind_fit_the_trained_context(
    tokenizer: Tokenizer,
) -> None:
    longest = max(
        len(tokenizer.encode(prompt_of(question.text)).ids)
        + len(tokenizer.encode(f" With care, {question.careful} The answer is 99.\n\n").ids)
        for split in SPLITS
        for question in generated(split)
    )
    assert longest <= make_pebbles.CONTEXT


def test_the_tokenizer_splits_digits_and_decodes_every_text_exactly(
    tokenizer: Tokenizer,
) -> None:
    assert tokenizer.encode("2026").tokens == ["2", "0", "2", "6"]
    for text in ("Q: Tom has 38 pens.\nA:", "naïve 雪 🙂 \t\n\n x"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_each_pebble_has_at_most_half_the_parameters_of_the_next_larger() -> None:
    counts = [parameters(name) for name in make_pebbles.SIZES]
    for larger, smaller in itertools.pairwise(counts):
        assert 2 * smaller <= larger


def test_the_three_pebbles_share_one_tokenizer() -> None:
    texts = {(folder(name) / "tokenizer.json").read_bytes() for name in make_pebbles.SIZES}
    assert len(texts) == 1


def test_the_shipped_files_are_small_and_match_their_checksums() -> None:
    files = {
        path.relative_to(make_pebbles.MODELS).as_posix(): path
        for path in make_pebbles.MODELS.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert sum(path.stat().st_size for path in files.values()) < ALL_FILES
    lines = (make_pebbles.MODELS / "SHA256SUMS").read_text().splitlines()
    summed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert summed == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()
    }
