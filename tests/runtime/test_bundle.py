import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest

from gptmodel import files
from gptmodel.data import fitting
from gptmodel.decoding.engine import Decoder
from gptmodel.errors import UserError
from gptmodel.params import Benchmark
from gptmodel.results.bundle import FORMAT_VERSION
from gptmodel.runtime import bundle, graphs, latency
from gptmodel.runtime.bundle import INFO, TOKENIZER, Bundle, read_info
from gptmodel.runtime.graphs import GRAPHS, GraphSpec
from gptmodel.runtime.session import ChosenDevice, CudaNotLoaded
from tests.support.bundles import TEXT, char_tokenizer, info, random_network, write
from tests.support.networks import CONFIGS, CONTEXT

MODEL = GRAPHS["portable"].file
EXACT = {"fp32", "portable"}
LETTERS = char_tokenizer()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", random_network("modern", LETTERS), LETTERS)


def read_json(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / INFO).read_text())
    return values


def altered_json(folder: Path, **changes: object) -> None:
    values = read_json(folder) | changes
    left_out = {key for key, value in changes.items() if value is None}
    (folder / INFO).write_text(json.dumps({key: value for key, value in values.items() if key not in left_out}))


def renew_hashes(folder: Path) -> None:
    values = read_json(folder)["files"]
    for name in values:
        values[name] = {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name)}
    altered_json(folder, files=values)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_is_read(tmp_path: Path, kind: str) -> None:
    network = random_network(kind, LETTERS)
    loaded = Bundle.load(write(tmp_path / "bundle", network, LETTERS), "cpu")
    listed = {name: entry for name, entry in bundle.list_files(loaded.path).items() if name != INFO}
    assert loaded.info == info(network, listed)
    assert loaded.tokenizer.encode(TEXT).tolist() == LETTERS.encode(TEXT).tolist()
    assert loaded.decoder.vocab_size == LETTERS.vocab_size
    assert loaded.decoder.context == (1 if kind == "bigram" else CONTEXT)
    graphs = [] if kind == "bigram" else ["fp16.onnx", "fp32.onnx", "int8.onnx", "sampler.onnx"]
    assert sorted(path.name for path in loaded.path.iterdir()) == sorted([INFO, MODEL, TOKENIZER, *graphs])
    assert loaded.graph == ("portable" if kind == "bigram" else "int8")
    assert {name for name in loaded.info.graphs if GRAPHS[name].file in graphs} == set(loaded.info.graphs) - {
        "portable"
    }


