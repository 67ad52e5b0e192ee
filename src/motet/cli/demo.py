"""``motet demo``: a story, eight answers in one batch, each compared with itself computed alone,
and a key found far beyond the trained length."""

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.inputs import load_text_model, predicting
from motet.cli.loading import Loading
from motet.cli.options import WholeNumber, max_tokens_option, threads_option
from motet.cli.output import in_colour, print_stream, statistics
from motet.errors import MotetError, UnsupportedError

if TYPE_CHECKING:
    from motet.evals.haystack import Trial
    from motet.evals.variants import Variant
    from motet.model import Model

PROMPTS = (
    "Once upon a time, there was a little girl",
    "One day, a boy named Tim",
    "The old dog was very",
    "Lily and Ben went to the park",
    "The sun was",
    "A big red ball",
    "Mom said,",
    "In the garden there was a small",
)
STORY = "Once upon a time"
LONGEST = 512
"""Trained length up to which the search beyond it takes a moment."""
TIMES = (1, 2, 4)
"""Lengths of that search, times the trained one."""
_DEPTH = 0.25
_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_AROUND = 60
"""Characters shown on each side of an omission."""


def shipped_model() -> Path:
    """The tiny model that comes with the package."""
    import motet

    return Path(motet.__file__).parent / "data" / "motet-tiny.gguf"


@click.command("demo")
@click.option(
    "-m",
    "--model",
    type=click.Path(),
    metavar="MODEL",
    help="Another model's GGUF file (default: the tiny one that ships).",
)
@click.option(
    "--seed",
    type=WholeNumber(0),
    default=1,
    show_default=True,
    metavar="N",
    help="For other stories.",
)
@max_tokens_option("Length of each of the eight answers.", default=48)
@threads_option
def command(model: str | None, seed: int, max_tokens: int, threads: int | None) -> None:
    """Write a story, answer eight prompts at once and show each is what it is alone, and find a
    key far beyond the trained length (with a model trained for at most 512 tokens)."""
    from motet.evals.predictions import require_predictions

    loaded = predicting(load_text_model(model or str(shipped_model()), Loading(threads)))
    require_predictions(loaded, "the demo")
    _title("A story")
    _story(loaded, seed)
    _title(f"{len(PROMPTS)} prompts in one batch, and each again alone")
    _compare(loaded, seed, max_tokens)
    if can_extend(loaded):
        trained = loaded.config.context_length
        _title(f"A key in {TIMES[-1] * trained} tokens, by a model trained for {trained}")
        _find_key(loaded, seed)


def _story(model: "Model", seed: int) -> None:
    from motet.llm import LLM

    with LLM(model, max_sequences=1) as llm:
        click.secho(STORY, bold=True, nl=False)
        completion = print_stream(llm.generate(STORY, seed=seed, stream=True))
    click.echo("\n")
    click.secho(statistics(completion, model.config.context_length), dim=True)


def _compare(model: "Model", seed: int, tokens: int) -> None:
    """Raises MotetError when an answer is not what it is alone."""
    from motet.evals.solo import generate, same
    from motet.sampling import Sampling

    sampling = Sampling(seed=seed)
    prompts = [model.tokenizer.encode(text) for text in PROMPTS]
    together = generate(model, prompts, tokens, sampling)
    alone = [generate(model, [prompt], tokens, sampling) for prompt in prompts]
    equal = [same(together, i, solo, 0) for i, solo in enumerate(alone)]
    for text, prompt, answer, is_same in zip(PROMPTS, prompts, together.tokens, equal, strict=True):
        ids = [token for token in answer if token not in model.tokenizer.eog]
        _print_answer(text, model.tokenizer.decode(ids, previous=prompt[-1]), is_same)
    total = sum(map(len, together.tokens))
    seconds = sum(solo.seconds for solo in alone)
    click.echo(f"{sum(equal)} of {len(equal)} answers equal the same answer alone, bit for bit")
    click.echo(
        f"together {total / together.seconds:.0f} tokens/s · one after another "
        f"{total / seconds:.0f} tokens/s · {seconds / together.seconds:.1f} times as fast"
    )
    if not all(equal):
        raise MotetError("an answer in the batch differs from the same answer alone")


def _title(text: str) -> None:
    click.echo()
    click.secho(text, bold=True, underline=True)
    click.echo()


def _print_answer(prompt: str, answer: str, is_same: bool) -> None:
    """The prompt in bold, its answer, wrapped, and whether it is the same alone."""
    width = max(shutil.get_terminal_size().columns - 4, 40)
    first, *rest = textwrap.wrap(f"{prompt}{answer}", width) or [prompt]
    click.echo(_mark(is_same) + click.style(first[: len(prompt)], bold=True) + first[len(prompt) :])
    for line in rest:
        click.echo("  " + line)


def _mark(right: bool) -> str:
    return click.style("= ", fg="green") if right else click.style("! ", fg="red")


def can_extend(model: "Model") -> bool:
    """Whether Self-Extend applies to the model, and is shown in a moment."""
    from motet.evals.variants import require_extendable

    try:
        require_extendable(model)
    except UnsupportedError:
        return False
    return model.config.context_length <= LONGEST


def _find_key(model: "Model", seed: int) -> None:
    """One prompt, answered plain and with Self-Extend, and a map of both."""
    from motet.cli.pictures import heat_maps
    from motet.evals.haystack import Haystacks
    from motet.evals.needle import grid, search
    from motet.evals.variants import PLAIN, Variant
    from motet.self_extend import AutoExtend

    maker = Haystacks(model.tokenizer)
    trained = model.config.context_length
    trial = maker.make("passkey", TIMES[-1] * trained, _DEPTH, seed)
    click.echo(_excerpt(model, trial))
    key = model.tokenizer.decode(list(trial.answer)).strip()
    variants = [PLAIN, Variant("Self-Extend", AutoExtend())]
    for variant in variants:
        answer = _answer(model, trial, variant).strip()
        name = f"{variant.name}:"
        click.echo(f"{_mark(answer == key)}{name:<13}{click.style(answer, bold=True)}")
    click.echo()
    trials = [maker.make("passkey", n * trained, d, seed) for n in TIMES for d in _DEPTHS]
    grids = {
        f"{variant.name} finds": grid(
            [one for some in search(model, trials, variant) for one in some], "exact"
        )
        for variant in variants
    }
    click.echo(heat_maps(grids, shutil.get_terminal_size().columns, colour=in_colour()))


def _excerpt(model: "Model", trial: "Trial") -> str:
    """The beginning of a prompt, the text around its key, and its end."""
    text = " ".join(model.tokenizer.decode(list(trial.prompt[1:])).split())
    at = text.index("The pass key is")
    begin = text[:_AROUND].rpartition(" ")[0]
    before = text[at - _AROUND : at].partition(" ")[2]
    needle = text[at : at + 2 * _AROUND].rpartition(" ")[0]
    end = text[-_AROUND:].partition(" ")[2]
    return f"{begin} … {before}{needle} … {end}"


def _answer(model: "Model", trial: "Trial", variant: "Variant") -> str:
    """As many tokens as the answer has, greedily."""
    from motet.batch import Batch

    context = model.context(context_length=trial.positions, self_extend=variant.self_extend)
    batch, answer = Batch(), list[int]()
    batch.extend(trial.prompt, 0, logits="last")
    for position in range(len(trial.prompt), trial.length):
        answer.append(int(context.decode(batch).logits[-1].argmax()))
        batch = Batch()
        batch.add(answer[-1], position, seqs=0, logits=True)
    return model.tokenizer.decode(answer)
