"""How many answers of a long list there are, on standard error."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from motet.engine.completion import Completion


@contextmanager
def answer_counter(answers: int, shown: bool) -> Generator[Callable[[Completion], None]]:
    """Gives what counts a completion, of so many ``answers``. Nothing is shown unless ``shown``."""
    if not shown:
        yield lambda completion: None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("answers, {task.fields[tokens]} tokens"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as display:
        bar = display.add_task("", total=answers, tokens=0)
        tokens = 0

        def count(completion: Completion) -> None:
            nonlocal tokens
            tokens += len(completion.tokens)
            display.update(bar, advance=1, tokens=tokens)

        yield count
