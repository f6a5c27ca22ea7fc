"""What happens inside Hugging Face transformers: generation, pipelines, streamers, batching."""
