"""Files are used whole and verified, or refused: corruption, truncation, retries, offline."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bmo import files
from bmo.errors import DataError, RecordError

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Shelf(http.server.BaseHTTPRequestHandler):
    """Answers by path; counts what was asked."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        tries = self.asked.count(self.path)
        if self.path == "/missing" or (self.path == "/second" and tries == 1):
            self.send_error(404 if self.path == "/missing" else 503)
            return
        altered = self.path == "/altered"
        body = CONTENT[:-1] + b"!" if altered else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:5000] if self.path == "/truncated" else body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Shelf.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_writes_the_whole_file_and_nothing_else(server: str, tmp_path: Path) -> None:
    path = files.download(f"{server}/good", tmp_path / "a" / "file.bin", DIGEST, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_download_tries_again_after_a_passing_failure(server: str, tmp_path: Path) -> None:
    files.download(f"{server}/second", tmp_path / "file.bin", DIGEST, pause=0)
    assert Shelf.asked == ["/second", "/second"]


@pytest.mark.parametrize(("path", "asked"), [("missing", 1), ("altered", 3), ("truncated", 3)])
def test_download_of_anything_else_leaves_nothing(
    server: str, tmp_path: Path, path: str, asked: int
) -> None:
    url = f"{server}/{path}"
    with pytest.raises(DataError) as caught:
        files.download(url, tmp_path / "file.bin", DIGEST, pause=0)
    assert url in caught.value.got
    assert caught.value.value == url
    assert len(Shelf.asked) == asked
    assert names(tmp_path) == []


def test_offline_says_address_and_place(tmp_path: Path) -> None:
    # Port 9 (discard) of this machine: nobody answers there.
    url = "http://127.0.0.1:9/file.bin"
    with pytest.raises(DataError, match="required: file.bin with sha256") as caught:
        files.download(url, tmp_path / "file.bin", DIGEST, pause=0, attempts=2)
    assert url in caught.value.remedy
    assert str(tmp_path / "file.bin") in caught.value.remedy


def test_large_download_shows_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        shown: list[object] = []

        def __init__(self, **options: object) -> None:
            self.shown.append((options["total"], options["disable"]))

        def __enter__(self) -> Watched:
            return self

        def __exit__(self, *problem: object) -> None:
            return None

        def update(self, count: int) -> None:
            self.shown.append(count)

    monkeypatch.setattr(files, "tqdm", Watched)
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    for size in (len(CONTENT), files.BAR_FROM):
        files.download(source.as_uri(), tmp_path / "copy.bin", DIGEST, size=size)
    # Small: hidden. Large: shown wherever a terminal is watching.
    assert Watched.shown == [(10240, True), 10240, (files.BAR_FROM, None), 10240]


@pytest.mark.parametrize("damage", [CONTENT[:-1], CONTENT[:-1] + b"!", b""])
def test_check_refuses_truncated_and_altered_files(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    assert files.check(path, DIGEST, source="x") == path
    path.write_bytes(damage)
    with pytest.raises(DataError, match="altered or truncated") as caught:
        files.check(path, DIGEST, source="https://example.org/file.bin")
    assert "https://example.org/file.bin" in caught.value.remedy


def test_digest_sees_a_change_of_equal_length(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    for moment, content in enumerate((b"one", b"two")):
        path.write_bytes(content)
        os.utime(path, ns=(0, moment))
        assert files.sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="got: none"):
        files.check(tmp_path / "no", DIGEST, source="x", error=RecordError)
    with pytest.raises(DataError, match="readable"):
        files.check(tmp_path, DIGEST, source="x")


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    # A file where the folder should be: fails for every user, root included.
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RecordError, match="a folder that can be written"):
        files.write_atomic(tmp_path / "taken" / "x.json", b"{}", RecordError)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_atomic(tmp_path / "x.json", b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(DataError, match="No space left"):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x.json"]


def _write_often(path: Path, letter: bytes) -> None:
    for _ in range(40):
        files.write_atomic(path, letter * 50_000)


def test_two_writers_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "shared.bin"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, c)) for c in (b"a", b"b")]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert content in (b"a" * 50_000, b"b" * 50_000)
        time.sleep(0.002)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert names(tmp_path) == ["shared.bin"]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BMO_CACHE", raising=False)
    assert files.cache_folder() == Path.home() / ".cache" / "bmo"
