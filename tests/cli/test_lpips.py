"""LPIPS through the real command, without and with weights; the weights are random numbers, and marked as such."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gen3r_bench
from random_backbones import write_backbone

from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.metrics.perceptual import lpips
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.runs.store import read_run

KEYS = {"lpips@vgg", "lpips@vgg/novel"}
ROWS = ("-m", "freeze", "-m", "oracle", "--no-diagnostics")
"""Two suffice, for a row takes seconds."""


def test_without_weights_the_other_metrics_are_scored_and_with_them_lpips_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "weights"
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(root))
    command = ("run", "-p", "appearance-1view", "--limit", 1, "-o", "r", "--keep-predictions", "-q")
    done = gen3r_bench(*command, *ROWS, cwd=tmp_path)
    assert "run gen3r-bench weights fetch lpips-vgg" in " ".join(done.stdout.split())
    before = {record.row: record for record in read_run(tmp_path / "r").records}
    for record in before.values():
        assert {"psnr@8bit", "psnr@8bit/novel", "ssim@skimage-gauss"} <= set(record.scores)
        assert not KEYS & set(record.scores)
        assert record.unsupported["lpips@vgg"].startswith("weights missing, run gen3r-bench weights fetch lpips-vgg")
    nothing = gen3r_bench("score", "r", "--metrics", "lpips", "--quiet", cwd=tmp_path, code=1)
    assert "weights fetch lpips-vgg" in " ".join(nothing.stdout.split())

    write_backbone(root, "vgg")
    done = gen3r_bench("score", "r", "--metrics", "lpips", cwd=tmp_path)
    assert f"Appended {len(before)} scores to r" in done.stderr
    # no table shows a score of random weights
    assert "computed with random weights, which is no score" in " ".join(done.stdout.split())
    run = read_run(tmp_path / "r")
    after = {record.row: record for record in run.records}
    for row, record in after.items():
        assert {key: record.scores[key] for key in before[row].scores} == before[row].scores
        assert set(record.scores) - set(before[row].scores) == KEYS
        facts = run.header.provenances[record.made_with["lpips@vgg"]]
        assert (facts["weights"], facts["device"], facts["backbone"]) == ("random-weights", "cpu", "vgg16-397923af.pth")
    assert after["oracle"].scores["lpips@vgg"] == 0
    mini = MiniDataset.open(None, {})
    scene = mini.load(after["oracle"].scene_id, APPEARANCE_1VIEW.clip_plan("mini").profile())
    freeze = scene.rgb[:1].repeat(scene.num_frames, axis=0)
    per_frame = lpips(freeze, scene.rgb)
    assert after["freeze"].scores["lpips@vgg"] == pytest.approx(per_frame.mean(), abs=1e-6)
    assert after["freeze"].scores["lpips@vgg/novel"] == pytest.approx(per_frame[1:].mean(), abs=1e-6)
    assert set(after) == {"freeze", "oracle"}


def test_a_run_with_weights_scores_lpips_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    write_backbone(tmp_path / "weights", "vgg")
    gen3r_bench("run", "-p", "rgb-recon", *ROWS, "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    run = read_run(tmp_path / "r")
    assert all("lpips@vgg" in record.scores for record in run.records)
    assert len(run.header.provenances) == 1
    listed = {item["key"]: item for item in json.loads(gen3r_bench("ls", "metrics", "--json", cwd=tmp_path).stdout)}
    assert listed["lpips@vgg"]["computed"]
    assert listed["lpips@alex"]["unavailable"].startswith("weights missing, run gen3r-bench weights fetch lpips-alex")


def test_a_wrong_file_of_weights_is_a_reason_and_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    write_backbone(tmp_path / "weights", "vgg", marked=False)
    gen3r_bench("run", "-p", "rgb-recon", *ROWS, "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    for record in read_run(tmp_path / "r").records:
        assert "is not the published file" in record.unsupported["lpips@vgg"]
        assert "psnr@8bit" in record.scores
