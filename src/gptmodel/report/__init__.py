"""What a person sees of a whole run: tables, figures, a verdict, and one page that explains itself. Stage report.

May import: results, evaluation.comparison, the ground; matplotlib, pandas and jinja2. It computes no score.
Start reading: results.py (what is read), then writer.py (what is written).
"""
