"""Keys of a person's own: `[keys]` of the configuration, read, checked, and handed to Textual."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from textual.keys import KEY_NAME_REPLACEMENTS, Keys, _character_to_key

from lmsi_tui.shell.commands import APP, SCREENS, commands_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PLAIN = {str(one.value) for one in Keys} | set(KEY_NAME_REPLACEMENTS.values())
HELD = {"ctrl", "shift", "alt", "super", "meta", "hyper"}


def keymap_of(keys: Mapping[str, str]) -> dict[str, str]:
    """The `[keys]` of the configuration as Textual names keys: `?` is `question_mark` there."""
    return {id_: ",".join(_names(one)) for id_, one in keys.items()}


def _names(keys: str) -> list[str]:
    named = []
    for key in keys.split(","):
        mark = key.strip()
        named.append(_character_to_key(mark) if len(mark) == 1 else mark.lower())
    return [name for name in named if name]


def wrong_keys(keys: Mapping[str, str]) -> list[str]:
    """What is wrong with a person's `[keys]`, a sentence each: unknown names, and two commands of
    a screen on one key. Every screen must be loaded.
    """
    known = {one.id for own in (*SCREENS.values(), APP) for one in own}
    sentences = [
        f"[keys]: there is no command {id_!r}; the help (?) of each screen shows their names."
        for id_ in keys
        if id_ not in known
    ]
    sentences += [
        f"[keys]: {id_} has no key; the key of a comma is called comma."
        for id_, text in keys.items()
        if not _names(text)
    ]
    for id_, text in keys.items():
        sentences += [
            f"[keys]: {name!r} is no key ({id_}); write such as a, F, ctrl+t, f5, space or escape."
            for name in _names(text)
            if not _is_key(name)
        ]
    mapped = keymap_of(keys)
    clashes: defaultdict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for screen in SCREENS:
        for first, second in combinations(commands_of(screen), 2):
            if keys.keys() & {first.id, second.id}:
                both = set(_names(mapped.get(first.id, first.key)))
                for key in both & set(_names(mapped.get(second.id, second.key))):
                    clashes[key][first.id, second.id] += 1
    for key, pairs in clashes.items():
        # The app's own commands are on every screen; a clash of theirs is told once.
        (((first_id, second_id), _),) = pairs.most_common(1)
        sentences.append(
            f"[keys]: {key!r} would be {first_id} and {second_id}; give one of them another key."
        )
    return sentences


def _is_key(name: str) -> bool:
    *held, last = name.split("+")
    plain = last in PLAIN or len(last) == 1
    if not plain:
        try:
            plain = bool(unicodedata.lookup(last.replace("_", " ")))
        except KeyError:
            plain = False
    return plain and set(held) <= HELD
