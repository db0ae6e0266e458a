"""Windlass inside other frameworks: programs to copy from. None of them is needed to use Windlass.

Every recipe asks a backend for users and carts, at `BACKEND` (default http://127.0.0.1:9001).
"""
