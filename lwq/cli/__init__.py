"""The ``lwq`` command: options, output and exit codes; the only code that prints or exits.

Imports everything below. Start with ``main`` (the commands and the module of each), then ``run``.
"""
