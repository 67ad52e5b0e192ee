"""The tokenizer of a Hugging Face directory beside the libraries that such files are made for."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from motet.errors import MotetError, TokenizerError, UnsupportedError
from motet.huggingface.files import Directory
from motet.huggingface.tokenizer.merges import numerals_stay_apart
from motet.huggingface.tokenizer.reading import read_tokenizer
from motet.weights.gguf import GGUFFile
from tests.huggingface.fuzz_tokenizers import compared
from tests.huggingface.tokenizer_jsons import (
    CL100K,
    GPT2,
    KINDS,
    O200K,
    QWEN2,
    SPACE,
    Case,
    added,
    bpe,
    byte_level,
    in_order,
    llama3,
    qwen2,
    small_unigram,
    split,
    template,
    whole,
)
from tests.shared import SHARED, needs_shared
from tests.tokenizer.vocabularies import (
    FOLDER,
    byte_alphabet,
    made,
    proto_metadata,
    trained,
    world_metadata,
)

NFC = {"type": "NFC"}
DIGITS = {"type": "Digits", "individual_digits": True}
SMALL = "llama3", "qwen2", "small-t5"


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k in SMALL else needs_shared) for k in KINDS]
)
def test_ids_and_texts_are_the_librarys(kind: str, tmp_path: Path) -> None:
    case = KINDS[kind]()
    keys = case.read(tmp_path)
    assert keys["tokenizer.ggml.pre"] == case.pre
    found = compared(case, made(keys), count=150, seed=3)
    assert (found.ids, found.decoded) == ([], [])


def tiny(
    pre_tokenizer: Any, normalizer: Any = None, architecture: str = "llama", **flags: Any
) -> Case:
    """Byte-level BPE of a few tokens, of which the merges make all but "12" and "xy"."""
    merges = ["h e", "l l", "he ll"]
    texts = [*byte_alphabet(), *(merge.replace(" ", "") for merge in merges)]
    vocab = {text: index for index, text in enumerate(texts)}
    model = bpe(vocab, [*merges], **flags)
    end = added("<|end|>", len(vocab))
    content = whole(model, [end], normalizer=normalizer, pre_tokenizer=pre_tokenizer)
    return Case("tiny", architecture, content, {"eos_token": "<|end|>"})


def of_model(case: Case, **values: Any) -> Case:
    case.tokenizer["model"] |= values
    return case


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer", "flags", "name"),
    [
        (byte_level(True), None, {}, "gpt-2"),
        (in_order(split(GPT2), byte_level()), None, {}, "gpt-2"),
        (byte_level(True), NFC, {}, "olmo"),
        (byte_level(True), {"type": "Sequence", "normalizers": [NFC]}, {}, "olmo"),
        (in_order(DIGITS, byte_level(True)), None, {}, "starcoder"),
        (in_order(DIGITS, byte_level(True)), NFC, {}, "command-r"),
        (in_order(split(r"\p{N}{1}"), byte_level(True)), None, {}, "starcoder"),
        (in_order(split(CL100K), byte_level()), None, {"ignore_merges": True}, "llama-bpe"),
        (in_order(split(CL100K), byte_level()), None, {}, "dbrx"),
        (in_order(split(CL100K, "Removed", True), byte_level()), None, {}, "dbrx"),
        (in_order(split(QWEN2), byte_level()), NFC, {}, "qwen2"),
        (in_order(split(QWEN2), byte_level()), None, {}, "deepseek-r1-qwen"),
        (in_order(split(O200K), byte_level()), None, {}, "gpt-4o"),
        (in_order(split(O200K), byte_level()), None, {"ignore_merges": True}, "gpt-4o"),
    ],
)
def test_pre_tokenizers_are_named_by_what_they_do(
    pre_tokenizer: Any, normalizer: Any, flags: dict[str, Any], name: str, tmp_path: Path
) -> None:
    case = tiny(pre_tokenizer, normalizer, **flags)
    assert case.read(tmp_path)["tokenizer.ggml.pre"] == name


def test_deepseeks_digits_are_cut_or_not_where_no_merge_joins_them(tmp_path: Path) -> None:
    from motet.tokenizer.pretokenizers import BY_NAME

    patterns = BY_NAME["deepseek-llm"].patterns
    cuts = [split(pattern.replace(r"(?<!\s)\s++$", r"\s+$")) for pattern in patterns[:-1]]
    case = tiny(in_order(*cuts, DIGITS, byte_level()), architecture="deepseek2")
    assert case.read(tmp_path)["tokenizer.ggml.pre"] == "deepseek-llm"
    model = case.tokenizer["model"]
    model["vocab"]["12"] = len(model["vocab"])
    model["merges"] += [["1", "2"]]
    case.tokenizer["added_tokens"][0]["id"] += 1
    with pytest.raises(UnsupportedError, match="no known pre-tokenizer"):
        case.read(tmp_path)


@pytest.mark.parametrize(
    ("joined", "apart"),
    [
        (b"12", False),
        (b"a1", True),
        (b"\xc2\xb2", True),  # one numeral: superscript two
        (b"\xc2\xb2\xc2", False),  # and the beginning of what may be another
        (b"\xb2\xe7\x97", True),  # the beginning of no numeral
        (b"\xa1\xd9", False),
    ],
)
def test_what_joins_numerals(joined: bytes, apart: bool) -> None:
    letters = byte_alphabet()
    spelt = "".join(letters[byte] for byte in joined)
    assert numerals_stay_apart([(spelt[:1], spelt[1:])]) is apart


def test_ignoring_merges_matters_where_they_do_not_make_a_token(tmp_path: Path) -> None:
    case = tiny(byte_level(True), ignore_merges=True)
    assert case.read(tmp_path)["tokenizer.ggml.pre"] == "gpt-2"
    vocab = case.tokenizer["model"]["vocab"]
    vocab["xy"] = len(vocab)
    case.tokenizer["added_tokens"][0]["id"] += 1
    with pytest.raises(UnsupportedError, match="ignore_merges True"):
        case.read(tmp_path)


def _characters(**changes: Any) -> Case:
    """Llama 2's kind, in small."""
    texts = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts += [SPACE, *"abcde", "ab", "abc", "bc", f"{SPACE}a"]
    vocab = {text: index for index, text in enumerate(texts)}
    merges = ["a b", "ab c", "a bc", "b c", f"{SPACE} a"]
    flags = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    steps = [{"type": "Prepend", "prepend": SPACE}, replace]
    content = whole(
        bpe(vocab, merges, **flags),
        [added(text, index) for index, text in enumerate(texts[:3])],
        normalizer={"type": "Sequence", "normalizers": steps},
    )
    content["model"] |= {k: v for k, v in changes.items() if k in ("merges", *flags)}
    content |= {k: v for k, v in changes.items() if k in content and k != "model"}
    return Case("characters", "llama", content, {"bos_token": "<s>", "eos_token": "</s>"})


