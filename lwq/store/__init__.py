"""What lies on this machine's disk: files written in one move, hashes, locks and room; finished steps; finished pieces.

Imports nothing but ``errors``. Start with ``files`` (atomic writes, locks, errors in words), then ``cache``.
"""
