"""Film and picture formats.

May import: models, appliance, appliance.delivery.labels.
    mp4    Writes an H.264 MP4 frame by frame
    stills The thumbnail and the filmstrip of a take
    verify Facts of a film, from decoding every frame
    yuv    RGB to the 8-bit YUV of a film, exactly
"""
