"""lwq: layer-wise quantization for llama.cpp, by measurement."""

__version__ = "0.1.0"
