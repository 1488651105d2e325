"""From votes and reviews to a frozen training set.

A vote keeps the paths that reached its winner; a person's decision overrides the vote; each kept
path becomes the four formats of the paper. All of it is a pure function of what is stored, so the
same votes and reviews always give the same set, under the same key.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers.extraction import equal
from engine.review.decisions import found_wrong, ruling_of
from engine.voting.majority import merge_equal, reaches_threshold
from store.enums import (
    AnswerType,
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


@dataclass(frozen=True, slots=True)
class KeptQuestion:
    """A question that is trained on."""

    question: Question
    answer: str
    """Canonical answer that is taught."""
    paths: tuple[ReasoningPath, ...]
    """Whole paths that reached it, in index order; empty for a typed answer that no path has."""
    votes: int
    """Paths that gave the answer, 1 to m; m where a person decided."""
    reviewed: bool
    """Whether the answer or its paths rest on a person's decision."""


def select_questions(
    questions: Sequence[Question],
    votes_by_id: Mapping[int, Vote],
    pairs_by_id: Mapping[int, Sequence[tuple[ReasoningPath, Reading]]],
    active_reviews: Iterable[Review],
    *,
    threshold: str,
    cap: int,
) -> list[KeptQuestion]:
    """Choose the questions to train on, and the paths of each.

    A question is kept when its winner has at least ⌈threshold·m⌉ of the m paths (and at least
    one) and no other answer can reach it. Where the vote stopped before that was certain (early
    stop `fast`, or another threshold since), the vote's own decision stands, unless the share
    drawn so far is under the threshold.

    A person's decision comes before the vote: `ANSWER` and `MAJORITY` keep the paths of that
    answer at any agreement, `TYPED` keeps the paths that have the typed answer, if any, `NONE`
    excludes the question, `SKIP` leaves it to the vote, `SAME` counts two answers as one. An audit
    never keeps anything: it excludes a question whose winner it found wrong.

    Args:
        questions: of the pool, each with a vote.
        votes_by_id: the vote of each question, by question id.
        pairs_by_id: its stored paths with their readings, by question id.
        active_reviews: of the run, without what was undone, oldest first.
        threshold: exact decimal or fraction in [0, 1].
        cap: most paths of a question, in index order; 0 is no limit.

    Returns:
        In the order of `questions`.

    Raises:
        BadInput: the threshold is no share.
    """
    reviews_by_id: defaultdict[int, list[Review]] = defaultdict(list)
    for review in active_reviews:
        reviews_by_id[review.question_id].append(review)
    chosen = []
    for question in questions:
        vote = votes_by_id[question.id]
        counted = _counted(question, vote, pairs_by_id[question.id])
        judged = _judge(question, vote, reviews_by_id[question.id], threshold)
        if judged is not None:
            answer, groups, count, reviewed = judged
            paths = [
                path
                for path, found in counted
                if found in groups and path.end is not EndReason.LENGTH
            ]
            kept = tuple(paths[:cap] if cap else paths)
            chosen.append(KeptQuestion(question, answer, kept, count, reviewed))
    return chosen


def _counted(
    question: Question, vote: Vote, pairs: Sequence[tuple[ReasoningPath, Reading]]
) -> list[tuple[ReasoningPath, str | None]]:
    """The paths that the vote counted, in index order, each with the answer it counted as."""
    used = sorted(
        (pair for pair in pairs if pair[0].index < vote.drawn), key=lambda pair: pair[0].index
    )
    found = [reading.answer for _, reading in used]
    if question.answer_type is AnswerType.MATH:
        # The vote counts equal formulas that are written differently as the first of them.
        found = list(merge_equal(AnswerType.MATH, found))
    return [(path, answer) for (path, _), answer in zip(used, found, strict=True)]


def _judge(
    question: Question,
    vote: Vote,
    reviews: Sequence[Review],
    threshold: str,
) -> tuple[str, frozenset[str], int, bool] | None:
    """The answer to teach, the paths' answers that count as it, how many paths count for
    it, and whether a person had a part in it; None when the question is left out."""
    ruling = ruling_of(reviews)
    counts: defaultdict[str, int] = defaultdict(int)
    for answer, count in vote.tally:
        counts[ruling.representative(answer)] += count
    ranked = sorted(counts.values(), reverse=True)
    top, second = [*ranked, 0, 0][:2]
    winner = max(counts, key=lambda answer: counts[answer]) if top > second else None

    def group(answer: str) -> frozenset[str]:
        return frozenset(one for one, _ in vote.tally if ruling.representative(one) == answer)

    if any(found_wrong(question, audit, winner, ruling) for audit in ruling.audits):
        return None
    decision = ruling.decision
    if decision is None:
        if winner is None or not reaches_threshold(vote, top, second, threshold):
            return None
        return winner, group(winner), top, len(group(winner)) > 1
    if decision.verdict is Verdict.NONE:
        return None
    if decision.verdict is Verdict.MAJORITY:
        return None if winner is None else (winner, group(winner), vote.m, True)
    assert decision.answer is not None
    answer = ruling.representative(decision.answer)
    groups = group(answer)
    if decision.verdict is Verdict.TYPED and not groups:
        groups = frozenset(
            found for found, _ in vote.tally if equal(question.answer_type, found, answer)
        )
    return answer, groups, vote.m, True


