"""Wrong calls of everything public, against live objects that go on working.

A case draws a function, some of its parameters, and a wrong value for each. Whatever comes of it,
a MotetError or an answer, the same objects then have to give the bits that they gave before.
"""

import asyncio
import atexit
import copy
import io
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import cache
from inspect import isawaitable
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import motet
from motet.cli.demo import shipped_model
from motet.errors import MotetError
from tests.hostile.harness import main
from tests.hostile.surface import CALLED, WRAPPERS, WRONG, Function, surface

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
PROMPT = [1, 5, 9, 42]
MESSAGES = [{"role": "user", "content": "Hi"}]


class World:
    """An object of every class that is exported, and good values for its parameters."""

    def __init__(self) -> None:
        self.folder = TemporaryDirectory()
        """For what is saved under names that happen to be good ones."""
        self.model = motet.Model.load(shipped_model())
        assert self.model.tokenizer is not None
        self.model.tokenizer.chat_templates = {"default": TEMPLATE}  # pyright: ignore
        self.llm = motet.LLM(self.model, max_sequences=3, ubatch=32)
        self.context = self.model.context(max_sequences=3)
        self.async_llm = motet.AsyncLLM(self.llm)
        self.loop = asyncio.new_event_loop()
        file = io.BytesIO()
        self.prepare()
        self.context.save(file)
        self.saved = file.getvalue()
        self.completion = self.llm.generate(PROMPT, seed=1, max_tokens=3)
        self.expected = self.good_calls()

    def prepare(self) -> None:
        """The context holds the prompt in sequence 0, and nothing else."""
        self.context.self_extend = None
        self.context.memory.clear()
        self.output = self.context.decode(self.batch(PROMPT, 0))

    def batch(self, tokens: Sequence[int], start: int) -> motet.Batch:
        """Of tokens of sequence 0, all of whose logits are wanted."""
        batch = motet.Batch()
        batch.extend(tokens, start, logits="all")
        return batch

    def good_calls(self) -> list[Any]:
        """What right calls give."""
        if self.llm.self_extend is not None:
            self.llm.self_extend = None
        self.prepare()
        tokenizer = self.model.tokenizer
        assert tokenizer is not None
        return [
            self.output.logits.tobytes(),
            self.context.decode(self.batch([7], len(PROMPT))).logits.tobytes(),
            self.llm.generate(PROMPT, seed=1, max_tokens=3).tokens,
            self.llm.chat(MESSAGES, seed=1, max_tokens=3).tokens,
            [c.tokens for c in self.llm.generate(["One", "Two"], seed=2, max_tokens=2)],
            self.llm.embed(["One", [1, 2]], "mean").tobytes(),
            tokenizer.decode(tokenizer.encode("Once upon a time")),
        ]

    def holder(self, function: Function) -> Any:
        """What the function is called on."""
        if not function.name:
            return getattr(motet, function.owner)
        objects = {
            "AsyncConversation": lambda: motet.AsyncConversation(self.llm.conversation()),
            "AsyncLLM": lambda: self.async_llm,
            "AutoExtend": motet.AutoExtend,
            "Batch": lambda: self.batch(PROMPT, 0),
            "Completion": lambda: self.completion,
            "Context": lambda: self.context,
            "Conversation": lambda: self.llm.conversation(),
            "LLM": lambda: self.llm,
            "Memory": lambda: self.context.memory,
            "Model": lambda: self.model,
            "Output": lambda: self.output,
            "Sampling": motet.Sampling,
            "SelfExtend": lambda: motet.SelfExtend(2, 8),
            "Tokenizer": lambda: self.model.tokenizer,
            "motet": lambda: motet,
        }
        return objects[function.owner]()

    def good(self, function: Function, name: str) -> Any:
        """A right value for a parameter."""
        if function.owner != "motet" and name == "file":
            return io.BytesIO(b"" if function.name.startswith("save") else self.saved)
        if str(function) == "Context.restore" and name == "into":
            return {0: 1}
        if function.owner == "motet":
            return {"model": shipped_model(), "out": "out.gguf", "type": "f32"}[name]
        return copy.copy(
            {
                "llm": self.llm,
                "model": self.model,
                "path": shipped_model(),
                "prompt": "Once",
                "messages": MESSAGES,
                "pooling": "last",
                "query": "Who?",
                "documents": ["He", "She"],
                "first": "One",
                "second": "Two",
                "max_tokens": 2,
                "batch": self.batch([3], len(PROMPT)),
                "entry": 0,
                "token": 3,
                "tokens": [1, 2],
                "ids": [1, 2],
                "text": "Once",
                "position": 4,
                "positions": np.array([1, 300]),
                "trained": 256,
                "n_vocab": 512,
                "other": self.model.tokenizer,
                "count": 4,
                "start": 0,
                "end": None,
                "delta": 1,
                "seq": 0,
                "slot": 0,
                "source": 0,
                "target": 1,
                "group": 2,
                "window": 8,
                "value": None,
            }[name]
        )

    def close(self) -> None:
        """Close what needs it."""
        self.llm.close()
        self.loop.close()
        self.folder.cleanup()

    def call(self, function: Function, wrong: dict[str, Any]) -> None:
        """Call with wrong values for some parameters, and right ones where there must be any.

        What is returned is used up and closed. Raises what the call does.
        """
        if function.owner in ("Batch", "Context", "Memory", "Output"):
            self.prepare()
        names = {*function.required, *wrong}
        if function.name in ("generate", "chat") and "max_tokens" in function.parameters:
            names.add("max_tokens")
        if function.name == "embed":
            names.add("pooling")
        arguments = {
            name: wrong[name] if name in wrong else self.good(function, name)
            for name in sorted(names)
        }
        self.loop.run_until_complete(_used(lambda: function.call(self.holder(function), arguments)))


