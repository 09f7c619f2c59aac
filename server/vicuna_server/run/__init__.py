"""What a command that takes long carries: how it is asked to end, how fast it may go, and who hears of it.

cancellation  ends it at its next step
throttle      holds it to a rate
meter         counts its bytes; `reporter` prints them, and warnings
control       all of them, as a command makes them
"""