def test_ranks_become_scores(tmp_path: Path) -> None:
    case = _characters()
    keys = case.read(tmp_path)
    score = dict(zip(keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.scores"], strict=True))
    assert score["ab"] > score["abc"] > score["bc"] > score[f"{SPACE}a"]
    assert not compared(case, made(keys), count=200, seed=1).ids


_METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        (lambda: tiny(split(GPT2)), "normalizer None"),
        (lambda: tiny(in_order(split("x+"), byte_level())), r'patterns \["x\+"\]'),
        (lambda: tiny(byte_level()), "no known pre-tokenizer"),
        (lambda: tiny(byte_level() | {"add_prefix_space": True}), '"add_prefix_space": true'),
        (lambda: tiny(byte_level(True), {"type": "Lowercase"}), "Lowercase"),
        (lambda: tiny(byte_level(True), {"type": "NFKC"}), "NFKC"),
        (lambda: tiny(byte_level(True), dropout=0.1), "'dropout': 0.1"),
        (lambda: tiny(byte_level(True), end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda: tiny(in_order(split("a b", "Removed"), byte_level())), "Removed"),
        (lambda: of_model(llama3(), type="WordLevel"), "WordLevel"),
        (lambda: _characters(merges=[f"{SPACE} a", "a b", "b c", "ab c", "a bc"]), ""),
        (lambda: _characters(merges=["ab c", "a b", "b c", "a bc"]), "not side by side"),
        (lambda: _characters(merges=["a b", "ab c", "b c"]), "no merge of"),
        (lambda: _characters(byte_fallback=False), "without byte_fallback"),
        (lambda: _characters(normalizer=None, pre_tokenizer=_METASPACE), "Metaspace"),
        (lambda: of_model(small_unigram(True), byte_fallback=3), "must be true or false"),
    ],
)
def test_what_would_cut_otherwise_is_refused(
    case: Callable[[], Case], problem: str, tmp_path: Path
) -> None:
    if problem:
        with pytest.raises((UnsupportedError, TokenizerError), match=problem):
            case().read(tmp_path)
    else:
        case().read(tmp_path)


def test_a_normalizer_of_unigram_that_keeps_spaces_is_refused(tmp_path: Path) -> None:
    case = small_unigram(False)
    del case.tokenizer["normalizer"]["normalizers"][-1]
    with pytest.raises(UnsupportedError, match="spaces that are kept"):
        case.read(tmp_path)


def test_special_tokens_and_padding(tmp_path: Path) -> None:
    case = qwen2()
    case.tokenizer["post_processor"] = None
    case.config |= {"pad_token": {"content": "<|begin|>"}, "unk_token": "nowhere"}
    keys = case.read(tmp_path, extra=3)
    count = case.n_vocab()
    assert keys["tokenizer.ggml.tokens"][count:] == [f"[PAD{count + i}]" for i in range(3)]
    assert keys["tokenizer.ggml.token_type"][count - 4 :] == [3, 3, 4, 4, 5, 5, 5]
    assert keys["tokenizer.ggml.eos_token_id"] == count - 3
    assert keys["tokenizer.ggml.padding_token_id"] == count - 4
    assert keys["tokenizer.ggml.add_bos_token"] is False
    assert "tokenizer.ggml.unknown_token_id" not in keys
    assert "tokenizer.ggml.bos_token_id" not in keys


def test_several_ends_of_generation(tmp_path: Path) -> None:
    case = llama3()
    first = case.n_vocab() - 4
    ends = [first + 1, 5, 6]
    config = {"eos_token_id": ends, "suppress_tokens": [3, 4, 999999]}
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    keys = case.read(tmp_path)
    assert case.ours(tmp_path).suppressed == {3, 4}
    assert keys["tokenizer.ggml.eos_token_id"] == first + 1
    assert (keys["tokenizer.ggml.eot_token_id"], keys["tokenizer.ggml.eom_token_id"]) == (5, 6)
    assert case.ours(tmp_path).eog >= set(ends)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 6, 7]}))
    with pytest.raises(UnsupportedError, match="3 ids beside EOS"):
        case.read(tmp_path)


