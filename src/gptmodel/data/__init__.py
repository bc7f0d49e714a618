"""The text and its token ids on disk: the splits, the three tokenizers, the encoded corpus (stage encode).

May import: the ground, results.
Start reading: tokenizer.py, then fitting.py, then dataset.py.
"""
