"""The bytes' way: read ahead, combined, hashed, written, made durable, each in a thread of its own."""
