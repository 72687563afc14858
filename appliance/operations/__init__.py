"""Keeping an installation healthy.

doctor What `rushes doctor` examines: each check finds a fact, says whether it is well, and what to do if it is not
"""
