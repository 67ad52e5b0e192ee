from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from motet import Batch, Model  # noqa: E402
from training.export import write_gguf  # noqa: E402
from training.gemma import Gemma, GemmaConfig  # noqa: E402
from training.reference import open_reference  # noqa: E402
from training.train import make_optimizer, train_step  # noqa: E402


@pytest.fixture
def fresh(pieces) -> Gemma:
    torch.manual_seed(0)
    config = GemmaConfig(
        pieces.vocab_size(), 256, d_model=32, n_layers=2, head_dim=8, d_ff=32, rope_base=200.0
    )
    return Gemma(config)


def test_exported_file_computes_what_torch_computes(fresh, pieces, tmp_path: Path):
    for parameter in fresh.parameters():  # large enough for norms and positions to matter
        parameter.data.mul_(3).add_(0.1 * torch.randn_like(parameter))
    ids = np.random.default_rng(1).integers(0, fresh.config.n_vocab, 120).tolist()
    path = tmp_path / "model.gguf"
    write_gguf(path, "test", fresh, pieces)
    stored = fresh(torch.tensor([ids])).detach()[0].numpy()
    reference = open_reference(path).logits(ids)
    assert reference.std() > 1
    assert np.abs(reference - stored).max() < 1e-3

    batch = Batch()
    batch.extend(ids, 0, logits="all")
    context = Model.load(path, 1).context(kv_type="f32")
    ours = context.decode(batch).logits
    assert np.abs(ours - reference).mean() < 0.02 * reference.std()  # Q8_0 rounds activations


def test_the_future_is_hidden(fresh):
    ids = torch.from_numpy(np.random.default_rng(2).integers(0, fresh.config.n_vocab, (1, 60)))
    later = ids.clone()
    later[0, 40] = (later[0, 40] + 1) % fresh.config.n_vocab
    difference = (fresh(later) - fresh(ids))[0].abs().amax(-1)
    assert (difference[:40] == 0).all() and (difference[40:] > 0).all()


def test_a_few_steps_lower_the_loss(fresh, diet):
    optimizer = make_optimizer(fresh)
    losses = [train_step(fresh, optimizer, diet, 50, 1000) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1
