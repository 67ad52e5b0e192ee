import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.errors import OptionError
from motet.sampling import StopStrings


def run(stops, pieces):
    stream = StopStrings(stops)
    emitted = [stream.push(piece) for piece in pieces]
    return emitted, stream.flush(), stream.found


def test_a_partial_match_is_held_back_and_let_go():
    assert run(["\n\nUser:"], ["Yes.\n", "\nUs", "ual"]) == (["Yes.", "", "\n\nUsual"], "", None)


def test_a_match_ends_the_text_before_it():
    emitted, rest, found = run(["STOP"], ["a", "bS", "TO", "Px", "y"])
    assert (emitted, rest, found) == (["a", "b", "", "", ""], "", "STOP")


def test_held_text_comes_out_at_the_end():
    assert run(["abc"], ["xab"]) == (["x"], "ab", None)


def test_overlapping_starts():
    assert run(["aab"], ["a", "a", "a", "b"])[0] == ["", "", "a", ""]


@pytest.mark.parametrize("stop", ["", None, 3])
def test_an_unusable_stop_string_is_refused(stop):
    with pytest.raises(OptionError, match="stop string"):
        StopStrings([stop])


texts = st.text("ab", max_size=12)


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(texts, max_size=8))
def test_never_emits_what_could_become_a_stop_string(stops, pieces):
    stream = StopStrings(stops)
    whole, emitted = "", ""
    for piece in pieces:
        emitted += stream.push(piece)
        whole += piece
        assert whole.startswith(emitted)
        assert not any(stop in emitted for stop in stops)
        if stream.found is not None:
            break
        pending = whole[len(emitted) :]
        for stop in stops:  # no emitted end together with the pending text begins a stop string
            for cut in range(1, len(stop)):
                if (emitted + pending).endswith(stop[:cut]):
                    assert len(pending) >= cut
    emitted += stream.flush()
    if stream.found is None:
        assert emitted == whole
    else:
        assert whole.startswith(emitted + stream.found)


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), texts)
def test_the_cut_into_pieces_does_not_matter(stops, text):
    def outcome(pieces):
        emitted, rest, found = run(stops, pieces)
        return "".join(emitted) + rest, found

    assert outcome([text]) == outcome(list(text))
