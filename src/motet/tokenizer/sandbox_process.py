"""The process that renders chat templates: ``sandbox.py`` runs this file as a script.

A request on standard input is ``REQUEST`` and that many bytes of JSON: a template, the messages,
and the other names it is rendered with. The answer on standard output is ``ANSWER`` and that many
bytes of UTF-8: the text, or what went wrong. The kernel holds each request to its processor time
(SIGPROF ends the process) and its memory. Whatever breaks out of Jinja's own sandbox finds itself
in a process that can open no file or socket and, unless it runs as root, start no other.
"""

import json
import resource
import signal
import struct
import sys
import time
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from jinja2 import Environment

REQUEST = struct.Struct("=QdQ")
"""Bytes that follow, seconds of processor time, bytes of memory beyond the process's own."""
ANSWER = struct.Struct("=cQ")
"""What it is, bytes that follow."""
TEXT, FAILURE, MEMORY = b"t", b"f", b"m"
_MACOS = sys.platform == "darwin"
"""It keeps to no limit of addresses: there only time holds a template."""
_REASON = 300
"""Characters, at most, of why a template fails."""


def serve() -> None:
    """Answer requests until standard input ends."""
    environment = _environment()
    compiled = lru_cache(4)(environment.from_string)
    own = _confine()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    while header := sys.stdin.buffer.read(REQUEST.size):
        length, seconds, memory = REQUEST.unpack(header)
        limit = own + memory if hard == resource.RLIM_INFINITY else min(own + memory, hard)
        if not _MACOS:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            source, messages, others = json.loads(sys.stdin.buffer.read(length))
            text = compiled(source).render(others, messages=messages)
            kind, text = TEXT, text.encode("utf-8", "surrogatepass")
        except MemoryError:
            kind, text = MEMORY, b""
        except Exception as error:  # whatever a template's expressions may raise
            kind, text = FAILURE, _described(error).encode("utf-8", "replace")
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(ANSWER.pack(kind, len(text)))
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
        source = messages = others = text = None  # their memory is not the next one's


def _confine() -> int:
    """Give up what rendering does not need. Bytes of address space in use."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # our parent may have ignored or blocked it
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with suppress(OSError):  # where the system has not enough memory, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    pages = 0 if _MACOS else int(Path("/proc/self/statm").read_text().split()[0])
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(kind, (0, 0))
    time.localtime()  # reads the time zone's file
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    return pages * resource.getpagesize()


def _described(error: Exception) -> str:
    """What the template did, and why, in one line."""
    from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
    from jinja2.exceptions import SecurityError

    what = "fails"
    if isinstance(error, TemplateSyntaxError):
        what = f"is malformed, line {error.lineno}"
    elif isinstance(error, TemplateError) and not isinstance(error, UndefinedError | SecurityError):
        what = "refuses this conversation"
    try:
        reason = " ".join(str(error)[: 4 * _REASON].split())[:_REASON]
    except Exception:  # the message may be any object of the template's
        reason = ""
    if isinstance(error, RecursionError):
        reason = "it nests too deeply"
    return f"{what}: {reason or type(error).__name__}"


def _environment() -> "Environment":
    """Jinja as transformers sets it up for chat templates."""
    import encodings.unicode_escape
    import html
    import pprint
    import textwrap

    import jinja2.constants
    import jinja2.debug
    from jinja2 import TemplateError, nodes, pass_eval_context
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.runtime import Macro
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    # Jinja imports these when it first needs them; by then no file can be opened.
    assert encodings.unicode_escape and html and pprint and textwrap
    assert jinja2.constants and jinja2.debug

    class Generation(Extension):
        """``{% generation %}`` marks what the model said, for training: here it is its body."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

        @pass_eval_context
        def body(self, context: nodes.EvalContext, caller: Macro) -> str:
            return caller()

    class Dict:
        def __call__(self, /, *args: Any, **entries: Any) -> dict:
            return dict(*args, **entries)

        def fromkeys(self, *args: Any) -> dict:
            return dict.fromkeys(*args)

    class PublicNamespace(Namespace):
        def __init__(self, /, *args: Any, **entries: Any) -> None:
            super().__init__()
            for name, value in dict(*args, **entries).items():
                self[name] = value

        def __setitem__(self, name: str, value: Any) -> None:
            if name.startswith("_"):
                raise SecurityError(f"{name!r}: a namespace takes no name that begins with _")
            super().__setitem__(name, value)

    def raise_exception(message: Any) -> NoReturn:
        raise TemplateError(message)

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson  # Jinja's own escapes HTML
    environment.globals |= {
        "dict": Dict(),
        "namespace": PublicNamespace,
        "raise_exception": raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment


if __name__ == "__main__":
    sys.path += sys.argv[1:]  # where jinja2 and markupsafe are
    serve()
