"""What a person talks to: one file per bot, conversation, commands and wording; no I/O of its own."""
