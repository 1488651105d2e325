"""Sample paths until every vote is settled.

Each question requests a path as soon as it is certain that its vote needs one more, whatever the
paths in flight will answer; once a decision is possible, a small wave is kept in flight. Paths of
many questions are in flight together, so the engine's slots stay full. Every path is committed when
it finishes, and only paths that the store lacks are requested.
Votes are counted in index order, never in the order of finishing: short paths finish first, so a
vote over whatever has arrived would favor short answers.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import BUILT_IN, Rules
from engine.inference.backend import Backend, Generation, PathRequest, Sampling, path_seed
from engine.inference.prompt_lengths import common_prefix_length
from engine.prompting.templates import Prompt, stop_strings
from engine.sampling import runs
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
"""Share of questions that `fast` samples in full, to measure how often it changes a decision."""

COMPARED = 16
"""Number of prompts, spread over a task, whose common prefix is taken for all of them. A prompt
that begins differently is evaluated on its own."""


@dataclass(slots=True)
class _OpenVote:
    """A question whose vote is not settled yet."""

    question: Question
    prompt: tuple[int, ...]
    shared: int
    answers: dict[int, str | None]
    """By path index; None for a path that abstains."""
    requested: int = 0
    """Paths from index 0 on that are finished or in flight; later ones may be stored, too."""
    undecided: int = 0
    """Number of first paths after which the vote is known to be open."""


@dataclass(slots=True)
class Tally:
    """What one call of `sample` has sampled so far."""

    started: float
    """Start time, monotonic clock."""
    before: int
    """Questions that were settled before."""
    total: int
    """Questions of the run."""
    settled: int = 0
    paths: int = 0
    tokens: int = 0

    def rates(self) -> dict[str, float]:
        """Paths and tokens per second since the start."""
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
    """Sample the missing paths of a run and store paths, readings and votes.

    Args:
        conn: the project's store.
        backend: the run's model, loaded.
        run: how to sample; its m, early-stop rule, threshold and cap say when a vote is settled.
        questions: in the order in which they begin; settled questions are not among them.
        prompt_of: renders a question's prompt.
        progress: the job's row.
        settled: number of questions that were settled before, for the progress count.

    Returns:
        What this call sampled; paths that were stored before are not counted.

    Raises:
        BadInput: a prompt with its path does not fit into the model's context.
    """
    tally = Tally(time.monotonic(), before=settled, total=settled + len(questions))
    ends_after_answer = runs.ends_after_answer(run, runs.sampler_of(conn, run))
    for _task, group in groupby(questions, key=lambda question: question.task):
        of_task = list(group)
        source = _Source(conn, backend, run, of_task, prompt_of, progress, tally)
        sampling = Sampling(
            temperature=run.temperature,
            max_tokens=run.max_tokens,
            top_p=run.top_p,
            top_k=run.top_k,
            min_p=run.min_p,
            stop=stop_strings(run.prompt_style),
            answer_type=of_task[0].answer_type if ends_after_answer else None,
        )
        for generation in backend.sample(source, sampling):
            source.store(generation)
            progress.look()
        source.finish()
    return tally


def unsettled(conn: sqlite3.Connection, run: Run, questions: Sequence[Question]) -> list[Question]:
    """Count and store the votes again, and return the questions that need more paths.

    Counting again is cheap and always right. After a change of m, threshold, cap or rule the stored
    votes may be outdated, but the stored paths are not.
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
    """The votes of the stored paths at the run's settings; nothing is stored."""
    answers = paths.answers_by_question(conn, run.id, [question.id for question in questions])
    in_force = custom_rules.in_force(conn)
    return [
        count(
            run,
            question,
            prefix_of(answers.get(question.id, {}), run.m),
            in_force[question.answer_type],
        )
        for question in questions
    ]


def count(
    run: Run,
    question: Question,
    in_order: Sequence[str | None],
    rules: Rules = BUILT_IN,
    *,
    undecided: int = 0,
) -> Vote:
    """The vote of a question's paths at the run's settings.

    Args:
        run: its m, early-stop rule, threshold and cap apply.
        question: its answer type decides which answers are equal.
        in_order: answers of paths 0, 1, 2, … without a gap; None abstains.
        rules: the custom rules that they were read with, stored with the vote.
        undecided: number of first paths after which the vote is known to be open.
    """
    return majority.count_vote(
        in_order,
        run_id=run.id,
        question_id=question.id,
        m=run.m,
        rule=rule_of(run, question),
        threshold=run.threshold,
        cap=run.cap,
        epsilon=run.epsilon,
        reader=custom_rules.reader_name(question.answer_type, rules),
        undecided=undecided,
    )


def rule_of(run: Run, question: Question) -> EarlyStop:
    """The run's early-stop rule; `off` for the control questions."""
    return EarlyStop.OFF if is_control(run, question.key) else run.early_stop


def is_control(run: Run, key: str) -> bool:
    """Whether `fast` samples this question in full; decided by a hash of its key."""
    share = path_seed(run.seed, key, -1) / 2**63
    return run.early_stop is EarlyStop.FAST and share < CONTROL_SHARE


