"""Which geometry adapter a checkpoint holds, and how it is read: Gen3R's, or one that stands in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from gen3r_bench.models import code_adapter, geometry_adapter
from gen3r_bench.models.code_adapter import CodeAdapter, CodeAdapterConfig
from gen3r_bench.models.folder import CONFIG_FILE, config_of_class
from gen3r_bench.models.geometry_adapter import GeometryAdapter, GeometryAdapterConfig
from gen3r_bench.models.token_adapter import TokenAdapter

KnownAdapterConfig = GeometryAdapterConfig | CodeAdapterConfig


def adapter_config(path: Path) -> KnownAdapterConfig:
    """Sizes of the adapter in a folder with ``config.json``, in such a file, or in a file of weights.

    The ``_class_name`` says which one it is; where there is none it is Gen3R's.

    Raises:
        InputError: where the configuration is missing, unreadable, or that of another network.
    """
    readers: dict[str, Callable[[Path], KnownAdapterConfig]] = {
        geometry_adapter.CLASS_NAME: GeometryAdapterConfig.from_json,
        code_adapter.CLASS_NAME: CodeAdapterConfig.from_json,
    }
    return config_of_class(path / CONFIG_FILE if path.is_dir() else path, readers, nameless="Gen3R's")


def build_adapter(config: KnownAdapterConfig) -> TokenAdapter:
    """The adapter of a configuration, on the current default device."""
    return CodeAdapter(config) if isinstance(config, CodeAdapterConfig) else GeometryAdapter(config)


def load_adapter(path: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> TokenAdapter:
    """The adapter in a folder such as ``geo_adapter/``, or in a file of weights that says its sizes; to be evaluated.

    Raises:
        InputError: as ``adapter_config``, and where the weights are not exactly those of the configured size.
    """
    config = adapter_config(path)
    with torch.device("meta"):
        adapter = build_adapter(config)
    return adapter.read_weights(path, device=device, dtype=dtype)
