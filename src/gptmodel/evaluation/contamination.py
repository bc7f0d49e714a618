"""How a figure can be too good to be true: a network that sees the future, a tokenizer that saw the test text, test
text that stands in the training text.

The first two are errors; the third is a figure, because a book may repeat itself. Left out on purpose: near copies.

Sources: google-deepmind/nanodo `model_test.py` (a changed token changes no earlier logit); Lee et al. 2022
(arXiv:2107.06499) for text that stands in both splits.
"""

import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import torch

from gptmodel.arrays import Ids
from gptmodel.data.fitting import fit
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.errors import UserError
from gptmodel.model.networks import LanguageModel
from gptmodel.params import Level, Tokenizers

PLACES = 8  # of a window from which on the tokens are changed
# Nats. What is masked is multiplied by an exact 0, so on a CPU the difference was 0 for every model measured; a device
# may sum in another order (float32 keeps 2e-6 of a logit of 20). No leak below it is worth more than twice as much.
TOLERANCE = 1e-4
LONG_LINE = 40  # characters: shorter lines repeat by chance ("— Oui, monsieur !")
NAMED = 5  # tokens in a message


@torch.inference_mode()
def check_causal(network: LanguageModel, ids: Ids, device: torch.device) -> None:
    """Change the tokens from some place on, for several places, and see that no logit before that place changes.

    `ids` (1-D) is any text; its first window is looked at, and less than two tokens tell nothing. The network's mode
    is restored.

    Raises:
        UserError: a logit changes by more than `TOLERANCE` nats: the network looks at what it must predict.
    """
    tokens_T = torch.from_numpy(ids[: network.context].astype(np.int64)).to(device)
    length, vocab_size = len(tokens_T), network.vocab_size
    if length < 2 or vocab_size < 2:
        return
    training = network.training
    network.eval()
    try:
        logits_TV = network(tokens_T[None])[0][0]
        others_T = (tokens_T + 1 + torch.arange(length, device=device) % (vocab_size - 1)) % vocab_size
        for place in sorted({int(place) for place in np.linspace(1, length - 1, PLACES)}):
            changed_T = torch.cat((tokens_T[:place], others_T[place:]))
            moved = float((network(changed_T[None])[0][0, :place] - logits_TV[:place]).abs().max())
            if not moved <= TOLERANCE:  # NaN is no proof either
                raise UserError(
                    f"the network sees the future: with other tokens from place {place} of a window on, logits before "
                    f"it change by {moved:.2g}, so its figures mean nothing; make it causal and train it again"
                )
    finally:
        network.train(training)


def check_tokenizer(tokenizer: Tokenizer, train_text: str, sections: Tokenizers) -> None:
    """See that `tokenizer` is, byte for byte, the one that the training split alone gives.

    `sections` is `tokenizers:` of params.yaml. Fitting is deterministic at every level.

    Raises:
        UserError: it differs; names the tokens, if any, that the training split never holds.
    """
    fitted = fit(cast(Level, tokenizer.level), train_text, sections)
    if _content(fitted) == _content(tokenizer):
        return
    train_bytes = train_text.encode()
    own = set(fitted.token_bytes)
    foreign = [token for token in tokenizer.token_bytes if token not in own and token not in train_bytes]
    remedy = "run `dvc repro` from encode on"
    if foreign:
        named = ", ".join(repr(token.decode("utf-8", "replace")) for token in foreign[:NAMED])
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise UserError(
            f"the {tokenizer.level} tokenizer has tokens that the training split never holds ({named}{more}): "
            f"it was fitted on text that it must not know; {remedy}"
        )
    raise UserError(
        f"the {tokenizer.level} tokenizer is not the one that the training split and params.yaml give: it was fitted "
        f"on other text or with other values; {remedy}"
    )


def shared_text(train_text: str, text: str) -> float:
    """Return the share of the longer lines of `text` that occur verbatim in `train_text`; 0 if it has no such lines.

    >>> line = "Il était une fois un vieux meunier qui n'avait qu'un chat."
    >>> shared_text(f"On dit : {line} Voilà tout.", f"{line}\\nOui.\\n{line.upper()}\\n")
    0.5
    """
    lines = [line for line in text.split("\n") if len(line) >= LONG_LINE]
    beginnings = {line[:LONG_LINE] for line in lines}
    windows = (train_text[start : start + LONG_LINE] for start in range(len(train_text) - LONG_LINE + 1))
    found = beginnings.intersection(windows)  # one pass over training; few lines are then looked for in full
    shared = sum(line[:LONG_LINE] in found and line in train_text for line in lines)
    return shared / len(lines) if lines else 0.0


def _content(tokenizer: Tokenizer) -> bytes:
    """Return the bytes that the tokenizer is saved as."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        return path.read_bytes()
