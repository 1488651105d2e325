"""Find pool questions that are near-copies of evaluation questions.

A gain on such questions would not be real. The same text is never in two splits
(`store.questions.add`), so these are copies with another spelling, an added word or a changed name.
Candidates come from MinHash (Broder 1997) over word trigrams with locality-sensitive hashing; each
candidate is then compared exactly.

It imports datasketch and thus scipy, so it is for the worker and the command line, not for the app.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store import questions
from store.enums import Split

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from datasketch import MinHash

    from store.records import Question

OVERLAP = 0.8
"""Jaccard index of the word trigrams from which two questions count as near-copies, in (0, 1]."""

_CANDIDATE = 0.6
"""Jaccard index of candidates; lower, so that hardly any pair at `OVERLAP` is missed."""

_WORDS = 3
_PERMUTATIONS = 128
_WORD = re.compile(r"[^\W_]+(?:[.,:/][^\W_]+)*")
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class ContaminatedQuestion:
    """A pool question that is a near-copy of an evaluation question."""

    pool: Question
    measured: Question
    overlap: float
    """Jaccard index of their word trigrams, in [OVERLAP, 1]."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """The overlap between the pool and the evaluation splits."""

    pairs: tuple[ContaminatedQuestion, ...]
    """The contaminated pool questions, in the order of the pool, each with the most similar
    evaluation question. They are left out of training."""
    other_numbers: int
    """Pool questions with the wording of an evaluation question but different numbers. Their
    answers differ, too, so they are kept; many of them show that the sets share templates."""
    compared: tuple[int, int]
    """Number of questions in the pool and in the evaluation splits."""


def of_store(conn: sqlite3.Connection) -> Contamination:
    """Compare the pool with both evaluation splits; no known answers are read."""
    measured = [
        question
        for split in (Split.EVAL, Split.OOD)
        for question in questions.by_split(conn, split)
    ]
    return find(questions.by_split(conn, Split.POOL), measured)


def find(pool: Sequence[Question], measured: Sequence[Question]) -> Contamination:
    """Compare the pool with the evaluation questions, in nearly linear time."""
    compared = (len(pool), len(measured))
    if not (pool and measured):
        return Contamination((), 0, compared)
    from datasketch import MinHashLSH

    measured_trigrams = [trigrams(_body(question)) for question in measured]
    index = MinHashLSH(threshold=_CANDIDATE, num_perm=_PERMUTATIONS)
    with index.insertion_session() as session:
        for place, hashed in enumerate(_hashes(measured_trigrams)):
            session.insert(place, hashed)
    pool_trigrams = [trigrams(_body(question)) for question in pool]
    contaminated, other_numbers = [], 0
    for question, grams, hashed in zip(pool, pool_trigrams, _hashes(pool_trigrams), strict=True):
        near = [
            (_overlap(question, grams, measured[place], measured_trigrams[place]), place)
            for place in index.query(hashed)
        ]
        near = [(overlap, place) for overlap, place in near if overlap >= OVERLAP]
        same = [pair for pair in near if _numbers(question) == _numbers(measured[pair[1]])]
        if same:
            overlap, place = max(same, key=lambda pair: (pair[0], -pair[1]))
            contaminated.append(ContaminatedQuestion(question, measured[place], overlap))
        elif near:
            other_numbers += 1
    return Contamination(tuple(contaminated), other_numbers, compared)


def trigrams(text: str) -> frozenset[str]:
    """Runs of three words, lower case, without punctuation; a shorter text is a single run."""
    words = _WORD.findall(text.lower())
    runs = range(max(1, len(words) - _WORDS + 1))
    return frozenset(" ".join(words[start : start + _WORDS]) for start in runs)


def _body(question: Question) -> str:
    return " ".join((question.text, *question.options))


def _overlap(
    question: Question, grams: frozenset[str], other: Question, other_grams: frozenset[str]
) -> float:
    """Jaccard index of two questions; at most that of their passages, if they have any."""
    overlap = _jaccard(grams, other_grams)
    if question.passage or other.passage:
        overlap = min(overlap, _jaccard(trigrams(question.passage), trigrams(other.passage)))
    return overlap


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


def _numbers(question: Question) -> Counter[str]:
    """The numbers of a question, with their frequency."""
    words = _WORD.findall(_body(question).lower())
    return Counter(word.replace(",", "") for word in words if _NUMBER.search(word))


def _hashes(sets: Sequence[frozenset[str]]) -> Iterator[MinHash]:
    from datasketch import MinHash

    encoded = ([gram.encode() for gram in grams] for grams in sets)
    yield from MinHash.generator(encoded, num_perm=_PERMUTATIONS)
