"""A recipe from its text to its record: what is given, which steps with which keys, carried out, forecast, explained.

Imports ``steps`` and below. Start with ``planner``, then ``execution`` and ``assemble``.
"""
