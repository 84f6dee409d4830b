"""Downloads from a server on 127.0.0.1 that this module starts; nothing leaves the machine."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import re
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gen3r_bench import weights as catalogue
from gen3r_bench.cli.weights import app as weights_app
from gen3r_bench.errors import InputError, StoreError
from gen3r_bench.weights import WeightEntry, entries
from gen3r_bench.weights.check import check_files
from gen3r_bench.weights.fetch import CHUNK_BYTES, copy_from, fetch
from gen3r_bench.weights.ledger import recorded

CONTENT = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; what it was asked for stands in ``asked``, and it can be told to misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/model.pth": CONTENT}
        self.asked: list[tuple[str, str | None]] = []
        self.cut_after: int | None = None
        self.knows_ranges = True

    def url(self, name: str = "/model.pth") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        total, start = len(body), 0
        if wanted and server.knows_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        rest = body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.cut_after is not None:
            self.wfile.write(rest[: server.cut_after])
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(rest)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GEN3R_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "weights"


def entry(server: Server | None = None, **changes: Any) -> WeightEntry:
    fields: dict[str, Any] = {
        "name": "net",
        "place": "net/model.pth",
        "url": "http://127.0.0.1:9/model.pth" if server is None else server.url(),
        "licence": "MIT",
        "metrics": ("lpips@vgg",),
        "sha256": DIGEST[:8],
    }
    return WeightEntry(**{**fields, **changes})


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_file_arrives_whole_and_its_hash_is_noted(server: Server, root: Path) -> None:
    item = entry(server)
    assert item.state() == "missing"
    assert fetch(item) == [root / "net/model.pth"]
    assert (root / "net/model.pth").read_bytes() == CONTENT
    assert item.state() == "present"
    assert files_below(root) == {"net/model.pth", "fetched.json"}
    assert recorded() == {"net/model.pth": {"sha256": DIGEST, "source": server.url()}}
    (found,) = check_files(item)
    assert (found.fault, found.verified, found.as_fetched) == (None, True, True)


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8], None])
def test_a_cut_connection_keeps_what_came_and_is_continued(server: Server, root: Path, sha256: str | None) -> None:
    item = entry(server, sha256=sha256)
    server.cut_after = 400_000
    with pytest.raises(StoreError, match=r"cannot download .*goes on where this one stopped"):
        fetch(item)
    assert not (root / "net/model.pth").exists()
    came = 400_000 // CHUNK_BYTES * CHUNK_BYTES
    assert (root / "net/.net.part").read_bytes() == CONTENT[:came]
    assert item.state() == "missing"
    server.cut_after = None
    fetch(item)
    assert server.asked[1] == ("/model.pth", f"bytes={came}-")
    assert (root / "net/model.pth").read_bytes() == CONTENT
    assert files_below(root) == {"net/model.pth", "fetched.json"}


def test_a_server_that_cannot_continue_sends_all_of_it(server: Server, root: Path) -> None:
    server.cut_after = 400_000
    with pytest.raises(StoreError):
        fetch(entry(server))
    server.cut_after, server.knows_ranges = None, False
    fetch(entry(server))
    assert (root / "net/model.pth").read_bytes() == CONTENT


def test_a_part_that_is_whole_needs_nothing_more(server: Server, root: Path) -> None:
    (root / "net").mkdir(parents=True)
    (root / "net/.net.part").write_bytes(CONTENT)
    fetch(entry(server, sha256=None))
    assert (root / "net/model.pth").read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server: Server, root: Path) -> None:
    (root / "net").mkdir(parents=True)
    (root / "net/.net.part").write_bytes(CONTENT + b"of another file")
    with pytest.raises(StoreError, match="the server answers 416"):
        fetch(entry(server, sha256=None))
    fetch(entry(server, sha256=None))
    assert (root / "net/model.pth").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0badc0de"}, "another sha256 than 0badc0de"),
        ({"size_bytes": 5}, f"{len(CONTENT)} bytes instead of 5"),
    ],
)
def test_another_file_is_never_kept(server: Server, root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=rf"is not net: {message}.*nothing was kept"):
        fetch(entry(server, **changes))
    assert files_below(root) == set()


def test_an_earlier_file_stays_where_the_new_one_is_wrong(server: Server, root: Path) -> None:
    (root / "net").mkdir(parents=True)
    (root / "net/model.pth").write_bytes(b"earlier")
    server.files["/model.pth"] = b"an error page"
    with pytest.raises(StoreError):
        fetch(entry(server))
    assert (root / "net/model.pth").read_bytes() == b"earlier"


def test_what_the_server_or_the_network_says_is_said(server: Server, root: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot download http.*/gone\.pth: the server answers 404"):
        fetch(entry(server, url=server.url("/gone.pth")))
    with pytest.raises(StoreError, match=r"cannot download http://127\.0\.0\.1:9/model\.pth"):
        fetch(entry())
    assert not (root / "net/model.pth").exists()


class CountingBar:
    """What pooch asks of a bar."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0

    def update(self, count: int) -> None:
        self.count += count

    def reset(self) -> None:
        self.count = 0

    def close(self) -> None:
        self.closed = True


