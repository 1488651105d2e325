"""Read the log-probabilities of a path's tokens from a server's choice.

They are optional: whatever is not as it should be gives no confidence, and the path is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.inference.path_confidence import path_confidence
from store.enums import EndReason

if TYPE_CHECKING:
    from engine.inference.server.client import Json
    from engine.inference.stopping import Ending
    from store.confidence import PathConfidence


def request_field(path: str) -> Json:
    """The field that asks for log-probabilities at `completions` or `chat/completions`."""
    return {"logprobs": 1 if path == "completions" else True}


def confidence_of(choice: Json, ending: Ending) -> PathConfidence | None:
    """The confidence of the tokens that are kept of a choice; None if it is not told.

    Args:
        choice: of a response.
        ending: how the choice was cut. Without token ids, tokens are kept that begin before the end
            of its text, by the texts that the server reports for them.
    """
    pairs = _pairs(choice.get("logprobs"))
    if ending.token_ids:
        pairs = pairs[: len(ending.token_ids)]
    elif ending.reason is EndReason.STOP:
        pairs = _before(pairs, len(ending.text))
    logprobs = [logprob for _, logprob in pairs]
    if not all(type(logprob) in (int, float) and -1e9 < logprob < 1 for logprob in logprobs):
        return None
    return path_confidence(logprobs, None)


def _pairs(reported: Any) -> list[tuple[Any, Any]]:
    """(text, log-probability) of each token, in the form of chats or of completions."""
    if not isinstance(reported, dict):
        return []
    content = reported.get("content")
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, dict)]
        return [(entry.get("token"), entry.get("logprob")) for entry in entries]
    texts, logprobs = reported.get("tokens"), reported.get("token_logprobs")
    if not isinstance(logprobs, list):
        return []
    if not isinstance(texts, list) or len(texts) != len(logprobs):
        texts = [None] * len(logprobs)
    return list(zip(texts, logprobs, strict=True))


def _before(pairs: list[tuple[Any, Any]], length: int) -> list[tuple[Any, Any]]:
    """The tokens that begin before a number of characters; all if their texts are not known."""
    if not all(isinstance(text, str) for text, _ in pairs):
        return pairs
    kept, characters = 0, 0
    while kept < len(pairs) and characters < length:
        characters += len(pairs[kept][0])
        kept += 1
    return pairs[:kept]
