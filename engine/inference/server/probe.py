"""Find out what a server can do, by trying.

Servers differ in what they support beyond OpenAI's own fields, and most silently ignore the rest:
one answers `n = 8` with a single choice, one takes whatever a request omits from the model's
`generation_config.json`, one refuses unknown fields. So nothing is inferred from a server's name:
each feature is tried once.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum

from engine.inference.backend import Sampling
from engine.inference.server.client import (
    ATTEMPTS,
    Json,
    RequestRefused,
    ServerClient,
    ServerUnavailable,
    choices,
    text_of,
)
from store.errors import BadInput
from store.records import content_hash

CHOICES_PER_REQUEST = (8, 4, 2)
"""Numbers of choices to try. Eight keep a server's batch full and still let a vote stop early; a
server with fewer slots refuses more than it has."""

_PROMPT = "Q:"
"""Continued by probes."""


LONGEST_NAME = 300
"""Most characters of a model's name; models with other names are not listed."""


class Dialect(StrEnum):
    """How to make a server sample by temperature alone, without removing unlikely tokens.

    Tried in this order. By default, servers truncate the distribution: top-k 40 and min-p 0.05 in
    llama.cpp, the model's `generation_config.json` in vLLM, SGLang and transformers.
    """

    MINUS_ONE = "top_k -1 is off"
    """vLLM, SGLang, llama-server."""
    ZERO = "top_k 0 is off"
    """llama_cpp.server."""
    GENERATION_CONFIG = "generation_config"
    """transformers serve, which refuses unknown fields and samples greedily by default."""
    PLAIN = "temperature and top_p only"
    """OpenAI's own fields; whatever else the server applies cannot be changed."""


@dataclass(frozen=True, slots=True)
class ServerCapabilities:
    """What a server can do, as found by a probe."""

    served: str
    """Name of the model in requests."""
    described: str
    """What the server reports about the weights of that model, as JSON; empty for nothing."""
    context: int | None
    """Most tokens in prompt and path together; None if the server does not report it."""
    completions: bool
    """Whether it continues plain text; otherwise it supports only chats."""
    dialect: Dialect
    max_choices: int
    """Most choices of one request."""
    token_ids: bool
    """Whether a prompt may be token ids."""
    returns_token_ids: bool
    """Whether it returns the token ids of paths on request."""
    seeds: bool
    """Whether equal seeds give equal texts."""
    log_probabilities: bool

    @property
    def identity(self) -> str:
        """Takes the place of the hash of the weights: the name, and what is reported about it.

        Addresses are not part of it: the same model on other machines continues the same run.
        """
        return content_hash(["server", self.served, self.described])

    def summary(self) -> str:
        """The capabilities in one line."""
        features = {
            f"{self.max_choices} paths per request"
            if self.max_choices > 1
            else "one path per request": True,
            "token-id prompts": self.token_ids,
            "seeds": self.seeds,
            "log-probabilities": self.log_probabilities,
        }
        listed = [name if present else f"no {name}" for name, present in features.items()]
        return f"serves {self.served}: {', '.join(listed)}; {self.dialect}"


async def probe(client: ServerClient, *, attempts: int = ATTEMPTS) -> ServerCapabilities:
    """Find out what a server can do, with about ten requests of a few tokens.

    Raises:
        ServerUnavailable: it does not respond.
        BadInput: it has no such model, it requires a key, or it does not sample.
    """
    served, entry = await _find_model(client, attempts)
    path, body, dialect = await _find_dialect(client, served, attempts)

    async def try_with(**fields: object) -> list[Json]:
        return await _try_request(client, path, body | fields, attempts)

    max_choices = 1
    for n in CHOICES_PER_REQUEST:
        if len(await try_with(n=n)) == n:
            max_choices = n
            break
    completions = path == "completions"
    with_ids = completions and await try_with(prompt=[1, 2, 3])
    returning_ids = await try_with(return_token_ids=True)
    with_logprobs = await try_with(logprobs=1 if completions else True)
    return ServerCapabilities(
        served=served,
        described=_weight_sizes(entry),
        context=_context(entry.get("max_model_len")),
        completions=completions,
        dialect=dialect,
        max_choices=max_choices,
        token_ids=bool(with_ids),
        returns_token_ids=any(choice.get("token_ids") for choice in returning_ids),
        seeds=await _has_seeds(client, path, body, dialect, attempts),
        log_probabilities=any(choice.get("logprobs") for choice in with_logprobs),
    )


def probe_address(address: str) -> ServerCapabilities:
    """Probe a server without retries. Must not be called in a running event loop.

    Raises:
        BadInput: it does not respond, or not as it should.
    """

    async def probe_once() -> ServerCapabilities:
        client = ServerClient(address, wait=asyncio.sleep)
        try:
            return await probe(client, attempts=1)
        except ServerUnavailable as error:
            raise BadInput(
                f"{client.unavailable(error)}: start it, or correct the address."
            ) from error
        finally:
            await client.close()

    return asyncio.run(probe_once())


