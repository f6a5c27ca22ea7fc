"""How each question of a view is asked of the index: one module a question."""
