"""Marks that say a film is generated.

May import: models.
    aigc      The AIGC label in a film's metadata (GB 45438-2025 Annex E), written and read back
    mp4_boxes The box structure of MP4 and MOV (ISO/IEC 14496-12), parsed without the muxer
"""
