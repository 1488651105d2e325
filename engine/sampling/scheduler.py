"""Draw paths until every vote stands.

Each question asks for its paths in waves: as many as are needed before a decision is possible at
all, then as many as could still change it. Waves of many questions are in flight together, so that
the engine's slots are always full. Every finished path is committed when it finishes; what is asked
next is what the store does not have. Votes are counted in index order, never in the order of
finishing: short paths finish first, and a vote that takes what has arrived prefers short answers.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from engine.answers import custom_rules, extraction
from engine.answers.custom_rules import BUILT_IN, Rules
from engine.inference.backend import Backend, Generation, PathRequest, Sampling, path_seed
from engine.inference.prompt_lengths import in_common
from engine.prompting.templates import Prompt, stop_strings
from engine.voting import majority
from store import paths, votes
from store.connection import transaction
from store.enums import Decision, EarlyStop, PromptStyle
from store.records import Question, Reading, ReasoningPath, Run, Vote

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from engine.project.job_context import Progress

CONTROL_SHARE = 0.03
"""Share of questions that `fast` runs to full m, to measure how often it changes a decision."""


COMPARED = 16
"""Prompts, spread over a task, whose common beginning is taken for that of all. A prompt that
begins otherwise is evaluated alone."""


@dataclass(slots=True)
class _Open:
    """A question whose vote does not stand yet."""

    question: Question
    prompt: tuple[int, ...]
    shared: int
    answers: dict[int, str | None]
    """By index; None for a path that abstained."""
    asked: int = 0
    """Paths in flight."""


@dataclass(slots=True)
class Tally:
    """What a run has drawn so far, for the screen."""

    started: float
    """When this sitting began, by the monotonic clock."""
    before: int
    """Questions that were settled before this sitting."""
    total: int
    """Questions of the run."""
    settled: int = 0
    paths: int = 0
    tokens: int = 0

    def rates(self) -> dict[str, float]:
        """Paths and tokens per second since the start of this sitting."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        return {
            "paths_per_second": self.paths / seconds,
            "tokens_per_second": self.tokens / seconds,
        }


def sample(
    conn: sqlite3.Connection,
    backend: Backend,
    run: Run,
    questions: Sequence[Question],
    prompt_of: Callable[[Question], Prompt],
    progress: Progress,
    *,
    settled: int = 0,
) -> Tally:
    """Draw what is missing of a run and store paths, readings and votes.

    Args:
        conn: the project's store.
        backend: the run's model, loaded.
        run: how to draw; m, rule, threshold and cap say when a vote stands.
        questions: in the order in which they are begun; those settled before are skipped.
        prompt_of: renders a question's prompt.
        progress: the job's row.
        settled: questions that were settled before this call, for the count that is shown.

    Returns:
        What this call drew (what was stored before is not counted).

    Raises:
        BadInput: a prompt and its path do not fit the model's context.
    """
    tally = Tally(time.monotonic(), before=settled, total=settled + len(questions))
    for _task, group in groupby(questions, key=lambda question: question.task):
        source = _Source(conn, backend, run, list(group), prompt_of, progress, tally)
        sampling = Sampling(
            temperature=run.temperature,
            max_tokens=run.max_tokens,
            top_p=run.top_p,
            top_k=run.top_k,
            min_p=run.min_p,
            stop=stop_strings(run.prompt_style),
        )
        for generation in backend.sample(source, sampling):
            source.store(generation)
            progress.look()
        source.finish()
    return tally


def unsettled(conn: sqlite3.Connection, run: Run, questions: Sequence[Question]) -> list[Question]:
    """Count the votes that stored paths decide, and give the questions that need more paths.

    Counting again is cheap and always right: after another m, threshold, cap or rule the stored
    votes may say too little, while the stored paths say everything.
    """
    counted = recounted(conn, run, questions)
    with transaction(conn):
        votes.put(conn, [vote for vote in counted if vote.drawn])
    return [
        question
        for question, vote in zip(questions, counted, strict=True)
        if vote.decision is Decision.OPEN
    ]


def recounted(conn: sqlite3.Connection, run: Run, questions: Sequence[Question]) -> list[Vote]:
    """The votes that stored paths give at the run's settings, without storing them."""
    known = paths.answers_by_question(conn, run.id, [question.id for question in questions])
    in_force = custom_rules.in_force(conn)
    return [
        count(
            run,
            question,
            prefix_of(known.get(question.id, {}), run.m),
            in_force[question.answer_type],
        )
        for question in questions
    ]


def count(
    run: Run, question: Question, in_order: Sequence[str | None], rules: Rules = BUILT_IN
) -> Vote:
    """The vote of a question's paths at the run's settings.

    Args:
        run: m, rule, threshold and cap.
        question: whose answer type decides which answers are equal.
        in_order: answers of paths 0, 1, 2, … without a gap; None abstains.
        rules: that they were read with, for the record.
    """
    return majority.count_vote(
        extraction.merge_equal(question.answer_type, in_order),
        run_id=run.id,
        question_id=question.id,
        m=run.m,
        rule=rule_of(run, question),
        threshold=run.threshold,
        cap=run.cap,
        epsilon=run.epsilon,
        reader=custom_rules.reader_name(question.answer_type, rules),
    )


def rule_of(run: Run, question: Question) -> EarlyStop:
    """The run's stop rule, but for the few questions, chosen by hash, that `fast` never cuts."""
    return EarlyStop.OFF if is_control(run, question.key) else run.early_stop


