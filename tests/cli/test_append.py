"""``gen3r-bench score RUN --metrics``: the real command."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process
from rich.console import Console

from gen3r_bench.cli.run import print_reasons
from gen3r_bench.runs.store import read_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("append")
    gen3r_bench(
        "run", "-p", "appearance-1view", "-m", "freeze", "--limit", 1, "--keep-predictions", "-o", "r", "-q", cwd=folder
    )
    return folder


def test_a_metric_is_appended_and_shown(folder: Path) -> None:
    before = (folder / "r/records.jsonl").read_bytes()
    done = gen3r_bench_process("score", "r", "--metrics", "ssim@torchmetrics", cwd=folder)
    assert "SSIM (torchmetrics)" in done.stdout
    assert "Appended 4 scores to r; the earlier ones are untouched." in done.stderr
    assert (folder / "r/records.jsonl").read_bytes().startswith(before)
    run = read_run(folder / "r")
    assert all("ssim@torchmetrics/novel" in record.scores for record in run.records)
    again = gen3r_bench("score", "r", "--metrics", "ssim,ssim@torchmetrics", "--quiet", cwd=folder)
    assert again.stdout == done.stdout
    assert again.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("r", "--metrics", "lpis"), "unknown metric 'lpis'; did you mean 'lpips'"),
        (("r", "--metrics", "chamfer"), "metric 'chamfer' for a run"),
        (("r", "--metrics", " , "), "no metric; expected one or more, by name, key or family"),
        (("r",), "only r; expected a run's folder with --metrics"),
        (("--metrics", "ssim"), "--metrics without a run"),
        (("r", "--metrics", "ssim", "-p", "geom-1view", "--limit", "1"), "--protocol, --limit with a run"),
        (("elsewhere", "--metrics", "ssim"), "elsewhere is not a run folder"),
        ((), "neither a folder of predictions nor a run"),
        (("-p", "geom-1view", "--name", "x"), "neither a folder of predictions nor a run"),
        (("r", "--metrics", "ssim", "--data-root", "co3dv2=x"), "unknown dataset in --data-root 'co3dv2'"),
    ],
)
def test_wrong_usage_is_explained(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in gen3r_bench("score", *arguments, cwd=folder, code=2).stderr
    assert not (folder / "elsewhere").exists()


def test_a_run_without_predictions_says_how_to_get_them(tmp_path: Path) -> None:
    gen3r_bench("run", "-p", "appearance-1view", "-m", "freeze", "--limit", 1, "-o", "r", "-q", cwd=tmp_path)
    error = gen3r_bench("score", "r", "--metrics", "ssim@torchmetrics", cwd=tmp_path, code=2).stderr
    assert "gen3r-bench run -p appearance-1view -m freeze --limit 1 -o r -q --keep-predictions --fresh" in error


def test_a_reason_is_printed_word_for_word() -> None:
    reason = "lpips is not installed: run pip install 'gen3r-bench[perceptual]' [/red] [bold]"
    console = Console(file=io.StringIO(), width=200)
    print_reasons(console, {"lpips@vgg": Counter({reason: 3})})
    assert console.file.getvalue() == f"lpips@vgg: no score for 3 records: {reason}\n"  # type: ignore[attr-defined]
