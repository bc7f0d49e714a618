"""A bundle in ONNX Runtime: opened, checked, decoded, timed.

May import: the ground, results, data, decoding; numpy, tokenizers and onnxruntime, no torch. Start reading: bundle.py.
"""
