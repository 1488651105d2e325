"""The prompt as a model gets it: its text and its tokens, from the code that samples.

Tokenizers need packages that the app does not load, so a process of its own tokenizes:
`python -m engine.inference.rendered_prompt` reads a request as JSON and prints the answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.prompting.templates import Prompt
from store.enums import PromptStyle
from store.errors import BadInput, LmsiError, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.inference.hf.prompt_tokenizer import PromptTokenizer
    from engine.inference.llama.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as a model gets it."""

    text: str
    """For a chat, what its template made of the messages, special tokens included."""
    tokens: int
    """Number of its tokens, start tokens included."""
    start: str
    """The start tokens before a plain text, which are not part of `text`; "" for none."""


def render_prompt(location: Path, prompt: Prompt) -> RenderedPrompt:
    """Render and tokenize a prompt as `render_prompts` does."""
    (rendered,) = render_prompts(location, [prompt])
    return rendered


def render_prompts(location: Path, prompts: Sequence[Prompt]) -> list[RenderedPrompt]:
    """Render and tokenize prompts as sampling does, in a process of its own.

    Args:
        location: a Hugging Face folder or a GGUF file.
        prompts: of either style.

    Raises:
        BadInput: the model has no chat template, it does not fit, or its files are damaged.
        WorkFailed: the process ended without an answer.
    """
    texts = [[prompt.text, prompt.style] for prompt in prompts]
    request = {"location": str(location.absolute()), "prompts": texts}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "engine.inference.rendered_prompt"],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
        env={"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"} | os.environ,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise WorkFailed(f"The prompt cannot be tokenized: {lines[-1]}.") from None
    if "error" in answer:
        raise BadInput(answer["error"])
    return [RenderedPrompt(**rendered) for rendered in answer["prompts"]]


def _render(location: Path, prompts: Sequence[Prompt]) -> list[RenderedPrompt]:
    """Render and tokenize prompts in this process."""
    if location.suffix == ".gguf" and not location.is_dir():
        from engine.inference.llama.vocabulary import read_vocabulary

        with read_vocabulary(location) as vocabulary:
            return [_rendered(vocabulary, prompt) for prompt in prompts]
    from engine.inference.hf.prompt_tokenizer import PromptTokenizer
    from engine.models.folder_tokenizer import load_tokenizer

    tokenizer = PromptTokenizer(load_tokenizer(location))
    return [_rendered(tokenizer, prompt) for prompt in prompts]


def _rendered(tokenizer: PromptTokenizer | Vocabulary, prompt: Prompt) -> RenderedPrompt:
    text = "".join(part for part, _ in tokenizer.spans(prompt))
    start = "" if prompt.style is PromptStyle.CHAT else tokenizer.start_text
    return RenderedPrompt(text, len(tokenizer.prompt(prompt)), start)


def main() -> None:
    """Answer the request on standard input; libraries that print do not reach the answer."""
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.read())
    prompts = [Prompt(text, PromptStyle(style), 0) for text, style in request["prompts"]]
    answer: dict[str, object]
    try:
        rendered = _render(Path(request["location"]), prompts)
        answer = {"prompts": [asdict(each) for each in rendered]}
    except LmsiError as error:
        answer = {"error": str(error)}
    with answer_to:
        json.dump(answer, answer_to)


if __name__ == "__main__":
    main()
