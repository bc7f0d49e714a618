import json
from pathlib import Path

import pandas as pd
import pytest

from gptmodel.errors import UserError
from gptmodel.report import tables


def write(folder: Path, test: float | None, validation: float) -> tables.Result:
    """Write what the stages write about one variant, with plausible figures, and read it back."""

    def score(bits: float) -> dict[str, float]:
        rest = {f"{kind}_bits_per_char": bits - 0.1 for kind in ("sliding", "dynamic")}
        rest |= {"bits_per_char_low": bits - 0.05, "bits_per_char_high": bits + 0.05}
        rest |= {"bits_per_byte": bits * 0.95, "loss_nats": bits, "word_perplexity": 2 ** (6 * bits)}
        return {"bits_per_char": bits, **rest, "unigram_bits_per_char": 4.4, "bigram_bits_per_char": 3.4}

    folder.mkdir()
    metrics = {"parameters": 1000, "best_step": 20, "validation": score(validation)}
    if test is not None:
        metrics["test"] = score(test)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "training.json").write_text(json.dumps({"seconds": 425.4, "tokens_per_second": 12345}))
    (folder / "benchmark.json").write_text(
        json.dumps({"first_token_latency_ms": 2, "tokens_per_second": {"batch_1": 900.5}})
    )
    by_position = [
        {"position": 1, "to": 1, "bits_per_char": 4.0},
        {"position": 5, "to": 8, "bits_per_char": validation},
    ]
    (folder / "breakdown.json").write_text(json.dumps({"split": "test", "by_position": by_position}))
    sample = {"prompt": "Il était ", "text": "une fois\nun roi", "temperature": 0.8, "seed": 1}
    (folder / "samples.json").write_text(json.dumps([sample]))
    pd.DataFrame(
        {
            "step": [0, 10, 20],
            "characters": [0, 100, 200],
            "train_bits_per_char": [None, 3.0, 2.0],
            "validation_bits_per_char": [6.0, 3.1, validation],
        }
    ).to_csv(folder / "history.csv", index=False)
    return tables.Result.read(folder)


def test_the_best_model_on_test_comes_first_beside_its_floors(tmp_path: Path) -> None:
    results = {
        "a": write(tmp_path / "a", test=2.5, validation=2.0),
        "b": write(tmp_path / "b", test=2.25, validation=2.2),
    }
    table = tables.comparison(results)
    assert list(table["model"]) == ["b", "a"]
    assert list(table["test_bits_per_char"]) == [2.25, 2.5]
    assert list(table["bigram_bits_per_char"]) == [3.4, 3.4]
    lines = tables.markdown_table(table).splitlines()
    assert len(lines) == 4
    assert len({line.count("|") for line in lines}) == 1
    assert "| b | 1,000 | 2.200 | **2.250** | 2.200 | 2.300 |" in lines[2]
    assert lines[0].endswith("| trained in (min:s) | training tokens/s | ONNX tokens/s |")
    assert lines[2].endswith("| 7:05 | 12,345 | 900 |")


def test_without_a_test_split_validation_decides(tmp_path: Path) -> None:
    results = {"a": write(tmp_path / "a", None, 2.0), "b": write(tmp_path / "b", None, 1.9)}
    table = tables.comparison(results)
    assert list(table["model"]) == ["b", "a"]
    assert "test_bits_per_char" not in table
    assert "bits/char test" not in tables.markdown_table(table)


def test_curves_and_gallery_hold_every_model(tmp_path: Path) -> None:
    results = {name: write(tmp_path / name, 2.0, 2.0) for name in ("a", "b")}
    points = tables.curves(results)
    assert len(points) == 6
    tables.draw_curves(points, tmp_path / "curves.png", "Roman")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert tables.positions(results).values.tolist()[:2] == [["a", 1.0, 4.0], ["a", 6.5, 2.0]]
    gallery = tables.gallery(results)
    assert gallery.count("> **Il était** une fois") == 2
    assert gallery.index("## a") < gallery.index("## b")


def test_a_missing_or_damaged_result_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a", 2.0, 2.0)
    (tmp_path / "a" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json cannot be read"):
        tables.Result.read(tmp_path / "a")
    (tmp_path / "a" / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"metrics\.json does not exist: run `dvc repro`"):
        tables.Result.read(tmp_path / "a")
