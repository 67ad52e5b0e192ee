"""lm-evaluation-harness with Motet among its models: ``--model motet``.

The harness knows models that were imported, and has no other way to find them. So this is its
command with one more:

    python -m motet.integrations.lm_eval run --model motet --model_args path=model.gguf \\
        --batch_size auto --tasks …

and in Python ``import motet.integrations.lm_eval`` before ``lm_eval.simple_evaluate``.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from motet import __version__, checks
from motet.errors import CapacityError, OptionError, UnsupportedError
from motet.evals.likelihood import continuations
from motet.llm import LLM
from motet.model import Model
from motet.sampling import Sampling
from motet.tokenizer.chat import encode, select

_AUTO = 32
"""Contexts, or answers, that are computed together unless it is said how many."""
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repeat_penalty",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""What the harness, or transformers, calls a field of ``motet.Sampling``."""
_NOTHING_LEFT_OUT = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""How tokens are sampled, but for what a task asks for."""

_log = logging.getLogger("motet")

Tokens = list[int]
Scored = tuple[tuple[str, str] | None, Tokens, Tokens]
"""What is asked, and the tokens of its context and continuation."""


@register_model("motet")
class MotetLM(TemplateLM):
    """A model by its path, as ``motet.Model.load`` takes it.

    Results are bit for bit the same for every ``batch_size``. What contexts begin with in common,
    such as examples and the question of four endings, is computed once.
    """

    def __init__(
        self,
        path: str,
        *,
        batch_size: int | str = "auto",
        max_batch_size: int | None = None,
        device: str | None = None,
        type: str | None = None,
        threads: int | None = None,
        kv_type: str = "auto",
        self_extend: str | None = None,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        speculate: str | None = "auto",
        seed: int = 1234,
    ) -> None:
        """``batch_size``: contexts, or answers, computed together; "auto": as is fastest, but no
        more than ``max_batch_size``. ``device``: means nothing. ``type``, ``threads``: as in
        ``motet.Model.load``. ``kv_type``, ``self_extend``, ``speculate``: as in ``motet.LLM``.
        ``max_length``: tokens of a context and what continues it; of longer ones the beginning is
        left out, as in the harness' other models. None: as many as the model takes.
        ``max_gen_toks``: tokens of an answer, where a task does not say. ``seed``: of tasks that
        sample; an answer's own is this and its number. Raises what ``motet.LLM`` does.
        """
        super().__init__()
        del device  # the harness says cuda:0 where nobody says anything
        self.batch_size = _batch_size(batch_size, max_batch_size)
        self.max_gen_toks = checks.whole("max_gen_toks", max_gen_toks, 1)
        self._seed = checks.whole("seed", seed)
        self.model = Model.load(path, threads, type=type)
        if self.model.tokenizer is None:
            raise UnsupportedError(f"{path} has no vocabulary, and tasks are texts")
        self.tokenizer = self.model.tokenizer
        self._options: dict[str, Any] = {"kv_type": kv_type, "self_extend": self_extend}
        self._llm = LLM(
            self.model,
            max_sequences=self.batch_size,
            max_tokens=max_length,
            speculate=speculate,
            **self._options,
        )
        self.max_length = self._llm.max_tokens

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text. Raises UnsupportedError where the vocabulary has none."""
        return _present(self.tokenizer.eos)

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        bos = self.tokenizer.bos
        return self.eot_token_id if bos is None else bos

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: object
    ) -> Tokens:
        """The ids of a text; control tokens spelt out in it are these, as with transformers."""
        if add_special_tokens is None:
            return encode(string, self.tokenizer)
        return self.tokenizer.encode(string, add_special_tokens, parse_special=True)

    def _loglikelihood_tokens(
        self, requests: Sequence[Scored], disable_tqdm: bool = False, **_: object
    ) -> list[tuple[float, bool]]:
        questions = [self._cut(given, following) for _, given, following in requests]
        scores: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="likelihoods") as progress:
            for answers in continuations(
                self.model, questions, contexts=self.batch_size, **self._options
            ):
                for number, answer in answers:
                    scores[number] = (float(answer.logprobs.sum()), answer.greedy)
                    asked = requests[number][0]
                    if asked is not None:  # the whole of rolling windows is kept instead
                        self.cache_hook.add_partial("loglikelihood", asked, scores[number])
                progress.update(len(answers))
        return scores

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """See ``LM.loglikelihood_rolling``: all windows of all texts together."""
        windows: list[Scored] = []
        counts: list[int] = []
        for request in requests:
            rolling = get_rolling_token_windows(
                self.tok_encode(request.args[0]), self.prefix_token_id, self.max_length, 1
            )
            parts = [(None, *make_disjoint_window(window)) for window in rolling]
            windows += parts
            counts.append(len(parts))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        sums = [sum(next(scores)[0] for _ in range(count)) for count in counts]
        for request, value in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
        return sums

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """See ``LM.generate_until``: answers are written at once, in shared batches."""

        def answer(number: int) -> str:
            context, options = requests[number].args
            text = self._written(context, options, self._seed + number)
            self.cache_hook.add_partial("generate_until", (context, options), text)
            return text

        with ThreadPoolExecutor(self.batch_size) as threads:
            answers = threads.map(answer, range(len(requests)))
            shown = tqdm(answers, total=len(requests), disable=disable_tqdm, desc="answers")
            return list(shown)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as text, by the model's own template; what the assistant began is gone on with
        where nothing is to be added."""
        return self._llm.render_chat(
            chat_history,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The model's template; None where none is asked for. Raises OptionError for another."""
        if chat_template in (False, None):
            return None
        if chat_template not in (True, "default"):
            raise OptionError(
                f"apply_chat_template is {checks.shown(chat_template)}",
                hint="give it without a name: the model's main template is used",
            )
        return select(self.tokenizer)

    @property
    def tokenizer_name(self) -> str:
        """Of the model whose tokenizer it is, for the harness' caches."""
        return f"motet-{self.model.fingerprint.weights}"

    def get_model_info(self) -> dict[str, Any]:
        """What results depend on, for their record."""
        return {
            "motet_version": __version__,
            "model_name": self.model.name,
            "model_sha": self.model.fingerprint.weights,
            "motet_arithmetic": self.model.kernels.arithmetic,
            "max_length": self.max_length,
            **self._options,
        }

    def _cut(self, given: Tokens, following: Tokens) -> tuple[Tokens, Tokens]:
        """Without the beginning of what is too long. The last token is not computed."""
        over = len(given) + len(following) - 1 - self.max_length
        if over <= 0:
            return given, following
        if over >= len(given):
            raise CapacityError(
                f"a continuation of {len(following)} tokens leaves no room for its context in"
                f" {self.max_length}"
            )
        _log.warning("a context of %d tokens is cut to its last %d", len(given), len(given) - over)
        return given[over:], following

    def _written(self, context: str, options: dict[str, Any], seed: int) -> str:
        given: dict[str, Any] = {**normalize_gen_kwargs(options, self.max_gen_toks)}
        most, until = given.pop("max_gen_toks"), [text for text in given.pop("until") if text]
        del given["do_sample"]  # the temperature says it
        unknown = sorted(given.keys() - _SAMPLING.keys())
        if unknown:
            raise OptionError(
                f"the task asks for {', '.join(unknown)}, which Motet does not know",
                hint=f"beside until, do_sample and max_gen_toks it knows {', '.join(_SAMPLING)}",
            )
        room = self.max_length - most
        if room <= 0:
            raise CapacityError(
                f"an answer of {most} tokens leaves no room for its context in {self.max_length}",
                hint="use a smaller max_gen_toks",
            )
        fields = {_SAMPLING[name]: value for name, value in given.items()}
        ids = self.tok_encode(context)
        if len(ids) > room:
            _log.warning("a context of %d tokens is cut to its last %d", len(ids), room)
        return self._llm.generate(
            ids[-room:],
            Sampling(**{**_NOTHING_LEFT_OUT, **fields}, seed=seed),
            max_tokens=most,
            stop=until or None,
        ).text


def _batch_size(given: int | str, most: int | None) -> int:
    """Raises OptionError for what is neither a number nor "auto"."""
    most = checks.optional_whole("max_batch_size", most, 1)
    if isinstance(given, str) and given.partition(":")[0] == "auto":
        return min(_AUTO, most or _AUTO)
    try:
        return checks.whole("batch_size", int(given), 1)
    except (TypeError, ValueError):
        raise OptionError(
            f"batch_size is {checks.shown(given)}", hint='use a number, or "auto"'
        ) from None


def _present(token: int | None) -> int:
    if token is None:
        raise UnsupportedError("the vocabulary has no token that ends a text")
    return token


if __name__ == "__main__":
    cli_evaluate()
