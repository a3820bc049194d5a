# What can be said of CUDA code without executing it, and where its compiler comes from.
kiln_python_test(cuda/get_toolkit.py)