def test_a_suffix_other_than_eos_becomes_it(tmp_path: Path) -> None:
    """Qwen3-Embedding's files: the text ends with another token than an answer does."""
    case = qwen2()
    start = case.n_vocab() - 4
    case.tokenizer["post_processor"] = template({"<|begin|>": start}, suffix="<|begin|>")
    ours = case.ours(tmp_path)
    assert (ours.eos, ours.eot, ours.suffix) == (start, start + 1, (start,))
    text = "hello <|end|>"
    assert ours.encode(text, parse_special=True) == case.library().encode(text).ids


def test_bert_pairs_are_the_librarys(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "##s", "world"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    ours = made(read_tokenizer(Directory(str(tmp_path)), "bert", len(words)))
    assert ours.encode("Hellos world!") == [2, 5, 6, 7, 1, 3]
    assert ours.encode_pair("hello", "world") == [2, 5, 3, 7, 3]
    assert ours.pad == 0


def test_byte_level_of_older_files(tmp_path: Path) -> None:
    case = tiny(byte_level(True))
    model = case.tokenizer["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(model["merges"]) + "\n")
    directory = Directory(str(tmp_path))
    count = len(model["vocab"])
    keys = read_tokenizer(directory, "gpt2", count)
    assert keys["tokenizer.ggml.merges"] == model["merges"]
    assert keys["tokenizer.ggml.pre"] == "gpt-2"
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    assert read_tokenizer(directory, "qwen2", count)["tokenizer.ggml.pre"] == "qwen2"
    config.write_text(json.dumps({"tokenizer_class": "MyTokenizer"}))
    with pytest.raises(UnsupportedError, match="MyTokenizer"):
        read_tokenizer(directory, "gpt2", count)


_AS_IT_IS = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
}


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "byte_fallback": True},
        {"model_type": "bpe"} | _AS_IT_IS,
        {"model_type": "unigram"},
        {"model_type": "unigram", "add_dummy_prefix": False},
        {"model_type": "bpe", "pad_id": 3, "user_defined_symbols": "<tag>,▁▁"} | _AS_IT_IS,
    ],
)
def test_a_sentencepiece_model_is_read_as_the_library_does(
    options: dict[str, Any], tmp_path: Path
) -> None:
    import numpy as np
    from sentencepiece import SentencePieceProcessor

    from tests.tokenizer.texts import random_text

    model = trained(**options)
    (tmp_path / "tokenizer.model").write_bytes(model)
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    count = processor.get_piece_size()
    ours = made(read_tokenizer(Directory(str(tmp_path)), "llama", count + 2))
    assert (ours.n_vocab, ours.bos, ours.eos) == (count + 2, 1, 2)
    random = np.random.default_rng(2)
    for _ in range(300):
        text = random_text(random, ["<tag>", "  "]).replace(SPACE, "")
        assert ours.encode(text, add_special=False) == processor.encode(text)


