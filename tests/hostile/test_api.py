"""Every parameter of everything public given every wrong kind, and random wrong calls."""

import pytest

import motet
from motet.errors import MotetError
from tests.hostile import api
from tests.hostile.harness import run
from tests.hostile.surface import CALLED, WRONG, Function, surface

FUNCTIONS = surface()


def test_what_is_public_is_found():
    names = {str(function) for function in FUNCTIONS}
    assert {"LLM", "LLM.generate", "LLM.self_extend", "Memory.shift", "Tokenizer.encode"} <= names
    assert {"Model.load", "Batch.add", "AsyncLLM.chat", "Output.__getitem__", "Sampling"} <= names
    (generate,) = [function for function in FUNCTIONS if str(function) == "LLM.generate"]
    assert {"prompt", "stop", "progress", "logit_bias"} <= set(generate.parameters)


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_wrong_kinds_are_refused_by_a_motet_error(
    function: Function, tmp_path, monkeypatch, recwarn
):
    monkeypatch.chdir(tmp_path)  # some of them are good names of files
    world = api.world()
    wrong: list[str] = []
    for name in function.parameters:
        for kind in WRONG:
            try:
                world.call(function, {name: WRONG[kind]()})
            except MotetError as error:
                assert str(error)
            except Exception as error:
                if (str(function), name) not in CALLED:
                    wrong.append(f"{name} = {kind}: {error!r}")
    assert not wrong
    assert not list(recwarn)
    assert world.good_calls() == world.expected


def test_random_wrong_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = run(api.case, range(60), memory=16 << 30)
    assert not report.failures, report
    assert report.refused > 20


def test_a_name_that_is_exported_is_listed():
    assert set(dir(motet)) == {*motet.__all__, "__version__"}
