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

DRAWN = (PebbleSplit.POOL, PebbleSplit.EVAL, PebbleSplit.OOD)
ALL_FILES = 16_000_000  # bytes


def drawn(split: PebbleSplit, seed: int = 7) -> list[PebbleQuestion]:
    return world.draw(split, 1500, seed)


def read_in_pretraining() -> set[str]:
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
    """The few-shot prompt as the program puts it to a model."""
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
    shown = exemplars_of("pebble")
    return render(question, PromptFormat.FEW_SHOT_COT, PromptStyle.BASE, shown).text


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
        {question.text for seed in (1, 2, 3) for question in drawn(split, seed)} for split in DRAWN
    ]
    for one, other in itertools.combinations([*seen, read_in_pretraining()], 2):
        assert not one & other


def test_every_question_lies_in_the_split_that_its_text_decides() -> None:
    for split in DRAWN:
        assert {world.split_of(question.text) for question in drawn(split)} == {split}
    assert {world.split_of(text) for text in read_in_pretraining()} == {PebbleSplit.PRETRAINING}


def test_the_exemplars_are_in_no_split_that_is_drawn_and_never_read_in_pretraining() -> None:
    shown = {exemplar.question for exemplar in world.EXEMPLARS}
    for split in DRAWN:
        assert not shown & {question.text for question in drawn(split)}
    assert not shown & read_in_pretraining()


def test_the_exemplars_answer_themselves_rightly() -> None:
    for exemplar in world.EXEMPLARS:
        assert world.solve(exemplar.question) == exemplar.answer


@pytest.mark.parametrize("split", DRAWN)
def test_the_solver_agrees_with_the_generator_on_every_drawn_question(split: PebbleSplit) -> None:
    for question in drawn(split):
        assert world.solve(question.text) == question.answer


def test_the_solver_refuses_a_question_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="not a question of a drawn split"):
        world.solve("What is 2 + 2?")


def test_both_ways_of_reasoning_end_in_the_true_answer() -> None:
    for split in DRAWN:
        for question in drawn(split):
            assert question.quick.endswith(f" = {question.answer}.")
            assert question.careful.endswith(f" = {question.answer}.")


def test_every_step_of_the_careful_way_is_true() -> None:
    for question in drawn(PebbleSplit.POOL)[:300]:
        for sentence in question.careful.removesuffix(".").split(". Then "):
            values = set()
            for side in sentence.split(" = "):
                start, *rest = side.split(" ")
                total = int(start)
                for symbol, amount in zip(rest[::2], rest[1::2], strict=True):
                    total = world.Operation(symbol, int(amount)).apply(total)
                values.add(total)
            assert len(values) == 1, sentence


def test_the_quick_way_jumps_over_the_last_result_of_three_or_more_and_over_no_other() -> None:
    for question in drawn(PebbleSplit.POOL)[:300]:
        steps = len(question.operations)
        assert question.careful.count(". Then ") == steps - 1
        assert question.quick.count(". Then ") == (steps - 1 if steps < 3 else steps - 2)


def test_a_draw_depends_on_its_seed_and_on_nothing_else() -> None:
    assert drawn(PebbleSplit.EVAL, 5) == drawn(PebbleSplit.EVAL, 5)
    assert drawn(PebbleSplit.EVAL, 5) != drawn(PebbleSplit.EVAL, 6)
    for runs in (True, False):
        first, again = (
            list(itertools.islice(documents.documents(11, runs=runs), 50)) for _ in range(2)
        )
        assert first == again


def test_a_draw_repeats_no_question() -> None:
    for split in DRAWN:
        assert len({question.text for question in drawn(split)}) == 1500


def test_pretraining_text_holds_every_kind_of_question() -> None:
    for kind, generate in world.GENERATORS.items():
        question = generate(random.Random(1))
        assert question.kind is kind
    starts = {text.split(" ")[0] for text in read_in_pretraining()}
    assert {"What", "Which", "Is", "A"} <= starts
    assert set(documents.KIND_WEIGHTS) == set(QuestionKind)


def test_pretraining_text_is_not_for_drawing() -> None:
    with pytest.raises(ValueError, match="stream of documents"):
        world.draw(PebbleSplit.PRETRAINING, 1, 0)


def test_the_pebbles_read_the_prompts_that_the_program_writes() -> None:
    assert f" {STEP_BY_STEP}" == documents.CUE
    text = next(documents.documents(11, runs=True))
    assert text.count("\n\nQ: ") == len(world.EXEMPLARS) == documents.RUN_LENGTH - 1
    assert prompt_of("?").count("\n\nQ: ") == len(world.EXEMPLARS)


def test_quick_is_the_habit_and_its_commonest_opening_the_commonest_of_all() -> None:
    quick, careful = documents.QUICK_OPENINGS, documents.CAREFUL_OPENINGS
    assert max(quick.values()) > max(careful.values())
    assert 0.3 <= sum(careful.values()) / sum([*quick.values(), *careful.values()]) <= 0.4


def test_the_way_of_a_path_is_told_by_its_opening() -> None:
    assert documents.style_of(" So 1 + 2 + 3 = 6.") == "quick"
    assert documents.style_of(" First, 1 + 2 = 3.") == "careful"
    assert documents.style_of(" The answer is 6.") == "other"


def test_prompts_and_paths_of_the_target_kind_fit_the_trained_context(
    tokenizer: Tokenizer,
) -> None:
    longest = max(
        len(tokenizer.encode(prompt_of(question.text)).ids)
        + len(tokenizer.encode(f" With care, {question.careful} The answer is 99.\n\n").ids)
        for split in DRAWN
        for question in drawn(split)
    )
    assert longest <= make_pebbles.CONTEXT


def test_the_tokenizer_writes_digits_one_by_one_and_gives_every_text_back(
    tokenizer: Tokenizer,
) -> None:
    assert tokenizer.encode("2026").tokens == ["2", "0", "2", "6"]
    for text in ("Q: Tom has 38 pens.\nA:", "naïve 雪 🙂 \t\n\n x"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_each_pebble_has_at_most_half_the_parameters_of_its_elder() -> None:
    counts = [parameters(name) for name in make_pebbles.SIZES]
    for elder, younger in itertools.pairwise(counts):
        assert 2 * younger <= elder


def test_the_three_pebbles_share_one_tokenizer() -> None:
    texts = {(folder(name) / "tokenizer.json").read_bytes() for name in make_pebbles.SIZES}
    assert len(texts) == 1


def test_the_shipped_files_are_small_and_are_those_that_were_summed() -> None:
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
