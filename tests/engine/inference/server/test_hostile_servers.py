"""Servers that lie, redirect, never end, or send back the key."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from engine.inference.server import client
from engine.inference.server.client import API_KEY, split_address
from engine.inference.server.probe import probe_address
from store.errors import BadInput, LmsiError, WorkFailed
from tests.engine.inference.server.fake_server import Fake
from tests.engine.inference.server.test_backend import (
    Waits,
    opened,
    path_counts,
    path_requests,
    sampled,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "sk-hostile-0123456789"


@contextmanager
def raw_server(
    reply: Callable[[socket.socket, bytes], None], context: ssl.SSLContext | None = None
) -> Iterator[tuple[str, list[bytes]]]:
    """A server whose replies are raw bytes; gives its address and the requests that it got."""
    requests: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                request = connection.recv(1 << 16)
                requests.append(request)
                reply(connection, request)
            except OSError:
                pass  # the client has left

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        scheme = "http" if context is None else "https"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/v1", requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def response(
    body: bytes, *, status: str = "200 OK", headers: str = "", length: int | None = None
) -> bytes:
    length = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def sends(data: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda connection, _request: connection.sendall(data)


def drips(connection: socket.socket, _request: bytes) -> None:
    """A body that never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    never = threading.Event()
    while not never.wait(0.01):
        connection.sendall(b"1\r\n \r\n")


