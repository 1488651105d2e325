"""GGUF files that hold a tokenizer and no weights, and merges for them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from gguf import GGUFWriter
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.engine.texts import texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def unsplit_tokenizer() -> Tokenizer:
    """A byte-level tokenizer whose merges cross every boundary: it was trained without any."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts(2, 500), trainer)
    return tokenizer


@contextmanager
def vocabulary_file(file: Path) -> Iterator[GGUFWriter]:
    """Write a GGUF file; the block adds the tokenizer."""
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    yield writer
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
