"""Extract the answer of a path.

A reader looks for the path's answer statement: the last one, outside `<think>`, before the model
continues with another question. Each answer type has a reader with a version: raise it whenever its
results change, so that the answers of stored paths are extracted again (`docs/readers.md`).
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.answers import normalization, numbers
from store.enums import Abstention, AnswerType, EndReason

if TYPE_CHECKING:
    from collections.abc import Sequence

_VERSIONS = {
    AnswerType.NUMBER: 2,
    AnswerType.CHOICE: 2,
    AnswerType.YES_NO: 1,
    AnswerType.NLI: 1,
    AnswerType.SPAN: 1,
    AnswerType.MATH: 2,
}

_SEARCHED = 20_000
"""Characters at the end of a path that are searched: an answer statement comes last."""
_STATED = 600
"""Maximum length of an answer statement, in characters."""
_TRIED = 20
"""Maximum number of statements that are tried, from the last: most paths have one or two."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer of a path; exactly one of `answer` and `abstention` is None."""

    answer: str | None
    """Canonical form."""
    shown: str | None
    """The answer as the path wrote it."""
    abstention: Abstention | None


def reader_name(answer_type: AnswerType) -> str:
    """Name and version of the reader of a type, such as `number/1`."""
    return f"{answer_type}/{_VERSIONS[answer_type]}"


def extract(
    answer_type: AnswerType, text: str, *, options: Sequence[str] = (), end: EndReason
) -> Extraction:
    """Extract the answer that a path states.

    Args:
        answer_type: decides the reader.
        text: the path as generated, of any length and content.
        options: texts of the choices, for `CHOICE` (and for letters in `NLI`).
        end: a truncated path abstains, whatever it states.
    """
    if end is EndReason.LENGTH:
        return Extraction(None, None, Abstention.TRUNCATED)
    own = own_words(text)
    if not own.strip():
        only_thinks = bool(text.strip())
        return Extraction(None, None, Abstention.NO_ANSWER if only_thinks else Abstention.EMPTY)
    stated = _stated(answer_type, own, options) or _concluded(answer_type, own, options)
    if stated is None:
        return Extraction(None, None, Abstention.NO_ANSWER)
    answer, shown = stated
    return Extraction(answer, shown, None)


def canonical(answer_type: AnswerType, text: str, options: Sequence[str] = ()) -> str | None:
    """The canonical form of a bare answer; None if it is not of the type."""
    match answer_type:
        case AnswerType.NUMBER:
            return numbers.number(text)
        case AnswerType.CHOICE:
            return normalization.choice(text, options)
        case AnswerType.YES_NO:
            return normalization.yes_no(text)
        case AnswerType.NLI:
            return normalization.inference(text, options)
        case AnswerType.SPAN:
            return normalization.span(text)
        case AnswerType.MATH:
            return normalization.math_text(text)


def equal(answer_type: AnswerType, a: str, b: str) -> bool:
    """Whether two canonical answers are the same answer.

    Numbers are compared exactly. `MATH` uses math-verify, in a separate process and for a limited
    time, unless the forms are equal or both are plain numbers.
    """
    if a == b:
        return True
    if answer_type is AnswerType.SPAN:
        return normalization.spans_equal(a, b)
    if answer_type is not AnswerType.MATH:
        return False
    if _PLAIN.fullmatch(a) and _PLAIN.fullmatch(b):
        return False  # a plain number has only one form, so these differ
    from engine.answers.math_equality import math_equal

    return math_equal(a, b)


_PLAIN = re.compile(r"-?\d+(?:\.\d+)?")


# The path's own words.

_STARTS_ANEW = re.compile(
    r"<\|[a-z_]{1,30}\|>|</s>|<start_of_turn>|<end_of_turn>|\[INST\]"
    r"|\n[ \t]*\*{0,2}Q\d{0,4}\*{0,2}[:.]\*{0,2}(?:\s|$)"
    r"|\n[ \t]*(?:#{1,4} ?|\*\*)?(?:Human|User)(?:\*\*)?:"
)
"""Begins a new turn or a new question."""
_MAY_START_ANEW = re.compile(
    r"\n[ \t]*(?:#{1,4} ?|\*\*)?(?:Question|Problem|Exercise|Example|Instruction|Passage"
    r"|Premise|Input|Context|Assistant)\b ?#?\d{0,4}\*{0,2}[:.\n]"
)
"""Begins a new question after the answer, but may be part of the reasoning before it."""
_ANNOTATION = re.compile(r"<<[^<>\n]{0,200}>>")
_CHECKS_ITSELF = re.compile(
    r"\W*(?:wait|but|however|hmm|hold on|actually|let me|let's|let us|check|verif"
    r"|to (?:check|verify)|is th(?:at|is)|does th(?:at|is)|so|thus|therefore|note|also"
    r"|alternatively|action|answer|final|explanation|why)",
    re.I,
)


