from __future__ import annotations

from gen3r_bench.errors import BenchError, InputError, UnknownNameError


def test_input_error_says_what_was_given_what_is_legal_and_the_fix() -> None:
    error = InputError("rgb has shape [3]", expected="shape [any, 3]", fix="add an axis")
    assert str(error) == "rgb has shape [3]; expected shape [any, 3] (fix: add an axis)"
    assert isinstance(error, BenchError)


def test_input_error_without_a_fix() -> None:
    assert str(InputError("limit 0", expected="1 or more")) == "limit 0; expected 1 or more"


def test_unknown_name_gives_the_nearest() -> None:
    text = str(UnknownNameError("protocol", "geom-1veiw", ["geom-1view", "geom-2view", "pose-recon"]))
    assert "unknown protocol 'geom-1veiw'" in text
    assert "'geom-1view'" in text
    assert "pose-recon" not in text


def test_unknown_name_without_a_near_one_lists_all() -> None:
    text = str(UnknownNameError("dataset", "zzzz", ["mini", "folder"]))
    assert text == "unknown dataset 'zzzz'; known: folder, mini"
