"""From logits to ids to text, for any decoder: choosing a token, the stepwise engine, samples. numpy only.

May import: the ground, results, data.
Start reading: engine.py, then sampling.py.
"""
