"""Hostile text of the kinds that models and data sets really contain.

Each string has broken a terminal program before: by markup, escape sequences, text direction, width
or length.
"""

from __future__ import annotations

NASTY = {
    "closing tag": "so [/] the end",
    "closing tag of nothing": "[/foo] and [bold",
    "indexing": "x[1] = a[i]; y[-1] += [b]",
    "link": "[link=file:///etc/passwd]click[/link] [@click=app.quit]here[/]",
    "variable": "costs $x and $foreground, 100% of {it}",
    "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x1b\\ copied",
    "clear screen": "\x1b[2J\x1b[H gone",
    "C1 control": "\x9b2J and \x9d52;c;eA==\x9c",
    "title": "\x1b]0;owned\x07",
    "bell and backspace": "\a\a\b\b\b\x7f",
    "carriage return": "first\rsecond\r\nthird",
    "null": "a\0b",
    "bidi override": "\u202eevitide\u202c \u2066isolated\u2069 \u200fmark",
    "wide": "数学 の 答え は 42 です。" * 4,
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 ✅ 0️⃣ 🇩🇪",
    "combining": "Z̷̢̛̰͎a̴̧̛͓l̶̡̛̗g̵̢̛̺o̷̧̲" * 3,
    "no spaces": "a" * 5000,
    "long line": "word " * 4000,
    "many lines": "line\n" * 500,
    "tabs": "a\tb\t\tc",
    "zero width": "in\u200bvisi\u200dble\ufeff",
    "separators": "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "latex": r"\boxed{\frac{1}{2}} $\sum_{i=0}^{n}$ \[x^2\]",
    "html": "<b>bold</b><script>alert(1)</script>&nbsp;",
    "empty": "",
    "spaces": "   \n  \n ",
    "replacement": "\ufffd\ufffe\uffff",
    "quotes": "'; DROP TABLE path; --",
}

MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\u200b-\u200d\u2060\ufeff"
"""Characters without a width, for a regular expression."""

FORBIDDEN = {
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    "\u200e",
    "\u200f",
    "\u061c",
}
"""Characters that must never reach a terminal as part of a text; line ends come from Textual."""
