"""What is sent to a server that has the only tokenizer, and what is kept of its answers."""

from __future__ import annotations

from dataclasses import replace

from engine.inference.backend import Sampling
from engine.inference.server.probe import Dialect, ServerCapabilities
from engine.inference.server.prompt_encoding import TextEncoding
from engine.inference.stopping import Ending
from engine.prompting.messages import ChatMessage
from store.enums import AnswerType, EndReason

CAPABILITIES = ServerCapabilities(
    served="m",
    described="",
    context=4096,
    completions=True,
    dialect=Dialect.MINUS_ONE,
    max_choices=8,
    token_ids=False,
    returns_token_ids=False,
    seeds=True,
    log_probabilities=False,
)
CHAT = [ChatMessage("user", "How many?")]


def test_a_text_is_cut_after_its_answer_if_asked_to() -> None:
    sampling = Sampling(0.7, 100, stop=("\nQ:",))
    text = "The answer is 5. The answer is 5. The answer is 5. The an"
    cut_off = {"text": text, "finish_reason": "length"}
    encoding = TextEncoding()
    assert encoding.ending(cut_off, sampling) == Ending(EndReason.LENGTH, (), text)
    ends = replace(sampling, answer_type=AnswerType.NUMBER)
    assert encoding.ending(cut_off, ends) == Ending(EndReason.STOP, (), "The answer is 5.")
    both = {"text": "5.\nQ: How? The answer is 6.\n", "finish_reason": "stop"}
    assert encoding.ending(both, ends) == Ending(EndReason.STOP, (), "5.")


def test_a_server_is_asked_to_let_the_model_think_only_if_it_is_switched_on() -> None:
    encoding = TextEncoding()
    off = encoding.request(tuple(encoding.tokenize_chat(CHAT)), CAPABILITIES)
    on = encoding.request(tuple(encoding.tokenize_chat(CHAT, thinking=True)), CAPABILITIES)
    assert off == ("chat/completions", {"messages": [{"role": "user", "content": "How many?"}]})
    assert on[1] == off[1] | {"chat_template_kwargs": {"enable_thinking": True}}
