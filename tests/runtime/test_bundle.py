import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gptmodel import files
from gptmodel.data import fitting
from gptmodel.errors import UserError
from gptmodel.export import fast_graph
from gptmodel.model import checkpoint, networks
from gptmodel.model.checkpoint import Meta
from gptmodel.runtime import bundle, latency
from gptmodel.runtime.bundle import FORMAT_VERSION, INFO, MODEL, TOKENIZER, Bundle, read_info
from gptmodel.runtime import graphs
from gptmodel.runtime.graphs import GRAPHS
from gptmodel.runtime.latency import Workload
from gptmodel.runtime.session import CudaNotLoaded
from pipelines import benchmark, export
from tests.export.test_model_card import CORPUS, results
from tests.support.bundles import TEXT, char_tokenizer, info, random_network, write
from tests.support.networks import CONFIGS, CONTEXT

ROOT = Path(__file__).resolve().parents[2]
LETTERS = char_tokenizer()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle", random_network("modern", LETTERS), LETTERS)


def read_json(folder: Path) -> dict[str, Any]:
    return json.loads((folder / INFO).read_text())


def altered_json(folder: Path, **changes: object) -> None:
    values = read_json(folder) | changes
    (folder / INFO).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def renew_hashes(folder: Path) -> None:
    values = read_json(folder)["files"]
    for name in values:
        values[name] = {"bytes": (folder / name).stat().st_size, "sha256": files.sha256(folder / name)}
    altered_json(folder, files=values)


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_is_read(tmp_path, kind):
    network = random_network(kind, LETTERS)
    loaded = Bundle.load(write(tmp_path / "bundle", network, LETTERS), "cpu")
    assert loaded.info == info(network)
    assert loaded.tokenizer.encode(TEXT).tolist() == LETTERS.encode(TEXT).tolist()
    assert loaded.decoder.vocab_size == LETTERS.vocab_size
    assert loaded.decoder.context == (1 if kind == "bigram" else CONTEXT)
    graphs = [] if kind == "bigram" else ["fp16.onnx", "fp32.onnx", "int8.onnx", "sampler.onnx"]
    assert sorted(path.name for path in loaded.path.iterdir()) == sorted([INFO, MODEL, TOKENIZER, *graphs])
    assert loaded.graph == ("portable" if kind == "bigram" else "int8")
    assert {name for name in loaded.info.graphs if GRAPHS[name].file in graphs} == set(loaded.info.graphs) - {
        "portable"
    }


def test_a_bundle_works_wherever_it_is_copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere" / "é ü")
    assert Bundle.load(tmp_path / "elsewhere" / "é ü", "cpu").info == read_info(folder)


