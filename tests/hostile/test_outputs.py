"""A small share of ``python -m tests.hostile.outputs``."""

import pytest

from tests.hostile.outputs import COMMANDS, PLACES, TINY, check

FULL, *_ = PLACES
BY_PLACE = {place.redirection: place for place in PLACES if place.encoding == "utf-8"}


def command(*beginning: str) -> tuple[str, ...]:
    """The first one of the attack's that begins so."""
    return next(each for each in COMMANDS if each[: len(beginning)] == beginning)


@pytest.mark.parametrize("name", ["--help", "run", "show", "tokenize", "needle"])
def test_a_full_disk(name):
    check(command(name), FULL)


@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [
        (("--version",), ">&-"),
        (("run", TINY), "2>/dev/full"),
        (("run", TINY), "<&- >&- 2>&-"),
        (("show", TINY), "| true"),
        (("tokenize", TINY), "| head -c 1"),
    ],
)
def test_streams_that_are_closed_or_left(arguments, redirection):
    check(command(*arguments), BY_PLACE[redirection])


def test_a_picture_that_is_larger_than_files_may_be():
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'motet[plots]'")
    plot = next(each for each in COMMANDS if "--plot" in each)
    check(plot, next(place for place in PLACES if place.kibibytes == 1))


def test_an_encoding_that_lacks_characters():
    check(command("show"), next(place for place in PLACES if place.encoding == "ascii"))
