"""Measure a finished take against its direction, axis by axis.

May import: models.stage, appliance.direction.
    alignment    Direct alignment of pictures to a key frame
    camera       The camera of a film: rotation, translation, focal length
    camera_path  A camera track refined on whole pictures
    frames       Down-scaled frames buffered while a take is decoded
    ground_truth The stage's own frames of a blocking, with depth and masks
    light        The key light on a person: direction, ratio, colour temperature
    optical_flow Corners and Lucas-Kanade tracks
    result       The measured axes of a take, as values and words
    subject      Find a person in a film: position, size, identity
    take         Measure every axis of a take
    track        A camera track, frame by frame
"""
