"""The models of `benchmarks.sampling`, and their prompts as token ids.

Models with SmolLM2's shapes are generated with random weights and a synthetic tokenizer of the same
size, because speed does not depend on the values of the weights. The embedded family is used as it
is.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

VOCABULARY = 49_152
END = "<|end|>"
SHAPES = {  # hidden size, intermediate size, layers, attention heads, key-value heads
    "135m": (576, 1536, 30, 9, 3),
    "360m": (960, 2560, 32, 15, 5),
}
PREFIX, QUESTION = 800, 60
"""Tokens of the eight worked examples and of a question."""


@dataclass(frozen=True, slots=True)
class Load:
    """A model, and prompts for it."""

    folder: str
    """The model as a Hugging Face folder."""
    gguf: str
    """The same model as GGUF."""
    prefix: tuple[int, ...]
    """Token ids that every prompt begins with."""
    questions: tuple[tuple[int, ...], ...]
    """Token ids of the prompts, after the prefix."""
    max_tokens: int
    ends: bool
    """Whether paths end by themselves. Random weights sample the end token once in 49,152."""
    stop: tuple[str, ...] = ()
    temperature: float = 0.7

    @property
    def context(self) -> int:
        """Tokens of the longest prompt with its path."""
        return len(self.prefix) + max(map(len, self.questions)) + self.max_tokens

    def prompt(self, question: int) -> tuple[int, ...]:
        """Token ids of a whole prompt; question numbers wrap around."""
        return self.prefix + self.questions[question % len(self.questions)]

    def save(self, path: Path) -> None:
        """Write it to a file for another process."""
        path.write_text(json.dumps(asdict(self)))


def load_of(path: Path) -> Load:
    """Read a file that `Load.save` wrote."""
    fields = json.loads(path.read_text())
    for name in ("prefix", "stop"):
        fields[name] = tuple(fields[name])
    fields["questions"] = tuple(tuple(ids) for ids in fields["questions"])
    return Load(**fields)


def random_load(folder: Path, shape: str, kind: str, tokens: int) -> Load:
    """A shape with random weights; `kind` is `q8_0` or `q4_0`, the types of its GGUF."""
    base = folder / shape
    if not (base / "config.json").exists():
        _write_model(base, *SHAPES[shape])
    gguf = folder / f"{shape}-{kind}.gguf"
    if not gguf.exists():
        _write_gguf(base, folder / f"{shape}-f16.gguf", gguf, kind)
    rng = random.Random(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(count))

    questions = tuple(ids(QUESTION) for _ in range(64))
    return Load(str(base), str(gguf), ids(PREFIX), questions, tokens, ends=False)


def embedded_load(name: str, count: int = 512) -> Load:
    """A model of the embedded family with the demo's questions and worked examples."""
    from engine.demo import world
    from engine.demo.project import MODELS, TASK
    from engine.inference.hf.prompt_tokenizer import PromptTokenizer
    from engine.models.folder_tokenizer import load_tokenizer
    from store.enums import Split

    folder = MODELS / name
    tokenize = PromptTokenizer(load_tokenizer(folder)).tokenize
    texts = [pebble.text for pebble in world.generate(Split.POOL, count, 0)]
    return question_load(folder, folder / f"{name}.gguf", tokenize, TASK, texts)


def question_load(
    folder: Path,
    gguf: Path,
    tokenize: Callable[[str], Sequence[int]],
    task: str,
    texts: Sequence[str],
) -> Load:
    """A trained model and questions about numbers, each after the worked examples of a task."""
    from engine.inference.prompt_lengths import common_prefix_length
    from engine.prompting.tasks import exemplars_of, preset
    from engine.prompting.templates import render, stop_strings
    from store.enums import AnswerType, PromptFormat, PromptStyle, Split
    from store.records import Question

    prompts = []
    for position, text in enumerate(texts):
        question = Question(
            id=0,
            key=str(position),
            split=Split.POOL,
            source="",
            position=position,
            task=task,
            answer_type=AnswerType.NUMBER,
            text=text,
        )
        rendered = render(question, PromptFormat.FEW_SHOT_COT, PromptStyle.BASE, exemplars_of(task))
        prompts.append(tuple(tokenize(rendered.text)))
    shared = common_prefix_length(prompts)
    return Load(
        str(folder),
        str(gguf),
        prompts[0][:shared],
        tuple(prompt[shared:] for prompt in prompts),
        preset(task).max_tokens,
        ends=True,
        stop=stop_strings(PromptStyle.BASE),
    )


def _write_model(
    folder: Path, hidden: int, inner: int, layers: int, heads: int, key_heads: int
) -> None:
    """Write a random Llama of this shape in bfloat16, with tied embeddings like SmolLM2."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), eos_token=END)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    """A byte-level BPE of 49,152 tokens with synthetic merges: all pairs, then triples."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(letters)}
    merges: list[tuple[str, str]] = []
    for left, right in _pairs(letters):
        if len(vocabulary) == VOCABULARY - 1:
            break
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            merges.append((left, right))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END, special=True)])
    return tokenizer


def _pairs(letters: list[str]) -> Iterator[tuple[str, str]]:
    plain = [letter for letter in letters if letter.isascii() or letter == "Ġ"]
    for left in plain:
        for right in plain:
            yield left, right
    for left in plain:
        for middle in plain:
            for right in plain:
                yield left + middle, right


def _write_gguf(base: Path, half: Path, gguf: Path, kind: str) -> None:
    """Convert the model to 16 bits, then quantize it with llama.cpp."""
    from engine.conversion.hf_to_gguf import convert_base
    from engine.models.gguf_quantize import quantize

    if not half.exists():
        convert_base(base, half)
    quantize(half, gguf, kind.upper(), threads=2)
