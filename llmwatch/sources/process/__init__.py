"""This process and its host: what they use, and what holds the process up."""
