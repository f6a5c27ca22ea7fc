"""The store in a terminal. What is shown is made of records by pure functions; widgets draw it."""
