"""The names of LaTeX commands, letters and characters that are read as one notation."""

from __future__ import annotations

import unicodedata

DROPPED = frozenset([
    "left", "right", "middle", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr",
    "biggl", "biggr", "Biggl", "Biggr", "displaystyle", "textstyle", "scriptstyle", "limits",
    "nolimits", "rm", "bf", "it", "mathstrut", "strut", "hline", "nonumber",
    "tiny", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge",
])  # fmt: skip
"""Commands that change only the look."""
RENAMED = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom",
    "le": "leq", "leqslant": "leq", "ge": "geq", "geqslant": "geq", "ne": "neq",
    "varnothing": "emptyset", "rightarrow": "to", "longrightarrow": "to", "dots": "ldots",
    "cdots": "ldots", "infin": "infty", "bullet": "cdot", "ast": "cdot", "iff": "Leftrightarrow",
}  # fmt: skip
SYMBOLS = {
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lparen": "(", "rparen": ")",
    "vert": "|", "lvert": "|", "rvert": "|", "mid": "|", "lt": "<", "gt": ">", "colon": ":",
    "prime": "'",
}  # fmt: skip
RELATIONS = frozenset([
    "leq", "geq", "neq", "in", "notin", "subset", "approx", "equiv", "sim", "to", "cong", "mapsto",
])  # fmt: skip
OPERATORS = RELATIONS | {"cdot", "times", "div", "pm", "mp", "cup", "cap", "setminus"}
TEXT = frozenset([
    "text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mbox", "hbox",
    "mathrm", "operatorname",
])  # fmt: skip
ALPHABETS = frozenset(
    ["mathbf", "boldsymbol", "bm", "mathit", "mathsf", "boxed", "fbox", "mathord", "underline"]
)
WITH_ARGUMENT = frozenset(["color", "textcolor", "tag", "label", "phantom", "hphantom", "vphantom"])
"""Commands that are dropped with their first argument."""
ACCENTS = frozenset(["mathbb", "mathcal", "overline", "bar", "vec", "hat", "tilde", "widehat"])
"""Commands whose argument is written in braces: `\\mathbb R` is `\\mathbb{R}`."""
FUNCTIONS = frozenset([
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
    "log", "ln", "exp",
])  # fmt: skip
WRITTEN_OUT = {name: name for name in FUNCTIONS} | {
    "sqrt": "sqrt", "pi": "pi", "infinity": "infty", "infty": "infty", "theta": "theta",
}  # fmt: skip
CURRENCY = "€£¥₹"
UNICODE = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∗": "*",
    "÷": r"\div ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "π": r"\pi ",
    "∞": r"\infty ", "√": r"\sqrt ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "°": r"^{\circ}", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ",
    "ℝ": r"\mathbb{R}", "′": "'", "’": "'", "∘": r"\circ ", "…": r"\ldots ", "→": r"\to ",
}  # fmt: skip
BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip


def ascii_latex(character: str) -> str:
    """LaTeX of a character that is not ASCII."""
    if character.isascii():
        return character
    if character in UNICODE:
        return UNICODE[character]
    kind, *codes = unicodedata.decomposition(character).split() or [""]
    if not kind.startswith("<"):
        return character
    plain = "".join(chr(int(code, 16)) for code in codes)
    if kind == "<fraction>" and "\u2044" in plain:
        above, below = plain.split("\u2044")
        return rf"\frac{{{above}}}{{{below}}}"
    marks = {"<super>": f"^{{{plain}}}", "<sub>": f"_{{{plain}}}", "<noBreak>": " "}
    return marks.get(kind, plain if kind in ("<wide>", "<compat>") else character)
