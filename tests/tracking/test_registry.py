"""The laws of the registry: a bundle is one version, the best of a text is the champion, and it runs anywhere."""

import asyncio
import json
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import gptmodel
from gptmodel.decoding.sampling import Sampling
from gptmodel.decoding.sequence import Settings
from gptmodel.errors import UserError
from gptmodel.results.bundle import Origin
from gptmodel.results.evaluation import Metrics
from gptmodel.tracking import registry, sync
from gptmodel.tracking.store import address, open_store
from tests.support import bundles, outputs, records
from tests.support.stores import points_of, repository, runs

pytestmark = pytest.mark.slow

NAME = "gptmodel-essai-char"
WORDS = bundles.char_tokenizer()
REQUIREMENTS = ["mlflow", "numpy", "tokenizers", "pydantic", "onnxruntime"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return repository(tmp_path, monkeypatch)


def scored(bits_per_char: float, characters: int, split: str) -> Metrics:
    """Return metrics of a text of so many characters; `split` is the main one."""
    score = records.score(bits_per_char).model_copy(update={"characters": characters})
    has_test = split == "test"
    return records.metrics().model_copy(update={"validation": score, "test": score if has_test else None})


def bundle(root: Path, bits_per_char: float, characters: int = 1000, split: str = "test", **changes: Any) -> Path:
    """Write a bundle that scored so, and return its folder."""
    network = bundles.random_network("modern", WORDS)
    folder = root / "models" / f"scored-{bits_per_char}-{characters}" / "bundle"
    return bundles.write(folder, network, WORDS, **{"metrics": scored(bits_per_char, characters, split), **changes})


def register(folder: Path) -> str:
    (words,) = registry.register([folder])
    return words


def champion() -> str:
    return str(open_store().client.get_model_version_by_alias(NAME, "champion").version)


def test_a_bundle_is_registered_once_and_the_best_is_the_champion(root: Path) -> None:
    good, bad, best = bundle(root, 2.5), bundle(root, 2.75), bundle(root, 2.25)
    assert register(good) == f"{NAME} version 1 (champion)"
    (run,) = runs()
    assert register(good) == f"{NAME} version 1 (champion)"
    assert register(bad) == f"{NAME} version 2"
    assert register(best) == f"{NAME} version 3 (champion)"
    assert register(good) == f"{NAME} version 1"
    client = open_store().client
    versions = {int(found.version): found for found in client.search_model_versions(f"name = '{NAME}'")}
    assert sorted(versions) == [1, 2, 3]
    assert versions[1].run_id == run.info.run_id
    assert versions[1].description == "essai: 2.500 bits per character (test, 1000 characters)"
    assert len(runs()) == 1  # of one training


def test_a_logged_model_shows_its_final_scores_its_texts_and_its_version(root: Path) -> None:
    outputs.write_corpus()
    folder = outputs.write_model("petit")
    metrics = records.metrics(2.5, validation=2.75)
    words = bundles.char_tokenizer()
    changes = {"model": "petit", "fingerprint": "f00d", "metrics": metrics, "best_step": 20}
    bundles.write(folder.bundle, bundles.random_network("bigram", words), words, **changes)
    sync.sync("petit")
    (run,) = runs()
    before = points_of(run)
    assert register(folder.bundle) == f"{NAME} version 1 (champion)"
    (logged,) = open_store().client.search_logged_models([run.info.experiment_id])
    shown = {metric.key: metric for metric in logged.metrics}
    assert (shown["test/bits_per_char"].value, shown["validation/bits_per_char"].value) == (2.5, 2.75)
    assert shown["curves/validation_bits_per_char"].step == 20  # the best one, not the first
    for split in ("test", "validation"):
        assert shown[f"{split}/bits_per_char"].dataset_name == f"essai/{split}"
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": 1}]
    (after,) = runs()
    assert points_of(after) == before  # its run has no point twice
    assert after.info.end_time == run.info.end_time


def test_figures_of_different_texts_do_not_compete(root: Path) -> None:
    for folder in (bundle(root, 1.5), bundle(root, 2.5, characters=2000), bundle(root, 2.25, characters=2000)):
        register(folder)
    assert champion() == "3"
    register(bundle(root, 1.25, split="validation"))
    assert champion() == "4"


def test_other_levels_and_corpora_are_other_models(root: Path) -> None:
    corpus = Origin(name="Été, le soir", title="x", author="y", year=None, language="fr", licence="MIT")
    assert register(bundle(root, 2.0, level="word")).startswith("gptmodel-essai-word version 1")
    assert register(bundle(root, 2.0, corpus=corpus)).startswith("gptmodel-Été-le-soir-char version 1")


def test_what_cannot_be_registered_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no metrics"):
        register(bundle(root, 2.0, metrics=None))
    folder = bundle(root, 2.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="no MLflow server answers"):
        register(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    graph = folder / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[::-1])
    with pytest.raises(UserError, match=r"fp32\.onnx was altered"):
        register(folder)
    assert runs() == []


def test_champions_are_chosen_when_all_bundles_are_registered(root: Path) -> None:
    good, bad = bundle(root, 2.25), bundle(root, 2.5)
    assert registry.register([bad, good]) == [f"{NAME} version 1", f"{NAME} version 2 (champion)"]
    assert champion() == "2"


def test_a_bundle_that_is_refused_leaves_the_others_unregistered(root: Path) -> None:
    good, unscored = bundle(root, 2.25), bundle(root, 2.5, metrics=None)
    with pytest.raises(UserError, match="no metrics"):
        registry.register([good, unscored])
    assert runs() == []


def test_the_defaults_are_those_of_the_library() -> None:
    given = {name: default for name, _, default in registry.PARAMETERS}
    arguments = signature(gptmodel.Model.generate).parameters
    assert {**given, "seed": None, "stop": ()} == {
        name: arguments[name].default for name in arguments if name not in ("self", "prompt", "num_samples")
    }


ELSEWHERE = """
import json, sys
for name in ("torch", "typer", "dvc", "onnx", "matplotlib"):
    sys.modules[name] = None
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/gptmodel-essai-char@champion")
params = {"max_new_tokens": 30, "temperature": 0.9, "top_k": 9, "top_p": 0.9, "repetition_penalty": 1.5, "seed": 3}
texts = model.predict(["Le vieil ", "Où"], params=params)
short, default = model.predict(["Le vieil "], params={**params, "stop": [texts[0][9]]}), model.predict(["Où"])
library = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "gptmodel"}
print(json.dumps([texts, short, default, library]))
"""


def test_the_champion_writes_what_the_bundle_writes_far_from_the_repository(root: Path, tmp_path: Path) -> None:
    folder = bundle(root, 2.0)
    register(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, address()], cwd=elsewhere, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    texts, short, default, library = json.loads(done.stdout.splitlines()[-1])
    own = gptmodel.load(folder, "cpu")
    settings = Settings(30, Sampling(0.9, 9, 0.9, 1.5), 3)
    assert texts == [finished.text for finished in own.complete(["Le vieil ", "Où"], settings)]
    assert len(short[0]) <= 9
    assert len(default[0]) == 200
    assert all(Path(file).is_relative_to(root / "mlartifacts") for file in library.values())
    rooms = {name.split(".")[1] for name in library if name.count(".") > 1}
    assert rooms == set(registry.ROOMS)  # a copy holds the rooms that it needs and no other
    assert [needed.split("==")[0] for needed in registry.requirements()] == REQUIREMENTS


def post(app: Any, body: Any) -> tuple[int, Any]:
    """Send a JSON body to /invocations of an ASGI application; return the status and the answer."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b""}
    scope |= {"headers": [(b"content-type", b"application/json")], "http_version": "1.1", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


def test_mlflows_server_generates_and_refuses(root: Path) -> None:
    """What `mlflow models serve` runs, less the socket."""
    import mlflow
    from mlflow.pyfunc import scoring_server

    register(bundle(root, 2.0))
    mlflow.set_tracking_uri(address())
    app = scoring_server.init(mlflow.pyfunc.load_model(f"models:/{NAME}@champion"))
    asked = {"inputs": ["Où", "Le "], "params": {"max_new_tokens": 5, "seed": 1}}
    status, answer = post(app, asked)
    assert (status, [len(text) for text in answer["predictions"]]) == (200, [5, 5])
    assert post(app, asked) == (200, answer)
    status, answer = post(app, {"inputs": ["Où"], "params": {"temperature": -1.0}})
    assert status == 400
    assert "temperature must be 0" in answer["message"]
    assert post(app, {"inputs": ["Où"], "params": {"top_k": "many"}})[0] == 400
