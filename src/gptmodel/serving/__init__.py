"""A bundle over HTTP: an API compatible with OpenAI's, and a playground.

It may import the rooms up to `runtime`, FastAPI, uvicorn and prometheus_client. Start reading at `app`; `scheduler` is
the heart.
"""
