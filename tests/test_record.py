"""Records: valid or refused, whole or absent, found beside a notebook or at the address."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from bmo import record
from bmo.errors import RecordError
from bmo.record import Record, finding, origin, weights

HERE = Path(__file__).resolve().parent
SHA = "ab" * 32


def sample(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "experiment": "sparse-coding",
        "profile": "page",
        "created": "2026-01-31T12:00:00+00:00",
        "command": "python -m bmo train sparse-coding --profile page",
        "settings": {"depth": 16, "mu": [0.0, 0.3], "note": "weiß | π"},
        "seeds": [0, 1, 2],
        "data": [{"file": "set14/lenna.bmp", "sha256": SHA}],
        "device": "CPU, 1 thread",
        "versions": {"bmo-book": "0.1.0", "torch": "2.13.0"},
        "commit": "0123456789abcdef",
        "seconds": 12.5,
        "rows": [
            record.row("bmo", {"depth": 16}, "NMSE dB", [-12.0, -13.0, -14.0]),
            record.row("bmo", {"depth": 64}, "NMSE dB", -17.6),
            record.row("lista", {"depth": 16}, "NMSE dB", -13.5, source="published"),
        ],
        "curves": {"residual": [1.0, 0.1, 1e-8], "count": [3, 2, 1]},
    }
    return Record(**(fields | changes))


# ---- what is valid ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("experiment", "Sparse Coding"),
        ("experiment", "../escape"),
        ("profile", "cuda"),
        ("created", "yesterday"),
        ("created", "2026-01-31T12:00:00"),  # no zone
        ("command", " "),
        ("settings", {"mu": math.nan}),
        ("settings", {"depths": (1, 2)}),
        ("settings", {3: "x"}),
        ("settings", []),
        ("seeds", [0.5]),
        ("seeds", [True]),
        ("seeds", [-1]),
        ("data", ["set14/lenna.bmp"]),
        ("device", ""),
        ("versions", {"torch": 2}),
        ("commit", "main"),
        ("seconds", -1.0),
        ("seconds", math.inf),
        ("rows", []),
        ("rows", {}),
        ("curves", {"a": "text"}),
        ("curves", [1.0]),
    ],
)
def test_a_malformed_field_is_refused_by_name(field: str, bad: object) -> None:
    with pytest.raises(RecordError) as caught:
        sample(**{field: bad})
    assert caught.value.required.startswith(field)
    assert field in caught.value.remedy


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("method", ""),
        ("setting", {"depth": math.inf}),
        ("metric", None),
        ("value", math.nan),
        ("value", -math.inf),
        ("value", "12"),
        ("value", True),
        ("std", -1.0),
        ("std", math.nan),
        ("n", 0),
        ("n", None),
        ("source", "guessed"),
    ],
)
def test_a_malformed_row_is_refused_by_number_and_field(field: str, bad: object) -> None:
    rows = copy.deepcopy(sample().rows)
    rows[1][field] = bad
    with pytest.raises(RecordError) as caught:
        sample(rows=rows)
    assert caught.value.required.startswith(f"rows[1].{field}")


def test_other_malformed_parts_are_named() -> None:
    rows = copy.deepcopy(sample().rows)
    del rows[2]["std"]
    with pytest.raises(RecordError, match=r"rows\[2\]: the fields method, setting"):
        sample(rows=rows)
    with pytest.raises(RecordError, match=r"data\[0\]\.sha256: 64 hexadecimal"):
        sample(data=[{"file": "a", "sha256": SHA[:-1]}])
    with pytest.raises(RecordError, match=r"curves\['ena'\]\[2\]: a finite number; got: inf"):
        sample(curves={"ena": [1.0, 2.0, math.inf]})


def test_published_rows_need_no_count() -> None:
    assert sample().rows[2]["n"] is None
    assert sample().rows[1]["n"] == 1


def test_row_of_several_values_is_their_mean_and_deviation() -> None:
    entry = record.row("bmo", {}, "dB", (1.0, 2.0, 3.0, 6.0))
    assert (entry["value"], entry["n"]) == (3.0, 4)
    assert entry["std"] == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3), abs=1e-15)
    assert record.row("bmo", {}, "dB", [1.0])["std"] is None
    with pytest.raises(RecordError, match=r"rows\[0\]\.value \(bmo, dB\)"):
        sample(rows=[record.row("bmo", {}, "dB", [1.0, math.nan])])
    with pytest.raises(RecordError, match="nonempty"):
        record.row("bmo", {}, "dB", [])
    with pytest.raises(RecordError, match="without std"):
        record.row("bmo", {}, "dB", [1.0], std=1.0)


def test_select_and_value() -> None:
    made = sample()
    assert [r["value"] for r in made.select(method="bmo")] == [-13.0, -17.6]
    assert made.value(method="bmo", depth=64) == -17.6
    for wanted, count in [({"method": "bmo"}, 2), ({"method": "none"}, 0)]:
        with pytest.raises(RecordError, match=f"{count} rows"):
            made.value(**wanted)


# ---- on disk ---------------------------------------------------------------------------------


def test_write_then_read_gives_the_same_record(tmp_path: Path) -> None:
    path = record.write(sample(), tmp_path / "recorded")
    assert path == tmp_path / "recorded" / "sparse-coding.page.json"
    assert record.read(path) == sample()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_the_file_is_plain_json_with_the_hash_of_its_content(tmp_path: Path) -> None:
    payload = json.loads(record.write(sample(), tmp_path).read_text(encoding="utf-8"))
    stated = payload.pop("sha256")
    assert payload == dataclasses.asdict(sample())
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert stated == hashlib.sha256(canonical.encode()).hexdigest()


def test_one_row_is_one_line(tmp_path: Path) -> None:
    lines = record.write(sample(), tmp_path).read_text(encoding="utf-8").splitlines()
    assert sum('"method"' in line for line in lines) == 3
    assert len(lines) < 40


def change(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "a whole JSON file"),
        (lambda text: "", "a whole JSON file"),
        (lambda text: "[]", "a JSON object"),
        (change("-17.6", "-19.6"), "altered"),
        (change("-17.6", "NaN"), "a whole JSON file"),
        (change('"n": 1', '"n": 2'), "altered"),
        (change('"sha256": "ab', '"sha256": "ba'), "altered"),
        (change("weiß", "weiss"), "altered"),
    ],
)
def test_a_truncated_or_altered_record_is_refused(
    tmp_path: Path, damage: Callable[[str], str], message: str
) -> None:
    path = record.write(sample(), tmp_path)
    text = path.read_text(encoding="utf-8")
    assert damage(text) != text
    path.write_text(damage(text), encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        record.read(path)


def resealed(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Alter a record and give it a matching hash, as a careless program could."""
    payload = json.loads(path.read_text(encoding="utf-8"))
    del payload["sha256"]
    edit(payload)
    canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    payload["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    path.write_text(json.dumps(payload), encoding="utf-8")


def test_a_malformed_record_is_refused_on_load_whatever_its_hash(tmp_path: Path) -> None:
    path = record.write(sample(), tmp_path)
    resealed(path, lambda p: p["rows"][0].update(value=None))
    with pytest.raises(RecordError, match=r"rows\[0\]\.value"):
        record.read(path)
    path = record.write(sample(), tmp_path)
    resealed(path, lambda p: p.pop("device"))
    with pytest.raises(RecordError, match="differs in device"):
        record.read(path)
    path = record.write(sample(), tmp_path)
    resealed(path, lambda p: p.update(extra=1))
    with pytest.raises(RecordError, match="differs in extra"):
        record.read(path)
    path = record.write(sample(), tmp_path)
    with pytest.raises(RecordError, match=r"file name sparse-coding\.page\.json"):
        record.read(path.rename(tmp_path / "bench.page.json"))


def test_missing_record_and_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="a readable record"):
        record.read(tmp_path / "bench.page.json")
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(RecordError, match="a folder that can be written"):
        record.write(sample(), tmp_path / "taken")


