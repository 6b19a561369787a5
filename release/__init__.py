"""What a release is made of, and the proof that it is that: `make release`. Nothing is uploaded.

Start with ``__main__``. Only the checkout has this folder; it imports nothing of ``lwq``.
"""
