"""AsyncLLM: an LLM for coroutines."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from motet import checks
from motet.arrays import Array, Float32
from motet.embedding import Gathered, VectorCall, embed_call, rank_call
from motet.engine import AsyncConversation, Chunk, Completion, Engine, Slice, SlotState
from motet.engine.preparing import Call
from motet.engine.progress import Progress, answer_counter, token_counter
from motet.engine.prompts import Chat, Prompt
from motet.engine.request import NobodyListens
from motet.engine.stream import Answers
from motet.errors import MotetError
from motet.front import Front
from motet.llm import LLM, File

Output = TypeVar("Output")


class AsyncStream(AsyncIterator[Chunk]):
    """The chunks of one call's answers, in the order they come; ends when all answers have.

    The call begins when the first chunk is waited for. Closing the stream, leaving its ``async
    with`` block, dropping it or cancelling the task that waits for a chunk cancels what is not
    finished. Iterating raises what the call raises, and the MotetError that ends a request.
    """

    def __init__(self, engine: Engine, call: Call, owner: object) -> None:
        """``owner`` is kept alive with this."""
        self._engine = engine
        self._call = call
        self._owner = owner
        self._answers = Answers(())
        """There are none before the call begins."""
        self._outputs: asyncio.Queue[Chunk | MotetError | None] = asyncio.Queue()
        """None when the stream is closed."""
        self._begun = self._closed = self._waiting = False

    async def __anext__(self) -> Chunk:
        if self._waiting:
            raise MotetError(
                "another task waits for this stream's next chunk", hint="give each its own stream"
            )
        self._waiting = True
        try:
            await self.begin()
            output = await self._outputs.get() if self._answers.unfinished else None
            if output is None:
                raise StopAsyncIteration
            return self._answers.take(output)
        except StopAsyncIteration:
            raise
        except BaseException:  # what asyncio cancels a task with is none of Exception
            self.close()
            raise
        finally:
            self._waiting = False

    async def begin(self) -> None:
        """Hand the call's requests in now, not when the first chunk is waited for.

        Raises what refuses the call. A call that has begun is left alone.
        """
        if self._begun:
            return
        self._begun = True
        # Not self: the engine must not keep the stream alive.
        requests = await asyncio.to_thread(self._call.prepare, _into(self._outputs))
        if not self._closed:
            self._engine.submit(requests)
            self._answers = Answers(requests)

    @property
    def prompt_progress(self) -> float:
        """Share of the prompts' tokens that are computed, 0 to 1."""
        return self._answers.prompt_progress

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompts, once the call has begun."""
        return self._answers.prompt_tokens

    @property
    def cached_tokens(self) -> int:
        """Those of them that needn't be computed, once there is a chunk of each answer."""
        return self._answers.cached_tokens

    def close(self) -> None:
        """Cancel what is not finished; iterating ends."""
        self._begun = self._closed = True
        self._answers.cancel()
        self._outputs.put_nowait(None)

    async def __aenter__(self) -> "AsyncStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._answers.cancel()

    def __repr__(self) -> str:
        unfinished = self._answers.unfinished if self._begun else self._call.answers
        return f"<motet.AsyncStream: {unfinished} answers to come>"


