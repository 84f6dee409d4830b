from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gen3r_bench import registry
from gen3r_bench.errors import BenchError, InputError, UnknownNameError


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a small distribution on the path: a module and its entry points, as pip would."""
    registries = (registry.methods, registry.datasets, registry.protocols, registry.metrics)

    def put(distribution: str, entry_points: str, module: str = "") -> None:
        folder = tmp_path / distribution
        info = folder / f"{distribution}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        (folder / f"{distribution}_module.py").write_text(textwrap.dedent(module))
        monkeypatch.syspath_prepend(str(folder))
        for cached in registries:
            cached.cache_clear()

    yield put
    for cached in registries:
        cached.cache_clear()


METHOD = """
from gen3r_bench.method import Contract, Method
class Mine(Method):
    contract = Contract(method_id="mine", title="Mine", summary="", settings=("1view",), returns=("rgb",))
    def predict(self, conditioning):
        raise RuntimeError
"""


def test_every_built_in_loads() -> None:
    for found in (registry.methods(), registry.datasets(), registry.protocols()):
        assert found.names()
        for name in found.names():
            assert found.entry(name).built_in
            assert found.load(name) is not None


def test_built_in_names_agree_with_what_they_name() -> None:
    for name in registry.methods().names():
        assert registry.methods().load(name).contract.method_id == name
    for name in registry.datasets().names():
        assert registry.datasets().load(name).info.name == name
    for name in registry.protocols().names():
        assert registry.protocols().load(name).name == name


def test_every_metric_that_a_card_names_is_registered() -> None:
    for name in registry.protocols().names():
        for key in registry.protocols().load(name).metrics:
            assert registry.metrics()[key].key == key


def test_third_party_method_appears(install) -> None:
    install("thirdparty", "[gen3r_bench.methods]\nmine = thirdparty_module:Mine\n", METHOD)
    found = registry.methods()
    assert "mine" in found.names()
    assert found.entry("mine").distribution == "thirdparty"
    assert not found.entry("mine").built_in
    assert found.load("mine").contract.title == "Mine"


def test_clash_with_a_built_in_is_an_error(install) -> None:
    install("rival", "[gen3r_bench.methods]\nfreeze = rival_module:Mine\n", METHOD)
    with pytest.raises(BenchError, match=r"method 'freeze' is registered twice: .*rival.*rename"):
        registry.methods()


def test_same_distribution_seen_twice_is_no_clash(install) -> None:
    # the same package can stand on the path twice, as an editable and as a built copy
    install("twin", "[gen3r_bench.methods]\nmine = twin_module:Mine\n", METHOD)
    install("twin2", "[gen3r_bench.datasets]\n", METHOD)
    assert "mine" in registry.methods().names()


def test_unknown_name_gets_the_nearest(install) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'freeze'"):
        registry.methods().load("freez")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("broken_module:Missing", "does not import: AttributeError"),
        ("no_such_module:Mine", "does not import: ModuleNotFoundError"),
        ("broken_module:NUMBER", "is not a Method"),
    ],
)
def test_what_does_not_load_is_named(install, target: str, message: str) -> None:
    install("broken", f"[gen3r_bench.methods]\nmine = {target}\n", "NUMBER = 3\n")
    with pytest.raises(BenchError, match=message) as caught:
        registry.methods().load("mine")
    assert "'mine'" in str(caught.value)
    assert "broken" in str(caught.value)


@pytest.mark.parametrize(
    ("group", "registry_of", "message"),
    [
        ("datasets", registry.datasets, "is not a Dataset"),
        ("protocols", registry.protocols, "is not a protocol"),
    ],
)
def test_wrong_kind_is_refused(install, group: str, registry_of, message: str) -> None:
    install("wrong", f"[gen3r_bench.{group}]\nthing = wrong_module:NUMBER\n", "NUMBER = 3\n")
    with pytest.raises(InputError, match=message):
        registry_of().load("thing")


def test_wrong_metric_is_refused(install) -> None:
    install("wrongmetric", "[gen3r_bench.metrics]\nthing = wrongmetric_module:NUMBER\n", "NUMBER = 3\n")
    with pytest.raises(InputError, match="is not a metric"):
        registry.metrics()


def test_metric_key_clash_is_an_error(install) -> None:
    install(
        "metrictwin",
        "[gen3r_bench.metrics]\nmy-psnr = metrictwin_module:COPY\n",
        "from gen3r_bench.metrics.image import PSNR as COPY\n",
    )
    with pytest.raises(BenchError, match=r"metric 'psnr@8bit' is registered twice.*dialect"):
        registry.metrics()
