"""Kernels: convolution and batch norm with their higher derivatives written out, over tasks."""