def test_a_bar_is_told_how_much_is_to_come(server: Server) -> None:
    bar = CountingBar()
    fetch(entry(server), bar=bar)
    assert (bar.total, bar.count, bar.closed) == (len(CONTENT), len(CONTENT), True)


def test_a_real_file_is_no_longer_marked_as_random(server: Server, root: Path) -> None:
    (root / "net").mkdir(parents=True)
    (root / "net/model.pth").write_bytes(b"random")
    (root / "net/model.pth.random-weights").touch()
    (found,) = check_files(entry(server))
    assert (found.fault, found.random, found.verified) == (None, True, False)
    fetch(entry(server))
    assert files_below(root) == {"net/model.pth", "fetched.json"}


def test_a_file_that_changed_since_it_was_fetched_is_a_fault(server: Server, root: Path) -> None:
    item = entry(server, sha256=None)
    fetch(item)
    (root / "net/model.pth").write_bytes(b"changed")
    (found,) = check_files(item)
    assert found.fault == f"changed since it was fetched: it had sha256 {DIGEST}"


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def archive(server: Server, **changes: Any) -> WeightEntry:
    fields = {"place": "hub/", "url": server.url("/all.zip"), "archive_root": "top/", "needs": ("a.pth", "sub/b.json")}
    return entry(server, **{**fields, "sha256": None, **changes})


def test_an_archive_is_unpacked_among_what_lies_there(server: Server, root: Path) -> None:
    files = {"top/a.pth": b"a", "top/sub/b.json": b"b", "top/sub/more.bin": b"m", "outside.txt": b"x"}
    server.files["/all.zip"] = zipped(files)
    (root / "hub").mkdir(parents=True)
    (root / "hub/other.pth").write_bytes(b"other")
    item = archive(server)
    fetch(item)
    assert item.state() == "present"
    assert files_below(root) == {"hub/a.pth", "hub/sub/b.json", "hub/sub/more.bin", "hub/other.pth", "fetched.json"}
    assert recorded()["hub/sub/more.bin"]["sha256"] == hashlib.sha256(b"m").hexdigest()
    assert [check.as_fetched for check in check_files(item)] == [True, True]
    (root / "hub/sub/b.json").unlink()
    assert item.state() == "partial"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "is no whole zip archive"),
        (zipped({"top/a.pth": b"a"}), "lacks sub/b.json"),
        (zipped({"elsewhere/a.pth": b"a"}), "lacks a.pth"),
    ],
)
def test_a_wrong_archive_leaves_nothing(server: Server, root: Path, content: bytes, message: str) -> None:
    server.files["/all.zip"] = content
    with pytest.raises(StoreError, match=message):
        fetch(archive(server))
    assert files_below(root) == set()


