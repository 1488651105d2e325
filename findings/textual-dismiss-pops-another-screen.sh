#!/usr/bin/env bash
# textual 8.2.8: `Screen.dismiss` removes whichever screen is on top, not the screen it is called on.
#
# Expected: `form.dismiss("saved")` while a dialog covers the form removes the form, or is refused: it
# raised ScreenStackError from version 0.25, and did nothing from 0.66. `dismiss` on a dialog that is
# gone has no effect, or is refused.
# Seen: the callback of the form receives "saved", but the dialog is what is removed; its own callback
# never runs, and the form stays. A dialog that is long gone removes the screen that it once covered,
# whose callback never runs, either. Nothing is raised.
# Why it matters: a background task opens a progress dialog and dismisses it at its end. If the user has
# hidden the dialog, or opened another screen, the task closes what the user is looking at, and code
# that waits for the result of that screen (`push_screen_wait`) waits forever. Compare with `app.screen`
# first.
# Documentation: the reference of `Screen.dismiss` and the guide "Screens" do not mention it. The
# changelog of 8.0.0 says only that dismissing a non-active screen "will still work, but the screen may
# not update". Issue 2575 asked for an error in 2023, and was closed when version 0.25 raised one.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check textual==8.2.8

cd "$folder"
venv/bin/python - <<'END'
import asyncio
import platform
import sys
from importlib.metadata import version

from textual.app import App
from textual.screen import ModalScreen, Screen

Outcome = tuple[list[str], list[object]]  # the screens that are left, and what the callbacks received


class Form(Screen[str]):
    pass


class Dialog(ModalScreen[str]):
    BINDINGS = [("escape", "dismiss('hidden')", "Hide")]


async def run(hide: bool) -> Outcome:
    app: App[None] = App()
    results: list[object] = []
    async with app.run_test() as pilot:
        form, dialog = Form(), Dialog()
        await app.push_screen(form, results.append)
        await app.push_screen(dialog, results.append)
        await pilot.pause()
        if hide:  # the user hides the dialog, and later its task ends
            await pilot.press("escape")
            await pilot.pause()
            dialog.dismiss("done")
        else:  # the form is saved below the dialog
            form.dismiss("saved")
        await pilot.pause()
        return [type(screen).__name__ for screen in app.screen_stack], results


def report(done: str, expected: Outcome, seen: Outcome) -> None:
    print(f"Dialog on top of Form; {done}")
    print(f"expected: {expected}, or an exception")
    print(f"seen:     {seen}")


print(f"Python {platform.python_version()}, textual {version('textual')}")
covered = asyncio.run(run(hide=False))
report("form.dismiss('saved')", (["Screen", "Dialog"], ["saved"]), covered)
hidden = asyncio.run(run(hide=True))
report("Escape hides it, then dialog.dismiss('done')", (["Screen", "Form"], ["hidden"]), hidden)

same = covered == (["Screen", "Form"], ["saved"]) and hidden == (["Screen"], ["hidden"])
sys.exit(None if same else "textual behaves differently now")
END
