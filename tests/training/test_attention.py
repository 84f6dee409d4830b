from __future__ import annotations

import pytest
import torch
from torch import nn

from gen3r_bench.training.attention import matching_loss, watched_attention


def test_matching_is_the_cross_entropy_over_all_keys() -> None:
    """Oracle: torch's own, one row at a time; keys outside the places take their share of the softmax."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 6, 8)
    matches = torch.rand(2, 4, 2).softmax(-1)
    matches[0, 1] = 0
    losses = []
    for n, head, row in ((n, h, r) for n in range(2) for h in range(3) for r in range(4)):
        if matches[n, row].sum() > 0:
            target = torch.zeros(6)
            target[3:5] = matches[n, row]
            scores = key[n, head] @ query[n, head, row] / 8**0.5
            losses.append(nn.functional.cross_entropy(scores, target))
    torch.testing.assert_close(matching_loss(query, key, matches, slice(3, 5)), torch.stack(losses).mean())


def test_nothing_known_is_no_loss() -> None:
    query = torch.randn(1, 1, 2, 4, requires_grad=True)
    loss = matching_loss(query, torch.randn(1, 1, 3, 4), torch.zeros(1, 2, 3), slice(0, 3))
    loss.backward()
    assert float(loss.detach()) == 0
    assert query.grad.eq(0).all()
    empty = matching_loss(query[:, :, :0], torch.randn(1, 1, 3, 4), torch.zeros(1, 0, 3), slice(0, 3))
    assert float(empty.detach()) == 0


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_norm, self.k_norm = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.q_norm(x) + self.k_norm(x)


def test_what_is_watched_comes_in_order_and_nothing_stays_behind() -> None:
    network = nn.Sequential(Pair(), Pair(), Pair())
    x = torch.randn(1, 2)
    with watched_attention(network, ["0", "2"]) as watched:
        network(x)
    assert len(watched) == 2
    torch.testing.assert_close(watched[0][0], network[0].q_norm(x))
    torch.testing.assert_close(watched[1][1], network[2].k_norm(network[1](network[0](x))))

    with pytest.raises(ZeroDivisionError), watched_attention(network, ["1"]):
        _ = 1 / 0
    assert not any(module._forward_hooks for module in network.modules())


def test_other_norms_have_other_names() -> None:
    network = nn.ModuleDict({"attention": nn.ModuleDict({"norm_q": nn.Identity(), "norm_k": nn.Linear(2, 2)})})
    x = torch.randn(1, 2)
    with watched_attention(network, ["attention"], ("norm_q", "norm_k")) as watched:
        network["attention"]["norm_q"](x)
        network["attention"]["norm_k"](x)
    assert torch.equal(watched[0][0], x)
    assert watched[0][1].shape == (1, 2)
    with pytest.raises(AttributeError, match="q_norm"), watched_attention(network, ["attention"]):
        pass
