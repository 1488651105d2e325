"""Select questions and paths from votes and reviews, and write them as training examples.

A vote keeps the paths of its winner, a review overrides the vote, and each kept path is written in
the four formats of the paper. Everything here is a pure function of stored data: the same votes and
reviews always give the same set, with the same key.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.extraction import equal
from engine.review.decisions import found_wrong, ruling_of
from engine.voting.confidence import reaches_share, weighted_tally
from engine.voting.majority import merge_equal, reaches_threshold
from store.enums import (
    AnswerType,
    Counting,
    EndReason,
    PromptFormat,
    PromptStyle,
    Verdict,
    Weighting,
)
from store.records import (
    Example,
    Question,
    Reading,
    ReasoningPath,
    Review,
    Run,
    TrainingSet,
    Vote,
    content_hash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from engine.project.settings import CurateSettings
    from engine.prompting.templates import Prompt
    from engine.review.decisions import Ruling


@dataclass(frozen=True, slots=True)
class KeptQuestion:
    """A question that is trained on."""

    question: Question
    answer: str
    """Canonical answer that is taught."""
    paths: tuple[ReasoningPath, ...]
    """Complete paths with that answer, in index order; empty for a typed answer that no path
    gave."""
    votes: float
    """Paths with the answer, 1 to m, or the sum of their weights; m if a review decided."""
    reviewed: bool
    """Whether the answer or the choice of paths depends on a review."""
    margin: float = 1.0
    """Lead of the answer over the next one, as a share of the paths that were counted; 1 if a
    review decided."""
    losers: tuple[tuple[ReasoningPath, str], ...] = ()
    """Complete paths with other answers and the answer of each, in index order, at most as many as
    `paths`."""
    path_weights: tuple[float, ...] = ()
    """Weight of each of `paths` in the vote, ≥ 0; empty if each had one vote."""


def select_questions(
    questions: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    pairs_by_id: Mapping[int, Sequence[tuple[ReasoningPath, Reading]]],
    active_reviews: Iterable[Review],
    *,
    threshold: str,
    cap: int,
    weights_by_id: Mapping[int, Sequence[float]] | None = None,
) -> list[KeptQuestion]:
    """Select the questions to train on, and the paths of each.

    A question is kept if its winner has at least ⌈threshold·m⌉ of the m paths (and at least one)
    and no other answer can overtake it. If the vote stopped before that was certain (early stop
    `fast`, or a threshold that was changed since), its own decision applies, unless the share of
    the winner so far is below the threshold.

    A review overrides the vote: `ANSWER` and `MAJORITY` keep the paths of that answer at any
    agreement, `TYPED` keeps the paths with the typed answer, if any, `NONE` excludes the question,
    `SKIP` leaves it to the vote, and `SAME` merges two answers. An audit never adds a question: it
    excludes a question whose winner it found wrong.

    Args:
        questions: of the pool, each with a vote.
        votes_by_id: the vote of each question, by question id.
        pairs_by_id: its stored paths with their extracted answers, by question id.
        active_reviews: of the run, without those that were undone, oldest first.
        threshold: exact decimal or fraction in [0, 1].
        cap: maximum number of paths per question, in index order; 0 is no limit.
        weights_by_id: the weight of each path that the vote counts, in index order, by question id;
            they sum to the number of paths. Their sums replace the numbers of paths, and a question
            is kept only if all its m paths were sampled. None gives each path one vote.

    Returns:
        In the order of `questions`.

    Raises:
        BadInput: the threshold is not a number in [0, 1].
    """
    reviews_by_id: defaultdict[int, list[Review]] = defaultdict(list)
    for review in active_reviews:
        reviews_by_id[review.question_id].append(review)
    selected = []
    for question in questions:
        vote = votes_by_id[question.id]
        answers = _answers_as_counted(question, vote, pairs_by_id[question.id])
        weights = weights_by_id.get(question.id, ()) if weights_by_id is not None else None
        tally: Sequence[tuple[str, float]] = vote.tally
        if weights is not None:
            tally = weighted_tally([answer for _, answer in answers], weights)
        choice = _choose_answer(
            question, vote, tally, reviews_by_id[question.id], threshold, plain=weights is None
        )
        if choice is None:
            continue
        paths = [
            path
            for path, answer in answers
            if answer in choice.answers and path.end is not EndReason.LENGTH
        ]
        kept = tuple(paths[:cap] if cap else paths)
        losers = [
            (path, answer)
            for path, answer in answers
            if answer is not None
            and answer not in choice.answers
            and path.end is not EndReason.LENGTH
        ]
        selected.append(
            KeptQuestion(
                question,
                choice.answer,
                kept,
                choice.votes,
                choice.is_reviewed,
                choice.margin,
                tuple(losers[: len(kept)]),
                () if weights is None else tuple(weights[path.index] for path in kept),
            )
        )
    return selected


def _answers_as_counted(
    question: Question, vote: Vote, pairs: Sequence[tuple[ReasoningPath, Reading]]
) -> list[tuple[ReasoningPath, str | None]]:
    """The paths of a vote in index order, each with the answer that it was counted as."""
    counted = sorted(
        (pair for pair in pairs if pair[0].index < vote.drawn), key=lambda pair: pair[0].index
    )
    # The vote counts equal answers with different spellings as the first of them.
    answers = merge_equal(question.answer_type, [reading.answer for _, reading in counted])
    return [(path, answer) for (path, _), answer in zip(counted, answers, strict=True)]


@dataclass(frozen=True, slots=True)
class _AnswerChoice:
    """How a vote and its reviews decide a question."""

    answer: str
    """To be taught."""
    answers: frozenset[str]
    """Answers of the tally that count as it."""
    votes: float
    is_reviewed: bool
    margin: float


def _choose_answer(
    question: Question,
    vote: Vote,
    tally: Sequence[tuple[str, float]],
    reviews: Sequence[Review],
    threshold: str,
    *,
    plain: bool,
) -> _AnswerChoice | None:
    """The answer to teach; None if the question is left out."""
    ruling = ruling_of(reviews)
    counts: defaultdict[str, float] = defaultdict(int)
    for answer, count in tally:
        counts[ruling.representative(answer)] += count
    ranked = sorted(counts.values(), reverse=True)
    top, second = [*ranked, 0, 0][:2]
    winner = max(counts, key=lambda answer: counts[answer]) if top > second else None

    def merged_with(representative: str) -> frozenset[str]:
        return frozenset(
            answer for answer, _ in vote.tally if ruling.representative(answer) == representative
        )

    if any(found_wrong(question, audit, winner, ruling) for audit in ruling.audits):
        return None
    decision = ruling.decision
    if decision is None:
        is_kept = (
            reaches_threshold(vote, int(top), int(second), threshold)
            if plain
            else vote.drawn == vote.m and reaches_share(top, vote.m, threshold)
        )
        if winner is None or not is_kept:
            return None
        answers = merged_with(winner)
        margin = (top - second) / vote.drawn
        return _AnswerChoice(winner, answers, top, len(answers) > 1, margin)
    reviewed = _reviewed_answer(decision, ruling, winner)
    if reviewed is None:
        return None
    answers = merged_with(reviewed)
    if not answers:  # it was typed, or is in the form of an earlier reader
        answers = frozenset(
            other for other, _ in vote.tally if equal(question.answer_type, other, reviewed)
        )
    return _AnswerChoice(reviewed, answers, vote.m, is_reviewed=True, margin=1.0)


def _reviewed_answer(decision: Review, ruling: Ruling, winner: str | None) -> str | None:
    if decision.verdict is Verdict.NONE:
        return None
    if decision.verdict is Verdict.MAJORITY:
        return winner
    assert decision.answer is not None
    return ruling.representative(decision.answer)


def build_examples(
    kept: Sequence[KeptQuestion],
    prompt_of: Callable[[Question, PromptFormat], Prompt],
    answer_sentence: Callable[[AnswerType, str], str],
    *,
    formats: Sequence[PromptFormat],
    weighting: Weighting,
    validation_share: float,
    m: int,
    counting: Counting = Counting.PLAIN,
) -> list[Example]:
    """Write each kept path in the given formats (Huang et al. 2022, Table 2).

    Formats with reasoning have a row for each path, with the tokens that were sampled. Direct
    formats do not depend on the path: their k equal rows are one row with the weight of all, which
    has the same gradient, since a step's loss is divided by its weighted tokens.

    Args:
        kept: as `select_questions` returns them.
        prompt_of: renders a question in a format.
        answer_sentence: the sentence that states an answer.
        formats: in the order of the rows of each question.
        weighting: decides the weight of a path; the weights of a question's paths in one format
            sum to their number, to 1, or to the agreement.
        validation_share: share of the questions held out, in [0, 0.5]. Only the key of a question
            decides whether it is held out, so this is the same in every set. Nothing is held out
            if nothing would be left to train on.
        m: paths per question of the run, ≥ 1.
        counting: with `SOFT`, the weights of a question are multiplied by the share of its answer
            (unless they are that already), and its paths share them by their own weights.

    Returns:
        Examples in the order of questions, formats and paths; `id` is 0 and `set_key` empty until
        they are stored.
    """
    held_out = {
        kept_question.question.id
        for kept_question in kept
        if _is_held_out(kept_question.question.key, validation_share)
    }
    if len(held_out) == len(kept):
        held_out = set()
    rows: list[Example] = []
    for kept_question in kept:
        question = kept_question.question
        copies = max(1, len(kept_question.paths))
        total = {
            Weighting.PER_PATH: float(copies),
            Weighting.PER_QUESTION: 1.0,
            Weighting.BY_AGREEMENT: kept_question.votes / m,
        }[weighting]
        shares: Sequence[float] = ()
        if counting is Counting.SOFT:
            total *= 1.0 if weighting is Weighting.BY_AGREEMENT else kept_question.votes / m
            whole = sum(kept_question.path_weights)
            if whole > 0:  # at a low temperature they may round to 0
                shares = [weight / whole for weight in kept_question.path_weights]
        for prompt_format in formats:
            prompt = prompt_of(question, prompt_format)
            if prompt_format.reasons:
                completions: list[tuple[int | None, str, tuple[int, ...]]] = [
                    (path.id, path.text, path.token_ids) for path in kept_question.paths
                ]
            else:
                sentence = answer_sentence(question.answer_type, kept_question.answer)
                # A chat message begins with its first word; plain text continues after "A:".
                text = sentence.strip() if prompt.style is PromptStyle.CHAT else sentence
                completions = [(None, text, ())]
            for number, (path_id, text, token_ids) in enumerate(completions):
                by_weight = path_id is not None and shares
                rows.append(
                    Example(
                        id=0,
                        set_key="",
                        position=len(rows),
                        question_id=question.id,
                        path_id=path_id,
                        prompt_format=prompt_format,
                        prompt=prompt.text,
                        shared=prompt.shared,
                        completion=text,
                        token_ids=token_ids,
                        weight=total * shares[number] if by_weight else total / len(completions),
                        validation=question.id in held_out,
                    )
                )
    return rows


def _is_held_out(question_key: str, share: float) -> bool:
    fraction = int(content_hash(["validation", question_key])[:16], 16) / 16**16
    return fraction < share


def training_set(
    examples: Sequence[Example],
    kept: Sequence[KeptQuestion],
    run: Run,
    settings: CurateSettings,
    tokenizer_sha256: str,
    created_at: float,
) -> TrainingSet:
    """Describe a set, named by a hash of its examples and of the settings that selected them.

    The key depends on no row number and no time, so the same content has the same key everywhere.
    """
    content = [
        [
            example.prompt_format,
            example.prompt,
            example.shared,
            example.completion,
            list(example.token_ids),
            example.weight,
            example.validation,
        ]
        for example in examples
    ]
    threshold = "0" if settings.counting is Counting.SOFT else run.threshold
    selected_by = [
        run.key,
        run.m,
        threshold,
        run.cap,
        list(settings.formats),
        settings.weighting,
        settings.validation_share,
        tokenizer_sha256,
    ]
    # What was chosen before there were other ways to count keeps its key.
    is_plain = settings.counting is Counting.PLAIN
    if not is_plain:
        selected_by += [settings.counting, settings.confidence_temperature]
    question_ids = {example.question_id for example in examples}
    return TrainingSet(
        key=content_hash([selected_by, content]),
        run_id=run.id,
        threshold=threshold,
        cap=run.cap,
        formats=tuple(settings.formats),
        weighting=settings.weighting,
        label_free=not any(
            kept_question.reviewed and kept_question.question.id in question_ids
            for kept_question in kept
        ),
        tokenizer_sha256=tokenizer_sha256,
        questions=len(question_ids),
        examples=len(examples),
        created_at=created_at,
        m=run.m,
        validation_share=settings.validation_share,
        counting=settings.counting,
        confidence_temperature=None if is_plain else settings.confidence_temperature,
    )


def describe_weights(frozen: TrainingSet) -> str:
    """How a set counts and weighs its paths, such as `per-path, counting weighted`."""
    if frozen.counting in (None, Counting.PLAIN):
        return str(frozen.weighting)
    return f"{frozen.weighting}, counting {frozen.counting}"
