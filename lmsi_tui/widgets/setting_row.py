"""An editable setting: its name, value, meaning, and a validation error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from rich.cells import cell_len
from textual import on
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.widgets.option_cycler import OptionCycler

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.jobs.job_settings import Setting


class SettingRow(Vertical):
    """One setting; posts a message when it is edited and shows the error it is given."""

    DEFAULT_CSS: ClassVar[str] = """
    SettingRow { height: auto; }
    SettingRow Horizontal { height: 1; }
    SettingRow .name { width: 27; color: $text-muted; }
    SettingRow:focus-within .name { color: $foreground; text-style: bold; }
    SettingRow.-changed .name { color: $accent; text-style: bold; }
    SettingRow Input { width: 24; background: $panel; }
    SettingRow Input:focus { background: $block-cursor-blurred-background; }
    SettingRow OptionCycler { width: 24; }
    SettingRow .meaning {
        width: 1fr; height: 1; padding-left: 2; color: $text-muted;
    }
    SettingRow .wrong { display: none; height: auto; padding-left: 27; color: $text-error; }
    SettingRow.-wrong .wrong { display: block; }
    """

    class Edited(Message):
        """The value was edited."""

        def __init__(self, path: str, value: object, differs: bool) -> None:
            """Args:
            path: of the setting, such as `sample.m`.
            value: the parsed value; the text if it cannot be parsed.
            differs: whether it differs from the initial value.
            """
            self.path, self.value, self.differs = path, value, differs
            super().__init__()

    class Reached(Message):
        """The setting got the focus."""

        def __init__(self, setting: Setting) -> None:
            """Args:
            setting: the setting.
            """
            self.setting = setting
            super().__init__()

    def __init__(self, setting: Setting) -> None:
        """Args:
        setting: with its current value.
        """
        super().__init__()
        self.setting = setting
        self._text = shown(setting.value)
        if not setting.choices:
            self._text = printable(self._text)  # shown only; an unedited value is not read back

    def compose(self) -> ComposeResult:
        """Name, field and meaning on one line, the error below."""
        with Horizontal():
            yield Static(content(self.setting.label), classes="name", markup=False)
            if self.setting.choices:
                yield OptionCycler(self.setting.choices, self._text)
            else:
                yield Input(self._text, compact=True, select_on_focus=False)
            yield Static(classes="meaning", markup=False)
        yield Static(classes="wrong", markup=False)

    def on_resize(self) -> None:
        """Show as much of the meaning as fits; the whole text is below, for the focused setting."""
        meaning = self.query_one(".meaning", Static)
        meaning.update(content(first_clauses(self.setting.meaning, meaning.content_size.width)))

    def on_descendant_focus(self) -> None:
        """Report the focus."""
        self.post_message(self.Reached(self.setting))

    @on(Input.Changed)
    @on(OptionCycler.Changed)
    def report_edit(self, message: Input.Changed | OptionCycler.Changed) -> None:
        """Report the edited value."""
        message.stop()
        differs = message.value != self._text
        self.set_class(differs, "-changed")
        value = read_value(message.value, self.setting.value)
        self.post_message(self.Edited(self.setting.path, value, differs))

    def show_error(self, sentence: str) -> None:
        """Show a validation error; an empty text hides it."""
        self.set_class(bool(sentence), "-wrong")
        self.query_one(".wrong", Static).update(content(sentence))


def first_clauses(text: str, width: int) -> str:
    """The longest beginning of a text that fits and ends with a clause; empty if none does."""
    text = printable(text)
    if cell_len(text) <= width:
        return text
    starts = [text[: match.start()] for match in re.finditer(r"[.,;:](?= )|(?<!\bin) (?=\()", text)]
    fits = [
        part for part in starts if cell_len(part) <= width and part.count("(") == part.count(")")
    ]
    return fits[-1] if fits else ""


def shown(value: Any) -> str:
    """A value as text, in the notation that `read_value` reads."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_value(text: str, current: Any) -> object:
    """Parse text as the type of the current value; return the text if that fails.

    The validation of the settings then reports it.
    """
    text = text.strip()
    if isinstance(current, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(current, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(current, int | float):
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text
