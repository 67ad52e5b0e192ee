"""What a type checker knows of LLM: read by pyright (``make lint``), never run."""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from typing import TYPE_CHECKING

import numpy as np

from motet import LLM, AsyncLLM, AsyncStream, Chunk, Completion, Sampling, Stream

if TYPE_CHECKING:
    from typing_extensions import assert_type

    def generate(llm: LLM, count: int, streamed: bool) -> None:
        assert_type(llm.generate("x").text, str)
        assert_type(llm.generate("x", Sampling(), top_k=3, max_tokens=5, echo=True), Completion)
        assert_type(llm.generate([1, 2, 3]), Completion)
        assert_type(llm.generate(np.array([1, 2, 3])), Completion)
        assert_type(llm.generate("x", n=1, stream=False), Completion)
        assert_type(llm.generate("x", n=3), list[Completion])
        assert_type(llm.generate(["x", "y"]), list[Completion])
        assert_type(llm.generate(["x", [1, 2]], n=count), list[Completion])
        assert_type(llm.generate("x", stream=True), Stream)
        assert_type(llm.generate(["x", "y"], n=2, stream=True, logprobs=2), Stream)
        assert_type(llm.generate("x", n=count), Completion | list[Completion])
        assert_type(llm.generate("x", stream=streamed), Completion | list[Completion] | Stream)
        llm.generate("x", temprature=1)  # pyright: ignore[reportCallIssue]
        llm.generate("x", top_k="many")  # pyright: ignore[reportArgumentType, reportCallIssue]
        llm.generate("x", 100)  # pyright: ignore[reportArgumentType, reportCallIssue]

    def chat(llm: LLM) -> None:
        messages = [{"role": "user", "content": "Hi"}]
        assert_type(llm.chat(messages, temperature=0, seed=None).text, str)
        assert_type(llm.chat(messages, Sampling(seed=1), n=4), list[Completion])
        assert_type(llm.chat(messages, stream=True, stop=["."]), Stream)
        assert_type(llm.chat([messages, messages], progress=True), list[Completion])
        parts = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
        assert_type(llm.chat(parts, n=1), Completion)
        llm.chat(messages, echo=True)  # pyright: ignore[reportCallIssue]
        llm.chat(messages, stream=True, progress=True)  # pyright: ignore[reportCallIssue, reportArgumentType]

    async def awaited(llm: AsyncLLM, count: int) -> None:
        messages = [{"role": "user", "content": "Hi"}]
        assert_type(await llm.generate("x", top_k=3), Completion)
        assert_type(await llm.generate(["x", "y"]), list[Completion])
        assert_type(await llm.generate("x", n=count), Completion | list[Completion])
        assert_type(await llm.chat(messages), Completion)
        assert_type(await llm.chat([messages]), list[Completion])
        assert_type(llm.generate("x", stream=True), AsyncStream)
        async for chunk in llm.chat(messages, stream=True):
            assert_type(chunk, Chunk)
        llm.generate("x", temprature=1)  # pyright: ignore[reportCallIssue]
