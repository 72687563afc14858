"""What a model obeys of a direction, and what it is told in words.

May import: models, models.controls, appliance, appliance.direction.
    phrasing           Film words for numbers: what a shot size, an azimuth or a colour is called when it has to be said
    prompt             A direction as words, for models that read words: its own first, then its numbers in the language
                       of the set
    reference_pictures The pictures and footage that a shot refers to: read, checked and measured before the shot is
                       queued
    report             What a model makes of each field: obeyed exactly, approximately, as text only, or ignored
"""
