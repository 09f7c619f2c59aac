"""What is wrong with the sources, found before a byte is written."""
