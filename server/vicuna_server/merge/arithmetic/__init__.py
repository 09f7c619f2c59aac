"""What becomes of a tensor: which sources it is made of, and the sum, copy or checksum of each chunk."""
