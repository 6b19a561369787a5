"""GGUF files: their header, tensors, sizes and importance matrices, read, predicted and written.

Imports ``metrics`` and below; starts no tool. Start with ``types`` (the table of ggml types), then ``header``.
"""
