"""The pinned llama.cpp and its programs: source, build, checks, one typed function for each tool, and what they print.

Imports ``record`` and below. The only package that starts a process. Start with ``tools``, then ``toolchain``.
"""
