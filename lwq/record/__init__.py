"""What a run found out, as values: the plan writes them, the report draws them, neither knows the other.

Imports ``metrics`` and ``gguf``. Start with ``record``.
"""
