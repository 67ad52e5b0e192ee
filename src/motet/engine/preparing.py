"""A call with its options checked, and the requests that it becomes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from motet import checks
from motet.engine.chatting import Turn
from motet.engine.completion import Completion
from motet.engine.engine import Engine
from motet.engine.options import GenerationOptions, require_possible
from motet.engine.prompts import Prompt, encode, require_encodable, token_limit
from motet.engine.request import Request, Sink
from motet.errors import CapacityError, OptionError, UnsupportedError
from motet.model import Model
from motet.sampling import Sampling
from motet.tokenizer import Tokenizer


@dataclass(frozen=True)
class Call:
    """A call whose options are checked, and whose prompts are not tokens yet."""

    prepare: Callable[[Sink], list[Request]]
    """Makes a request for each prompt, which takes as long as tokenizing and templates do."""
    answers: int
    single: bool
    """Whether the one answer is returned by itself, not in a list."""
    stream: bool
    progress: bool

    def result(self, completions: Sequence[Completion]) -> Completion | list[Completion]:
        """What the call returns, of completions in any order."""
        ordered = sorted(completions, key=lambda completion: completion.index)
        return ordered[0] if self.single else ordered


def call_of(
    prepare: Callable[[Sink], list[Request]],
    prompts: int,
    n: int,
    single: bool,
    stream: object,
    progress: object,
) -> Call:
    """``single``: whether the caller gave one prompt, not a list. Raises OptionError."""
    shown = checks.flag("progress", progress)
    streamed = checks.flag("stream", stream)
    if streamed and shown:
        raise OptionError(
            "progress is True for a stream", hint="a stream has its own: prompt_progress"
        )
    return Call(prepare, prompts * n, single and n == 1, streamed, shown)


def requests_of(
    asked: Sequence[Turn],
    sampling: Sampling,
    stream: bool,
    sink: Sink,
    model: Model,
    engine: Engine,
) -> list[Request]:
    """A request for each prompt. Raises OptionError and CapacityError as ``LLM.generate`` does."""
    tokenizer, sequences = model.tokenizer, engine.max_sequences
    sampling.check_vocabulary(model.config.n_vocab)
    if tokenizer is not None:
        banned = dict.fromkeys(tokenizer.suppressed, -math.inf)
        sampling = replace(sampling, logit_bias={**sampling.logit_bias, **banned})
    engine.require_possible(sum(turn.options.n for turn in asked))
    expected = _expected(asked[0].options, model)[: engine.context_length] if asked else []
    requests: list[Request] = []
    for number, turn in enumerate(asked):
        prompt, options = turn.prompt, turn.options
        require_possible(options, len(asked), engine.keeping, sequences)
        if tokenizer is None and options.stop_strings:
            raise UnsupportedError("the model file has no vocabulary, so no stop string can appear")
        if options.n > sequences:
            raise CapacityError(
                f"{options.n} answers to one prompt need {options.n} sequences, but there are "
                f"{sequences}",
                hint="ask for fewer, or make the LLM with more max_sequences",
            )
        ids = encode(prompt, tokenizer, model.config.n_vocab, options.parse_special)
        source, start = None, model.config.decoder_start
        if start is not None:
            require_encodable(len(ids), model.config.context_length, options)
            source, ids = ids, [start]
        request = Request(
            prompt=ids,
            sampling=sampling,
            options=options,
            token_limit=token_limit(len(ids), options.max_tokens, engine.context_length),
            sink=sink,
            tokenizer=tokenizer,
            grammar=turn.grammar,
            reading=turn.reading,
            prediction=expected,
            source=source,
            index=number * options.n,
            prompt_text=_text(prompt, tokenizer) if options.echo else "",
            stream=stream,
        )
        requests.append(request)
    return requests


def _expected(options: GenerationOptions, model: Model) -> list[int]:
    """The tokens of what an answer probably says: none of it is special to the model."""
    if not options.prediction:
        return []
    if model.tokenizer is None:
        raise UnsupportedError("the model file has no vocabulary, so no text can be predicted")
    return model.tokenizer.encode(options.prediction, add_special=False)


def _text(prompt: Prompt, tokenizer: Tokenizer | None) -> str:
    if isinstance(prompt, str):
        return prompt
    return tokenizer.decode(list(prompt)) if tokenizer else ""
