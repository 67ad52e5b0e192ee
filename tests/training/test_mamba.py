"""Mamba and Jamba in torch: the scan and its gradient, what a layer may see, what export writes."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from gguf import GGMLQuantizationType, GGUFReader  # noqa: E402

from training.export import write_gguf  # noqa: E402
from training.jamba import Attention, Experts, Jamba, JambaConfig  # noqa: E402
from training.mamba import DT_RANGE, Mamba, MambaConfig, Mixer, MixerConfig  # noqa: E402
from training.reference import open_reference  # noqa: E402
from training.scan import SelectiveScan, selective_scan  # noqa: E402
from training.train import make_optimizer, train_step  # noqa: E402

MIXER = MixerConfig(d_model=32, d_inner=64, d_state=5, d_conv=3, dt_rank=4)


def fresh(family: str, n_vocab: int):
    torch.manual_seed(0)
    if family == "mamba":
        return Mamba(MambaConfig(n_vocab, 256, MIXER, n_layers=2))
    return Jamba(
        JambaConfig(n_vocab, 256, MIXER, n_layers=4, attention_every=3, head_dim=8, d_ff=64)
    )


@pytest.fixture(params=["mamba", "jamba"])
def model(request, pieces):
    model = fresh(request.param, pieces.vocab_size())
    for name, parameter in model.named_parameters():  # so that every norm and gate matters
        if not name.endswith("log_a"):
            parameter.data.mul_(3).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def tokens(model, length: int) -> list[int]:
    return np.random.default_rng(1).integers(0, model.config.n_vocab, length).tolist()


def scan_inputs(length: int = 5) -> list:
    generator = torch.Generator().manual_seed(3)

    def random(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    x, dt, a = random(length, 2, 3), random(length, 2, 3).exp(), -random(4, 3).exp()
    return [x, dt, a, random(length, 2, 4), random(length, 2, 4)]


def test_scan_is_its_recurrence():
    x, dt, a, b, c = scan_inputs()
    expected = torch.zeros_like(x)
    for row in range(2):
        for channel in range(3):
            h = torch.zeros(4, dtype=torch.float64)
            for t in range(len(x)):
                h = h * (dt[t, row, channel] * a[:, channel]).exp()
                h = h + dt[t, row, channel] * x[t, row, channel] * b[t, row]
                expected[t, row, channel] = h @ c[t, row]
    assert torch.allclose(SelectiveScan.apply(x, dt, a, b, c), expected, atol=1e-12)
    x, dt, b, c, expected = (values.transpose(0, 1) for values in (x, dt, b, c, expected))
    assert torch.allclose(selective_scan(x, dt, a, b, c), expected, atol=1e-12)


def test_gradient_of_the_scan():
    inputs = [values.requires_grad_() for values in scan_inputs()]
    assert torch.autograd.gradcheck(SelectiveScan.apply, inputs)


def test_autocast_leaves_the_scan_in_float32():
    inputs = [values.float().requires_grad_() for values in scan_inputs()]
    plain = SelectiveScan.apply(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = SelectiveScan.apply(*(values.bfloat16().float() for values in inputs))
        assert torch.equal(SelectiveScan.apply(*inputs), plain)
    assert not torch.equal(mixed, plain)
    with torch.autocast("cpu", torch.bfloat16):
        SelectiveScan.apply(*inputs).sum().backward()
    assert all(values.grad.dtype == torch.float32 for values in inputs)


def test_fresh_time_steps_span_their_range():
    mixer = fresh("mamba", 50).layers[0].mixer
    steps = torch.nn.functional.softplus(mixer.dt.bias.detach())
    assert DT_RANGE[0] * 0.99 < steps.min() < 3 * DT_RANGE[0]
    assert DT_RANGE[1] / 3 < steps.max() < DT_RANGE[1] * 1.01


def test_exported_file_computes_what_torch_computes(model, pieces, tmp_path: Path):
    ids = tokens(model, 70)
    exact = model(torch.tensor([ids])).detach()[0].numpy()
    write_gguf(tmp_path / "model.gguf", "test", model, pieces)
    stored = model(torch.tensor([ids])).detach()[0].numpy()
    assert not np.array_equal(stored, exact)  # rounded to Q8_0, as in the file
    reference = open_reference(tmp_path / "model.gguf").logits(ids)
    assert reference.std() > 0.5
    assert np.abs(reference - stored).max() < 1e-4 * reference.std()


def test_what_is_rounded_and_what_is_not(model, pieces, tmp_path: Path):
    write_gguf(tmp_path / "model.gguf", "test", model, pieces)
    types = {t.name: t.tensor_type for t in GGUFReader(tmp_path / "model.gguf").tensors}
    rounded = {
        name.split(".", 2)[-1] for name, t in types.items() if t == GGMLQuantizationType.Q8_0
    }
    expected = {"token_embd.weight", "ssm_in.weight", "ssm_x.weight", "ssm_out.weight"}
    if model.architecture == "jamba":
        expected |= {f"attn_{name}.weight" for name in ("q", "k", "v", "output")}
        expected |= {f"ffn_{n}{e}.weight" for n in ("gate", "up", "down") for e in ("", "_exps")}
    assert {"token_embd.weight" if n == "weight" else n for n in rounded} == expected
    others = {t for t in types.values() if t != GGMLQuantizationType.Q8_0}
    assert others == {GGMLQuantizationType.F32}


def test_the_future_is_hidden_and_the_past_is_not(model):
    ids = torch.tensor([tokens(model, 60)])
    later = ids.clone()
    later[0, 40] = (later[0, 40] + 1) % model.config.n_vocab
    difference = (model(later) - model(ids))[0].abs().amax(-1)
    assert (difference[:40] < 1e-4).all()  # expert groups of another size round otherwise
    assert (difference[40:] > 1e-3).all()


def test_jamba_is_laid_out_as_asked():
    layers = fresh("jamba", 50).layers
    assert [type(layer.mixer) for layer in layers] == [Mixer, Mixer, Attention, Mixer]
    assert [isinstance(layer.ffn, Experts) for layer in layers] == [False, True, False, True]


def test_balance_is_one_when_all_experts_share_alike():
    experts = Experts(JambaConfig(50, 256, MIXER))
    torch.nn.init.normal_(experts.router, std=1e-6)
    for weight in (experts.gate, experts.up, experts.down):
        torch.nn.init.normal_(weight)
    experts(torch.randn(4, 32, 32))
    assert abs(experts.imbalance.item() - 1) < 1e-3
    experts.router.data[1] = 0
    experts.router.data[:, 0] = torch.tensor([50.0, 0, -50, -50])
    experts(torch.rand(4, 32, 32) + 0.5)
    assert experts.imbalance.item() > 1.9  # two of four do all the work


@pytest.mark.parametrize("family", ["mamba", "jamba"])
def test_a_few_steps_lower_the_loss(family, diet, pieces):
    model = fresh(family, pieces.vocab_size())
    optimizer = make_optimizer(model)
    decayed, others = optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("log_a" not in names[id(p)] and p.ndim >= 2 for p in decayed["params"])
    assert any("log_a" in names[id(p)] for p in others["params"])
    before = {id(p): p.detach().clone() for p in model.parameters()}
    losses = [train_step(model, optimizer, diet, 50, 1000) for _ in range(6)]
    assert losses[-1] < losses[0] - 0.1
    assert all(not torch.equal(p, before[id(p)]) for p in model.parameters())