async def _used(call: Any) -> None:
    result = call()
    if isawaitable(result):
        result = await result
    if isinstance(result, AsyncIterator):
        async for _ in result:
            pass
    elif isinstance(result, Iterator):
        for _ in result:
            pass
    elif isinstance(result, motet.LLM | motet.Conversation | motet.AsyncConversation):
        result.close()


@cache
def world() -> World:
    """Made once in a process."""
    made = World()
    atexit.register(made.close)
    return made


def case(random: np.random.Generator) -> None:
    """One wrong call, and then right ones."""
    functions = surface()
    function = functions[int(random.integers(len(functions)))]
    count = int(random.integers(1, min(3, len(function.parameters)) + 1))
    kinds = {
        str(name): [str(random.choice(list(WRONG))), *_drawn_wrappers(random)]
        for name in random.choice(function.parameters, count, replace=False)
    }
    called = f"{function} with {kinds}"
    os.chdir(world().folder.name)
    try:
        world().call(function, {name: _wrapped(*kind) for name, kind in kinds.items()})
    except MotetError as error:
        assert str(error)
        raise
    except Exception as error:
        if not any((str(function), name) in CALLED for name in kinds):
            raise AssertionError(called) from error
    finally:
        assert world().good_calls() == world().expected, f"{called} left its mark"


def _drawn_wrappers(random: np.random.Generator) -> list[str]:
    """Most often none."""
    count = max(0, int(random.integers(-3, 3)))
    return [str(name) for name in random.choice(list(WRAPPERS), count)]


def _wrapped(kind: str, *wrappers: str) -> Any:
    """A wrong value, inside others."""
    value = WRONG[kind]()
    for wrapper in wrappers:
        try:
            value = WRAPPERS[wrapper](value)
        except TypeError:  # it is no key of a dictionary
            value = [value]
    return value


if __name__ == "__main__":
    main(case, __doc__ or "", memory=16 << 30)
