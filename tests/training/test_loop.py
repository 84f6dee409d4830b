from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from line_recipe import KilledError, Line, Points, killed_after
from torch import Tensor, nn

from gen3r_bench.errors import BenchError, InputError, StoreError
from gen3r_bench.training.checkpoints import latest_checkpoint, origins_at
from gen3r_bench.training.loop import train
from gen3r_bench.training.losses import read_losses


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("kill", [1, 4, 7, 11])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path: Path, kill: int, accumulate: int) -> None:
    whole = train(Line(accumulate=accumulate), tmp_path / "whole", cpu=True)
    with pytest.raises(KilledError):
        train(Line(accumulate=accumulate), tmp_path / "killed", cpu=True, on_step=killed_after(kill))
    resumed = train(Line(accumulate=accumulate), tmp_path / "killed", cpu=True)
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")
    assert [line["step"] for line in read_losses(tmp_path / "killed")] == list(range(1, 13))
    for ours, theirs in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert ours.equal(theirs)


def test_a_line_cut_off_by_a_kill_is_written_again(tmp_path: Path) -> None:
    train(Line(), tmp_path / "whole", cpu=True)
    with pytest.raises(KilledError):
        train(Line(), tmp_path / "killed", cpu=True, on_step=killed_after(6))
    losses = tmp_path / "killed" / "losses.jsonl"
    losses.write_bytes(losses.read_bytes()[:-20])
    train(Line(), tmp_path / "killed", cpu=True)
    assert read_losses(tmp_path / "killed") == read_losses(tmp_path / "whole")


def test_losses_that_do_not_reach_the_checkpoint_are_not_cut(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(Line(), tmp_path, cpu=True, on_step=killed_after(6))
    losses = tmp_path / "losses.jsonl"
    lines = losses.read_bytes().splitlines(keepends=True)
    losses.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(InputError, match=r"line 2 is .*expected the losses of step 2 \(fix: restore losses"):
        train(Line(), tmp_path, cpu=True)
    assert losses.read_bytes() == b"".join(lines[:1] + lines[2:])


def test_two_trainings_never_share_a_folder(tmp_path: Path) -> None:
    def begin_another(step: int, losses: dict[str, float]) -> None:
        with pytest.raises(StoreError, match=r"another training writes into .*--out"):
            train(Line(), tmp_path, cpu=True)

    train(Line(), tmp_path, cpu=True, on_step=begin_another)
    assert [line["step"] for line in read_losses(tmp_path)] == list(range(1, 13))


def test_a_process_that_is_not_the_first_only_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accelerator, "is_main_process", False)
    train(Line(), tmp_path / "second", cpu=True)
    assert list(tmp_path.iterdir()) == []


