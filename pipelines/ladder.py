"""Stage ladder: data/clean/*.txt and the char tokenizer -> data/ladder/ (ladder.json, ladder.csv, surprisal.npz)."""

from gptmodel import ladder, params
from gptmodel.encoding import read_splits
from gptmodel.errors import one_line_errors
from gptmodel.files import whole_folder
from gptmodel.tokenizer import Tokenizer
from pipelines import layout


def main() -> None:
    """Count the characters of the training split and charge validation and test, order by order."""
    with one_line_errors():
        order = params.load(layout.PARAMS).ladder.order
        tokenizer = Tokenizer.load(layout.TOKENS / "char" / "tokenizer.json")
        climbed = ladder.climb(tokenizer, read_splits(layout.CLEAN), order)
        with whole_folder(layout.LADDER) as folder:
            climbed.write(folder)
        print(climbed.table().round(3).to_string(index=False))
        print(f"best on validation: {climbed.best}")


if __name__ == "__main__":
    main()
