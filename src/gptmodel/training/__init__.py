"""One training, from the encoded text to the best weights, resumable at every step (stage train).

May import: the ground, results, data, decoding, model.
Start reading: session.py, then trainer.py, then step.py.
"""
