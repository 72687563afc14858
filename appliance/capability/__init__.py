"""How a model obeys a direction, and the prompt it gets.

May import: models, models.controls, appliance, appliance.direction.
    phrasing           Phrases for numbers in a prompt
    prompt             The prompt of a direction
    reference_pictures Reference pictures, checked and read
    report             How a model obeys each field of a direction
"""
