"""Render chat templates in a process of its own: `python -m engine.inference.template_process`.

A template is code that comes with a model. It runs in jinja2's sandbox, which keeps it away from
the machine but not from an endless loop or a text of gigabytes. So it also runs in a child process
with limits of the kernel, which end it even inside a single slow operation.

Each line of standard input is a request as JSON, and each line of standard output its answer:
`{"text": …}`, `{"error": …}` or `{"limit": …}`. The process ends with its input, or when a limit
kills it.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.parser import Parser

MEMORY = 2**30
"""Bytes of address space that the process may use."""
WAIT = 60
"""Seconds on the clock that a rendering may take, for a machine that is out of memory."""
CHARACTERS = 10_000_000
"""Most characters of a rendered chat."""
TODAY = datetime(2024, 7, 26, tzinfo=UTC)
"""The date that `strftime_now` gives, which is the fallback of Llama 3's own template. With the
real date, the prompts of a run would change at midnight, and training would see other prompts than
sampling did."""


class _GenerationBlock(Extension):
    """`{% generation %}`, with which templates mark the assistant's turns; it renders its body."""

    tags = {"generation"}  # noqa: RUF012 (an instance variable in the base class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Dict:
    """`dict` for templates: it can be called, but has no attributes to reach Python through."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


class _Namespace(Namespace):
    """`namespace` for templates, without names that begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise TemplateError(f"a namespace cannot store {name!r}")
        super().__setitem__(name, value)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson` without the escaping of HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


@lru_cache(maxsize=8)
def _compile(template: str) -> Template:
    """Compiled once: a run renders the template for each of its prompts."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": TODAY.strftime,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(template)


def _render(template: str, variables: dict[str, Any]) -> dict[str, str]:
    try:
        pieces = []
        length = 0
        for piece in _compile(template).generate(**variables):
            length += len(piece)
            if length > CHARACTERS:
                return {"limit": f"it writes more than {CHARACTERS:,} characters"}
            pieces.append(piece)
    except MemoryError:
        return {"limit": f"it takes more than {MEMORY // 2**20:,} MiB of memory"}
    except Exception as error:  # a template can raise anything
        lines = str(error).strip().splitlines()
        return {"error": lines[0][:300].rstrip(".") if lines else type(error).__name__}
    return {"text": "".join(pieces)}


def main() -> None:
    """Answer requests until the input ends."""
    # Some systems allow no limit of memory; the limit of time holds everywhere.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin:
        request = json.loads(line)
        # The default action of both signals ends the process, whatever Python is doing. SIGPROF
        # counts the time on a processor, so that a busy machine does not shorten the limit.
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        signal.alarm(WAIT)
        answer = _render(request["template"], request["variables"])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
