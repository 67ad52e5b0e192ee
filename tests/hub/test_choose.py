import pytest

from motet.errors import HubError
from motet.hub.address import parse_address
from motet.hub.choose import choose, gguf_models, quantisation_of

HF = ["config.json", "model.safetensors", "tokenizer.json"]


def chosen(names: list[str], what: str = "") -> tuple[str, ...]:
    return choose(names, parse_address(f"hf://org/name{what}")).files


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("model-Q4_K_M.gguf", "Q4_K_M"),
        ("model.q4_k_m.gguf", "Q4_K_M"),
        ("model_q4_k_m_chat.gguf", "Q4_K_M"),
        ("Q4_K_M/model.gguf", "Q4_K_M"),
        ("Q8_0/model-q4_k_m.gguf", "Q4_K_M"),
        ("model.i1-Q4_K_M.gguf", "Q4_K_M"),
        ("model-IQ4_XS.gguf", "IQ4_XS"),
        ("model-IQ3_XXS.gguf", "IQ3_XXS"),
        ("model-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("model-UD-IQ2_M.gguf", "UD-IQ2_M"),
        ("model-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ("model-fp16.gguf", "F16"),
        ("model.F32.gguf", "F32"),
        ("model-BF16.gguf", "BF16"),
        ("gpt-oss-mxfp4.gguf", "MXFP4"),
        ("model-NVFP4.gguf", "NVFP4"),
        ("model-TQ1_0.gguf", "TQ1_0"),
        ("faq4_k_m.gguf", ""),
        ("model.gguf", ""),
    ],
)
def test_quantisation_of_a_name(name: str, label: str) -> None:
    assert quantisation_of(name) == label


def test_a_quantisation_matches_itself_alone() -> None:
    names = ["m-IQ4_K_M.gguf", "m-UD-Q4_K_M.gguf", "m-Q4_K_M_L.gguf", "m-Q4_K_S.gguf"]
    with pytest.raises(
        HubError, match=r"no GGUF file of Q4_K_M .it has IQ4_K_M, Q4_K_M_L, Q4_K_S, UD-"
    ):
        chosen(names, ":Q4_K_M")
    assert chosen([*names, "m-q4_K_m.gguf"], ":Q4_K_M") == ("m-q4_K_m.gguf",)
    assert chosen(names, ":ud-q4_k_m") == ("m-UD-Q4_K_M.gguf",)
    assert chosen(["m-fp16.gguf"], ":F16") == chosen(["m-fp16.gguf"], ":fp16") == ("m-fp16.gguf",)


@pytest.mark.parametrize(
    ("names", "file"),
    [
        (["a-Q8_0.gguf", "a-Q4_K_M.gguf", "a-Q4_0.gguf"], "a-Q4_K_M.gguf"),
        (["a-Q8_0.gguf", "a-Q4_0.gguf", "a-IQ4_XS.gguf", "a-Q4_K_S.gguf"], "a-Q4_K_S.gguf"),
        (["a-Q2_K.gguf", "a-IQ4_XS.gguf"], "a-IQ4_XS.gguf"),
        (["b-Q8_0.gguf", "b-Q5_0.gguf"], "b-Q5_0.gguf"),
        (["z.gguf", "mmproj-a-f16.gguf", "a.imatrix.gguf"], "z.gguf"),
        ([*HF, "a-f16.gguf"], "a-f16.gguf"),
        (["x/a-Q4_K_M.gguf", "a-Q4_K_M.gguf"], "a-Q4_K_M.gguf"),
    ],
)
def test_default(names: list[str], file: str) -> None:
    assert chosen(names) == (file,)


def test_split_files_are_taken_whole() -> None:
    parts = [f"Q4_K_M/m-0000{k}-of-00003.gguf" for k in (1, 2, 3)]
    two = [f"m.Q8_0-0000{k}-of-00002.gguf" for k in (2, 1)]
    names = [*reversed(parts), *two]
    assert chosen(names, ":Q4_K_M") == chosen(names) == tuple(parts)
    assert chosen(names, ":Q8_0") == tuple(sorted(two))
    assert chosen(names, f":{parts[1]}") == tuple(parts)
    assert choose(names, parse_address("hf://o/n:Q8_0")).entry == sorted(two)[0]
    with pytest.raises(HubError, match=r"parts of Q4_K_M/m-00001-of-00003.gguf are missing"):
        chosen(names[1:], ":Q4_K_M")
    assert not gguf_models(["m-00002-of-99999.gguf"])[0].is_complete


def test_two_of_a_kind_are_not_chosen_between() -> None:
    with pytest.raises(
        HubError, match=r"a-Q4_K_M.gguf, b-Q4_K_M.gguf .name one: hf://org/name:a-Q"
    ):
        chosen(["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"])


def test_a_file_that_is_not_there_has_near_ones() -> None:
    with pytest.raises(HubError, match=r"no file model-q4.gguf .did you mean model-q4_0.gguf"):
        chosen(["model-q4_0.gguf"], ":model-q4.gguf")
    assert chosen(["mmproj.gguf"], ":mmproj.gguf") == ("mmproj.gguf",)


def test_directory() -> None:
    names = [
        *HF,
        *("README.md", "modeling.py", "pytorch_model.bin", "model.pt", "tokenizer_config.json"),
        *(
            "modules.json",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/config.json",
        ),
        *(
            "2_Dense/pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "chat_template.jinja",
        ),
        *("consolidated.safetensors", "adapter_model.safetensors", "generation_config.json"),
    ]
    files = chosen(names)
    assert files[-1] == "model.safetensors"  # when this is there, all is
    assert set(files) == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"),
        *("2_Dense/config.json", "chat_template.jinja", "generation_config.json", "README.md"),
    }
    assert choose(names, parse_address("hf://o/n")).entry is None
    assert chosen([*names, "a-Q4_0.gguf"], ":safetensors") == files


def test_sharded_directory() -> None:
    shards = [f"model-0000{k}-of-00002.safetensors" for k in (1, 2)]
    names = ["config.json", "model.safetensors.index.json", *shards, "consolidated.safetensors"]
    assert chosen(names) == ("config.json", "model.safetensors.index.json", *shards)


def test_pickles_are_refused() -> None:
    with pytest.raises(HubError, match=r"Python pickles only .pytorch_model.bin.*look for"):
        chosen(["config.json", "pytorch_model.bin"])
    with pytest.raises(HubError, match=r"has no model: no GGUF file"):
        chosen(["README.md"])
    with pytest.raises(HubError, match=r"no config.json and safetensors .it has Q4_0"):
        chosen(["a-Q4_0.gguf"], ":safetensors")


def test_many_names_are_quick() -> None:
    names = [f"m-{k:05}-of-50000.gguf" for k in range(1, 50_001)]
    assert len(chosen(names)) == 50_000
    with pytest.raises(HubError, match="and 49988 more"):
        chosen([f"{k}-Q4_K_M.gguf" for k in range(50_000)])
