"""The sequence picture: time runs down, lanes are columns, and a message is an arrow between them."""
