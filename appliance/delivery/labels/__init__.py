"""Marks that say a film is generated.

May import: models.
    aigc      The AIGC label that a generated film carries in its metadata (GB 45438-2025 Annex E), and a reader that
              proves it
    mp4_boxes The box structure of MP4 and MOV (ISO/IEC 14496-12), read by hand: a witness without the muxer's faults
"""
