"""Work on more than one machine or GPU, by Dask: what is computed stays one run, written by one process."""
