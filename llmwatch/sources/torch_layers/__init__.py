"""Time the layers of a PyTorch model that runs in this process."""
