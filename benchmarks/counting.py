"""What counting alone scores on a text: uniform, unigram, bigram, then Kneser-Ney over characters, order by order.

    python benchmarks/counting.py TEXT [--share 0.9] [--orders 2-8] [--bigram-network]
    python benchmarks/counting.py COUNTED SCORED --name NAME

The first share of the characters of TEXT, by position, is counted; the rest is scored, every character of it, and one
that the first part lacks also scores on its name. Two texts are counted and scored whole. Texts are taken as they
stand: no cleaning. A peer for any network that is trained and scored on the same two parts.

--bigram-network: the bigram network of params.yaml is trained on the first part and its last weights are scored for
the other one: what it learns by gradient must cost what the counted bigram does.

The result goes to benchmarks/results/baselines-NAME.json, NAME being that of TEXT without its ending if none is given.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from environment import RESULTS, ROOT, environment, processor
from scratch import trainer

from gptmodel import files, params
from gptmodel.arrays import Ids
from gptmodel.data.encoding import encode_split
from gptmodel.data.fitting import fit_char
from gptmodel.data.tokenizer import naming_nats
from gptmodel.errors import UserError, one_line_errors
from gptmodel.evaluation import baselines
from gptmodel.model.loss import Score, total_nats
from gptmodel.results.corpus import SplitName
from gptmodel.text.textfiles import read_text
from gptmodel.training.precision import Numerics


@dataclass(frozen=True)
class Parts:
    """A text to count and one to score, as ids of the characters of the first."""

    train_ids: Ids
    ids: Ids
    rest: str
    vocab_size: int
    unknown_id: int | None

    @classmethod
    def of(cls, train: str, rest: str) -> "Parts":
        """Encode both."""
        tokenizer = fit_char(train, min_count=1)
        train_ids, ids = encode_split(tokenizer, train, "counted"), encode_split(tokenizer, rest, "scored")
        return cls(train_ids, ids, rest, tokenizer.vocab_size, tokenizer.unknown_id)


@dataclass(frozen=True)
class Counting:
    """What one way of counting scores on a character, and how long counting and scoring took."""

    name: str
    order: int
    nats_per_char: float
    bits_per_char: float
    seconds: float


def score_baselines(train: str, rest: str, orders: range) -> list[Counting]:
    """Count `train` and score `rest`, Kneser-Ney at each order."""
    parts = Parts.of(train, rest)
    return scored(parts, baselines.kneser_ney(parts.train_ids, parts.vocab_size, orders))


def scored(parts: Parts, counters: Iterable[baselines.Baseline]) -> list[Counting]:
    """Return what each baseline scores; one is counted when it is asked for."""
    found, started = [], time.perf_counter()
    for baseline in counters:
        score = Score.of(float(baseline.nats(parts.ids, parts.unknown_id).sum()), len(parts.ids), parts.rest)
        seconds = time.perf_counter() - started
        found.append(Counting(baseline.name, baseline.order, score.loss_nats, score.bits_per_char, seconds))
        started = time.perf_counter()
    return found


def bigram_network(parts: Parts, counted: Counting) -> dict[str, Any]:
    """Train the first bigram network of params.yaml; return what it scores, beside the counted bigram."""
    settings = params.load(ROOT / "params.yaml")
    config = next((each for each in settings.models.values() if each.network == "bigram"), None)
    if config is None:
        raise UserError("params.yaml has no model with network: bigram: add one, or leave --bigram-network out")
    device = torch.device("cpu")
    numerics = Numerics(device.type, "float32", "eager", torch.get_num_threads())
    splits: dict[SplitName, Ids] = {"train": parts.train_ids, "validation": parts.ids}
    training = trainer(config, splits, parts.vocab_size, settings.seed, numerics)
    started = time.perf_counter()
    steps = list(training.run())
    nats = total_nats(training.network, parts.ids, device) + naming_nats(parts.ids, parts.unknown_id).sum()
    score = Score.of(nats, len(parts.ids), parts.rest)
    return {
        "nats_per_char": score.loss_nats,
        "bits_per_char": score.bits_per_char,
        "above_counted_bigram_nats": score.loss_nats - counted.nats_per_char,
        "tokens": steps[-1].tokens,
        "seconds": time.perf_counter() - started,
        "seed": settings.seed,
        "parameters": config.model_dump(mode="json"),
    }


def texts(asked: argparse.Namespace) -> tuple[str, str, dict[str, Any]]:
    """Return the text to count, the one to score, and what they are for the record."""
    paths = [asked.text, asked.scored or asked.text]
    if asked.scored:
        train, rest = (read_text(path).text for path in paths)
    else:
        train, rest = cut(read_text(asked.text).text, asked.share, asked.text.name)
    facts = [
        {"file": path.name, "sha256": files.sha256(path), "characters": len(text)}
        for path, text in zip(paths, (train, rest), strict=True)
    ]
    share = {} if asked.scored else {"share": asked.share}
    return train, rest, {**share, "counted": facts[0], "scored": facts[1], "distinct_characters": len(set(train))}


def cut(text: str, share: float, name: str) -> tuple[str, str]:
    """Cut the text by position; both parts hold something."""
    place = int(share * len(text))
    if not 0 < place < len(text):
        raise UserError(
            f"--share {share:g} of {name} leaves a part empty: use a share between 0 and 1 or a longer text"
        )
    return text[:place], text[place:]


def order_range(asked: str) -> range:
    """Return the orders of `2-8`, or of a single `6`."""
    first, _, last = asked.partition("-")
    try:
        orders = range(int(first), int(last or first) + 1)
    except ValueError:
        orders = range(0)
    if not orders or orders[0] < 1:
        raise UserError(f"--orders {asked}: give one order or two with a hyphen, the smaller first, such as 2-8")
    return orders


def main() -> None:
    """Count, print and record."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("text", type=Path)
    arguments.add_argument("scored", type=Path, nargs="?")
    arguments.add_argument("--orders", default="2-8")
    arguments.add_argument("--share", type=float, default=0.9)
    arguments.add_argument("--bigram-network", action="store_true")
    arguments.add_argument("--name", help="of the result, instead of the text's")
    asked = arguments.parse_args()
    with one_line_errors():
        orders = order_range(asked.orders)
        train, rest, facts = texts(asked)
        parts = Parts.of(train, rest)
        simple = baselines.simple(parts.train_ids, parts.vocab_size)
        found = scored(parts, chain(simple, baselines.kneser_ney(parts.train_ids, parts.vocab_size, orders)))
        print("counts        nats/char  bits/char  seconds")
        for counting in found:
            figures = f"{counting.nats_per_char:9.4f}  {counting.bits_per_char:9.4f}  {counting.seconds:7.2f}"
            print(f"{counting.name:12}  {figures}")
        result: dict[str, Any] = {"baselines": [asdict(counting) for counting in found], "text": facts}
        if asked.bigram_network:
            learned = bigram_network(parts, found[2])
            result["bigram_network"] = learned
            print(
                f"bigram network: {learned['nats_per_char']:.4f} nats/char after {learned['tokens']:,} tokens, "
                f"{learned['above_counted_bigram_nats']:+.4f} from the counted bigram, {learned['seconds']:.1f} s"
            )
        result |= environment("numpy", "tokenizers", "torch", **processor(), torch_threads=torch.get_num_threads())
        files.write_json(RESULTS / f"baselines-{asked.name or asked.text.stem}.json", result)


if __name__ == "__main__":
    main()
