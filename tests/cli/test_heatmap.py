import click

from motet.cli.heatmap import heat_maps

GRID = {(64, 0.0): 0.0, (64, 1.0): 0.5, (1024, 0.0): 1.0}
WIDE = {(n, 0.5): n / 20 for n in range(20)}


def lines(grids, width) -> list[str]:
    return [line.rstrip() for line in click.unstyle(heat_maps(grids, width)).split("\n")]


def test_depths_are_rows_and_lengths_columns():
    assert lines({"one": GRID}, 80) == [
        "one",
        "    0%  0.00   1.00",
        "  100%  0.50",
        "tokens   64    1024",
    ]


def test_maps_stand_beside_each_other_where_there_is_room():
    both = {"one": GRID, "another": GRID}
    assert lines(both, 45) == [
        "one                     another",
        "    0%  0.00   1.00         0%  0.00   1.00",
        "  100%  0.50              100%  0.50",
        "tokens   64    1024     tokens   64    1024",
    ]
    below = lines(both, 44)
    assert below == [*lines({"one": GRID}, 44), "", *lines({"another": GRID}, 44)]


def test_a_map_that_is_too_wide_goes_on_below():
    for width in (80, 40, 21, 14, 1):
        shown = lines({"wide": WIDE}, width)
        assert max(map(len, shown)) <= max(width, 14)
        values = [word for line in shown if "%" in line for word in line.split()[1:]]
        assert values == [f"{n / 20:.2f}" for n in range(20)]


def test_colours_go_from_red_to_green():
    text = heat_maps({"": {(1, 0.0): 0.0, (2, 0.0): 1.0, (3, 0.0): 2.0}}, 80)
    assert "48;2;68;1;84" in text and text.count("48;2;253;231;37") == 2
