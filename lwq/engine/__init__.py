"""llama.cpp in this process: libraries, tensors, the graph of a window and its parts, a loaded model and its scores.

Imports ``llama`` and below. The only package that imports ``llama_cpp``. Start with ``engine``; what it stands on is,
from above: ``swapping``, ``replay``, ``session``, ``graph``, ``ggml``, ``bindings``.
"""
