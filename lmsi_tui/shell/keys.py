"""Custom keys: `[keys]` of the configuration, checked and converted for Textual."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from itertools import combinations
from typing import TYPE_CHECKING

from textual.keys import KEY_NAME_REPLACEMENTS, Keys, _character_to_key

from lmsi_tui.shell.commands import APP, SCREENS, commands_of

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_NAMES = {str(key.value) for key in Keys} | set(KEY_NAME_REPLACEMENTS.values())
MODIFIERS = {"ctrl", "shift", "alt", "super", "meta", "hyper"}


def keymap_of(keys: Mapping[str, str]) -> dict[str, str]:
    """The `[keys]` of the configuration with Textual's names: `?` becomes `question_mark`."""
    return {id_: ",".join(_names(text)) for id_, text in keys.items()}


def _names(keys: str) -> list[str]:
    names = []
    for key in keys.split(","):
        text = key.strip()
        names.append(_character_to_key(text) if len(text) == 1 else text.lower())
    return [name for name in names if name]


def wrong_keys(keys: Mapping[str, str]) -> list[str]:
    """The errors in `[keys]`, one sentence each: unknown names, and two commands on one key.

    Every screen must have been imported.
    """
    ids = {command.id for commands in (*SCREENS.values(), APP) for command in commands}
    sentences = [
        f"[keys]: there is no command {id_!r}; the help (?) of each screen shows the names."
        for id_ in keys
        if id_ not in ids
    ]
    sentences += [
        f"[keys]: {id_} has no key; the comma key is named comma."
        for id_, text in keys.items()
        if not _names(text)
    ]
    for id_, text in keys.items():
        sentences += [
            f"[keys]: {name!r} is not a key ({id_}); examples: a, F, ctrl+t, f5, space, escape."
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
        # The app's commands are on every screen: report a clash with them only once.
        (((first_id, second_id), _),) = pairs.most_common(1)
        sentences.append(
            f"[keys]: {key!r} is bound to both {first_id} and {second_id}; change one of them."
        )
    return sentences


def _is_key(name: str) -> bool:
    *modifiers, last = name.split("+")
    is_key = last in KEY_NAMES or len(last) == 1
    if not is_key:
        try:
            is_key = bool(unicodedata.lookup(last.replace("_", " ")))
        except KeyError:
            is_key = False
    return is_key and set(modifiers) <= MODIFIERS
