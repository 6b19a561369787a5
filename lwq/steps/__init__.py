"""Steps: each module does one thing, with typed inputs and a typed result, whose key says all that can change it.

Imports ``layers`` and below; steps do not know each other. Start with ``step`` (what a step is, what it works with),
then ``quantize``, a short one.
"""
