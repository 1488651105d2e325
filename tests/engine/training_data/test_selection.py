"""Selection: what votes and reviews keep, how examples are written, and the key of a set."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.extraction import reader_name
from engine.project.settings import CurateSettings
from engine.prompting.templates import answer_sentence, render
from engine.training_data.selection import (
    KeptQuestion,
    build_examples,
    describe_weights,
    select_questions,
    training_set,
)
from engine.voting.majority import count_vote
from store.enums import (
    AnswerType,
    Counting,
    EarlyStop,
    EndReason,
    PromptFormat,
    PromptStyle,
    Queue,
    Split,
    Verdict,
    Weighting,
)
from store.errors import BadInput
from store.records import Question, Reading, ReasoningPath, Review, Run, question_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.prompting.templates import Prompt
    from store.records import TrainingSet

M = 8


def question(number: int = 1, answer_type: AnswerType = AnswerType.NUMBER) -> Question:
    text = f"How many are {number}?"
    return Question(
        id=number,
        key=question_key("gsm8k", text, (), ""),
        split=Split.POOL,
        source="made",
        position=number,
        task="gsm8k",
        answer_type=answer_type,
        text=text,
    )


def review(verdict: Verdict, answer: str | None = None, **changes: Any) -> Review:
    made = Review(
        id=1,
        question_id=1,
        run_id=1,
        queue=Queue.TRIAGE,
        verdict=verdict,
        answer=answer,
        other=None,
        undoes=None,
        seconds=1.0,
        created_at=0.0,
    )
    return replace(made, **changes)


def kept_of(
    answers: Sequence[str | None],
    reviews: Sequence[Review] = (),
    *,
    threshold: str = "0.5",
    cap: int = 8,
    rule: EarlyStop = EarlyStop.OFF,
    run_threshold: str | None = None,
    of_question: Question | None = None,
    weights: Sequence[float] | None = None,
) -> KeptQuestion | None:
    """What is kept of a question whose M paths have these answers; a '-' marks a cut-off path."""
    of_question = of_question or question()
    extracted = [None if answer is None else answer.removeprefix("-") for answer in answers]
    vote = count_vote(
        extracted,
        run_id=1,
        question_id=of_question.id,
        m=M,
        rule=rule,
        threshold=run_threshold or threshold,
        cap=cap,
        epsilon=0.01,
        reader=reader_name(of_question.answer_type),
    )
    pairs = [
        (
            ReasoningPath(
                id=100 + index,
                run_id=1,
                question_id=of_question.id,
                index=index,
                text=f" The answer is {answer}.",
                token_ids=(index, 0),
                end=EndReason.LENGTH if (raw or "").startswith("-") else EndReason.END,
                finished_at=-float(index),
            ),
            Reading(100 + index, "number/1", answer, answer, None),
        )
        for index, (raw, answer) in enumerate(zip(answers, extracted, strict=True))
    ]
    kept = select_questions(
        [of_question],
        {of_question.id: vote},
        {of_question.id: pairs[::-1]},
        reviews,
        threshold=threshold,
        cap=cap,
        weights_by_id=None if weights is None else {of_question.id: weights},
    )
    return kept[0] if kept else None


def indices(kept: KeptQuestion | None) -> list[int]:
    assert kept is not None
    return [path.index for path in kept.paths]


MAJORITY_9 = ["9", "5", "9", None, "9", "9", "5", "9"]
SPLIT = ["9", "5", "9", "5", "3", None, None, None]


def test_the_winners_paths_are_kept_in_index_order_up_to_the_cap() -> None:
    assert indices(kept_of(MAJORITY_9)) == [0, 2, 4, 5, 7]
    assert indices(kept_of(MAJORITY_9, cap=2)) == [0, 2]
    assert indices(kept_of(MAJORITY_9, cap=0)) == [0, 2, 4, 5, 7]
    kept = kept_of(MAJORITY_9)
    assert kept is not None
    assert (kept.answer, kept.votes, kept.reviewed) == ("9", 5, False)


def test_the_threshold_is_an_exact_share_of_all_m_paths() -> None:
    assert kept_of(MAJORITY_9, threshold="5/8") is not None
    assert kept_of(MAJORITY_9, threshold="0.626") is None
    assert kept_of(["9", None, None, None, None, None, None, None], threshold="0") is not None
    with pytest.raises(BadInput, match="threshold"):
        kept_of(MAJORITY_9, threshold="many", run_threshold="0.5")


def test_a_tie_and_no_answers_keep_nothing() -> None:
    assert kept_of(SPLIT, threshold="0") is None
    assert kept_of([None] * M, threshold="0") is None


def test_a_cut_off_path_is_not_kept() -> None:
    assert indices(kept_of(["-9", "9", "9", "9", "9", "5", "5", "5"])) == [1, 2, 3, 4]


def losers(kept: KeptQuestion | None) -> list[tuple[int, str]]:
    assert kept is not None
    return [(path.index, answer) for path, answer in kept.losers]


def test_losers_are_complete_paths_with_other_answers_at_most_as_many_as_winners() -> None:
    assert losers(kept_of(MAJORITY_9)) == [(1, "5"), (6, "5")]
    assert losers(kept_of(MAJORITY_9, cap=1)) == [(1, "5")]
    assert losers(kept_of(["9", "5", "-3", None, "9", "9", "3", "9"])) == [(1, "5"), (6, "3")]
    assert losers(kept_of(["9"] * M)) == []
    reviewed = kept_of(MAJORITY_9, [review(Verdict.ANSWER, "5")])
    assert losers(reviewed) == [(0, "9"), (2, "9")]
    assert losers(kept_of(MAJORITY_9, [review(Verdict.TYPED, "7")])) == []


def test_merged_answers_are_on_the_same_side() -> None:
    same = review(Verdict.SAME, "9", other="3")
    assert losers(kept_of(SPLIT, [same], threshold="3/8")) == [(1, "5"), (3, "5")]


def test_the_margin_is_the_lead_among_the_paths_that_were_counted() -> None:
    def margin(kept: KeptQuestion | None) -> float:
        assert kept is not None
        return kept.margin

    assert margin(kept_of(MAJORITY_9)) == pytest.approx(3 / 8)
    assert margin(kept_of(["9"] * M)) == 1.0
    stopped = kept_of(["9"] * 5 + ["5"] * 3, cap=2, rule=EarlyStop.EXACT)
    assert losers(stopped) == []
    assert margin(stopped) == 1.0
    assert margin(kept_of(MAJORITY_9, [review(Verdict.MAJORITY)])) == 1.0
    same = review(Verdict.SAME, "9", other="3")
    assert margin(kept_of(SPLIT, [same], threshold="3/8")) == pytest.approx(1 / 8)


@given(st.lists(st.sampled_from(["9", "5", "3", None]), min_size=M, max_size=M))
def test_early_stop_exact_chooses_what_all_paths_choose(answers: list[str | None]) -> None:
    full = kept_of(answers, cap=3)
    early = kept_of(answers, cap=3, rule=EarlyStop.EXACT)
    assert (full is None) == (early is None)
    if full and early:
        assert (early.answer, early.paths) == (full.answer, full.paths)


def test_paths_after_the_vote_stopped_are_not_used() -> None:
    early = kept_of(["9"] * M, cap=0, threshold="0.5", rule=EarlyStop.OFF)
    assert len(indices(early)) == M
    stopped = kept_of(["9"] * 5 + ["5"] * 3, cap=8, threshold="0.5", rule=EarlyStop.EXACT)
    assert indices(stopped) == [0, 1, 2, 3, 4]


def test_a_raised_threshold_drops_a_vote_that_stopped_below_it() -> None:
    answers = ["9", "9", "5", "9", "9", "9", "9", "9"]
    stopped = {"cap": 2, "rule": EarlyStop.EXACT, "run_threshold": "0.5"}
    assert kept_of(answers, threshold="0.5", **stopped) is not None  # type: ignore[arg-type]  # a dict of unlike values
    assert kept_of(answers, threshold="0.9", **stopped) is None  # type: ignore[arg-type]  # the same


def test_a_review_keeps_an_answer_at_any_agreement() -> None:
    kept = kept_of(SPLIT, [review(Verdict.ANSWER, "3")])
    assert indices(kept) == [4]
    assert kept is not None
    assert (kept.answer, kept.votes, kept.reviewed) == ("3", M, True)


def test_accepting_the_majority_keeps_it_below_the_threshold() -> None:
    kept = kept_of(MAJORITY_9, [review(Verdict.MAJORITY)], threshold="0.9")
    assert indices(kept) == [0, 2, 4, 5, 7]
    assert kept_of(SPLIT, [review(Verdict.MAJORITY)]) is None


def test_a_typed_answer_keeps_the_paths_with_it_if_any() -> None:
    assert indices(kept_of(MAJORITY_9, [review(Verdict.TYPED, "5")])) == [1, 6]
    kept = kept_of(MAJORITY_9, [review(Verdict.TYPED, "7")])
    assert indices(kept) == []
    assert kept is not None
    assert kept.answer == "7"


def test_none_excludes_and_skip_leaves_it_to_the_vote() -> None:
    assert kept_of(MAJORITY_9, [review(Verdict.NONE)]) is None
    skipped = kept_of(MAJORITY_9, [review(Verdict.SKIP)])
    assert skipped == kept_of(MAJORITY_9)
    assert kept_of(SPLIT, [review(Verdict.ANSWER, "9"), review(Verdict.SKIP)]) is None


def test_the_last_decision_applies() -> None:
    both = [review(Verdict.NONE, id=1), review(Verdict.ANSWER, "5", id=2)]
    assert indices(kept_of(MAJORITY_9, both)) == [1, 6]
    assert kept_of(MAJORITY_9, both[::-1]) is None


def test_merged_answers_count_as_one() -> None:
    same = review(Verdict.SAME, "9", other="3")
    kept = kept_of(SPLIT, [same], threshold="3/8")
    assert indices(kept) == [0, 2, 4]
    assert kept is not None
    assert (kept.answer, kept.votes, kept.reviewed) == ("9", 3, True)
    chain = [same, review(Verdict.SAME, "5", other="9")]
    assert indices(kept_of(SPLIT, chain)) == [0, 1, 2, 3, 4]
    assert indices(kept_of(SPLIT, [*chain, review(Verdict.ANSWER, "3")])) == [0, 1, 2, 3, 4]


def test_merging_losers_leaves_a_winner_label_free() -> None:
    kept = kept_of(
        ["9"] * 5 + ["5", "3", None], [review(Verdict.SAME, "5", other="3")], threshold="0.5"
    )
    assert kept is not None
    assert not kept.reviewed


def test_an_audit_never_adds_a_question() -> None:
    wrong = review(Verdict.NONE, queue=Queue.AUDIT)
    other = review(Verdict.TYPED, "7", queue=Queue.AUDIT)
    right = review(Verdict.TYPED, "9.0", queue=Queue.AUDIT)
    assert kept_of(MAJORITY_9, [wrong]) is None
    assert kept_of(MAJORITY_9, [other]) is None
    by_vote = kept_of(MAJORITY_9)
    assert kept_of(MAJORITY_9, [review(Verdict.MAJORITY, queue=Queue.AUDIT)]) == by_vote
    assert kept_of(MAJORITY_9, [replace(right, answer="9")]) == by_vote
    assert kept_of(SPLIT, [replace(right, answer="9")]) is None
    settled = kept_of(MAJORITY_9, [wrong, review(Verdict.ANSWER, "5")])
    assert indices(settled) == [1, 6]


def test_equal_formulas_are_kept_together() -> None:
    kept = kept_of(
        ["1/2", "\\frac{1}{2}", "1/2", "3", "\\frac{1}{2}", None, None, None],
        of_question=question(answer_type=AnswerType.MATH),
    )
    assert indices(kept) == [0, 1, 2, 4]


# Examples.


def prompt_of(for_question: Question, prompt_format: PromptFormat) -> Prompt:
    return render(for_question, prompt_format, PromptStyle.BASE, ())


def rows_of(kept: Sequence[KeptQuestion], **changes: Any) -> list[Any]:
    arguments: dict[str, Any] = {
        "formats": tuple(PromptFormat),
        "weighting": Weighting.PER_PATH,
        "validation_share": 0.0,
        "m": M,
    }
    return build_examples(kept, prompt_of, answer_sentence, **(arguments | changes))


def kept_questions(count: int) -> list[KeptQuestion]:
    kept = [
        kept_of(MAJORITY_9, of_question=question(number), cap=3) for number in range(1, count + 1)
    ]
    return [kept_question for kept_question in kept if kept_question is not None]


def test_each_kept_path_is_written_in_the_four_formats() -> None:
    rows = rows_of(kept_questions(1))
    assert [row.prompt_format for row in rows] == [
        *[PromptFormat.FEW_SHOT_COT] * 3,
        PromptFormat.FEW_SHOT_DIRECT,
        *[PromptFormat.ZERO_SHOT_COT] * 3,
        PromptFormat.ZERO_SHOT_DIRECT,
    ]
    assert [row.position for row in rows] == list(range(8))
    assert rows[0].token_ids == (0, 0)
    assert rows[4].prompt.endswith("A: Let's think step by step.")
    assert rows[4].token_ids == rows[0].token_ids
    assert (rows[3].completion, rows[3].path_id, rows[3].weight) == (" The answer is 9.", None, 3.0)


@pytest.mark.parametrize(
    ("weighting", "total"),
    [(Weighting.PER_PATH, 3.0), (Weighting.PER_QUESTION, 1.0), (Weighting.BY_AGREEMENT, 5 / M)],
)
def test_a_question_has_the_same_weight_in_every_format(weighting: Weighting, total: float) -> None:
    rows = rows_of(kept_questions(1), weighting=weighting)
    for prompt_format in PromptFormat:
        weights = [row.weight for row in rows if row.prompt_format is prompt_format]
        assert sum(weights) == pytest.approx(total)


def test_a_typed_answer_without_paths_has_direct_rows_only() -> None:
    kept = kept_of(MAJORITY_9, [review(Verdict.TYPED, "7")])
    assert kept is not None
    for weighting in Weighting:
        rows = rows_of([kept], weighting=weighting)
        assert [row.prompt_format.reasons for row in rows] == [False, False]
        assert [row.weight for row in rows] == [1.0, 1.0]


def test_an_answer_in_a_chat_has_no_leading_space() -> None:
    rows = build_examples(
        kept_questions(1),
        lambda for_question, prompt_format: render(
            for_question, prompt_format, PromptStyle.CHAT, ()
        ),
        answer_sentence,
        formats=(PromptFormat.ZERO_SHOT_DIRECT,),
        weighting=Weighting.PER_PATH,
        validation_share=0.0,
        m=M,
    )
    assert rows[0].completion == "The answer is 9."


def test_whole_questions_are_held_out_and_remain_so_as_the_set_grows() -> None:
    many = kept_questions(200)
    held_out = {row.question_id for row in rows_of(many, validation_share=0.2) if row.validation}
    trained = {row.question_id for row in rows_of(many, validation_share=0.2) if not row.validation}
    assert not held_out & trained
    assert 0.1 < len(held_out) / 200 < 0.3
    fewer = rows_of(many[:100], validation_share=0.2)
    assert {row.question_id for row in fewer if row.validation} == {n for n in held_out if n <= 100}


def test_a_single_question_is_not_held_out() -> None:
    for kept in kept_questions(30):
        assert not any(row.validation for row in rows_of([kept], validation_share=0.5))


# The frozen set.

RUN = Run(
    id=1,
    key="r",
    model_id=1,
    split=Split.POOL,
    prompt_format=PromptFormat.FEW_SHOT_COT,
    prompt_style=PromptStyle.BASE,
    prompt_sha256="p",
    m=M,
    temperature=0.7,
    top_p=1.0,
    top_k=0,
    min_p=0.0,
    max_tokens=64,
    seed=0,
    early_stop=EarlyStop.OFF,
    epsilon=0.0,
    threshold="0.5",
    cap=8,
    engine="scripted",
    engine_version="1",
    created_at=0.0,
)


def test_a_set_is_named_by_its_content() -> None:
    kept = kept_questions(3)
    rows = rows_of(kept)
    first = training_set(rows, kept, RUN, CurateSettings(), "t", created_at=1.0)
    assert (first.questions, first.examples, first.label_free) == (3, 24, True)
    moved = [replace(row, id=7, question_id=row.question_id + 50, set_key="x") for row in rows]
    again = training_set(moved, kept, replace(RUN, id=9), CurateSettings(), "t", created_at=2.0)
    assert again.key == first.key
    other = [*rows[:-1], replace(rows[-1], weight=2.0)]
    for changed in (
        training_set(other, kept, RUN, CurateSettings(), "t", created_at=1.0),
        training_set(rows, kept, replace(RUN, threshold="0.6"), CurateSettings(), "t", 1.0),
        training_set(rows, kept, RUN, CurateSettings(), "other", 1.0),
    ):
        assert changed.key != first.key


def test_a_set_that_depends_on_a_review_is_not_label_free() -> None:
    reviewed = kept_of(SPLIT, [review(Verdict.ANSWER, "5")])
    assert reviewed is not None
    kept = [*kept_questions(1), reviewed]
    frozen = training_set(rows_of(kept), kept, RUN, CurateSettings(), "t", created_at=0.0)
    assert not frozen.label_free


# Counted by confidence.

TWO_TO_ONE = ["9", "5", "9", "5", "3", "9", "5", "9"]  # four paths with 9, three with 5


def test_equal_weights_choose_what_the_plain_vote_chooses() -> None:
    for answers in (MAJORITY_9, SPLIT, TWO_TO_ONE, ["9"] * M, [None] * M):
        for threshold in ("0", "0.5", "5/8", "0.626", "1"):
            plain = kept_of(answers, threshold=threshold)
            weighted = kept_of(answers, threshold=threshold, weights=[1.0] * M)
            assert (plain is None) == (weighted is None)
            if plain and weighted:
                assert replace(weighted, path_weights=()) == plain
                assert weighted.path_weights == (1.0,) * len(plain.paths)


def test_weights_can_change_the_answer_and_move_a_question_across_the_threshold() -> None:
    for_5 = [0.5, 2.0, 0.5, 2.0, 0.5, 0.5, 1.5, 0.5]
    kept = kept_of(TWO_TO_ONE, weights=for_5)
    assert kept is not None
    assert (kept.answer, kept.votes, indices(kept)) == ("5", 5.5, [1, 3, 6])
    assert kept.path_weights == (2.0, 2.0, 1.5)
    assert kept.margin == pytest.approx((5.5 - 2.0) / M)
    assert losers(kept) == [(0, "9"), (2, "9"), (4, "3")]
    assert kept_of(TWO_TO_ONE, threshold="0.7", weights=for_5) is None
    assert kept_of(MAJORITY_9, threshold="0.7") is None
    for_9 = [1.4, 0.3, 1.4, 0.4, 1.4, 1.4, 0.3, 1.4]
    assert kept_of(MAJORITY_9, threshold="0.7", weights=for_9) is not None


def test_a_question_without_all_its_paths_is_not_counted_by_confidence() -> None:
    stopped = ["9"] * M
    assert kept_of(stopped, cap=2, rule=EarlyStop.EXACT) is not None
    assert kept_of(stopped, cap=2, rule=EarlyStop.EXACT, weights=[1.0] * 5) is None


def test_a_review_overrides_weights() -> None:
    chosen = kept_of(MAJORITY_9, [review(Verdict.ANSWER, "5")], weights=[1.0] * M)
    assert chosen is not None
    assert (chosen.answer, chosen.votes, chosen.path_weights) == ("5", M, (1.0, 1.0))


@pytest.mark.parametrize(
    ("weighting", "total"),
    [
        (Weighting.PER_PATH, 3 * 5.5 / M),
        (Weighting.PER_QUESTION, 5.5 / M),
        (Weighting.BY_AGREEMENT, 5.5 / M),
    ],
)
def test_soft_weights_are_the_share_of_the_answer_divided_by_confidence(
    weighting: Weighting, total: float
) -> None:
    kept = kept_of(TWO_TO_ONE, weights=[0.5, 2.0, 0.5, 2.0, 0.5, 0.5, 1.5, 0.5])
    assert kept is not None
    rows = rows_of([kept], weighting=weighting, counting=Counting.SOFT)
    for prompt_format in PromptFormat:
        weights = [row.weight for row in rows if row.prompt_format is prompt_format]
        assert sum(weights) == pytest.approx(total)
        if prompt_format.reasons:
            assert weights == pytest.approx([total * w / 5.5 for w in (2.0, 2.0, 1.5)])


def test_weights_that_round_to_zero_leave_the_paths_equal() -> None:
    (kept,) = kept_questions(1)
    rows = rows_of([replace(kept, path_weights=(0.0,) * 3)], counting=Counting.SOFT)
    assert len({row.weight for row in rows if row.path_id is not None}) == 1


def test_how_paths_are_counted_is_part_of_the_key_unless_it_is_plain() -> None:
    kept = kept_questions(2)
    rows = rows_of(kept)

    def frozen(settings: CurateSettings) -> TrainingSet:
        return training_set(rows, kept, RUN, settings, "t", created_at=1.0)

    plain = frozen(CurateSettings())
    assert frozen(CurateSettings(confidence_temperature=3.0)).key == plain.key
    assert (plain.counting, plain.confidence_temperature) == (Counting.PLAIN, None)
    weighted = CurateSettings(counting=Counting.WEIGHTED)
    others = [weighted, replace(weighted, confidence_temperature=3.0)]
    others.append(replace(weighted, counting=Counting.SOFT))
    assert len({plain.key, *(frozen(settings).key for settings in others)}) == 4
    soft = frozen(others[-1])
    assert (soft.counting, soft.threshold) == (Counting.SOFT, "0")
    assert describe_weights(plain) == "per-path"
    assert describe_weights(soft) == "per-path, counting soft"