def prefix_of(answers: Mapping[int, str | None], m: int) -> list[str | None]:
    """The answers before the first missing index."""
    in_order: list[str | None] = []
    while len(in_order) < m and len(in_order) in answers:
        in_order.append(answers[len(in_order)])
    return in_order


class _Source:
    """Hands out the paths that the votes of one task's questions still need."""

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
        self._stored = paths.answers_by_question(
            conn, run.id, [question.id for question in questions]
        )
        self._in_force = custom_rules.in_force(conn)
        self._waiting = deque(questions)
        self._open: dict[str, _OpenVote] = {}
        self._requested: deque[tuple[_OpenVote, int]] = deque()
        self._votes: list[Vote] = []
        self._tokenized: dict[int, tuple[int, ...]] = {}
        self._prefix = self._common_prefix(questions)

    def _common_prefix(self, questions: Sequence[Question]) -> tuple[int, ...]:
        """The tokens that every prompt of the task begins with: its worked examples."""
        if len(questions) < 2:
            return ()
        step = max(1, len(questions) // COMPARED)
        self._tokenized = {question.id: self._tokens(question) for question in questions[::step]}
        sample = list(self._tokenized.values())
        return sample[0][: common_prefix_length(sample)]

    def _tokens(self, question: Question) -> tuple[int, ...]:
        """The prompt's tokens; those that were already tokenized are handed out once more."""
        if question.id in self._tokenized:
            return self._tokenized.pop(question.id)
        prompt = self.prompt_of(question)
        if prompt.style is PromptStyle.CHAT:
            chat = self.backend.tokenize_chat(prompt.messages(), thinking=prompt.thinking)
            return tuple(chat)
        return tuple(self.backend.tokenize(prompt.text))

    # Called by the backend.

    def next_path(self) -> PathRequest | None:
        """The next path that a vote needs; None while all votes wait for paths in flight."""
        while self._requested or self._waiting:
            if not self._requested:
                self._begin(self._waiting.popleft())
                continue
            opened, index = self._requested.popleft()
            if opened.question.key in self._open:
                return PathRequest(
                    opened.question.key,
                    index,
                    opened.prompt,
                    opened.shared,
                    path_seed(self.run.seed, opened.question.key, index),
                )
        return None

    def is_settled(self, question: str) -> bool:
        """Whether the vote of this question is settled.

        Backends call this at every step, so pause and cancel take effect during long paths too.
        """
        self.progress.look()
        return question not in self._open

    # Called with each finished path.

    def store(self, generation: Generation) -> None:
        """Commit a finished path with its reading; settle its question if that decides the vote."""
        opened = self._open.get(generation.question)
        if opened is None:
            return
        question = opened.question
        rules = self._rules_of(question)
        read = custom_rules.extract(
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
        self.tally.paths += 1
        self.tally.tokens += len(generation.token_ids)
        with transaction(self.conn):
            paths.add(self.conn, self.run.id, [path], [reading], [generation.confidence])
            self._advance(opened)
            self._put_votes()
            self.progress.measure(self.tally.paths, self.tally.rates())

    def finish(self) -> None:
        """Store the votes that were settled from stored paths alone."""
        with transaction(self.conn):
            self._put_votes()

    def _rules_of(self, question: Question) -> Rules:
        return self._in_force[question.answer_type]

    def _begin(self, question: Question) -> None:
        opened = _OpenVote(question, (), 0, self._stored.pop(question.id, {}))
        self._open[question.key] = opened
        self._advance(opened)
        if question.key in self._open:
            opened.prompt = self._tokens(question)
            opened.shared = len(self._prefix)
            if opened.prompt[: opened.shared] != self._prefix:
                opened.shared = 0

    def _advance(self, opened: _OpenVote) -> None:
        """Settle the question, or request the paths that it needs by now."""
        run, question = self.run, opened.question
        in_order = prefix_of(opened.answers, run.m)
        rules = self._rules_of(question)
        if len(in_order) > opened.undecided or not opened.requested:
            vote = count(run, question, in_order, rules, undecided=opened.undecided)
            if vote.decision is not Decision.OPEN:
                del self._open[question.key]
                self._votes.append(vote)
                self.tally.settled += 1
                return
        opened.undecided = len(in_order)
        merged = majority.merge_equal(question.answer_type, list(opened.answers.values()))
        needed = majority.paths_needed(
            dict(zip(opened.answers, merged, strict=True)),
            max(opened.requested, len(in_order)),
            m=run.m,
            rule=rule_of(run, question),
            threshold=run.threshold,
            cap=run.cap,
        )
        # Questions that began earlier go first, so that few are open at a time.
        self._requested.extendleft(
            (opened, index)
            for index in reversed(range(opened.requested, needed))
            if index not in opened.answers
        )
        opened.requested = needed

    def _put_votes(self) -> None:
        if self._votes:
            votes.put(self.conn, self._votes)
            self._votes = []
            self.progress.advance(self.tally.before + self.tally.settled, self.tally.total)
