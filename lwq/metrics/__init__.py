"""What a measurement is, and what may be concluded from several.

Imports nothing of lwq. Start with ``values`` (a value, its standard error, its unit), then ``paired`` and ``ties``,
which decide what is more than chance.
"""
