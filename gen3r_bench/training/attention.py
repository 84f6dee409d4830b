"""Telling attention where to look: what a block's heads compare, and how far that is from the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def watched_attention(
    network: nn.Module, names: Sequence[str], norms: tuple[str, str] = ("q_norm", "k_norm")
) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While open, the normalised queries and keys of the named attentions come in, in order, as their norms give them.

    Args:
        network: that has them.
        names: of the attentions, in the order in which they run.
        norms: names of the modules in them that normalise queries and keys.
    """
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    watched: list[tuple[Tensor, Tensor]] = []
    hooks = []
    for name in names:
        attention = network.get_submodule(name)
        for norm_name, kept in zip(norms, (queries, keys), strict=True):
            norm = attention.get_submodule(norm_name)
            hooks.append(norm.register_forward_hook(lambda _module, _given, out, kept=kept: kept.append(out)))
    try:
        yield watched
    finally:
        for hook in hooks:
            hook.remove()
    watched += zip(queries, keys, strict=True)


def matching_loss(query: Tensor, key: Tensor, matches: Tensor, places: slice) -> Tensor:
    """Mean cross-entropy of attention against the true places; attention paid to any other key counts as missed.

    Args:
        query: [N, heads, Q, channels].
        key: [N, heads, K, channels].
        matches: [N, Q, P] shares of the true places, see ``patch_matches``; rows of zeros are left out.
        places: the P keys that the columns stand for.

    Returns:
        A scalar; 0 where no row is known.
    """
    scores = query.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
    entropy = -(matches[:, None] * scores.log_softmax(-1)[..., places]).sum(-1)
    shown = matches.sum(-1) > 0
    mean: Tensor = (entropy * shown[:, None]).sum() / (query.shape[1] * shown.sum()).clamp(min=1)
    return mean
