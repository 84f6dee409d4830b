"""Table 3 in miniature on mini's 40 test scenes: ``python benchmarks/reference_vae_only.py``.

What VGGT's reconstruction loses in Gen3R's geometry adapter (gen3r-vae-only) and in an autoencoder of frames
(wvd-vae-only), all frames shown: Chamfer distance and its halves, AUC@30 and depth error, with paired differences and
p-values over scenes. ``--adapter PATH`` measures another file of the adapter.
"""

from __future__ import annotations

import argparse

from reference_report import AUC, HALVES, report
from reference_vggt import answer_of, measure

from gen3r_bench.baselines.freeze import Freeze
from gen3r_bench.baselines.gen3r_vae_only import Gen3rVaeOnly
from gen3r_bench.baselines.official_weights import REFERENCE
from gen3r_bench.baselines.vggt import VggtMethod
from gen3r_bench.baselines.wvd_vae_only import VARIANTS, WvdVaeOnly
from gen3r_bench.datasets.mini import DEFAULT_PROFILE, MiniDataset
from gen3r_bench.protocols.reconstruction import GEOM_RECON, POSE_RECON


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", default=REFERENCE, help="checkpoint of gen3r-vae-only")
    parser.add_argument("--scenes", type=int, default=40, help="how many")
    options = parser.parse_args()
    assert AUC in POSE_RECON.metrics
    dataset = MiniDataset()
    scenes = [dataset.load(name, DEFAULT_PROFILE) for name in dataset.scene_ids()[: options.scenes]]
    methods = {
        "vggt": VggtMethod.load(REFERENCE, device="cpu"),
        "gen3r-vae-only": Gen3rVaeOnly.load(options.adapter, device="cpu"),
        "wvd-vae-only": WvdVaeOnly.load(REFERENCE, device="cpu"),
        **{f"wvd-vae-only+{name}": WvdVaeOnly.load(f"{REFERENCE}+{name}", device="cpu") for name in VARIANTS},
        "freeze": Freeze(),
    }
    found = measure(scenes, {name: (GEOM_RECON, answer_of(method)) for name, method in methods.items()}, HALVES)
    others = [name for name in methods if name not in {"vggt", "freeze"}]
    pairs = [(name, floor) for floor in ("vggt", "freeze") for name in others]
    report(found, [*pairs, ("gen3r-vae-only", "wvd-vae-only")])


if __name__ == "__main__":
    main()
