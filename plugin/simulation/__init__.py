"""A genome in which the truth is known: sequences from which expression follows by a written rule, with coverage, variants and truth."""
