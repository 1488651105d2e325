"""A setting that can be changed: its name, its value, what it means, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Input, Static

from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.widgets.option_cycler import Choice

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.jobs.job_settings import Setting


class SettingRow(Vertical):
    """One setting; tells when it is changed and shows the sentence that it is given."""

    DEFAULT_CSS: ClassVar[str] = """
    SettingRow { height: auto; }
    SettingRow Horizontal { height: 1; }
    SettingRow .name { width: 27; color: $text-muted; }
    SettingRow:focus-within .name { color: $foreground; text-style: bold; }
    SettingRow.-changed .name { color: $accent; text-style: bold; }
    SettingRow Input { width: 24; background: $panel; }
    SettingRow Input:focus { background: $block-cursor-blurred-background; }
    SettingRow Choice { width: 24; }
    SettingRow .meaning {
        width: 1fr; height: 1; padding-left: 2; color: $text-muted;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    SettingRow .wrong { display: none; height: auto; padding-left: 27; color: $text-error; }
    SettingRow.-wrong .wrong { display: block; }
    """

    class Edited(Message):
        """The value is another one."""

        def __init__(self, path: str, value: object, differs: bool) -> None:
            """Args:
            path: of the setting, such as `sample.m`.
            value: as the settings take it; text where it cannot be read as what it should be.
            differs: from what it was when the row was made.
            """
            self.path, self.value, self.differs = path, value, differs
            super().__init__()

    class Reached(Message):
        """The person is at this setting now."""

        def __init__(self, setting: Setting) -> None:
            """Args:
            setting: that has the focus.
            """
            self.setting = setting
            super().__init__()

    def __init__(self, setting: Setting) -> None:
        """Args:
        setting: as it is now.
        """
        super().__init__()
        self.setting = setting
        self._text = shown(setting.value)
        if not setting.choices:
            self._text = printable(self._text)  # a name from a file; unedited, it stays as it is

    def compose(self) -> ComposeResult:
        """Name, field and meaning on one line, the complaint below."""
        with Horizontal():
            yield Static(content(self.setting.label), classes="name", markup=False)
            if self.setting.choices:
                yield Choice(self.setting.choices, self._text)
            else:
                yield Input(self._text, compact=True, select_on_focus=False)
            yield Static(content(self.setting.meaning), classes="meaning", markup=False)
        yield Static(classes="wrong", markup=False)

    def on_descendant_focus(self) -> None:
        """Say which setting it is."""
        self.post_message(self.Reached(self.setting))

    @on(Input.Changed)
    @on(Choice.Changed)
    def tell(self, message: Input.Changed | Choice.Changed) -> None:
        """Say what the setting would be now."""
        message.stop()
        differs = message.value != self._text
        self.set_class(differs, "-changed")
        value = read_value(message.value, self.setting.value)
        self.post_message(self.Edited(self.setting.path, value, differs))

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
