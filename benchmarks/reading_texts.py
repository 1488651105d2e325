"""Public texts with known answers, and rewrites of them that begin with a label.

Used by `benchmarks.readers`. The texts are in `../shared`, or samples of them in `tests/data`.
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.importing.labels.options import inline_options
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LABELS = ("A: ", "Answer: ", "Solution: ")
ENDING = "\nans = "


@dataclass(frozen=True, slots=True)
class Text:
    """A text that ends in an answer."""

    source: str
    answer_type: AnswerType
    text: str
    gold: tuple[str, ...]
    """Known answers as the data set writes them; any of them is right."""
    options: tuple[str, ...] = ()
    reasoning: str = ""
    """The text before its answer sentence; empty if the sentence was not found."""
    stated: str = ""
    """The answer in that sentence."""
    published: bool | None = None
    """Whether the publisher counted the answer as right."""

    def variants(self) -> dict[str, str]:
        """The text as it is, and its rewrites, by name."""
        texts = {"as published": self.text}
        texts |= {f"{label.strip()} …": label + self.text.lstrip() for label in LABELS}
        if self.reasoning:
            ended = self.reasoning.strip() + ENDING + self.stated
            texts["ans = …"] = ended
            texts |= {f"{label.strip()} … ans = …": label + ended for label in LABELS}
        return texts


def read_all(outputs: Path, data: Path) -> Iterator[Text]:
    """The texts of every set that exists in these folders."""
    for path, read in (
        (outputs / "gsm8k_four_systems/normalized.jsonl", _gsm8k_outputs),
        (outputs / "math_qwen_8/normalized.jsonl", _math_outputs),
        (outputs / "multiple_choice_10/normalized.jsonl", _choice_outputs),
        (data / "gsm8k/train.jsonl", _gsm8k_solutions),
        (data / "gsm8k/test.jsonl", _gsm8k_solutions),
        (data / "aqua/dev.json", _aqua_rationales),
        (data / "aqua/test.json", _aqua_rationales),
        (data / "strategyqa/bigbench_task.json", _strategyqa_explanations),
        (data / "drop/drop_v0_dev.jsonl.gz", _drop_statements),
    ):
        if path.exists():
            yield from read(path)


def _rows(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return [json.loads(line) for line in text.split("\n") if line]


_NUMBER_ENDING = re.compile(r"\n(?:A: |#### ?)(.+)\s*$")


def _gsm8k_outputs(path: Path) -> Iterator[Text]:
    for row in _rows(path):
        verdicts = row["published"]["is_correct"]
        for sample, right in zip(row["samples"], verdicts, strict=True):
            yield _number("outputs/gsm8k_four_systems", sample, row["gold"], right)


def _gsm8k_solutions(path: Path) -> Iterator[Text]:
    for row in _rows(path):
        gold = row["answer"].rsplit("####", 1)[1].strip()
        yield _number("data/gsm8k solutions", row["answer"], gold, None)


def _number(source: str, text: str, gold: str, published: bool | None) -> Text:
    end = _NUMBER_ENDING.search(text)
    return Text(
        source,
        AnswerType.NUMBER,
        text,
        (gold,),
        reasoning=text[: end.start()] if end else "",
        stated=end[1].strip() if end else "",
        published=published,
    )


def _math_outputs(path: Path) -> Iterator[Text]:
    for row in _rows(path):
        verdicts = row["published"]["score"]
        for sample, right in zip(row["samples"], verdicts, strict=True):
            reasoning, stated = _before_box(sample)
            yield Text(
                "outputs/math_qwen_8",
                AnswerType.MATH,
                sample,
                (row["gold"],),
                reasoning=reasoning,
                stated=stated,
                published=bool(right),
            )


def _before_box(text: str) -> tuple[str, str]:
    """What is before the line of the last box, and the content of the box."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return "", ""
    first = start + len("\\boxed{")
    depth, end = 1, first
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    before = text[: text.rfind("\n", 0, start) + 1].rstrip()
    before = before.removesuffix("\\[").rstrip()
    return ("", "") if depth or "\\boxed" in before else (before, text[first : end - 1])


_CHOICE_ENDING = re.compile(r'\n\s*(?:Action: )?Answer\("([A-J])"\)\s*$')


def _choice_outputs(path: Path) -> Iterator[Text]:
    for row in _rows(path):
        options = tuple(inline_options(row["question"])[2])
        for sample in row["samples"]:
            end = _CHOICE_ENDING.search(sample)
            yield Text(
                "outputs/multiple_choice_10",
                AnswerType.CHOICE,
                sample,
                (row["gold"],),
                options,
                reasoning=sample[: end.start()] if end else "",
                stated=end[1] if end else "",
            )


_AQUA_ENDING = re.compile(
    r"(?:\n|(?<=[.!]) )(?:(?:the |correct )*(?:answer|option|ans)\b\W*(?:is|:|-)?\W*)?([A-E])\W*$",
    re.IGNORECASE,
)


def _aqua_rationales(path: Path) -> Iterator[Text]:
    for row in _rows(path):
        end = _AQUA_ENDING.search(row["rationale"])
        yield Text(
            "data/aqua rationales",
            AnswerType.CHOICE,
            row["rationale"],
            (row["correct"],),
            tuple(option.split(")", 1)[1].strip() for option in row["options"]),
            reasoning=row["rationale"][: end.start()] if end else "",
            stated=end[1] if end else "",
        )


def _strategyqa_explanations(path: Path) -> Iterator[Text]:
    for row in json.loads(path.read_text(encoding="utf-8"))["examples"]:
        gold = next(name for name, score in row["target_scores"].items() if score)
        reasoning = row["target"].split(". ", 1)[-1].strip()
        for answer_type in (AnswerType.YES_NO, AnswerType.NLI):
            yield Text(
                f"data/strategyqa explanations, {answer_type}",
                answer_type,
                f"{reasoning} The answer is {gold.lower()}.",
                (gold,),
                reasoning=reasoning,
                stated=gold.lower(),
            )


def _drop_statements(path: Path) -> Iterator[Text]:
    """Passages have no reasoning: their last two sentences stand in for it."""
    for row in _rows(path):
        gold = tuple(part.strip() for part in row["ref_text"].split("|") if part.strip())
        passage = row["context"].split("\nQuestion:")[0]
        reasoning = ". ".join(passage.split(". ")[-2:])[-600:]
        if gold:
            yield Text(
                "data/drop statements",
                AnswerType.SPAN,
                f"{reasoning} The answer is {gold[0]}.",
                gold,
                reasoning=reasoning,
                stated=gold[0],
            )
