"""Which bases explain a prediction: gradients, mutagenesis, motifs, and what drives the genes that change."""
