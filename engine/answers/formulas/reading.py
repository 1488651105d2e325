r"""Read LaTeX, as written by models and people, into pieces.

Reading never changes the meaning: `\\` stays the end of a row, `157_{8}` is `157_8`, `\dfrac12` is
`\frac{1}{2}`, `12\,000` is `12000`. Delimiters, spacing commands and currency signs vanish.
"""

from __future__ import annotations

import re
from fractions import Fraction

from engine.answers.forms.numbers import number_text
from engine.answers.formulas import names
from engine.answers.formulas.pieces import Piece, solid, written

_DEPTH = 40
"""Maximum depth of nested groups: deeper input is not an answer."""


class NotLatexError(Exception):
    """The text is not LaTeX: its braces do not match."""


_GAP = (
    r"(?:\\[,;:! >]|~|\\(?:thinspace|medspace|thickspace|negthinspace|enspace|quad|qquad|space)"
    r"(?![A-Za-z])|\\hspace\*?\{[^{}]*\}|\s)"
)
_SPACE = re.compile(rf"{_GAP}+")
_COMMA = r"(?:\{\s*,\s*\}|\{\s*,\\!\s*\}|,\s*\\!|\\!\s*,)"
_GROUPED = re.compile(
    rf"([1-9]\d{{0,2}}(?:{_GAP}*{_COMMA}{_GAP}*\d{{3}}(?!\d))+"
    rf"|[1-9]\d{{0,2}}(?:{_GAP}+\d{{3}}(?!\d|\s*/))+)(?:(\.\d+(?:{_GAP}\d+)*)|(?!\d))"
)
_COMMAS = re.compile(r"([1-9]\d{0,2}(?:,\d{3})+)(?![\d,])(\.\d+)?(?!\d|,\d)")
_COMMAS_WITH_ZERO = re.compile(
    r"([1-9]\d{0,2}(?:,\d{3})*,0\d\d(?:,\d{3})*)(?![\d,])(\.\d+)?(?!\d|,\d)"
)
_DECIMAL_COMMA = re.compile(r"(\d+)\{,\}(\d+)")
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\overline\s?\{\s?(\d+)\s?\}|\\(?:bar|dot)\s?(?:\{\s?(\d+)\s?\}|(\d)))(?![\d_])"
)
_DIGITS = re.compile(r"\d{2,}")
_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_GROUPED_DECIMALS = re.compile(r"\d*\.\d{3}(?:(?:\\[,;:! ]|~)\d{3})*(?:\\[,;:! ]|~)\d{1,3}(?!\d)")
_POWER_OF_TEN = re.compile(r"[eE]([-+]?\d{1,2})(?![\w.])")
_LETTERS = re.compile(r"[A-Za-z]+")
_HALF_OF_DAY = re.compile(r"([ap])\.?\s?m\b\.?", re.IGNORECASE)
_FORMULA = re.compile(r"[-+(]?\s?\d")
"""Text that begins so is not words: `\\text{12 cm}`, `\\text{3 and -3}`."""
_NAMED = re.compile(r"\\([A-Za-z]+)\*?")
_ROW_END = re.compile(r"\\\\(?:\s*\[[^\]\[]{0,10}\])?|\\cr(?![A-Za-z])")


def pieces_of(text: str) -> list[Piece]:
    """The pieces of a formula.

    Raises:
        NotLatexError: braces do not match, or groups are nested too deep.
    """
    reader = _Reader("".join(names.ascii_latex(character) for character in text))
    return solid(reader.pieces(grouped=False))


