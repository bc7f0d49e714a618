"""Stage encode@LEVEL: data/clean/*.txt -> data/tokens/LEVEL/ (ids as .npy, tokenizer.json, stats.json, stats.csv)."""

import sys
from typing import get_args

from gptmodel import params
from gptmodel.encoding import encode_splits, fit, read_splits
from gptmodel.errors import UserError, one_line_errors
from gptmodel.files import whole_folder
from pipelines import layout


def main() -> None:
    """Fit the tokenizer of the level named on the command line to the training split and encode every split."""
    with one_line_errors():
        levels: tuple[params.Level, ...] = get_args(params.Level)
        named = [level for level in levels if [level] == sys.argv[1:]]
        if not named:
            raise UserError(f"unknown level {' '.join(sys.argv[1:])!r}: give one of {', '.join(levels)}")
        [level] = named
        tokenizers = params.load(layout.PARAMS).tokenizers
        texts = read_splits(layout.CLEAN)
        with whole_folder(layout.TOKENS / level) as folder:
            print(encode_splits(fit(level, texts["train"], tokenizers), texts, folder).to_string(index=False))


if __name__ == "__main__":
    main()