class AsyncLLM(
    Front[
        Coroutine[Any, Any, Completion],
        Coroutine[Any, Any, list[Completion]],
        AsyncStream,
    ]
):
    """An LLM whose methods are awaited, from any number of tasks and event loops at once.

    All of them, and threads that use ``llm`` itself, share its batches and its prefix cache. The
    event loop never waits: tokenizing is done in other threads, computing by the LLM's engine,
    which calls back with what there is. Cancelling a task cancels what it asked for, and the
    sequences are free again.
    """

    def __init__(self, llm: LLM) -> None:
        """``llm``: what to ask; closing this closes it."""
        checks.instance("llm", llm, LLM, "give an LLM: motet.AsyncLLM(motet.LLM(path))")
        super().__init__(llm.model, llm._engine, llm.grammars)
        self.llm = llm

    async def chat_prompt(
        self,
        messages: Chat,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
    ) -> list[int]:
        """See ``LLM.chat_prompt``."""
        return await asyncio.to_thread(
            self.llm.chat_prompt,
            messages,
            tools=tools,
            template_options=template_options,
            continue_final_message=continue_final_message,
        )

    async def render_chat(
        self,
        messages: Chat,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        add_generation_prompt: bool = True,
    ) -> str:
        """See ``LLM.render_chat``."""
        return await asyncio.to_thread(
            self.llm.render_chat,
            messages,
            tools=tools,
            template_options=template_options,
            continue_final_message=continue_final_message,
            add_generation_prompt=add_generation_prompt,
        )

    async def embed(
        self,
        text: Prompt | Sequence[Prompt],
        pooling: str | None = None,
        *,
        normalize: bool = True,
        truncate: bool = False,
        timeout: float | None = None,
        progress: bool | Progress = False,
    ) -> Float32:
        """See ``LLM.embed``. A task that is cancelled meanwhile takes nothing further."""
        return await self._vectors(
            embed_call(self.model, text, pooling, normalize, truncate, timeout, progress)
        )

    async def rank(
        self,
        query: str,
        documents: str | Sequence[str] | Array,
        *,
        truncate: bool = False,
        timeout: float | None = None,
        progress: bool | Progress = False,
    ) -> Float32:
        """See ``LLM.rank``."""
        return await self._vectors(
            rank_call(self.model, query, documents, truncate, timeout, progress)
        )

    async def save(
        self,
        file: File,
        notes: Mapping[str, str] | None = None,
        *,
        notes_only: bool = False,
    ) -> None:
        """See ``LLM.save``. A task that is cancelled meanwhile leaves it to be done."""
        await asyncio.to_thread(self.llm.save, file, notes, notes_only=notes_only)

    async def restore(self, file: File, *, adopt_self_extend: bool = False) -> dict[str, str]:
        """See ``LLM.restore``. A task that is cancelled meanwhile leaves it to be done."""
        return await asyncio.to_thread(self.llm.restore, file, adopt_self_extend=adopt_self_extend)

    async def notes(self, file: File) -> dict[str, str]:
        """See ``LLM.notes``."""
        return await asyncio.to_thread(self.llm.notes, file)

    async def forget(self) -> None:
        """See ``LLM.forget``."""
        await asyncio.to_thread(self.llm.forget)

    async def held(self) -> list[int]:
        """See ``LLM.held``."""
        return await asyncio.to_thread(self.llm.held)

    async def conversation(self) -> AsyncConversation:
        """See ``LLM.conversation``."""
        return AsyncConversation(await asyncio.to_thread(self.llm.conversation))

    async def restore_conversation(self, file: File) -> tuple[AsyncConversation, dict[str, str]]:
        """See ``LLM.restore_conversation``."""
        conversation, notes = await asyncio.to_thread(self.llm.restore_conversation, file)
        return AsyncConversation(conversation), notes

    async def slots(self) -> list[SlotState]:
        """See ``LLM.slots``."""
        return await asyncio.to_thread(self.llm.slots)

    async def save_slot(self, slot: int, file: File, notes: Mapping[str, str] | None = None) -> int:
        """See ``LLM.save_slot``. A task that is cancelled meanwhile leaves it to be done."""
        return await asyncio.to_thread(self.llm.save_slot, slot, file, notes)

    async def restore_slot(self, slot: int, file: File) -> tuple[int, dict[str, str]]:
        """See ``LLM.restore_slot``. A task that is cancelled meanwhile leaves it to be done."""
        return await asyncio.to_thread(self.llm.restore_slot, slot, file)

    async def erase_slot(self, slot: int) -> int:
        """See ``LLM.erase_slot``."""
        return await asyncio.to_thread(self.llm.erase_slot, slot)

    async def close(self) -> None:
        """Close the LLM; answers under way end with an error."""
        await asyncio.to_thread(self.llm.close)

    async def __aenter__(self) -> "AsyncLLM":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _vectors(self, call: VectorCall) -> Float32:
        """As of ``LLM``: tokenized in another thread, and the loop is called with what there is."""
        outputs: asyncio.Queue[Slice | MotetError] = asyncio.Queue()
        gathered = Gathered(call)
        request = await asyncio.to_thread(call.prepare, _into(outputs))
        try:
            with token_counter(request.tokens, call.progress) as count:
                if call.count:
                    self._engine.embed(request)
                while gathered.missing:
                    count(gathered.take(await outputs.get()))
        except BaseException:
            request.cancelled = True
            raise
        return call.result(gathered.vectors)

    def _answer(self, call: Call) -> Any:
        stream = AsyncStream(self._engine, call, self)
        return stream if call.stream else _completions(stream, call)


def _into(queue: asyncio.Queue[Output]) -> Callable[[Output], None]:
    """A sink that puts outputs into a queue of the running event loop."""
    loop, put = asyncio.get_running_loop(), queue.put_nowait

    def sink(output: Output) -> None:
        try:
            loop.call_soon_threadsafe(put, output)
        except RuntimeError:  # the event loop has ended
            raise NobodyListens from None

    return sink


async def _completions(stream: AsyncStream, call: Call) -> Completion | list[Completion]:
    """Wait for all answers of a call."""
    completions: list[Completion] = []
    async with stream:
        with answer_counter(call.answers, call.progress) as count:
            async for chunk in stream:
                if chunk.completion:
                    completions.append(chunk.completion)
                    count(chunk.completion)
    return call.result(completions)
