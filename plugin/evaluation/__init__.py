"""How well a network predicts what it has not seen: per track over bins, and per gene over exons."""
