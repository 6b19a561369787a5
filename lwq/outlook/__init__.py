"""What a plan will take before it runs: memory, disk and time of each step, and what of it cannot be had here.

Imports ``plan`` and below. Start with ``expected``.
"""
