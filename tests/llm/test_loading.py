"""An LLM of a path loads it as ``Model.load`` does, by options of the same names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import LLM, Batch, Model
from motet.cli.demo import shipped_model
from motet.errors import OptionError
from tests.conversion.test_lora import adapter, base


def logits(model: Model) -> np.ndarray:
    batch = Batch()
    batch.extend([1, 5, 9, 30], 0, logits="all")
    return model.context().decode(batch).logits


def of_llm(path: Path | str, **options: Any) -> np.ndarray:
    with LLM(path, threads=1, **options) as llm:
        return logits(llm.model)


def test_a_type(tmp_path: Path) -> None:
    model = base(tmp_path / "base")
    quantized = of_llm(model, type="q8_0")
    assert np.array_equal(quantized, logits(Model.load(model, 1, type="q8_0")))
    assert not np.array_equal(quantized, of_llm(model))
    with pytest.raises(OptionError, match="q4_9"):
        LLM(model, type="q4_9")


def test_adapters(tmp_path: Path) -> None:
    model, lora = base(tmp_path / "base"), adapter(tmp_path / "lora")
    for given in (lora, [lora], (lora, 0.5), [(lora, 0.5), lora]):
        merged = of_llm(model, lora=given)
        assert np.array_equal(merged, logits(Model.load(model, 1, lora=given)))
        assert not np.array_equal(merged, of_llm(model))


def test_a_packed_cache(tmp_path: Path) -> None:
    folder, seen = tmp_path / "cache", list[set[Path]]()
    for _ in range(2):
        ours = of_llm(shipped_model(), packed_cache=folder, packed_cache_bytes=1 << 30)
        assert np.array_equal(ours, of_llm(shipped_model()))
        seen.append({path for path in folder.rglob("*") if path.is_file()})
    assert seen[0] == seen[1] and any(path.stat().st_size > 10_000 for path in seen[0])
    with pytest.raises(OptionError, match="no packed_cache"):
        LLM(shipped_model(), packed_cache_bytes=1 << 30)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("threads", 2, "threads is 2"),
        ("type", "q8_0", "type is 'q8_0'"),
        ("lora", "adapter", "lora is 'adapter'"),
        ("lora", ["adapter"], r"lora is \['adapter'\]"),
        ("packed_cache", "folder", "packed_cache is 'folder'"),
        ("packed_cache_bytes", 9, "packed_cache_bytes is 9"),
    ],
)
def test_a_model_that_is_loaded_is_loaded_no_other_way(name: str, value: Any, told: str) -> None:
    with pytest.raises(OptionError, match=f"{told} for a model already loaded"):
        LLM(Model.load(shipped_model(), 1), **{name: value})
