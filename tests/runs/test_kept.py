from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gen3r_bench.datasets.base import OpenedDataset
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.errors import InputError, SceneError, StoreError
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.geometry import GEOM_1VIEW
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.kept import SceneSource, by_clip, card_of, kept_predictions
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import make_row
from gen3r_bench.runs.store import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plan = make_plan(
        (GEOM_1VIEW, APPEARANCE_1VIEW),
        {"mini": OpenedDataset(MiniDataset.open(None, {}))},
        [make_row("freeze", device="cpu"), make_row("oracle", device="cpu")],
        limit=2,
    )
    return execute(plan, tmp_path_factory.mktemp("kept") / "run", command="x", keep_predictions=True)


def test_every_finished_record_of_a_kept_run_is_found_with_its_prediction(run: Run) -> None:
    kept = kept_predictions(run)
    assert [item.record for item in kept] == list(run.records)
    # both protocols share the conditioning, so one bundle serves both
    assert len({item.folder for item in kept}) == len(kept) // 2
    assert kept[0].prediction().rgb is not None


def test_a_clip_is_one_group_and_is_read_as_it_was_scored(run: Run) -> None:
    groups = list(by_clip(kept_predictions(run)))
    assert [len(group) for group in groups] == [4, 4]
    truth = SceneSource(run.header).truth(groups[0][0])
    oracle = next(item for item in groups[0] if item.record.row == "oracle").prediction()
    np.testing.assert_array_equal(oracle.rgb, truth.scene.rgb)


def test_a_removed_bundle_is_not_kept(run: Run, tmp_path: Path) -> None:
    elsewhere = Run(tmp_path, run.header, run.records)
    assert kept_predictions(elsewhere) == []


def test_a_scene_that_changed_is_refused(run: Run) -> None:
    record = run.records[0].model_copy(update={"clip_fingerprint": "another"})
    (kept,) = kept_predictions(Run(run.path, run.header, (record,)))
    with pytest.raises(SceneError, match="changed since the run scored it"):
        SceneSource(run.header).truth(kept)


def test_a_card_whose_content_was_changed_is_refused(run: Run) -> None:
    entry = run.header.protocols[0]
    for content, reason in (({"geometry": None}, "was changed"), ({"colour": "red"}, "another version")):
        changed = entry.model_copy(update={"content": {**entry.content, **content}})
        header = run.header.model_copy(update={"protocols": (changed,)})
        with pytest.raises(StoreError, match=reason):
            card_of(header, entry.name)
    assert card_of(run.header, entry.name).hash == entry.hash


def test_a_dataset_on_disk_needs_its_root(run: Run) -> None:
    entry = run.header.plan[0].model_copy(update={"dataset": "tartanair"})
    with pytest.raises(InputError, match="--data-root tartanair=DIR"):
        SceneSource(run.header.model_copy(update={"plan": (entry,)}))