def test_every_origin_of_the_steps_is_told(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(Line(), tmp_path, cpu=True, origin={"commit": "a"}, on_step=killed_after(5))
    train(Line(), tmp_path, cpu=True, origin={"commit": "b"})
    origins = ({"from_step": 1, "commit": "a"}, {"from_step": 5, "commit": "b"})
    assert origins_at(tmp_path, 8) == origins_at(tmp_path, 12) == origins


def test_the_checkpoint_before_a_damaged_one_is_used(tmp_path: Path) -> None:
    train(Line(), tmp_path / "whole", cpu=True)
    train(Line(), tmp_path / "damaged", cpu=True)
    (tmp_path / "damaged" / "checkpoints" / "00000012" / "optimiser.pt").write_bytes(b"")
    (tmp_path / "damaged" / "checkpoints" / ".00000004.99").mkdir()
    recipe, said = Line(), list[str]()
    train(recipe, tmp_path / "damaged", cpu=True, on_damage=said.append)
    (text,) = said
    assert "00000012/optimiser.pt cannot be read" in text
    assert "going on from the checkpoint of step 8" in text
    assert recipe.drawn == 4
    assert read_losses(tmp_path / "damaged") == read_losses(tmp_path / "whole")
    # the damaged one was written again, and what a kill left is gone
    train(recipe, tmp_path / "damaged", cpu=True, on_damage=said.append)
    assert len(said) == 1
    folders = sorted(path.name for path in (tmp_path / "damaged" / "checkpoints").iterdir())
    assert folders == ["00000008", "00000012"]


class Wrapped(nn.Module):
    """As torch's own wrapper for several processes: it must be called, and what it wraps is out of sight."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped
        self.calls = 0

    def forward(self, *given: Any) -> Any:
        self.calls += 1
        return self.wrapped(*given)


def test_a_recipe_meets_its_own_network_in_every_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looking(Line):
        def losses(self, network: nn.Module, batch: Points) -> dict[str, Tensor]:
            network.get_submodule("0")
            return super().losses(network, batch)

    train(Line(accumulate=2), tmp_path / "alone", cpu=True)
    wrappers = []

    def prepare(self: Accelerator, module: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[nn.Module, Any]:
        wrappers.append(Wrapped(module))
        return wrappers[0], self.prepare_optimizer(optimiser)

    monkeypatch.setattr(Accelerator, "prepare", prepare)
    network = train(Looking(accumulate=2), tmp_path / "wrapped", cpu=True)
    assert wrappers[0].calls == 24  # gradients are shared between processes in these calls alone
    assert isinstance(network, nn.Sequential)
    assert read_losses(tmp_path / "wrapped") == read_losses(tmp_path / "alone")
    found = latest_checkpoint(tmp_path / "wrapped", Line(accumulate=2).facts())
    assert found is not None
    assert found.weights.keys() == network.state_dict().keys()


def test_a_finished_training_only_answers(tmp_path: Path) -> None:
    first = train(Line(), tmp_path, cpu=True)
    recipe = Line()
    again = train(recipe, tmp_path, cpu=True)
    assert recipe.drawn == 0
    assert not again.training
    for ours, theirs in zip(again.state_dict().values(), first.state_dict().values(), strict=True):
        assert ours.equal(theirs)


def test_it_learns(tmp_path: Path) -> None:
    train(Line(steps=150, decay_steps=100, save_every=150), tmp_path, cpu=True)
    losses = [line["square"] for line in read_losses(tmp_path)]
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Oracle: plain torch with the mean gradient of three batches, clipped, one AdamW step."""
    recipe = Line(steps=1, warmup_steps=0, decay_steps=0, accumulate=3, clip_norm=0.5)
    trained = train(recipe, tmp_path, cpu=True)
    torch.manual_seed(0)
    network = recipe.network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.02, betas=(0.9, 0.95), weight_decay=0.05)
    batches = [recipe.draw_batch(np.random.default_rng([0, 0, part, 0])) for part in range(3)]
    torch.stack([recipe.losses(network, batch)["total"] for batch in batches]).mean().backward()
    nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    optimiser.step()
    for ours, theirs in zip(trained.state_dict().values(), network.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_bfloat16_runs_the_products_short(tmp_path: Path) -> None:
    seen = []

    class Watching(Line):
        def losses(self, network: nn.Module, batch: Points) -> dict[str, Tensor]:
            seen.append(network(batch.x).dtype)
            return super().losses(network, batch)

    network = train(Watching(steps=2, warmup_steps=0, decay_steps=0, precision="bfloat16"), tmp_path, cpu=True)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    line = read_losses(tmp_path)[0]
    train(Line(steps=2, warmup_steps=0, decay_steps=0), tmp_path / "float32", cpu=True)
    assert line["square"] == pytest.approx(read_losses(tmp_path / "float32")[0]["square"], rel=0.02)
    assert line != read_losses(tmp_path / "float32")[0]


def test_a_loss_that_is_not_a_number_stops_and_can_go_on(tmp_path: Path) -> None:
    train(Line(), tmp_path / "whole", cpu=True)
    spoilt = Line()
    spoilt.spoilt_step = 9
    with pytest.raises(BenchError, match="step 10 is nan"):
        train(spoilt, tmp_path / "spoilt", cpu=True)
    train(Line(), tmp_path / "spoilt", cpu=True)
    assert read_losses(tmp_path / "spoilt") == read_losses(tmp_path / "whole")


def test_another_recipe_is_not_continued(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(Line(), tmp_path, cpu=True, on_step=killed_after(5))
    with pytest.raises(InputError, match="step 4 of another recipe"):
        train(Line(learning_rate=0.03), tmp_path, cpu=True)


def test_the_length_may_change_before_the_rate_falls(tmp_path: Path) -> None:
    train(Line(steps=10), tmp_path / "whole", cpu=True)
    with pytest.raises(KilledError):
        train(Line(steps=12), tmp_path / "changed", cpu=True, on_step=killed_after(4))
    train(Line(steps=10), tmp_path / "changed", cpu=True)
    assert read_losses(tmp_path / "changed") == read_losses(tmp_path / "whole")
    with pytest.raises(InputError, match="another recipe"):
        train(Line(steps=14), tmp_path / "changed", cpu=True)
