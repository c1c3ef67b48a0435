"""Windows of DNA in, coverage out: the readers and Kipoi dataloaders (never imports TensorFlow)."""
