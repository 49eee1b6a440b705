"""Serves a language model to several clients by the protocol of OpenAI.

Needs what running an artifact needs, and Starlette and Uvicorn (``pip install 'ladder[serve]'``).
"""
