"""Find the answer statements of a path, such as `The answer is …`, and read the last one."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from engine.answers.forms import choices, normalization, numbers, spans
from engine.answers.forms.markup import json_value, tagged
from engine.answers.formulas.form import VARIABLE, math_text
from engine.answers.formulas.math_structure import exact_value
from engine.answers.reading.hedges import is_conditional, is_of_others
from engine.answers.reading.labels import GIVES_NONE, LINE_LABEL, answer_text
from engine.answers.reading.sentences import DOLLARS, STATED, as_shown, first_sentence, item_start
from store.enums import AnswerType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GAP = 100
"""Maximum number of characters between two boxes of a list."""
_UNCLOSED = 40
"""Maximum length of what follows a brace that is never closed."""
_LOOKED_AT = 200
"""Maximum number of statements that are looked at."""
_TRIED = 20
"""Maximum number of statements that are tried, from the last: most paths have one or two."""

_SAID = r"(?:is|was|are|be|equals|=|:)"
STATEMENT = re.compile(
    rf"""
    (?P<hashes>\#{{4}})[ \t]*
    | \\(?:boxed|fbox)\s?(?P<box>\{{)
    | (?P<label>(?:^|\n){LINE_LABEL})
    | \bAnswer\(
    | (?P<tag><answer>)
    | ["'](?:final_?|correct_?)?(?:answer|ans|choice|option|result)
      (?:_(?:choice|option|letter|text))?["']
      (?P<json>\s{{0,3}}:\s{{0,3}})(?=\S)
    | (?P<foreign>)
      (?:答案|答え|정답|\b(?:Antwort|Réponse|Respuesta|Risposta|Resposta|Antwoord|Ответ)\b
       (?:[ ](?:correct[ae]|corretta|correta|finale?)\b)?)
      (?:是|为|は|[ ]?\*{{0,2}}:)\*{{0,2}}[ ]?
    | (?P<answer>\b|(?<=_))(?:answers?|ans)\b(?:\*\*|"|'){{0,3}}
      (?:[ ](?:to|for|of|in|from|among|here|choice|option)\b[^.:?!\n]{{0,120}}?)?
      (?:[ ](?:must|should|would|will|can|may)(?:[ ]only|[ ]therefore)?)?
      (?:[ ]?\*{{0,3}}[ ]?{_SAID}(?![a-z])[ ]?\*{{0,3}}[ ]?){{1,2}}
      (?:(?:therefore|thus|then|simply|indeed|actually|really|in[ ]fact)\b[ ,]{{0,2}})?
    | \b(?:correct|right|best|most[ ]likely|most[ ]appropriate|likeliest)[ ]
      (?:option|choice|completion|statement|conclusion|response|ending)\b[^.:?!\n]{{0,60}}?
      [ ]?\*{{0,3}}{_SAID}(?![a-z])[ ]?\*{{0,3}}[ ]?
    | \bI(?:[ ]would|[ ]will|'ll|'d)?[ ](?:choose|select|pick|go[ ]with)[ ]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAY_BEGIN = re.compile(
    r"####|\\(?:boxed|fbox)|<answer>|ans(?=w|\W|$)|correct |right |best |most |likeliest "
    r"|i(?= |'ll|'d)|[\"'](?=final|correct|ans|choice|option|result)"
    r"|\n(?=[ \t>#•*_-]*(?:a|the |my |your |final|correct|short|numeric|full|sol|resp|result"
    r"|output|conclusion|grand|total))|答|정답|antwo|réponse|resp|risp|отв"
)
"""Where a statement in lower case can begin, apart from the start of the text.

`STATEMENT` alone is slow to search for, since it must be tried at every character.
"""
_LETTER_STATEMENT = re.compile(
    r"(?:option|choice|answer)(?<!\w.{6}) ?\*{0,2}[(\[]?\"?([A-J])\b\"?[)\]]?\*{0,2},?"
    r" (?:is|would be|seems|appears|must be)"
    r"(?: to be| likely| probably| clearly| therefore| thus)?,? (?:the )?(?:(?:single|most) )?"
    r"(?:best|correct|right|most|only|likel|accurate|appropriate)"
    r"|[(\[]([A-J])[)\]]\*{0,2},? (?:is|would be) (?:the )?"
    r"(?:best|correct|right|most likely|only)\b"
)
_VERB = re.compile(
    r"(?:\b(?:is|was|are|be|equals)\b|是|为|は)[ *:=]*"
    r"(?:(?:therefore|thus|then|simply|indeed|actually|really|in[ ]fact)[ ,]*)?$",
    re.IGNORECASE,
)
_BEGINS_WITH_NUMBER = re.compile(r"[^.\d]{0,12}\d")
_NEGATED = re.compile(
    r"\W*(?:not|n't|never|neither)\b(?! possible)"
    r"|[^.\n]{0,200}\b(?:which|but (?:it|this|that)) (?:is|are) (?:not\b|incorrect|wrong)",
    re.I,
)
_CHECKS_ITSELF = re.compile(
    r"\W*(?:wait|but|however|hmm|hold on|actually|let me|let's|let us|check|verif"
    r"|to (?:check|verify)|is th(?:at|is)|does th(?:at|is)|so|thus|therefore|note|also"
    r"|alternatively|action|answer|final|explanation|why)",
    re.I,
)
_BEFORE = 160
"""Characters before a statement that say whose answer it is."""
_OR_BEFORE = re.compile(r"\bor\W{0,3}(?:Action\W{1,3})?$")
_LETTER_ALONE = re.compile(r"\W*[A-Za-z]\W*$|\([A-Za-z]\)")


def find_statements(text: str) -> Iterator[re.Match[str]]:
    """The answer statements of a text, in order: `STATEMENT.finditer`, but faster."""
    lowered = text.lower()
    if len(lowered) != len(text):  # some letters have a longer lower case
        yield from STATEMENT.finditer(text)
        return
    end = 0
    first = STATEMENT.match(text)
    if first:
        yield first
        end = first.end()
    for place in _MAY_BEGIN.finditer(lowered):
        if place.start() < end:
            continue
        match = STATEMENT.match(text, place.start())
        if match:
            yield match
            end = match.end()


def stated_answer(
    answer_type: AnswerType, own: str, options: Sequence[str]
) -> tuple[str | None, str, int] | None:
    """The last answer statement of the type, as (answer, shown, end of its first words).

    The answer is None if it says that there is none, which ends the search. A statement of another
    type (`The answer is found by adding …`) is skipped, as is a label that opens the reasoning, and
    an answer of others (`Many people think the answer is 8`). One under a condition counts only if
    there is no other.
    """
    places = _statements(answer_type, own, options)
    places = places[: _rambling_from(own, [match.span() for match, _ in places])]
    conditional: tuple[str | None, str, int] | None = None
    for match, text in reversed(places[-_TRIED:]):
        before = own[max(0, match.start() - _BEFORE) : match.start()]
        if is_of_others(match, before):
            continue
        conditionally = is_conditional(match, before, own)
        bullets = _BULLETS.match(own, match.end()) if answer_type is AnswerType.SPAN else None
        if bullets:
            stated, answer = _whole_answer(answer_type, bullets[0], options)
        elif text is None:
            stated, answer = _read(answer_type, match, own, options)
            if answer_type is AnswerType.NUMBER and _is_one_of_several_boxes(match, own, stated):
                return None, stated, match.end()
        else:
            stated, answer = text, _answer_in(answer_type, text, options)
        if answer_type is AnswerType.CHOICE:
            if match[0].strip(" \t\n*") == "A:" and not _LETTER_ALONE.match(stated):
                continue  # the first of the options, listed again
            if _OR_BEFORE.search(before) or choices.names_no_choice(stated, options):
                return None
        if answer is not None:
            if not conditionally:
                return answer, as_shown(stated), match.end()
            conditional = conditional or (answer, as_shown(stated), match.end())
            continue
        says_none = GIVES_NONE.match(stated) and answer_type is not AnswerType.SPAN
        is_several = answer_type is AnswerType.NUMBER and _BEGINS_WITH_NUMBER.match(stated)
        if says_none or is_several:  # is_several: 5 or 6
            return None, stated, match.end()
    return conditional


def _statements(
    answer_type: AnswerType, own: str, options: Sequence[str]
) -> list[tuple[re.Match[str], str | None]]:
    """The answer statements in the order of the text, with the answer behind a label as written."""
    found = list(find_statements(own))[-_LOOKED_AT:]
    if answer_type is AnswerType.CHOICE:
        found = sorted([*found, *_LETTER_STATEMENT.finditer(own)], key=lambda match: match.span())
    places: list[tuple[re.Match[str], str | None]] = []
    for match in found:
        if not _is_label(match, own):
            places.append((match, None))
            continue
        line, end = _statement_text(own, match.end())
        label = own[match.start() : match.end()] + own[match.end() : end - len(line)]
        text = answer_text(answer_type, label, line, own, end, options)
        if text is not None:
            places.append((match, text))
    return places


def _is_label(match: re.Match[str], own: str) -> bool:
    """Whether a statement is a label (`Answer:`) and not a sentence (`The answer is`)."""
    if match.re is _LETTER_STATEMENT:
        return False
    if match["tag"]:
        return tagged(own, match.end()) is None
    if match["label"] or match["hashes"]:
        return True
    is_word = match["answer"] is not None or match["foreign"] is not None
    return is_word and _VERB.search(match[0]) is None


def first_statement_end(own: str) -> int | None:
    """Where the first statement ends that may be an answer of any type."""
    for match in itertools.islice(find_statements(own), _LOOKED_AT):
        if not _is_label(match, own):
            return match.end()
        line, _ = _statement_text(own, match.end())
        if 0 < len(line.split()) <= 5:
            return match.end()
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
        if answer_type is AnswerType.NUMBER:
            return stated, numbers.number(stated) or _answer_in(answer_type, stated, options)
    elif match["json"]:
        return _whole_answer(answer_type, json_value(own, end), options)
    else:
        content = tagged(own, end) if match["tag"] else None
        if content is not None:
            return _whole_answer(answer_type, content, options)
        stated, _ = _statement_text(own, end)
    return stated, _answer_in(answer_type, stated, options)


_BULLET = re.compile(r"(?:^|\s*\n)\s*(?:[-*•]|\(?\d{1,2}[.)])[ \t]+(?=\S)")
_BULLETS = re.compile(r"[ \t:*]*(?:\n\s{0,4}(?:[-*•]|\(?\d{1,2}[.)])[ \t]+\S[^\n]{0,100}){2,}")
_TAG = re.compile("</?answer>")


def _whole_answer(
    answer_type: AnswerType, content: str, options: Sequence[str]
) -> tuple[str, str | None]:
    """The content of a tag, or the line of it that holds the answer, and its canonical answer."""
    if answer_type is AnswerType.SPAN and "\n" in content.strip():
        content = _BULLET.sub(", ", content).removeprefix(", ")
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


_WITHOUT_WORDS = re.compile(r"\A(?:(?:`{3}\w*|[^\w\n$\\]*)[ \t]*\n\s*)+")
"""Lines below a heading: a rule, or the start of a block of code."""


def _statement_text(own: str, start: int) -> tuple[str, int]:
    """The rest of a statement's line after the verb, or the next line, and where it ends."""
    text = _TAG.split(own[start : start + STATED], maxsplit=1)[0]
    body = text.lstrip(" \t:*")
    if body.startswith("\n"):
        body = _WITHOUT_WORDS.sub("", body.lstrip("\n \t"), count=1)
        body = body[item_start(body) :]
        # A block of LaTeX starts on a line of its own.
        if body.startswith(("\\[", "$$")):
            close = body.find("\\]" if body.startswith("\\[") else "$$", 2)
            if close > 0:
                return body[2:close], start + len(text) - len(body) + close + 2
    line = body.split("\n", 1)[0]
    return line, start + len(text) - len(body) + len(line)


def _braced(own: str, start: int) -> str:
    """The content of the braces that open just before `start`, which a short end may not close."""
    depth = 1
    for place in range(start, min(len(own), start + 2 * STATED)):
        if own[place] in "{}" and own[place - 1] != "\\":
            depth += 1 if own[place] == "{" else -1
            if depth == 0:
                return own[start:place]
    rest = own[start:].strip()
    return rest.rstrip(" .$") if depth == 1 and len(rest) <= _UNCLOSED and "\n" not in rest else ""


_BOX = re.compile(r"\\(?:boxed|fbox)\s?\{")
_BETWEEN_BOXES = re.compile(
    r"(?!.*(?:\bnot\b|\binstead\b|\brather\b|\bi\.e\.|\bso\b|[.!?](?:\s|$)|\n\s*\n))"
    r".*(?:,|;|\band\b|\bor\b|\\quad)",
    re.DOTALL,
)
"""Between two boxes of a list of answers."""
_NAMED_VALUE = re.compile(rf"(?<![A-Za-z\\])({VARIABLE})\s*=\s*$")
_NAME_LENGTH = 40


def _several(own: str, start: int, last: str) -> str:
    """The content of a box, after those of the boxes before it in its sentence.

    `x=\\boxed{3}` and `y=\\boxed{4}` keep their names, because their order means something.
    """
    contents, names = [last], [_name_before(own, start)]
    for match in reversed(list(_BOX.finditer(own, max(0, start - 2 * STATED), start))):
        content = _braced(own, match.end())
        gap = own[match.end() + len(content) + 1 : start]
        if not content or len(gap) > _GAP or not _BETWEEN_BOXES.match(gap):
            break
        contents.insert(0, content)
        start = match.start()
        names.insert(0, _name_before(own, start))
    if len(set(names)) == len(names) > 1 and all(names):
        contents = [f"{name}={content}" for name, content in zip(names, contents, strict=True)]
    return listed(contents)


def _name_before(own: str, start: int) -> str:
    """The variable whose value begins at `start`, as in `x = 5`; else empty."""
    named = _NAMED_VALUE.search(own[max(0, start - _NAME_LENGTH) : start])
    return named[1] if named else ""


def _is_one_of_several_boxes(match: re.Match[str], own: str, content: str) -> bool:
    """Whether a statement is the last of several boxes in a sentence with different content."""
    is_box = match.re is STATEMENT and match["box"] is not None
    return is_box and _several(own, match.start(), content) != content


def listed(formulas: Sequence[str]) -> str:
    """Several formulas as a list; `$\\frac{1}{2}$ or $0.5$` is one answer."""
    forms = dict.fromkeys(math_text(formula) for formula in formulas)
    values = {form and exact_value(form) for form in forms}
    if len(forms) == 1 or (len(values) == 1 and None not in values):
        return formulas[-1]
    return ", ".join(formulas)


_SMALL_WORDS = re.compile(
    r"\A(?:simply|just|exactly|about|approximately|therefore|thus|that|:)\s+", re.I
)


def _answer_in(answer_type: AnswerType, stated: str, options: Sequence[str]) -> str | None:  # noqa: PLR0911 - a case for each answer type
    """The canonical answer of one statement."""
    stated = stated.strip()
    instead = _INSTEAD.match(stated)
    stated = instead[1] if instead else stated.removeprefix("— ")
    if not stated or _NEGATED.match(stated):
        return None
    quoted = re.match(r"[\"'(]+([^\"'()\n]+)[\"')]+", stated)
    match answer_type:
        case AnswerType.NUMBER:
            sentence = _number_sentence(stated)
            if _UNKNOWN.match(sentence):
                return None
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
            return spans.span(
                spans.without_remarks(first_sentence(_SMALL_WORDS.sub("", stated, count=1)))
            )
        case AnswerType.YES_NO:
            return normalization.yes_no(stated)
        case AnswerType.NLI:
            return normalization.inference(stated, options)


_INSTEAD = re.compile(
    r"\W*not [^.,;\n]{1,40}[,;] "
    r"(?:but (?:rather |instead )?(?!it\b|I\b)|it(?:'s| is) |rather )(\S.*)",
    re.I | re.DOTALL,
)
"""`not 12, but 14` gives 14."""
_UNKNOWN = re.compile(
    r"\W*(?:unknown|undetermined|indeterminate|undefined|impossible|can ?not|can't)\b", re.I
)
_BELONGS_TO_NUMBER = re.compile(r"!(?=[.,]|\s?[=*/×·]|\s[a-z])|\.{3}")
_JOINS = re.compile(r"\s*(?:,|;|,?\s?and|,?\s?or)\s*")


def _number_sentence(stated: str) -> str:
    """The first sentence, with marks at its end that belong to a number: `5!.`, `0.333...`."""
    sentence = first_sentence(stated)
    belongs = _BELONGS_TO_NUMBER.match(stated, len(sentence))
    if belongs is None or not sentence[-1:].isdigit():
        return sentence
    return stated[: belongs.end()] + first_sentence(stated[belongs.end() :])


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
    return math_text(listed([match[1] or match[2] or match[3] for match in formulas]))
