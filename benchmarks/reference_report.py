"""How the benchmarks of shipped checkpoints print: means with intervals over scenes, and paired differences."""

from __future__ import annotations

import numpy as np

from gen3r_bench.stats import compare_paired, mean_interval

CHAMFER = "chamfer@fps20k"
AUC = "auc30@hist1deg"
ABS_REL = "abs_rel, scaled by the median"
HALVES = ("accuracy@fps20k", "completeness@fps20k")
"""Of the Chamfer distance: how far what was found lies from the truth, and the truth from what was found."""
SEED = 42
"""That of ``gen3r-bench run``, which therefore gives the same rows."""
BETTER_HIGH = {AUC: True, CHAMFER: False, ABS_REL: False, **dict.fromkeys(HALVES, False), "psnr": True, "ssim": True}


def report(found: dict[str, dict[str, dict[str, float]]], pairs: list[tuple[str, str]]) -> None:
    """Print each row's means with 95 % intervals over scenes, then the paired differences of some rows."""
    for name, scores in found.items():
        texts = []
        for metric, values in scores.items():
            interval = mean_interval({scene: [value] for scene, value in values.items()})
            assert interval is not None
            texts.append(f"{metric} {np.mean(list(values.values())):.4f} [{interval.low:.4f}, {interval.high:.4f}]")
        print(f"{name:40} {'   '.join(texts)}")
    for a, b in pairs:
        for metric in found[a].keys() & found[b].keys():
            paired = compare_paired(found[a][metric], found[b][metric], higher_is_better=BETTER_HIGH[metric])
            assert paired.difference is not None
            assert paired.interval is not None
            reach = f"[{paired.interval.low:+.4f}, {paired.interval.high:+.4f}]"
            print(
                f"{metric}: {a} - {b}: {paired.difference:+.4f} {reach}, p {paired.p_value:.2g}, "
                f"better in {paired.wins} of {paired.n} scenes"
            )
