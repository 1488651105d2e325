"""Questions of the pool that are, nearly, questions of the evaluation: a gain on those is no gain.

Exact copies never enter two splits (`store.questions.add`). What is left are copies with another
spelling, a word more, a name changed. Candidates come from MinHash (Broder 1997) over word trigrams
by locality-sensitive hashing; each is then compared exactly.

Takes datasketch, which imports scipy: for the worker and the command line, not for the app.
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
"""Jaccard index of the word trigrams from which on two questions are nearly the same, in (0, 1]."""

_CANDIDATE = 0.6
"""Index that hashing looks for; lower, so that hardly any pair at `OVERLAP` is missed."""

_WORDS = 3
_PERMUTATIONS = 128
_WORD = re.compile(r"[^\W_]+(?:[.,:/][^\W_]+)*")
_NUMBER = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class ContaminatedQuestion:
    """A pool question that is nearly an evaluation question."""

    pool: Question
    measured: Question
    overlap: float
    """Jaccard index of their word trigrams, in [OVERLAP, 1]."""


@dataclass(frozen=True, slots=True)
class Contamination:
    """What was found between the pool and the evaluation splits."""

    found: tuple[ContaminatedQuestion, ...]
    """One for each pool question that leaks, with the evaluation question nearest to it; in the
    order of the pool. They are left out of training."""
    other_numbers: int
    """Pool questions with the wording of an evaluation question and other numbers. Their answers
    are others too, so they stay; many of them say that the sets share their templates."""
    compared: tuple[int, int]
    """Questions of the pool and of the evaluation splits."""


def of_store(conn: sqlite3.Connection) -> Contamination:
    """The leaks between the pool and both evaluation splits; no known answer is read."""
    measured = [
        question
        for split in (Split.EVAL, Split.OOD)
        for question in questions.by_split(conn, split)
    ]
    return find(questions.by_split(conn, Split.POOL), measured)


def find(pool: Sequence[Question], measured: Sequence[Question]) -> Contamination:
    """Compare every pool question with every evaluation question, in time nearly linear in both."""
    compared = (len(pool), len(measured))
    if not (pool and measured):
        return Contamination((), 0, compared)
    from datasketch import MinHashLSH

    known = [trigrams(_body(question)) for question in measured]
    index = MinHashLSH(threshold=_CANDIDATE, num_perm=_PERMUTATIONS)
    with index.insertion_session() as session:
        for place, hashed in enumerate(_hashes(known)):
            session.insert(place, hashed)
    asked = [trigrams(_body(question)) for question in pool]
    found, other_numbers = [], 0
    for question, grams, hashed in zip(pool, asked, _hashes(asked), strict=True):
        near = [
            (_overlap(question, grams, measured[place], known[place]), place)
            for place in index.query(hashed)
        ]
        near = [(overlap, place) for overlap, place in near if overlap >= OVERLAP]
        same = [one for one in near if _numbers(question) == _numbers(measured[one[1]])]
        if same:
            overlap, place = max(same, key=lambda one: (one[0], -one[1]))
            found.append(ContaminatedQuestion(question, measured[place], overlap))
        elif near:
            other_numbers += 1
    return Contamination(tuple(found), other_numbers, compared)


def trigrams(text: str) -> frozenset[str]:
    """Runs of three words, lower case, without punctuation; a shorter text is one run."""
    words = _WORD.findall(text.lower())
    runs = range(max(1, len(words) - _WORDS + 1))
    return frozenset(" ".join(words[start : start + _WORDS]) for start in runs)


def _body(question: Question) -> str:
    return " ".join((question.text, *question.options))


def _overlap(
    question: Question, grams: frozenset[str], other: Question, other_grams: frozenset[str]
) -> float:
    """Of the questions and, where they have one, of their passages: the lesser of the two."""
    overlap = _jaccard(grams, other_grams)
    if question.passage or other.passage:
        overlap = min(overlap, _jaccard(trigrams(question.passage), trigrams(other.passage)))
    return overlap


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


def _numbers(question: Question) -> Counter[str]:
    """The numbers of a question, as often as they stand in it."""
    words = _WORD.findall(_body(question).lower())
    return Counter(word.replace(",", "") for word in words if _NUMBER.search(word))


def _hashes(sets: Sequence[frozenset[str]]) -> Iterator[MinHash]:
    from datasketch import MinHash

    encoded = ([gram.encode() for gram in grams] for grams in sets)
    yield from MinHash.generator(encoded, num_perm=_PERMUTATIONS)
