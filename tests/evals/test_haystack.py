"""Haystacks have the length, the depth and the words that are asked for."""

from typing import Any

import pytest

from motet.errors import OptionError
from motet.evals.haystack import ASK_KEY, FILLER, TASKS, Haystacks, Trial, different_keys
from tests.evals.models import loaded
from tests.scripted import BOS, ByteTokenizer

STORY = "Once there was a dog who lived by the sea. He ran all day, and slept all night. " * 40


def text_of(tokenizer, ids) -> str:
    return tokenizer.decode([token for token in ids if token != tokenizer.bos])


def tiny():
    return loaded("motet-tiny").tokenizer


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("text", [None, STORY])
@pytest.mark.parametrize("length", [129, 256, 4000])
@pytest.mark.parametrize("depth", [0.0, 0.3, 0.5, 1.0])
def test_a_trial_has_exactly_the_tokens_asked_for(task, text, length, depth):
    trial = Haystacks(tiny(), text).make(task, length, depth, 0)
    assert len(trial.prompt) + len(trial.answer) == length == trial.length
    assert trial.prompt.count(tiny().bos) == 1 and trial.prompt[0] == tiny().bos
    assert trial.answer not in trial.others
    assert len(trial.others) == (1 if task == "order" else 3)


def test_the_words_are_longlms():
    trial = Haystacks(tiny()).make("passkey", 300, 0.5, 1)
    text, key = text_of(tiny(), trial.prompt), text_of(tiny(), trial.answer).strip()
    assert len(key) == 5 and key.isdecimal()
    assert f" The pass key is {key}. Remember it. {key} is the pass key." in text
    assert text.endswith(f" {ASK_KEY}")
    assert text.startswith(FILLER[:40])
    others = [text_of(tiny(), other).strip() for other in trial.others]
    assert len({key, *others}) == 4 and all(len(other) == 5 for other in others)


@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_needle_stands_at_its_depth(depth):
    tokenizer: Any = ByteTokenizer()
    trial = Haystacks(tokenizer, STORY).make("passkey", 2000, depth, 3)
    text = text_of(tokenizer, trial.prompt)
    before, _, after = text.partition(" The pass key is ")
    rest = after.partition("is the pass key.")[2].removesuffix(f" {ASK_KEY}")
    share = len(before) / (len(before) + len(rest))
    assert depth - 0.01 < share <= depth
    assert rest[:1] in ("", " ")  # words are not cut


def test_a_text_without_spaces_is_cut_where_the_depth_says():
    tokenizer: Any = ByteTokenizer()
    trial = Haystacks(tokenizer, "x" * 5000).make("passkey", 2000, 0.5, 0)
    before = text_of(tokenizer, trial.prompt).index(" The pass key")
    assert before == pytest.approx(950, abs=30)


def test_the_second_key_halves_the_rest_and_is_the_answer():
    trial = Haystacks(tiny()).make("order", 1000, 0.4, 0)
    text = text_of(tiny(), trial.prompt)
    first, second = (text_of(tiny(), way).strip() for way in (trial.others[0], trial.answer))
    places = [text.index(f"The pass key is {key}. Remember it.") for key in (first, second)]
    assert [place / len(text) for place in places] == pytest.approx([0.4, 0.7], abs=0.03)
    assert text.endswith("What is the last pass key? The last pass key is")


def test_chance_comes_from_the_trial_alone():
    maker, again = Haystacks(tiny(), STORY), Haystacks(tiny(), STORY)
    first = maker.make("passkey", 200, 0.5, 0)
    maker.make("passkey", 200, 0.5, 1)
    assert again.make("passkey", 200, 0.5, 0) == first
    different = {
        maker.make("passkey", 200, 0.5, 1).answer,
        maker.make("passkey", 201, 0.5, 0).answer,
        maker.make("passkey", 200, 0.25, 0).answer,
        maker.make("order", 200, 0.5, 0).answer,
    }
    assert first.answer not in different and len(different) == 4


def test_a_text_is_taken_from_any_of_its_words_and_again_from_its_start():
    tokenizer: Any = ByteTokenizer()
    maker = Haystacks(tokenizer, "one two three four five six ")
    texts = [text_of(tokenizer, maker.make("passkey", 400, 1.0, s).prompt) for s in range(9)]
    starts = {text.split()[0] for text in texts}
    assert starts <= {"one", "two", "three", "four", "five", "six"} and len(starts) > 2
    assert all("five six one two" in text for text in texts)


def test_what_a_trial_takes():
    trial = Trial("passkey", 12, 0.5, 0, (1,) * 9, (2, 2, 2), ((3,) * 5, (4,)))
    assert trial.candidates == ((2, 2, 2), (3,) * 5, (4,))
    assert trial.positions == 9 + 4  # the last token of an ending is not computed
    assert trial.tokens == 9 + 9


def test_too_short_says_what_would_do():
    tokenizer: Any = ByteTokenizer()
    maker = Haystacks(tokenizer)
    with pytest.raises(OptionError, match=r"haystack of 100 tokens .* at least (\d+)") as caught:
        maker.make("passkey", 100, 0.5, 0)
    enough = int(str(caught.value).split("at least ")[1].rstrip(")"))
    assert maker.make("passkey", enough, 0.5, 0).length == enough


def test_no_text():
    with pytest.raises(OptionError, match="no text to hide"):
        Haystacks(loaded("motet-tiny").tokenizer, "")


def test_keys_are_different_and_run_out():
    import numpy as np

    rng = np.random.default_rng(0)
    assert len(set(different_keys(rng, 5, 4))) == 4
    assert sorted(different_keys(rng, 1, 99)) == list("0123456789")
    assert all(len(key) == 18 for key in different_keys(rng, 18, 3))


def test_vocabularies_without_bos():
    class Plain(ByteTokenizer):
        add_bos = False

    plain: Any = Plain()
    trial = Haystacks(plain).make("passkey", 300, 0.0, 0)
    assert BOS not in trial.prompt and trial.length == 300