def test_a_record_spoiled_after_it_was_made_is_not_written(tmp_path: Path) -> None:
    made = sample()
    made.rows[0]["value"] = math.nan
    with pytest.raises(RecordError, match=r"rows\[0\]\.value"):
        record.write(made, tmp_path)
    assert not list(tmp_path.iterdir())


def _write_often(folder: Path, seed: int) -> None:
    for _ in range(20):
        record.write(sample(seeds=[seed] * (1 + 500 * seed)), folder)


def test_two_processes_leave_a_valid_record(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(tmp_path, s)) for s in (0, 1)]
    for writer in writers:
        writer.start()
    path = tmp_path / "sparse-coding.page.json"
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            assert len(record.read(path).seeds) in (1, 501)
        time.sleep(0.002)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# ---- found -----------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A published, sealed record; the current folder and the cache are empty."""
    folder, reader = tmp_path / "published", tmp_path / "reader"
    reader.mkdir()
    path = record.write(sample(), folder)
    record.save_weights({"a": torch.arange(3.0)}, folder / "sparse-coding.page.safetensors")
    index = tmp_path / "records.json"
    record.seal(folder, index)
    known = record.sealed(index)
    for module in (finding, weights):
        monkeypatch.setattr(module, "sealed", lambda: known)
    monkeypatch.setenv("BMO_RECORDS_URL", folder.as_uri())
    monkeypatch.setenv("BMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(reader)
    return path


@pytest.mark.parametrize("place", ["recorded", "notebooks/recorded"])
def test_find_prefers_the_record_beside_the_notebook(published: Path, place: str) -> None:
    mine = sample(seeds=[7])
    record.write(mine, Path(place))
    assert record.find("sparse-coding.page") == mine


def test_find_fetches_once_from_the_address(published: Path, tmp_path: Path) -> None:
    assert record.find("sparse-coding.page") == sample()
    published.unlink()
    assert record.find("sparse-coding.page") == sample()  # from the cache
    assert not list(Path().iterdir())  # nothing is left beside the notebook
    (cached,) = (tmp_path / "cache").rglob("*.json")
    cached.write_text(cached.read_text(encoding="utf-8").replace("12.5", "11.5"), encoding="utf-8")
    with pytest.raises(RecordError, match="altered or truncated"):
        record.find("sparse-coding.page")


def test_find_refuses_another_file_at_the_address(
    published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bmo.files.time.sleep", lambda seconds: None)
    record.write(sample(seconds=1.0), published.parent)  # valid, but not the sealed one
    with pytest.raises(RecordError, match="sha256"):
        record.find("sparse-coding.page")
    published.unlink()
    with pytest.raises(RecordError, match="check the connection"):
        record.find("sparse-coding.page")


def test_find_of_an_unknown_name_lists_the_known(published: Path) -> None:
    with pytest.raises(RecordError, match=r"nearest known: sparse-coding\.page\.json"):
        record.find("bench.full")


def installed(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    message = Message()
    message["Version"] = "1.2.3"
    for url in urls:
        message["Project-URL"] = url
    monkeypatch.setattr(origin.metadata, "metadata", lambda name: message)
    monkeypatch.delenv("BMO_RECORDS_URL", raising=False)


@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_address_follows_the_installed_package(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    other = "Homepage, https://example.org"
    installed(monkeypatch, other, f"Repository, https://github.com/someone/some-book{ending}")
    assert record.project_address() == "https://github.com/someone/some-book"
    assert record.record_url("bench.full.json") == (
        "https://raw.githubusercontent.com/someone/some-book/v1.2.3/notebooks/recorded/"
        "bench.full.json"
    )


def test_address_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "Homepage, https://example.org")
    with pytest.raises(RecordError, match="Repository"):
        record.record_url("x.json")
    installed(monkeypatch, "Repository, https://example.org/book")
    with pytest.raises(RecordError, match="set BMO_RECORDS_URL"):
        record.record_url("x.json")

    def absent(name: str) -> None:
        raise origin.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(origin.metadata, "metadata", absent)
    with pytest.raises(RecordError, match="pip install"):
        record.project_version()
    monkeypatch.setattr(origin.metadata, "version", absent)
    assert set(origin.versions()) == {"python"}


# ---- sealed ----------------------------------------------------------------------------------


def test_seal_lists_records_and_weights_and_nothing_else(tmp_path: Path) -> None:
    folder, index = tmp_path / "recorded", tmp_path / "records.json"
    path = record.write(sample(), folder)
    sha256 = record.save_weights({"a": torch.ones(2)}, folder / "sparse-coding.page.safetensors")
    (folder / "README.md").write_text("not a record")
    expected = {
        "sparse-coding.page.json": hashlib.sha256(path.read_bytes()).hexdigest(),
        "sparse-coding.page.safetensors": sha256,
    }
    assert record.seal(folder, index) == expected == record.sealed(index)
    with pytest.raises(RecordError, match="a folder of records"):
        record.seal(tmp_path / "nowhere", index)
    assert record.sealed(index) == expected


def test_seal_refuses_a_bad_record_and_keeps_the_index(tmp_path: Path) -> None:
    index = tmp_path / "records.json"
    index.write_text("{}")
    path = record.write(sample(), tmp_path / "recorded")
    path.write_text(path.read_text(encoding="utf-8").replace("12.5", "11.5"), encoding="utf-8")
    with pytest.raises(RecordError, match="altered"):
        record.seal(path.parent, index)
    assert index.read_text() == "{}"


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_broken_index_is_refused(tmp_path: Path, content: str | None) -> None:
    index = tmp_path / "records.json"
    if content is not None:
        index.write_text(content)
    with pytest.raises(RecordError):
        record.sealed(index)


def test_the_shipped_index_matches_the_committed_records() -> None:
    folder = HERE.parent / "notebooks" / "recorded"
    paths = [p for p in folder.glob("*") if p.suffix in (".json", ".safetensors")]
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
    assert record.sealed() == found, "run: python -m bmo records --seal"
    for path in paths:
        if path.suffix == ".json":
            assert record.read(path).name == path.stem


# ---- weights ---------------------------------------------------------------------------------


def test_weights_round_trip_and_equal_files(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)).double()
    one = record.save_weights(net, tmp_path / "a.safetensors")
    two = record.save_weights(dict(net.state_dict()), tmp_path / "b.safetensors")
    assert one == two
    loaded = record.load_weights(tmp_path / "a.safetensors", one)
    assert list(loaded) == sorted(net.state_dict())
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded[name], tensor) and loaded[name].dtype == torch.float64
    with safe_open(tmp_path / "a.safetensors", "pt") as reader:
        assert set(reader.keys()) == set(net.state_dict())


def test_tied_and_transposed_weights_are_saved(tmp_path: Path) -> None:
    a = torch.arange(6.0).reshape(2, 3)
    path = tmp_path / "a.safetensors"
    loaded = record.load_weights(path, record.save_weights({"a": a, "b": a, "c": a.T}, path))
    assert torch.equal(loaded["b"], a) and torch.equal(loaded["c"], a.T)


def test_weights_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(RecordError, match="infinity in bad"):
        record.save_weights({"good": torch.ones(1), "bad": torch.tensor([math.nan])}, path)
    with pytest.raises(RecordError, match="at most 12000000 bytes"):
        record.save_weights({"a": torch.zeros(3_000_000)}, path)
    with pytest.raises(RecordError, match="ending"):
        record.save_weights({"a": torch.zeros(1)}, tmp_path / "a.pt")
    assert not path.exists()
    record.save_weights({"a": torch.zeros(2_999_000)}, path)  # just below the limit


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    sha256 = record.save_weights({"a": torch.ones(4)}, path)
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"\x01"):
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match="altered or truncated"):
            record.load_weights(path, sha256)
    path.write_bytes(b"not weights")
    with pytest.raises(RecordError, match="a safetensors file"):
        record.load_weights(path, hashlib.sha256(b"not weights").hexdigest())
    with pytest.raises(RecordError, match="got: none"):
        record.load_weights(tmp_path / "no.safetensors", sha256)


