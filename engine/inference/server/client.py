"""Requests to one OpenAI-compatible server, repeated when they fail.

A server is not trusted: its responses are limited in size and time, redirects are not followed, so
that the key goes nowhere else, and the key is removed from whatever it sends back.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import time
from email.utils import parsedate_to_datetime
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

RESPONSE_SECONDS, BODY_SECONDS, LIST_SECONDS = 1000.0, 120.0, 60.0
"""Longest time for a whole response, for its body alone, and for the list of models: a server that
sends a byte now and then would otherwise never end."""

LONGEST_RETRY_AFTER = 120.0
"""Most seconds that a server's `Retry-After` is followed."""

LARGEST_RESPONSE = 64 * 2**20
"""Most bytes of a response, decompressed."""

SHORTEST_SECRET = 8
"""Keys shorter than this, such as `EMPTY`, are placeholders and appear in ordinary text."""

_INVALID = (ValueError, KeyError, TypeError, IndexError, AttributeError, ArithmeticError)
"""What reading a response raises that is not as it should be."""

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
    if "@" in url or "?" in url:  # not shown, because it may hold a password
        raise BadInput(
            "A server's address must not contain a user, a password or a query, because addresses "
            f"are stored and shown: put the key into the environment variable {API_KEY}."
        )
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
        key = _api_key()
        self._secret = key.encode() if len(key) >= SHORTEST_SECRET else b""
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
            read: extracts the result from a response; if it raises one of `_INVALID`, the request
                is sent again.
            name: of the request, for the server's log: the same for every attempt.
            attempts: most attempts.
            probing: treat status 500 as a refusal; some servers send it for unknown fields.

        Raises:
            RequestRefused: 4xx.
            ServerUnavailable: every attempt failed by the connection, by 429 or 5xx, or by an
                invalid response.
            BadInput: the server requires another key, redirects, or has no valid certificate.
        """
        reason, at_least = "", 0.0
        for attempt in range(attempts):
            if attempt:
                await self.back_off(attempt, at_least)
            headers = {"X-Request-Id": name} if name else {}
            try:
                response = await self._send("POST", f"{self.url}/{path}", body, headers)
            except ServerUnavailable as error:
                reason, at_least = str(error), 0.0
                continue
            status = response.status_code
            if status in _BUSY or status >= 500:
                reason = f"it answers {status}: {_error_message(response)}"
                at_least = _retry_after(response)
                if probing and status not in _BUSY:
                    raise RequestRefused(status, _error_message(response))
            elif status >= 300:
                raise RequestRefused(status, _error_message(response))
            else:
                try:
                    return read(_json(response))
                except _INVALID as error:
                    reason = f"its response is invalid ({type(error).__name__}: {error})"
        raise ServerUnavailable(reason)

    async def _send(
        self,
        method: str,
        url: str,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
    ) -> httpx2.Response:
        """Send a request once and read the response, within the limits of size and time.

        Raises:
            ServerUnavailable: there is no complete response.
            BadInput: the server requires another key, redirects, or has no valid certificate.
        """
        limit = seconds or RESPONSE_SECONDS
        try:
            async with (
                asyncio.timeout(limit),
                self._client.stream(method, url, json=body, headers=headers) as opened,
            ):
                limit = min(limit, BODY_SECONDS)
                async with asyncio.timeout(limit):
                    content = await self._content(opened)
        except TimeoutError:
            raise ServerUnavailable(f"no complete response within {limit:g} seconds") from None
        except httpx2.RequestError as error:
            if _is_certificate_error(error):
                raise BadInput(
                    f"The certificate of the server {self.url} is not valid ({error}): install its "
                    "certificate authority, or name it in the environment variable SSL_CERT_FILE."
                ) from error
            raise ServerUnavailable(str(error) or type(error).__name__) from error
        if opened.is_redirect or 300 <= opened.status_code < 400:
            raise BadInput(
                f"The server {self.url} redirects to {opened.headers.get('location', 'nowhere')}: "
                "give the final address; redirects are not followed, since the key would go along."
            )
        self._check_key(opened.status_code)
        headers = {"retry-after": opened.headers.get("retry-after", "")}
        return httpx2.Response(opened.status_code, headers=headers, content=content)

    async def _content(self, response: httpx2.Response) -> bytes:
        """The body of a response, without the key.

        Raises:
            ServerUnavailable: it is too long.
        """
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > LARGEST_RESPONSE:
                raise ServerUnavailable(
                    f"its response is longer than {LARGEST_RESPONSE // 2**20} MiB"
                )
        return bytes(content).replace(self._secret, b"***") if self._secret else bytes(content)

    async def back_off(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before attempt number `attempt`, counted from 0.

        Args:
            attempt: the bound of the wait grows with it.
            at_least: seconds that the server asked for.
        """
        bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1))
        jitter = random.uniform(0, bound)  # noqa: S311 - jitter, not cryptography
        await self._wait(at_least + jitter)

    async def post_once(self, url: str, body: Mapping[str, object]) -> str:
        """Send a request once; the reason for its refusal, or "" if it succeeded.

        Raises:
            ServerUnavailable: it does not respond.
        """
        response = await self._send("POST", url, body)
        return "" if response.is_success else _error_message(response)

    async def models(self) -> list[Json]:
        """The models that the server lists; empty if it has no list.

        Raises:
            ServerUnavailable: it does not respond.
            BadInput: it requires another key.
        """
        response = await self._send("GET", f"{self.url}/models", seconds=LIST_SECONDS)
        try:
            entries = _json(response)["data"]
            return [
                entry
                for entry in entries
                if isinstance(entry, dict) and isinstance(entry.get("id"), str)
            ]
        except _INVALID:
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