def is_control(run: Run, key: str) -> bool:
    """Whether this is one of the few questions that `fast` runs to full m."""
    share = path_seed(run.seed, key, -1) / 2**63
    return run.early_stop is EarlyStop.FAST and share < CONTROL_SHARE


def prefix_of(known: Mapping[int, str | None], m: int) -> list[str | None]:
    """The answers before the first index that is missing."""
    in_order: list[str | None] = []
    while len(in_order) < m and len(in_order) in known:
        in_order.append(known[len(in_order)])
    return in_order


class _Source:
    """The questions of one task, given out as the paths that their votes still need."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        backend: Backend,
        run: Run,
        questions: Sequence[Question],
        prompt_of: Callable[[Question], Prompt],
        progress: Progress,
        tally: Tally,
    ) -> None:
        self.conn = conn
        self.backend = backend
        self.run = run
        self.prompt_of = prompt_of
        self.progress = progress
        self.tally = tally
        self._known = paths.answers_by_question(conn, run.id, [q.id for q in questions])
        self._in_force = custom_rules.in_force(conn)
        self._waiting = deque(questions)
        self._open: dict[str, _Open] = {}
        self._wave: deque[tuple[_Open, int]] = deque()
        self._votes: list[Vote] = []
        self._prefix = self._common_prefix(questions)

    def _common_prefix(self, questions: Sequence[Question]) -> tuple[int, ...]:
        """The tokens that begin every prompt of the task: its worked examples."""
        if len(questions) < 2:
            return ()
        step = max(1, len(questions) // COMPARED)
        some = [self._tokens(self.prompt_of(question)) for question in questions[::step]]
        return some[0][: in_common(some)]

    def _tokens(self, prompt: Prompt) -> tuple[int, ...]:
        if prompt.style is PromptStyle.CHAT:
            return tuple(self.backend.tokenize_chat(prompt.messages()))
        return tuple(self.backend.tokenize(prompt.text))

    # What the backend asks.

    def next_path(self) -> PathRequest | None:
        """The next path that some vote needs, or None while all wait for paths in flight."""
        while not self._wave and self._waiting:
            self._begin(self._waiting.popleft())
        if not self._wave:
            return None
        opened, index = self._wave.popleft()
        return PathRequest(
            opened.question.key,
            index,
            opened.prompt,
            opened.shared,
            path_seed(self.run.seed, opened.question.key, index),
        )

    def is_settled(self, question: str) -> bool:
        """Whether the vote of this question stands.

        A backend asks while it waits, so that a pause is heard between two slow paths.
        """
        self.progress.look()
        return question not in self._open

    # What the stage does with the answer.

    def store(self, generation: Generation) -> None:
        """Commit a finished path with its reading, and settle its question if its vote stands."""
        opened = self._open.get(generation.question)
        if opened is None:
            return
        question = opened.question
        rules = self._rules_of(question)
        read = custom_rules.read(
            question.answer_type,
            generation.text,
            options=question.options,
            end=generation.end,
            rules=rules,
        )
        path = ReasoningPath(
            id=0,
            run_id=self.run.id,
            question_id=question.id,
            index=generation.index,
            text=generation.text,
            token_ids=generation.token_ids,
            end=generation.end,
            finished_at=time.time(),
        )
        reading = Reading(
            path_id=0,
            reader=custom_rules.reader_name(question.answer_type, rules),
            answer=read.answer,
            shown=read.shown,
            abstention=read.abstention,
        )
        opened.answers[generation.index] = read.answer
        opened.asked -= 1
        self.tally.paths += 1
        self.tally.tokens += len(generation.token_ids)
        with transaction(self.conn):
            paths.add(self.conn, self.run.id, [path], [reading])
            if opened.asked == 0:
                self._consider(opened)
                self._put_votes()
            self.progress.measure(self.tally.paths, self.tally.rates())

    def finish(self) -> None:
        """Count the questions that were settled from stored paths alone."""
        with transaction(self.conn):
            self._put_votes()

    def _rules_of(self, question: Question) -> Rules:
        return self._in_force[question.answer_type]

    def _begin(self, question: Question) -> None:
        known = self._known.pop(question.id, {})
        opened = _Open(question, (), 0, known)
        self._open[question.key] = opened
        self._consider(opened)
        if question.key in self._open:
            opened.prompt = self._tokens(self.prompt_of(question))
            opened.shared = len(self._prefix)
            if opened.prompt[: opened.shared] != self._prefix:
                opened.shared = 0

    def _consider(self, opened: _Open) -> None:
        """Settle the question, or ask for the paths that could settle it."""
        run, question = self.run, opened.question
        in_order = prefix_of(opened.answers, run.m)
        vote = count(run, question, in_order, self._rules_of(question))
        if vote.decision is not Decision.OPEN:
            del self._open[question.key]
            self._votes.append(vote)
            self.tally.settled += 1
            return
        wanted = majority.paths_wanted(
            extraction.merge_equal(question.answer_type, in_order),
            m=run.m,
            rule=rule_of(run, question),
            threshold=run.threshold,
            cap=run.cap,
        )
        wave = range(len(in_order), min(run.m, len(in_order) + max(wanted, 1)))
        missing = [index for index in wave if index not in opened.answers]
        opened.asked = len(missing)
        # Older questions first, so that few are open at a time.
        self._wave.extendleft((opened, index) for index in reversed(missing))

    def _put_votes(self) -> None:
        if self._votes:
            votes.put(self.conn, self._votes)
            self._votes = []
            self.progress.advance(self.tally.before + self.tally.settled, self.tally.total)