def test_find_weights(published: Path) -> None:
    assert record.find_weights("sparse-coding.page")["a"].tolist() == [0, 1, 2]
    record.save_weights({"a": torch.ones(1)}, Path("recorded") / "other.safetensors")
    with pytest.raises(RecordError, match="records --seal"):
        record.find_weights("other")
    record.save_weights({"a": torch.ones(1)}, Path("recorded") / "sparse-coding.page.safetensors")
    with pytest.raises(RecordError, match="altered"):
        record.find_weights("sparse-coding.page")


# ---- shown -----------------------------------------------------------------------------------


def test_markdown_table() -> None:
    text = record.table(sample(), rows="method", cols=("metric", "depth"), digits=1)
    assert text.split("\n\n")[0].splitlines() == [
        "| method | NMSE dB, 16 | NMSE dB, 64 |",
        "| --- | --- | --- |",
        "| bmo | -13.0 ± 1.0 | -17.6 |",
        "| lista | -13.5† | – |",
    ]
    assert text.split("\n\n")[1].startswith("† as published")
    assert text.endswith(record.provenance(sample()))


def test_table_rows_by_setting_and_a_selection() -> None:
    text = record.table(
        sample(), rows=("depth", "method"), where={"method": "bmo"}, style="plain", digits=0
    )
    assert text.splitlines()[:3] == [
        "depth  method  NMSE dB",
        "16     bmo     -13 ± 1",
        "64     bmo     -18",
    ]
    assert "†" not in text


