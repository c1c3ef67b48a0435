"""Our side of Kipoi's tools: what they cannot do or know by themselves, and which of them work here."""
