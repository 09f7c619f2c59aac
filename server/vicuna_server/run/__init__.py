"""What a command that takes long carries: how it is asked to end, how fast it may go, whom it tells.

cancellation  ends it at its next step
throttle      holds it to a rate
meter         counts its bytes; `reporter` is told of them, and of warnings
control       all of them, as a command makes them
"""
