"""Whose turn it is, and how prompts share a batch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.engine import GenerationOptions, Request
from motet.engine.load import Totals
from motet.engine.pace import Pace
from motet.engine.scheduler import Scheduler
from motet.engine.waiting import Waiting
from motet.errors import CapacityError
from motet.sampling import Sampling
from tests.scripted import ByteTokenizer, ScriptedConfig, ScriptedContext, ScriptedModel


def ask(prompt: str, client: str = "", count: int = 4, **options: Any) -> Request:
    chosen = GenerationOptions(max_tokens=count, client=client, **options)
    tokenizer: Any = ByteTokenizer()
    ids = [*prompt.encode()]
    return Request(ids, Sampling(seed=1), chosen, count, lambda _: None, tokenizer)


class Driver:
    """A scheduler that is stepped by hand, as the engine does it."""

    def __init__(self, sequences: int, ubatch: int, recurrent: bool = False, reuse: bool = False):
        model = ScriptedModel(recurrent=recurrent, config=ScriptedConfig(context_length=1000))
        self.context: ScriptedContext = model.context(max_sequences=sequences, ubatch=ubatch)
        self.scheduler = Scheduler(self.context, reuse, Pace(), Totals())  # type: ignore[arg-type]
        self.room: int | None = None
        self.ended: list[Request] = []
        self.scheduler._pace.room = lambda writing, most: min(self.room or most, most)  # type: ignore[method-assign]

    def step(self) -> dict[Request, int]:
        """A step; how many tokens of each request were computed."""
        while True:
            scheduled = self.scheduler.schedule()
            try:
                logits = self.context.decode(scheduled.batch).logits  # type: ignore[arg-type]
                break
            except CapacityError:
                assert self.scheduler.sequences.evict() or self.scheduler.preempt()
        computed: dict[Request, int] = {}
        for span in scheduled.spans:
            request = span.answer.request
            computed[request] = computed.get(request, 0) + len(span.tokens)
            if not self.scheduler.computed(span):
                continue
            for answer in list(request.answers) if span.is_prefill else [span.answer]:
                answer.advance(logits[span.rows][-1:])
                if answer.completion:
                    self.scheduler.release(answer)
            if not request.answers:
                self.ended.append(request)
        return computed

    def run(self) -> list[Request]:
        """Until all is done; the requests as they ended."""
        while self.scheduler.busy:
            assert self.step()
        return self.ended


def test_a_client_with_one_request_does_not_wait_for_another_ones_thousand() -> None:
    driver = Driver(sequences=2, ubatch=8)
    crowd = [ask("abc", "crowd") for _ in range(1000)]
    driver.scheduler.waiting.extend(crowd)
    driver.step()
    one = ask("abc", "one")
    driver.scheduler.waiting.extend([one])
    for _ in range(10):
        driver.step()
    assert one in driver.ended
    assert len(driver.ended) <= 4
    assert [r for r in driver.run() if r is not one] == crowd  # a client's own, as they came


def test_clients_who_always_want_something_get_the_same() -> None:
    """One asks for much in few requests, one for little in many."""
    driver = Driver(sequences=2, ubatch=64)
    large = [ask("x" * 50, "large", count=20) for _ in range(10)]
    small = [ask("y", "small", count=4) for _ in range(200)]
    driver.scheduler.waiting.extend(small + large)
    got = {"large": 0, "small": 0}
    for _ in range(400):
        for request, count in driver.step().items():
            got[request.options.client] += count
    assert abs(got["large"] - got["small"]) <= 2 * 70


def test_who_had_nothing_to_do_saves_nothing_up_and_keeps_what_it_had() -> None:
    waiting = Waiting()
    busy, late = ask("a", "busy"), ask("a", "late")
    waiting.extend([busy])
    waiting.admit(busy)
    waiting.serve(busy, 1000)
    waiting.extend([late])
    assert waiting.served(late) == 1000
    waiting.admit(late)
    waiting.serve(late, 10)
    waiting.end(late)
    again = ask("a", "late")
    waiting.extend([again, ask("a", "busy")])
    assert waiting.served(again) == 1010
    first = waiting.next(lambda _: False)
    assert first is not None
    assert first.options.client == "busy"
    assert len(waiting) == 2
    again.cancelled = True
    waiting.drop_cancelled()
    assert len(waiting) == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 40), st.integers(1, 9)), max_size=30),
    st.integers(1, 4),
    st.integers(1, 30),
    st.integers(90, 400),
    st.booleans(),
)
def test_everybody_comes_to_an_end(asked, sequences, ubatch, room, reuse) -> None:
    """However little memory there is, as long as one request fits."""
    driver = Driver(sequences, ubatch, reuse=reuse)
    driver.context.memory.room = room
    requests = [ask(chr(97 + i) * length, client, n) for i, (client, length, n) in enumerate(asked)]
    for i in range(0, len(requests), 3):
        driver.scheduler.waiting.extend(requests[i : i + 3])
        if driver.scheduler.busy:
            driver.step()
    assert set(driver.run()) == set(requests)
    assert len(driver.scheduler.sequences) == sequences
    assert not driver.scheduler.waiting._running
    assert not driver.scheduler.waiting._queues


def test_a_short_prompt_is_not_stuck_behind_a_long_one() -> None:
    driver = Driver(sequences=3, ubatch=16)
    long, middle, short = ask("l" * 500), ask("m" * 100), ask("s" * 10)
    driver.scheduler.waiting.extend([long])
    assert driver.step() == {long: 16}
    driver.scheduler.waiting.extend([middle, short])
    assert driver.step() == {long: 8, short: 8}
    assert driver.step() == {long: 8, short: 2, middle: 6}
    assert short.answers[0].tokens
    steps = 0
    while not long.answers[0].tokens:
        got = driver.step()
        steps += 1
        assert got[long] >= 7  # half of what writing leaves
    assert steps <= 2 * 500 / 16


def test_room_that_others_leave_is_the_oldest_ones() -> None:
    driver = Driver(sequences=2, ubatch=32)
    long, short = ask("l" * 100), ask("s" * 3)
    driver.scheduler.waiting.extend([long, short])
    assert driver.step() == {long: 29, short: 3}


@pytest.mark.parametrize("recurrent", [False, True])
def test_what_prompts_begin_with_is_computed_once(recurrent: bool) -> None:
    """They wait until it is there; one that begins otherwise does not."""
    driver = Driver(sequences=6, ubatch=16, recurrent=recurrent, reuse=True)
    shared = [ask("s" * 60 + "abcd"[i] * 5) for i in range(4)]
    other = ask("o" * 20)
    driver.scheduler.waiting.extend([*shared, other])
    assert driver.step().keys() == {shared[0], other}
    assert set(driver.run()) == {*shared, other}
    assert [request.reused for request in shared] == [0, 60, 60, 60]
    assert driver.scheduler._totals.cached_tokens == 180


def test_the_heaviest_client_makes_room_first() -> None:
    driver = Driver(sequences=3, ubatch=64)
    driver.context.memory.room = 100
    heavy, heavier, light = ask("a" * 30, "h", 30), ask("b" * 30, "h", 30), ask("c" * 5, "l", 30)
    driver.scheduler.waiting.extend([heavy, light, heavier])
    while not driver.scheduler._totals.preemptions:
        driver.step()
    assert driver.scheduler.running == [heavy, light]
    assert driver.run()[-1] is heavier


def test_a_step_leaves_prompts_the_room_that_the_pace_gives() -> None:
    driver = Driver(sequences=3, ubatch=64)
    writing, prompt = ask("a", count=50), ask("b" * 100)
    driver.scheduler.waiting.extend([writing])
    driver.step()
    driver.room = 7
    driver.scheduler.waiting.extend([prompt])
    assert driver.step() == {writing: 1, prompt: 7}