def test_html_table_is_well_formed_and_escaped() -> None:
    class Reader(HTMLParser):
        tags: list[str] = []
        cells: list[str] = []

        def handle_starttag(self, tag: str, attributes: object) -> None:
            self.tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.tags.pop() == tag

        def handle_data(self, text: str) -> None:
            self.cells.append(text)

    rows = [record.row("bmo <b>&", {}, "dB", 1.0)]
    reader = Reader()
    reader.feed(record.table(sample(rows=rows), style="html"))
    assert reader.tags == []
    assert "bmo <b>&" in reader.cells and "1.00" in reader.cells


def test_markdown_cells_cannot_break_the_table() -> None:
    text = record.table(sample(rows=[record.row("a|b", {}, "dB", 1.0)]))
    assert "| a\\|b | 1.00 |" in text


def test_table_refusals() -> None:
    with pytest.raises(RecordError, match=r"two rows at bmo, NMSE dB; remedy: .*\(depth\)"):
        record.table(sample())
    with pytest.raises(RecordError, match="a style of markdown, html, plain"):
        record.table(sample(), style="latex")
    with pytest.raises(RecordError, match="got: none"):
        record.table(sample(), where={"method": "nobody"})


def test_provenance_is_one_sentence_of_the_records_facts() -> None:
    assert record.provenance(sample()) == (
        "Recorded 2026-01-31 on CPU, 1 thread in 12 s by "
        "`python -m bmo train sparse-coding --profile page` (commit 0123456789ab; "
        "bmo-book 0.1.0; torch 2.13.0; seeds 0, 1, 2; 1 data file)."
    )
    bare = sample(commit=None, versions={}, seeds=[], data=[])
    assert record.provenance(bare).endswith("(no commit stated).")


