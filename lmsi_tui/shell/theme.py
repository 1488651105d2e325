"""The themes of lmsi-tui, one dark and one light."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="lmsi-dark",
    primary="#7aa2c8",
    secondary="#9d8bc4",
    accent="#e0a458",
    warning="#e0b15a",
    error="#d8747a",
    success="#7fb685",
    foreground="#d5d9e0",
    background="#14171c",
    surface="#1a1e25",
    panel="#232832",
    dark=True,
    variables={
        "footer-key-foreground": "#e0a458",
        "block-cursor-text-style": "none",
        "border-blurred": "#39414f",
        "border": "#7aa2c8",
        # Within a text, Textual's default ("auto 60%") is rendered as plain white or black.
        "text-muted": "#878b91",
    },
)

LIGHT = Theme(
    name="lmsi-light",
    primary="#2f6690",
    secondary="#6a4c93",
    accent="#a65e00",
    warning="#8a6100",
    error="#a92f36",
    success="#2f7a3d",
    foreground="#22262d",
    background="#fbfaf7",
    surface="#f3f1ec",
    panel="#e7e4dc",
    dark=False,
    variables={
        "footer-key-foreground": "#a65e00",
        "block-cursor-text-style": "none",
        "border-blurred": "#c4c0b6",
        "border": "#2f6690",
        "text-muted": "#6b6e73",
    },
)

THEMES = (DARK, LIGHT)
