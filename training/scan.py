"""Mamba's selective scan in torch: a plain loop over time, with its gradient written out."""

from __future__ import annotations

import torch
from torch import Tensor


class SelectiveScan(torch.autograd.Function):
    """h_t = exp(dt_t a) h_(t-1) + (dt_t x_t) b_t from h = 0; y_t = sum over n of h_t c_t.

    x, dt: [T, B, D], dt already positive; a: [N, D], negative; b, c: [T, B, N] -> y [T, B, D].
    Time comes first and channels last, so that what a step touches lies together and in cache.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        length, rows, channels = x.shape
        u = dt * x
        states = x.new_empty(length + 1, rows, a.shape[0], channels)  # before step t, then after
        states[0] = 0
        for t in range(length):
            decay = (dt[t, :, None] * a).exp_()
            torch.mul(states[t], decay, out=states[t + 1])
            states[t + 1].addcmul_(u[t, :, None], b[t, :, :, None])
        ctx.save_for_backward(x, dt, a, b, c, states)
        return torch.matmul(c[:, :, None], states[1:]).squeeze(2)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, gy: Tensor) -> tuple[Tensor, ...]:
        x, dt, a, b, c, states = ctx.saved_tensors
        u, gy = dt * x, gy.contiguous()
        gu, gdt, gb = torch.empty_like(x), torch.empty_like(x), torch.empty_like(b)
        gc = torch.matmul(states[1:], gy[..., None]).squeeze(-1)
        ga = torch.zeros_like(states[0])
        carried = torch.zeros_like(states[0])  # dL/dh_t by way of later steps
        for t in reversed(range(x.shape[0])):
            carried.addcmul_(c[t, :, :, None], gy[t, :, None])
            gu[t] = torch.matmul(b[t, :, None], carried).squeeze(1)
            gb[t] = torch.matmul(carried, u[t, :, :, None]).squeeze(-1)
            carried.mul_((dt[t, :, None] * a).exp_())
            exponent = carried * states[t]
            ga.addcmul_(exponent, dt[t, :, None])
            gdt[t] = exponent.mul_(a).sum(1)
        return gu * dt, gdt.addcmul_(gu, x), ga.sum(0), gb, gc


def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """As :class:`SelectiveScan`, with rows before time: x, dt [B, T, D]; b, c [B, T, N]."""
    moved = [values.transpose(0, 1).contiguous() for values in (x, dt, b, c)]
    return SelectiveScan.apply(moved[0], moved[1], a, moved[2], moved[3]).transpose(0, 1)
