"""How the speech model that ships came about: its little world of speech, training, export, measuring.

Nothing here runs in a Hearth that is in use; the model folder is `models.bundled.SPEECH_PATH`. Training needs
torch, everything else only the `[voice]` extra and espeak-ng (`espeakng-loader`).
"""
