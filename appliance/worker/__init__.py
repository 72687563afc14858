"""The child process that holds the GPU: the only place that imports torch.

__main__ The worker: the child process that owns the GPU, or all cores
"""
