"""From a trained network to ONNX graphs, a transformers folder and a model card, proven equal (stage export).

May import: the ground, results, data, decoding, model, runtime.
Start reading: bundle_writer.py, then parity.py, then portable_graph.py.
"""
