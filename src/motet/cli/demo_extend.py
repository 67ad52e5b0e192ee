"""The demo's end: a key in a text longer than what the model was trained for."""

import shutil
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from motet.evals.haystack import Trial
    from motet.model import Model

LONGEST = 512
"""Trained lengths for which this takes a moment."""
TIMES = (1, 2, 4)
_DEPTH = 0.25
_DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_AROUND = 60
"""Characters shown on each side of what is left out."""


def extends(model: "Model") -> bool:
    """Whether Self-Extend means something to the model, and is shown in a moment."""
    from motet.errors import UnsupportedError
    from motet.self_extend import require_positions

    try:
        require_positions(model.caches, model.config.positional)
    except UnsupportedError:
        return False
    return model.config.context_length <= LONGEST


def show_extended(model: "Model", seed: int) -> None:
    """One prompt, answered plain and with Self-Extend, and a map of both."""
    from motet.cli.heatmap import heat_maps
    from motet.evals.haystack import Haystacks
    from motet.evals.needle import Arm, grid, search
    from motet.self_extend import AutoExtend

    maker = Haystacks(model.tokenizer)
    trained = model.config.context_length
    trial = maker.make("passkey", TIMES[-1] * trained, _DEPTH, seed)
    click.echo(_excerpt(model, trial))
    key = model.tokenizer.decode(list(trial.answer)).strip()
    arms = [Arm("plain", None), Arm("Self-Extend", AutoExtend())]
    for arm in arms:
        said = _answer(model, trial, arm.self_extend)
        mark = click.style("= ", fg="green") if said.strip() == key else click.style("! ", fg="red")
        click.echo(f"{mark}{arm.name + ':':<13}{click.style(said.strip(), bold=True)}")
    click.echo()
    trials = [maker.make("passkey", n * trained, d, seed) for n in TIMES for d in _DEPTHS]
    grids = {
        f"{arm.name} finds": grid(
            [one for some in search(model, trials, arm) for one in some], "exact"
        )
        for arm in arms
    }
    click.echo(heat_maps(grids, shutil.get_terminal_size().columns))


def _excerpt(model: "Model", trial: "Trial") -> str:
    text = " ".join(model.tokenizer.decode(list(trial.prompt[1:])).split())
    at = text.index("The pass key is")
    begin = text[:_AROUND].rpartition(" ")[0]
    before = text[at - _AROUND : at].partition(" ")[2]
    told = text[at : at + 2 * _AROUND].rpartition(" ")[0]
    end = text[-_AROUND:].partition(" ")[2]
    return f"{begin} … {before}{told} … {end}"


def _answer(model: "Model", trial: "Trial", self_extend: Any) -> str:
    """As many tokens as the answer has, greedily."""
    from motet.batch import Batch

    context = model.context(context_length=trial.positions, self_extend=self_extend)
    batch, said = Batch(), []
    batch.extend(trial.prompt, 0, logits="last")
    for position in range(len(trial.prompt), trial.length):
        said.append(int(context.decode(batch).logits[-1].argmax()))
        batch = Batch()
        batch.add(said[-1], position, seqs=0, logits=True)
    return model.tokenizer.decode(said)
