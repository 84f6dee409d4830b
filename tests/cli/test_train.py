from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import gen3r_bench, gen3r_bench_process


def test_a_training_its_card_and_its_use(tmp_path: Path) -> None:
    train = ["train", "lvsm", "--steps", "1", "--cpu"]
    done = gen3r_bench_process(*train, cwd=tmp_path)
    folder = Path("runs/train-lvsm-reference-1-steps")
    name = str(folder / "lvsm-reference-1-steps")
    assert done.stdout.split() == [f"{name}.safetensors", f"{name}.json", f"{name}.png"]
    assert f"-m lvsm@{name}.safetensors" in done.stderr
    card = json.loads((tmp_path / f"{name}.json").read_text())
    assert card["recipe"]["schedule"]["steps"] == 1
    assert card["origin"]["torch"].startswith("2.")
    losses = (tmp_path / folder / "losses.jsonl").read_bytes()
    again = gen3r_bench(*train, "--quiet", "--json", cwd=tmp_path)
    assert (tmp_path / folder / "losses.jsonl").read_bytes() == losses
    files = {"weights": f"{name}.safetensors", "card": f"{name}.json", "curves": f"{name}.png"}
    assert json.loads(again.stdout) == {"files": files, "card": card}
    assert again.stderr == ""
    run = ["run", "-p", "appearance-1view", "-m", f"lvsm@{name}.safetensors", "--limit", "1", "--no-diagnostics", "-q"]
    assert "LVSM" in gen3r_bench(*run, cwd=tmp_path).stdout


def test_a_card_names_the_code_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = ["train", "lvsm", "--steps", "1", "--cpu", "--out", "t"]

    def commit() -> str:
        assert not (tmp_path / "t").exists()  # before the first step
        return "a"

    monkeypatch.setattr("gen3r_bench.runs.environment.code_commit", commit)
    card = tmp_path / "t" / "lvsm-reference-1-steps.json"
    gen3r_bench(*train, cwd=tmp_path)
    assert json.loads(card.read_text())["origin"]["commit"] == "a"
    written = card.read_bytes(), card.stat().st_mtime_ns
    monkeypatch.setattr("gen3r_bench.runs.environment.code_commit", lambda: "b")
    done = gen3r_bench(*train, cwd=tmp_path)
    assert done.stderr.startswith("lvsm-reference-1-steps is finished; its files stay as they are\nNext: ")
    assert done.stdout.splitlines()[1] == "t/lvsm-reference-1-steps.json"
    assert (card.read_bytes(), card.stat().st_mtime_ns) == written
    # another one must be released, under another commit and beside a checkpoint that cannot be read: no step ran there
    card.unlink()
    (tmp_path / "t" / "checkpoints" / "00000009").mkdir()
    done = gen3r_bench(*train, "-q", cwd=tmp_path)
    fault = "t/checkpoints/00000009/recipe.json cannot be read (No such file or directory)"
    assert done.stderr == f"gen3r-bench: warning: {fault}: going on from the checkpoint of step 1\n"
    assert card.read_bytes() == written[0]
    # finished, and damaged afterwards
    (tmp_path / "t" / "losses.jsonl").write_bytes(b'{"step": 1')
    done = gen3r_bench(*train, cwd=tmp_path, code=2)
    assert done.stderr.startswith("gen3r-bench: error: t/losses.jsonl holds 0 of 1 steps; expected a line for every")


@pytest.mark.parametrize("out", ["file", "file/x", "/proc/x"])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").touch()
    done = gen3r_bench("train", "lvsm", "--steps", "1", "--cpu", "-q", "--out", out, cwd=tmp_path, code=2)
    assert done.stderr.startswith(f"gen3r-bench: error: cannot open {out}/losses.jsonl: ")
    assert done.stderr.endswith("(fix: free space or choose another --out)\n")
    assert done.stderr.count("\n") == 1


def test_wrong_names_are_one_line(tmp_path: Path) -> None:
    done = gen3r_bench("train", "lsvm", cwd=tmp_path, code=2)
    assert done.stderr == "gen3r-bench: error: unknown method with a recipe 'lsvm'; did you mean 'lvsm'?\n"
    done = gen3r_bench("train", "lvsm", "--config", "huge", cwd=tmp_path, code=2)
    assert "unknown configuration of lvsm 'huge'; known: official, reference" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_training_is_not_touched(tmp_path: Path) -> None:
    place = tmp_path / "t" / "checkpoints" / "00000007"
    place.mkdir(parents=True)
    facts = {"recipe": "other", "schedule": {"steps": 9, "decay_steps": 1}}
    (place / "recipe.json").write_text(json.dumps({"step": 7, "recipe": facts}))
    done = gen3r_bench("train", "lvsm", "--out", "t", cwd=tmp_path, code=2)
    assert "t holds step 7 of another recipe" in done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["00000007", "checkpoints", "recipe.json", "t"]