def test_a_bundle_works_wherever_it_is_copied(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere" / "é ü")
    assert Bundle.load(tmp_path / "elsewhere" / "é ü", "cpu").info == read_info(folder)


def become_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def take_another_vocabulary(folder: Path) -> None:
    fitting.fit_char("abc", 1).save(folder / TOKENIZER)
    renew_hashes(folder)


def take_another_model(folder: Path) -> None:
    (folder / "int8.onnx").write_bytes(b"?" * 99)
    renew_hashes(folder)


def take_another_graph(folder: Path) -> None:
    shutil.copy(folder / "sampler.onnx", folder / "int8.onnx")
    renew_hashes(folder)


def become_a_pipe(folder: Path) -> None:
    (folder / INFO).unlink()
    os.mkfifo(folder / INFO)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing folder": (lambda b: shutil.rmtree(b), "is not a folder"),
    "a file": (become_a_file, "is not a folder"),
    "an empty folder": (empty, r"bundle\.json does not exist"),
    "no model": (lambda b: (b / MODEL).unlink(), r"model\.onnx does not exist"),
    "no sampler": (lambda b: (b / "sampler.onnx").unlink(), r"sampler\.onnx does not exist"),
    "no graphs": (lambda b: altered_json(b, graphs={}), "graphs must be some of portable, fp32, int8, fp16"),
    "a foreign graph": (
        lambda b: altered_json(b, graphs=read_json(b)["graphs"] | {"int2": read_json(b)["graphs"]["int8"]}),
        "graphs must be some of",
    ),
    "a graph that nobody compared": (lambda b: altered_json(b, graphs={"portable": {}}), r"graphs\.portable\.\w+"),
    "no tokenizer": (lambda b: (b / TOKENIZER).unlink(), r"tokenizer\.json does not exist"),
    "a truncated model": (lambda b: (b / MODEL).write_bytes((b / MODEL).read_bytes()[:-9]), "bytes instead of"),
    "an altered model": (
        lambda b: (b / "int8.onnx").write_bytes((b / "int8.onnx").read_bytes()[:-1] + b"?"),
        r"int8\.onnx was altered",
    ),
    "an altered tokenizer": (
        lambda b: (b / TOKENIZER).write_text((b / TOKENIZER).read_text().replace("1", "2")),
        r"tokenizer\.json was altered",
    ),
    "half a json": (lambda b: (b / INFO).write_text((b / INFO).read_text()[:99]), r"bundle\.json is damaged"),
    "brackets without end": (lambda b: (b / INFO).write_text("[" * 100_000), r"bundle\.json is damaged"),
    "a pipe": (become_a_pipe, r"bundle\.json does not exist"),
    "no utf-8": (lambda b: (b / INFO).write_bytes(b"\xff\xfe"), r"bundle\.json is damaged"),
    "a foreign json": (lambda b: (b / INFO).write_text('{"a": 1}'), "does not describe a gptmodel bundle"),
    "a list": (lambda b: (b / INFO).write_text("[1]"), "does not describe a gptmodel bundle"),
    "a newer version": (
        lambda b: altered_json(b, format_version=FORMAT_VERSION + 1),
        f"format_version {FORMAT_VERSION + 1}, this gptmodel reads {FORMAT_VERSION}: install",
    ),
    "no hashes": (lambda b: altered_json(b, files={}), r"no size and sha256 of tokenizer\.json"),
    "no context": (lambda b: altered_json(b, context=None), "context: missing"),
    "a context of nothing": (
        lambda b: altered_json(b, context=0),
        "context: input should be greater than or equal to 1",
    ),
    "a corpus of another type": (
        lambda b: altered_json(b, corpus="Hugo"),
        r"corpus: input should be .*Origin.*, not 'Hugo'",
    ),
    "another vocabulary": (
        take_another_vocabulary,
        r"tokenizer\.json has 4 tokens, bundle\.json says",
    ),
    "another model": (
        take_another_model,
        r"cannot load .*int8\.onnx",
    ),
    "a graph of another kind": (take_another_graph, r"int8\.onnx is no graph of the kind int8"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_bundle_is_one_line_with_the_file_and_the_remedy(folder: Path, what: str) -> None:
    damage, message = DAMAGE[what]
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        Bundle.load(folder, "cpu")
    assert str(folder) in str(error.value)
    assert ":" in str(error.value)


def test_writing_replaces_an_older_bundle_whole_or_not_at_all(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "leftover").write_text("")

    def no_room(path: Path, value: object) -> Never:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(files, "write_json", no_room)
        with pytest.raises(OSError, match="No space left"):
            write(folder, random_network("classic", LETTERS), LETTERS)
    assert {path.name for path in folder.iterdir()} == {*before, "leftover"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    write(folder, random_network("modern", LETTERS), LETTERS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_figures_of_a_bundle_are_measured_in_a_process_of_its_own(folder: Path) -> None:
    settings = Benchmark(prompt_tokens=5, new_tokens=9, batch_sizes=[1, 3], repeats=2)
    figures = latency.measure(folder, settings)
    assert figures.tokens_per_second.keys() == figures.host_share.keys() == {"batch_1", "batch_3"}
    assert figures.tokens_per_second["batch_3"] > 0
    assert all(0 < share < 1 for share in figures.host_share.values())
    assert figures.first_token_latency_ms > 0
    assert 30 < figures.peak_memory_mb < 400  # torch alone would be more
    assert figures.machine.device in ("cpu", "cuda")
    assert figures.workload.new_tokens == 9
    if figures.machine.device == "cpu":
        assert list(figures.graphs) == ["int8", "portable", "fp32"]
        assert figures.graph == "int8"
    assert figures.graphs[figures.graph].tokens_per_second == figures.tokens_per_second
    for speed in figures.graphs.values():
        assert speed.tokens_per_second["batch_1"] > 0


def test_an_altered_file_that_is_not_in_use_is_found_by_the_whole_check(folder: Path) -> None:
    (folder / "fp16.onnx").write_bytes((folder / "fp16.onnx").read_bytes()[:-1] + b"?")
    Bundle.load(folder, "cpu")
    with pytest.raises(UserError, match=r"fp16\.onnx was altered"):
        bundle.check(folder, read_info(folder))


def test_where_cudas_libraries_are_missing_auto_goes_on_on_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def no_cuda(spec: GraphSpec, folder: Path, context: int, device: ChosenDevice, threads: int) -> Decoder:
        opened.append((spec.name, device))
        if device == "cuda":
            raise CudaNotLoaded("no cuDNN")
        return open_graph(spec, folder, context, device, threads)

    open_graph = GraphSpec.open
    monkeypatch.setattr(GraphSpec, "open", no_cuda)
    monkeypatch.setattr(graphs, "pick", lambda device: "cpu" if device == "cpu" else "cuda")
    assert Bundle.load(folder, "auto").device == "cpu"
    assert opened == [("fp16", "cuda"), ("int8", "cpu")]
    with pytest.raises(UserError, match="no cuDNN"):
        Bundle.load(folder, "cuda")


def test_a_damaged_bundle_cannot_be_measured(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "int8.onnx").write_bytes((folder / "int8.onnx").read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit) as stopped:
        latency.measure(folder, Benchmark(prompt_tokens=5, new_tokens=9, batch_sizes=[1], repeats=1))
    assert stopped.value.code == 2
    assert capfd.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("threads", [0, -1, 1025, 1 << 40])
def test_a_number_of_threads_beyond_sense_is_refused(folder: Path, threads: int) -> None:
    with pytest.raises(UserError, match="threads must be between 1 and 1,024"):
        Bundle.load(folder, "cpu", threads)


def test_a_file_that_may_not_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> Never:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files, "sha256", forbidden)
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be used \(Permission denied\): change its rights"):
        Bundle.load(folder, "cpu")


def test_the_folder_of_a_model_names_its_bundle(folder: Path, tmp_path: Path) -> None:
    assert Bundle.load(tmp_path, "cpu").path == folder == tmp_path / "bundle"


def test_a_graph_that_is_not_there_or_runs_elsewhere_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="graph int2: this bundle has portable, fp32, int8, fp16"):
        Bundle.load(folder, "cpu", graph="int2")
    with pytest.raises(UserError, match="graph fp16 does not run on device cpu: leave out --device or --graph"):
        Bundle.load(folder, "cpu", graph="fp16")


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ["int8", "fp32", "portable"]), ("cuda", ["fp16", "portable"])]
)
def test_the_fastest_graph_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, device: ChosenDevice, expected: list[str]
) -> None:
    monkeypatch.setattr(graphs, "pick", lambda asked: asked)
    present = set(GRAPHS)
    for name in expected:
        assert graphs.choose(device, present)[0].name == name
        exact = graphs.choose(device, present, exact=True)[0]
        assert (exact.name, exact.gate) == (next(name for name in expected if name in present & EXACT), "parity")
        present.remove(name)