@needs_shared
def test_llama_2s_model_comes_before_its_json(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "llama2.tokenizer.model", tmp_path / "tokenizer.model")
    case = KINDS["llama2"]()
    case.tokenizer["model"]["merges"] = []
    keys = case.read(tmp_path)
    wanted = proto_metadata((FOLDER / "llama2.tokenizer.model").read_bytes())
    for key in ("tokens", "token_type"):
        assert keys[f"tokenizer.ggml.{key}"] == wanted[f"tokenizer.ggml.{key}"]
    assert keys["tokenizer.ggml.add_bos_token"] is True
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": False}))
    keys = read_tokenizer(Directory(str(tmp_path)), "llama", 32000)
    assert keys["tokenizer.ggml.scores"] == wanted["tokenizer.ggml.scores"]
    assert keys["tokenizer.ggml.add_space_prefix"] is False


def test_xlm_roberta_has_ids_of_its_own(tmp_path: Path) -> None:
    model = trained()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(model)
    tokens = proto_metadata(model)["tokenizer.ggml.tokens"]
    ours = made(read_tokenizer(Directory(str(tmp_path)), "bert", len(tokens) + 2))
    keys = read_tokenizer(Directory(str(tmp_path)), "bert", len(tokens) + 2)
    wanted = ["<s>", "<pad>", "</s>", "<unk>", *tokens[3:], "<mask>"]
    assert keys["tokenizer.ggml.tokens"] == wanted
    assert ours.encode("") == [0, 2]
    assert ours.encode_pair("", "") == [0, 2, 2, 2]


