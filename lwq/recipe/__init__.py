"""What a user asks for: the schema of a recipe, its mistakes, its budgets and its constraints.

Imports ``record`` and below. Start with ``schema``, then ``target``.
"""
