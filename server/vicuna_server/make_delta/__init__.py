"""`vicuna-server make-delta`: a fine-tuned model as a delta of its base, the way back of a merge.

cli.py         flags, and how the outcome is reported
job.py         from a request to a published folder
planning.py    what will be written, and what is wrong with the two models
round_trip.py  counting what a merge will not bring back bit for bit
"""
