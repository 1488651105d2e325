"""The readers and the vote on outputs of real models, beside the numbers that were published."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from engine.answers.extraction import extract
from engine.importing.labels.options import inline_options
from engine.importing.sampled_outputs import read_sampled, sampled_report
from store.enums import AnswerType, EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from tests.public import PublicData


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def number(report: dict[str, object], name: str) -> float:
    value = report[name]
    assert isinstance(value, int | float)
    return value


def test_every_published_judgment_of_four_systems_is_reproduced(public: PublicData) -> None:
    for row in rows(public.outputs("gsm8k_four_systems")):
        gold = extract(AnswerType.NUMBER, row["gold"], end=EndReason.END).answer
        assert gold is not None
        given = [
            extract(AnswerType.NUMBER, sample, end=EndReason.END).answer
            for sample in row["samples"]
        ]
        assert [answer == gold for answer in given] == row["published"]["is_correct"]


def test_four_systems_have_their_published_accuracies(public: PublicData) -> None:
    report = sampled_report(read_sampled(public.outputs("gsm8k_four_systems"), "gsm8k"))
    by_index = report["accuracy_by_index"]
    assert isinstance(by_index, list)
    published = public.expects(sample=[13.3, 30.0, 30.0, 53.3], complete=[21.7, 39.0, 34.7, 56.3])
    assert [round(100 * share, 1) for share in by_index] == published
    size = public.expects(sample=(30, 120), complete=(1319, 5276))
    assert (report["questions"], report["paths"]) == size
    assert number(report, "vote_accuracy") <= number(report, "vote_accuracy_first_seen")


def test_math_differs_from_the_published_scores_in_a_single_text(public: PublicData) -> None:
    # Published: pass@1 91.0 %. It counts `10000` as wrong where the gold answer is `10{,}000`.
    report = sampled_report(read_sampled(public.outputs("math_qwen_8"), "math"))
    paths, published = public.expects(sample=(96, 67), complete=(800, 728))
    assert report["paths"] == paths
    assert number(report, "single_accuracy") == (published + 1) / paths
    # Published: 93 of 100, ties to the answer seen first. Two of the four ties fall that way.
    accuracy = public.expects(sample=9 / 12, complete=0.93)
    assert number(report, "vote_accuracy_first_seen") == accuracy
    assert number(report, "vote_accuracy") == public.expects(sample=7 / 12, complete=0.91)
    assert report["ties"] == public.expects(sample=2, complete=4)


def kind_of_difference(  # noqa: PLR0911 - a return for each cause
    row: dict[str, Any], text: str, theirs: str | None, ours: str | None
) -> str:
    """Why our reading and the published vote differ; see docs/readers.md."""
    forms = re.findall(r'Answer\("([^"]*)"\)', text)
    named = [form for form in forms if re.fullmatch("[A-Za-z]", form)]
    if not theirs:
        return "no form, the sentence is read" if ours else "no form, no answer"
    if theirs not in "ABCDEFGHIJ":
        words = re.match(r"none|no |not |unknown|cannot|n/a", forms[0], re.I)
        if ours is None:
            return "none of the options" if words else "first character is no option"
        return "later statement" if words else "label or content"
    if len(set(named)) > 1 or (named and ours):
        return "several statements"
    if not named:
        return "first letter of a word or of several letters"
    if ours is None and theirs not in inline_options(row["question"])[1]:
        return "letter outside the options"
    return "later statement"


# The table of docs/readers.md: a change here is a new version of the reader.
CAUSES = {
    "no form, the sentence is read": 353,
    "none of the options": 330,
    "no form, no answer": 73,
    "label or content": 66,
    "first character is no option": 12,
    "several statements": 9,
    "later statement": 8,
    "first letter of a word or of several letters": 7,
    "letter outside the options": 4,
}
CAUSES_IN_SAMPLE = {
    "label or content": 11,
    "none of the options": 5,
    "no form, the sentence is read": 5,
    "first character is no option": 4,
    "later statement": 1,
    "first letter of a word or of several letters": 2,
    "no form, no answer": 1,
    "several statements": 1,
}


def test_every_difference_from_the_published_votes_has_a_known_cause(public: PublicData) -> None:
    same, causes = 0, Counter[str]()
    for row in rows(public.outputs("multiple_choice_10")):
        options = inline_options(row["question"])[2]
        for text, theirs in zip(row["samples"], row["published"]["votes"], strict=False):
            ours = extract(AnswerType.CHOICE, text, options=options, end=EndReason.END).answer
            if ours == theirs:
                same += 1
            else:
                causes[kind_of_difference(row, text, theirs, ours)] += 1
    assert same == public.expects(sample=120, complete=8538)
    assert causes == public.expects(sample=CAUSES_IN_SAMPLE, complete=CAUSES)


def test_votes_on_multiple_choice_agree_with_the_published_votes_that_have_a_leader(
    public: PublicData,
) -> None:
    sampled = read_sampled(public.outputs("multiple_choice_10"), "choice")
    agree = compared = 0
    for row, ours in zip(rows(public.outputs("multiple_choice_10")), sampled, strict=True):
        counts = Counter(vote for vote in row["published"]["votes"] if vote and vote in "ABCDE")
        lead = counts.most_common(2)
        if not lead or counts.total() < 6 or (len(lead) == 2 and lead[0][1] == lead[1][1]):
            continue
        our_lead = Counter(answer for answer in ours.answers if answer).most_common(1)
        compared += 1
        agree += bool(our_lead) and our_lead[0][0] == lead[0][0]
    assert compared > public.expects(sample=11, complete=800)
    assert agree / compared > 0.99


def test_a_file_without_questions_is_refused(public: PublicData) -> None:
    with pytest.raises(BadInput, match="line 1 has no question and no gold, only dataset"):
        read_sampled(public.outputs("game24_100"), "number")


# The rows below are written by hand.


def written(folder: Path, *lines: object) -> Path:
    path = folder / "paths.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def test_a_tie_counts_as_wrong_except_in_the_first_seen_accuracy(tmp_path: Path) -> None:
    tied = {"question": "q", "gold": "1", "samples": ["The answer is 1.", "The answer is 2."]}
    clear = {"question": "r", "gold": "4", "samples": ["The answer is 4.", "I do not know."]}
    report = sampled_report(read_sampled(written(tmp_path, tied, clear), "number"))
    assert report["ties"] == 1
    assert report["abstained"] == 1
    assert (report["vote_accuracy"], report["vote_accuracy_first_seen"]) == (0.5, 1.0)
    assert report["single_accuracy"] == 0.5
    assert report["accuracy_by_index"] == [1.0, 0.0]
    assert report["majority_at"] == [0.5, 0.5]


def test_without_gold_answers_there_are_votes_but_no_accuracy(tmp_path: Path) -> None:
    row = {"question": "q", "samples": ["The answer is 1.", ""]}
    report = sampled_report(read_sampled(written(tmp_path, row, row), "number"))
    assert (report["with_gold"], report["vote_accuracy"], report["abstained"]) == (0, None, 2)


def test_a_path_that_reached_its_token_limit_abstains(tmp_path: Path) -> None:
    cut = {"text": "The answer is 1.", "finish_reason": "length"}
    row = {"question": "q", "gold": "1", "samples": [cut, {"text": "The answer is 1."}]}
    report = sampled_report(read_sampled(written(tmp_path, row, row), "number"))
    assert (report["abstained"], report["single_accuracy"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("row", "task", "sentence"),
    [
        ({"question": "q"}, "number", "line 1 has no samples"),
        ({"question": "q", "samples": "x"}, "number", "must be a list"),
        ({"question": "q", "samples": [3]}, "number", "a sample must be text"),
        ({"question": "q", "samples": ["x"]}, "choice", "has no options"),
        (
            {"question": "q", "samples": ["x"], "gold": "Paris"},
            "number",
            "cannot be read as number",
        ),
    ],
)
def test_unusable_rows_are_refused(tmp_path: Path, row: object, task: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read_sampled(written(tmp_path, row, row), task)