async def _find_model(client: ServerClient, attempts: int) -> tuple[str, Json]:
    """The name of the model in requests, and its entry in the server's list."""
    for attempt in range(attempts):
        if attempt:
            await client.back_off(attempt)
        try:
            entries = await client.models()
            break
        except ServerUnavailable:
            if attempt + 1 == attempts:
                raise
    entries = [entry for entry in entries if _is_name(entry["id"])]
    name = client.model_name
    if name:
        return name, next((entry for entry in entries if entry["id"] == name), {})
    names = [str(entry["id"]) for entry in entries]
    if len(names) == 1:
        return names[0], entries[0]
    listed = f"it lists {', '.join(names[:8])}" if names else "it does not list its models"
    raise BadInput(
        f"The server {client.url} does not tell which model to use; {listed}: "
        f"write {client.url}#NAME."
    )


async def _find_dialect(
    client: ServerClient, served: str, attempts: int
) -> tuple[str, Json, Dialect]:
    """How the server accepts requests: path, the body of a probe, dialect."""
    messages = [{"role": "user", "content": _PROMPT}]
    refusal: RequestRefused | None = None
    prompts: tuple[tuple[str, Json], ...] = (
        ("completions", {"prompt": _PROMPT}),
        ("chat/completions", {"messages": messages}),
    )
    for path, prompt in prompts:
        for dialect in Dialect:
            body = {"model": served, **prompt, **sampling_fields(Sampling(1.0, 1), dialect)}
            try:
                await client.post(path, body, choices, attempts=attempts, probing=True)
                return path, body, dialect
            except RequestRefused as error:
                refusal = refusal if refusal and error.status == 404 else error
    raise BadInput(
        f"The server {client.url} continues neither text nor chats of {served} ({refusal}): "
        "give the base URL of an OpenAI-compatible server, and the model's name after #."
    )


async def _try_request(client: ServerClient, path: str, body: Json, attempts: int) -> list[Json]:
    """The choices of the response; empty if the server refuses the request."""
    try:
        return await client.post(path, body, choices, attempts=attempts, probing=True)
    except RequestRefused:
        return []


async def _has_seeds(
    client: ServerClient, path: str, body: Json, dialect: Dialect, attempts: int
) -> bool:
    """Whether equal seeds give equal texts, and different seeds different texts.

    Raises:
        BadInput: all texts are equal at a temperature of 2: the server does not sample.
    """
    hot = body | sampling_fields(Sampling(2.0, 16), dialect)
    texts = [
        [
            text_of(choice)
            for choice in await _try_request(client, path, hot | {"seed": seed}, attempts)
        ]
        for seed in (1, 1, 2)
    ]
    if texts[0] and any(texts[0]) and texts[0] == texts[1] == texts[2]:
        raise BadInput(
            f"The server {client.url} returns the same text for every seed at temperature 2, so "
            "it does not sample: enable sampling, or use another server."
        )
    return bool(texts[0]) and texts[0] == texts[1]


def _is_name(text: str) -> bool:
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def _context(value: object) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


def _weight_sizes(entry: Json) -> str:
    """Sizes of the weights, which llama-server reports and which outlive a restart."""
    meta = entry.get("meta")
    if not isinstance(meta, dict):
        return ""
    names = ("n_params", "n_vocab", "size")
    sizes = {name: meta[name] for name in names if isinstance(meta.get(name), int | float)}
    return json.dumps(sizes, sort_keys=True) if sizes else ""


def sampling_fields(sampling: Sampling, dialect: Dialect) -> Json:
    """The fields of a request with the sampling parameters: always all of them."""
    fields: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    if dialect is Dialect.GENERATION_CONFIG:
        config: Json = {
            "do_sample": sampling.temperature > 0,
            "max_new_tokens": sampling.max_tokens,
            "repetition_penalty": 1.0,
        }
        if sampling.temperature > 0:
            config |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
            }
        return fields | {"generation_config": json.dumps(config)}
    if dialect is not Dialect.PLAIN:
        off = -1 if dialect is Dialect.MINUS_ONE else 0
        fields |= {
            "top_k": sampling.top_k or off,
            "min_p": sampling.min_p,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "repetition_penalty": 1.0,
            "repeat_penalty": 1.0,  # llama.cpp's name for it
        }
    return fields


async def load_adapter(client: ServerClient, base: str, name: str, folder: str) -> str:
    """Make a server load a LoRA adapter from its own disk; the adapter's name in requests.

    vLLM loads adapters at a path below its base URL and names them as they are, SGLang loads them
    at its root and names them `base:name`.

    Args:
        client: of the server.
        base: name of the model in requests.
        name: of the adapter, different for each version.
        folder: the adapter's path on the server's machine.

    Raises:
        BadInput: the server cannot load it.
        ServerUnavailable: it does not respond.
    """
    for entry in await client.models():
        if entry["id"] == name:
            return f"{base}:{name}" if entry.get("owned_by") == "sglang" else name
    body = {"lora_name": name, "lora_path": folder}
    reason = await client.post_once(f"{client.url}/load_lora_adapter", body)
    if not reason:
        return name
    root = client.url.removesuffix("/v1")
    if not await client.post_once(f"{root}/load_lora_adapter", body):
        return f"{base}:{name}"
    raise BadInput(
        f"The server {client.url} cannot load the adapter {folder} ({reason}): start it so that "
        "it loads adapters at run time and can read this folder (docs/scale.md), or sample on this "
        "machine with --set model.engine=auto."
    )
