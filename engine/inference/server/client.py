"""Requests to one OpenAI-compatible server, repeated when they fail."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

API_KEY = "LMSI_API_KEY"
"""Environment variable with the key that is sent to servers; it is never stored."""

ATTEMPTS = 10
"""How often a request is sent before its server counts as unavailable: about a minute in all,
enough time for a server to restart."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds; the bound doubles with each attempt and each wait is uniformly random below its bound,
so that many requests do not come back at once (full jitter, Brooker 2015)."""

TIMEOUT = httpx2.Timeout(connect=10, read=900, write=60, pool=None)
"""Seconds. A request may be queued behind many others before its first byte comes."""

_BUSY = frozenset({429, 502, 503, 504})

T = TypeVar("T")
Json = dict[str, Any]


class RequestRefused(Exception):
    """The server understood the request and refuses it (4xx)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServerUnavailable(Exception):
    """The server gave no complete response to any attempt."""


def split_address(address: str) -> tuple[str, str | None]:
    """The base URL and the model's name in an address such as `http://host:8000/v1#model`.

    Raises:
        BadInput: it is not a valid address.
    """
    url, _, name = address.strip().partition("#")
    try:
        parsed = httpx2.URL(url)
        valid = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (httpx2.InvalidURL, ValueError):
        valid = False
    if not valid:
        raise BadInput(f"{address!r} is not a server's address: write http://host:port/v1.")
    return url.rstrip("/"), name or None


class ServerClient:
    """A connection to one server. Must be used in one event loop only."""

    def __init__(self, address: str, *, wait: Callable[[float], Awaitable[None]]) -> None:
        """Args:
        address: base URL, followed by `#` and the model's name if the server has several.
        wait: sleeps between two attempts.
        """
        self.url, self.model_name = split_address(address)
        self._wait = wait
        key = os.environ.get(API_KEY)
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT,
            # The backend limits the number of requests itself.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    async def close(self) -> None:
        """Close the connections; servers drop the requests in progress."""
        await self._client.aclose()

    async def post(
        self,
        path: str,
        body: Mapping[str, object],
        read: Callable[[Json], T],
        *,
        name: str = "",
        attempts: int = ATTEMPTS,
        probing: bool = False,
    ) -> T:
        """Send a request until there is a response that can be read.

        Args:
            path: after the base URL.
            body: of the request.
            read: extracts the result from a response; if it raises ValueError, KeyError, TypeError
                or IndexError, the request is sent again.
            name: of the request, for the server's log: the same for every attempt.
            attempts: most attempts.
            probing: treat status 500 as a refusal; some servers send it for unknown fields.

        Raises:
            RequestRefused: 4xx.
            ServerUnavailable: every attempt failed by the connection, by 429 or 5xx, or by an
                invalid response.
            BadInput: the server requires another key.
        """
        reason = ""
        for attempt in range(attempts):
            if attempt:
                await self.back_off(attempt)
            try:
                response = await self._client.post(
                    f"{self.url}/{path}", json=body, headers={"X-Request-Id": name} if name else {}
                )
                status = response.status_code
                self._check_key(status)
                if status in _BUSY or status >= 500:
                    reason = f"it answers {status}: {_error_message(response)}"
                    if probing and status not in _BUSY:
                        raise RequestRefused(status, _error_message(response))
                elif status >= 300:
                    raise RequestRefused(status, _error_message(response))
                else:
                    return read(response.json())
            except httpx2.TransportError as error:
                reason = str(error) or type(error).__name__
            except (ValueError, KeyError, TypeError, IndexError) as error:
                reason = f"its response is invalid ({type(error).__name__}: {error})"
        raise ServerUnavailable(reason)

    async def back_off(self, attempt: int) -> None:
        """Wait before attempt number `attempt`, counted from 0."""
        bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        await self._wait(random.uniform(0, bound))  # noqa: S311 - jitter, not cryptography

    async def post_once(self, url: str, body: Mapping[str, object]) -> str:
        """Send a request once; the reason for its refusal, or "" if it succeeded.

        Raises:
            ServerUnavailable: it does not respond.
        """
        try:
            response = await self._client.post(url, json=body)
        except httpx2.TransportError as error:
            raise ServerUnavailable(str(error) or type(error).__name__) from error
        return "" if response.is_success else _error_message(response)

    async def models(self) -> list[Json]:
        """The models that the server lists; empty if it has no list.

        Raises:
            ServerUnavailable: it does not respond.
            BadInput: it requires another key.
        """
        try:
            response = await self._client.get(f"{self.url}/models")
        except httpx2.TransportError as error:
            raise ServerUnavailable(str(error) or type(error).__name__) from error
        self._check_key(response.status_code)
        try:
            entries = response.json()["data"]
            return [entry for entry in entries if isinstance(entry, dict) and "id" in entry]
        except (ValueError, KeyError, TypeError):
            return []

    def _check_key(self, status: int) -> None:
        if status in (401, 403):
            raise BadInput(
                f"The server {self.url} requires a key: put it into the environment variable "
                f"{API_KEY} and start again."
            )

    def unavailable(self, reason: object) -> str:
        """A sentence, without its period, that says that the server does not respond."""
        return f"The server {self.url} does not answer ({reason})"


def choices(response: Json) -> list[Json]:
    """The choices of a response, at least one.

    Raises:
        ValueError, KeyError, TypeError: there are none, or one is incomplete.
    """
    items = response["choices"]
    if not items:
        raise ValueError("no choices")
    for choice in items:
        text_of(choice)
        if choice.get("finish_reason") in ("abort", "error"):
            raise ValueError(f"a path was aborted: {choice['finish_reason']}")
    return list(items)


def text_of(choice: Json) -> str:
    """The text of a choice, with the reasoning that some servers return separately."""
    if "message" not in choice:
        text = choice["text"]
    else:
        message = choice["message"]
        text = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if reasoning:
            text = f"<think>{reasoning}</think>{text}"
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}")
    return text


def _error_message(response: httpx2.Response) -> str:
    """The reason that a server gives for an error, in one line."""
    try:
        value = response.json()
        value = value.get("error", value.get("detail", value.get("message", value)))
        value = value.get("message", value) if isinstance(value, dict) else value
    except (ValueError, AttributeError):
        value = response.text
    return " ".join(str(value).split())[:200].rstrip(" .") or f"status {response.status_code}"


def no_server_left(client: ServerClient, reason: object) -> WorkFailed:
    """The error to raise when the last server has become unavailable."""
    return WorkFailed(
        f"{client.unavailable(reason)}, and no other server is left; every finished path is "
        "stored, and running the same command again continues from there."
    )
