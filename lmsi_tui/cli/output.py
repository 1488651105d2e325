"""Output of the command line: sentences for the user, or JSON lines for programs.

Any encoding works: characters that it lacks are replaced, instead of ending the command.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING

from lmsi_tui.formatting.sanitize import json_line, printable

if TYPE_CHECKING:
    import argparse
    from typing import TextIO

SIMILAR = {
    "…": "...",
    "·": "-",
    "–": "-",
    "—": "-",
    "−": "-",
    "→": "->",
    "←": "<-",
    "▸": ">",
    "≥": ">=",
    "≤": "<=",
    "≠": "!=",
    "≈": "~",
    "±": "+/-",
    "×": "x",
    "÷": "/",
    "√": "sqrt",
    "✓": "+",
    "✗": "x",
    "◆": "*",
    "•": "*",
    "∅": "-",
    "“": '"',
    "”": '"',
    "„": '"',
    "‘": "'",
    "’": "'",
}
"""What to print for a character that the encoding lacks."""
BLOCKS = range(0x2580, 0x25A0)
LINES = range(0x2500, 0x2580)


def accept_any_character() -> None:
    """Replace characters that the encoding of stdout or stderr lacks by similar ones."""
    codecs.register_error("similar", _similar)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="similar")


def _similar(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: the start of what cannot be encoded, in ASCII."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(map(_ascii, text)), error.end


def _ascii(character: str) -> str:
    if character in SIMILAR:
        return SIMILAR[character]
    code = ord(character)
    if code in LINES or code in BLOCKS:
        return "#" if code in BLOCKS else "-"
    # Not NFKD: it turns 5² into 52.
    letter = unicodedata.normalize("NFD", character)[0]
    return letter if letter.isascii() else "?"


def flush_output() -> None:
    """Write what is buffered.

    Raises:
        BrokenPipeError: the reader has exited.
        OSError: the disk is full.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def output_works() -> bool:
    """Whether stdout still takes what is printed."""
    if sys.stdout is None:
        return True
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except (OSError, ValueError):
        return False
    return True


def discard(stream: TextIO | None) -> None:
    """Let the interpreter's last flush of a broken stream go nowhere instead of fail."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


def complain(sentence: str) -> None:
    """Print an error message on stderr, if that is possible."""
    try:
        print(f"lmsi-tui: {printable(sentence)}", file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def emit(event: dict[str, object]) -> None:
    """Print one JSON object on one line of stdout."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_utf_8 = codecs.lookup(encoding).name == "utf-8"
    # Escaped, a character that the encoding lacks is still the same one for the reader.
    print(json_line(event, only_ascii=not is_utf_8), flush=True)


def say(args: argparse.Namespace, sentence: str) -> None:
    """Print a sentence for the user; nothing with `--json`."""
    if not getattr(args, "json", False):
        print(printable(sentence))
