"""What LLM and AsyncLLM have in common: ``generate`` and ``chat``, as callers see them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from motet.engine import Engine, GenerationOptions, Load, Request, Sink
from motet.engine.chatting import ChatSetting, ChatWriter, Turn
from motet.engine.conversations import AsyncConversation, Conversation
from motet.engine.options import ChatFields, GenerateFields
from motet.engine.preparing import Call, call_of, requests_of
from motet.engine.prompts import Chat, Prompt, one_or_many, one_or_many_chats
from motet.errors import OptionError, UnsupportedError
from motet.grammar import Grammar, GrammarCompiler
from motet.model import Model
from motet.runnable import Decodes, Encodes
from motet.sampling import Sampling, SamplingFields
from motet.sampling.options import overridden
from motet.sampling.recommended import recommended
from motet.tokenizer import Tokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

Several = Literal[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
"""Numbers of answers that a type checker knows to give a list."""

One = TypeVar("One")
"""What a call gives that asks for one answer."""
Many = TypeVar("Many")
"""What one gives that asks for several."""
Streamed = TypeVar("Streamed")
"""What one gives with ``stream=True``."""

_ALWAYS = ("sampling", "n", "stream", "progress")
_CHAT = (*_ALWAYS, *ChatFields.__annotations__)
_GENERATE = (*_ALWAYS, *GenerateFields.__annotations__)


class Front(ABC, Generic[One, Many, Streamed]):
    """Takes calls for an engine."""

    def __init__(self, model: Model, engine: Engine, grammars: GrammarCompiler) -> None:
        self.model = model
        self.max_sequences = engine.max_sequences
        self.speculates = engine.speculates
        """Whether tokens may be computed before they are chosen."""
        self.sampling = recommended(model.file.metadata)
        self.grammars = grammars
        """Compiles what answers are held to; ``grammar`` takes what it gives."""
        self._engine = engine

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's; None where its file has no vocabulary."""
        return self.model.tokenizer

    def load(self) -> Load:
        """What there is to do, and what was done so far: at any time, without waiting."""
        return self._engine.load()

    @property
    def max_tokens(self) -> int:
        """How many tokens a sequence holds, prompt and answer together."""
        return self._engine.context_length

    def __repr__(self) -> str:
        return (
            f"<motet.{type(self).__name__} of {self.model.name}: {self.max_sequences} sequences of"
            f" {self.max_tokens} tokens, {self._engine.status}>"
        )

    @overload  # text is also a Sequence[str], but the first overload that fits counts
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: Literal[1] = 1,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> One: ...
    @overload
    def generate(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: Several,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> Many: ...
    @overload
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        n: int,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> One | Many: ...
    @overload
    def generate(
        self,
        prompt: Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> Many: ...
    @overload
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[True],
        **options: "Unpack[GenerateFields]",
    ) -> Streamed: ...
    @overload
    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: bool = False,
        **options: "Unpack[GenerateFields]",
    ) -> One | Many | Streamed: ...

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
        client: str = "",
        timeout: float | None = None,
        grammar: str | Grammar | None = None,
        json_schema: Mapping[str, Any] | str | bool | None = None,
        regex: str | None = None,
        conversation: Conversation | AsyncConversation | None = None,
        slot: int | None = None,
        prediction: str | None = None,
        max_proposed: int | None = None,
        stream: bool = False,
        progress: bool = False,
        **fields: "Unpack[SamplingFields]",
    ) -> One | Many | Streamed:
        """Continue a prompt (text, or token ids taken as they are) or each of several.

        Returns a Completion for one prompt; a list of them for a list of prompts or ``n`` > 1 (each
        prompt's n answers next to each other); with ``stream`` a Stream of Chunks, at once. An
        AsyncLLM returns what is to be awaited for these, and an AsyncStream.

        ``sampling``: how tokens are chosen, None for what the model's file recommends, which
        ``self.sampling`` holds; ``fields`` of ``motet.Sampling`` given by name take precedence
        (``temperature=0`` is greedy). ``max_tokens``: at most so many tokens; None for
        as many as the context has room for. An answer that reaches either has finish_reason
        "length". ``n``: answers to each prompt, which is computed once; answer i has seed + i.
        ``stop``: text that ends an answer and is not part of it. ``logprobs``: report the log
        probability of each token, under the model itself, and so many of the most probable ones.
        ``echo``: the text begins with the prompt, and with ``logprobs`` its tokens are scored too.
        ``parse_special``: ``</s>`` in a text prompt means the token. ``checkpoints``: positions
        where prefixes of the prompt end that later prompts may share, for memory that can go back
        to few places; elsewhere they do nothing. ``client``: on whose behalf; where requests have
        to wait, those of the client who got least so far are next. ``timeout``: seconds after which
        the request ends, whatever it has come to. ``grammar`` (Lark, or llama.cpp's GBNF),
        ``json_schema`` (a dictionary or its JSON; True for any JSON), ``regex``: what the answer is
        held to, at most one of them; unless it ends by "length" or a ``stop`` string, it is of that
        form (docs/grammar.md). ``conversation``: answer in what
        ``llm.conversation()`` gave; the prompt is the whole one, of which what the conversation
        holds is not computed again. It is cut where the prompt differs, and holds prompt and answer
        afterwards, but for the token chosen last. ``slot``: answer in this sequence, once no other
        answer is in it, and evict no other. ``prediction``: text that the answer may well repeat,
        such as a file that it is to change: it may make it faster, and changes nothing else
        (docs/speculation.md); ``max_proposed``: at most so many tokens are proposed at a time,
        with 0 none. ``progress``: show on standard error how many of the answers there
        are.

        Raises OptionError for an unusable value or an unknown name, CapacityError when a prompt
        leaves no room in the context or ``n`` is more than ``max_sequences``, BusyError when too
        much waits already (``max_waiting``), ConversationBusy while another answer goes on in the
        conversation, before anything is computed; TimedOut after ``timeout``; a MotetError when the
        computation fails.
        """
        self._require_decoder()
        function = f"{type(self).__name__}.generate"
        sampling = overridden(function, _GENERATE, self.sampling, sampling, fields)
        options = GenerationOptions(
            *(max_tokens, n, stop, logprobs, echo, parse_special, checkpoints),
            *(client, timeout, grammar, json_schema, regex),
            *(conversation, slot, prediction, max_proposed),
        )
        single, prompts = one_or_many(prompt)

        def prepare(sink: Sink) -> list[Request]:
            held = options.constraint(self.grammars)
            asked = [Turn(each, options, held) for each in prompts]
            return requests_of(asked, sampling, stream, sink, self.model, self._engine)

        return self._answer(call_of(prepare, len(prompts), options.n, single, stream, progress))

    @overload
    def chat(
        self,
        messages: Chat,
        sampling: Sampling | None = None,
        *,
        n: Literal[1] = 1,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[ChatFields]",
    ) -> One: ...
    @overload
    def chat(
        self,
        messages: Chat,
        sampling: Sampling | None = None,
        *,
        n: Several,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[ChatFields]",
    ) -> Many: ...
    @overload
    def chat(
        self,
        messages: Sequence[Chat],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[False] = False,
        progress: bool = False,
        **options: "Unpack[ChatFields]",
    ) -> Many: ...
    @overload
    def chat(
        self,
        messages: Chat | Sequence[Chat],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: Literal[True],
        **options: "Unpack[ChatFields]",
    ) -> Streamed: ...
    @overload
    def chat(
        self,
        messages: Chat | Sequence[Chat],
        sampling: Sampling | None = None,
        *,
        n: int = 1,
        stream: bool = False,
        **options: "Unpack[ChatFields]",
    ) -> One | Many | Streamed: ...

    def chat(
        self,
        messages: Chat | Sequence[Chat],
        sampling: Sampling | None = None,
        *,
        max_tokens: int | None = None,
        n: int = 1,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        client: str = "",
        timeout: float | None = None,
        grammar: str | Grammar | None = None,
        json_schema: Mapping[str, Any] | str | bool | None = None,
        regex: str | None = None,
        conversation: Conversation | AsyncConversation | None = None,
        slot: int | None = None,
        prediction: str | None = None,
        max_proposed: int | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        template_options: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        stream: bool = False,
        progress: bool = False,
        **fields: "Unpack[SamplingFields]",
    ) -> One | Many | Streamed:
        """The model's next turn after ``messages``, or after each of a list of chats.

        A message's content is text, or a list of parts as the OpenAI API has them, all of type
        "text", which are joined by line breaks. Further options and the result are those of
        ``generate``; where the model's template marks what it thinks, that is the completion's
        ``reasoning``, its ``text`` is the rest, and ``json_schema`` and the like are of the text.

        ``tools``: functions that the model may call, in the OpenAI API's form; its calls are the
        completion's ``tool_calls``, their arguments held to the function's schema. ``tool_choice``:
        "auto", "none", "required", or {"type": "function", "function": {"name": "…"}}.
        ``parallel_tool_calls``: whether it may call several at once. ``template_options``: names
        that the template knows, such as enable_thinking. More in docs/tools.md.
        ``continue_final_message``: the last message is what the assistant began to say, and the
        answer is what follows it.

        Raises TokenizerError when the file has no chat template, or it refuses the messages;
        OptionError for tools that it has no place for or whose schema calls can't be held to;
        UnsupportedError where its calls can't be read, and what ``generate`` does. To continue a
        message of another role or with calls, or with an encoder-decoder, is an OptionError, one
        that the template does not write as it is given a TokenizerError.
        """
        self._require_decoder()
        function = f"{type(self).__name__}.chat"
        sampling = overridden(function, _CHAT, self.sampling, sampling, fields)
        options = GenerationOptions(
            *(max_tokens, n, stop, logprobs),
            client=client,
            timeout=timeout,
            grammar=grammar,
            json_schema=json_schema,
            regex=regex,
            conversation=conversation,
            slot=slot,
            prediction=prediction,
            max_proposed=max_proposed,
        )
        single, chats = one_or_many_chats(messages)

        setting = ChatSetting.of(
            *(tools, tool_choice, parallel_tool_calls, template_options, continue_final_message)
        )
        if setting.continues and self.model.config.decoder_start is not None:
            raise OptionError(
                "continue_final_message is True, and the model is an encoder-decoder: its answers"
                " do not go on from the prompt",
                hint="leave it out",
            )

        def prepare(sink: Sink) -> list[Request]:
            writer = ChatWriter(self._vocabulary(), setting)
            shares = not self._engine.rewinds_anywhere
            asked = [writer.turn(chat, options, self.grammars, shares) for chat in chats]
            return requests_of(asked, sampling, stream, sink, self.model, self._engine)

        return self._answer(call_of(prepare, len(chats), options.n, single, stream, progress))

    @abstractmethod
    def _answer(self, call: Call) -> One | Many | Streamed:
        """Have a call answered."""

    def _written(
        self,
        messages: Chat,
        tools: Sequence[Mapping[str, Any]] | None,
        template_options: Mapping[str, Any] | None,
        continue_final_message: bool,
        add_generation_prompt: bool = True,
    ) -> str:
        """See ``LLM.render_chat``."""
        single, chats = one_or_many_chats(messages)
        if not single:
            raise OptionError("messages is a list of chats", hint="give one of them at a time")
        setting = ChatSetting.of(
            tools,
            template_options=template_options,
            continue_final_message=continue_final_message,
        )
        return ChatWriter(self._vocabulary(), setting, calls_are_read=False).text(
            chats[0], add_generation_prompt
        )

    def _require_decoder(self) -> None:
        """Raise UnsupportedError for a model that writes nothing."""
        if isinstance(self.model.family, Encodes) and not isinstance(self.model.family, Decodes):
            raise UnsupportedError(
                f"{self.model.name} is an encoder: it reads whole texts and writes none",
                hint="use embed for vectors of texts, or rank if it is a reranker",
            )

    def _vocabulary(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UnsupportedError("the model file has no vocabulary, so there is nothing to say")
        return self.tokenizer
