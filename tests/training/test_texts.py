import numpy as np
import pytest

from tests.shared import SHARED, needs_shared
from training.texts import FILES, read_texts, rename


def test_rename_swaps_names_one_to_one_and_touches_nothing_else():
    story = "Lily met Tim. Tim liked Lily and the lily. Zoe did not."
    renamed = rename(story, np.random.default_rng(1))
    words, others = story.split(), renamed.split()
    assert renamed != story
    assert len(words) == len(others)
    assert others[0] == others[5]  # both Lily
    assert others[2].rstrip(".") == others[3]  # both Tim
    assert renamed.endswith("and the lily. Zoe did not.")


def test_missing_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=FILES[0]):
        read_texts(tmp_path)


@needs_shared
def test_texts_are_prose_and_held_out_parts_are_apart():
    for text in read_texts(SHARED / "text"):
        everything = "\n".join(text.train + text.held_out)
        assert len(everything) > 0.85 * text.size
        assert not set("“”’—_\r") & set(everything)
        assert "Gutenberg" not in everything
        assert not set(text.train) & set(text.held_out)