def test_a_damaged_archive_leaves_nothing(server: Server, root: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("top/a.pth", CONTENT)
    whole = bytearray(buffer.getvalue())
    first = 30 + len("top/a.pth")  # of the compressed stream: a kind of block that there is not
    whole[first] |= 0b111
    server.files["/all.zip"] = bytes(whole)
    with pytest.raises(StoreError, match=r"is no whole zip archive .*nothing was kept"):
        fetch(archive(server, needs=("a.pth",)))
    assert files_below(root) == set()


def test_an_archive_takes_the_mark_of_random_numbers_away(server: Server, root: Path) -> None:
    server.files["/all.zip"] = zipped({"top/a.pth": b"a", "top/sub/b.json": b"b"})
    (root / "hub").mkdir(parents=True)
    (root / "hub/a.pth").write_bytes(b"random")
    (root / "hub/a.pth.random-weights").touch()
    fetch(archive(server))
    assert files_below(root) == {"hub/a.pth", "hub/sub/b.json", "fetched.json"}


def test_a_file_is_downloaded_by_one_process_at_a_time(server: Server, root: Path) -> None:
    (root / "net").mkdir(parents=True)
    with (root / "net/.net.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(CONTENT[:1000])
        other.flush()
        with pytest.raises(StoreError, match="is being downloaded by another process"):
            fetch(entry(server))
        assert (root / "net/.net.part").read_bytes() == CONTENT[:1000]
    assert not server.asked
    fetch(entry(server))
    assert (root / "net/model.pth").read_bytes() == CONTENT


def test_random_numbers_are_not_copied_as_weights(root: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"random")
    (tmp_path / "model.pth.random-weights").touch()
    with pytest.raises(InputError, match=r"model\.pth is marked as random numbers.*expected the published file"):
        copy_from(entry(sha256=None), tmp_path)
    assert files_below(root) == set()


def test_an_archive_cannot_write_outside_of_its_place(server: Server, root: Path, tmp_path: Path) -> None:
    content = zipped({"../../escaped.txt": b"x", "/tmp/absolute.txt": b"y", "a.pth": b"a"})
    server.files["/all.zip"] = content
    fetch(archive(server, archive_root="", needs=("a.pth",)))
    assert not list(tmp_path.glob("escaped.txt"))
    assert all(path.is_relative_to(root) for path in tmp_path.rglob("*.txt"))


def test_a_folder_of_the_hub_is_not_fetched_but_says_how() -> None:
    with pytest.raises(InputError, match=r"hf download JaceyH919/Gen3R --include"):
        fetch(entries("gen3r-transformer")[0])
    assert entries("vggt")[0].source == "https://huggingface.co/facebook/VGGT-1B/resolve/main/model.safetensors"


@pytest.mark.parametrize("place", ["net/model.pth", "model.pth"])
def test_a_folder_stands_in_for_the_internet(root: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "usb" / place).parent.mkdir(parents=True)
    (tmp_path / "usb" / place).write_bytes(CONTENT)
    assert copy_from(entry(), tmp_path / "usb") == [root / "net/model.pth"]
    assert (root / "net/model.pth").read_bytes() == CONTENT
    assert (tmp_path / "usb" / place).exists()


def test_a_copy_is_checked_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"half of it")
    with pytest.raises(StoreError, match="nothing was kept"):
        copy_from(entry(), tmp_path)
    assert files_below(root) == set()
    with pytest.raises(InputError, match=r"does not hold net; expected model\.pth in it, or net/model\.pth"):
        copy_from(entry(), root)


def test_folders_and_archives_come_from_a_folder_too(server: Server, root: Path, tmp_path: Path) -> None:
    usb = tmp_path / "usb"
    (usb / "gen3r/scheduler").mkdir(parents=True)
    (usb / "gen3r/scheduler/scheduler_config.json").write_text("{}")
    (usb / "all.zip").write_bytes(zipped({"top/a.pth": b"a", "top/sub/b.json": b"b"}))
    (scheduler,) = entries("gen3r-scheduler")
    assert copy_from(scheduler, usb) == [root / "gen3r/scheduler/scheduler_config.json"]
    assert scheduler.state() == "present"
    item = archive(server)
    copy_from(item, usb)
    assert item.state() == "present"
    assert not server.asked
    with pytest.raises(InputError, match="does not hold gen3r-transformer"):
        copy_from(entries("gen3r-transformer")[0], usb)


command = typer.Typer()
command.add_typer(weights_app, name="weights")


def run(*arguments: object, code: int = 0, terminal: str | None = None) -> Any:
    result = CliRunner(env={"COLUMNS": "100"}).invoke(command, ["weights", *map(str, arguments)], input=terminal)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def listed(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[WeightEntry]:
    found = [
        entry(server),
        entry(server, name="restricted", place="r/model.pth", licence="CC BY-NC 4.0", non_commercial=True),
        *catalogue.entries("gen3r-transformer"),
    ]
    monkeypatch.setattr(catalogue, "CATALOGUE", tuple(found))
    return found


def test_the_command_fetches_what_is_missing(listed: list[WeightEntry], server: Server, root: Path) -> None:
    assert f"{root / 'net/model.pth'}  not here; from {server.url()}" in run("check", "net").stdout
    done = run("fetch", "net")
    assert done.stdout.split() == [str(root / "net/model.pth")]
    assert "net: net/model.pth (size not published)" in done.stderr
    assert f"from {server.url()} to {root / 'net/model.pth'}" in done.stderr
    assert "licence: MIT" in done.stderr
    again = run("fetch", "net")
    assert again.stdout == ""
    assert "net is here" in again.stderr
    assert len(server.asked) == 1
    assert "as published" in run("check", "net").stdout
    (root / "net/model.pth").write_bytes(b"broken")
    assert f"another sha256 than {DIGEST[:8]}" in run("check", "net", code=1).stdout
    run("fetch", "net", "--quiet")
    assert (root / "net/model.pth").read_bytes() == CONTENT
    (root / "net/model.pth").write_bytes(b"random")
    (root / "net/model.pth.random-weights").touch()
    assert "random numbers, made for a test" in run("check", "net").stdout
    run("fetch", "net")
    assert (root / "net/model.pth").read_bytes() == CONTENT
    assert run("list", "net").stdout.count("1.28 MB") == 1
    assert run("where", "net").stdout.strip() == str(root / "net/model.pth")
    assert json.loads(run("where", "net", "--json").stdout) == {"net": str(root / "net/model.pth")}


def test_non_commercial_weights_need_a_word(
    listed: list[WeightEntry], server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"restricted: for non-commercial use only.*--yes"):
        run("fetch", "net", "restricted")
    assert not server.asked
    monkeypatch.setattr("gen3r_bench.cli.weights._can_ask", lambda: True)
    refused = run("fetch", "restricted", code=1, terminal="n\n")
    assert "non-commercial use only" in refused.output
    assert not server.asked
    run("fetch", "restricted", terminal="y\n")
    assert (root / "r/model.pth").exists()
    (root / "r/model.pth").unlink()
    done = run("fetch", "restricted", "--yes")
    assert re.search(r"CC BY-NC 4.0\s+non-commercial use only", done.stderr)


def test_one_failure_does_not_stop_the_others(
    listed: list[WeightEntry], server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed[0] = entry(server, name="gone", place="gone/model.pth", url=server.url("/gone"))
    monkeypatch.setattr(catalogue, "CATALOGUE", (listed[0], entry(server), listed[2]))
    done = run("fetch", "gone", "net", "gen3r-transformer", code=1)
    assert done.stdout.split() == [str(root / "net/model.pth")]
    assert "the server answers 404" in done.stderr
    assert "which this does not fetch: run" in done.stderr
    assert "hf download JaceyH919/Gen3R" in done.stderr


def test_the_command_copies_from_a_folder(listed: list[WeightEntry], root: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(CONTENT)
    assert json.loads(run("fetch", "net", "--from", tmp_path, "--json").stdout) == [str(root / "net/model.pth")]
    (root / "net/model.pth").unlink()
    assert run("fetch", "net", "--from", tmp_path).stdout.split() == [str(root / "net/model.pth")]
    assert json.loads(run("fetch", "net", "--from", tmp_path, "--json").stdout) == []  # nothing had to come
    with pytest.raises(InputError, match="expected a folder that holds the files"):
        run("fetch", "net", "--from", tmp_path / "nowhere")


def test_names_lead_to_entries() -> None:
    names = {word: {item.name for item in entries(word)} for word in ("lpips", "lpips@vgg", "lpips-alex", "vbench")}
    assert names["lpips"] == {"lpips-vgg", "lpips-alex", "lpips-squeeze"}
    assert names["lpips@vgg"] == {"lpips-vgg"}
    assert names["lpips-alex"] == {"lpips-alex"}
    assert {item.name for item in entries("imaging_quality")} == {"vbench-musiq"}
    assert all(name.startswith("vbench-") for name in names["vbench"])
    every = [item.name for item in entries()]
    assert len(every) == len(set(every))
    restricted = {item.name for item in entries() if item.non_commercial}
    assert {"vbench-musiq", "vbench-amt", "vggt-model", "gen3r-vggt"} <= restricted


def test_the_list_says_where_everything_comes_from() -> None:
    for row in json.loads(run("list", "--json").stdout)["weights"]:
        assert row["url"] or row["hub_id"]
        assert row["licence"]
        assert row["needed_by"]
        assert ("NC" in row["licence"] or "oncommercial" in row["licence"].replace("-", "")) == row["non_commercial"]


def test_a_damaged_ledger_is_named(root: Path) -> None:
    root.mkdir()
    (root / "fetched.json").write_text("[")
    with pytest.raises(StoreError, match=r"fetched\.json is damaged"):
        recorded()