@needs_shared
def test_rwkvs_list_is_read_as_the_converter_does(tmp_path: Path) -> None:
    name = "rwkv_vocab_v20230424.txt"
    shutil.copy(FOLDER / name, tmp_path / name)
    own = {"auto_map": {"AutoTokenizer": ["hf_rwkv_tokenizer.RwkvTokenizer", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own))
    keys = read_tokenizer(Directory(str(tmp_path)), "rwkv6", 1 << 16)
    wanted = world_metadata(FOLDER / name)
    assert {key: keys[key] for key in wanted} == wanted
    assert made(keys).chat_template


def test_code_of_the_directory_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "tokenization_own.py").write_text("raise SystemExit")
    case = llama3()
    case.config["auto_map"] = {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}
    with pytest.raises(UnsupportedError, match=r"tokenization_own\.OwnTokenizer"):
        case.read(tmp_path)


def test_a_directory_without_a_vocabulary(tmp_path: Path) -> None:
    directory = Directory(str(tmp_path))
    assert read_tokenizer(directory, "llama", 512) == {"tokenizer.ggml.model": "none"}
    (tmp_path / "tekken.json").write_text("{}")
    with pytest.raises(UnsupportedError, match=r"tekken\.json"):
        read_tokenizer(directory, "llama", 512)


def test_chat_templates(tmp_path: Path) -> None:
    case = llama3()
    case.config["chat_template"] = [
        {"name": "default", "template": "main"},
        {"name": "tool-use", "template": "tools"},
    ]
    keys = case.read(tmp_path)
    assert keys["tokenizer.chat_templates"] == ["tool_use"]
    assert made(keys).chat_templates == {"default": "main", "tool_use": "tools"}
    (tmp_path / "chat_template.jinja").write_text("of the file")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("rag")
    assert made(case.read(tmp_path)).chat_templates == {"default": "of the file", "rag": "rag"}