DAMAGE = {
    "a missing folder": (lambda b: shutil.rmtree(b), "is not a folder"),
    "a file": (lambda b: (shutil.rmtree(b), b.write_text("")), "is not a folder"),
    "an empty folder": (lambda b: [path.unlink() for path in b.iterdir()], r"bundle\.json does not exist"),
    "no model": (lambda b: (b / MODEL).unlink(), r"model\.onnx does not exist"),
    "no sampler": (lambda b: (b / "sampler.onnx").unlink(), r"sampler\.onnx does not exist"),
    "no graphs": (lambda b: altered_json(b, graphs={}), "graphs must be some of portable, fp32, int8, fp16"),
    "a foreign graph": (lambda b: altered_json(b, graphs={"portable": {}, "int2": {}}), "graphs must be some of"),
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
    "no utf-8": (lambda b: (b / INFO).write_bytes(b"\xff\xfe"), r"bundle\.json is damaged"),
    "a foreign json": (lambda b: (b / INFO).write_text('{"a": 1}'), "does not describe a gptmodel bundle"),
    "a list": (lambda b: (b / INFO).write_text("[1]"), "does not describe a gptmodel bundle"),
    "a newer version": (
        lambda b: altered_json(b, format_version=FORMAT_VERSION + 1),
        f"format_version {FORMAT_VERSION + 1}, this gptmodel reads {FORMAT_VERSION}: install",
    ),
    "no hashes": (lambda b: altered_json(b, files={}), r"no size and sha256 of tokenizer\.json"),
    "no context": (lambda b: altered_json(b, context=None), "context is missing or not of type int"),
    "a corpus of another type": (lambda b: altered_json(b, corpus="Hugo"), "corpus is missing or not of type Mapping"),
    "another vocabulary": (
        lambda b: (fitting.fit_char("abc", 1).save(b / TOKENIZER), renew_hashes(b)),
        r"tokenizer\.json has 4 tokens, bundle\.json says",
    ),
    "another model": (
        lambda b: ((b / "int8.onnx").write_bytes(b"?" * 99), renew_hashes(b)),
        r"cannot load .*int8\.onnx",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_bundle_is_one_line_with_the_file_and_the_remedy(folder, what):
    damage, message = DAMAGE[what]
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        Bundle.load(folder, "cpu")
    assert str(folder) in str(error.value)
    assert ":" in str(error.value)


def test_writing_replaces_an_older_bundle_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "leftover").write_text("")

    def no_room(path, value):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(files, "write_json", no_room)
        with pytest.raises(OSError, match="No space left"):
            write(folder, random_network("classic", LETTERS), LETTERS)
    assert {path.name for path in folder.iterdir()} == {*before, "leftover"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    write(folder, random_network("modern", LETTERS), LETTERS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_figures_of_a_bundle_are_measured_in_a_process_of_its_own(folder):
    workload = Workload(prompt_tokens=5, new_tokens=9, batch_sizes=[1, 3], repeats=2)
    figures = latency.measure(folder, workload)
    assert figures["tokens_per_second"].keys() == figures["host_share"].keys() == {"batch_1", "batch_3"}
    assert figures["tokens_per_second"]["batch_3"] > 0
    assert all(0 < share < 1 for share in figures["host_share"].values())
    assert figures["first_token_latency_ms"] > 0
    assert 30 < figures["peak_memory_mb"] < 400  # torch alone would be more
    assert figures["machine"]["device"] in ("cpu", "cuda")
    if figures["machine"]["device"] == "cpu":
        assert list(figures["graphs"]) == ["int8", "portable", "fp32"]
        assert figures["graph"] == "int8"
    for each in figures["graphs"].values():
        assert each["tokens_per_second"]["batch_1"] > 0


def test_an_altered_file_that_is_not_in_use_is_found_by_the_whole_check(folder):
    (folder / "fp16.onnx").write_bytes((folder / "fp16.onnx").read_bytes()[:-1] + b"?")
    Bundle.load(folder, "cpu")
    with pytest.raises(UserError, match=r"fp16\.onnx was altered"):
        bundle.check(folder)


def test_where_cudas_libraries_are_missing_auto_goes_on_on_the_cpu(folder, monkeypatch):
    opened = []

    def no_cuda(path, name, context, place, threads):
        opened.append((name, place))
        if place == "cuda":
            raise CudaNotLoaded("no cuDNN")
        return open_graph(path, name, context, place, threads)

    open_graph = bundle.open_graph
    monkeypatch.setattr(bundle, "open_graph", no_cuda)
    monkeypatch.setattr(graphs, "pick", lambda device: "cpu" if device == "cpu" else "cuda")
    assert Bundle.load(folder, "auto").place == "cpu"
    assert opened == [("fp16", "cuda"), ("int8", "cpu")]
    with pytest.raises(UserError, match="no cuDNN"):
        Bundle.load(folder, "cuda")


def test_a_damaged_bundle_cannot_be_measured(folder, capfd):
    (folder / "int8.onnx").write_bytes((folder / "int8.onnx").read_bytes()[:-1] + b"?")
    with pytest.raises(SystemExit) as stopped:
        latency.measure(folder, Workload(5, 9, [1], 1))
    assert stopped.value.code == 2
    assert capfd.readouterr().err.startswith("error: ")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stages before export leave behind, for one small model; the stage runs in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTMODEL_TRACKING", "off")
    monkeypatch.setattr(sys, "argv", ["stage", "gpt-char"])
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["benchmark"] = {"prompt_tokens": 4, "new_tokens": 4, "batch_sizes": [2], "repeats": 1}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    tokens, model = tmp_path / "data/tokens/char", tmp_path / "models/gpt-char"
    LETTERS.save(tokens / "tokenizer.json")
    ids = LETTERS.encode(TEXT * 9).astype(np.uint16)
    np.save(tokens / "train.npy", ids)
    np.save(tokens / "validation.npy", ids)
    np.save(tokens / "test.npy", ids[50:])
    splits = {name: {"characters": len(TEXT) * 9} for name in ("train", "validation", "test")}
    files.write_json(tokens / "stats.json", {"splits": splits})
    network = random_network("modern", LETTERS)
    meta = Meta(
        variant="gpt-char",
        level="char",
        network=CONFIGS["modern"],
        vocab_size=LETTERS.vocab_size,
        tokenizer_sha256=files.sha256(tokens / "tokenizer.json"),
        corpus=CORPUS | {"name": "essai", "title": "Un essai"},
        fingerprint="f" * 64,
        seed=0,
        best_step=5,
        validation_loss_nats=1.5,
    )
    checkpoint.save(model / "checkpoint", networks.weights(network), meta)
    for name, figures in vars(results()).items():
        files.write_json((tmp_path / "data" / "ladder" if name == "ladder" else model) / f"{name}.json", figures)
    return model


def test_the_export_stage_writes_a_bundle_and_the_benchmark_stage_measures_it(workspace):
    export.main()
    loaded = Bundle.load(workspace / "bundle", "cpu")
    assert loaded.info.metrics == results().metrics
    for folder in ("bundle", "hf"):
        assert "Un essai" in (workspace / folder / "README.md").read_text(encoding="utf-8")
    assert loaded.info.corpus["title"] == "Un essai"
    for name in ("portable", "fp32"):
        proof = loaded.info.graphs[name]
        assert max(value for key, value in proof.items() if key.endswith("difference")) <= 1e-4
        assert proof["greedy_tokens_equal"] == proof["greedy_tokens"] >= 500
    assert 0 < abs(loaded.info.graphs["fp16"]["change"]) < abs(loaded.info.graphs["int8"]["change"]) < 0.005
    assert loaded.info.versions.keys() == {"gptmodel", "torch", "onnx", "onnxruntime"}
    benchmark.main()
    assert json.loads((workspace / "benchmark.json").read_text())["tokens_per_second"]["batch_2"] > 0


def refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the export stage says when it writes nothing."""
    with pytest.raises(SystemExit) as stopped:
        export.main()
    assert stopped.value.code == 2
    assert not {"bundle", "hf"} & {path.name for path in workspace.iterdir()}
    return capsys.readouterr().err


def test_past_the_tolerance_nothing_is_written(workspace, capsys):
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["export"]["tolerance"] = 1e-12
    Path("params.yaml").write_text(yaml.safe_dump(values))
    told = refused(workspace, capsys)
    assert "error: graph portable: parity of torch and ONNX Runtime, whole windows" in told
    assert "nothing was written" in told


def test_a_graph_in_fewer_bits_that_costs_too_much_is_refused(workspace, capsys, monkeypatch):
    exact = fast_graph.quantise
    monkeypatch.setattr(fast_graph, "quantise", lambda weight: (exact(weight)[0], 3 * exact(weight)[1]))
    assert re.search(
        r"error: graph int8: the text costs \+\d+\.\d+% more bits than in torch", refused(workspace, capsys)
    )


@pytest.mark.parametrize("name", ["models/gpt-char/metrics.json", "data/ladder/ladder.json"])
def test_a_result_that_is_not_there_is_one_line(workspace, capsys, name):
    Path(name).unlink()
    with pytest.raises(SystemExit, match="2"):
        export.main()
    assert f"{name} does not exist: run `dvc repro`" in capsys.readouterr().err


def test_another_tokenizer_than_the_trained_one_is_refused(workspace, capsys):
    fitting.fit_char(TEXT + "☃", 1).save(Path("data/tokens/char/tokenizer.json"))
    with pytest.raises(SystemExit):
        export.main()
    assert "is not the one gpt-char was trained with" in capsys.readouterr().err
