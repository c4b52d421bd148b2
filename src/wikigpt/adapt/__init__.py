"""Adapting a model: parts of it, low-rank changes, prompts learned as numbers.

Importing this package is cheap; torch is loaded with its modules.
"""
