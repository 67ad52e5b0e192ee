"""LLM: the thread-safe front of a model. Concurrent callers share batches."""

import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, BinaryIO, Literal, overload

from motet.engine import Chunk, Completion, Engine, GenerationOptions, Request, Sink, Stream, state
from motet.engine.contexts import ContextFactory
from motet.engine.options import ChatFields, GenerateFields
from motet.engine.prompts import (
    Message,
    Prompt,
    encode,
    one_or_many,
    render_chat,
    shared_prefixes,
    token_limit,
)
from motet.errors import CapacityError, MotetError, OptionError, UnsupportedError
from motet.model import Model
from motet.sampling import Sampling, SamplingFields
from motet.sampling.options import overridden
from motet.self_extend import AutoExtend, SelfExtend, setting_of
from motet.state import opened
from motet.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Several = Literal[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
"""Numbers of answers that a type checker knows to give a list."""

_ALWAYS = ("sampling", "n", "stream")
_CHAT = (*_ALWAYS, *ChatFields.__annotations__)
_GENERATE = (*_ALWAYS, *GenerateFields.__annotations__)


class LLM:
    """Text from a model, for any number of threads at once.

    One engine thread owns the memory and computes every caller's requests in shared batches; an
    answer is the same, bit for bit, whatever else runs beside it. Finished sequences stay in memory
    as a prefix cache, least recently used evicted first: a prompt that begins as one of them does
    goes on from there (``usage.cached_tokens``; the log "motet" says why where it does not). Use it
    as a context manager, or ``close`` it; it also closes when it is dropped and when the
    interpreter exits.
    """

    def __init__(
        self,
        model: Model | str | Path,
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
    ) -> None:
        """``model``: a loaded one, or the path of a GGUF file.

        ``max_sequences``: answers computed at once; further requests wait. ``max_tokens``: the
        context, which is how many tokens a sequence holds, prompt and answer together; None for
        the trained length, or as far as ``self_extend`` reaches (with "auto" 16 times the trained
        length). ``ubatch``, ``split``, ``kv_type``, ``kv_bytes``, ``checkpoint_bytes``,
        ``self_extend``: as in ``Model.context``; when ``kv_bytes`` are used up, the prefix cache
        is given up first, then prompts wait; an answer for which that is not enough ends with a
        CapacityError. ``threads``: as in ``Model.load``, for a path. ``prefix_reuse``: keep a
        prefix cache; False computes each prompt anew and keeps no memory between requests. Raises
        OptionError for an unusable value, UnsupportedError where Self-Extend means nothing to the
        model, and what ``Model.load`` raises.
        """
        setting = setting_of(self_extend)
        if isinstance(model, Model) and threads is not None:
            raise OptionError(
                f"threads is {threads} for a model already loaded", hint="give it to Model.load"
            )
        self.model = Model.load(model, threads) if isinstance(model, str | Path) else model
        self.max_sequences = max_sequences
        checkpoint_bytes = checkpoint_bytes if prefix_reuse else 0
        self._contexts = ContextFactory(
            self.model,
            max_sequences,
            max_tokens,
            ubatch,
            split,
            kv_type,
            kv_bytes,
            checkpoint_bytes,
        )
        context, length = self._contexts.make(setting)
        self._rewinds_anywhere = context.memory.rewinds_anywhere
        self._engine = Engine(context, length, prefix_reuse)
        self._close = weakref.finalize(self, self._engine.close)

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's; None where its file has no vocabulary."""
        return self.model.tokenizer

    @property
    def max_tokens(self) -> int:
        """How many tokens a sequence holds, prompt and answer together."""
        return self._engine.context_length

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

    @overload  # text is also a Sequence[str], but the first overload that fits counts
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: Literal[1] = 1,
        stream: Literal[False] = False,
        **options: "Unpack[GenerateFields]",
    ) -> Completion: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: Several,
        stream: Literal[False] = False,
        **options: "Unpack[GenerateFields]",
    ) -> list[Completion]: ...
    @overload
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: int,
        stream: Literal[False] = False,
        **options: "Unpack[GenerateFields]",
    ) -> Completion | list[Completion]: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[False] = False,
        **options: "Unpack[GenerateFields]",
    ) -> list[Completion]: ...
    @overload
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[True],
        **options: "Unpack[GenerateFields]",
    ) -> Stream: ...
    @overload
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> Completion | list[Completion] | Stream: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        max_tokens: int | None = None,
        n: int = 1,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        echo: bool = False,
        parse_special: bool = True,
        checkpoints: Sequence[int] = (),
        stream: bool = False,
        **fields: "Unpack[SamplingFields]",
    ) -> Completion | list[Completion] | Stream:
        """Continue a prompt (text, or token ids taken as they are) or each of several.

        Returns a Completion for one prompt; a list of them for a list of prompts or ``n`` > 1 (each
        prompt's n answers next to each other); with ``stream`` a Stream of Chunks, at once.

        ``sampling``: how tokens are chosen; ``fields`` of ``motet.Sampling`` given by name take
        precedence (``temperature=0`` is greedy). ``max_tokens``: at most so many tokens; None for
        as many as the context has room for. An answer that reaches either has finish_reason
        "length". ``n``: answers to each prompt, which is computed once; answer i has seed + i.
        ``stop``: text that ends an answer and is not part of it. ``logprobs``: report the log
        probability of each token, under the model itself, and so many of the most probable ones.
        ``echo``: the text begins with the prompt, and with ``logprobs`` its tokens are scored too.
        ``parse_special``: ``</s>`` in a text prompt means the token. ``checkpoints``: positions
        where prefixes of the prompt end that later prompts may share, for memory that can go back
        to few places; elsewhere they do nothing.

        Raises OptionError for an unusable value or an unknown name, CapacityError when a prompt
        leaves no room in the context or ``n`` is more than ``max_sequences``, before anything is
        computed; a MotetError when the computation fails.
        """
        sampling = overridden("LLM.generate", _GENERATE, sampling, fields)
        options = GenerationOptions(max_tokens, n, stop, logprobs, echo, parse_special, checkpoints)
        return self._answer(prompt, sampling, options, stream)

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        n: Literal[1] = 1,
        stream: Literal[False] = False,
        **options: "Unpack[ChatFields]",
    ) -> Completion: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        n: Several,
        stream: Literal[False] = False,
        **options: "Unpack[ChatFields]",
    ) -> list[Completion]: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[True],
        **options: "Unpack[ChatFields]",
    ) -> Stream: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: bool = False,
        **options: "Unpack[ChatFields]",
    ) -> Completion | list[Completion] | Stream: ...

    def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        max_tokens: int | None = None,
        n: int = 1,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        stream: bool = False,
        **fields: "Unpack[SamplingFields]",
    ) -> Completion | list[Completion] | Stream:
        """The model's next turn after ``messages``; options and result as in ``generate``.

        Raises TokenizerError when the file has no chat template, or it refuses the messages.
        """
        sampling = overridden("LLM.chat", _CHAT, sampling, fields)
        prompt = self.chat_prompt(messages)
        checkpoints = ()
        if self.tokenizer and not self._rewinds_anywhere:
            checkpoints = shared_prefixes(prompt, messages, self.tokenizer)
        options = GenerationOptions(max_tokens, n, stop, logprobs, checkpoints=checkpoints)
        return self._answer(prompt, sampling, options, stream)

    def chat_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a chat up to where the model's next turn begins, by its own template.

        Raises TokenizerError when the file has no chat template, or it refuses the messages.
        """
        if self.tokenizer is None:
            raise UnsupportedError("the model file has no vocabulary, so there is nothing to say")
        return render_chat(messages, self.tokenizer)

    def save(
        self,
        file: str | Path | BinaryIO,
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
        self._engine.save(file, notes, notes_only)

    def restore(
        self, file: str | Path | BinaryIO, *, adopt_self_extend: bool = False
    ) -> dict[str, str]:
        """Read what ``save`` wrote into the prefix cache; returns the notes.

        The least recently used sequences that are not in use are evicted for it, once all of it is
        read and known to fit: when this raises, the prefix cache is as it was. Raises
        StateFileError for a file that is damaged or of another model or ``kv_type``, CapacityError
        when it holds more sequences than are not in use, or longer ones than the context; what a
        file object raises passes through. A file that was saved with another Self-Extend setting
        is refused too, unless ``adopt_self_extend`` says to use that setting from now on; then the
        prefix cache is what the file has.
        """
        self._engine.require_open()
        with opened(file) as found:
            if adopt_self_extend:
                setting = state.setting_of(found)
                if setting != self.self_extend:
                    return self._engine.change(*self._contexts.make(setting), found)
            return self._engine.restore(found)

    def notes(self, file: str | Path | BinaryIO) -> dict[str, str]:
        """The notes of a state file of this model, saved under whatever Self-Extend setting.

        Nothing is restored. Raises StateFileError as ``restore`` does.
        """
        return self._engine.notes(file)

    def forget(self) -> None:
        """Empty the prefix cache."""
        self._engine.forget()

    def held(self) -> list[int]:
        """How many tokens each sequence of the prefix cache has, least recently used first."""
        return self._engine.held()

    def close(self) -> None:
        """End the engine thread and let the memory go; answers under way end with an error."""
        self._close()

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling,
        options: GenerationOptions,
        stream: bool,
    ) -> Completion | list[Completion] | Stream:
        single, prompts = one_or_many(prompt)
        outputs: SimpleQueue[Chunk | MotetError] = SimpleQueue()
        requests = self._requests(prompts, sampling, options, stream, outputs.put)
        chunks = Stream(self._engine, requests, outputs, self)
        if stream:
            return chunks
        with chunks:
            completions = [chunk.completion for chunk in chunks if chunk.completion]
        completions.sort(key=lambda completion: completion.index)
        return completions[0] if single and options.n == 1 else completions

    def _requests(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        options: GenerationOptions,
        stream: bool,
        sink: Sink,
    ) -> list[Request]:
        """A request for each prompt. Raises OptionError and CapacityError as ``generate`` does."""
        n_vocab, tokenizer = self.model.config.n_vocab, self.tokenizer
        sampling.check_vocabulary(n_vocab)
        if tokenizer is not None:
            banned = dict.fromkeys(tokenizer.suppressed, -math.inf)
            sampling = replace(sampling, logit_bias={**sampling.logit_bias, **banned})
        elif options.stop_strings:
            raise UnsupportedError("the model file has no vocabulary, so no stop string can appear")
        if options.n > self.max_sequences:
            raise CapacityError(
                f"{options.n} answers to one prompt need {options.n} sequences, but there are "
                f"{self.max_sequences}",
                hint="ask for fewer, or make the LLM with more max_sequences",
            )
        requests: list[Request] = []
        for number, prompt in enumerate(prompts):
            ids = encode(prompt, tokenizer, n_vocab, options.parse_special)
            request = Request(
                prompt=ids,
                sampling=sampling,
                options=options,
                token_limit=token_limit(len(ids), options.max_tokens, self.max_tokens),
                sink=sink,
                tokenizer=tokenizer,
                index=number * options.n,
                prompt_text=self._text(prompt) if options.echo else "",
                stream=stream,
            )
            requests.append(request)
        return requests

    def _text(self, prompt: Prompt) -> str:
        if isinstance(prompt, str):
            return prompt
        return self.tokenizer.decode(list(prompt)) if self.tokenizer else ""
