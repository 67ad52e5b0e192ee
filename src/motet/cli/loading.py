"""Loading a model for a command, with a progress line on standard error."""

from motet.cli.patience import waiting
from motet.errors import UnsupportedError
from motet.model import Model


def load_model(path: str, threads: int | None) -> Model:
    """What ``Model.load`` gives and raises."""
    done = [0, 1]

    def progress(so_far: int, total: int) -> None:
        done[:] = so_far, max(total, 1)

    with waiting("loading", lambda: done[0] / done[1]):
        return Model.load(path, threads, progress=progress)


def load_reader(path: str, threads: int | None) -> Model:
    """As ``load_model``; raises UnsupportedError for a file that can't read a text."""
    model = load_model(path, threads)
    if model.tokenizer is None:
        raise UnsupportedError(f"{path} has no vocabulary, so a text means nothing to it")
    return model
