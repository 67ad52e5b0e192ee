"""motet.quantize: files that are llama-quantize's to the byte where both round the same way."""

import json
from pathlib import Path

import numpy as np
import pytest

import motet
from motet.conversion.importance import Entry, ImportanceMatrix
from motet.errors import ModelFileError, NumericalError, OptionError, UnsupportedError
from motet.weights.formats import TensorType, dequantize
from motet.weights.gguf import GGUFFile
from motet.weights.gguf_writer import write
from tests.conversion.families import digest, random_models, wide_model
from tests.models import tiny
from tests.weights.sources import ArraySource

DIGESTS = json.loads(Path(__file__).with_name("digests.json").read_text())
ALL_TYPES = (
    "MXFP4_MOE",
    "TQ1_0",
    "TQ2_0",
    "Q4_0",
    "Q4_K_M",
    "Q6_K",
    "Q2_K",
    "Q3_K_S",
    "Q5_K_M",
    "IQ4_NL",
    "IQ4_XS",
    "Q8_0",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return dict(random_models(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    return {name: wide_model(folder, name) for name in ("llama", "mixtral", "deepseek2")}


@pytest.fixture
def model(models):
    return models["llama"]


@pytest.mark.parametrize("name", DIGESTS)
def test_tensors_are_llama_quantizes(models, name, tmp_path):
    for type, expected in DIGESTS[name].items():
        out = tmp_path / f"{type}.gguf"
        made = motet.quantize(models[name], out, type, pure=True)
        assert made.files == (out,)
        assert digest(out) == expected, type


def test_keys_are_kept_and_the_type_is_said(model, tmp_path):
    motet.quantize(model, tmp_path / "a.gguf", "q4_k")
    with GGUFFile.open(model) as before, GGUFFile.open(tmp_path / "a.gguf") as after:
        added = {"general.quantization_version": 2, "general.file_type": 15}
        assert after.metadata == {**before.metadata, **added}
        assert after.metadata_types.items() >= before.metadata_types.items()
        assert after.metadata_types["general.file_type"] == (4,)


@pytest.mark.parametrize("type", ALL_TYPES)
def test_what_is_said_is_what_is_written(wide, tmp_path, type):
    model = wide["llama"]
    said = motet.quantize(model, tmp_path / "a.gguf", type, dry_run=True)
    assert said.files == () and not list(tmp_path.iterdir())
    made = motet.quantize(model, tmp_path / "a.gguf", type)
    assert made.tensors == said.tensors and made.nbytes < made.nbytes_before
    with GGUFFile.open(model) as before, GGUFFile.open(tmp_path / "a.gguf") as after:
        assert list(after.tensors) == [each.name for each in made.tensors]
        for each in made.tensors:
            info = after.tensors[each.name]
            assert (info.type, info.shape, info.nbytes) == (each.after, each.shape, each.nbytes)
            assert before.tensors[each.name].type is each.before
            if each.after is each.before:
                assert np.array_equal(after.raw(each.name), before.raw(each.name))
        weights = sum(np.prod(each.shape) for each in made.tensors)
        assert made.bits_per_weight == pytest.approx(8 * made.nbytes / weights)
    assert motet.Model.load(tmp_path / "a.gguf", 1).n_vocab == tiny.VOCAB


def test_threads_do_not_matter(model, tmp_path):
    for threads in (1, 2, 3):
        motet.quantize(model, tmp_path / f"{threads}.gguf", "Q4_K_M", threads=threads)
    files = [(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 3)]
    assert files[0] == files[1] == files[2]


def test_wishes(model, tmp_path):
    made = motet.quantize(
        model,
        tmp_path / "a.gguf",
        "Q8_0",
        tensor_types={r"blk\.1\.": "q5_1", "ffn_up": "q4_0"},
        embedding_type="f16",
    )
    types = {each.name: each.after for each in made.tensors}
    assert types["blk.1.ffn_up.weight"] is TensorType.Q5_1
    assert types["blk.0.ffn_up.weight"] is TensorType.Q4_0
    assert types["token_embd.weight"] is TensorType.F16
    assert types["blk.0.attn_norm.weight"] is TensorType.F32


def test_split(model, tmp_path):
    made = motet.quantize(model, tmp_path / "a.gguf", "Q4_0", split_size=20_000)
    assert len(made.files) > 1
    motet.quantize(model, tmp_path / "whole.gguf", "Q4_0")
    assert digest(made.files[0]) == digest(tmp_path / "whole.gguf")


def test_the_default_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = motet.quantize(model, None, "Q4_K_M")
    assert made.files == (Path("llama-Q4_K_M.gguf"),)
    motet.quantize(model, "x-F16-00001-of-00001.gguf", "F16")
    made = motet.quantize("x-F16-00001-of-00001.gguf", None, "Q8_0")
    assert made.files == (Path("x-Q8_0.gguf"),)


def test_what_is_quantised_already(model, tmp_path):
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    motet.quantize(model, first, "Q8_0")
    with pytest.raises(OptionError, match=r"a.gguf: \d+ tensors are quantised already, such as"):
        motet.quantize(first, second, "Q4_0")
    assert not second.exists()
    motet.quantize(first, second, "Q4_0", allow_requantize=True, pure=True)
    with GGUFFile.open(first) as before, GGUFFile.open(second) as after:
        name = "blk.0.ffn_up.weight"
        assert after.tensors[name].type is TensorType.Q4_0
        errors = dequantize(after.raw(name), TensorType.Q4_0) - dequantize(
            before.raw(name), TensorType.Q8_0
        )
        assert 0 < np.abs(errors).max() < 0.1
    motet.quantize(first, tmp_path / "c.gguf", "Q8_0")  # nothing is quantised again
    assert digest(first) == digest(tmp_path / "c.gguf")


def test_in_place_of_itself_is_refused(model):
    before = model.read_bytes()
    with pytest.raises(OptionError, match="is the model that is read"):
        motet.quantize(model, model, "Q4_0", overwrite=True)
    assert model.read_bytes() == before


def importance(model: Path, names: str, path: Path, value: float = 1.0) -> Path:
    """A matrix in which every other column of some tensors matters more."""
    entries = {}
    with GGUFFile.open(model) as file:
        for name, info in file.tensors.items():
            if names in name and info.rows > 1:
                count = info.rows // info.shape[-2] if len(info.shape) > 2 else 1
                sums = np.full((count, info.columns), value, np.float32)
                sums[:, ::2] *= 100
                entries[name] = Entry(sums, np.full(count, 10))
    ImportanceMatrix(entries, ("text.txt",), 5, 64).write(path)
    return path


@pytest.mark.parametrize("type", ["Q4_0", "Q4_K_S", "Q6_K", "IQ4_NL", "Q3_K_M"])
@pytest.mark.parametrize("name", ["llama", "mixtral", "deepseek2"])
def test_what_matters_is_kept_better(wide, name, type, tmp_path):
    model = wide[name]
    matrix = importance(model, "blk.", tmp_path / "imatrix.gguf")
    plain = motet.quantize(model, tmp_path / "plain.gguf", type, pure=True)
    weighed = motet.quantize(model, tmp_path / "weighed.gguf", type, imatrix=matrix, pure=True)
    assert [each.after for each in plain.tensors] == [each.after for each in weighed.tensors]
    assert not any(each.weighed for each in plain.tensors)
    with (
        GGUFFile.open(model) as original,
        GGUFFile.open(tmp_path / "plain.gguf") as one,
        GGUFFile.open(tmp_path / "weighed.gguf") as other,
    ):
        assert other.metadata["quantize.imatrix.entries_count"]
        assert other.metadata["quantize.imatrix.chunks_count"] == 5
        assert other.metadata["quantize.imatrix.dataset"] == "text.txt"
        assert other.metadata["quantize.imatrix.file"] == str(matrix)
        errors = [0.0, 0.0]
        for each in weighed.tensors:
            if not each.weighed:
                continue
            values = dequantize(original.raw(each.name), TensorType.F32)
            for i, file in enumerate((one, other)):
                error = (dequantize(file.raw(each.name), each.after) - values) ** 2
                errors[i] += float(error[:, ::2].sum()) * 100 + float(error[:, 1::2].sum())
        assert any(each.weighed for each in weighed.tensors) and errors[1] < errors[0]


def test_q2_k_s_needs_a_matrix(wide, tmp_path):
    model = wide["llama"]
    with pytest.raises(OptionError, match=r"Q2_K_S, of no use .* which blk.0.attn_q.weight lacks"):
        motet.quantize(model, tmp_path / "a.gguf", "Q2_K_S")
    some = importance(model, "attn", tmp_path / "some.gguf")
    with pytest.raises(OptionError, match=r"which blk.0.ffn_gate.weight lacks"):
        motet.quantize(model, tmp_path / "a.gguf", "Q2_K_S", imatrix=some)
    every = importance(model, "blk.", tmp_path / "every.gguf")
    motet.quantize(model, tmp_path / "a.gguf", "Q2_K_S", imatrix=every)


def test_a_matrix_without_importance_in_it(model, tmp_path):
    """Columns of zeros, as of inputs that are always 0."""
    zeros = importance(model, "blk.", tmp_path / "zeros.gguf", 0.0)
    motet.quantize(model, tmp_path / "a.gguf", "Q4_K_M", imatrix=zeros)
    with GGUFFile.open(tmp_path / "a.gguf") as file:
        for name, info in file.tensors.items():
            assert np.isfinite(dequantize(file.raw(name), info.type)).all()


def test_a_matrix_of_another_model(models, tmp_path):
    matrix = importance(models["mamba"], "blk.", tmp_path / "imatrix.gguf")
    message = r"imatrix.gguf: has an importance of \S*ssm\S*, which \S*llama.gguf lacks"
    with pytest.raises(ModelFileError, match=message):
        motet.quantize(models["llama"], tmp_path / "a.gguf", "Q4_0", imatrix=matrix)


def test_what_is_no_model(model, tmp_path):
    matrix = importance(model, "blk.", tmp_path / "imatrix.gguf")
    with pytest.raises(UnsupportedError, match="is an importance matrix"):
        motet.quantize(matrix, tmp_path / "a.gguf", "Q4_0")
    with pytest.raises(ModelFileError, match="is GGUF, but no importance matrix"):
        motet.quantize(model, tmp_path / "a.gguf", "Q4_0", imatrix=model)


@pytest.mark.parametrize(
    ("type", "value", "message"),
    [
        ("Q4_0", np.nan, "blk.0.ffn_up.weight"),
        ("Q8_0", np.inf, "blk.0.ffn_up.weight"),
        ("F16", 1e6, "blk.0.ffn_up.weight"),
        ("Q4_K_S", -np.inf, "blk.0.ffn_up.weight"),
    ],
)
def test_values_that_a_type_cannot_hold(tmp_path, type, value, message):
    up = np.ones((8, 256), np.float32)
    up[5, 100] = value
    keys = {"general.architecture": "llama", "llama.block_count": 1}
    write(ArraySource(keys, {"blk.0.ffn_up.weight": up}), tmp_path / "model.gguf")
    with pytest.raises(NumericalError, match=message):
        motet.quantize(tmp_path / "model.gguf", tmp_path / "a.gguf", type)
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "Q9"}, "type is 'Q9'"),
        ({"type": 4}, "type is 4"),
        ({"tensor_types": {"(": "q4_0"}}, "'\\(' is not a regular expression"),
        ({"tensor_types": {"a": "iq1_s"}}, "tensor_types: 'iq1_s'"),
        ({"output_type": "q9"}, "output_type: 'q9'"),
        ({"threads": 0}, "threads is 0"),
        ({"split_size": 0}, "split_size is 0"),
        ({"pure": 1}, "pure is 1"),
    ],
)
def test_bad_use(model, tmp_path, arguments, message):
    with pytest.raises(OptionError, match=message):
        motet.quantize(model, tmp_path / "a.gguf", **({"type": "Q4_0"} | arguments))
    assert not list(tmp_path.iterdir())


def test_progress(model, tmp_path):
    seen = []
    made = motet.quantize(
        model, tmp_path / "a.gguf", "Q8_0", progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (made.nbytes, made.nbytes)
