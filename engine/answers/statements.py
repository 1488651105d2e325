"""Find the answer statements of a path, such as `The answer is …`, and read the last one."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from engine.answers import choices, normalization, numbers, spans
from engine.answers.formulas.form import math_text
from engine.answers.markup import json_value, tagged
from engine.answers.math_structure import exact_value
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Sequence

STATED = 600
"""Maximum length of an answer statement, in characters."""
_GAP = 100
"""Maximum number of characters between two boxes of a list."""
_TRIED = 20
"""Maximum number of statements that are tried, from the last: most paths have one or two."""

_SAID = r"(?:is|was|are|be|equals|=|:)"
STATEMENT = re.compile(
    rf"""
    (?P<hashes>\#{{4}})[ \t]*
    | \\(?:boxed|fbox)\s?(?P<box>\{{)
    | (?:^|\n)[ \t]*\*{{0,3}}A\*{{0,3}}:\*{{0,3}}[ \t]*
    | \bAnswer\(
    | (?P<tag><answer>)
    | ["'](?:final_?|correct_?)?(?:answer|ans|choice|option|result)["']
      (?P<json>\s{{0,3}}:\s{{0,3}})(?=\S)
    | (?:答案|答え|정답|\b(?:Antwort|Réponse|Respuesta|Risposta|Resposta|Antwoord|Ответ)\b)
      (?:是|为|は|[ ]?\*{{0,2}}:)\*{{0,2}}[ ]?
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
GIVES_NONE = re.compile(
    r"\W*(?:(?:n't|not) (?:any|one|among|in|on|listed|given|available|here|present|provided)\b"
    r"|none\b|neither\b|unknown|undetermined|cannot be|can't be|impossible|n/?a\b|there is no\b"
    r"|no (?:correct |valid )?(?:answer|option|choice)|undefined|null\b)",
    re.I,
)
_CHECKS_ITSELF = re.compile(
    r"\W*(?:wait|but|however|hmm|hold on|actually|let me|let's|let us|check|verif"
    r"|to (?:check|verify)|is th(?:at|is)|does th(?:at|is)|so|thus|therefore|note|also"
    r"|alternatively|action|answer|final|explanation|why)",
    re.I,
)
_HYPOTHETICAL = re.compile(r"\b(?:if|whether|unless|suppose|assuming)\b[^.,:;\n]{0,40}$", re.I)
_OR_BEFORE = re.compile(r"\bor\W{0,3}(?:Action\W{1,3})?$")
_LETTER_ALONE = re.compile(r"\W*[A-Za-z]\W*$|\([A-Za-z]\)")


def stated_answer(
    answer_type: AnswerType, own: str, options: Sequence[str]
) -> tuple[str, str] | None:
    """The last answer statement of the type, as (answer, shown).

    A statement that there is no answer ends the search; a statement of another type (`The answer is
    found by adding …`) is skipped.
    """
    places = [(match.start(), match.end(), match) for match in STATEMENT.finditer(own)]
    if answer_type is AnswerType.CHOICE:
        places += [(match.start(), match.end(), match) for match in _LETTER_STATEMENT.finditer(own)]
        places.sort(key=lambda place: place[:2])
    places = places[: _rambling_from(own, [place[:2] for place in places])]
    for start, _, match in reversed(places[-_TRIED:]):
        before = own[max(0, start - 60) : start]
        if match[0][0].isalpha() and _HYPOTHETICAL.search(before):
            continue
        stated, answer = _read(answer_type, match, own, options)
        if answer_type is AnswerType.CHOICE:
            if match[0].strip(" \t\n*") == "A:" and not _LETTER_ALONE.match(stated):
                continue  # the first of the options, listed again
            if _OR_BEFORE.search(before) or choices.names_no_choice(stated, options):
                return None
        if answer is not None:
            return answer, as_shown(stated)
        if GIVES_NONE.match(stated) and answer_type is not AnswerType.SPAN:
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


def _read(
    answer_type: AnswerType, match: re.Match[str], own: str, options: Sequence[str]
) -> tuple[str, str | None]:
    """What a statement says, and the canonical answer in it."""
    end = match.end()
    if match.re is _LETTER_STATEMENT:
        stated = str(match[1] or match[2])
    elif match["box"]:
        stated = _braced(own, end)
        if answer_type is AnswerType.MATH:
            stated = _several(own, match.start(), stated)
            return stated, math_text(stated)
    elif match["json"]:
        return _whole_answer(answer_type, json_value(own, end), options)
    else:
        content = tagged(own, end) if match["tag"] else None
        if content is not None:
            return _whole_answer(answer_type, content, options)
        stated = _statement_text(own, end)
    return stated, _answer_in(answer_type, stated, options)


_TAG = re.compile("</?answer>")


def _whole_answer(
    answer_type: AnswerType, content: str, options: Sequence[str]
) -> tuple[str, str | None]:
    """The content of a tag, or the line of it that holds the answer, and its canonical answer."""
    one_line = " ".join(content.split())
    if answer_type is AnswerType.MATH and " " not in one_line:
        return one_line, math_text(one_line)  # `5!` is a factorial
    if answer_type is AnswerType.SPAN:
        return one_line, spans.span(one_line)
    lines = content.splitlines() or [""]
    # Of several lines, a short last or first one is the answer, and the others explain it.
    parts = sorted((lines[-1].strip(), lines[0].strip()), key=len)
    for part in (one_line,) if answer_type is AnswerType.MATH else (*parts, one_line):
        answer = _answer_in(answer_type, part, options)
        if answer is not None:
            return part, answer
    return one_line, None


def _statement_text(own: str, start: int) -> str:
    """The rest of a statement's line after the verb, or the next line if it is empty."""
    text = _TAG.split(own[start : start + STATED], maxsplit=1)[0].lstrip(" \t:*")
    if text.startswith("\n"):
        text = text.lstrip("\n \t")
        # A block of LaTeX starts on a line of its own.
        if text.startswith(("\\[", "$$")):
            close = text.find("\\]" if text.startswith("\\[") else "$$", 2)
            return text[2:close] if close > 0 else text.split("\n", 1)[0]
    return text.split("\n", 1)[0]


def _braced(own: str, start: int) -> str:
    """The content of the braces that open just before `start`; empty if they never close."""
    depth = 1
    for place in range(start, min(len(own), start + 2 * STATED)):
        if own[place] in "{}" and own[place - 1] != "\\":
            depth += 1 if own[place] == "{" else -1
            if depth == 0:
                return own[start:place]
    return ""


_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_BETWEEN_BOXES = re.compile(
    r"(?!.*(?:\bnot\b|\binstead\b|\brather\b|\bi\.e\.|\bso\b|[.!?](?:\s|$)|\n\s*\n))"
    r".*(?:,|;|\band\b|\bor\b|\\quad)",
    re.DOTALL,
)
"""Between two boxes of a list of answers."""


def _several(own: str, start: int, last: str) -> str:
    """The content of a box, after those of the boxes before it in its sentence."""
    contents = [last]
    for match in reversed(list(_BOX.finditer(own, max(0, start - 2 * STATED), start))):
        content = _braced(own, match.end())
        gap = own[match.end() + len(content) + 1 : start]
        if not content or len(gap) > _GAP or not _BETWEEN_BOXES.match(gap):
            break
        contents.insert(0, content)
        start = match.start()
    return _listed(contents)


def _listed(formulas: Sequence[str]) -> str:
    """Several formulas as a list; `$\\frac{1}{2}$ or $0.5$` is one answer."""
    forms = dict.fromkeys(math_text(formula) for formula in formulas)
    values = {form and exact_value(form) for form in forms}
    if len(forms) == 1 or (len(values) == 1 and None not in values):
        return formulas[-1]
    return ", ".join(formulas)


_ABBREVIATIONS = (
    "St Mr Ms Mrs Dr Jr Sr No vs Mt Ft Rs Gen Lt Col Capt Sgt Maj Gov Sen Rep Prof Rev Pres"
    " Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec"
)
_NOT_AFTER = "".join(rf"(?<!\b{word})" for word in _ABBREVIATIONS.split())
_NEW_SENTENCE = (
    r"(?:He|She|It|They|We|You|I|This|That|These|Those|There|The|His|Her|Its|Their|So|Therefore"
    r"|Thus|Hence|However|But|And|In|On|If|As|Because|Since|When|After)\b"
)
SENTENCE_END = re.compile(
    rf"(?=[.!?])(?<![\s.][A-Za-z])(?<!^[A-Za-z]){_NOT_AFTER}[.!?]+[\"')\]*]*(?=\s|$)"
    # "the U.S. They won" are two sentences, "J. K. Rowling" is one name.
    rf"|\.(?<=\.[A-Za-z]\.)(?=\s+{_NEW_SENTENCE})"
)
DOLLARS = re.compile(r"\$\$?([^$\n]{1,400})\$|\\\((.{1,400}?)\\\)|\\\[(.{1,400}?)\\\]")
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
            sentence = first_sentence(stated)
            return numbers.number(sentence) or numbers.number_in(sentence)
        case AnswerType.CHOICE:
            sentence = first_sentence(stated)
            whole = quoted[1] if quoted and len(quoted[1]) > 1 else ""
            return (
                choices.choice(sentence, options)
                or choices.choice(stated, options)
                or (choices.choice(whole, options) if whole else None)
            )
        case AnswerType.MATH:
            return _formula_in(stated)
        case AnswerType.SPAN:
            return spans.span(first_sentence(_SMALL_WORDS.sub("", stated, count=1)))
        case AnswerType.YES_NO:
            return normalization.yes_no(stated)
        case AnswerType.NLI:
            return normalization.inference(stated, options)


_JOINS = re.compile(r"\s*(?:,|;|,?\s?and|,?\s?or)\s*")


def _formula_in(stated: str) -> str | None:
    """The first formula of a sentence, with those that `,`, `and` or `or` join to it."""
    sentence = first_sentence(stated)
    if stated[len(sentence) :].startswith(("!.", "!,")):
        sentence += "!"  # `5!.` is a factorial and a period
    fenced = DOLLARS.match(stated) or DOLLARS.search(sentence)
    if fenced is None:
        return math_text(sentence)
    formulas = [fenced]
    while (join := _JOINS.match(stated, formulas[-1].end())) and (
        follows := DOLLARS.match(stated, join.end())
    ):
        formulas.append(follows)
    return math_text(_listed([match[1] or match[2] or match[3] for match in formulas]))


def first_sentence(text: str) -> str:
    """The first sentence; periods in numbers and after initials do not end it."""
    end = SENTENCE_END.search(text)
    return text[: end.start()] if end else text


def as_shown(stated: str) -> str:
    """The statement as shown to users: its first sentence, without surrounding marks."""
    return first_sentence(stated.strip()).strip(" \t\"'`*()[]<>")[:200] or stated.strip()[:200]
