"""Passes: frozen dataclasses that rewrite the IR or add facts to it."""
