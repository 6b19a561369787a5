"""Draws records: the model card, its page and its figures.

Imports ``record`` and below, so it can neither run a tool nor ask the plan. Start with ``write``, then ``card``.
"""
