"""What the command line and the desk both do: quote, queue, retake, cancel.

quote    From a shot file to a quote, and from a take to its successor: what the command line and the desk both do
         first
requests What a key does to the library
"""
