"""Task sets: items read from their published files, checked, drawn, and written as llama-perplexity reads them.

Imports ``store`` and below. Start with ``items``, then ``formats``.
"""
