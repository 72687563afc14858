"""What a finished take really shows, axis by axis.

May import: models.stage, appliance.direction.
    alignment    A camera's pose by all that a key frame shows of the standing world, not its corners alone: direct
                 alignment
    camera       What the camera of a film did, measured on its pictures: turn, travel and focal length since the first
                 frame
    camera_path  A camera's way, fitted to whole pictures: of all frames that one key frame shows, every pose at once
    frames       What is kept of a take while it is developed, so that it can be measured when it is done: small 8-bit
                 pictures
    ground_truth What the stage knows of a blocking's frames, rendered when first asked for and once: lent to every
                 estimator
    light        The light on a person, measured on the pictures: where the key stands, how strong against the fill,
                 what colour
    optical_flow Where points of a picture went in the next one: corners, and pyramidal Lucas-Kanade tracks that agree
                 both ways
    result       What was measured on a take, axis by axis, as values and words
    subject      Where a person is in a film, how large, and who: found by looking for them, not by trusting the
                 blocking
    take         Asked and measured: what a take's pictures say of the direction it was made from, axis by axis
    track        A camera's way through a film: where it stood, how it was turned, its focal length, frame by frame
"""