class _Reader:
    """Reads LaTeX from left to right; `place` is the index of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self.depth = 0
        self.brackets = 0

    def pieces(self, *, grouped: bool) -> list[Piece]:
        """The pieces up to the end of the text, or of the group that began before `place`."""
        found: list[Piece] = []
        while self.place < len(self.text):
            character = self.text[self.place]
            if character == "}":
                if not grouped:
                    raise NotLatexError
                self.place += 1
                return found
            self._piece(character, found)
        if grouped:
            raise NotLatexError
        return found

    def _piece(self, character: str, found: list[Piece]) -> None:
        match = _SPACE.match(self.text, self.place)
        if match:
            self.place = match.end()
            found.append(Piece("space", " "))
        elif self.text.startswith("...", self.place) and found and "." in found[-1].text:
            self.place += 3  # after a decimal; elsewhere it ends a sentence
            found.append(Piece("command", r"\ldots"))
        elif (
            character.isdecimal()
            or (character == "." and self.text[self.place + 1 : self.place + 2].isdecimal())
            or (character == "." and _REPEATING.match(self.text, self.place))
        ):
            found.append(self._number())
        elif character.isascii() and character.isalpha():
            self._letters(found)
        elif character == "\\":
            self._command(found)
        elif character == "{":
            self._group(found)
        elif character in "^_":
            self._script(character, found)
        elif found and self.text.startswith("**", self.place):
            self.place += 1
            self._script("^", found)
        elif character in "$" + names.CURRENCY:
            self.place += 1
        elif character == "%":
            self.place += 1
            found.append(Piece("unit", r"\%"))
        else:
            self.place += 1
            self._mark(character, found)

    def _mark(self, character: str, found: list[Piece]) -> None:
        if character in "([":
            self.brackets += 1
            found.append(Piece("open", character))
        elif character in ")]":
            self.brackets -= 1
            found.append(Piece("close", character))
        else:
            found.append(Piece("mark" if not character.isalpha() else "letters", character))

    def _number(self) -> Piece:
        text, place = self.text, self.place
        repeating = _REPEATING.match(text, place)
        if repeating:
            self.place = repeating.end()
            whole, fixed, *repeated = repeating.groups()
            again = next(digits for digits in repeated if digits)
            value = Fraction(int((whole or "") + fixed or "0"), 10 ** len(fixed)) + Fraction(
                int(again), (10 ** len(again) - 1) * 10 ** len(fixed)
            )
            return _fraction_piece(value)
        grouped = _GROUPED.match(text, place)
        if grouped is None:
            # `(1,234)` is a pair, but `(1,034)` cannot be one.
            grouped = (_COMMAS if self.brackets <= 0 else _COMMAS_WITH_ZERO).match(text, place)
        decimal = None if grouped else _DECIMAL_COMMA.match(text, place)
        if grouped:
            self.place = grouped.end()
            digits = re.sub(r"\D", "", grouped[1])
            part = re.sub(r"[^\d.]", "", grouped[2] or "")
            written = digits + part
        elif decimal:
            self.place = decimal.end()
            written = f"{decimal[1]}.{decimal[2]}"
        else:
            plain = _GROUPED_DECIMALS.match(text, place) or _NUMBER.match(text, place)
            if plain is None:  # a digit of another script
                self.place += 1
                return Piece("letters", text[place])
            self.place = plain.end()
            written = re.sub(r"[^\d.]", "", plain[0])
        power = _POWER_OF_TEN.match(text, self.place)
        if power:
            self.place = power.end()
            return Piece("number", number_text(Fraction(written) * Fraction(10) ** int(power[1])))
        return Piece("number", _digits(written))

    def _letters(self, found: list[Piece]) -> None:
        match = _LETTERS.match(self.text, self.place)
        assert match is not None
        half = _HALF_OF_DAY.match(self.text, self.place)
        after = next((piece for piece in reversed(found) if piece.kind != "space"), None)
        if half and after and after.kind == "number":
            self.place = half.end()
            found.append(Piece("words", f"{half[1].lower()}.m"))
        elif match[0] in names.WRITTEN_OUT:
            self.place = match.end()
            self._named(names.WRITTEN_OUT[match[0]], found)
        else:
            self.place = match.end()
            found.append(Piece("letters", match[0]))

    def _command(self, found: list[Piece]) -> None:
        row = _ROW_END.match(self.text, self.place)
        named = _NAMED.match(self.text, self.place)
        if row:
            self.place = row.end()
            found.append(Piece("mark", r"\\"))
        elif named:
            self.place = named.end()
            self._named(named[1], found)
        else:
            symbol = self.text[self.place : self.place + 2]
            self.place += 2
            self._symbol(symbol, found)

    def _symbol(self, symbol: str, found: list[Piece]) -> None:
        if symbol == r"\{":
            self.brackets += 1
            found.append(Piece("open", symbol))
        elif symbol == r"\}":
            self.brackets -= 1
            found.append(Piece("close", symbol))
        elif symbol == r"\%":
            found.append(Piece("unit", r"\%"))
        elif symbol not in (r"\(", r"\)", r"\[", r"\]", r"\$", "\\"):
            found.append(Piece("mark", symbol))

    def _named(self, name: str, found: list[Piece]) -> None:  # noqa: PLR0912 - a branch for each kind
        name = names.RENAMED.get(name, name)
        if name in names.DROPPED:
            self._skip_space()
            if self.text[self.place : self.place + 1] == "." and name in ("left", "right"):
                self.place += 1
        elif name in names.WITH_ARGUMENT:
            self._raw_group()
        elif name in names.SYMBOLS:
            symbol = names.SYMBOLS[name]
            if symbol.startswith("\\"):
                self._symbol(symbol, found)
            else:
                self._mark(symbol, found)
        elif name in names.TEXT:
            self._words(name, found)
        elif name in names.ALPHABETS:
            found.extend(self._argument(number=False))
        elif name == "frac":
            found.append(self._fraction())
        elif name in ("binom", "sqrt"):
            root = self._option() if name == "sqrt" else ""
            arguments = "".join(
                f"{{{written(self._argument(number=name == 'sqrt'))}}}"
                for _ in range(2 if name == "binom" else 1)
            )
            found.append(Piece("value", rf"\{name}{root}{arguments}"))
        elif name in names.ACCENTS:
            argument = written(self._argument(number=False))
            found.append(Piece("value", rf"\{name}{{{argument}}}"))
        elif name in ("begin", "end"):
            found.append(Piece("mark", rf"\{name}{{{self._raw_group()}}}"))
            aligned = found[-1].text == r"\begin{array}"
            if aligned and self.text[self.place : self.place + 1] == "{":
                self._raw_group()  # the alignment of the columns
        elif name in ("degree", "circ"):
            found.append(
                Piece("unit", r"^{\circ}") if name == "degree" else Piece("command", r"\circ")
            )
        elif name in ("over", "choose"):
            self._infix("frac" if name == "over" else "binom", found)
        elif name in names.OPERATORS:
            found.append(Piece("mark", rf"\{name}"))
        else:
            found.append(Piece("command", rf"\{name}"))

    def _infix(self, name: str, found: list[Piece]) -> None:
        """`{a \\over b}` and `{n \\choose k}`: everything before and after, in this group."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotLatexError
        above = written(found)
        rest: list[Piece] = []
        while self.place < len(self.text) and self.text[self.place] != "}":
            self._piece(self.text[self.place], rest)
        below = written(rest)
        self.depth -= 1
        found[:] = [Piece("value", rf"\{name}{{{above}}}{{{below}}}")]

    def _fraction(self) -> Piece:
        above, below = (written(self._argument(number=False)) for _ in range(2))
        whole = above.isdecimal() and below.isdecimal()
        return Piece("fraction" if whole else "value", rf"\frac{{{above}}}{{{below}}}")

    def _words(self, name: str, found: list[Piece]) -> None:
        raw = self._raw_group()
        words = " ".join(re.sub(rf"{_GAP}+|[${names.CURRENCY}]", " ", raw).split())
        half = _HALF_OF_DAY.fullmatch(words)
        if half:
            words = f"{half[1].lower()}.m"
        base = re.fullmatch(r"\(?(?:in )?base[- ](\w+)\)?", words, re.IGNORECASE)
        before = next((piece.kind for piece in reversed(found) if piece.kind != "space"), "")
        is_unit = before in ("number", "fraction", "value", "close", "unit") and (
            name != "operatorname" and re.fullmatch(r"[A-Zabcdfghj-w]\.?|\W*\w/\w\W*", words)
        )
        if not words:
            found.append(Piece("space", " "))
        elif base and before == "number":
            found.append(Piece("script", f"_{_braced(names.BASES.get(base[1], base[1]))}"))
        elif words in names.WRITTEN_OUT:
            self._named(names.WRITTEN_OUT[words], found)
        elif is_unit or (re.search(r"[A-Za-z]{2}", words) and not _FORMULA.match(words)):
            found.append(Piece("words", words))
        else:
            inner = _Reader(words)
            inner.depth = self.depth + 1
            if inner.depth > _DEPTH:
                raise NotLatexError
            found.extend(inner.pieces(grouped=False))

    def _script(self, mark: str, found: list[Piece]) -> None:
        self.place += 1
        start = self.place
        content = self._argument(number=True)
        log_of_digits = _DIGITS.fullmatch(self.text[start : self.place].lstrip())
        if found and found[-1].text == r"\log" and log_of_digits and self._is_item_over():
            self.place -= len(log_of_digits[0]) - 1  # `\log_28` is `\log_2 8`
            content = [Piece("number", log_of_digits[0][0])]
        inside = written(content)
        if mark == "^" and inside in (r"\circ", "o"):
            found.append(Piece("unit", r"^{\circ}"))
            return
        if mark == "^" and re.fullmatch("'+", inside):
            found.append(Piece("mark", inside))
            return
        if mark == "^" and inside in ("st", "nd", "rd", "th"):
            found.append(Piece("words", inside))
            return
        if mark == "_":
            words = re.sub(r"^base ?", "", inside)
            inside = names.BASES.get(words, words)
        found.append(Piece("script", f"{mark}{_braced(inside)}"))

    def _group(self, found: list[Piece]) -> None:
        inside = self._argument(number=False)
        scripted = self.text[self.place : self.place + 1] in ("^", "_")
        after_command = bool(found) and found[-1].kind == "command"
        if after_command or (scripted and len(solid(inside)) > 1):
            found.append(Piece("value", f"{{{written(inside)}}}"))
        else:
            found.extend(inside)

    def _argument(self, *, number: bool) -> list[Piece]:
        """The next group, or the next token; a whole number if `number`, as in `2^10`."""
        self._skip_space()
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotLatexError
        rest = self.text[self.place : self.place + 1]
        found: list[Piece] = []
        outer, self.brackets = self.brackets, 0
        if rest == "{":
            self.place += 1
            found = self.pieces(grouped=True)
        elif rest.isdecimal():
            # `x^12 345` is not `x^{12345}`.
            written = _NUMBER.match(self.text, self.place) if number else None
            digits = written[0] if written else rest
            self.place += len(digits)
            found = [Piece("number", digits)]
        elif rest in ("-", "+") and number:
            self.place += 1
            found = [Piece("mark", rest), *self._argument(number=True)]
        elif rest == "(" and number:
            self.place += 1
            found = self._parenthesis()
        elif rest.isascii() and rest.isalpha():
            self.place += 1
            found = [Piece("letters", rest)]
        elif rest and rest not in "}^_":
            self._piece(rest, found)
        self.brackets = outer
        self.depth -= 1
        return found

    def _parenthesis(self) -> list[Piece]:
        """What is between parentheses, as in `x^(n+1)`; both are kept if they do not match."""
        found: list[Piece] = []
        level = 1
        while self.place < len(self.text) and self.text[self.place] != "}":
            self._piece(self.text[self.place], found)
            if found and found[-1].text in ("(", ")"):
                level += 1 if found[-1].text == "(" else -1
            if level == 0:
                return found[:-1]
        raise NotLatexError

    def _option(self) -> str:
        """The index of a root, `[3]`."""
        self._skip_space()
        match = re.compile(r"\[([^\[\]{}]{1,20})\]").match(self.text, self.place)
        if match is None:
            return ""
        self.place = match.end()
        return "" if match[1].strip() == "2" else f"[{match[1].strip()}]"

    def _raw_group(self) -> str:
        """The text of the next group, as written."""
        self._skip_space()
        if self.text[self.place : self.place + 1] != "{":
            self.place += 1
            return self.text[self.place - 1 : self.place]
        start, depth = self.place + 1, 0
        for place in range(self.place, len(self.text)):
            if self.text[place] in "{}" and self.text[place - 1] != "\\":
                depth += 1 if self.text[place] == "{" else -1
                if depth == 0:
                    self.place = place + 1
                    return self.text[start:place]
        raise NotLatexError

    def _is_item_over(self) -> bool:
        rest = self.text[self.place :].lstrip()
        return not rest or rest[0] in "+-=,;)]}.&"

    def _skip_space(self) -> None:
        match = _SPACE.match(self.text, self.place)
        if match:
            self.place = match.end()


# Writing.


def _digits(written: str) -> str:
    return number_text(Fraction(written))


def _fraction_piece(value: Fraction) -> Piece:
    if value.denominator == 1:
        return Piece("number", str(value.numerator))
    return Piece("fraction", rf"\frac{{{value.numerator}}}{{{value.denominator}}}")


def _braced(inside: str) -> str:
    return inside if len(inside) == 1 else f"{{{inside}}}"