def test_additional_chat_templates_do_not_lead_outside(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.jinja").write_text("secret")
    (folder / "chat_template.jinja").write_text("x")
    (folder / "additional_chat_templates").symlink_to(tmp_path)
    with pytest.raises(MotetError, match="leads out of the directory"):
        llama3().read(folder)


@needs_shared
@pytest.mark.parametrize("folder", sorted(SHARED.glob("parity/*/hf")), ids=lambda p: p.parent.name)
def test_keys_are_those_of_the_converted_file(folder: Path) -> None:
    with GGUFFile.open(folder.parent / "model.gguf") as file:
        wanted = dict(file.metadata)
    architecture = file.architecture
    count = len(wanted["tokenizer.ggml.tokens"])  # type: ignore[arg-type]
    keys = read_tokenizer(Directory(str(folder)), architecture, count)
    wanted = {key: value for key, value in wanted.items() if key.startswith("tokenizer.")}
    named = {"tokenizer.ggml.cls_token_id", "tokenizer.ggml.seperator_token_id"}
    family = {"tokenizer.chat_template.rerank", "tokenizer.chat_templates"}
    wanted = {key: value for key, value in wanted.items() if key not in family}  # Qwen 3's
    if architecture == "modern-bert":  # config.json names them, which the file left out
        keys = {key: value for key, value in keys.items() if key not in named}
    assert keys == wanted


def _damage(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Writes a sound directory whose ``tokenizer.json`` is then changed."""

    def write(folder: Path) -> None:
        case = copy.deepcopy(llama3())
        change(case.tokenizer)
        case.written(folder)

    return write


def _vocab(**words: Any) -> Callable[[Path], None]:
    return _damage(lambda content: content["model"]["vocab"].update(words))


def _text(text: str, name: str = "tokenizer.json") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        llama3().written(folder)
        (folder / name).write_text(text)

    return write


def _added(**values: Any) -> Callable[[Path], None]:
    return _damage(lambda content: content["added_tokens"][0].update(values))


def _config(**values: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        case = llama3()
        case.config |= values
        case.written(folder)

    return write


def _data(name: str, data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return write


def _deep(levels: int, several: str, key: str) -> Callable[[Path], None]:
    inner = f'{{"type": "Sequence", "{several}": ['
    text = inner * levels + "]}" * levels
    return _text(
        f'{{"{key}": {text}, "model": {{"type": "BPE", "vocab": {{"a": 0}}, "merges": []}}}}'
    )


@pytest.mark.parametrize(
    "write",
    [
        _text("[" * 100_000),
        _text("{"),
        _text("[]"),
        _text("{}"),
        _deep(450, "pretokenizers", "pre_tokenizer"),
        _deep(450, "processors", "post_processor"),
        _vocab(a=0),
        _vocab(new=-1),
        _vocab(new=1 << 70),
        _vocab(new=True),
        _vocab(new=None),
        _vocab(new="5"),
        _vocab(**{"\ud800": 1204}),
        _damage(lambda content: content["model"].update(vocab=[])),
        _damage(lambda content: content["model"].update(merges={})),
        _damage(lambda content: content["model"]["merges"].append("no such")),
        _damage(lambda content: content["model"]["merges"].append(["a"])),
        _damage(lambda content: content["model"]["merges"].append([["a"], {}])),
        _damage(lambda content: content["model"]["merges"].append(7)),
        _damage(lambda content: content["model"].update(ignore_merges="yes")),
        _damage(lambda content: content.update(model=7)),
        _damage(lambda content: content.update(added_tokens={})),
        _damage(lambda content: content.update(added_tokens=[7])),
        _damage(lambda content: content.update(normalizer=7)),
        _damage(lambda content: content.update(pre_tokenizer=[[]])),
        _damage(lambda content: content.update(post_processor={"type": "TemplateProcessing"})),
        _damage(
            lambda content: content["post_processor"]["processors"][1].update(special_tokens={})
        ),
        _added(id=-5),
        _added(id=None),
        _added(id=1 << 70),
        _added(id=4000),
        _added(id=0),
        _added(content=None),
        _added(content="<|end|>"),
        _added(content="\udc80"),
        _added(special=1),
        _added(single_word=True),
        _config(eos_token="<|nowhere|>"),
        _config(bos_token={"content": "<|nowhere|>"}),
        _config(added_tokens_decoder=[]),
        _config(added_tokens_decoder={"x": {"content": "a"}}),
        _config(added_tokens_decoder={"-1": {"content": "a"}}),
        _config(added_tokens_decoder={"5": 5}),
        _config(chat_template=5),
        _config(chat_template=[{"name": "x"}]),
        _config(chat_template="\ud800"),
        _text('{"eos_token_id": 99999}', "generation_config.json"),
        _text('{"<x>": "5"}', "added_tokens.json"),
        _data("tokenizer.model", b""),
        _data("tokenizer.model", b"\n\xff\xff\xff\xff\xff"),
        _data("tokenizer.model", b"IQ== 0\nIg== 1\n"),
        lambda folder: _data("tokenizer.model", trained()[:5000])(folder),
        _data("tokenizer.model", b"\n" + b"\xff" * 100),
        _data("tokenizer.model", b"\n\x05\n\x03abc"[:6]),
        _data("spiece.model", b"\n\x04\n\x02\xff\xfe"),
        _data("sentencepiece.bpe.model", b"\n"),
        _data("vocab.txt", b"\xff\xfe"),
        _data("vocab.txt", b"a\na\n"),
        _data("rwkv_vocab_v20230424.txt", b"1 __import__('os') 1\n"),
        _data("rwkv_vocab_v20230424.txt", b"1 'a' 2\n"),
        _data("rwkv_vocab_v20230424.txt", b"1 'a' 1\n1 'b' 1\n"),
        _data("rwkv_vocab_v20230424.txt", b"1 '\\x4' 1\n"),
        _data("rwkv_vocab_v20230424.txt", b"99999999 'a' 1\n"),
    ],
)
def test_a_hostile_directory_is_an_error(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(MotetError):
        made(
            {"general.architecture": "llama"}
            | read_tokenizer(Directory(str(tmp_path)), "llama", 2000)
        )
