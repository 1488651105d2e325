"""Chat templates are rendered in a sandbox."""

from __future__ import annotations

import pytest

from engine.inference.chat_template import render_chat
from engine.prompting.messages import ChatMessage
from store.errors import BadInput


def test_a_template_is_rendered_in_a_sandbox() -> None:
    chat = [ChatMessage("user", "hello")]
    for template in (
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception('only one user') }}",
        "{% for x %}",
    ):
        with pytest.raises(BadInput, match="chat template cannot be rendered"):
            render_chat(template, chat, "", "", [])
