"""Chat templates: how the messages are given to them, and what they may not do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from engine.inference import chat_template
from engine.inference.chat_template import ChatLayout, chat_layout, layout_in, render_chat
from engine.models.chat_templates import choose_template, template_in
from engine.prompting.messages import ChatMessage
from store.errors import BadInput
from tests.engine.chat_shapes import CHATML, FOLDED, MIXED_PARTS, PARTS, SHAPES

if TYPE_CHECKING:
    from pathlib import Path

CHAT = [ChatMessage("system", "Be brief."), ChatMessage("user", "How many?")]


def text_of(template: str, chat: list[ChatMessage] = CHAT, bos: str = "") -> str:
    return "".join(part for part, _ in render_chat(template, chat, {"bos_token": bos}, []))


@pytest.mark.parametrize("name", SHAPES)
def test_the_layout_of_a_template_is_found_by_rendering_it(name: str) -> None:
    layout = chat_layout(SHAPES[name])
    assert layout.folds_system == (name in FOLDED)
    assert bool(layout.note) == layout.folds_system
    assert layout.as_parts == {
        PARTS: {"system", "user", "assistant"},
        MIXED_PARTS: {"user", "assistant"},
    }.get(SHAPES[name], frozenset())


def test_the_common_layout_has_no_name() -> None:
    assert ChatLayout(False, frozenset()).name == ""
    assert ChatLayout(True, frozenset({"user"})).name == "system-in-user user-parts"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ raise_exception('only one user') }}",
        "{% for x %}",
        "{% break %}",
        "{{ 1 / 0 }}",
        "{% include 'other' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{" + "(" * 3000 + ")" * 3000 + "}}",
        "{{ messages[7].content.x }}",
        "{% for x in range(10**9) %}{% endfor %}",
    ],
)
def test_a_template_that_fails_is_refused(template: str) -> None:
    with pytest.raises(BadInput, match="chat template cannot be rendered"):
        text_of(template)
    assert "How many?" in text_of(CHATML)


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}",
        "{% for x in range(99999) %}{% for y in range(99999) %}aaaaaaaa{% endfor %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 10**(10**9) }}",
        "{% set ns = namespace(a='aaaaaaaa') %}{% for x in range(99) %}"
        "{% set ns.a = ns.a + ns.a %}{% endfor %}",
        "{{ 'a' * 3 * 10**7 }}",
    ],
)
def test_a_template_without_an_end_is_stopped(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template, "SECONDS", 0.2)
    with pytest.raises(BadInput, match="chat template cannot be rendered"):
        text_of(template)
    assert "How many?" in text_of(CHATML)


@pytest.mark.parametrize(
    ("template", "hidden"),
    [
        ("", "the question"),
        ("{{ messages[0].content }}", "the question"),
        ("{{ messages[0].role }}{{ messages[-1].content[:3] }}", "the question"),
        ("{{ messages[-1].content }}", "the worked examples"),
        ("{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}", "examples"),
    ],
)
def test_a_template_that_leaves_a_message_out_is_refused(template: str, hidden: str) -> None:
    examples = [ChatMessage("user", "Two?"), ChatMessage("assistant", "Two.")]
    with pytest.raises(BadInput, match=hidden):
        text_of(template, [*CHAT[:1], *examples, *CHAT[1:]])


def test_a_question_that_only_this_template_changes_is_refused() -> None:
    template = CHATML.replace("m['content']", "m['content'] | replace('many', 'few')")
    assert "Which?" in text_of(template, [CHAT[0], ChatMessage("user", "Which?")])
    with pytest.raises(BadInput, match="the question"):
        text_of(template)


def test_a_template_gets_what_transformers_gives() -> None:
    template = (
        "{{ bos_token }}{% if tools is none and documents is none and add_generation_prompt %}"
        "{% for m in messages %}{% if loop.index > 9 %}{% break %}{% endif %}"
        "{{ m | tojson }}{{ {'a': '<é>'} | tojson(indent=1) }}{% endfor %}{% endif %}"
        "{{ strftime_now('%Y') | length }}{{ dict(a=1).a }}{{ enable_thinking }}"
    )
    assert text_of(template, bos="<s>") == (
        '<s>{"role": "system", "content": "Be brief."}{\n "a": "<é>"\n}'
        '{"role": "user", "content": "How many?"}{\n "a": "<é>"\n}41False'
    )


def test_the_date_of_a_prompt_does_not_change() -> None:
    template = "{{ strftime_now('%d %b %Y') }}" + CHATML
    assert text_of(template).startswith("26 Jul 2024<|im_start|>")


def test_a_variable_of_a_generation_block_ends_with_it() -> None:
    template = (
        "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}" + CHATML
    )
    assert text_of(template).startswith("21<|im_start|>")


def test_of_several_templates_the_default_is_chosen() -> None:
    assert choose_template(None) == choose_template({}) == ""
    assert choose_template("x") == choose_template({"default": "x", "tool_use": "y"}) == "x"
    assert choose_template({"chat": "x"}) == "x"
    with pytest.raises(BadInput, match="rag, tool_use"):
        choose_template({"tool_use": "x", "rag": "y"})


def test_the_template_of_a_folder_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    assert template_in(tmp_path) == ""
    with pytest.raises(BadInput, match=r"sample\.style"):
        layout_in(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    for value in ("x", [{"name": "default", "template": "x"}, {"name": "rag", "template": "y"}]):
        config.write_text(json.dumps({"chat_template": value}))
        assert template_in(tmp_path) == "x"
    (tmp_path / "chat_template.jinja").write_text("z")
    assert template_in(tmp_path) == "z"
    (tmp_path / "chat_template.jinja").unlink()
    for damaged in ("{", '{"chat_template": [1]}', "[" * 100_000):
        config.write_text(damaged)
        with pytest.raises(BadInput, match=r"tokenizer_config\.json"):
            template_in(tmp_path)