def _api_key() -> str:
    """The key for servers; empty without one.

    Raises:
        BadInput: it cannot be sent; the message does not contain it.
    """
    key = os.environ.get(API_KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise BadInput(
            f"The environment variable {API_KEY} has characters that a key cannot have: copy the "
            "key again."
        )
    return key


def _is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _json(response: httpx2.Response) -> Json:
    """The JSON object of a response.

    Raises:
        ValueError: it is something else.
    """
    try:
        value = response.json()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _retry_after(response: httpx2.Response) -> float:
    """The seconds that the server asks to wait, at most `LONGEST_RETRY_AFTER`; 0 if it does not."""
    text = response.headers.get("retry-after", "")
    try:
        if text.strip().isdecimal():
            seconds = float(text)
        else:
            date = parsedate_to_datetime(text)
            seconds = date.timestamp() - time.time()
    except (ValueError, TypeError, ArithmeticError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def choices(response: Json) -> list[Json]:
    """The choices of a response, at least one.

    Raises:
        ValueError, KeyError, TypeError: there are none, or one is incomplete.
    """
    items = response.get("choices")
    if not isinstance(items, list) or not items:
        raise ValueError(
            f"no choices: {_reason(response)}" if "error" in response else "no choices"
        )
    for choice in items:
        if not isinstance(choice, dict):
            raise TypeError(f"a choice is {type(choice).__name__}")
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
    # Half of a pair, where a server has cut a text: the database holds only whole characters.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _error_message(response: httpx2.Response) -> str:
    """The reason that a server gives for an error, in one line."""
    try:
        reason = _reason(_json(response))
    except ValueError:
        reason = " ".join(response.text[:2000].split())[:200].rstrip(" .")
    return reason or f"status {response.status_code}"


def _reason(value: Any) -> str:
    """The message in the body of an error, in one line."""
    value = value.get("error", value.get("detail", value.get("message", value)))
    value = value.get("message", value) if isinstance(value, dict) else value
    return " ".join(str(value)[:2000].split())[:200].rstrip(" .")


def no_server_left(client: ServerClient, reason: object) -> WorkFailed:
    """The error to raise when the last server has become unavailable."""
    return WorkFailed(
        f"{client.unavailable(reason)}, and no other server is left; every finished path is "
        "stored, and running the same command again continues from there."
    )
