"""The types that tensors get, beside those that llama-quantize gave them."""

import json
import re
from pathlib import Path

import pytest

from motet.conversion.mixes import MIXES, Wishes, assign, mix_of, type_of
from motet.errors import OptionError
from motet.weights.formats import TensorType
from motet.weights.source import TensorInfo
from tests.conversion.families import (
    IMPORTANT,
    MIXES_WISHED,
    OPTIONS,
    WISHING,
    infos,
    models,
    spelled,
)

_STORED = json.loads(Path(__file__).with_name("mixes.json").read_text())
EXPECTED, WISHED = _STORED["mixes"], _STORED["wishes"]
MODELS = {name: (keys, shapes) for name, keys, shapes in models()}


def test_the_table_is_of_these_models_and_mixtures():
    assert EXPECTED.keys() == MODELS.keys()
    assert all(mixes.keys() == MIXES.keys() for mixes in EXPECTED.values())


@pytest.mark.parametrize("name", MODELS)
def test_types_are_those_of_llama_quantize(name):
    keys, shapes = MODELS[name]
    for mix in MIXES.values():
        types = assign(keys, infos(shapes), mix, Wishes(), important=False)
        found = spelled({name: type.name for name, type in types.items()})
        assert found == EXPECTED[name][mix.name], mix.name


@pytest.mark.parametrize("wish", [*OPTIONS, IMPORTANT])
@pytest.mark.parametrize("name", WISHING)
def test_wishes_are_met_as_llama_quantize_meets_them(name, wish):
    keys, shapes = MODELS[name]
    wishes = OPTIONS[wish][1] if wish in OPTIONS else Wishes()
    for mix in MIXES_WISHED:
        types = assign(keys, infos(shapes), MIXES[mix], wishes, important=wish == IMPORTANT)
        found = spelled({name: type.name for name, type in types.items()})
        assert found == WISHED[name][wish][mix], mix


def test_floats_take_wishes_too():
    keys, shapes = MODELS["llama"]
    wishes = Wishes(tensors=[(re.compile("ffn_down"), TensorType.Q8_0)])
    types = assign(keys, infos(shapes), MIXES["F16"], wishes, important=False)
    assert types["blk.0.ffn_down.weight"] is TensorType.Q8_0
    assert types["blk.0.ffn_up.weight"] is TensorType.F16


def test_what_holds_integers_stays():
    keys, _ = MODELS["llama"]
    info = TensorInfo("blk.0.ffn_table.weight", (4, 256), TensorType.I32)
    types = assign(keys, {info.name: info}, MIXES["Q8_0"], Wishes(pure=True), important=False)
    assert types == {info.name: TensorType.I32}


def test_rows_that_nothing_divides_are_f16():
    keys, _ = MODELS["llama"]
    info = TensorInfo("blk.0.ffn_up.weight", (4, 40), TensorType.F32)
    for mix in ("Q8_0", "Q4_K_M", "IQ4_NL"):
        types = assign(keys, {info.name: info}, MIXES[mix], Wishes(), important=False)
        assert types == {info.name: TensorType.F16}


def test_names_in_any_case_and_aliases():
    assert mix_of("q4_k").name == "Q4_K_M"
    assert mix_of("iq4_xs").name == "IQ4_XS"
    assert type_of("q6_k", "") is TensorType.Q6_K


def test_unknown_types_are_refused_with_those_that_there_are():
    with pytest.raises(OptionError, match=r"type is 'Q9'.*Q4_K_M"):
        mix_of("Q9")
    with pytest.raises(OptionError, match="output_type: 'IQ2_XXS' is not"):
        type_of("IQ2_XXS", "output_type")
