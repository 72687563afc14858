"""What lies between an autoencoder's convolutions.

May import: nothing of ours.
    norm_silu K8: what an autoencoder does between its convolutions, pixel by pixel, each pass reading and writing
              memory once
    reference The autoencoder's work between its convolutions, in plain torch: what it means, and how the CPU computes
              it
"""
