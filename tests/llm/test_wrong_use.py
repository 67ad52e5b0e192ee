"""Wrong arguments that newcomers gave, and what they are told."""

import io
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import motet
from motet.cli.demo import shipped_model
from motet.errors import MotetError, OptionError
from motet.sampling import Sampling
from tests.llm.making import make
from tests.scripted import ScriptedModel

HI = [{"role": "user", "content": "Hi"}]


def test_a_model_that_is_none():
    for model, told in ((None, "None"), (3, "3"), (b"m.gguf", "b'm.gguf'"), ("", "''")):
        with pytest.raises(OptionError) as caught:
            motet.LLM(model)  # type: ignore[arg-type]
        assert f"model is {told} (give the path of a GGUF file" in str(caught.value)
    with pytest.raises(OptionError, match=r"path is None \(give the path"):
        motet.Model.load(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", ["a", 1.5, "2", 0, 2**31, 2**64, True])
def test_threads_that_are_no_number_of_threads(threads):
    with pytest.raises(OptionError, match="threads is "):
        motet.LLM(shipped_model(), threads=threads)


CALLS = {
    "llm.restore(None)": r"file is None \(use a path, or an open binary file\)",
    "llm.restore('')": "file is ''",
    "llm.save(5)": "file is 5",
    "llm.save(io.StringIO())": "takes text",
    "llm.save(io.BytesIO(), notes=[1])": r"notes is \[1\] \(use a dictionary of texts by name\)",
    "llm.save(io.BytesIO(), {'a': 1})": r"notes\['a'\] is 1",
    "llm.notes(None)": "file is None",
    "llm.generate('a', stop=5)": r"stop is 5 \(use a list of texts\)",
    "llm.generate('a', stop=['a', 5])": "a stop string is 5",
    "llm.generate('a', logit_bias=[1])": r"logit_bias is \[1\] \(use a dictionary of numbers by to",
    "llm.generate('a', logit_bias={1: 1e300})": r"logit_bias of token 1 is 1e\+300",
    "llm.generate('a', presence_penalty=1e300)": "presence_penalty is 1e",
    "llm.generate('a', temperature=10**400)": "temperature is 1000",
    "llm.generate('a', seed=10**5000)": "seed is a int",
    "llm.generate('a', echo='no')": r"echo is 'no' \(use True or False\)",
    "llm.generate('a', stream=None)": "stream is None",
    "llm.generate('a', stream=True, progress=True)": "progress is True for a stream",
    "llm.generate(b'Once')": r"prompt is b'Once' \(decode them first\)",
    "llm.generate(['a', b'Once'])": r"list with b'Once' at 1",
    "llm.generate(range(10**12))": "more than 16777216",
    "llm.generate(None)": "the prompt is None",
    "llm.chat(None)": "messages is None",
    "llm.chat({'role': 'user', 'content': 'Hi'})": r"messages is \{'content': 'Hi'",
    "llm.chat([])": r"messages is empty \(give a message",
    "llm.chat([[]])": r"messages\[0\] is empty",
    "llm.chat([HI, HI[0]])": r"messages\[1\] is \{",
    "llm.chat(HI + [HI])": r"messages\[1\] is \[",
    "llm.chat('Hi')": "messages is 'Hi'",
    "llm.chat_prompt([HI])": "a list of chats",
    "motet.Batch().add(True, 0)": "the token of entry 0 is True",
    "motet.Batch().extend(b'ab', 0)": "tokens is b'ab'",
    "motet.Batch().extend(None, 0)": "tokens is None",
    "motet.Batch().add(1, 0, logits='all')": "logits is 'all'",
    "motet.Batch().add(1, 0, seqs='0')": "seqs is '0'",
    "motet.SelfExtend(2**40, 8)": "group is 1099511627776",
}


@pytest.mark.parametrize("call", CALLS)
def test_what_is_wrong_is_said(llm, call):
    with pytest.raises(MotetError, match=CALLS[call]):
        eval(call, {"llm": llm, "io": io, "motet": motet, "HI": HI})
    assert len(llm.generate("abc", max_tokens=2).tokens) == 2


def test_a_context_is_decoded_from_a_batch_alone():
    model = motet.Model.load(shipped_model())
    context = model.context()
    for wrong in ([1, 2], None, "Once"):
        with pytest.raises(OptionError, match=r"batch is .* \(make a motet.Batch"):
            context.decode(wrong)  # type: ignore[arg-type]
    assert model.tokenizer is not None
    with pytest.raises(OptionError, match="text is 5"):
        model.tokenizer.encode(5)  # type: ignore[arg-type]
    for wrong in ("a", 5, None, b"a"):
        with pytest.raises(OptionError, match="ids is"):
            model.tokenizer.decode(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"seq is True \(use a whole number"):
        context.memory.length(True)
    with pytest.raises(OptionError, match="seqs names sequence 0 twice"):
        context.save(io.BytesIO(), [0, 0])


def test_numpys_numbers_and_path_objects_are_good(tmp_path):
    class Place:
        def __fspath__(self) -> str:
            return str(shipped_model())

    model = motet.Model.load(Place(), threads=np.int64(1))  # type: ignore[arg-type]
    options = {"max_sequences": np.int32(2), "prefix_reuse": np.bool_(True)}
    with motet.LLM(model, **options) as llm:  # type: ignore[arg-type]
        plain = llm.generate("Once", seed=3, max_tokens=4, temperature=0.5, logit_bias={5: 1})
        same = llm.generate(
            "Once",
            seed=np.uint8(3),  # type: ignore[arg-type]
            max_tokens=np.int16(4),  # type: ignore[arg-type]
            temperature=np.float32(0.5),  # type: ignore[arg-type]
            logit_bias={np.int64(5): np.float64(1)},  # type: ignore[arg-type]
        )
        assert same.tokens == plain.tokens
        llm.save(tmp_path / "state", notes={"a": "b"})
        assert llm.notes(str(tmp_path / "state")) == {"a": "b"}
    context = model.context()
    batch = motet.Batch()
    batch.extend([1, 2], 0)
    context.decode(batch)
    context.save(io.BytesIO(), np.int64(0))  # type: ignore[arg-type]
    context.save(io.BytesIO(), np.array([0]))  # type: ignore[arg-type]


def test_what_sampling_keeps_is_plain_and_its_own():
    bias = {np.int64(3): np.float32(1)}
    options = Sampling(top_k=np.int8(3), top_p=1, logit_bias=bias)  # type: ignore[arg-type]
    bias.clear()
    assert (options.top_k, options.top_p, options.logit_bias) == (3, 1.0, {3: 1.0})
    assert type(options.top_k) is int and type(options.logit_bias[3]) is float
    with pytest.raises(OptionError, match="temperature is Decimal"):
        Sampling(temperature=Decimal("0.5"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 5e-324},
        {"temperature": 1e30},
        {"repeat_penalty": 1e6},
        {"repeat_penalty": 1e-6},
        {"presence_penalty": 1e30, "frequency_penalty": 1e30, "repeat_penalty": 1e6},
        {"logit_bias": {7: 1e30, 8: -math.inf}, "repeat_penalty": 1e6},
        {"min_p": 5e-324, "top_p": 5e-324, "typical_p": 5e-324},
        {"top_k": 2**62, "repeat_last_n": 2**62},
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_most_extreme_options_work_without_a_warning(extreme):
    with make(ScriptedModel(), max_sequences=2) as llm:
        assert len(llm.generate([7, 8, 9], max_tokens=5, seed=1, **extreme).tokens) == 5


def test_a_name_that_is_nearly_right_is_suggested(llm):
    model = motet.Model.load(shipped_model())
    batch = motet.Batch()
    calls = {
        "max_sequences": lambda: motet.LLM(model, max_sequence=2),  # type: ignore[call-arg]
        "threads": lambda: motet.Model.load(shipped_model(), thread=2),  # type: ignore[call-arg]
        "ubatch": lambda: model.context(ubatches=2),  # type: ignore[call-arg]
        "top_k": lambda: Sampling(topk=2),  # type: ignore[call-arg]
        "window": lambda: motet.SelfExtend(group=2, windows=3),  # type: ignore[call-arg]
        "seqs": lambda: batch.add(1, 0, seq=2),  # type: ignore[call-arg]
        "notes": lambda: llm.save(io.BytesIO(), note={}),
        "adopt_self_extend": lambda: llm.restore(io.BytesIO(), adopt_extend=True),
        "max_tokens": lambda: llm.generate("a", max_token=2),
    }
    for meant, call in calls.items():
        with pytest.raises(OptionError, match=rf"has no option .* \(did you mean {meant}"):
            call()
    with pytest.raises(TypeError, match="missing"):
        motet.SelfExtend(group=2)  # type: ignore[call-arg]


def test_a_file_object_that_is_of_no_use(llm, tmp_path: Path):
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(OptionError, match="is closed"):
        llm.save(closed)
    with (tmp_path / "a").open("wb") as file, pytest.raises(OptionError, match="can't read"):
        llm.restore(file)
    with (tmp_path / "a").open("rb") as file, pytest.raises(OptionError, match="can't write"):
        llm.save(file)