def build_examples(
    kept: Sequence[KeptQuestion],
    prompt_of: Callable[[Question, PromptFormat], Prompt],
    answer_sentence: Callable[[AnswerType, str], str],
    *,
    formats: Sequence[PromptFormat],
    weighting: Weighting,
    validation_share: float,
    m: int,
) -> list[Example]:
    """Write each kept path in the asked formats (Huang et al. 2022, Table 2).

    Formats that reason have a row for each path, with the tokens that were sampled. The direct
    formats do not depend on the path: their k equal rows are one row with the weight of all, which
    has the same gradient when a step's loss is divided by its weighted tokens.

    Args:
        kept: what `select_questions` returned.
        prompt_of: renders a question in a format.
        answer_sentence: the sentence that states an answer.
        formats: in the order of the rows of each question.
        weighting: what a path counts; the weights of a question's paths in one format sum to
            their number, to 1, or to the agreement.
        validation_share: share of the questions held out, in [0, 0.5]. Which ones is decided by
            the question's key alone, so a question stays on its side from set to set. Nothing is
            held out where that would leave nothing to learn.
        m: paths per question of the run, ≥ 1.

    Returns:
        Examples in the order of questions, formats and paths; `id` 0 and `set_key` empty until
        they are stored.
    """
    held = {one.question.id for one in kept if _held_out(one.question.key, validation_share)}
    if len(held) == len(kept):
        held = set()
    rows: list[Example] = []
    for one in kept:
        copies = max(1, len(one.paths))
        total = {
            Weighting.PER_PATH: float(copies),
            Weighting.PER_QUESTION: 1.0,
            Weighting.BY_AGREEMENT: one.votes / m,
        }[weighting]
        for prompt_format in formats:
            prompt = prompt_of(one.question, prompt_format)
            if prompt_format.reasons:
                completions: list[tuple[int | None, str, tuple[int, ...]]] = [
                    (path.id, path.text, path.token_ids) for path in one.paths
                ]
            else:
                sentence = answer_sentence(one.question.answer_type, one.answer)
                # A chat's turn begins with its first word; plain text goes on after "A:".
                text = sentence.strip() if prompt.style is PromptStyle.CHAT else sentence
                completions = [(None, text, ())]
            for path_id, text, token_ids in completions:
                rows.append(
                    Example(
                        id=0,
                        set_key="",
                        position=len(rows),
                        question_id=one.question.id,
                        path_id=path_id,
                        prompt_format=prompt_format,
                        prompt=prompt.text,
                        shared=prompt.shared,
                        completion=text,
                        token_ids=token_ids,
                        weight=total / len(completions),
                        validation=one.question.id in held,
                    )
                )
    return rows


def _held_out(question_key: str, share: float) -> bool:
    place = int(content_hash(["validation", question_key])[:16], 16) / 16**16
    return place < share


def training_set(
    built: Sequence[Example],
    kept: Sequence[KeptQuestion],
    run: Run,
    settings: CurateSettings,
    tokenizer_sha256: str,
    created_at: float,
) -> TrainingSet:
    """Name the examples by their content and by the settings that chose them.

    The key holds no row number and no time, so the same content has the same key everywhere.
    """
    content = [
        [
            one.prompt_format,
            one.prompt,
            one.shared,
            one.completion,
            list(one.token_ids),
            one.weight,
            one.validation,
        ]
        for one in built
    ]
    chosen_by = [
        run.key,
        run.m,
        run.threshold,
        run.cap,
        list(settings.formats),
        settings.weighting,
        settings.validation_share,
        tokenizer_sha256,
    ]
    learnt = {one.question_id for one in built}
    return TrainingSet(
        key=content_hash([chosen_by, content]),
        run_id=run.id,
        threshold=run.threshold,
        cap=run.cap,
        formats=tuple(settings.formats),
        weighting=settings.weighting,
        label_free=not any(one.reviewed and one.question.id in learnt for one in kept),
        tokenizer_sha256=tokenizer_sha256,
        questions=len(learnt),
        examples=len(built),
        created_at=created_at,
        m=run.m,
        validation_share=settings.validation_share,
    )
