"""What each token of a text costs a model, for any `Decoder`: the law of `model.loss`, in numpy.

A text is cut into windows that follow each other, each predicted from its own past only; the first token of the text,
which nothing precedes, costs as much as a uniform choice.

Shape suffixes: B windows, T places, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np

from gptmodel.arrays import Floats, Ids, Logits
from gptmodel.data import windows
from gptmodel.data.windows import first_token_nats
from gptmodel.decoding.engine import Decoder

LOGITS_PER_BATCH = 1 << 22  # 16 MiB of fp32


def window_nats(decoder: Decoder, ids: Ids, window: int) -> Iterator[Logits]:
    """Yield the nats of every token of `ids` but the first, in windows of `window` tokens: (B, T), batch by batch."""
    for batch in windows.batches(windows.plan(len(ids), window), LOGITS_PER_BATCH // decoder.vocab_size):
        ids_BS = windows.read(ids, batch).astype(np.int64)
        logits_BTV = np.stack(decoder.logits(ids_BS[:, :-1].tolist()))
        top_BT1 = logits_BTV.max(axis=-1, keepdims=True)
        log_mass_BT = np.log(np.exp(logits_BTV - top_BT1).sum(axis=-1)) + top_BT1[..., 0]
        yield log_mass_BT - np.take_along_axis(logits_BTV, ids_BS[:, 1:, None], axis=-1)[..., 0]


def token_nats(decoder: Decoder, ids: Ids, window: int) -> Floats:
    """Return the nats of each token of `ids` (at least one), shape (tokens,): see `window_nats`."""
    first = np.array([first_token_nats(decoder.vocab_size)])
    return np.concatenate([first, *(nats_BT.ravel() for nats_BT in window_nats(decoder, ids, window))])
