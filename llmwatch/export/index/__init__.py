"""The index of the embedded store: one sqlite file that says what is where, and no content.

It can always be made again from the files of the store, so whoever finds it missing, locked or
broken goes on without it.
"""
