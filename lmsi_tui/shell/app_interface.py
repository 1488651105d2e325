"""What screens use of the app: `LmsiApp` imports the screens, so they cannot import it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import sqlite3

    from textual.dom import DOMNode
    from textual.signal import Signal

    from engine.project.folder import Project
    from engine.project.settings import Settings


class AppInterface(Protocol):
    """The app as its screens see it."""

    project: Project
    """Set once a project is open."""
    conn: sqlite3.Connection
    """For reads of single rows and for decisions of the user; never for a scan."""
    store_changed: Signal[None]
    """Published when another connection has committed."""

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be stored in the project."""

    def now(self) -> float:
        """Seconds since the epoch; tests and screenshots replace it."""

    def open_project(self, project: Project, place: str = "home") -> None:
        """Show a project from now on."""

    def save_settings(self, settings: Settings) -> None:
        """Write changed settings into lmsi.toml."""

    def action_import(self) -> None:
        """Import questions into the project."""


def lmsi_app(node: DOMNode) -> AppInterface:
    """The app that a screen or widget runs in."""
    return cast("AppInterface", node.app)
