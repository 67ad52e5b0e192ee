"""LLM: the thread-safe front of a model. Concurrent callers share batches."""

import weakref
from collections.abc import Mapping, Sequence
from os import PathLike
from queue import SimpleQueue
from typing import Any, BinaryIO

from motet import checks
from motet.arrays import Array, Float32
from motet.conversion.loading import LoraPair, LoraPath
from motet.embedding import Gathered, VectorCall, embed_call, rank_call
from motet.engine import (
    Chunk,
    Completion,
    Conversation,
    Embedder,
    Engine,
    Slice,
    SlotState,
    Stream,
    state,
)
from motet.engine.contexts import ContextFactory
from motet.engine.pace import STEP_SECONDS
from motet.engine.preparing import Call
from motet.engine.progress import Progress, answer_counter, token_counter
from motet.engine.prompts import Chat, Prompt
from motet.engine.proposing import Speculate, proposing_of
from motet.errors import MotetError
from motet.front import Front
from motet.grammar import GrammarCompiler
from motet.model import Model, loaded_model
from motet.self_extend import AutoExtend, SelfExtend, setting_of
from motet.state import opened
from motet.tokenizer.chat import encode

File = str | PathLike[str] | BinaryIO
"""A path, or an open binary file."""


class LLM(Front[Completion, list[Completion], Stream]):
    """Text from a model, for any number of threads at once.

    One engine thread owns the memory and computes every caller's requests in shared batches; an
    answer is the same, bit for bit, whatever else runs beside it. Finished sequences stay in memory
    as a prefix cache, least recently used evicted first: a prompt that begins as one of them does
    goes on from there (``usage.cached_tokens``; the log "motet" says why where it does not). Use it
    as a context manager, or ``close`` it; it also closes when it is dropped and when the
    interpreter exits.
    """

    @checks.named
    def __init__(
        self,
        model: Model | str | PathLike[str],
        *,
        max_sequences: int = 16,
        max_tokens: int | None = None,
        ubatch: int = 512,
        split: str = "auto",
        kv_type: str = "auto",
        threads: int | None = None,
        prefix_reuse: bool = True,
        kv_bytes: int | None = None,
        checkpoint_bytes: int | None = None,
        self_extend: SelfExtend | AutoExtend | str | None = None,
        max_waiting: int | None = None,
        step_seconds: float = STEP_SECONDS,
        speculate: Speculate = "auto",
        type: str | None = None,
        lora: "LoraPath | LoraPair | Sequence[LoraPath | LoraPair]" = (),
        packed_cache: str | PathLike[str] | None = None,
        packed_cache_bytes: int | None = None,
    ) -> None:
        """``model``: a loaded one, or the path of one, as ``Model.load`` takes it.

        ``max_sequences``: answers computed at once; further requests wait. ``max_tokens``: the
        context, which is how many tokens a sequence holds, prompt and answer together; None for
        the trained length, or as far as ``self_extend`` reaches (with "auto" 16 times the trained
        length). ``ubatch``, ``split``, ``kv_type``, ``kv_bytes``, ``checkpoint_bytes``,
        ``self_extend``: as in ``Model.context``; when ``kv_bytes`` are used up, the prefix cache
        is given up first, then prompts wait; an answer for which that is not enough ends with a
        CapacityError. ``threads``, ``type``, ``lora``, ``packed_cache``, ``packed_cache_bytes``: as
        in ``Model.load``, for a path. ``prefix_reuse``: keep a prefix cache; False computes each
        prompt anew and keeps no memory between requests, as an encoder-decoder always does.
        ``max_waiting``: answers that may wait for a sequence, and calls to embed or rank for their
        turn; what is more is refused with a BusyError. None: any number. ``step_seconds``: about
        how long those who write wait for their next token while prompts of others are computed;
        shorter steps make prompts slower. ``speculate``: which tokens are computed before they are
        chosen; it changes how long an answer takes and nothing of what it is (docs/speculation.md).
        "auto": what answers may repeat of what was said before, where it pays; "lookup": the same,
        always; a path or Model: what this smaller model of the same vocabulary would say; None:
        nothing. Raises OptionError for an unusable value, UnsupportedError where Self-Extend means
        nothing to the model, and what ``Model.load`` raises.
        """
        setting = setting_of(self_extend)
        max_waiting = checks.optional_whole("max_waiting", max_waiting)
        step_seconds = checks.number("step_seconds", step_seconds, 0, 1e9)
        prefix_reuse = checks.flag("prefix_reuse", prefix_reuse)
        loaded = loaded_model(model, threads, type, lora, packed_cache, packed_cache_bytes)
        if loaded.config.decoder_start is not None:
            prefix_reuse = False  # an answer's tokens do not tell what was encoded for it
        checkpoint_bytes = checkpoint_bytes if prefix_reuse else 0
        self._contexts = ContextFactory(
            loaded,
            max_sequences,
            max_tokens,
            ubatch,
            split,
            kv_type,
            kv_bytes,
            checkpoint_bytes,
        )
        context, length = self._contexts.make(setting)
        proposing = proposing_of(speculate, loaded, threads, max_sequences, length, kv_bytes)
        embedder = Embedder(self._contexts.pooled, step_seconds)
        engine = Engine(
            context, length, prefix_reuse, embedder, max_waiting, step_seconds, proposing
        )
        super().__init__(loaded, engine, GrammarCompiler(loaded.tokenizer, loaded.config.n_vocab))
        self._close = weakref.finalize(self, engine.close)

    @checks.named
    def embed(
        self,
        text: Prompt | Sequence[Prompt],
        pooling: str | None = None,
        *,
        normalize: bool = True,
        truncate: bool = False,
        timeout: float | None = None,
        progress: bool | Progress = False,
    ) -> Float32:
        """Vectors of texts, or of token ids taken as they are: float32 ``[n, d_model]``.

        One text, too, gives a row of its own, ``[1, d_model]``. A row is bit for bit the same
        whatever is computed beside it. ``pooling``: "mean" of a text's states, "cls" the first
        one's, "last" the last one's; None for what the file says. ``normalize``: rows of length 1,
        whose products are cosines. ``truncate``: cut texts that are longer than the model was
        trained for, before their closing special token. ``progress``: True shows a bar on
        standard error; a function is told how many tokens are done, and of how many. ``timeout``:
        seconds after which the call ends with TimedOut.

        Raises OptionError for an unusable value, an empty text of a model that adds no tokens, and
        where neither ``pooling`` nor the file says what is meant; CapacityError for a text that is
        too long; NumericalError where states are not finite. Self-Extend does not reach here.
        """
        return self._vectors(
            embed_call(self.model, text, pooling, normalize, truncate, timeout, progress)
        )

    @checks.named
    def rank(
        self,
        query: str,
        documents: str | Sequence[str] | Array,
        *,
        truncate: bool = False,
        timeout: float | None = None,
        progress: bool | Progress = False,
    ) -> Float32:
        """How well each document answers the query: float32 ``[n]``, more is better.

        For rerankers, which read query and document together. A score is what the model's
        classifier gives: of a cross-encoder a number without bounds, whose sigmoid is a share; of
        Qwen3-Reranker the probability of "yes". ``truncate``: cut pairs that are longer than the
        model was trained for, the longer text first. ``progress``, ``timeout``: as for ``embed``.

        Raises UnsupportedError of a model that is no reranker, OptionError for an unusable value,
        CapacityError for a pair that is too long, TokenizerError where the vocabulary has no form
        for a pair.
        """
        return self._vectors(rank_call(self.model, query, documents, truncate, timeout, progress))

    @property
    def self_extend(self) -> SelfExtend | AutoExtend | None:
        """What is made of distances beyond the trained ones.

        Setting it empties the prefix cache, which depends on it, and gives ``max_tokens`` as many
        tokens as the LLM was made with, or as far as the setting reaches. Raises what making an LLM
        does, MotetError while answers are under way.
        """
        return self._engine.self_extend

    @self_extend.setter
    def self_extend(self, value: SelfExtend | AutoExtend | str | None) -> None:
        setting = setting_of(value)
        if setting != self.self_extend:
            self._engine.change(*self._contexts.make(setting))

    @checks.named
    def chat_prompt(
        self,
        messages: Chat,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
    ) -> list[int]:
        """The token ids of a chat up to where the model's next turn begins, by its own template.

        Options and errors are those of ``render_chat``.
        """
        text = self._written(messages, tools, template_options, continue_final_message)
        return encode(text, self._vocabulary())

    @checks.named
    def render_chat(
        self,
        messages: Chat,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text of a chat up to where the model's next turn begins, by its own template.

        ``tools``, ``template_options``, ``continue_final_message``: as in ``chat``.
        ``add_generation_prompt``: False leaves out what opens the model's turn. Raises
        TokenizerError when the file has no chat template, or it refuses the messages; OptionError
        and UnsupportedError as ``chat``.
        """
        opens = checks.flag("add_generation_prompt", add_generation_prompt)
        return self._written(messages, tools, template_options, continue_final_message, opens)

    @checks.named
    def save(
        self,
        file: File,
        notes: Mapping[str, str] | None = None,
        *,
        notes_only: bool = False,
    ) -> None:
        """Write the prefix cache to a state file, with ``notes`` of your own.

        Answers under way are not part of it, and go on meanwhile; with ``notes_only`` no sequence
        is. New answers take sequences that are not being written to a path; a file object gets all
        from a copy in memory. A path is replaced as a whole or not at all. Raises StateFileError
        when it cannot be written, OptionError for a file object that takes no bytes; what that
        raises passes through.
        """
        said = {} if notes is None else checks.text_by_name("notes", notes)
        target = checks.file(file, "write")
        self._engine.save(target, said, checks.flag("notes_only", notes_only))

    @checks.named
    def restore(self, file: File, *, adopt_self_extend: bool = False) -> dict[str, str]:
        """Read what ``save`` wrote into the prefix cache; returns the notes.

        The least recently used sequences that are not in use are evicted for it, once all of it is
        read and known to fit: when this raises, the prefix cache is as it was. Raises
        StateFileError for a file that is damaged or of another model or ``kv_type``, CapacityError
        when it holds more sequences than are not in use, or longer ones than the context; what a
        file object raises passes through. A file that was saved with another Self-Extend setting
        is refused too, unless ``adopt_self_extend`` says to use that setting from now on; then the
        prefix cache is what the file has.
        """
        source = checks.file(file, "read")
        adopt = checks.flag("adopt_self_extend", adopt_self_extend)
        self._engine.require_open()
        with opened(source) as found:
            if adopt:
                setting = state.setting_of(found)
                if setting != self.self_extend:
                    return self._engine.change(*self._contexts.make(setting), found)
            return self._engine.restore(found)

    def notes(self, file: File) -> dict[str, str]:
        """The notes of a state file of this model, saved under whatever Self-Extend setting.

        Nothing is restored. Raises StateFileError as ``restore`` does.
        """
        return self._engine.notes(checks.file(file, "read", seeks=True))

    def forget(self) -> None:
        """Empty the prefix cache."""
        self._engine.forget()

    def held(self) -> list[int]:
        """How many tokens each sequence of the prefix cache has, least recently used first."""
        return self._engine.held()

    def conversation(self) -> Conversation:
        """A sequence that stays in memory until it is closed, for ``generate`` and ``chat``.

        It holds nothing yet. Raises CapacityError where it would leave no sequence for others,
        UnsupportedError of an encoder-decoder or encoder.
        """
        self._require_decoder()
        return Conversation(self._engine.keeping, self._engine.keeping.create(), self)

    def restore_conversation(self, file: File) -> tuple[Conversation, dict[str, str]]:
        """A conversation as ``Conversation.save`` wrote it, and the notes.

        Raises as ``conversation`` and ``restore`` do, CapacityError when no sequence is free, and
        StateFileError for a file of several sequences.
        """
        self._require_decoder()
        self._engine.require_open()
        with opened(checks.file(file, "read")) as found:
            kept, notes = self._engine.keeping.restore(found)
        return Conversation(self._engine.keeping, kept, self), notes

    def slots(self) -> list[SlotState]:
        """What each sequence holds, and what is written in it."""
        return self._engine.keeping.slots()

    @checks.named
    def save_slot(self, slot: int, file: File, notes: Mapping[str, str] | None = None) -> int:
        """Write what sequence ``slot`` holds to a state file; returns how many tokens that are.

        Raises ConversationBusy while an answer is written in it or it is a conversation's, and
        what ``save`` raises.
        """
        said = {} if notes is None else checks.text_by_name("notes", notes)
        target = checks.file(file, "write")
        return self._engine.keeping.save_slot(self._slot(slot), target, said)

    @checks.named
    def restore_slot(self, slot: int, file: File) -> tuple[int, dict[str, str]]:
        """Let sequence ``slot`` hold what a file of one sequence has; how many tokens, and the
        notes.

        Raises as ``save_slot`` and ``restore`` do; then the sequence is as it was.
        """
        number = self._slot(slot)
        source = checks.file(file, "read")
        self._engine.require_open()
        with opened(source) as found:
            return self._engine.keeping.restore_slot(number, found)

    @checks.named
    def erase_slot(self, slot: int) -> int:
        """Empty sequence ``slot``; returns how many tokens it held. Raises as ``save_slot``."""
        return self._engine.keeping.erase_slot(self._slot(slot))

    def _slot(self, slot: int) -> int:
        return checks.whole("slot", slot, 0, self.max_sequences - 1)

    def close(self) -> None:
        """End the engine thread and let the memory go; answers under way end with an error."""
        self._close()

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, call: Call) -> Completion | list[Completion] | Stream:
        outputs: SimpleQueue[Chunk | MotetError | None] = SimpleQueue()
        requests = call.prepare(outputs.put)
        chunks = Stream(self._engine, requests, outputs, self)
        if call.stream:
            return chunks
        completions: list[Completion] = []
        with chunks, answer_counter(call.answers, call.progress) as count:
            for chunk in chunks:
                if chunk.completion:
                    completions.append(chunk.completion)
                    count(chunk.completion)
        return call.result(completions)

    def _vectors(self, call: VectorCall) -> Float32:
        """Have a call's vectors computed; whatever ends the wait cancels it."""
        outputs: SimpleQueue[Slice | MotetError] = SimpleQueue()
        gathered = Gathered(call)
        request = call.prepare(outputs.put)
        try:
            with token_counter(request.tokens, call.progress) as count:
                if call.count:
                    self._engine.embed(request)
                while gathered.missing:
                    self._engine.require_process()
                    count(gathered.take(outputs.get()))
        except BaseException:
            request.cancelled = True
            raise
        return call.result(gathered.vectors)
