"""Damage a valid file at random: bytes, lines of text, JSON values, and safetensors headers."""

from __future__ import annotations

import copy
import json
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from random import Random

SIZES = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""Values that lengths, counts and offsets are replaced by."""

TOKENS = (
    *(b"\0", b"\r", b"\r\n", b"\n", b"\t", b'"', b"'", b",", b";", b"[", b"{", b"}", b"]", b"="),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\x1b]52;c;eA==\x07", b"\x9b2J", b"\xc2\x9b2J"),
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 5000, b"0x10", b"null", b"true", b"nan", b"inf"),
    *(b'"\\ud800"', b"\xe2\x80\xae", b"Z\xcc\xb7\xcc\xa2" * 40, b"#", b"[[", b"1979-05-27", b"\\"),
    *(b"[" * 5000, b'{"a":' * 3000, b"x" * 70_000, b"[bold]", b"[/]", b"=cmd|' /C calc'!A0"),
)
"""Texts that are inserted into text files."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**70, -(2**70), 10**400, 0.5, 1e308),
    *(float("nan"), float("inf"), "", "x", "1", "../../x", "/dev/zero", "\ud800", "\0", "\x1b[2J"),
    *("a" * 70_000, "[/]", "word " * 500, [], {}, [[]], [{}], [None], ["x"], [1, 2], {"": ""}),
    *({"text": ["a"], "label": []}, {"a": {"a": {"a": 1}}}, [float("nan")], ["x", 1, None, {}]),
)
"""Values that JSON values are replaced by."""


def bytes_of(content: bytes, random: Random) -> bytes:
    """One to four bytes, spans or numbers of a file are changed."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        # Most readers fail in the first bytes, so these are chosen more often.
        end = random.choice((16, 256, len(data), len(data)))
        at = random.randrange(max(1, min(end, len(data))))
        match random.randrange(8):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                data[at : at + 8] = struct.pack("<Q", random.choice(SIZES))
            case 2:
                data[at : at + 4] = struct.pack("<I", random.choice(SIZES) & 0xFFFFFFFF)
            case 3:
                del data[at:]
            case 4:
                del data[at : at + random.choice((1, 4, 8, 64, 1024))]
            case 5:
                data[at:at] = bytes(random.choice((1, 8, 4096)))
            case 6:
                data[at:at] = data[at : at + random.choice((1, 8, 64, 1024))]
            case _:
                for place in range(at, min(len(data), at + 16)):
                    data[place] ^= 1 << random.randrange(8)
    return bytes(data)


def text(content: bytes, random: Random) -> bytes:
    """A token is inserted, a line repeated, moved or cut, or a number replaced; or bytes change."""
    if random.random() < 0.2:
        return bytes_of(content, random)
    data = bytearray(content)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(data) + 1)
        lines = bytes(data).split(b"\n")
        match random.randrange(5):
            case 0 | 1:
                data[at:at] = random.choice(TOKENS)
            case 2:
                lines.insert(random.randrange(len(lines)), random.choice(lines))
                data = bytearray(b"\n".join(lines))
            case 3:
                place = random.randrange(len(lines))
                lines[place] = lines[place][: random.randrange(len(lines[place]) + 1)]
                data = bytearray(b"\n".join(lines))
            case _:
                digits = [n for n, byte in enumerate(data) if 48 <= byte < 58] or [at]
                place = random.choice(digits)
                data[place : place + 1] = random.choice(TOKENS)
    return bytes(data)


def json_text(content: bytes, random: Random) -> bytes:
    """A value of a JSON document is replaced, removed or renamed; or its text changes."""
    if random.random() < 0.25:
        return text(content, random)
    document = json.loads(content)
    for _ in range(random.randint(1, 3)):
        document = _change(document, random)
    try:
        written = json.dumps(document)
    except RecursionError:
        written = "[" * 5000
    if random.random() < 0.1:  # a key twice
        written = written.replace("{", '{"question": 7, "config": 7, "model_type": 7, ', 1)
    return written.encode()


def json_lines(content: bytes, random: Random) -> bytes:
    """A line of a JSON Lines file changes, or the text."""
    if random.random() < 0.25:
        return text(content, random)
    lines = content.strip().split(b"\n")
    place = random.randrange(len(lines))
    lines[place] = json_text(lines[place], random)
    return b"\n".join(lines)


def safetensors(content: bytes, random: Random) -> bytes:
    """The JSON header of a safetensors file changes, or its length, or bytes anywhere."""
    (length,) = struct.unpack("<Q", content[:8])
    header, weights = content[8 : 8 + length], content[8 + length :]
    match random.randrange(4):
        case 0:
            return bytes_of(content, random)
        case 1:
            return struct.pack("<Q", random.choice(SIZES)) + content[8:]
        case _:
            changed = json_text(header.strip(), random)
            return struct.pack("<Q", len(changed)) + changed + weights


def _change(document: Any, random: Random) -> Any:
    """The document with one value replaced, removed, nested or renamed."""
    places = list(_places(document))
    if not places:
        return random.choice(VALUES)
    parent, key = random.choice(places)
    match random.randrange(6):
        case 0:
            del parent[key]
        case 1:
            parent[key] = [parent[key]]
        case 2 if isinstance(parent, dict):
            parent[random.choice(["question", "answer", "\x1b[2J", "", "x" * 500])] = parent[key]
        case 3:
            deep: Any = 0
            for _ in range(random.choice((3, 100, 300))):
                deep = [deep]
            parent[key] = deep
        case _:
            parent[key] = copy.deepcopy(random.choice(VALUES))
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every value inside a document, as its container and its key, without those far inside."""
    places: list[tuple[Any, Any]] = []
    containers = [document]
    while containers and len(places) < 5000:
        parent = containers.pop(0)
        if isinstance(parent, dict):
            keys: list[Any] = list(parent)
        elif isinstance(parent, list):
            keys = list(range(min(len(parent), 50)))
        else:
            continue
        places += [(parent, key) for key in keys]
        containers += [parent[key] for key in keys]
    return places
