"""Which type each tensor gets: damage measured and predicted, the best choice within a budget, races of whole mixes.

Imports ``engine`` and below. Start with ``damage`` (what is predicted from which measurement), then ``knapsack`` and
``race``.
"""