def own_words(text: str) -> str:
    """The end of the path's own text: outside `<think>`, before another question begins."""
    if "</think>" in text:
        text = text[text.rfind("</think>") + len("</think>") :]
    elif "<think>" in text:
        text = text[: text.find("<think>")]
    for match in _STARTS_ANEW.finditer(text):
        # A path may start with a special token, but not with a new question.
        if text[: match.start()].strip() or match[0].startswith("\n"):
            text = text[: match.start()]
            break
    own = _ANNOTATION.sub("", text[-_SEARCHED:])
    first = _STATEMENT.search(own)
    anew = _MAY_START_ANEW.search(own, first.end()) if first else None
    return own[: anew.start()] if anew else own


# Answer statements.

_SAID = r"(?:is|was|are|be|equals|=|:)"
_STATEMENT = re.compile(
    rf"""
    (?P<hashes>\#{{4}})[ \t]*
    | \\(?:boxed|fbox)\s?(?P<box>\{{)
    | (?:^|\n)[ \t]*\*{{0,3}}A\*{{0,3}}:\*{{0,3}}[ \t]*
    | \bAnswer\(
    | <answer>
    | \b(?:answer|answers)\b(?:\*\*|"|'){{0,3}}
      (?:[ ](?:to|for|of|in|from|among|here|choice|option)\b[^.:?!\n]{{0,120}}?)?
      (?:[ ](?:must|should|would|will|can|may)(?:[ ]only|[ ]therefore)?)?
      (?:[ ]?\*{{0,3}}[ ]?{_SAID}(?![a-z])[ ]?\*{{0,3}}[ ]?){{1,2}}
      (?:(?:therefore|thus|then|simply|indeed)\b[ ,]{{0,2}})?
    | \b(?:correct|right|best|most[ ]likely|most[ ]appropriate|likeliest)[ ]
      (?:option|choice|completion|statement|conclusion|response|ending)\b[^.:?!\n]{{0,60}}?
      [ ]?\*{{0,3}}{_SAID}(?![a-z])[ ]?\*{{0,3}}[ ]?
    | \bI(?:[ ]would|[ ]will|'ll|'d)?[ ](?:choose|select|pick|go[ ]with)[ ]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LETTER_STATEMENT = re.compile(
    r"\b(?:option|choice|answer) ?\*{0,2}[(\[]?\"?([A-J])\b\"?[)\]]?\*{0,2},?"
    r" (?:is|would be|seems|appears|must be)"
    r"(?: to be| likely| probably| clearly| therefore| thus)?,? (?:the )?(?:(?:single|most) )?"
    r"(?:best|correct|right|most|only|likel|accurate|appropriate)"
    r"|[(\[]([A-J])[)\]]\*{0,2},? (?:is|would be) (?:the )?"
    r"(?:best|correct|right|most likely|only)\b"
)
_NEGATED = re.compile(
    r"\W*(?:not|n't|never|neither)\b(?! possible)"
    r"|[^.\n]{0,200}\b(?:which|but (?:it|this|that)) (?:is|are) (?:not\b|incorrect|wrong)",
    re.I,
)
_GIVES_NONE = re.compile(
    r"\W*(?:(?:n't|not) (?:any|one|among|in|on|listed|given|available|here|present|provided)\b"
    r"|none\b|neither\b|unknown|undetermined|cannot be|can't be|impossible|n/?a\b|there is no\b"
    r"|no (?:correct |valid )?(?:answer|option|choice)|undefined|null\b)",
    re.I,
)
_HYPOTHETICAL = re.compile(r"\b(?:if|whether|unless|suppose|assuming)\b[^.,:;\n]{0,40}$", re.I)
_OR_BEFORE = re.compile(r"\bor\W{0,3}(?:Action\W{1,3})?$")
_LETTER_ALONE = re.compile(r"\W*[A-Za-z]\W*$|\([A-Za-z]\)")


def _stated(answer_type: AnswerType, own: str, options: Sequence[str]) -> tuple[str, str] | None:
    """The last answer statement of the type, as (answer, shown).

    A statement that there is no answer ends the search; a statement of another type (`The answer is
    found by adding …`) is skipped.
    """
    places = [(match.start(), match.end(), match) for match in _STATEMENT.finditer(own)]
    if answer_type is AnswerType.CHOICE:
        places += [(match.start(), match.end(), match) for match in _LETTER_STATEMENT.finditer(own)]
        places.sort(key=lambda place: place[:2])
    places = places[: _rambling_from(own, [place[:2] for place in places])]
    for start, end, match in reversed(places[-_TRIED:]):
        before = own[max(0, start - 60) : start]
        if match[0][0].isalpha() and _HYPOTHETICAL.search(before):
            continue
        if match.re is _LETTER_STATEMENT:
            stated = str(match[1] or match[2])
        elif match["box"]:
            stated = _braced(own, end)
        else:
            stated = _statement_text(answer_type, own, end)
        answer = _answer_in(answer_type, stated, options)
        if answer_type is AnswerType.CHOICE:
            if match[0].strip(" \t\n*") == "A:" and not _LETTER_ALONE.match(stated):
                continue  # the first of the options, listed again
            if _OR_BEFORE.search(before) or normalization.names_no_choice(stated, options):
                return None
        if answer is not None:
            return answer, _shown(stated)
        if _GIVES_NONE.match(stated) and answer_type is not AnswerType.SPAN:
            return None
    return None


def _rambling_from(own: str, places: Sequence[tuple[int, int]]) -> int:
    """The number of statements that answer the path's own question.

    After a statement, a blank line and a paragraph with a question (unless the model checks
    itself), the next statement answers another question.
    """
    for number, ((_, end), (start, _)) in enumerate(itertools.pairwise(places), 1):
        gap = own[end:start]
        if "?" not in gap:
            continue
        paragraphs = gap.split("\n\n")[1:]
        if any("?" in text and not _CHECKS_ITSELF.match(text) for text in paragraphs):
            return number
    return len(places)


def _statement_text(answer_type: AnswerType, own: str, start: int) -> str:
    """The rest of a statement's line after the verb, or the next line if it is empty."""
    text = own[start : start + _STATED].lstrip(" \t:*")
    if text.startswith("\n"):
        text = text.lstrip("\n \t")
        # A block of LaTeX starts on a line of its own.
        if answer_type is AnswerType.MATH and text.startswith(("\\[", "$$")):
            close = text.find("\\]" if text.startswith("\\[") else "$$", 2)
            return text[2:close] if close > 0 else text.split("\n", 1)[0]
    return text.split("\n", 1)[0]


def _braced(own: str, start: int) -> str:
    """The content of the braces that open just before `start`; empty if they never close."""
    depth = 1
    for place in range(start, min(len(own), start + 2 * _STATED)):
        if own[place] in "{}" and own[place - 1] != "\\":
            depth += 1 if own[place] == "{" else -1
            if depth == 0:
                return own[start:place]
    return ""


_SENTENCE_END = re.compile(
    r"(?<![\s.][A-Za-z])(?<!^[A-Za-z])(?<!\bSt)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\bJr)(?<!\bSr)"
    r"(?<!\bNo)(?<!\bvs)(?<!\bMt)(?<!\bFt)(?<!\bRs)[.!?]+[\"')\]*]*(?=\s|$)"
)
_DOLLARS = re.compile(r"\$\$?([^$\n]{1,400})\$|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]")
_SMALL_WORDS = re.compile(
    r"(?:simply|just|exactly|about|approximately|therefore|thus|that|:)\s+", re.I
)


def _answer_in(answer_type: AnswerType, stated: str, options: Sequence[str]) -> str | None:  # noqa: PLR0911 - a case for each answer type
    """The canonical answer of one statement."""
    stated = stated.strip()
    if not stated or _NEGATED.match(stated):
        return None
    quoted = re.match(r"[\"'(]+([^\"'()\n]+)[\"')]+", stated)
    match answer_type:
        case AnswerType.NUMBER:
            sentence = _first_sentence(stated)
            return numbers.number(sentence) or numbers.number_in(sentence)
        case AnswerType.CHOICE:
            sentence = _first_sentence(stated)
            whole = quoted[1] if quoted and len(quoted[1]) > 1 else ""
            return (
                normalization.choice(sentence, options)
                or normalization.choice(stated, options)
                or (normalization.choice(whole, options) if whole else None)
            )
        case AnswerType.MATH:
            fenced = _DOLLARS.match(stated)
            if fenced:
                return normalization.math_text(fenced[1] or fenced[2] or fenced[3])
            sentence = _first_sentence(stated)
            inside = _DOLLARS.search(sentence)
            return normalization.math_text(
                inside[1] or inside[2] or inside[3] if inside else sentence
            )
        case AnswerType.SPAN:
            return normalization.span(_first_sentence(_SMALL_WORDS.sub("", stated, count=1)))
        case _:
            return canonical(answer_type, stated, options)


def _first_sentence(text: str) -> str:
    """The first sentence; periods in numbers and after initials do not end it."""
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def _shown(stated: str) -> str:
    """The statement as shown to users: its first sentence, without surrounding marks."""
    return _first_sentence(stated.strip()).strip(" \t\"'`*()[]<>")[:200] or stated.strip()[:200]


# Paths without an answer statement.

_CONCLUDES = re.compile(
    r"(?:^|(?<=[.!?\n]))\W*(?:so|therefore|thus|hence|in total|altogether|in conclusion|finally"
    r"|in summary|overall|this means(?: that)?)\b[, ]*",
    re.I,
)
_VALUE_AT_END = re.compile(r"=\s*\**\s*([^=\n]{1,80})$")
_OPTION_LINE = re.compile(r"^[ \t]{0,8}[(*]{0,3}[A-J][).:]", re.MULTILINE)
_BOLD = re.compile(r"\*\*([^*\n]{1,120})\*\*")


def _concluded(answer_type: AnswerType, own: str, options: Sequence[str]) -> tuple[str, str] | None:  # noqa: PLR0911 - a case for each answer type
    """The answer of a path without an answer statement: a bare answer, or a closing sentence."""
    own = own.strip()
    if _STATEMENT.search(own[-_STATED:]) and answer_type is not AnswerType.SPAN:
        tail_says_none = _last_says_none(own)
        if tail_says_none:
            return None
    alone = own if len(own) <= 200 and "\n" not in own else ""
    last = own.rsplit("\n", 1)[-1].strip()[-_STATED:]
    if answer_type is AnswerType.CHOICE and len(_OPTION_LINE.findall(own)) > 1:
        return None  # the end of a list of the options
    closing = _last_sentence(last)
    # An answer statement that is not of the type is not read in another way.
    alone, last, closing = (
        "" if _STATEMENT.search(text) else text for text in (alone, last, closing)
    )
    match answer_type:
        case AnswerType.NUMBER:
            return _concluded_number(alone, last, closing)
        case AnswerType.CHOICE:
            for text in (alone, last):
                letter = normalization.choice(text, options) if _is_short(text) else None
                if letter:
                    return letter, _shown(text)
        case AnswerType.YES_NO | AnswerType.NLI:
            opening = _first_sentence(own[:_STATED])
            for text in (alone, closing, opening if len(opening.split()) <= 8 else ""):
                answer = canonical(answer_type, _CONCLUDES.sub("", text, count=1), options)
                if answer:
                    return answer, _shown(text)
        case AnswerType.SPAN:
            answer = normalization.span(alone) if _is_short(alone) else None
            return (answer, _shown(alone)) if answer else None
        case AnswerType.MATH:
            fenced = list(_DOLLARS.finditer(closing))
            stated = next((group for group in fenced[-1].groups() if group), "") if fenced else ""
            stated = stated.rsplit("=", 1)[-1] if stated else (alone if len(alone) <= 60 else "")
            answer = normalization.math_text(stated) if stated else None
            return (answer, _shown(stated)) if answer else None
    return None


def _last_says_none(own: str) -> bool:
    """Whether the last statement is that there is no answer."""
    *_, last = _STATEMENT.finditer(own[-_STATED:])
    return _GIVES_NONE.match(own[-_STATED:][last.end() :].lstrip(" \"'(:*")) is not None


def _concluded_number(alone: str, last: str, closing: str) -> tuple[str, str] | None:
    """A bare number, one in bold or after the last equals sign, or the only one in a sentence."""
    for text in (alone, last):
        answer = numbers.number(text) if text else None
        if answer:
            return answer, _shown(text)
    is_sentence = last.endswith((".", "!", "**", "$", "\\)", "\\]"))
    bold = _BOLD.findall(closing)
    candidates = bold[-1:]
    value = _VALUE_AT_END.search(closing.rstrip(" ."))
    if value:
        candidates.append(value[1])
    elif is_sentence and len(set(re.findall(r"\d[\d,.]*\d|\d", closing))) <= 1:
        candidates.append(closing)
    for text in candidates:
        answer = numbers.number(text) or (
            numbers.number_in(text) if text is closing or text in bold else None
        )
        if answer:
            return answer, _shown(text)
    return None


def _last_sentence(line: str) -> str:
    """The last sentence of a line."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line.rstrip())]
    starts = [end for end in ends if end < len(line.rstrip())]
    return line[starts[-1] if starts else 0 :].strip()


def _is_short(text: str) -> bool:
    """Whether a text can be a bare answer."""
    return 0 < len(text) <= 160 and len(text.split()) <= 20
