"""`make release`: wheels, plugin, images, chart, lists of parts, checksums and signature. Standard library alone."""
