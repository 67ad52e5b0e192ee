"""``motet demo``: a story, eight answers at once, each the same as alone, and a key found far
beyond the trained length."""

import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from motet.cli.answers import show, statistics
from motet.cli.demo_extend import TIMES, extends, show_extended
from motet.cli.loading import load_model
from motet.cli.options import threads_option
from motet.errors import MotetError, UnsupportedError
from motet.evals.solo import same, write
from motet.llm import LLM
from motet.sampling import Sampling

if TYPE_CHECKING:
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


def shipped_model() -> Path:
    """The tiny model that comes with the package."""
    import motet

    return Path(motet.__file__).parent / "data" / "motet-tiny.gguf"


@click.command("demo")
@click.option("--model", metavar="FILE", help="Another model (default: the tiny one that ships).")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="For other stories."
)
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=48,
    show_default=True,
    metavar="N",
    help="Length of each of the eight answers.",
)
@threads_option
def command(model: str | None, seed: int, tokens: int, threads: int | None) -> None:
    """Write a story, answer eight prompts at once and show each is what it is alone, and find a
    key far beyond the trained length (with a model trained for at most 512 tokens)."""
    loaded = load_model(model or str(shipped_model()), threads)
    if loaded.tokenizer is None:
        raise UnsupportedError(f"{model} has no vocabulary, so it has nothing to tell")
    _title("A story")
    _tell(loaded, seed)
    _title(f"{len(PROMPTS)} prompts in one batch, and each again alone")
    _compare(loaded, seed, tokens)
    if extends(loaded):
        trained = loaded.config.context_length
        _title(f"A key in {TIMES[-1] * trained} tokens, by a model trained for {trained}")
        show_extended(loaded, seed)


def _tell(model: "Model", seed: int) -> None:
    with LLM(model, max_sequences=1) as llm:
        click.secho(STORY, bold=True, nl=False)
        completion = show(llm.generate(STORY, seed=seed, stream=True))
    click.echo("\n")
    click.secho(statistics(completion, model.config.context_length), dim=True)


def _compare(model: "Model", seed: int, tokens: int) -> None:
    """Raises MotetError when an answer is not what it is alone."""
    sampling = Sampling(seed=seed)
    prompts = [model.tokenizer.encode(text) for text in PROMPTS]
    together = write(model, prompts, tokens, sampling)
    alone = [write(model, [prompt], tokens, sampling) for prompt in prompts]
    equal = [same(together, i, solo, 0) for i, solo in enumerate(alone)]
    for text, prompt, answer, is_same in zip(PROMPTS, prompts, together.tokens, equal, strict=True):
        said = [token for token in answer if token not in model.tokenizer.eog]
        _show(text, model.tokenizer.decode(said, previous=prompt[-1]), is_same)
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


def _show(prompt: str, answer: str, is_same: bool) -> None:
    """The prompt in bold, its answer, wrapped, and whether it is the same alone."""
    width = max(shutil.get_terminal_size().columns - 4, 40)
    first, *rest = textwrap.wrap(f"{prompt}{answer}", width) or [prompt]
    mark = click.style("= ", fg="green") if is_same else click.style("! ", fg="red")
    click.echo(mark + click.style(first[: len(prompt)], bold=True) + first[len(prompt) :])
    for line in rest:
        click.echo("  " + line)
