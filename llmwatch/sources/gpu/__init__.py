"""GPUs: what they do, hold, draw and suffer, and what of that is this process's.

`source` installs, `probe` is what a vendor's library must look like from here; `nvidia` and `amd`
are such, `every` is all of them together. `allocator` is PyTorch's.
"""
