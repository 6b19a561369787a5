"""Which layers may go: what each is, what its removal costs, how the rest is healed and written.

Imports ``bits`` and below. Start with ``pruning`` (what removing layers changes in a file), then ``cuts`` and
``mending``.
"""
