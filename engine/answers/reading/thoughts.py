"""The marks between which models write their thoughts, and the special tokens around a turn.

Every family has marks of its own. A thought is never part of the answer: only the words outside it
are read.
"""

from __future__ import annotations

import re

_THOUGHTS = {
    "[think]": "[/think]",  # Magistral
    "◁think▷": "◁/think▷",  # Kimi
    "<|think|>": "<|/think|>",
    "<|think_start|>": "<|think_end|>",
    "<|startofthought|>": "<|endofthought|>",  # Quiet-STaR
    "<|begin_of_thought|>": "<|end_of_thought|>",  # Sky-T1, OpenThinker
    "<|start_thinking|>": "<|end_thinking|>",  # Command A
    "<|inner_prefix|>": "<|inner_suffix|>",  # Apertus
    "<|channel>thought": "<channel|>",  # Gemma 4
    "<unused94>": "<unused95>",  # MedGemma
    "<|channel|>analysis": "<|channel|>final",  # gpt-oss
    "<|channel|>commentary": "<|channel|>final",
}
"""The mark that begins a thought and the one that ends it, in lower case."""
_TAG = (
    r"(?:\w{1,20}[:_])?(?:think(?:ing)?|thoughts?|reasoning|reflections?|analysis|scratch_?pad"
    r"|monologue|cot)(?:_(?:content|process|scratchpad|fast|faster))?"
)
"""Tags: `<think>` of DeepSeek-R1, Qwen3 and others, `<thought>` of EXAONE, `<seed:think>`."""
_ANSWERS = {
    "<|channel|>final",
    "<|end|><|start|>assistant<|channel|>final",
    "<|begin_of_solution|>",
    "<|start_response|>",
    "<|content|>",  # Solar
    "<|end|><|begin|>assistant<|content|>",
    "[begin final response]",  # Apriel
}
"""Marks that begin the answer, whether or not the thought before them was ended."""
_TURN = (
    r"<[|｜](?!(?:begin|end)_of_box)[A-Z][\w▁]{2,40}[|｜]>|</?s>|<\|?turn\|?>"
    r"|<(?:start|end)_of_(?:turn|utterance|text|sentence)>|<(?:bos|eos|eot|eod|eop|sop|pad|unk|extra_id_\d)>"
    r"|\[/?INST\]|\[/?SYSTEM_PROMPT\]|\[gMASK\]|\[\|[a-z]{3,20}\|\]"
    r"|\[end final response\]|</(?:response|output|solution|conclusion)>"
)
"""Special tokens: before the first word they are skipped, later they end the path's own words."""
_LITERALS = sorted({*_THOUGHTS, *_THOUGHTS.values(), *_ANSWERS})
_MARK = re.compile(
    rf"(?=[<\[◁][A-Z/|｜])(?:[<\[◁](?:(?<=<)(?P<tag>{_TAG})>|(?<=<)(?P<end_tag>/{_TAG})>"
    rf"|{'|'.join(re.escape(mark[1:]) for mark in _LITERALS)})"
    r"|(?P<opens><(?:response|output|solution|conclusion)>)"
    rf"|(?P<turn>{_TURN})(?:\s?(?:assistant|model|(?P<user>user|human|system))\b(?=\s|[<\[:]|$))?)",
    re.IGNORECASE,
)
_IN_WORDS = {
    re.compile(r"\s*here(?:'s| is) my thought process:", re.I): re.compile(
        r"here(?:'s| is) my response:", re.I
    ),  # Granite
    re.compile(r"\s*here are my reasoning steps:", re.I): re.compile(
        r"\[begin final response\]", re.I
    ),  # Apriel
    re.compile(r"\s*<\|im_start\|>think\b"): re.compile(
        r"<\|im_end\|>(?:\s*<\|im_start\|>answer\b)?"
    ),  # Ling
    # gpt-oss, decoded without its special tokens
    re.compile(r"\s*analysis(?=[A-Z])"): re.compile(r"assistant ?final"),
}
"""Words at the start of a path that begin a thought, and the words that end it."""
_NOT_SPACE = re.compile(r"\S")


def own_turn(text: str) -> str:
    """The first turn of a path, after its last thought.

    An end without its start ends a thought that the prompt began. A thought that never ends goes to
    the end of the text. If nothing follows the last thought, the words before it are the turn's.
    """
    for begins, ends in _IN_WORDS.items():
        if begins.match(text):
            end = ends.search(text)
            text = text[end.end() :] if end else ""
    own, start, closing = "", 0, ""
    for match in _MARK.finditer(text):
        mark = match[0].lower()
        if mark == closing:
            start, closing = match.end(), ""
        elif mark in _ANSWERS:
            own, start, closing = "", match.end(), ""
        elif closing:
            continue  # a mark inside a thought
        elif match["turn"] or match["opens"]:
            has_words = _NOT_SPACE.search(text, start, match.start()) is not None
            if match["turn"] and (has_words or match["user"]):
                return text[start : match.start()] if has_words else own
            start = start if has_words else match.end()
        elif match["tag"] or mark in _THOUGHTS:
            own = text[start : match.start()].strip() or own
            closing = f"</{mark[1:]}" if match["tag"] else _THOUGHTS[mark]
        else:
            own, start = "", match.end()
    after = "" if closing else text[start:]
    return after if after.strip() else own
