"""How many answers of a long list there are, or how much of its texts, on standard error."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from motet.engine.completion import Completion

Progress = Callable[[int, int], object]
"""Is told how much is done, and of how much."""


@contextmanager
def answer_counter(answers: int, shown: bool) -> Generator[Callable[[Completion], None]]:
    """Gives what counts a completion, of so many ``answers``. Nothing is shown unless ``shown``."""
    if not shown:
        yield lambda completion: None
        return
    with _bar("answers, {task.fields[tokens]} tokens", answers) as update:
        done = tokens = 0

        def count(completion: Completion) -> None:
            nonlocal done, tokens
            done, tokens = done + 1, tokens + len(completion.tokens)
            update(done, tokens)

        yield count


@contextmanager
def token_counter(tokens: int, progress: bool | Progress) -> Generator[Callable[[int], None]]:
    """Gives what counts tokens, of so many: shows a bar, or tells ``progress``, if it is one."""
    if progress is False:
        yield lambda count: None
        return
    done = 0

    def count(more: int, tell: Progress) -> None:
        nonlocal done
        done += more
        tell(done, tokens)

    if progress is not True:
        yield lambda more: count(more, progress)
        return
    with _bar("tokens", tokens) as update:
        yield lambda more: count(more, update)


@contextmanager
def _bar(what: str, total: int) -> Generator[Callable[[int, int], None]]:
    """Gives what shows how many of ``total`` are done, and how many tokens these have."""
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(what),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as display:
        bar = display.add_task("", total=total, tokens=0)

        def update(done: int, tokens: int) -> None:
            display.update(bar, completed=done, tokens=tokens)

        yield update
