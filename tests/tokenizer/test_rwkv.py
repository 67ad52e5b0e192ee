"""RWKV's vocabulary: bytes, cut greedily into the longest tokens."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import TokenizerError
from motet.tokenizer import Tokenizer
from motet.tokenizer.longest import LongestMatch
from tests.shared import SHARED, needs_shared
from tests.tokenizer.vocabularies import (
    CONTROL,
    FOLDER,
    NORMAL,
    TEXTS,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    loaded,
    made,
    pieces,
    rwkv_metadata,
    world_metadata,
    world_tokens,
)

PLAIN = made(rwkv_metadata())
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
WORLD = FOLDER / "rwkv_vocab_v20230424.txt"
SYMBOLS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=40).map(b"".join)


@cache
def world() -> Tokenizer:
    return made(world_metadata(WORLD))


@cache
def world_ids() -> dict[bytes, int]:
    return {token: index for index, token in enumerate(world_tokens(WORLD), 1)}


@cache
def world_matcher() -> LongestMatch[bytes]:
    return LongestMatch(world_ids().items())


def greedy(ids: dict[bytes, int], text: bytes) -> list[int]:
    """The definition, by trying every length from the longest token's down."""
    longest = max(map(len, ids))
    out = []
    while text:
        size = next(n for n in range(min(longest, len(text)), 0, -1) if text[:n] in ids)
        out.append(ids[text[:size]])
        text = text[size:]
    return out


def cut(tokens: LongestMatch[bytes], text: bytes) -> list[int]:
    ids = []
    place = 0
    while place < len(text):
        token, size = tokens.find(text, place)
        ids.append(token)
        place += size
    return ids


def test_the_longest_token_wins() -> None:
    ids = PLAIN.encode("hello world hello" + "a" * 30)
    assert pieces(PLAIN, ids) == [
        *(b"hello wor", b"l", b"d", b" hello"),
        *(b"a" * 13, b"a" * 13, b"aa", b"aa"),
    ]


def test_escapes_are_undone() -> None:
    text = "\\n\n\n\n'\"\t\x7f"
    assert pieces(PLAIN, PLAIN.encode(text)) == [b"\\n", b"\n\n", b"\n", b"'\"", b"\t", b"\x7f"]
    tokenizer = made(rwkv_metadata((r"\'\"\\", NORMAL), (r"\xABé", NORMAL)))
    assert tokenizer.piece(tokenizer.n_vocab - 2) == b"'\"\\"
    assert tokenizer.piece(tokenizer.n_vocab - 1) == b"\xab" + "é".encode()


def test_tokens_may_cut_characters() -> None:
    assert pieces(PLAIN, PLAIN.encode("étè")) == [b"\xc3\xa9t", b"\xc3", b"\xa8"]
    assert PLAIN.decode(PLAIN.encode("étè")) == "étè"


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_has_its_piece(byte: int) -> None:
    assert PLAIN.piece(byte + 1) == bytes((byte,))


@given(TEXT)
def test_decoding_gives_the_text_back(text: str) -> None:
    assert PLAIN.decode(PLAIN.encode(text)) == text


@given(st.sets(SYMBOLS, max_size=30), SYMBOLS)
def test_any_tokens_as_by_definition(tokens: set[bytes], text: bytes) -> None:
    """Three symbols, so that tokens begin alike and match far before they fail."""
    ids = {token: i for i, token in enumerate(sorted(tokens | {b"a", b"b", b"c"}))}
    assert cut(LongestMatch(ids.items()), text) == greedy(ids, text)


def test_bos_and_eos_are_as_in_the_file() -> None:
    assert (PLAIN.bos, PLAIN.eos, PLAIN.add_bos, PLAIN.add_eos) == (0, 0, False, False)
    assert PLAIN.eog == {0}
    adds = made(rwkv_metadata(add_bos_token=True, add_eos_token=True, eot_token_id=261))
    assert adds.encode("a") == [0, *PLAIN.encode("a"), 0]
    assert adds.eog == {0, 261}


