"""From logits to ids to text, for anything that maps token ids to logits.

May import: the ground, results, data; numpy only. Start reading: engine.py (ids), then generation.py (text).
"""
