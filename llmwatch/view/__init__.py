"""Look at the embedded store: what the terminal, the page and the report show.

Everything is read from the files of the store through one index; nothing here watches or sends.
"""
