"""Draws the pages' pictures, all from `mini`: run `python docs/make_pictures.py` after scenes or drawings change."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gen3r_bench import registry
from gen3r_bench.datasets.base import ClipProfile, OpenedDataset
from gen3r_bench.datasets.mini import MiniDataset
from gen3r_bench.protocols.appearance import APPEARANCE_1VIEW
from gen3r_bench.protocols.cameras import CAMERA_1VIEW
from gen3r_bench.protocols.conditioning import condition
from gen3r_bench.protocols.geometry import GEOM_1VIEW, MINI_CLIP
from gen3r_bench.reports.explanation import explanation
from gen3r_bench.reports.explanation_figure import explanation_figure
from gen3r_bench.reports.scene_answers import scene_answers
from gen3r_bench.reports.scene_figure import depth_map, scene_figure
from gen3r_bench.runs.bundle import write_bundle
from gen3r_bench.runs.execute import execute
from gen3r_bench.runs.explain import rescore_run
from gen3r_bench.runs.plan import make_plan
from gen3r_bench.runs.rows import FolderRow
from gen3r_bench.runs.store import Run
from gen3r_bench.scene import Prediction, Scene

IMAGES = Path(__file__).with_name("images")
SCENES = ("test/001", "test/004", "test/009", "test/011")
GENERATED = ("test/001", "test/012", "test/022", "test/031")
EXPLAINED = 8
"""Scenes behind the figure of dialects: the fewest for which a paired test can say much."""
PANELS = ("chamfer@fps20k", "psnr@8bit", "auc30@hist1deg")


def strip(scene_id: str) -> np.ndarray:
    """First, middle and last frame of a scene, and the depth of the middle one (near is dark, sky is black)."""
    scene = MiniDataset.open(None, {}).load(scene_id, ClipProfile(frames=13, image_size=(224, 224)))
    assert scene.depth is not None
    near_to_far = scene.depth[6] / np.quantile(scene.depth[6][scene.valid[6]], 0.98)
    grey = np.uint8(255 * np.clip(near_to_far, 0, 1) * scene.valid[6])
    return np.hstack([*scene.rgb[[0, 6, 12]], np.repeat(grey[..., None], 3, axis=2)])


def made_up(scene: Scene, kind: str) -> Prediction:
    """Three flawed answers made from the truth: they differ in what is wrong, so that dialects disagree about them."""
    assert scene.depth is not None
    random = np.random.default_rng(sum(scene.scene_id.encode()))
    poses = np.array(scene.cameras.world_from_cam)
    rgb, depth = scene.rgb.astype(np.float64), scene.depth.astype(np.float64)
    if kind == "noisy":  # right on average, rough everywhere
        rgb[1:] += random.normal(0, 16, rgb[1:].shape)
        depth *= np.maximum(1 + 0.22 * random.standard_normal(depth.shape), 0.1)
        poses[1:, :3, 3] += 0.02 * random.standard_normal((len(poses) - 1, 3))
    elif kind == "bent":  # smooth, with a depth that is too strong and a drift
        depth = np.median(depth) * (depth / np.median(depth)) ** 1.35
        rgb[1:] = np.roll(rgb[1:], 1, axis=2)
        poses[:, :3, 3] *= 1.15
    else:  # good early, lost late
        share = np.linspace(0, 1, len(depth))[:, None, None]
        depth *= 1 + 0.5 * share**3
        rgb += 60 * share[..., None] ** 4
        poses[:, 1, 3] += 0.25 * share[:, 0, 0] ** 3
    return Prediction(
        frame_indices=range(scene.num_frames),
        rgb=np.clip(rgb, 0, 255).astype(np.uint8),
        depth=depth.astype(np.float32),
        world_from_cam=poses,
        intrinsics=scene.cameras.intrinsics,
    )


def made_up_run(folder: Path) -> Run:
    """A run of three made-up methods over a few scenes."""
    mini = MiniDataset.open(None, {})
    scenes = mini.scene_ids()[:EXPLAINED]
    rows = []
    for kind in ("noisy", "bent", "fading"):
        for scene_id in scenes:
            write_bundle(folder / kind / scene_id, made_up(mini.load(scene_id, MINI_CLIP.profile()), kind))
        rows.append(FolderRow(folder / kind, kind, only_scene=False))
    cards = (GEOM_1VIEW, APPEARANCE_1VIEW, CAMERA_1VIEW)
    plan = make_plan(cards, {"mini": OpenedDataset(mini)}, rows, limit=EXPLAINED)
    return execute(plan, folder / "made-up", command="docs/make_pictures.py", jobs=2, keep_predictions=True)


def explain_picture(run: Run) -> bytes:
    """The figure of `gen3r-bench explain --figure`, of three metrics."""
    metrics = registry.metrics()
    found = explanation(rescore_run(run, metrics, jobs=2), metrics)
    shown = tuple(panel for panel in found.panels if panel.metric.key in PANELS)
    return explanation_figure(dataclasses.replace(found, panels=shown))


def show_picture(run: Run) -> Image.Image:
    """The figure of `gen3r-bench show`, of one scene and two methods, at half its size."""
    found = scene_answers(run, SCENES[0], registry.metrics(), rows=("noisy", "fading"))
    picture = Image.open(io.BytesIO(scene_figure(found, columns=5))).convert("RGB")
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


def generated_picture() -> bytes:
    """What Gen3R's reference checkpoint makes of one frame and the cameras, beside the truth; depth in one unit."""
    from matplotlib.figure import Figure

    gen3r = registry.methods().load("gen3r").load("reference", device="cpu")
    mini = MiniDataset.open(None, {})
    titles = ("given: frame 1", "generated: 5", "9", "13", "truth: 13", "generated depth: 13", "true depth: 13")
    figure = Figure(figsize=(9.1, 5.6), layout="constrained")
    panels = figure.subplots(len(GENERATED), len(titles))
    for scene_id, row in zip(GENERATED, panels, strict=True):
        scene = mini.load(scene_id, MINI_CLIP.profile())
        answer = gen3r.predict(condition(scene, GEOM_1VIEW, 0))
        assert scene.depth is not None
        assert answer.rgb is not None
        assert answer.depth is not None
        valid = scene.valid[12]
        bounds = tuple(np.quantile(scene.depth[12][valid], (0.02, 0.98)))
        scale = np.median(scene.depth[scene.valid]) / np.median(answer.depth[scene.valid])
        whole = np.ones_like(valid)
        pictures = (
            scene.rgb[0],
            *answer.rgb[[4, 8, 12]],
            scene.rgb[12],
            depth_map(scale * answer.depth[12], whole, bounds),
            depth_map(scene.depth[12], valid, bounds),
        )
        for panel, picture in zip(row, pictures, strict=True):
            panel.imshow(picture)
            panel.set(xticks=[], yticks=[])
        row[0].set_ylabel(scene_id)
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, dpi=110, metadata={"Software": ""})
    return content.getvalue()


if __name__ == "__main__":
    (IMAGES / "generated.png").write_bytes(generated_picture())
    strips = [strip(scene_id) for scene_id in SCENES]
    picture = np.vstack([np.hstack(strips[:2]), np.hstack(strips[2:])])
    Image.fromarray(picture).save(IMAGES / "mini.jpg", quality=88)
    with tempfile.TemporaryDirectory() as folder:
        run = made_up_run(Path(folder))
        (IMAGES / "explain.png").write_bytes(explain_picture(run))
        show_picture(run).save(IMAGES / "show.jpg", quality=75)
    for path in sorted(IMAGES.iterdir()):
        print(path.name, path.stat().st_size)