# ---- where a result comes from ---------------------------------------------------------------


def test_provenance_now_makes_a_valid_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/bmo/__main__.py", "train", "sparse coding", "--seed=0"])
    now = record.provenance_now()
    made = sample(**now)
    assert made.command == "python -m bmo train 'sparse coding' --seed=0"
    assert torch.__version__.startswith(made.versions["torch"].partition("+")[0])
    assert "1 thread" in made.device
    monkeypatch.setattr(sys, "argv", ["scripts/one.py"])
    assert origin.command() == "python one.py"


def test_commit_is_this_projects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BMO_COMMIT", raising=False)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        answer = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return answer.stdout.strip()

    installed_copy = tmp_path / "origin.py"
    installed_copy.write_text("first")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "somebody else's work")
    monkeypatch.setattr(origin, "__file__", str(installed_copy))
    assert origin.commit() is None  # inside a repository that does not track the package
    git("add", "origin.py")
    git("commit", "-q", "-m", "one")
    assert origin.commit() == git("rev-parse", "HEAD")
    installed_copy.write_text("second")
    assert origin.commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("BMO_COMMIT", "0123456789abcdef")
    assert origin.commit() == "0123456789abcdef"


def test_commit_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BMO_COMMIT", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert origin.commit() is None


def test_device_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert origin.device_name("meta") == "meta"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    assert origin.device_name("cuda:1") == "GPU 1"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert origin.device_name("cpu").endswith(", 2 threads")
    monkeypatch.setattr("builtins.open", _nothing_there)
    assert origin.device_name("cpu").endswith(", 2 threads")


def _nothing_there(*arguments: object, **options: object) -> None:
    raise FileNotFoundError
