"""What counting alone pays for the last part of a text: Kneser-Ney over characters, order by order.

    python benchmarks/floors.py TEXT [--orders 2-8] [--share 0.9]

The first share of the characters, by position, is counted; the rest is charged, every character of it, and one that
the first part lacks also pays for its name. The text is taken as it stands: no cleaning. A peer for any network that
is trained and scored on the same two parts. The result goes to benchmarks/results/floors-NAME.json, NAME being that
of the text without its ending.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from environment import RESULTS, environment

from gptmodel import files
from gptmodel.encoding import encode_split
from gptmodel.errors import UserError, one_line_errors
from gptmodel.evaluation import Score, unknown_nats
from gptmodel.kneser_ney import kneser_ney_nats
from gptmodel.textfiles import read_text
from gptmodel.tokenizer import fit_char


@dataclass(frozen=True)
class Floor:
    """What one order pays for a character, and how long counting and charging took."""

    order: int
    nats_per_char: float
    bits_per_char: float
    seconds: float


def floors(train: str, rest: str, orders: range) -> list[Floor]:
    """Count `train` and charge `rest` at each order."""
    tokenizer = fit_char(train, min_count=1)
    train_ids, ids = encode_split(tokenizer, train, "counted"), encode_split(tokenizer, rest, "charged")
    naming = unknown_nats(ids, tokenizer.unknown_id)
    found = []
    for order in orders:
        started = time.perf_counter()
        nats = kneser_ney_nats(train_ids, ids, tokenizer.vocab_size, order) + naming
        score = Score.of(nats, len(ids), rest)
        found.append(Floor(order, score.loss_nats, score.bits_per_char, time.perf_counter() - started))
    return found


def parts(text: str, share: float, name: str) -> tuple[str, str]:
    """Cut the text by position; both parts hold something."""
    cut = int(share * len(text))
    if not 0 < cut < len(text):
        raise UserError(
            f"--share {share:g} of {name} leaves a part empty: use a share between 0 and 1 or a longer text"
        )
    return text[:cut], text[cut:]


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
    arguments.add_argument("--orders", default="2-8")
    arguments.add_argument("--share", type=float, default=0.9)
    asked = arguments.parse_args()
    with one_line_errors():
        orders = order_range(asked.orders)
        train, rest = parts(read_text(asked.text).text, asked.share, asked.text.name)
        found = floors(train, rest, orders)
        print("order  nats/char  bits/char  seconds")
        for floor in found:
            print(f"{floor.order:5}  {floor.nats_per_char:9.4f}  {floor.bits_per_char:9.4f}  {floor.seconds:7.2f}")
        result = {
            "floors": [asdict(floor) for floor in found],
            "text": {
                "file": asked.text.name,
                "sha256": files.sha256(asked.text),
                "share": asked.share,
                "characters_counted": len(train),
                "characters_charged": len(rest),
                "distinct_characters_counted": len(set(train)),
            },
            **environment("numpy", "tokenizers"),
        }
        files.write_json(RESULTS / f"floors-{asked.text.stem}.json", result)


if __name__ == "__main__":
    main()
