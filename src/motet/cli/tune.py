"""``motet tune``: measure how kernels read weights fastest on this processor."""

import click

from motet.cli.options import threads_option
from motet.cli.progress import counted_progress
from motet.cli.tables import print_tables, table


@click.command("tune")
@threads_option
@click.option("--forget", is_flag=True, help="Remove what was measured.")
def command(threads: int | None, forget: bool) -> None:
    """Measure how kernels read weights fastest on this processor, and keep it for every run.

    It takes some ten seconds; let nothing else run. Results stay the same to the bit, whatever is
    found: it is speed alone that differs.
    """
    from motet.kernels import CPU
    from motet.kernels.walks import keep_walks, measure_walks, walks_file

    if forget:
        path = walks_file()
        existed = path.exists()
        path.unlink(missing_ok=True)
        click.echo(f"removed {path}" if existed else "nothing was measured before", err=True)
        return
    kernels = CPU(threads)
    with counted_progress("measuring") as progress:
        found = measure_walks(kernels, progress)
    rows = [
        (each.type.name, str(each.rows), _walk(each.before), _walk(each.best), f"{each.share:.2f}")
        for each in found
    ]
    print_tables([table(["weights", "rows", "before", "best", "time"], rows)])
    click.echo(f"kept in {keep_walks(kernels.isa, found)}", err=True)


def _walk(walk: tuple[int, int, int]) -> str:
    strips, ahead, level = walk
    fetch = f", {ahead} bytes ahead into level {level}" if ahead else ""
    return f"{strips} strip{'s' if strips > 1 else ''}{fetch}"
