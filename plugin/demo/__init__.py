"""The demonstration: the packaged, trained models through the commands a user has, with tables and pictures of what they tell."""
