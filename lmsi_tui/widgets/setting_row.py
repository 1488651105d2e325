"""A setting that can be changed: its name, its value, what it means, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from lmsi_tui.text import content
from lmsi_tui.widgets.choice import Choice

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.plan import Setting


class SettingRow(Vertical):
    """One setting; tells when it is changed and shows the sentence that it is given."""

    DEFAULT_CSS: ClassVar[str] = """
    SettingRow { height: auto; }
    SettingRow Horizontal { height: auto; }
    SettingRow .name { width: 27; color: $text-muted; }
    SettingRow.-changed .name { color: $accent; text-style: bold; }
    SettingRow Input { width: 18; }
    SettingRow Choice { width: 18; }
    SettingRow .meaning { width: 1fr; height: auto; padding-left: 2; color: $text-muted; }
    SettingRow .wrong { display: none; height: auto; padding-left: 27; color: $text-error; }
    SettingRow.-wrong .wrong { display: block; }
    """

    class Edited(Message):
        """The value is another one."""

        def __init__(self, path: str, value: object) -> None:
            """Args:
            path: of the setting, such as `sample.m`.
            value: as the settings take it; text where it cannot be read as what it should be.
            """
            self.path, self.value = path, value
            super().__init__()

    def __init__(self, setting: Setting) -> None:
        """Args:
        setting: as it is now.
        """
        super().__init__()
        self.setting = setting
        self._text = shown(setting.value)

    def compose(self) -> ComposeResult:
        """Name, field and meaning on one line, the complaint below."""
        with Horizontal():
            yield Static(content(self.setting.path), classes="name", markup=False)
            if self.setting.choices:
                yield Choice(self.setting.choices, self._text)
            else:
                yield Input(self._text, compact=True, select_on_focus=False)
            yield Static(content(self.setting.meaning), classes="meaning", markup=False)
        yield Static(classes="wrong", markup=False)

    @on(Input.Changed)
    @on(Choice.Changed)
    def tell(self, message: Input.Changed | Choice.Changed) -> None:
        """Say what the setting would be now."""
        message.stop()
        self.set_class(message.value != self._text, "-changed")
        self.post_message(
            self.Edited(self.setting.path, read_value(message.value, self.setting.value))
        )

    def complain(self, sentence: str) -> None:
        """Show what is wrong with the value; nothing when it is empty."""
        self.set_class(bool(sentence), "-wrong")
        self.query_one(".wrong", Static).update(content(sentence))


def shown(value: Any) -> str:
    """A value as a person writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_value(text: str, like: Any) -> object:
    """What a person wrote, as the kind of value that stands there now; the text if it is not one.

    The settings refuse what does not fit, with a sentence that names it.
    """
    text = text.strip()
    if isinstance(like, bool):
        return {"true": True, "false": False}.get(text, text)
    if isinstance(like, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(like, int | float):
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text
