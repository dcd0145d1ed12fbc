"""Dead letters: rows that could not be processed, kept with their bytes and their reason.

They are records of a topic of their own, ``{topology}.dead-letters``: the value is the original
bytes, everything else is in the headers. A redrive appends them to ``{topology}.redrive``.
"""
