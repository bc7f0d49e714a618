"""A bundle in ONNX Runtime: numpy and tokenizers beside it, no PyTorch (stage benchmark).

May import: the ground, results, data, decoding.
Start reading: bundle.py, then session.py, then portable_decoder.py and fast_decoder.py.
"""