def test_only_normal_tokens_are_text() -> None:
    tokenizer = made(rwkv_metadata(("<tag>", USER_DEFINED), ("[PAD7]", UNUSED), ("\\n#", CONTROL)))
    tag, control = tokenizer.n_vocab - 3, tokenizer.n_vocab - 1
    ids = tokenizer.encode("<s><tag>[PAD7]\n#")
    assert tag in ids and not {0, tag + 1, control} & set(ids)
    assert tokenizer.decode(ids) == "<s><tag>[PAD7]\n#"
    parsed = tokenizer.encode("<s><tag>\n#", parse_special=True)
    assert parsed == [0, tag, control]
    assert tokenizer.decode(parsed) == "<s><tag>\n#"


def lacking_h(*extra: tuple[str, int]) -> Tokenizer:
    metadata = rwkv_metadata(*extra)
    place = metadata["tokenizer.ggml.tokens"].index("h")
    metadata["tokenizer.ggml.tokens"][place] = "h\\x00"
    return made(metadata)


def test_bytes_without_a_token_are_left_out_or_unknown() -> None:
    tokenizer = lacking_h()
    assert pieces(tokenizer, tokenizer.encode("hello")) == [b"hello"]
    assert tokenizer.decode(tokenizer.encode("a halo h")) == "a alo "
    tokenizer = lacking_h(("<unk>", UNKNOWN))
    assert tokenizer.decode(tokenizer.encode("a halo")) == "a <unk>alo"


def test_strictly_a_byte_without_a_token_is_an_error_that_tells_where() -> None:
    tokenizer = lacking_h(("<tag>", USER_DEFINED))
    assert pieces(tokenizer, tokenizer.encode("é hello", strict=True))[-1] == b" hello"
    with pytest.raises(TokenizerError, match=r"'h', U\+0068, at position 7"):
        tokenizer.encode("<tag>é halo", strict=True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a\\", "a backslash that escapes nothing"),
        ("\\q", "a backslash that escapes nothing"),
        ("\\x4", "a backslash that escapes nothing"),
        ("\\x4g", "a backslash that escapes nothing"),
        ("\\0", "a backslash that escapes nothing"),
        ("", "without bytes"),
        ("\\x61", "both 98 and 269"),
        ("\ud800", "surrogate"),
        ("x" * 1025, "1025 bytes"),
    ],
)
def test_damaged_tokens_are_named(text: str, problem: str) -> None:
    with pytest.raises(TokenizerError, match=rf"tokenizer\.ggml\.tokens.*{problem}"):
        made(rwkv_metadata((text, NORMAL)))


@needs_shared
def test_every_token_of_the_world_vocabulary() -> None:
    tokenizer = world()
    assert tokenizer.n_vocab == 1 << 16
    assert {tokenizer.piece(index): index for index in range(1, 65530)} == world_ids()
    for token, index in world_ids().items():
        assert tokenizer.decode([index]) == token.decode("utf-8", "replace")
        if "\ufffd" not in (text := token.decode("utf-8", "replace")):
            assert tokenizer.encode(text) == [index]


@needs_shared
@pytest.mark.parametrize("name", TEXTS)
def test_books_as_by_definition(name: str) -> None:
    text = (SHARED / "text" / f"{name}.txt").read_text()[:60_000]
    ids = world().encode(text)
    assert ids == greedy(world_ids(), text.encode())
    assert world().decode(ids) == text


@needs_shared
@given(TEXT)
def test_any_text_as_by_definition(text: str) -> None:
    ids = world().encode(text)
    assert ids == greedy(world_ids(), text.encode())
    assert world().decode(ids) == text


@needs_shared
@given(st.binary())
def test_any_bytes_as_by_definition(text: bytes) -> None:
    assert cut(world_matcher(), text) == greedy(world_ids(), text)


@needs_shared
@pytest.mark.parametrize(("name", "first"), [("rwkv6", 1), ("rwkv6_real", 0)])
def test_files_of_llama_cpps_making(name: str, first: int) -> None:
    tokenizer = loaded(SHARED / "parity" / name / "model.gguf")
    assert [tokenizer.piece(first + byte) for byte in range(256)] == [
        bytes((byte,)) for byte in range(256)
    ]
    assert tokenizer.decode(tokenizer.encode("Ein Test: ê\n")) == "Ein Test: ê\n"
