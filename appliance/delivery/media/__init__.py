"""Film and picture formats.

May import: models, appliance, appliance.delivery.labels.
    mp4    A film as it is rendered: frames go in one after another, an H.264 MP4 that any player takes comes out
    stills Stills: the thumbnail beside a take, the filmstrip that shows it at a glance, pictures that a film begins
           with
    verify What a film really is: facts by decoding every frame, not by believing its header
    yuv    RGB to the 8-bit YUV of a film, exactly
"""
