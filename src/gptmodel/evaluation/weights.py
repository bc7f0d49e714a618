"""What a network has learned, as pictures of its tables: embeddings and positions on a plane, a bigram's table.

Source: Pearson 1901 (principal components) for the plane.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gptmodel.arrays import Floats, Ids, Ints
from gptmodel.data.tokenizer import Tokenizer
from gptmodel.evaluation.breakdown import character_class
from gptmodel.evaluation.internals import readable
from gptmodel.model.bigram import Bigram
from gptmodel.model.gpt import GPT
from gptmodel.model.networks import LanguageModel
from gptmodel.results.evaluation import BigramTable, Embeddings, Positions

PROBABILITY_DIGITS = 4  # decimals kept
COORDINATE_DIGITS = 3


def embeddings(network: LanguageModel, tokenizer: Tokenizer, tokens: Ints) -> Embeddings:
    """Return `tokens` on the plane of their embeddings; a bigram's embedding of a token is its row of the table."""
    table_VC = network.table.weight if isinstance(network, Bigram) else network.token_embedding.weight
    points, shares = plane(table_VC.detach().float().cpu().numpy()[tokens])
    return Embeddings(
        points=[
            (readable(tokenizer, token), x, y, token_class(tokenizer, token))
            for token, (x, y) in zip(tokens.tolist(), points, strict=True)
        ],
        explained=shares,
    )


def positions(network: LanguageModel) -> Positions | None:
    """Return the learned positions on their plane, in order; None for a network without."""
    if not isinstance(network, GPT) or network.position_embedding is None:
        return None
    points, shares = plane(network.position_embedding.weight.detach().float().cpu().numpy())
    return Positions(points=points, explained=shares)


def plane(x_NC: NDArray[np.floating[Any]]) -> tuple[list[list[float]], list[float]]:
    """Return points on the plane of their first two principal components, and the share of the variance along each.

    A component's sign is free: the coordinate that lies farthest out is made positive.

    >>> plane(np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 0.0, 3.0], [1.0, 0.0, -3.0]]))
    ([[0.0, -1.0], [0.0, 1.0], [3.0, 0.0], [-3.0, 0.0]], [0.9, 0.1])
    """
    centred_NC = x_NC.astype(np.float64) - x_NC.mean(axis=0, dtype=np.float64)
    directions, sizes, _ = np.linalg.svd(centred_NC, full_matrices=False)
    points_N2 = directions[:, :2] * sizes[:2]
    farthest = points_N2[np.abs(points_N2).argmax(axis=0), [0, 1]]
    points_N2 *= np.where(farthest < 0, -1, 1)
    shares = sizes[:2] ** 2 / max((sizes**2).sum(), np.finfo(float).tiny)
    return (points_N2.round(COORDINATE_DIGITS) + 0.0).tolist(), shares.round(PROBABILITY_DIGITS).tolist()


def bigram(network: LanguageModel, tokenizer: Tokenizer, train: Ids, tokens: Ints) -> BigramTable | None:
    """Return p(next | previous) of `tokens` as counted in `train` and as a bigram network learned it; None for a GPT.

    Rows are the previous token, columns the next; what other tokens get is missing from a row's sum.
    """
    if not isinstance(network, Bigram):
        return None
    learned = network.table.weight.detach().float().softmax(-1).cpu().numpy()[np.ix_(tokens, tokens)]
    return BigramTable(
        characters=[readable(tokenizer, token) for token in tokens.tolist()],
        counted=counted(train, tokens, network.vocab_size).round(PROBABILITY_DIGITS).tolist(),
        learned=learned.astype(np.float64).round(PROBABILITY_DIGITS).tolist(),
    )


def counted(train: Ids, tokens: Ints, vocab_size: int) -> Floats:
    """Return count(previous next) / count(previous) for all pairs of `tokens`, shape (N, N).

    >>> counted(np.array([0, 1, 0, 1, 2]), np.array([0, 1]), vocab_size=3)
    array([[0. , 1. ], [0.5, 0. ]])
    """
    rank = np.full(vocab_size, -1)
    rank[tokens] = np.arange(len(tokens))
    previous, following = rank[train[:-1]], rank[train[1:]]
    both = (previous >= 0) & (following >= 0)
    pairs = np.bincount(previous[both] * len(tokens) + following[both], minlength=len(tokens) ** 2)
    totals = np.bincount(train[:-1], minlength=vocab_size)[tokens]
    return np.asarray(pairs.reshape(len(tokens), -1) / np.maximum(totals, 1)[:, None])


def commonest(train: Ids, vocab_size: int) -> Ints:
    """Return the tokens that occur in `train`, the most frequent first."""
    counts = np.bincount(train, minlength=vocab_size)
    return np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]


def token_class(tokenizer: Tokenizer, token: int) -> str:
    """Return the class of a token's first visible character, or of its white space."""
    text = tokenizer.decode([token])
    return character_class((text.strip() or text)[0])
