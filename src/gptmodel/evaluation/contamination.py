"""How a figure can be too good to be true: a network that sees the future, test text that stands in the training text.

The first is an error; the second is a figure, because a book may repeat itself. Near copies are not looked for. That
the tokenizer knows the training text alone is a law of the encode stage (`data.fitting.check_fit`).

Sources: google-deepmind/nanodo `model_test.py` (a changed token changes no earlier logit); Lee et al. 2022
(arXiv:2107.06499) for text that stands in both splits.
"""

import numpy as np
import torch

from gptmodel.arrays import Ids
from gptmodel.errors import UserError
from gptmodel.evaluation.internals import evaluating
from gptmodel.model.networks import LanguageModel

POSITIONS = 8  # of a window from which on the tokens are changed
# Nats. What is masked is multiplied by an exact 0, so a CPU gives no difference at all; a device may sum in another
# order. A leak below the tolerance changes a log-probability by at most twice as much.
TOLERANCE = 1e-4
LONG_LINE = 40  # characters: shorter lines repeat by chance ("— Oui, monsieur !")


@torch.inference_mode()
def check_causal(network: LanguageModel, ids: Ids, device: torch.device) -> None:
    """Change the tokens from some position on, for several positions, and see that no logit before it changes.

    `ids` (1-D) is any text; its first window is looked at, and less than two tokens tell nothing. The network's mode
    is restored.

    Raises:
        UserError: a logit changes by more than `TOLERANCE` nats: the network looks at what it must predict.
    """
    tokens_T = torch.from_numpy(ids[: network.context].astype(np.int64)).to(device)
    length, vocab_size = len(tokens_T), network.vocab_size
    if length < 2 or vocab_size < 2:
        return
    with evaluating(network):
        logits_TV = network(tokens_T[None])[0][0]
        others_T = (tokens_T + 1 + torch.arange(length, device=device) % (vocab_size - 1)) % vocab_size
        for position in sorted({int(position) for position in np.linspace(1, length - 1, POSITIONS)}):
            changed_T = torch.cat((tokens_T[:position], others_T[position:]))
            moved = float((network(changed_T[None])[0][0, :position] - logits_TV[:position]).abs().max())
            if not moved <= TOLERANCE:  # NaN is no proof either
                raise UserError(
                    f"the network sees the future: with other tokens from position {position} of a window on, logits "
                    f"before it change by {moved:.2g}, so its figures mean nothing; make it causal and train it again"
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
