"""The command line: one file per command, attached in `app`.

It may import every room, but a command does so inside its function only. Start reading at `app`, then `generate`.
"""