def floods(connection: socket.socket, _request: bytes) -> None:
    """A body that is larger than any memory."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


MODELS = b'{"data": [{"id": "pebble"}]}'
BODIES = {
    "HTML": b"<html><body>Welcome</body></html>",
    "a list": b"[1, 2]",
    "null": b"null",
    "nothing": b"",
    "deep": b"[" * 100_000,
    "an error with status 200": b'{"error": {"message": "out of credits"}}',
    "no choices": b'{"choices": []}',
    "choices of another type": b'{"choices": {"text": "4"}}',
    "choices that are numbers": b'{"choices": [4]}',
    "null content": b'{"choices": [{"message": null}]}',
    "a number as text": b'{"choices": [{"text": 4}]}',
    "huge numbers": b'{"choices": [{"text": "4", "index": ' + b"9" * 5000 + b"}]}",
    "not UTF-8": b'{"choices": [{"text": "\xff\xfe"}]}',
}
REPLIES: dict[str, Callable[[socket.socket, bytes], None]] = {
    **{name: sends(response(body)) for name, body in BODIES.items()},
    "a body that is cut": sends(response(MODELS, length=10_000)),
    "a body that is longer than announced": sends(response(MODELS, length=5)),
    "no HTTP": sends(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "nothing at all": sends(b""),
    "damaged gzip": sends(response(b"\x1f\x8bxxxx", headers="Content-Encoding: gzip\r\n")),
    "a gzip bomb": sends(
        response(gzip.compress(b" " * 50_000_000), headers="Content-Encoding: gzip\r\n")
    ),
    "a body that never ends": drips,
    "a flood": floods,
    "a wrong list of models": sends(
        response(b'{"data": [{"id": 7}, {"id": "\\u001b[2J"}, {"id": null}, 3]}')
    ),
}


def assert_is_a_sentence(error: BaseException, url: str) -> None:
    sentence = str(error)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert url in sentence
    assert KEY not in sentence


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize("lists_its_model", [True, False])
def test_a_server_that_talks_nonsense_is_refused_with_one_sentence(
    name: str, lists_its_model: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY, KEY)
    monkeypatch.setattr(client, "LARGEST_RESPONSE", 1_000_000)
    monkeypatch.setattr(client, "BODY_SECONDS", 0.2)

    def reply(connection: socket.socket, request: bytes) -> None:
        if lists_its_model and request.startswith(b"GET"):
            connection.sendall(response(MODELS))
        else:
            REPLIES[name](connection, request)

    with raw_server(reply) as (url, _), pytest.raises(BadInput) as failure:
        probe_address(url)
    assert_is_a_sentence(failure.value, url)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_refused_and_the_key_goes_nowhere_else(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY, KEY)
    with raw_server(sends(response(MODELS))) as (other, received):
        redirect = response(b"", status=status, headers=f"Location: {other}/models\r\n")
        with raw_server(sends(redirect)) as (url, asked), pytest.raises(BadInput) as failure:
            probe_address(url)
        assert received == []
    assert KEY.encode() in asked[0]
    assert_is_a_sentence(failure.value, url)
    assert other in str(failure.value)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_server_that_repeats_the_key_does_not_make_it_visible(
    status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(API_KEY, KEY)

    def echo(connection: socket.socket, request: bytes) -> None:
        body = json.dumps({"error": {"message": request.decode()}}).encode()
        is_list = request.startswith(b"GET")
        connection.sendall(response(MODELS if is_list else body, status="200 OK"))

    with raw_server(echo) as (url, asked), pytest.raises(BadInput) as failure:
        probe_address(url)
    assert any(KEY.encode() in request for request in asked)
    assert_is_a_sentence(failure.value, url)
    refusing = sends(response(KEY.encode(), status=status))
    with raw_server(refusing) as (url, _), pytest.raises(BadInput, match=API_KEY) as failure:
        probe_address(url)
    assert_is_a_sentence(failure.value, url)


@pytest.mark.parametrize("key", ["schlüssel", "a\nb", "a\x00b"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\0" in key:
        monkeypatch.setattr("os.environ", {API_KEY: key})
    else:
        monkeypatch.setenv(API_KEY, key)
    with pytest.raises(BadInput, match=API_KEY) as failure:
        probe_address("http://127.0.0.1:9/v1")
    assert key not in str(failure.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hunter22@127.0.0.1/v1",
        "https://hunter22@host/v1#model",
        "http://host/v1?api_key=hunter22",
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(BadInput, match=API_KEY) as failure:
        split_address(address)
    assert "hunter22" not in str(failure.value)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl, to make a certificate")
def test_an_untrusted_certificate_is_refused_at_once(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    models = sends(response(MODELS))
    with raw_server(models, context) as (url, asked), pytest.raises(BadInput) as failure:
        probe_address(url)
    assert asked == []
    assert "certificate" in str(failure.value)
    assert_is_a_sentence(failure.value, url)


def test_a_server_that_does_not_speak_tls_is_refused() -> None:
    with raw_server(sends(response(MODELS))) as (url, _), pytest.raises(BadInput) as failure:
        probe_address(url.replace("http://", "https://"))
    assert_is_a_sentence(failure.value, url.replace("http://", "https://"))


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("7", 7.0, 8.0),
        ("86400", client.LONGEST_RETRY_AFTER, client.LONGEST_RETRY_AFTER + 1),
        ("Fri, 31 Dec 2100 12:00:00 GMT", 120.0, 121.0),
        ("Fri, 20 Nov 2020 12:00:00 GMT", 0.0, 1.0),
        ("-5", 0.0, 1.0),
        ("soon", 0.0, 1.0),
        ("9" * 400, 0.0, 121.0),
    ],
)
@pytest.mark.parametrize("status", ["429", "503"])
def test_retry_after_is_followed_within_a_bound(
    status: str, header: str, least: float, most: float
) -> None:
    waits = Waits()
    fake = Fake(faults=deque([status]), retry_after=header)
    with opened(fake, waits=waits) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=8))
    assert path_counts(results) == {("a", index): 1 for index in range(8)}
    (waited,) = waits.seconds
    assert least <= waited <= most


def once(hostile: dict[str, Any]) -> Callable[[dict[str, Any], int], dict[str, Any]]:
    """A writer of choices that are wrong in the first named request."""
    left = [8]

    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        choice = {"text": f" The answer is {number}.", "finish_reason": "stop"}
        if body.get("max_tokens") == 40 and left[0]:
            left[0] -= 1
            return choice | hostile
        return choice

    return write


@pytest.mark.parametrize(
    "hostile",
    [
        {"text": None},
        {"text": ["a"]},
        {"text": "x" * 1_000_000},
        {"index": "first"},
        {"index": None},
        {"finish_reason": "error"},
    ],
    ids=lambda hostile: str(hostile)[:30],
)
def test_a_response_that_cannot_be_true_is_requested_again(hostile: dict[str, Any]) -> None:
    waits = Waits()
    with opened(Fake(write=once(hostile)), waits=waits) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=8))
    assert path_counts(results) == {("a", index): 1 for index in range(8)}
    assert all("The answer is" in path.text for path in results)


@pytest.mark.parametrize(
    "hostile",
    [
        {"finish_reason": ["stop"]},
        {"finish_reason": 7, "stop_reason": {"a": 1}},
        {"logprobs": "much"},
        {"token_ids": "no"},
        {"text": "half a pair \ud83d, a whole \U0001f600, \0 and \x1b[2J"},
    ],
    ids=str,
)
def test_other_lies_do_no_harm(hostile: dict[str, Any]) -> None:
    with opened(Fake(write=once(hostile))) as backend:
        results = sampled(backend, path_requests(backend, "a", paths=8))
    assert path_counts(results) == {("a", index): 1 for index in range(8)}
    for path in results:
        path.text.encode()


def test_a_server_that_only_lies_is_dropped() -> None:
    def write(body: dict[str, Any], number: int) -> dict[str, Any]:
        is_probe = body.get("max_tokens") != 40
        return {"text": f" {number}" if is_probe else None}

    with opened(Fake(write=write)) as backend, pytest.raises(WorkFailed) as failure:
        sampled(backend, path_requests(backend, "a", paths=8))
    assert isinstance(failure.value, LmsiError)
    assert "invalid" in str(failure.value)
