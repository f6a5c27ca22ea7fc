"""Embeddings, sparse vectors and scores that models of sentence-transformers make."""
