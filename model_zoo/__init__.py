"""Packaged Kipoi entries: data files, found with importlib.resources."""
