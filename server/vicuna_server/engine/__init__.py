"""Text generation behind one Protocol."""
