import builtins

import click
import numpy as np
import pytest

from motet.cli.pictures import check_plot, heat_maps, save_curves, save_heat_maps, save_matrices
from motet.errors import MotetError, OptionError, UnsupportedError

GRIDS = [{"plain": {(64, 0.0): 0.0, (128, 0.0): 0.25}, "Self-Extend": {(64, 0.5): 1.0}}]

GRID = {(64, 0.0): 0.0, (64, 1.0): 0.5, (1024, 0.0): 1.0}
WIDE = {(n, 0.5): n / 20 for n in range(20)}


def lines(grids, width) -> list[str]:
    shown = click.unstyle(heat_maps(grids, width, colour=True))
    return [line.rstrip() for line in shown.split("\n")]


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
    text = heat_maps({"": {(1, 0.0): 0.0, (2, 0.0): 1.0, (3, 0.0): 2.0}}, 80, colour=True)
    assert "48;2;68;1;84" in text and text.count("48;2;253;231;37") == 2


def draw(path):
    save_heat_maps([*GRIDS, {"alone": {(64, 0.5): 1.0}}], path)


@pytest.fixture
def matplotlib():
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'motet[plots]'")


def test_a_picture_of_every_kind(matplotlib, tmp_path):
    for name, begin in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")):
        path = check_plot(str(tmp_path / name))
        draw(path)
        assert path.read_bytes().startswith(begin)


def test_the_figures_are_text_and_always_the_same(matplotlib, tmp_path):
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw(first)
    draw(second)
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text()
    for word in ("plain", "Self-Extend", "alone", "0.25", "128", "50%", "depth of the needle"):
        assert f">{word}<" in text
    assert "nan" not in text  # cells that were not measured are blank


def test_curves(matplotlib, tmp_path):
    path = tmp_path / "curves.svg"
    curves = {"plain": ([16, 64, 256], [3.0, 2.5, 4.0])}
    save_curves(curves, path, xlabel="position", ylabel="nats", marks={"trained, 64": 64})
    text = path.read_text()
    assert all(f">{word}<" in text for word in ("plain", "position", "nats", "trained, 64", "256"))


def test_matrices(matplotlib, tmp_path):
    path = tmp_path / "matrices.svg"
    save_matrices({"m": np.array([[7, -1], [8, 9]])}, path)
    text = path.read_text()
    assert all(f">{word}<" in text for word in ("7", "8", "9"))
    assert ">-1<" not in text


@pytest.mark.parametrize("name", ["map.jpg", "map", "png", "map.svg.txt"])
def test_other_files_are_refused(name):
    with pytest.raises(OptionError, match=r"not a picture \(end it in \.pdf, \.png, \.svg\)"):
        check_plot(name)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OptionError, match="no such folder"):
        check_plot(str(tmp_path / "missing" / "a.png"))


def test_without_matplotlib(monkeypatch, tmp_path):
    real = builtins.__import__

    def missing(name, *rest):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UnsupportedError, match=r"needs? matplotlib.*pip install 'motet\[plots\]'"):
        check_plot(str(tmp_path / "a.png"))


def test_a_picture_that_cannot_be_written_leaves_the_old_one(matplotlib, tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    draw(path)
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("motet.cli.pictures.Sink.write", full)
    with pytest.raises(MotetError, match=r"a.svg: cannot be written: No space left on device"):
        draw(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.svg"]


def test_titles(matplotlib, tmp_path):
    path = tmp_path / "a.svg"
    save_heat_maps(GRIDS, path, title="of a model")
    assert ">of a model<" in path.read_text()
    save_curves({"plain": ([1], [2])}, path, xlabel="x", ylabel="y", marks={}, title="of it")
    assert ">of it<" in path.read_text()


def test_shades_where_there_are_no_colours():
    text = heat_maps({"one": GRID}, 80, colour=False)
    assert click.unstyle(text).split("\n") == [
        "one",
        "    0%   0.00 █ 1.00",
        "  100% ▒ 0.50",
        "tokens   64    1024",
    ]
