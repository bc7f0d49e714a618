"""A network as files that run elsewhere: ONNX graphs in a bundle, a folder for transformers, and their model cards.

May import: model, runtime, decoding, data, results and the ground; torch, onnx and onnxruntime. Start reading:
bundle_writer.py.
"""
