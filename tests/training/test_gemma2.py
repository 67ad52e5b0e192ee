from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from training.export import write_gguf  # noqa: E402
from training.gemma2 import QUERY_BLOCK, Gemma2, Gemma2Config  # noqa: E402
from training.reference import GemmaReference  # noqa: E402
from training.train import learning_rate, make_optimizer, train_step  # noqa: E402


@pytest.fixture
def fresh(pieces) -> Gemma2:
    torch.manual_seed(0)
    config = Gemma2Config(
        pieces.vocab_size(), 256, d_model=32, n_layers=2, head_dim=8, d_ff=32, window=5
    )
    return Gemma2(config)


@pytest.fixture
def model(fresh) -> Gemma2:
    for parameter in fresh.parameters():  # large enough for softcaps and norms to matter
        parameter.data.mul_(5).add_(0.3 * torch.randn_like(parameter))
    return fresh.eval()


def tokens(model: Gemma2, length: int) -> list[int]:
    return np.random.default_rng(1).integers(0, model.config.n_vocab, length).tolist()


def test_exported_file_computes_what_torch_computes(model, pieces, tmp_path: Path):
    ids = tokens(model, 2 * QUERY_BLOCK + 9)
    exact = model(torch.tensor([ids])).detach()[0].numpy()
    write_gguf(tmp_path / "model.gguf", "test", model, pieces)
    stored = model(torch.tensor([ids])).detach()[0].numpy()
    assert not np.array_equal(stored, exact)  # rounded to Q8_0, as in the file
    reference = GemmaReference(tmp_path / "model.gguf").logits(ids)
    assert reference.std() > 1
    assert np.abs(reference - stored).max() < 1e-3


def test_the_window_and_the_future_are_hidden(model):
    ids = torch.tensor([tokens(model, 90)])
    logits = model(ids)
    later = ids.clone()
    later[0, 70] = (later[0, 70] + 1) % model.config.n_vocab
    assert torch.equal(model(later)[0, :70], logits[0, :70])
    model.layers = model.layers[:1]  # the sliding layer alone
    difference = (model(later) - model(ids))[0].abs().amax(-1)
    assert (difference[70 : 70 + model.config.window] > 0).all()
    assert (difference[70 + model.config.window :] == 0).all()


def test_a_few_steps_lower_the_loss(fresh, diet):
    optimizer = make_optimizer(fresh)
    losses = [train_step(fresh, optimizer, diet, 50, 1000) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1


def test_learning_rate_rises_then_falls():
    rates = [learning_rate(step, 1000) for step in range(1000)]
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[-1] < 0.05 * rates[peak]
