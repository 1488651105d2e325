"""The letter that a statement gives: as a letter, or as the text of an option."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.answers.forms.markup import half_width, without_markup
from engine.answers.forms.normalization import LETTERS
from engine.answers.forms.numbers import LONGEST, number, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABEL = re.compile(
    r"""\W*(?i:(?:the\s)?(?:(?:correct|right|best)\s)?(?:answer|option|choice|letter)\b\W*)?
    (?:(?P<upper>[A-Z])(?:[)\].:,;!"}]|'(?!\w)|$|\s?[-–—]\s)|[(\[](?P<in>[a-z])[)\]]
       |(?P<lower>[a-z])(?:[)\]]|[.:](?:\s|$)|$))""",
    re.VERBOSE,
)
_BARE = re.compile(r"\W*(?:(?i:the )?(?i:option|choice|letter) )?([A-Z]) (?=(\w+))")
_AFTER_A = {"because", "since", "as", "is", "which", "with", "for", "based", "due"}
_AFTER_I = {"because", "since", "is", "as"}
_PRONOUN = re.compile(r"\W*I, (?!because|since|as\b|which|not\b|the\b)[a-z]")
_LETTER_BEHIND = re.compile(
    r"""(?:\b(?:which|that|this|it)\s(?:is|was|must\sbe|would\sbe|matches|corresponds\sto|means
              |is\sgiven\sby|makes\sit)
          |\b(?:corresponding\sto|matching|i\.?e\.?|so|hence|thus)|[(,;:–—-])
        \W{0,3}(?i:the\s)?(?:(?:correct|right)\s)?(?i:option|choice|answer|letter)\b
        (?:\sis)?\W{0,3}(?P<name>[A-Z]\b(?!['’])|[a-z](?=[).,;]|$))
      |\bmaking\s(?:option\s|choice\s)?[(\[]?(?P<made>[A-Z])[)\]]?\sthe\s(?:correct|right|best)
      |(?:=>|->|→)\s?(?P<arrow>[A-Z])\W*$
      |(?<=\s)[(\[](?P<end>[A-Za-z])[)\]]\W*$""",
    re.VERBOSE,
)
_SEVERAL = re.compile(
    r"\W*(?:(?:either|both|options?|choices?)\W+)*[(\[]?([A-Za-z])[)\]]?"
    r"(?:\s?,\s?(?:or|and)?\s?|\s(?:or|and)\s|\s?[/&]\s?)(?:maybe |perhaps |possibly )?"
    r"(?:option |choice )?"
    r"(?:[(\[]([A-Za-z])[)\]]|([A-Z])\b(?!['\w]| (?!or\b|and\b)[a-z]))"
)
_RULED_OUT = re.compile(
    r"\W*(?:(?:hence|so|thus|therefore|clearly|then)\b\W*)?(?:the )?(?:option |choice |answer )?"
    r"[(\[]?[A-J][)\]]?,? (?:(?:is|can be|could be|may be|might be|would be|was|must be)"
    r" (?:also |still |clearly |therefore )?(?:not\b|incorrect|wrong|false|invalid|impossible"
    r"|possible|plausible|unlikely|excluded|ruled out|eliminated|out\b)"
    r"|(?:can ?not|could not|does not|can['’]t|couldn['’]t|isn['’]t|wasn['’]t|doesn['’]t)\b)",
    re.I,
)
_NONE = re.compile(
    r"\b(?:none|neither|not (?:any |one )?(?:of|in|among|listed))\b"
    r"|\b(?:no|not a) (?:correct|valid|right|such|suitable) (?:answer|option|choice)\b"
)
_NONE_OPTION = re.compile(
    r"none(?: of (?:the|these|them|those|above|all).{0,20})?|no correct answer"
)
_ORDINALS = ("first", "second", "third", "fourth", "fifth")
_COUNTED = re.compile(
    r"\W*(?:the )?(?:(?:option|choice|answer|number|no\.)(?: number)? #?(?P<digit>\d)"
    rf"|(?P<word>{'|'.join(_ORDINALS)}) (?:option|choice|answer|statement|alternative))\W*",
    re.IGNORECASE,
)
_NOT_WORDS = re.compile(r"[^\w.+\-/%√^²³]+")


def _bare_text(text: str) -> str:
    """The words of an option or a statement, for comparison."""
    words = _NOT_WORDS.sub(" ", plain(without_markup(text)).casefold()).strip(" .")
    return re.sub(r"^(?:the|an?) (?=\w)", "", words).replace(". ", " ")


def choice(text: str, options: Sequence[str] = ()) -> str | None:
    """The letter that `text` gives, or whose option it spells out.

    Args:
        text: such as `(b)`, `B`, `option B`, `b) the moon`, `the moon`.
        options: texts of the choices; without them any letter from A to J is a choice.

    Returns:
        An upper-case letter; None for no option or more than one.
    """
    line = _line(text)
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    if names_no_choice(line, options):
        return None
    labeled = _LABEL.match(line)
    if labeled and not _PRONOUN.match(line):
        letter = (labeled["upper"] or labeled["in"] or labeled["lower"]).upper()
        return letter if letter in letters else None
    spelled_out = option_with_text(line, options)
    if spelled_out:
        return spelled_out
    unlabeled = _BARE.match(line)
    if unlabeled and unlabeled[1] in letters and not _is_word(unlabeled):
        return unlabeled[1]
    return _letter_behind(line, options) if options else None


def option_with_text(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option whose text this is; None unless there is exactly one."""
    words = _bare_text(text)
    return _only([words == _bare_text(option) for option in options]) if words else None


def _letter_behind(line: str, options: Sequence[str]) -> str | None:
    """The option meant by a text, which may be followed by its letter: `15 km, which is option B`.

    None if the letter contradicts the text.
    """
    named = list(_LETTER_BEHIND.finditer(line))
    if not named:
        return _option_meant(line, options)
    meant = _option_meant(line[: named[0].start()].rstrip(" ,;:("), options)
    if meant is None and named[0]["end"]:
        return None
    said = {next(filter(None, match.groups())).upper() for match in named} | {meant or ""} - {""}
    letter = said.pop()
    return letter if letter in LETTERS[: len(options)] and not said else None


def _line(text: str) -> str:
    return plain(without_markup(half_width(text[:LONGEST]))).lstrip("\"'")


def _is_word(unlabeled: re.Match[str]) -> bool:
    """Whether the letter is a word: `A bird` and `I think`, but not `A because`."""
    follows = {"A": _AFTER_A, "I": _AFTER_I}.get(unlabeled[1])
    return follows is not None and unlabeled[2].lower() not in follows


def names_no_choice(text: str, options: Sequence[str]) -> bool:
    """Whether `text` names several options, rules one out, or has a letter without an option."""
    line = _line(text)
    labeled = _LABEL.match(line)
    letters = LETTERS[: len(options)] if options else LETTERS[:10]
    outside = labeled and labeled["upper"] and labeled["upper"] not in letters
    several = _SEVERAL.match(line) or re.match(r"\W*(?:either|both)\b", line)
    return bool(outside or several or _RULED_OUT.match(line))


def _option_meant(line: str, options: Sequence[str]) -> str | None:
    """The only option that a statement without a letter can refer to."""
    spelled_out = option_with_text(line, options)
    if spelled_out:
        return spelled_out
    words, bare = _bare_text(line), [_bare_text(option) for option in options]
    if _NONE.search(words):
        return _only([bool(_NONE_OPTION.fullmatch(option)) for option in bare])
    counted = _COUNTED.fullmatch(line)
    if counted:
        return _counted(counted, options)
    value = number(line)
    if value is None:
        return _option_within(words, bare)
    same = _only([number(option) == value for option in options])
    # "The answer is 2" is the second option if no option contains a number.
    if same is None and value.isdigit() and not any(re.search(r"\d", text) for text in options):
        return LETTERS[int(value) - 1] if 1 <= int(value) <= len(options) else None
    return same


def _counted(counted: re.Match[str], options: Sequence[str]) -> str | None:
    """The letter of `option 2` or `the second option`; None if `2` is another option's text."""
    if counted["word"]:
        place = _ORDINALS.index(counted["word"].lower())
    else:
        place = int(counted["digit"]) - 1
    if not 0 <= place < len(options):
        return None
    same = _only([number(option) == counted["digit"] for option in options])
    return LETTERS[place] if same in (None, LETTERS[place]) else None


def _option_within(words: str, bare: Sequence[str]) -> str | None:
    """The only option whose text the words contain, or that contains the words."""
    padded = f" {words} "
    contained = [len(option) > 2 and f" {option} " in padded for option in bare]
    longest = [
        inside
        and not any(
            other_inside and option != other and option in other
            for other_inside, other in zip(contained, bare, strict=True)
        )
        for inside, option in zip(contained, bare, strict=True)
    ]
    if any(longest):
        return _only(longest)
    long_enough = len(words) >= 12 or len(words.split()) >= 2
    return _only([long_enough and f" {words} " in f" {option} " for option in bare])


def _only(chosen: Sequence[bool]) -> str | None:
    """The letter of the chosen option; None unless exactly one is chosen."""
    return LETTERS[chosen.index(True)] if sum(chosen) == 1 else None
