"""What goes wrong with one request, a batch, the engine or its caller."""

import gc
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from motet.errors import (
    CapacityError,
    MotetError,
    NumericalError,
)
from tests.llm.making import finished, free_sequences, make
from tests.scripted import ScriptedModel, noise


def test_a_prompt_longer_than_the_context_is_refused_before_any_work(llm):
    stream = llm.generate("abc", max_tokens=100, stream=True, seed=0)
    with pytest.raises(CapacityError, match=r"201 tokens.*holds 128"):
        llm.generate(["fine", "x" * 200])
    with pytest.raises(CapacityError, match="128"):
        llm.generate("x" * 127)
    rest = list(stream)[-1].completion
    assert rest.tokens == llm.generate("abc", max_tokens=100, seed=0).tokens
    assert len(llm.generate("x" * 126).tokens) == 1
    assert free_sequences(llm) == 4


def test_a_closed_stream_frees_its_sequence(llm):
    stream = llm.generate("abc", stream=True)
    assert next(stream).tokens
    stream.close()
    assert list(stream) == []
    assert free_sequences(llm) == 4
    with llm.generate("abc", stream=True) as stream:
        next(stream)
    assert free_sequences(llm) == 4


def test_a_dropped_stream_frees_its_sequence(llm):
    stream = llm.generate(["a", "b", "c", "d", "e", "f"], stream=True)
    next(stream)
    del stream
    gc.collect()
    assert free_sequences(llm) == 4


def test_ctrl_c_in_the_caller_frees_its_sequences(llm, monkeypatch):
    from queue import SimpleQueue

    class Interrupted(SimpleQueue):
        def get(self, *args: Any) -> Any:
            super().get(*args)
            raise KeyboardInterrupt

    monkeypatch.setattr("motet.llm.SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["a", "b"], max_tokens=50, stream=False)
    monkeypatch.undo()
    assert free_sequences(llm) == 4


def test_a_failed_batch_reaches_every_caller_in_it_and_the_next_ones_go_on(llm):
    llm.model.made.gate.clear()
    llm.model.made.fail = ZeroDivisionError("broken")
    errors = []

    def ask() -> None:
        try:
            llm.generate("abc", max_tokens=50)
        except MotetError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    streams = [llm.generate("abc", max_tokens=5, seed=1, stream=True)]
    llm.model.made.entered.wait(10)  # the stream's request alone is in the failing batch
    for thread in threads:
        thread.start()
    llm.model.made.gate.set()
    with pytest.raises(MotetError, match="ZeroDivisionError: broken") as caught:
        list(streams[0])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    for thread in threads:
        thread.join(20)
    assert not errors
    assert free_sequences(llm) == 4
    assert llm.generate("abc", max_tokens=5, seed=1).tokens


def test_all_callers_of_a_failed_batch_hear_of_it(llm):
    streams = [llm.generate("abc", stream=True) for _ in range(4)]
    for stream in streams:
        next(stream)
    llm.model.made.fail = MotetError("out of paper")
    for stream in streams:
        with pytest.raises(MotetError, match="out of paper"):
            list(stream)
    assert free_sequences(llm) == 4


def test_one_broken_sequence_does_not_harm_the_others():
    def rule(history):
        row = noise(history)
        if history[1] == ord("!"):
            row[3] = np.nan
        return row

    with make(ScriptedModel(rule), max_sequences=3) as llm:
        good = llm.generate("a", max_tokens=40, seed=0, stream=True)
        with pytest.raises(NumericalError, match="token 3 is nan"):
            llm.generate(["b", "!c"], max_tokens=40)
        assert finished(good).usage.completion_tokens == 40
        assert free_sequences(llm) == 3


def test_an_engine_that_dies_tells_everyone_and_takes_nothing_more(llm):
    llm.model.made.gate.clear()
    streams = [llm.generate("abc", stream=True) for _ in range(6)]
    llm.model.made.fail = SystemExit("dead")
    llm.model.made.gate.set()
    for stream in streams:
        with pytest.raises(MotetError, match="SystemExit: dead"):
            list(stream)
    with pytest.raises(MotetError, match="dead"):
        llm.generate("abc")


def test_closing_ends_waiting_callers_and_refuses_new_ones():
    def slow(history):
        time.sleep(0.01)
        return noise(history)

    llm = make(ScriptedModel(slow), max_sequences=1)
    streams = [llm.generate("abc", stream=True) for _ in range(3)]
    next(streams[0])
    llm.close()
    llm.close()
    for stream in streams:
        with pytest.raises(MotetError, match="closed"):
            list(stream)
    with pytest.raises(MotetError, match="closed"):
        llm.generate("abc")


def test_a_dropped_llm_ends_its_thread_but_not_while_a_stream_needs_it():
    llm = make(ScriptedModel())
    thread = llm._engine._thread
    stream = llm.generate("abc", max_tokens=20, stream=True)
    del llm
    gc.collect()
    assert len(list(stream)) == 20
    del stream
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_an_error_instead_of_waiting_forever(llm):
    llm.generate("abc", max_tokens=2)
    child = os.fork()
    if child == 0:
        try:
            llm.generate("abc", max_tokens=2)
        except MotetError as error:
            llm.close()
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert llm.generate("abc", max_tokens=2).tokens
